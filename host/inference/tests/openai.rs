//! The OpenAI-compatible provider against a server that misbehaves on command.

mod common;

use ambit_inference::{
    Caps, ChatRequest, Delta, FinishReason, Message, OpenAi, OpenAiConfig, Provider as _,
    ProviderError, Retry, Role, TimeoutPhase, Timeouts, ToolCallFragment, Usage,
};
use ambit_mock_provider::{Call, Fault, Mock, Script, UsageCounts};
use ambit_types::Secret;
use common::{context, context_for};
use futures::StreamExt as _;
use std::time::{Duration, Instant};

/// Small waits, so that a fault shows soon.
fn config(url: &str) -> OpenAiConfig {
    OpenAiConfig {
        api_key: Some(Secret::new("sk-test")),
        timeouts: Timeouts {
            connect: Duration::from_secs(1),
            first_byte: Duration::from_millis(400),
            idle: Duration::from_millis(400),
        },
        caps: Caps {
            head: 8 << 10,
            event: 64 << 10,
            body: 256 << 10,
        },
        retry: Retry {
            attempts: 3,
            backoff: Duration::from_millis(5),
        },
        ..OpenAiConfig::new(url.parse().unwrap())
    }
}

fn request() -> ChatRequest {
    ChatRequest {
        messages: vec![Message::new(Role::User, "hello")],
        ..ChatRequest::default()
    }
}

struct Answered {
    text: String,
    calls: Vec<(String, String)>,
    finish: Option<FinishReason>,
    usage: Option<Usage>,
    /// What ended the stream, or kept it from beginning.
    error: Option<ProviderError>,
    deltas: usize,
}

/// Asks a mock with this script and reads to the end.
async fn ask(script: Script) -> (Answered, Mock) {
    let mock = Mock::start(script).await.unwrap();
    let answered = ask_at(&config(&mock.url())).await;
    (answered, mock)
}

async fn ask_at(config: &OpenAiConfig) -> Answered {
    let provider = OpenAi::new(config.clone()).unwrap();
    let mut answered = Answered {
        text: String::new(),
        calls: Vec::new(),
        finish: None,
        usage: None,
        error: None,
        deltas: 0,
    };
    let mut stream = match provider.complete(&context(), "m", request()).await {
        Ok(stream) => stream,
        Err(error) => {
            return Answered {
                error: Some(error),
                ..answered
            };
        }
    };
    while let Some(delta) = stream.next().await {
        assert!(answered.error.is_none(), "an error is the last item");
        answered.deltas += 1;
        match delta {
            Ok(Delta::Text(text)) => answered.text += &text,
            Ok(Delta::Refusal(text)) => panic!("refused: {text}"),
            Ok(Delta::ToolCall(ToolCallFragment {
                index,
                id,
                name,
                arguments,
            })) => {
                let index = index as usize;
                if index == answered.calls.len() {
                    assert!(id.is_some());
                    answered.calls.push((name.unwrap(), String::new()));
                }
                answered.calls[index].1 += &arguments;
            }
            Ok(Delta::Finish(reason)) => {
                assert_eq!(answered.finish.replace(reason), None, "one finish");
            }
            Ok(Delta::Usage(usage)) => {
                assert!(answered.finish.is_some(), "usage comes after the finish");
                assert_eq!(answered.usage.replace(usage), None, "one usage");
            }
            Err(error) => answered.error = Some(error),
        }
    }
    assert!(
        answered.finish.is_some() != answered.error.is_some(),
        "a stream ends in a finish or in an error"
    );
    answered
}

#[tokio::test]
async fn reads_text_whole_however_it_is_cut() {
    let text = "Grüße, 世界! 🌍 \"quoted\" \\ back\nnew line";
    for bytes_per_chunk in [0, 1, 2, 3, 7, 64] {
        for chars_per_event in [1, 5, 1000] {
            let script = Script {
                bytes_per_chunk,
                chars_per_event,
                usage: UsageCounts {
                    input: 11,
                    cached: 4,
                    output: 7,
                    reasoning: 2,
                },
                ..Script::text(text)
            };
            let (answered, mock) = ask(script).await;
            assert_eq!(answered.text, text, "{bytes_per_chunk} {chars_per_event}");
            assert_eq!(answered.finish, Some(FinishReason::Stop));
            assert_eq!(
                answered.usage,
                Some(Usage {
                    input_tokens: 11,
                    cached_tokens: 4,
                    output_tokens: 7,
                    reasoning_tokens: 2
                })
            );
            assert_eq!(mock.stats().heads[0]["authorization"], "Bearer sk-test");
        }
    }
}

#[tokio::test]
async fn reads_parallel_tool_calls_from_fragments() {
    let calls = vec![
        Call::new("a", "{\"x\":\"ä\"}"),
        Call::new("b", "{\"y\":[1,2,3]}"),
        Call::new("c", "{}"),
    ];
    for bytes_per_chunk in [0, 1, 5] {
        let (answered, _) = ask(Script {
            bytes_per_chunk,
            chars_per_event: 2,
            ..Script::tools(calls.clone(), "")
        })
        .await;
        assert_eq!(answered.finish, Some(FinishReason::ToolCalls));
        let expected: Vec<_> = calls
            .iter()
            .map(|call| (call.name.clone(), call.arguments.clone()))
            .collect();
        assert_eq!(answered.calls, expected);
    }
}

#[tokio::test]
async fn a_broken_stream_is_an_error_never_a_short_success() {
    for (fault, code) in [
        (Fault::BreakAfter(3), "stream_interrupted"),
        (Fault::EndAfter(3), "stream_interrupted"),
        (Fault::DoneAfter(3), "stream_interrupted"),
        (Fault::ErrorAfter(3), "stream_interrupted"),
        (Fault::MalformedAfter(3), "invalid_response"),
        (Fault::HugeLine(1 << 20), "invalid_response"),
        (Fault::HangAfter(3), "provider_timeout"),
    ] {
        let (answered, mock) =
            ask(Script::text("a long enough text for several events").with_fault(fault.clone()))
                .await;
        let error = answered.error.unwrap();
        assert_eq!(error.code(), code, "{fault:?}");
        assert!(!error.to_string().contains("10.0.0.7"), "{error}");
        assert_eq!(
            mock.stats().requests,
            1,
            "never tried again after the first event: {fault:?}"
        );
    }
}

#[tokio::test]
async fn what_fails_before_the_first_event_is_tried_again() {
    for (fault, attempts, code) in [
        (
            Fault::Status {
                status: 500,
                message: String::new(),
                retry_after: None,
            },
            3,
            "upstream_5xx",
        ),
        (
            Fault::Status {
                status: 503,
                message: String::new(),
                retry_after: None,
            },
            3,
            "upstream_5xx",
        ),
        (
            Fault::Status {
                status: 429,
                message: String::new(),
                retry_after: Some("0".into()),
            },
            3,
            "rate_limit_exceeded",
        ),
        // The provider asks for more patience than the policy has.
        (
            Fault::Status {
                status: 429,
                message: String::new(),
                retry_after: Some("7".into()),
            },
            1,
            "rate_limit_exceeded",
        ),
        (
            Fault::Status {
                status: 400,
                message: String::new(),
                retry_after: None,
            },
            1,
            "upstream_4xx",
        ),
        (
            Fault::Status {
                status: 401,
                message: String::new(),
                retry_after: None,
            },
            1,
            "upstream_4xx",
        ),
        (
            Fault::Status {
                status: 307,
                message: String::new(),
                retry_after: None,
            },
            1,
            "invalid_response",
        ),
        (Fault::CloseBeforeHead, 3, "connect_failed"),
        (Fault::BreakAfter(0), 3, "connect_failed"),
        (Fault::EndAfter(0), 3, "connect_failed"),
        (Fault::HangBeforeHead, 1, "provider_timeout"),
        (Fault::HangBeforeFirstEvent, 1, "provider_timeout"),
        (Fault::WrongContentType, 1, "invalid_response"),
        (Fault::HugeHead(16 << 10), 1, "invalid_response"),
    ] {
        let (answered, mock) = ask(Script::text("x").with_fault(fault.clone())).await;
        assert_eq!(answered.error.unwrap().code(), code, "{fault:?}");
        assert_eq!(mock.stats().requests, attempts, "{fault:?}");
        if attempts == 3 {
            let (answered, mock) = ask(Script {
                fault_times: Some(2),
                ..Script::text("well").with_fault(fault.clone())
            })
            .await;
            assert_eq!(
                (answered.text.as_str(), answered.finish),
                ("well", Some(FinishReason::Stop)),
                "{fault:?}"
            );
            assert_eq!(mock.stats().requests, 3);
        }
    }
}

#[tokio::test]
async fn a_rate_limit_says_when_to_come_back() {
    let (answered, _) = ask(Script::text("x").with_fault(Fault::Status {
        status: 429,
        message: String::new(),
        retry_after: Some("7".into()),
    }))
    .await;
    let error = ambit_types::Error::from(answered.error.unwrap());
    assert_eq!(
        (error.status(), error.code(), error.retry_after()),
        (429, "rate_limit_exceeded", Some(7))
    );
}

#[tokio::test]
async fn the_providers_words_are_shown_only_about_the_request_and_only_when_harmless() {
    for (status, message, shown) in [
        (
            400,
            "max_tokens is too large: 5000",
            "max_tokens is too large: 5000",
        ),
        (
            400,
            "see http://10.0.0.7:8000/docs",
            "the provider refused the request",
        ),
        (401, "Incorrect API key", "the provider refused the request"),
        (500, "out of memory", "the provider refused the request"),
    ] {
        let fault = Fault::Status {
            status,
            message: message.into(),
            retry_after: None,
        };
        let (answered, _) = ask(Script::text("x").with_fault(fault)).await;
        let error = ambit_types::Error::from(answered.error.unwrap());
        assert_eq!(error.message(), shown);
        assert_eq!(error.status(), if status == 400 { 400 } else { 502 });
    }
}

#[tokio::test]
async fn an_unreachable_server_is_told_without_its_address() {
    let refused = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    for url in [
        format!("http://{refused}/v1"),
        "http://nowhere.invalid/v1".to_owned(),
    ] {
        let error = ask_at(&config(&url)).await.error.unwrap();
        let (port, code) = (refused.port().to_string(), error.code());
        let error = ambit_types::Error::from(error);
        assert_eq!((code, error.status()), ("connect_failed", 502));
        assert!(
            !error.message().contains(&port) && !error.message().contains("nowhere"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn the_callers_deadline_ends_every_wait() {
    for script in [
        Script::text("x").with_fault(Fault::HangBeforeHead),
        Script::text("x").with_fault(Fault::HangAfter(2)),
        Script::text("x").with_fault(Fault::Drip(20)),
        Script {
            pace_ms: 30,
            chars_per_event: 1,
            ..Script::text("x".repeat(1000))
        },
    ] {
        let mock = Mock::start(script).await.unwrap();
        let mut config = config(&mock.url());
        config.timeouts.first_byte = Duration::from_secs(60);
        config.timeouts.idle = Duration::from_secs(60);
        let provider = OpenAi::new(config).unwrap();
        let before = Instant::now();
        let mut last = None;
        match provider
            .complete(&context_for(Duration::from_millis(300)), "m", request())
            .await
        {
            Err(error) => last = Some(error),
            Ok(mut stream) => {
                while let Some(delta) = stream.next().await {
                    last = delta.err();
                }
            }
        }
        assert!(
            matches!(last, Some(ProviderError::Timeout(TimeoutPhase::Deadline))),
            "{last:?}"
        );
        assert!(before.elapsed() < Duration::from_secs(2));
    }
}

#[tokio::test]
async fn a_stream_longer_than_the_cap_is_cut() {
    let (answered, _) = ask(Script {
        chars_per_event: 1000,
        ..Script::text("x".repeat(400_000))
    })
    .await;
    assert!(
        matches!(
            answered.error,
            Some(ProviderError::TooLarge { what: "body" })
        ),
        "{:?}",
        answered.error
    );
}

#[tokio::test]
async fn dropping_closes_the_upstream_connection() {
    // While waiting for the head, and in the middle of a stream.
    for script in [
        Script::text("x").with_fault(Fault::HangBeforeHead),
        Script {
            pace_ms: 10,
            chars_per_event: 1,
            ..Script::text("x".repeat(1000))
        },
    ] {
        let mock = Mock::start(script).await.unwrap();
        let provider = OpenAi::new(OpenAiConfig::new(mock.url().parse().unwrap())).unwrap();
        let context = context();
        {
            let asking = async {
                let mut stream = provider.complete(&context, "m", request()).await.unwrap();
                while stream.next().await.is_some() {}
            };
            assert!(
                tokio::time::timeout(Duration::from_millis(200), asking)
                    .await
                    .is_err(),
                "still running"
            );
        }
        let until = Instant::now() + Duration::from_secs(5);
        while mock.stats().cancelled == 0 {
            assert!(
                Instant::now() < until,
                "the server never saw the end of the call"
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

#[tokio::test]
async fn the_trace_goes_on_below_our_span() {
    let mock = Mock::start(Script::text("x")).await.unwrap();
    let provider = OpenAi::new(config(&mock.url())).unwrap();
    let mut context = context();
    provider.complete(&context, "m", request()).await.unwrap();
    context.trace = context.trace.with_state("rojo=00f067");
    provider.complete(&context, "m", request()).await.unwrap();
    let heads = mock.stats().heads;
    let sent: ambit_types::TraceContext =
        heads[0]["traceparent"].to_str().unwrap().parse().unwrap();
    assert_eq!(
        (sent.trace, sent.span),
        (context.trace.trace, context.trace.span)
    );
    let state = |n: usize| {
        heads[n]
            .get("tracestate")
            .map(|state| state.to_str().unwrap())
    };
    assert_eq!((state(0), state(1)), (None, Some("rojo=00f067")));
}

#[tokio::test]
async fn connections_are_kept() {
    let mock = Mock::start(Script::text("hello")).await.unwrap();
    let provider = OpenAi::new(config(&mock.url())).unwrap();
    for _ in 0..20 {
        let stream = provider.complete(&context(), "m", request()).await.unwrap();
        assert!(stream.collect::<Vec<_>>().await.iter().all(Result::is_ok));
        // The server's last chunk and the end of the body may come in two reads; the connection is idle after the second.
        tokio::task::yield_now().await;
    }
    let stats = mock.stats();
    assert_eq!(stats.requests, 20);
    assert!(stats.connections <= 3, "{}", stats.connections);
}

#[tokio::test]
async fn models_are_listed_once_in_order() {
    let mock = Mock::start(Script {
        models: vec!["first".into(), "second".into()],
        ..Script::default()
    })
    .await
    .unwrap();
    let provider = OpenAi::new(config(&mock.url())).unwrap();
    let (a, b) = tokio::join!(provider.models(), provider.models());
    let ids: Vec<_> = a.unwrap().iter().map(|model| model.id.clone()).collect();
    assert_eq!(ids, ["first", "second"]);
    b.unwrap();
    drop(mock);
    assert_eq!(
        provider.models().await.unwrap().len(),
        2,
        "believed for some minutes"
    );
    let refused = OpenAi::new(config("http://127.0.0.1:1/v1")).unwrap();
    assert_eq!(refused.models().await.unwrap_err().code(), "connect_failed");
}
