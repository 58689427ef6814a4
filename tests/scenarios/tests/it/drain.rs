//! SIGTERM: readiness goes, the door closes, what is in flight finishes; what takes too long is told so, and the journal has its end.

use ambit_mock_provider::{Fault, Mock, Script};
use ambit_scenarios::{Ambit, Answer, Signal, binary, until};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

fn question(model: &str, stream: bool) -> Value {
    json!({"model": model, "stream": stream, "messages": [{"role": "user", "content": "Hello?"}]})
}

/// An installation with a listener for the tenants and one for the operator, so that readiness can be asked while the first is closed.
struct Installation {
    binary: PathBuf,
    folder: tempfile::TempDir,
}

impl Installation {
    /// Made by `ambit up`, which ends in order when nothing is in flight.
    async fn make(binary: PathBuf, mock: &Mock) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let made = Self { binary, folder };
        let mut ambit = Ambit::up_on(&made.binary, &made.data(), Some(&mock.url()))
            .await
            .unwrap();
        let agent = json!({"name": "plain", "model": "openai/mock-1"});
        ambit.apply(ambit.tenant("acme"), &agent).await.unwrap();
        let key = made.folder.path().join("admin.key");
        std::fs::write(key, &ambit.up.admin_key).unwrap();
        ambit.signal(Signal::Terminate).await.unwrap();
        assert!(ambit.ended().await.unwrap().success());
        made
    }

    async fn serve(&self, mock: &Mock, drain_seconds: u32) -> Ambit {
        let config = format!(
            "data = \"data\"\nlog = \"warn\"\n[listen]\ndata = \"127.0.0.1:0\"\nops = \"127.0.0.1:0\"\n\
             [admin]\nkey = {{ file = \"admin.key\" }}\n[limits]\ndrain_seconds = {drain_seconds}\n\
             [providers.openai]\nurl = \"{}\"\n",
            mock.url()
        );
        let path = self.folder.path().join("own.toml");
        std::fs::write(&path, config).unwrap();
        Ambit::serve(&self.binary, &path, &self.data())
            .await
            .unwrap()
    }

    fn data(&self) -> PathBuf {
        Path::new(self.folder.path()).join("data")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_flight_finishes_behind_closed_doors() {
    let Some(binary) = binary() else { return };
    let mut script = Script::text("All is well with the mock today. ".repeat(8));
    script.pace_ms = 100;
    let mock = Mock::start(script).await.unwrap();
    let installation = Installation::make(binary, &mock).await;
    let mut ambit = installation.serve(&mock, 60).await;
    let ready = async |ambit: &Ambit| {
        let url = format!("{}/readyz", ambit.up.ops_url);
        ambit
            .client
            .get(url)
            .send()
            .await
            .map(|answer| answer.status().as_u16())
    };
    assert_eq!(ready(&ambit).await.unwrap(), 200);
    // A stream that has begun, and an answer nobody has seen anything of.
    let acme = ambit.tenant("acme").clone();
    let streamed = ambit
        .post(&acme, "/chat/completions", &question("plain", true))
        .await
        .unwrap();
    let body = question("plain", false);
    let mut whole = Box::pin(ambit.ask(&acme, &body));
    tokio::select! {
        answer = &mut whole => panic!("{answer:?}"),
        () = until("both are with the model", async || mock.stats().requests == 2) => {}
    }

    ambit.signal(Signal::Terminate).await.unwrap();
    until("it is not ready", async || {
        ready(&ambit).await.is_ok_and(|status| status == 503)
    })
    .await;
    let door = ambit.up.url.strip_prefix("http://").unwrap();
    until("the door is closed", async || {
        tokio::net::TcpStream::connect(door).await.is_err()
    })
    .await;
    let streamed = Answer::read(streamed).await.unwrap();
    assert!(
        streamed.is_good() && streamed.text.ends_with("today. "),
        "{streamed:?}"
    );
    let whole = whole.await.unwrap();
    assert!(whole.is_good() && whole.text == streamed.text, "{whole:?}");
    assert_eq!(ambit.ended().await.unwrap().code(), Some(0));
    assert!(!installation.data().join("server.json").exists());

    let ambit = installation.serve(&mock, 1).await;
    for answer in [streamed, whole] {
        let (state, end, _) = ambit
            .session(&acme, &answer.session.unwrap())
            .await
            .unwrap();
        assert_eq!(
            (state.as_str(), &end["reason"]),
            ("finished", &json!("stop"))
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn at_the_deadline_every_request_hears_why_and_its_end_is_kept() {
    let Some(binary) = binary() else { return };
    let script = Script::text("Hello from a model that has a lot to say. ".repeat(20));
    let mock = Mock::start(script.with_fault(Fault::HangAfter(5)))
        .await
        .unwrap();
    let installation = Installation::make(binary, &mock).await;
    let mut ambit = installation.serve(&mock, 1).await;
    let acme = ambit.tenant("acme").clone();
    let mut streams = Vec::new();
    for model in ["plain", "openai/mock-1", "plain", "openai/mock-1"] {
        let body = question(model, true);
        let request = ambit.post(&acme, "/chat/completions", &body);
        streams.push(request.await.unwrap());
    }
    let body = question("plain", false);
    let mut whole = Box::pin(ambit.ask(&acme, &body));
    tokio::select! {
        answer = &mut whole => panic!("{answer:?}"),
        () = until("all are with the model", async || mock.stats().requests == 5) => {}
    }

    ambit.signal(Signal::Terminate).await.unwrap();
    let mut answers = Vec::new();
    for stream in streams {
        answers.push(Answer::read(stream).await.unwrap());
    }
    for answer in &answers {
        assert_eq!(
            (answer.status, answer.code()),
            (200, "unavailable"),
            "{answer:?}"
        );
        assert!(!answer.complete, "no success is made of it: {answer:?}");
    }
    let whole = whole.await.unwrap();
    assert_eq!(
        (whole.status, whole.code()),
        (503, "unavailable"),
        "{whole:?}"
    );
    answers.push(whole);
    assert_eq!(ambit.ended().await.unwrap().code(), Some(0));
    until("the model is let go", async || mock.stats().cancelled == 5).await;

    let ambit = installation.serve(&mock, 1).await;
    for answer in answers {
        let session = answer.session.clone().unwrap();
        let (state, end, kinds) = ambit.session(&acme, &session).await.unwrap();
        assert_eq!(
            (state.as_str(), &end["reason"]),
            ("interrupted", &json!("server-stopped")),
            "{kinds:?}"
        );
        // What its caller heard was released, and is in the journal.
        let events = ambit.events(&acme, &session).await.unwrap();
        let outcome = events.iter().find(|event| event["kind"] == "outcome");
        let outcome = outcome.unwrap_or_else(|| panic!("{kinds:?}"));
        assert_eq!(outcome["header"]["facts"]["code"], "interrupted");
        let released = outcome["body"]["text"].as_str().unwrap();
        assert!(released.starts_with(&answer.text), "{released} {answer:?}");
        assert!(released.starts_with("Hello from"), "{released}");
    }
}
