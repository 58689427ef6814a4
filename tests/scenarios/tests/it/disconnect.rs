//! A client that goes away takes its request with it: the call upstream is cancelled and the session ends as interrupted.

use ambit_mock_provider::{Call, Fault, Mock, Script, UsageCounts};
use ambit_scenarios::{Ambit, NewComponent, binary, guest, until};
use serde_json::json;

/// Where the model stops answering.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stuck {
    BeforeItBegins,
    InTheMiddle,
}

async fn check(stuck: Stuck) {
    let Some(binary) = binary() else { return };
    let fault = match stuck {
        Stuck::BeforeItBegins => Fault::HangBeforeHead,
        Stuck::InTheMiddle => Fault::HangAfter(3),
    };
    let long = "Hello from a model that has a lot to say. ".repeat(20);
    let mock = Mock::start(Script::text(&long).with_fault(fault))
        .await
        .unwrap();
    let ambit = Ambit::up(&binary, Some(&mock.url())).await.unwrap();
    let acme = ambit.tenant("acme");
    let agent = json!({"name": "plain", "model": "openai/mock-1"});
    ambit.apply(acme, &agent).await.unwrap();

    let mut before = None;
    for (model, stream) in [
        ("plain", true),
        ("plain", false),
        ("openai/mock-1", true),
        ("openai/mock-1", false),
    ] {
        if (stuck, model, stream) == (Stuck::InTheMiddle, "openai/mock-1", false) {
            // Not streamed upstream either: it has no middle.
            continue;
        }
        let what = format!("{stuck:?}, {model}, stream {stream}");
        let (asked, cancelled) = (mock.stats().requests, mock.stats().cancelled);
        let body = json!({"model": model, "stream": stream, "messages": [{"role": "user", "content": "Hello?"}]});
        let mut answer = Box::pin(ambit.post(acme, "/chat/completions", &body));
        let mut heard = String::new();
        if stream && stuck == Stuck::InTheMiddle {
            let mut answer = answer.await.unwrap();
            while !heard.contains("Hello") {
                let chunk = answer.chunk().await.unwrap().expect(&what);
                heard += std::str::from_utf8(&chunk).unwrap();
            }
            drop(answer);
        } else {
            tokio::select! {
                answer = &mut answer => panic!("{what}: {answer:?}"),
                () = until("the model is asked", async || mock.stats().requests > asked) => {}
            }
            drop(answer);
        }
        until(
            &format!("{what}: the model's connection is closed"),
            async || mock.stats().cancelled > cancelled,
        )
        .await;
        let mut now = None;
        until(&format!("{what}: the session ends"), async || {
            now = ambit.newest(acme).await.unwrap();
            now.as_ref()
                .is_some_and(|(id, state)| Some(id) != before.as_ref() && state != "open")
        })
        .await;
        let (id, _) = now.unwrap();
        let (state, end, kinds) = ambit.session(acme, &id).await.unwrap();
        assert_eq!(state, "interrupted", "{what}");
        assert_eq!(end["reason"], "caller-gone", "{what}: {kinds:?}");
        assert_eq!(end["unknown"], json!(null), "{what}: the outcome is known");
        // What was released until then is in the journal, whoever heard it.
        let events = ambit.events(acme, &id).await.unwrap();
        let outcome = events.iter().find(|event| event["kind"] == "outcome");
        let outcome = outcome.unwrap_or_else(|| panic!("{what}: {kinds:?}"));
        assert_eq!(outcome["header"]["facts"]["code"], "interrupted", "{what}");
        let text = outcome["body"]["text"].as_str().unwrap();
        assert!(long.starts_with(text), "{what}: {text}");
        let begun = stuck == Stuck::InTheMiddle;
        assert_eq!(text.starts_with("Hello"), begun, "{what}: {text}");
        before = Some(id);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_before_the_model_answers_cancels_it() {
    check(Stuck::BeforeItBegins).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_in_the_middle_cancels_it() {
    check(Stuck::InTheMiddle).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_call_cost_is_kept_when_its_caller_leaves_before_the_end() {
    let Some(binary) = binary() else { return };
    // All of it is said, and what it cost; only the end does not come.
    let mut script = Script::text("Hello.").with_fault(Fault::HangAfter(4));
    script.usage = UsageCounts {
        input: 11,
        output: 7,
        ..UsageCounts::default()
    };
    let mock = Mock::start(script).await.unwrap();
    let ambit = Ambit::up(&binary, Some(&mock.url())).await.unwrap();
    let acme = ambit.tenant("acme");
    let body = json!({"model": "openai/mock-1", "stream": true, "messages": [{"role": "user", "content": "Hello?"}]});
    let mut answer = ambit.post(acme, "/chat/completions", &body).await.unwrap();
    assert!(answer.chunk().await.unwrap().is_some());
    // The mock's last event was read when the rest is held for the end.
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    drop(answer);
    let mut now = None;
    until("the session ends", async || {
        now = ambit.newest(acme).await.unwrap();
        now.as_ref().is_some_and(|(_, state)| state != "open")
    })
    .await;
    let (id, _) = now.unwrap();
    let events = ambit.events(acme, &id).await.unwrap();
    let outcome = events.iter().find(|event| event["kind"] == "outcome");
    let usage = &outcome.unwrap()["header"]["usage"];
    assert_eq!(
        (&usage["input_tokens"], &usage["output_tokens"]),
        (&json!(11), &json!(7)),
        "{events:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tool_call_that_is_cut_is_named_as_unknown() {
    let Some(binary) = binary() else { return };
    let calls = vec![Call::new("misbehave", json!({"argument": "x"}).to_string())];
    let mock = Mock::start(Script::tools(calls, "Done.")).await.unwrap();
    let ambit = Ambit::up(&binary, Some(&mock.url())).await.unwrap();
    let acme = ambit.tenant("acme");
    let name = "hostile:sleeper";
    let component = NewComponent::new(name, "tool", guest("sleeper").unwrap())
        .tables("[limits]\ndeadline = \"60s\"\n");
    ambit.install(&component).await.unwrap();
    let slot = json!({ "component": name });
    ambit
        .put(&format!("/slots/tool/{name}"), &slot)
        .await
        .unwrap();
    let agent = json!({"name": "tooled", "model": "openai/mock-1", "tools": [name]});
    ambit.apply(acme, &agent).await.unwrap();

    let body = json!({"model": "tooled", "messages": [{"role": "user", "content": "Go."}]});
    let mut answer = Box::pin(ambit.post(acme, "/chat/completions", &body));
    let mut now = None;
    tokio::select! {
        answer = &mut answer => panic!("{answer:?}"),
        () = until("the tool is called", async || {
            now = ambit.newest(acme).await.unwrap();
            let Some((id, _)) = &now else { return false };
            let events = ambit.events(acme, id).await.unwrap();
            events.iter().any(|event| event["header"]["facts"]["effect"] == "tools")
        }) => {}
    }
    drop(answer);
    let (id, _) = now.unwrap();
    let mut end = json!(null);
    until("the session ends", async || {
        end = ambit.session(acme, &id).await.unwrap().1;
        !end.is_null()
    })
    .await;
    assert_eq!(
        (&end["reason"], &end["unknown"]),
        (&json!("caller-gone"), &json!("tools"))
    );
}
