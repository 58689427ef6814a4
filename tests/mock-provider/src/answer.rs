//! What the model says, as a JSON answer or as the steps of a stream.

use bytes::Bytes;
use serde_json::{Value, json};
use std::{collections::VecDeque, time::Duration};

use crate::{
    body::{Step, stamp},
    obedient::{Obeyed, obey, text_of},
    script::{Call, Fault, Reply, Script, Stamps},
};

/// What was said before a break must be on the wire first: the server writes when it has to wait.
const FLUSH: Duration = Duration::from_millis(20);

pub(crate) fn say(reply: &Reply, body: &[u8]) -> (Option<String>, Vec<Call>) {
    let text = |text: &str| (Some(text.to_owned()), Vec::new());
    let is_answered = || last_message(body, None).is_some_and(|message| message["role"] == "tool");
    match reply {
        Reply::Text(fixed) => text(fixed),
        Reply::ToolsThenText { calls, .. } if !is_answered() => (None, calls.clone()),
        Reply::ToolsThenText { text: then, .. } => text(then),
        Reply::ToolsIfOffered {
            calls,
            text: otherwise,
        } => {
            let offered = offered(body);
            let calls: Vec<Call> = calls
                .iter()
                .filter(|call| offered.contains(&call.name))
                .cloned()
                .collect();
            if calls.is_empty() || is_answered() {
                text(otherwise)
            } else {
                (None, calls)
            }
        }
        Reply::Echo => text(
            &last_message(body, Some("user"))
                .map(|message| text_of(&message["content"]))
                .unwrap_or_default(),
        ),
        Reply::ToolsThenTell(rounds) => next_round(rounds, None, body),
        Reply::ToolsWithText { text, rounds } => next_round(rounds, Some(text), body),
        Reply::ByModel(replies) => {
            let asked: Value = serde_json::from_slice(body).unwrap_or_default();
            let model = asked["model"].as_str().unwrap_or_default();
            replies
                .get(model)
                .map_or_else(|| text(""), |reply| say(reply, body))
        }
        Reply::Obedient => match obey(body) {
            Obeyed::Text(said) => text(&said),
            Obeyed::Calls(calls) => (None, calls),
        },
    }
}

/// The next of rounds of calls, with what is said beside them; after the last one what the tools answered.
fn next_round(
    rounds: &[Vec<Call>],
    beside: Option<&String>,
    body: &[u8],
) -> (Option<String>, Vec<Call>) {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let messages = body["messages"].as_array().map_or(&[][..], Vec::as_slice);
    let asked = messages
        .iter()
        .filter(|message| message["tool_calls"].is_array())
        .count();
    let answers = messages.iter().filter(|message| message["role"] == "tool");
    match rounds.get(asked) {
        Some(calls) => (beside.cloned(), calls.clone()),
        None => {
            let told = answers.map(|message| text_of(&message["content"]));
            (Some(told.collect::<Vec<_>>().join("\n")), Vec::new())
        }
    }
}

/// Names of the tools a request offers.
fn offered(body: &[u8]) -> Vec<String> {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let tools = body["tools"].as_array().map_or(&[][..], Vec::as_slice);
    tools
        .iter()
        .filter_map(|tool| tool["function"]["name"].as_str())
        .map(str::to_owned)
        .collect()
}

fn last_message(body: &[u8], role: Option<&str>) -> Option<Value> {
    let body: Value = serde_json::from_slice(body).ok()?;
    body["messages"]
        .as_array()?
        .iter()
        .rfind(|message| role.is_none_or(|role| message["role"] == role))
        .cloned()
}

fn model(script: &Script) -> &str {
    script.models.first().map_or("mock-1", String::as_str)
}

pub(crate) fn completion(
    script: &Script,
    text: Option<&str>,
    calls: &[Call],
    first_id: usize,
) -> Bytes {
    let mut message = json!({"role": "assistant", "content": text, "refusal": null});
    if !calls.is_empty() {
        message["tool_calls"] = calls
            .iter()
            .enumerate()
            .map(|(n, call)| json!({"id": format!("call_{}", first_id + n), "type": "function", "function": call}))
            .collect();
    }
    let finish = if calls.is_empty() {
        "stop"
    } else {
        "tool_calls"
    };
    Bytes::from(
        json!({
            "id": "chatcmpl-mock", "object": "chat.completion", "created": 1_700_000_000, "model": model(script),
            "choices": [{"index": 0, "message": message, "logprobs": null, "finish_reason": finish}],
            "usage": usage(script), "system_fingerprint": "fp_mock", "x_unknown": {"kept": true},
        })
        .to_string(),
    )
}

fn usage(script: &Script) -> Value {
    let usage = script.usage;
    json!({
        "prompt_tokens": usage.input, "completion_tokens": usage.output, "total_tokens": usage.input + usage.output,
        "prompt_tokens_details": {"cached_tokens": usage.cached}, "completion_tokens_details": {"reasoning_tokens": usage.reasoning},
    })
}

fn chunk(script: &Script, choices: Value, usage: Value) -> Step {
    let chunk = json!({
        "id": "chatcmpl-mock", "object": "chat.completion.chunk", "created": 1_700_000_000, "model": model(script),
        "choices": choices, "usage": usage, "x_unknown": 1.50,
    });
    Step::Data(Bytes::from(format!("data: {chunk}\n\n")))
}

fn delta(script: &Script, delta: Value, finish: Option<&str>) -> Step {
    chunk(
        script,
        json!([{"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish}]),
        Value::Null,
    )
}

/// The events of a whole, healthy stream.
pub(crate) fn events(
    script: &Script,
    text: Option<&str>,
    calls: &[Call],
    wants_usage: bool,
    first_id: usize,
) -> Vec<Step> {
    let mut events = vec![delta(
        script,
        json!({"role": "assistant", "content": if calls.is_empty() { json!("") } else { Value::Null }}),
        None,
    )];
    if let Some(stamps) = script.stamped {
        let space = if stamps == Stamps::Words { " " } else { "" };
        let arrived = format!("{}{space}", stamp('A'));
        events.push(delta(script, json!({"content": arrived}), None));
    }
    let chars: Vec<char> = text.unwrap_or("").chars().collect();
    for piece in chars.chunks(script.chars_per_event.max(1)) {
        events.push(if let Some(stamps) = script.stamped {
            Step::Stamp(stamps)
        } else {
            delta(
                script,
                json!({"content": piece.iter().collect::<String>()}),
                None,
            )
        });
    }
    for (n, call) in calls.iter().enumerate() {
        let head = json!({"index": n, "id": format!("call_{}", first_id + n), "type": "function", "function": {"name": call.name, "arguments": ""}});
        events.push(delta(script, json!({"tool_calls": [head]}), None));
    }
    // Fragments of parallel calls alternate, as they may.
    let mut rest: Vec<Vec<char>> = calls
        .iter()
        .map(|call| call.arguments.chars().collect())
        .collect();
    while rest.iter().any(|arguments| !arguments.is_empty()) {
        for (n, arguments) in rest
            .iter_mut()
            .enumerate()
            .filter(|(_, arguments)| !arguments.is_empty())
        {
            let piece: String = arguments
                .drain(..arguments.len().min(script.chars_per_event.max(1)))
                .collect();
            events.push(delta(
                script,
                json!({"tool_calls": [{"index": n, "function": {"arguments": piece}}]}),
                None,
            ));
        }
    }
    events.push(delta(
        script,
        json!({}),
        Some(if calls.is_empty() {
            "stop"
        } else {
            "tool_calls"
        }),
    ));
    if wants_usage {
        events.push(chunk(script, json!([]), usage(script)));
    }
    events.push(Step::Data(Bytes::from_static(b"data: [DONE]\n\n")));
    events
}

/// Paces, cuts and breaks a healthy stream as the script says.
pub(crate) fn spoil(
    script: &Script,
    fault: Option<&Fault>,
    mut events: Vec<Step>,
) -> VecDeque<Step> {
    let data = |text: &'static str| Step::Data(Bytes::from_static(text.as_bytes()));
    let mut cut = |after: usize, then: Vec<Step>| {
        events.truncate(after);
        events.extend(then);
    };
    match fault {
        Some(Fault::HangBeforeFirstEvent) => cut(0, vec![Step::Hang]),
        Some(Fault::HangAfter(n)) => cut(*n, vec![Step::Hang]),
        Some(Fault::BreakAfter(n)) => cut(*n, vec![Step::Wait(FLUSH), Step::Break]),
        Some(Fault::EndAfter(n)) => cut(*n, vec![]),
        Some(Fault::DoneAfter(n)) => cut(*n, vec![data("data: [DONE]\n\n")]),
        Some(Fault::MalformedAfter(n)) => {
            cut(*n, vec![data("data: {\"choices\": [{]\n\n"), Step::Hang])
        }
        Some(Fault::ErrorAfter(n)) => {
            cut(
                *n,
                vec![
                    data(
                        "data: {\"error\":{\"message\":\"worker 10.0.0.7:8000 died\",\"type\":\"server_error\"}}\n\n",
                    ),
                    Step::Hang,
                ],
            );
        }
        Some(Fault::HugeLine(size)) => cut(
            1,
            vec![
                Step::Data(Bytes::from(format!("data: {}", "x".repeat(*size)))),
                Step::Hang,
            ],
        ),
        _ => {}
    }
    let pace = Duration::from_millis(script.pace_ms);
    let (size, wait) = match fault {
        Some(Fault::Drip(ms)) => (1, Duration::from_millis(*ms)),
        _ => (script.bytes_per_chunk, Duration::ZERO),
    };
    let mut steps = VecDeque::new();
    for (n, event) in events.into_iter().enumerate() {
        if n > 0 && !pace.is_zero() {
            steps.push_back(Step::Wait(pace));
        }
        match event {
            Step::Data(bytes) if size > 0 => {
                for start in (0..bytes.len()).step_by(size) {
                    if !wait.is_zero() {
                        steps.push_back(Step::Wait(wait));
                    }
                    steps.push_back(Step::Data(
                        bytes.slice(start..bytes.len().min(start + size)),
                    ));
                }
            }
            other => steps.push_back(other),
        }
    }
    steps
}
