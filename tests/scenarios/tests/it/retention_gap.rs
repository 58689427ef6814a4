//! A listener whose session has left at the end of its retention hears that there is a gap, and only where there is one to tell of.

use super::sessions::{get, open, post, wait, with_agent};
use ambit_mock_provider::{Mock, Script};
use ambit_scenarios::{Ambit, Signal, Tenant, binary, until};
use ambit_types::SessionId;
use reqwest::Method;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

const DAY: i64 = 24 * 3600;

/// An installation that is started again and again, on a machine whose clock can be set back.
struct Machine<'a> {
    binary: PathBuf,
    folder: &'a Path,
    provider: String,
}

impl Machine<'_> {
    /// Starts the server with the clock so many days behind, and the rest of its configuration.
    async fn serve(&self, days_behind: i64, rest: &str) -> Ambit {
        let library = self.binary.with_file_name("libambit_crash.so");
        assert!(
            library.is_file(),
            "{}: `cargo xtask build` makes it",
            library.display()
        );
        let behind = self.folder.join("behind");
        std::fs::write(&behind, (days_behind * DAY).to_string()).unwrap();
        let environment = [
            ("LD_PRELOAD", library.to_str().unwrap()),
            ("AMBIT_BEHIND", behind.to_str().unwrap()),
        ];
        let configuration = format!(
            "anchors.interval_seconds = 1\n{rest}\n[providers.paid]\nurl = \"{}\"\n",
            self.provider
        );
        let data = self.folder.join("data");
        Ambit::serve_in(&self.binary, &data, &configuration, &environment)
            .await
            .unwrap()
    }
}

/// In order: what was written is anchored then.
async fn end(mut ambit: Ambit) {
    ambit.signal(Signal::Terminate).await.unwrap();
    assert_eq!(ambit.ended().await.unwrap().code(), Some(0));
}

/// What somebody is told who listens to a session that is over, from after `last`: the status, and all of it.
async fn listen(ambit: &Ambit, tenant: &Tenant, id: &str, last: Option<&str>) -> (u16, String) {
    let request = ambit.request(Method::GET, tenant, &format!("/sessions/{id}/events"));
    let request = match last {
        Some(last) => request.header("last-event-id", last),
        None => request,
    };
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    if status == 200 {
        let kind = response.headers()["content-type"].to_str().unwrap();
        assert!(kind.starts_with("text/event-stream"), "{kind}");
    }
    (status, response.text().await.unwrap())
}

/// The one event in place of all those that are gone. It has no id: a listener that comes back asks from where it was.
fn gap(after: i64) -> String {
    let data =
        json!({ "after": after, "reason": "the session was removed after the retention time" });
    format!("event: gap\ndata: {data}\n\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn who_listens_to_a_session_past_its_retention_hears_of_a_gap() {
    let Some(binary) = binary() else { return };
    let mock = Mock::start(Script::text("Good day.")).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let machine = Machine {
        binary,
        folder: folder.path(),
        provider: mock.url(),
    };

    // Four days ago somebody listens to a session until it is over, and a chat is answered.
    let ambit = machine.serve(4, "").await;
    let acme = with_agent(&ambit).await;
    let globex = ambit.new_tenant("globex").await.unwrap();
    let old = open(&ambit, &acme, "Hello?").await;
    wait(&ambit, &acme, &old, "suspended").await;
    post(&ambit, &acme, &format!("/sessions/{old}/cancel"), json!({})).await;
    wait(&ambit, &acme, &old, "cancelled").await;
    let chat = json!({ "model": "plain", "messages": [{ "role": "user", "content": "Hello." }] });
    let chat = ambit.ask(&acme, &chat).await.unwrap();
    assert!(chat.is_good(), "{}", chat.body);
    let chat = chat.session.unwrap();
    let (status, heard) = listen(&ambit, &acme, &old, None).await;
    assert_eq!(status, 200, "{heard}");
    assert!(heard.starts_with("id: 1\nevent: request\n"), "{heard}");
    end(ambit).await;

    // Now, within the time that is kept: who comes back hears the rest, and no gap.
    let ambit = machine.serve(0, "").await;
    let (status, rest) = listen(&ambit, &acme, &old, Some("6")).await;
    assert_eq!(status, 200, "{rest}");
    assert!(
        rest.starts_with("id: 7\n") && heard.ends_with(&rest),
        "{rest}"
    );
    let fresh = open(&ambit, &acme, "Hello?").await;
    wait(&ambit, &acme, &fresh, "suspended").await;
    post(
        &ambit,
        &acme,
        &format!("/sessions/{fresh}/cancel"),
        json!({}),
    )
    .await;
    wait(&ambit, &acme, &fresh, "cancelled").await;
    end(ambit).await;

    // The day leaves.
    let ambit = machine.serve(0, "journal.retention_days = 1").await;
    for id in [&old, &chat] {
        until("the day leaves", async || {
            get(&ambit, &acme, &format!("/sessions/{id}")).await.0 == 404
        })
        .await;
        // From wherever one was: it is told, the stream ends, and it is told again to who comes back.
        for after in [6, 0, 6] {
            let heard = listen(&ambit, &acme, id, Some(&after.to_string())).await;
            assert_eq!(heard, (200, gap(after)));
        }
        let filtered = format!("{id}/events?kind=outcome");
        let request = ambit.request(Method::GET, &acme, &format!("/sessions/{filtered}"));
        let request = request.header("last-event-id", "6").send().await.unwrap();
        assert_eq!(
            request.text().await.unwrap(),
            gap(6),
            "before anything else"
        );
    }

    // Who has heard nothing misses nothing, and what never was is not missed.
    let never = SessionId::new().to_string();
    let (status, unknown) = listen(&ambit, &acme, &never, None).await;
    assert_eq!(status, 404, "{unknown}");
    for (tenant, id, last) in [
        (&acme, &*old, None),
        (&acme, &*chat, None),
        (&acme, &*never, Some("6")),
        (&acme, "ses_1", Some("6")),
        // Nothing of another tenant's is told.
        (&globex, &*old, None),
        (&globex, &*old, Some("6")),
    ] {
        let told = listen(&ambit, tenant, id, last).await;
        assert_eq!(told.0, 404, "{id} {last:?}: {}", told.1);
        assert_eq!(error(&told.1), error(&unknown), "{id} {last:?}");
    }
    let (status, bad) = listen(&ambit, &acme, &old, Some("-1")).await;
    assert_eq!(status, 400, "{bad}");

    // What is younger is there from its first event to its last.
    let (status, heard) = listen(&ambit, &acme, &fresh, Some("0")).await;
    assert_eq!(status, 200, "{heard}");
    assert!(heard.starts_with("id: 1\nevent: request\n"), "{heard}");
    assert!(!heard.contains("event: gap"), "{heard}");
}

/// What an error says.
fn error(body: &str) -> Value {
    let body: Value = serde_json::from_str(body).unwrap_or_else(|_| panic!("{body}"));
    body["error"]["message"].clone()
}
