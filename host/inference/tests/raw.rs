//! Requests and answers that pass through.

mod common;

use ambit_inference::{
    Extractive, FinishReason, OpenAi, OpenAiConfig, Provider as _, Providers, RawChat, RawReply,
    TextKind,
};
use ambit_mock_provider::{Call, Fault, Mock, Script};
use ambit_policy::{Ambit, Permissions};
use bytes::Bytes;
use common::context;
use futures::StreamExt as _;
use std::sync::Arc;

fn chat(body: &str) -> RawChat {
    RawChat::parse(Bytes::copy_from_slice(body.as_bytes())).unwrap()
}

/// What the provider receives for this body.
async fn forwarded(body: &str) -> (String, RawReply) {
    let mock = Mock::start(Script::text("An answer of some length."))
        .await
        .unwrap();
    let provider = OpenAi::new(OpenAiConfig::new(mock.url().parse().unwrap())).unwrap();
    let reply = provider
        .forward(&context(), "real/model", chat(body))
        .await
        .unwrap();
    let sent = mock.stats().bodies.pop().unwrap();
    (String::from_utf8(sent.to_vec()).unwrap(), reply)
}

#[tokio::test]
async fn only_the_model_changes() {
    let body = r#"{ "seed" : 1.50e0,"model":"openai\/x", "unknown": {"b":[1, 2],"a":"\u00e9"},
        "messages":[{"role":"user","content":"hi","x":null}],"stream": false}"#;
    let (sent, reply) = forwarded(body).await;
    assert_eq!(sent, body.replace(r#""openai\/x""#, r#""real/model""#));
    let RawReply::Json(completion) = reply else {
        panic!("a JSON answer")
    };
    assert_eq!(completion.finish, FinishReason::Stop);
    assert_eq!(completion.usage.input_tokens, 150);
    assert!(
        completion
            .body()
            .windows(29)
            .any(|w| w == br#""x_unknown":{"kept":true}}"#.as_slice())
            || completion
                .body()
                .ends_with(br#""x_unknown":{"kept":true}}"#)
    );
    let masked = completion.with_texts([Some("m\"m")]);
    let text = std::str::from_utf8(completion.body())
        .unwrap()
        .replace("An answer of some length.", r#"m\"m"#);
    assert_eq!(std::str::from_utf8(&masked).unwrap(), text);
}

#[tokio::test]
async fn a_stream_always_reports_usage_to_us_and_only_on_demand_to_the_client() {
    let with = |options: &str| {
        format!(
            r#"{{"model":"a","messages":[{{"role":"user","content":"hi"}}],"stream":true{options}}}"#
        )
    };
    for (options, expected, for_client) in [
        ("", r#"{"model":"real/model","stream_options":{"include_usage":true},"messages":[{"role":"user","content":"hi"}],"stream":true}"#.to_owned(), false),
        (r#","stream_options":null"#, with(r#","stream_options":{"include_usage":true}"#).replace(r#""a""#, r#""real/model""#), false),
        (r#","stream_options":{"x":1,"include_usage":false}"#, with(r#","stream_options":{"x":1,"include_usage":true}"#).replace(r#""a""#, r#""real/model""#), false),
        (r#","stream_options":{"include_usage":true,"x":1}"#, with(r#","stream_options":{"include_usage":true,"x":1}"#).replace(r#""a""#, r#""real/model""#), true),
    ] {
        let (sent, reply) = forwarded(&with(options)).await;
        assert_eq!(sent, expected);
        let RawReply::Stream(stream) = reply else { panic!("a stream") };
        let chunks: Vec<_> = stream.map(Result::unwrap).collect().await;
        let text: String = chunks.iter().flat_map(|chunk| chunk.texts()).map(|span| span.text.as_str()).collect();
        assert_eq!(text, "An answer of some length.");
        let usage: Vec<_> = chunks.iter().filter(|chunk| chunk.usage.is_some()).collect();
        assert_eq!(usage.len(), 1);
        assert_eq!(usage[0].for_client, for_client);
        assert!(chunks.iter().filter(|chunk| chunk.usage.is_none()).all(|chunk| chunk.for_client));
        assert_eq!(chunks.iter().flat_map(|chunk| &chunk.finishes).collect::<Vec<_>>(), [&(0, FinishReason::Stop)]);
    }
}

#[tokio::test]
async fn texts_of_chunks_can_be_replaced_and_the_rest_stays() {
    let (_, reply) =
        forwarded(r#"{"model":"a","messages":[{"role":"user","content":"hi"}],"stream":true}"#)
            .await;
    let RawReply::Stream(stream) = reply else {
        panic!("a stream")
    };
    let chunks: Vec<_> = stream.map(Result::unwrap).collect().await;
    let chunk = &chunks[1];
    let before = std::str::from_utf8(chunk.body()).unwrap().to_owned();
    assert_eq!(
        chunk.with_texts([Some("")]),
        before.replace(&format!("\"{}\"", chunk.texts()[0].text), "\"\"")
    );
    assert_eq!(chunk.with_texts([None]), before);
}

#[tokio::test]
async fn tool_calls_pass_through_as_they_are() {
    let mock = Mock::start(Script::tools(vec![Call::new("f", "{\"a\":1}")], "done"))
        .await
        .unwrap();
    let provider = OpenAi::new(OpenAiConfig::new(mock.url().parse().unwrap())).unwrap();
    let body = r#"{"model":"a","messages":[{"role":"user","content":"hi"}],"tools":[{"type":"function","function":{"name":"f"}}]}"#;
    let RawReply::Json(completion) = provider.forward(&context(), "m", chat(body)).await.unwrap()
    else {
        panic!("a JSON answer")
    };
    assert_eq!(completion.finish, FinishReason::ToolCalls);
    assert_eq!(
        completion
            .texts()
            .iter()
            .map(|t| (t.kind, t.text.as_str()))
            .collect::<Vec<_>>(),
        [(TextKind::ToolArguments(0), "{\"a\":1}")]
    );
}

#[tokio::test]
async fn a_broken_answer_is_an_error() {
    for (stream, fault, code) in [
        (false, Fault::MalformedAfter(0), "invalid_response"),
        (false, Fault::WrongContentType, "invalid_response"),
        (false, Fault::CloseBeforeHead, "connect_failed"),
        (true, Fault::EndAfter(2), "stream_interrupted"),
        (true, Fault::DoneAfter(2), "stream_interrupted"),
        (true, Fault::BreakAfter(2), "stream_interrupted"),
    ] {
        let mock = Mock::start(Script::text("some text").with_fault(fault.clone()))
            .await
            .unwrap();
        let provider = OpenAi::new(OpenAiConfig::new(mock.url().parse().unwrap())).unwrap();
        let body = format!(
            r#"{{"model":"a","messages":[{{"role":"user","content":"hi"}}],"stream":{stream}}}"#
        );
        let error = match provider.forward(&context(), "m", chat(&body)).await {
            Err(error) => error,
            Ok(RawReply::Json(_)) => panic!("{fault:?} gave an answer"),
            Ok(RawReply::Stream(stream)) => {
                let mut items: Vec<_> = stream.collect().await;
                items.pop().unwrap().unwrap_err()
            }
        };
        assert_eq!(error.code(), code, "{fault:?}");
    }
}

#[test]
fn reads_what_must_be_known() {
    let chat = chat(
        r#"{"model":"p/m","stream":true,"max_tokens":5,"max_completion_tokens":7,"n":2,"logprobs":true,
        "messages":[{"role":"system","content":"s"},{"role":"user","content":[{"type":"text","text":"a"},{"type":"image_url","image_url":{}},{"type":"text","text":"b"}]},
        {"role":"assistant","content":null,"tool_calls":[{"id":"1","type":"function","function":{"name":"f","arguments":"{}"}}]},{"role":"tool","content":"t"}]}"#,
    );
    assert_eq!(
        (
            chat.model(),
            chat.streams(),
            chat.max_tokens(),
            chat.choices(),
            chat.wants_logprobs()
        ),
        ("p/m", true, Some(7), 2, true)
    );
    let texts: Vec<_> = chat
        .texts()
        .iter()
        .map(|span| (span.index, span.text.as_str()))
        .collect();
    assert_eq!(texts, [(0, "s"), (1, "a"), (1, "b"), (2, "{}"), (3, "t")]);
    let of_tools = chat.texts().iter().map(|span| chat.is_of_tool(span));
    assert_eq!(
        of_tools.collect::<Vec<_>>(),
        [false, false, false, false, true]
    );
    let masked = chat.with_texts([None, Some("\u{1F30D}\n")]).unwrap();
    assert_eq!(masked.texts()[1].text, "\u{1F30D}\n");
    assert_eq!(masked.texts()[2].text, "b");
    assert_eq!(masked.model(), "p/m");
}

#[test]
fn a_tools_message_is_known_however_its_role_is_written() {
    for (role, of_tool) in [
        (r#""tool""#, true),
        (r#""function""#, true),
        (r#""to\u006fl""#, true),
        (r#""user""#, false),
        (r#""tool\\""#, false),
        ("null", false),
        ("7", false),
    ] {
        let body = format!(r#"{{"model":"m","messages":[{{"content":"x","role":{role}}}]}}"#);
        let chat = chat(&body);
        assert_eq!(chat.is_of_tool(&chat.texts()[0]), of_tool, "{role}");
    }
}

#[test]
fn refuses_what_is_no_chat_request() {
    for (bad, param) in [
        ("", None),
        ("null", None),
        (r#"["m",[{"content":"x"}]]"#, None),
        ("{", None),
        (
            r#"{"messages":[{"role":"user","content":"x"}]}"#,
            Some("model"),
        ),
        (
            r#"{"model":7,"messages":[{"role":"user","content":"x"}]}"#,
            Some("model"),
        ),
        (
            r#"{"model":null,"messages":[{"role":"user","content":"x"}]}"#,
            Some("model"),
        ),
        (r#"{"model":"m"}"#, Some("messages")),
        (r#"{"model":"m","messages":[]}"#, Some("messages")),
        (
            r#"{"model":"m","messages":[{"content":[7]}]}"#,
            Some("messages"),
        ),
        (r#"{"model":"m","messages":["x"]}"#, None),
        (
            r#"{"model":"m","messages":[{"content":"\ud800"}]}"#,
            Some("messages"),
        ),
        (
            r#"{"model":"m","model":"n","messages":[{"content":"x"}]}"#,
            None,
        ),
        (
            r#"{"model":"m","messages":[{"content":"x","content":"y"}]}"#,
            None,
        ),
        (
            r#"{"model":"m","messages":[{"content":"x"}],"stream_options":{"include_usage":3}}"#,
            Some("stream_options"),
        ),
        (r#"{"model":"m","messages":[{"content":"x"}]} x"#, None),
    ] {
        let error = RawChat::parse(Bytes::copy_from_slice(bad.as_bytes())).unwrap_err();
        assert_eq!(error.param, param, "{bad}: {error}");
    }
}

#[tokio::test]
async fn a_permit_leads_to_its_provider() {
    let mock = Mock::start(Script::text("hi")).await.unwrap();
    let providers = Providers::default()
        .with(
            "openai".parse().unwrap(),
            Arc::new(OpenAi::new(OpenAiConfig::new(mock.url().parse().unwrap())).unwrap()),
        )
        .with("extractive".parse().unwrap(), Arc::new(Extractive));
    let everything: Arc<Permissions> =
        Arc::new(serde_json::from_str(r#"{"models":["*"]}"#).unwrap());
    let ambit = Ambit::new(Arc::clone(&everything), everything);
    let body = r#"{"model":"a","messages":[{"role":"user","content":"hi"}]}"#;
    let code = async |provider, model| {
        let permit = ambit.model(provider, model).unwrap();
        providers
            .forward(&context(), &permit, chat(body))
            .await
            .map(|_| ())
            .map_err(|error| error.code())
    };
    assert_eq!(code("openai", "the-model").await, Ok(()));
    assert!(
        std::str::from_utf8(&mock.stats().bodies[0])
            .unwrap()
            .contains(r#""model":"the-model""#)
    );
    assert_eq!(code("elsewhere", "m").await, Err("not_found"));
    assert_eq!(code("extractive", "sentences").await, Err("not_found"));
    assert_eq!(
        providers.models("extractive").await.unwrap()[0].id,
        "sentences"
    );
}
