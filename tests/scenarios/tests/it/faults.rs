//! A machine that is not well: a clock that is set back, and forth again, and a disk that is full.

use super::sessions::{get, open, post, wait, with_agent};
use ambit_mock_provider::{Mock, Script};
use ambit_scenarios::{Ambit, Signal, Tenant, binary, until};
use reqwest::Method;
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};
use tempfile::TempDir;

const DAY: i64 = 24 * 3600;

const PRICES: &str = r#"price = [{ provider = "paid", model = "mock-*", effective_from = 2020-01-01, input = "0", output = "1000" }]"#;

/// An installation on a machine whose clock and disk can be told otherwise.
struct Machine {
    binary: PathBuf,
    folder: TempDir,
    mock: Mock,
}

impl Machine {
    async fn new() -> Option<Self> {
        let binary = binary()?;
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("prices.toml"), PRICES).unwrap();
        let mock = Mock::start(Script::text("Good day.")).await.unwrap();
        Some(Self {
            binary,
            folder,
            mock,
        })
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn set_back(&self, seconds: i64) {
        std::fs::write(self.file("behind"), seconds.to_string()).unwrap();
    }

    async fn serve(&self) -> Ambit {
        let library = self.binary.with_file_name("libambit_crash.so");
        assert!(
            library.is_file(),
            "{}: `cargo xtask build` makes it",
            library.display()
        );
        let (behind, full) = (self.file("behind"), self.file("full"));
        let environment = [
            ("LD_PRELOAD", library.to_str().unwrap()),
            ("AMBIT_BEHIND", behind.to_str().unwrap()),
            ("AMBIT_FULL", full.to_str().unwrap()),
        ];
        let configuration = format!(
            "ledger.prices = {:?}\nanchors.interval_seconds = 1\n[rate]\nunlimited = true\n[providers.paid]\nurl = \"{}\"\n",
            self.file("prices.toml"),
            self.mock.url()
        );
        let data = self.file("data");
        Ambit::serve_in(&self.binary, &data, &configuration, &environment)
            .await
            .unwrap()
    }

    /// That everything is proven, money is accounted for, and there are so many sessions.
    async fn holds(&self, ambit: &Ambit, sessions: usize) {
        let arguments = ["audit", "verify", "--format", "json"];
        let verified = Ambit::command(&self.binary, ambit.data(), arguments)
            .await
            .unwrap();
        let told = String::from_utf8_lossy(&verified.stderr);
        assert!(verified.status.success(), "{told}");
        let report: Value = serde_json::from_slice(&verified.stdout).unwrap();
        assert_eq!(report[0]["sessions"], sessions, "{report}");
        assert_eq!(
            (&report[0]["complete"], &report[0]["anchors_checked"]),
            (&json!(true), &json!(true)),
            "{report}"
        );
        let check = ambit.get("/tenants/acme/costs/check").await.unwrap();
        assert_eq!(check["holds"], true, "{check}");
    }
}

async fn ask(ambit: &Ambit, tenant: &Tenant) -> String {
    let body =
        json!({ "model": "plain", "messages": [{ "role": "user", "content": "Hello there." }] });
    let answer = ambit.ask(tenant, &body).await.unwrap();
    assert!(answer.is_good(), "{}", answer.body);
    answer.session.unwrap()
}

/// Goes on with a session, and waits until it has answered as often.
async fn say(ambit: &Ambit, tenant: &Tenant, id: &str, answers: usize) {
    let path = format!("/sessions/{id}/messages");
    let (status, told) = post(ambit, tenant, &path, json!({ "input": "Again?" })).await;
    assert_eq!(status, 202, "{told}");
    until("the answer", async || {
        let (.., kinds) = ambit.session(tenant, id).await.unwrap();
        let answered = kinds.iter().filter(|kind| *kind == "answer").count();
        answered == answers && kinds.last().is_some_and(|kind| kind == "suspend")
    })
    .await;
}

/// Every session, one to a page.
async fn paged(page: impl AsyncFn(&str) -> Value) -> Vec<String> {
    let mut ids = Vec::new();
    let mut before = String::new();
    loop {
        let listed = page(&before).await;
        let Some(id) = listed["data"][0]["id"].as_str() else {
            return ids;
        };
        ids.push(id.to_owned());
        before = format!("&before={id}");
    }
}

/// Two days back, killed there, begun again there, and forth again: nothing is lost, and all of it is proven.
#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_jumps_back_and_forth_loses_nothing() {
    let Some(machine) = Machine::new().await else {
        return;
    };
    let mut ambit = machine.serve().await;
    let acme = with_agent(&ambit).await;
    let budget = json!({ "scope": "tenant", "period": "day", "limit": "100000" });
    ambit.put("/tenants/acme/budgets", &budget).await.unwrap();
    let token = ambit.post(&acme, "/tokens", &json!({})).await.unwrap();
    let token: Value = token.json().await.unwrap();
    let holder = Tenant {
        api_key: token["token"].as_str().unwrap().to_owned(),
        ..acme.clone()
    };
    let (mut durable, mut all) = (BTreeSet::new(), BTreeSet::new());
    let first = open(&ambit, &acme, "Hello?").await;
    wait(&ambit, &acme, &first, "suspended").await;
    all.insert(ask(&ambit, &acme).await);
    all.insert(ask(&ambit, &holder).await);
    machine.holds(&ambit, 3).await;

    machine.set_back(2 * DAY);
    say(&ambit, &acme, &first, 2).await;
    let second = open(&ambit, &acme, "Hello?").await;
    wait(&ambit, &acme, &second, "suspended").await;
    all.insert(ask(&ambit, &acme).await);
    // What begins in two days is not good yet.
    let early = get(&ambit, &holder, "/models").await;
    assert_eq!(early.0, 401, "{}", early.1);
    machine.holds(&ambit, 5).await;

    // The next process knows of no other time.
    ambit.signal(Signal::Kill).await.unwrap();
    ambit.ended().await.unwrap();
    let mut ambit = machine.serve().await;
    say(&ambit, &acme, &first, 3).await;
    say(&ambit, &acme, &second, 2).await;
    let third = open(&ambit, &acme, "Hello?").await;
    wait(&ambit, &acme, &third, "suspended").await;
    machine.holds(&ambit, 6).await;

    // Killed again, perhaps before the last is anchored, and put right before the next begins.
    all.insert(ask(&ambit, &acme).await);
    ambit.signal(Signal::Kill).await.unwrap();
    ambit.ended().await.unwrap();
    machine.set_back(0);
    let ambit = machine.serve().await;
    machine.holds(&ambit, 7).await;
    say(&ambit, &acme, &third, 2).await;
    let fourth = open(&ambit, &acme, "Hello?").await;
    wait(&ambit, &acme, &fourth, "suspended").await;
    all.insert(ask(&ambit, &holder).await);
    machine.holds(&ambit, 9).await;

    // The time went back, and what is recorded says so; order and chain are as they were.
    let events = ambit.events(&acme, &first).await.unwrap();
    let times: Vec<_> = events
        .iter()
        .map(|event| event["time_ms"].as_i64().unwrap())
        .collect();
    assert!(
        times.windows(2).any(|two| two[1] < two[0] - 1900 * DAY),
        "{times:?}"
    );
    let order = events.iter().map(|event| event["seq"].as_i64().unwrap());
    assert!(order.eq(1..=i64::try_from(events.len()).unwrap()));

    // Whoever turns pages finds each of them once.
    durable.extend([first, second, third, fourth]);
    all.extend(durable.clone());
    assert_eq!((durable.len(), all.len()), (4, 9));
    let found = paged(async |before| {
        let path = format!("/sessions?limit=1{before}");
        get(&ambit, &acme, &path).await.1
    });
    let found = found.await;
    assert_eq!(found.len(), 4);
    assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), durable);
    let found = paged(async |before| {
        let path = format!("/tenants/acme/sessions?limit=1{before}");
        ambit.get(&path).await.unwrap()
    });
    let found = found.await;
    assert_eq!(found.len(), 9);
    assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), all);

    // The window that was left is the window that is found again: nothing was spent twice, nothing is free.
    let budgets = ambit.get("/tenants/acme/budgets").await.unwrap();
    let costs = ambit.get("/tenants/acme/costs/check").await.unwrap();
    let budget = &budgets["data"][0];
    assert_eq!(
        (&budget["spent"], &budget["held"]),
        (&costs["cost"], &json!("0")),
        "{budgets}"
    );
}

/// While nothing can be written nothing is begun, and what was is there.
#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_is_full_loses_nothing() {
    let Some(machine) = Machine::new().await else {
        return;
    };
    let ambit = machine.serve().await;
    let acme = with_agent(&ambit).await;
    let first = open(&ambit, &acme, "Hello?").await;
    wait(&ambit, &acme, &first, "suspended").await;
    ask(&ambit, &acme).await;
    let asked = machine.mock.stats().requests;

    std::fs::write(machine.file("full"), "").unwrap();
    let create = async || {
        let body = json!({ "agent": "plain", "input": "Hello?" });
        let request = ambit.request(Method::POST, &acme, "/sessions").json(&body);
        let request = request.header("idempotency-key", "once").send();
        request.await.unwrap()
    };
    let chat =
        json!({ "model": "plain", "messages": [{ "role": "user", "content": "Hello there." }] });
    let again = json!({ "input": "Again?" });
    let messages = format!("/sessions/{first}/messages");
    for answer in [
        create().await,
        ambit.post(&acme, "/chat/completions", &chat).await.unwrap(),
        ambit.post(&acme, &messages, &again).await.unwrap(),
        create().await,
    ] {
        assert_eq!(answer.status(), 503);
        assert!(answer.headers().contains_key("retry-after"));
        let told: Value = answer.json().await.unwrap();
        assert_eq!(told["error"]["code"], "unavailable", "{told}");
    }
    assert_eq!(machine.mock.stats().requests, asked, "nobody was asked");
    let (status, kept) = get(&ambit, &acme, &format!("/sessions/{first}")).await;
    assert_eq!(
        (status.as_u16(), &kept["answer"]),
        (200, &json!("Good day."))
    );

    // There is room again: the same process goes on.
    std::fs::remove_file(machine.file("full")).unwrap();
    until("it is written again", async || {
        create().await.status().is_success()
    })
    .await;
    let created: Value = create().await.json().await.unwrap();
    let second = created["id"].as_str().unwrap();
    wait(&ambit, &acme, second, "suspended").await;
    say(&ambit, &acme, &first, 2).await;
    ask(&ambit, &acme).await;
    let listed = get(&ambit, &acme, "/sessions").await.1;
    assert_eq!(listed["data"].as_array().unwrap().len(), 2, "{listed}");
    machine.holds(&ambit, 4).await;
    let log = std::fs::read_to_string(Path::new(ambit.data()).join("log")).unwrap();
    assert!(
        log.contains("the database is full"),
        "the log has the cause"
    );
}
