use super::*;
use crate::contract::{
    Definition, Failure, FinishReason, Message, Passage as Found, Reply as Replied, Retrieval,
    ToolCall, ToolResult, ToolSpec, Usage,
};

fn tool(name: &str) -> ToolSpec {
    ToolSpec {
        name: name.into(),
        description: String::new(),
        parameters: "{}".into(),
        reversible: true,
        idempotent: true,
    }
}

fn turn(events: Vec<Event>) -> Turn {
    Turn {
        definition: Definition {
            name: "assistant".into(),
            instructions: "Be brief.".into(),
            tools: vec![tool("lookup")],
            client_tools: vec![tool("theirs")],
            collections: vec!["docs".into()],
            max_passages: 5,
            steps_left: 10,
        },
        step: 0,
        events,
        state: Vec::new(),
    }
}

fn user(id: u64) -> Event {
    Event::Message(Message {
        id,
        role: Role::User,
        size: 4,
        text: None,
    })
}

fn reply(id: u64, text: &str, calls: &[(&str, &str)]) -> Event {
    Event::Replied(Replied {
        id,
        finish: if calls.is_empty() {
            FinishReason::Stop
        } else {
            FinishReason::ToolCalls
        },
        tool_calls: calls
            .iter()
            .map(|(name, arguments)| ToolCall {
                id: format!("c{id}"),
                name: (*name).into(),
                arguments: (*arguments).into(),
            })
            .collect(),
        usage: Usage {
            input_tokens: 0,
            cached_tokens: 0,
            output_tokens: 0,
            reasoning_tokens: 0,
        },
        size: 1,
        text: Some(text.into()),
    })
}

fn found(id: u64) -> Event {
    Event::Retrieved(Retrieval {
        id,
        collection: "docs".into(),
        passages: vec![Found {
            number: 1,
            document: "a.md".into(),
            title: "A".into(),
            anchor: "x".into(),
            score: 1.0,
            size: 9,
        }],
    })
}

/// Runs the steps one after another, each with the state of the one before.
fn run(steps: Vec<Vec<Event>>) -> Vec<Move> {
    let mut state = Vec::new();
    steps
        .into_iter()
        .map(|events| {
            let turn = Turn {
                state: std::mem::take(&mut state),
                ..turn(events)
            };
            let decision = step(&turn).unwrap();
            assert_eq!(step(&turn).unwrap(), decision, "same turn, same decision");
            state = decision.state;
            decision.move_
        })
        .collect()
}

#[test]
fn retrieves_then_asks_then_cites() {
    let moves = run(vec![
        vec![user(1)],
        vec![found(2)],
        vec![reply(3, "Narrowed [1].", &[])],
    ]);
    assert!(
        matches!(&moves[0], Move::Retrieve(r) if r.len() == 1 && matches!(r[0].query, Query::Message(1)))
    );
    let Move::AskModel(ask) = &moves[1] else {
        panic!("{:?}", moves[1])
    };
    assert!(matches!(
        &ask.prompt[..],
        [
            PromptPart::Instruction(_),
            PromptPart::Passages(2),
            PromptPart::Message(1)
        ]
    ));
    assert_eq!(ask.tools, ["theirs", "lookup"]);
    let Move::Finish(end) = &moves[2] else {
        panic!("{:?}", moves[2])
    };
    assert_eq!(end.citations, [1]);
    assert!(end.addendum.contains("[1] A (a.md#x)"), "{}", end.addendum);
}

#[test]
fn host_tools_run_before_the_callers() {
    let moves = run(vec![
        vec![user(1)],
        vec![found(2)],
        vec![reply(3, "", &[("theirs", "{}"), ("lookup", "{}")])],
        vec![Event::ToolReturned(ToolResult {
            id: 4,
            call_id: "c3".into(),
            name: "lookup".into(),
            ok: true,
            size: 2,
        })],
        vec![reply(5, "", &[("theirs", "{}")])],
    ]);
    assert!(
        matches!(&moves[2], Move::CallTools(calls) if calls.len() == 1 && calls[0].name == "lookup")
    );
    assert!(matches!(moves[3], Move::AskModel(_)));
    assert!(matches!(&moves[4], Move::HandBack(calls) if calls[0].name == "theirs"));
}

#[test]
fn stops_going_in_circles() {
    let mut steps = vec![vec![user(1)], vec![found(2)]];
    for id in 3..6 {
        steps.push(vec![reply(id, "", &[("lookup", "{\"q\":1}")])]);
    }
    let moves = run(steps);
    assert!(matches!(moves[2], Move::CallTools(_)) && matches!(moves[3], Move::CallTools(_)));
    assert!(
        matches!(&moves[4], Move::AskModel(ask) if ask.tools.is_empty()),
        "{:?}",
        moves[4]
    );
}

#[test]
fn finishes_on_its_last_step_whatever_is_open() {
    let mut last = turn(vec![user(1)]);
    last.definition.steps_left = 1;
    assert!(matches!(step(&last).unwrap().move_, Move::Finish(_)));
    let mut with_calls = turn(vec![user(1), reply(2, "half", &[("lookup", "{}")])]);
    with_calls.definition.steps_left = 1;
    assert!(matches!(
        step(&with_calls).unwrap().move_,
        Move::Finish(Finish {
            answer: Answer::Message(2),
            ..
        })
    ));
}

#[test]
fn goes_on_without_what_failed() {
    let failure = Event::Failed(Failure {
        move_: "retrieve".into(),
        code: "denied".into(),
        message: "docs is not granted".into(),
    });
    let moves = run(vec![vec![user(1)], vec![failure]]);
    assert!(
        matches!(&moves[1], Move::AskModel(ask) if matches!(ask.prompt.last(), Some(PromptPart::Instruction(note)) if note.contains("not granted")))
    );
}

#[test]
fn refuses_a_state_or_turn_that_cannot_be() {
    assert!(matches!(
        step(&Turn {
            state: b"junk".to_vec(),
            ..turn(vec![user(1)])
        }),
        Err(AgentError::BadState)
    ));
    assert!(matches!(step(&turn(vec![])), Err(AgentError::BadTurn(_))));
}

#[test]
fn an_endless_conversation_ends_in_words_not_in_an_error() {
    let events = (1..20_000).map(user).collect();
    assert!(matches!(
        step(&turn(events)).unwrap().move_,
        Move::Finish(_)
    ));
}
