//! Durable sessions outlive processes: what was begun is gone on with by the next one or by another node, and what waits costs rows.

use crate::sessions::{open, post, serving, wait, with_agent};
use ambit_mock_provider::{Fault, Mock, Reply, Script};
use ambit_scenarios::{Ambit, Signal, binary, until};
use futures::StreamExt as _;
use serde_json::json;
use std::{path::PathBuf, time::Duration};
use tempfile::TempDir;

/// An installation that is served by one process after another.
struct Installation {
    binary: PathBuf,
    folder: TempDir,
    configuration: String,
}

impl Installation {
    /// Whose provider is this one.
    fn new(mock: &Mock) -> Option<Self> {
        let provider = format!("[providers.paid]\nurl = \"{}\"\n", mock.url());
        Some(Self {
            binary: binary()?,
            folder: tempfile::tempdir().unwrap(),
            configuration: format!("limits.drain_seconds = 1\n{provider}"),
        })
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    async fn serve(&self) -> Ambit {
        Ambit::serve_in(&self.binary, &self.data(), &self.configuration, &[])
            .await
            .unwrap()
    }
}

async fn end(ambit: &mut Ambit, signal: Signal) {
    ambit.signal(signal).await.unwrap();
    ambit.ended().await.unwrap();
}

/// Stopped or killed in the middle of a model call, the next process goes on: nobody has to ask.
#[tokio::test(flavor = "multi_thread")]
async fn the_next_process_goes_on_with_what_was_begun() {
    for signal in [Signal::Terminate, Signal::Kill] {
        let mock = Mock::start(Script::default().with_fault(Fault::HangAfter(0)))
            .await
            .unwrap();
        let Some(installation) = Installation::new(&mock) else {
            return;
        };
        let mut ambit = installation.serve().await;
        let acme = with_agent(&ambit).await;
        let id = open(&ambit, &acme, "Hello?").await;
        until("the model is asked", async || mock.stats().requests == 1).await;
        let killed = matches!(signal, Signal::Kill);
        end(&mut ambit, signal).await;
        mock.follow(Script::text("I am back."));
        let ambit = installation.serve().await;
        let session = wait(&ambit, &acme, &id, "suspended").await;
        assert_eq!(session["answer"], "I am back.", "{session}");
        let events = ambit.events(&acme, &id).await.unwrap();
        let unknown = events
            .iter()
            .any(|event| event["header"]["facts"]["code"] == "unknown");
        assert_eq!(unknown, killed, "{events:?}");
        let resumed = events
            .iter()
            .find(|event| event["kind"] == "resume")
            .unwrap();
        assert_eq!(resumed["header"]["facts"]["by"], "recovery");
        ambit.session(&acme, &id).await.unwrap();
    }
}

/// Who was told that a session ends is not to see it go on because a process died in between.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_to_be_cancelled_is_not_gone_on_with() {
    let mock = Mock::start(Script::default().with_fault(Fault::HangAfter(0)))
        .await
        .unwrap();
    let Some(installation) = Installation::new(&mock) else {
        return;
    };
    let mut ambit = installation.serve().await;
    let acme = with_agent(&ambit).await;
    let id = open(&ambit, &acme, "Hello?").await;
    until("the model is asked", async || mock.stats().requests == 1).await;
    end(&mut ambit, Signal::Kill).await;
    // As a cancel leaves it whose process died before it had ended the session.
    let asked = rusqlite::Connection::open(installation.data().join("ambit.db"))
        .unwrap()
        .execute(
            "UPDATE sessions SET cancel_ms = 1 WHERE session = ?1",
            [&id],
        );
    assert_eq!(asked.unwrap(), 1);
    let ambit = installation.serve().await;
    wait(&ambit, &acme, &id, "cancelled").await;
    assert_eq!(mock.stats().requests, 1);
    ambit.session(&acme, &id).await.unwrap();
}

/// A database that takes nothing for a while, as a full disk does: the turn cannot end, and goes on by itself when it can.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_whose_end_could_not_be_written_is_gone_on_with() {
    let mut slow = Script::text("At last.");
    slow.latency_ms = 1000;
    let mock = Mock::start(slow).await.unwrap();
    let Some((ambit, acme)) = serving(&mock, "").await else {
        return;
    };
    let id = open(&ambit, &acme, "Hello?").await;
    until("the model is asked", async || mock.stats().requests == 1).await;
    let database = ambit.data().join("ambit.db");
    tokio::task::spawn_blocking(move || {
        let other = rusqlite::Connection::open(database).unwrap();
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        // Longer than anybody waits for the database.
        std::thread::sleep(Duration::from_secs(20));
        other.execute_batch("ROLLBACK").unwrap();
    })
    .await
    .unwrap();
    let session = wait(&ambit, &acme, &id, "suspended").await;
    assert_eq!(
        (&session["answer"], &session["reason"]),
        (&json!("At last."), &json!("message"))
    );
    ambit.session(&acme, &id).await.unwrap();
}

/// What nobody works on is rows: a server with a hundred thousand waiting sessions holds no more than one without.
#[tokio::test(flavor = "multi_thread")]
async fn waiting_sessions_cost_rows_and_nothing_else() {
    use ambit_store::{Append, Header, NewEvent, NewSession, SessionState, Store, StoreConfig};
    const WAITING: usize = 100_000;
    let mock = Mock::start(Script::models([("mock-1", Reply::Text("Hello.".into()))]))
        .await
        .unwrap();
    let Some(installation) = Installation::new(&mock) else {
        return;
    };
    let mut ambit = installation.serve().await;
    let acme = with_agent(&ambit).await;
    end(&mut ambit, Signal::Terminate).await;
    let measure = async |ambit: &Ambit| {
        let id = open(ambit, &acme, "Hello?").await;
        wait(ambit, &acme, &id, "suspended").await;
        ambit.memory().unwrap() / 1024
    };
    let mut ambit = installation.serve().await;
    let before = measure(&ambit).await;
    end(&mut ambit, Signal::Terminate).await;

    let store = Store::open(&StoreConfig::sqlite(installation.data().join("ambit.db")))
        .await
        .unwrap();
    let tenants = store.operator().tenants().await.unwrap();
    let tenant = tenants
        .iter()
        .find(|tenant| tenant.slug.as_str() == "acme")
        .unwrap()
        .id;
    let append = async |_: usize| {
        let session = NewSession {
            agent: "plain".into(),
            principal: "alice".into(),
        };
        let append = Append::new(tenant, ambit_types::SessionId::new())
            .open(session)
            .durable()
            .event(NewEvent::new("request", Header::default(), vec![b'x'; 200]))
            .event(NewEvent::new("suspend", Header::default(), Vec::new()))
            .state_because(SessionState::Suspended, "message");
        store.journal().append(append).await.unwrap();
    };
    futures::stream::iter((0..WAITING).map(append))
        .buffer_unordered(512)
        .for_each(|()| std::future::ready(()))
        .await;
    store.close().await;

    let ambit = installation.serve().await;
    let after = measure(&ambit).await;
    ambit_scenarios::say(&format!(
        "{WAITING} waiting sessions: {before} KiB of memory before, {after} KiB after"
    ));
    // Starts differ by some hundreds. What is kept for each would be several times this.
    assert!(after < before + 4096, "{before} KiB, {after} KiB");
}

/// Two nodes over one database: one is killed, one is stopped, and each time the other goes on; either ends what the other works on.
#[tokio::test(flavor = "multi_thread")]
async fn another_node_goes_on_with_the_sessions_of_one_that_is_gone() {
    use ambit_store::testing;
    let Some(server) = testing::server().await else {
        return;
    };
    let Some(binary) = binary() else { return };
    let database = server.create_database().await.unwrap();
    let master_key = "5a".repeat(32);
    let environment = [
        ("APP", database.app.expose()),
        ("OPERATOR", database.operator.expose()),
        ("OWNER", database.owner.as_ref().unwrap().expose()),
        ("MASTER", master_key.as_str()),
    ];
    let hanging = || Script::default().with_fault(Fault::HangAfter(0));
    let mock = Mock::start(hanging()).await.unwrap();
    let configuration = format!(
        "listen.ops = \"127.0.0.1:0\"\nlimits.drain_seconds = 1\n\
         [database]\nkind = \"postgres\"\napp = {{ env = \"APP\" }}\noperator = {{ env = \"OPERATOR\" }}\nowner = {{ env = \"OWNER\" }}\n\
         [journal]\nmaster_key = {{ env = \"MASTER\" }}\n[anchors]\nkey = {{ env = \"MASTER\" }}\n\
         [providers.paid]\nurl = \"{}\"\n",
        mock.url()
    );
    let node = async || {
        Ambit::serve_new(&binary, &configuration, &environment)
            .await
            .unwrap()
    };
    let first = node().await;
    let acme = with_agent(&first).await;
    let (mut second, mut third) = (node().await, node().await);

    let asked = async |times: u64| {
        until("the model is asked", async || {
            mock.stats().requests == times
        })
        .await;
    };
    let killed = open(&second, &acme, "Hello?").await;
    let stopped = open(&third, &acme, "Hello?").await;
    asked(2).await;
    // Ended from another node than the one that works on it.
    let ended = open(&second, &acme, "Never mind.").await;
    asked(3).await;
    let path = format!("/sessions/{ended}/cancel");
    assert_eq!(post(&first, &acme, &path, json!({})).await.0, 202);
    wait(&first, &acme, &ended, "cancelled").await;
    mock.follow(Script::text("I have it."));
    third.signal(Signal::Terminate).await.unwrap();
    second.signal(Signal::Kill).await.unwrap();
    third.ended().await.unwrap();
    second.ended().await.unwrap();
    for (id, is_unknown) in [(stopped, false), (killed, true)] {
        let session = wait(&first, &acme, &id, "suspended").await;
        assert_eq!(session["answer"], "I have it.", "{session}");
        let events = first.events(&acme, &id).await.unwrap();
        let unknown = events
            .iter()
            .any(|event| event["header"]["facts"]["code"] == "unknown");
        assert_eq!(unknown, is_unknown);
        first.session(&acme, &id).await.unwrap();
    }
}
