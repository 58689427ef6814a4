//! Servers that lie: an answer two readers could understand differently reaches nobody, and no answer breaks more than its own call.

mod common;

use ambit_inference::{OpenAi, OpenAiConfig, Provider as _, RawChat, RawReply, Usage};
use bytes::Bytes;
use common::{context, says};
use futures::StreamExt as _;

/// What comes of this answer: every text a guardrail would see with the usage, or the error's code.
async fn forwarded(stream: bool, answer: &str) -> Result<(Vec<String>, Usage), &'static str> {
    let url = match stream {
        false => says("application/json", answer).await,
        true => {
            let events = format!("data: {answer}\n\ndata: [DONE]\n\n");
            says("text/event-stream", &events).await
        }
    };
    let provider = OpenAi::new(OpenAiConfig::new(url.parse().unwrap())).unwrap();
    let request = format!(
        r#"{{"model":"m","messages":[{{"role":"user","content":"hi"}}],"stream":{stream}}}"#
    );
    let request = RawChat::parse(Bytes::from(request)).unwrap();
    let texts = |spans: &[ambit_inference::TextSpan]| {
        spans
            .iter()
            .map(|span| span.text.clone())
            .collect::<Vec<_>>()
    };
    match provider.forward(&context(), "m", request).await {
        Err(error) => Err(error.code()),
        Ok(RawReply::Json(completion)) => Ok((texts(completion.texts()), completion.usage)),
        Ok(RawReply::Stream(mut chunks)) => {
            let mut said = (Vec::new(), Usage::default());
            while let Some(chunk) = chunks.next().await {
                let chunk = chunk.map_err(|error| error.code())?;
                said.0.extend(texts(chunk.texts()));
                said.1 = chunk.usage.unwrap_or(said.1);
            }
            Ok(said)
        }
    }
}

/// The same words as a whole answer and as an event.
fn both(message: &str, rest: &str) -> [(bool, String); 2] {
    [(false, "message"), (true, "delta")].map(|(stream, name)| {
        let answer = format!(
            r#"{{"choices":[{{"index":0,"{name}":{message},"finish_reason":"stop"{rest}}}],"usage":null}}"#
        );
        (stream, answer)
    })
}

#[tokio::test]
async fn no_text_is_smuggled_past_the_guardrail() {
    for message in [
        r#"{"content":"fine","content":"smuggled"}"#,
        r#"{"content":"smuggled","content":null}"#,
        r#"{"content":"fine","cont\u0065nt":"smuggled"}"#,
        r#"{"content":"fine","Content":"smuggled"}"#,
        r#"{"CONTENT":"smuggled"}"#,
        r#"{"content":"fine","refu\u017fal":"smuggled"}"#,
        r#"{"content":{"text":"smuggled"}}"#,
        r#"{"content":[{"type":"text","text":{"value":"smuggled"}}]}"#,
        r#"{"content":[{"type":"text","text":"fine","Text":"smuggled"}]}"#,
        r#"{"content":["smuggled"]}"#,
        r#"["smuggled"]"#,
        r#"{"content":"fine","tool_calls":[{"function":{"arguments":"{}","Arguments":"smuggled"}}]}"#,
        r#"{"content":"fine","Tool_Calls":[{"function":{"arguments":"smuggled"}}]}"#,
    ] {
        for (stream, answer) in both(message, "") {
            let outcome = forwarded(stream, &answer).await;
            assert_eq!(outcome, Err("invalid_response"), "{answer}");
        }
    }
    for rest in [
        r#","logprobs":{"content":[{"token":"smuggled"}]}"#,
        r#","Message":{"content":"smuggled"}"#,
        r#","DELTA":{"content":"smuggled"}"#,
        r#","finish_reason":"length""#,
    ] {
        for (stream, answer) in both(r#"{"content":"fine"}"#, rest) {
            let outcome = forwarded(stream, &answer).await;
            assert_eq!(outcome, Err("invalid_response"), "{answer}");
        }
    }
    let twice =
        r#"{"choices":[{"message":{"content":"a"}}],"choices":[{"message":{"content":"b"}}]}"#;
    assert_eq!(forwarded(false, twice).await, Err("invalid_response"));
    let twice = twice.replace(r#","choices""#, r#","Choices""#);
    assert_eq!(forwarded(false, &twice).await, Err("invalid_response"));
}

#[tokio::test]
async fn what_servers_really_send_is_read() {
    for (message, rest, texts) in [
        (
            r#"{"role":"assistant","content":"fine"}"#,
            r#","logprobs":null"#,
            vec!["fine"],
        ),
        (
            r#"{"content":"fine","refusal":null,"audio":null,"x":{"Content":1}}"#,
            "",
            vec!["fine"],
        ),
        (
            r#"{"content":"","contents":7,"annotations":[]}"#,
            r#","logprobs":{}"#,
            vec![""],
        ),
        (
            r#"{"content":[{"type":"text","text":"fine"}]}"#,
            "",
            vec!["fine"],
        ),
        (
            r#"{"content":null,"tool_calls":[{"function":{"name":"f","arguments":{"a":"judged"}}}]}"#,
            "",
            vec![r#"{"a":"judged"}"#],
        ),
    ] {
        for (stream, answer) in both(message, rest) {
            let texts = texts.iter().map(|text| (*text).to_owned()).collect();
            let expected = Ok((texts, Usage::default()));
            assert_eq!(forwarded(stream, &answer).await, expected, "{answer}");
        }
    }
}

#[tokio::test]
async fn hostile_bodies_are_typed_errors() {
    let deep = format!(
        r#"{{"choices":[{{"message":{{"content":{}}}}}]}}"#,
        "[".repeat(100_000)
    );
    let beyond = r#"{"choices":[{"index":99999999999,"message":{"content":"x"}}]}"#;
    for answer in [
        "",
        "null",
        "[]",
        "{}",
        "\"text\"",
        "{\"choices\":[]}",
        "{\"choices\":{\"0\":{}}}",
        "{\"choices\":[null]}",
        "{\"choices\":[{\"message\":{\"content\":\"\\ud800\"}}]}",
        "{\"choices\":[{\"message\":{\"content\":\"x\"}}],\"usage\":{\"prompt_tokens\":-1}}",
        "{\"choices\":[{\"message\":{\"content\":\"x\"}}],\"usage\":{\"completion_tokens\":1e400}}",
        "{\"error\":{\"message\":\"no\"}}",
        "{\"choices\":[{\"message\":{\"content\":\"x\"}}]} {}",
        beyond,
        &deep,
    ] {
        let outcome = forwarded(false, answer).await;
        let short: String = answer.chars().take(80).collect();
        assert_eq!(outcome, Err("invalid_response"), "{short}");
    }
}

#[test]
fn no_request_says_two_things() {
    let with = |field: &str| {
        let body =
            format!(r#"{{"model":"m","messages":[{{"role":"user","content":"fine"}}]{field}}}"#);
        RawChat::parse(Bytes::from(body))
    };
    assert!(with(r#","metadata":{"Model":"x"},"top_p":1,"top_p":1"#).is_ok());
    for field in [
        // A server that takes the last of these would use a model nobody granted, or hear a prompt nobody judged.
        r#","Model":"forbidden""#,
        r#","mode\u006c":"forbidden""#,
        r#","Messages":[{"role":"user","content":"smuggled"}]"#,
        r#","me\u017f\u017fage\u017f":[{"role":"user","content":"smuggled"}]"#,
        r#","messages":[{"role":"user","content":"smuggled"}]"#,
        r#","LogProbs":true"#,
    ] {
        assert!(with(field).is_err(), "{field}");
    }
    for message in [
        r#"{"role":"user","content":"fine","Content":"smuggled"}"#,
        r#"{"role":"user","content":{"text":"smuggled"}}"#,
        r#"{"role":"user","content":[{"type":"text","TEXT":"smuggled"}]}"#,
    ] {
        let body = format!(r#"{{"model":"m","messages":[{message}]}}"#);
        assert!(RawChat::parse(Bytes::from(body)).is_err(), "{message}");
    }
}
