//! A client that goes away takes its request with it: the call upstream is cancelled and the session ends as interrupted.

use ambit_mock_provider::{Fault, Mock, Script};
use ambit_scenarios::{Ambit, Tenant, binary, until};
use serde_json::json;

/// Where the model stops answering.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stuck {
    BeforeItBegins,
    InTheMiddle,
}

async fn newest(ambit: &Ambit, tenant: &Tenant) -> Option<(String, String)> {
    let path = format!("/tenants/{}/sessions?limit=1", tenant.slug);
    let listed = ambit.get(&path).await.unwrap();
    let session = &listed["data"][0];
    Some((
        session["id"].as_str()?.to_owned(),
        session["state"].as_str()?.to_owned(),
    ))
}

async fn check(stuck: Stuck) {
    let Some(binary) = binary() else { return };
    let fault = match stuck {
        Stuck::BeforeItBegins => Fault::HangBeforeHead,
        Stuck::InTheMiddle => Fault::HangAfter(3),
    };
    let script = Script::text("Hello from a model that has a lot to say. ".repeat(20));
    let mock = Mock::start(script.with_fault(fault)).await.unwrap();
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
        if stream && stuck == Stuck::InTheMiddle {
            let mut answer = answer.await.unwrap();
            assert!(answer.chunk().await.unwrap().is_some(), "{what}");
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
            now = newest(&ambit, acme).await;
            now.as_ref()
                .is_some_and(|(id, state)| Some(id) != before.as_ref() && state != "open")
        })
        .await;
        let (id, _) = now.unwrap();
        let (state, end, kinds) = ambit.session(acme, &id).await.unwrap();
        assert_eq!(state, "interrupted", "{what}");
        assert_eq!(end["reason"], "caller-gone", "{what}: {kinds:?}");
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
