//! Kill -9 at every write to a file, every commit and every effect of a session, one after another, and at random moments under load: no
//! effect outside happens twice, nothing that was accepted is lost, every chain holds, and every account.

use ambit_mock_provider::{Call, Mock, Reply, Script};
use ambit_scenarios::{Ambit, NewComponent, Signal, Tenant, binary, guest, say, until};
use futures::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

/// Points tried at the same time.
const AT_ONCE: usize = 3;

/// Where each call of the script is seen, and whether it may be seen once only.
const EFFECTS: [(&str, bool); 6] = [
    ("/a", true),
    ("/b", false),
    ("/c", true),
    ("/d", false),
    ("/e", true),
    ("/f", true),
];

const PRICES: &str = r#"price = [{ provider = "paid", model = "mock-*", effective_from = 2020-01-01, input = "0", output = "1000" }]"#;

/// Where effects are seen: how often each came, by its path and idempotency key.
#[derive(Clone, Default)]
pub(crate) struct Outside(Arc<Mutex<HashMap<(String, String), u32>>>);

impl Outside {
    pub(crate) async fn start() -> (Self, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let outside = Self::default();
        let seen = outside.clone();
        #[allow(clippy::disallowed_methods, reason = "ends with the test")]
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let seen = seen.clone();
                #[allow(clippy::disallowed_methods, reason = "ends with its connection")]
                tokio::spawn(async move {
                    let mut head = Vec::new();
                    // Who is killed in the middle of asking has asked for nothing.
                    while !head.ends_with(b"\r\n\r\n") && !head.windows(4).any(|w| w == b"\r\n\r\n")
                    {
                        match socket.read_buf(&mut head).await {
                            Ok(read) if read > 0 => {}
                            _ => return,
                        }
                    }
                    let head = String::from_utf8_lossy(&head).to_lowercase();
                    let path = head
                        .split_whitespace()
                        .nth(1)
                        .unwrap_or_default()
                        .to_owned();
                    let key = head.split("idempotency-key: ").nth(1);
                    let key = key.and_then(|rest| rest.split("\r\n").next());
                    let key = key.unwrap_or_default().to_owned();
                    *seen.0.lock().unwrap().entry((path, key)).or_default() += 1;
                    let answer =
                        "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
                    let _ = socket.write_all(answer.as_bytes()).await;
                });
            }
        });
        (outside, address)
    }

    /// Of a session: how often each path came, and under how many keys.
    pub(crate) fn of(&self, session: &str) -> HashMap<String, (u32, u32)> {
        let mut of = HashMap::new();
        for ((path, key), count) in &*self.0.lock().unwrap() {
            if key.starts_with(session) {
                let (times, keys) = of.entry(path.clone()).or_insert((0, 0));
                *times += count;
                *keys += 1;
            }
        }
        of
    }
}

/// Everything that servers started one after another share.
pub(crate) struct World {
    pub(crate) binary: PathBuf,
    template: tempfile::TempDir,
    configuration: String,
    pub(crate) outside: Outside,
    pub(crate) tenant: Tenant,
    pub(crate) mock: Mock,
    /// Whose sessions are opened: `payer`, or `lead`, who asks that one.
    agent: &'static str,
}

impl World {
    /// An installation whose agent `payer` calls two tools at once, then one, and so on, and then answers with what they said.
    pub(crate) async fn new() -> Option<Self> {
        Self::of(&[
            &[("pay", "a"), ("put", "b")],
            &[("pay", "c")],
            &[("put", "d"), ("pay", "e")],
            &[("pay", "f")],
        ])
        .await
    }

    /// With these rounds of calls, each of a tool and a name.
    async fn of(rounds: &[&[(&str, &str)]]) -> Option<Self> {
        Self::asked("payer", rounds).await
    }

    async fn asked(agent: &'static str, rounds: &[&[(&str, &str)]]) -> Option<Self> {
        let binary = binary()?;
        let (outside, authority) = Outside::start().await;
        let call = |(tool, name): &(&str, &str)| {
            let arguments = json!({ "authority": authority, "name": name });
            Call::new(*tool, arguments.to_string())
        };
        let round = |calls: &&[(&str, &str)]| calls.iter().map(call).collect();
        let rounds = rounds.iter().map(round).collect();
        let question = json!({ "input": "Pay them." });
        let question = Call::new("ask_payer", question.to_string());
        let script = Script::models([
            ("mock-1", Reply::ToolsThenTell(rounds)),
            ("mock-2", Reply::ToolsThenTell(vec![vec![question]])),
        ]);
        let mock = Mock::start(script).await.unwrap();
        let template = tempfile::tempdir().unwrap();
        let prices = template.path().join("prices.toml");
        std::fs::write(&prices, PRICES).unwrap();
        // Nothing but the session writes while points are counted.
        let configuration = format!(
            "ledger.prices = {prices:?}\nanchors.interval_seconds = 3600\n[rate]\nunlimited = true\n[providers.paid]\nurl = \"{}\"\n",
            mock.url()
        );
        let data = template.path().join("data");
        let mut ambit = Ambit::serve_in(&binary, &data, &configuration, &[])
            .await
            .unwrap();
        let tenant = ambit.new_tenant("acme").await.unwrap();
        let grant = json!({ "models": ["paid/*"], "collections": ["read:*"] });
        ambit
            .put("/grants/ambit:agent-assistant", &grant)
            .await
            .unwrap();
        install_poster(&ambit, &authority).await;
        let payer = json!({ "name": "payer", "model": "paid/mock-1", "models": ["paid/mock-2"], "tools": ["hostile:poster"] });
        ambit.apply(&tenant, &payer).await.unwrap();
        let lead = json!({ "name": "lead", "model": "paid/mock-2", "models": ["paid/mock-1"], "tools": ["hostile:poster"], "agents": ["payer"] });
        ambit.apply(&tenant, &lead).await.unwrap();
        let budget = json!({ "scope": "tenant", "period": "none", "limit": "1000000" });
        ambit.put("/tenants/acme/budgets", &budget).await.unwrap();
        ambit.signal(Signal::Terminate).await.unwrap();
        assert!(ambit.ended().await.unwrap().success());
        Some(Self {
            binary,
            template,
            configuration,
            outside,
            tenant,
            mock,
            agent,
        })
    }

    /// The session that has the effects: what was opened, or the one session that it started, which it has the answer of.
    async fn at_work(&self, ambit: &Ambit, id: &str, point: &str) -> String {
        if self.agent == "payer" {
            return id.to_owned();
        }
        let listed = ambit.get("/tenants/acme/sessions").await.unwrap();
        let listed = listed["data"].as_array().unwrap().iter();
        let children: Vec<_> = listed.filter(|one| one["parent"] == id).collect();
        let [child] = &children[..] else {
            panic!("{point}: {children:?}")
        };
        assert_eq!(child["state"], "finished", "{point}: {child}");
        let child = child["id"].as_str().unwrap();
        let events = ambit.events(&self.tenant, id).await.unwrap();
        let results = events.iter().filter(|event| {
            event["kind"] == "outcome" && event["header"]["facts"]["effect"] == "tools"
        });
        let results: Vec<_> = results.map(|event| &event["body"]).collect();
        let [told] = &results[..] else {
            panic!("{point}: {results:?}")
        };
        assert_eq!(told[0]["code"], "ok", "{point}: {told}");
        ambit.session(&self.tenant, child).await.unwrap();
        child.to_owned()
    }

    /// A copy of the installation. What is never written again is linked.
    pub(crate) fn copy(&self) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        copy(
            &self.template.path().join("data"),
            &folder.path().join("data"),
            false,
        );
        folder
    }

    pub(crate) async fn serve(&self, folder: &Path, environment: &[(&str, &str)]) -> Ambit {
        let data = folder.join("data");
        Ambit::serve_in(&self.binary, &data, &self.configuration, environment)
            .await
            .unwrap()
    }

    /// Asks for the session; its id, where anybody answers.
    pub(crate) async fn open(&self, ambit: &Ambit, key: &str) -> Option<String> {
        let body = json!({ "agent": self.agent, "input": "Pay them." });
        let request = ambit
            .request(Method::POST, &self.tenant, "/sessions")
            .json(&body);
        let response = request.header("idempotency-key", key).send().await.ok()?;
        assert!(response.status().is_success(), "{}", response.status());
        let session: Value = response.json().await.ok()?;
        Some(session["id"].as_str().unwrap().to_owned())
    }

    /// The session once it has answered; None when the server is gone before.
    pub(crate) async fn answered(&self, ambit: &mut Ambit, id: &str) -> Option<Value> {
        let path = format!("/sessions/{id}");
        for _ in 0..3000 {
            if ambit.is_gone() {
                return None;
            }
            if let Ok(response) = ambit.request(Method::GET, &self.tenant, &path).send().await
                && let Ok(session) = response.json::<Value>().await
                && session["state"] == "suspended"
            {
                if !["approval", "child"].contains(&session["reason"].as_str().unwrap()) {
                    return Some(session);
                }
                // What is decided already, or by a server that is gone, is seen the next time.
                let pending = ambit.get("/approvals").await.unwrap_or_default();
                for approval in pending["data"].as_array().into_iter().flatten() {
                    let path = format!("/approvals/{}/approve", approval["id"].as_str().unwrap());
                    let _ = ambit.admin(Method::POST, &path, "").await;
                }
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{id} does not come to an end");
    }

    /// What must hold of a session that has answered, however often its server was killed. Whether an outcome was unknown.
    async fn check(
        &self,
        ambit: &Ambit,
        session: &Value,
        effects: &[(&str, bool)],
        point: &str,
    ) -> bool {
        let id = session["id"].as_str().unwrap();
        assert_eq!(session["reason"], "message", "{point}: {session}");
        // Its chain holds, or this fails.
        let (.., kinds) = ambit.session(&self.tenant, id).await.unwrap();
        assert_eq!(kinds.last().unwrap(), "suspend", "{point}");
        let id = &self.at_work(ambit, id, point).await;
        let events = ambit.events(&self.tenant, id).await.unwrap();
        let results = events.iter().filter(|event| {
            event["kind"] == "outcome" && event["header"]["facts"]["effect"] == "tools"
        });
        let results: Vec<_> = results
            .flat_map(|event| event["body"].as_array().unwrap().clone())
            .collect();
        assert_eq!(results.len(), effects.len(), "{point}: {results:?}");
        let seen = self.outside.of(id);
        let mut unknown = false;
        for (result, &(path, once)) in results.iter().zip(effects) {
            let (times, keys) = seen.get(path).copied().unwrap_or_default();
            match result["code"].as_str().unwrap() {
                // The model was told that it was done: then it was.
                "ok" => assert!(times >= 1, "{point}: {path} was never seen"),
                "unknown" => unknown = true,
                code => panic!("{point}: {code}: {result}"),
            }
            assert!(keys <= 1, "{point}: {path} came under {keys} keys");
            assert!(
                !once || times <= 1,
                "{point}: {path} happened {times} times"
            );
        }
        let check = ambit.get("/tenants/acme/costs/check").await.unwrap();
        assert_eq!(check["holds"], true, "{point}: {check}");
        unknown
    }

    /// Nothing is held back for a call that is over.
    async fn check_budget(&self, ambit: &Ambit, point: &str) {
        let budgets = ambit.get("/tenants/acme/budgets").await.unwrap();
        assert_eq!(budgets["data"][0]["held"], "0", "{point}: {budgets}");
    }
}

/// The tools `pay`, `put` and `wire`, which have effects at this authority.
pub(crate) async fn install_poster(ambit: &Ambit, authority: &str) {
    let origin = format!("http://{authority}");
    let tables = format!("[[permissions.http]]\norigin = \"{origin}\"\nmethods = [\"POST\"]\n");
    let component =
        NewComponent::new("hostile:poster", "tool", guest("poster").unwrap()).tables(&tables);
    ambit.install(&component).await.unwrap();
    let grant = json!({ "http": [{ "origin": origin, "methods": ["POST"] }] });
    let granted = ambit.put("/grants/hostile:poster", &grant).await.unwrap();
    assert_eq!(granted["missing"], json!([]));
    let slot = json!({ "component": "hostile:poster" });
    ambit
        .put("/slots/tool/hostile:poster", &slot)
        .await
        .unwrap();
}

pub(crate) fn copy(from: &Path, to: &Path, link: bool) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        let link = link
            || ["cache", "components"]
                .iter()
                .any(|name| entry.file_name() == *name);
        match entry.file_type().unwrap() {
            kind if kind.is_dir() => copy(&from, &to, link),
            _ if link => std::fs::hard_link(&from, &to).unwrap(),
            _ => drop(std::fs::copy(&from, &to).unwrap()),
        }
    }
}

/// Kills the server at its n-th boundary. Whether it came so far, and whether an outcome was unknown.
async fn killed_at(
    world: &World,
    library: &str,
    effects: &[(&str, bool)],
    n: usize,
) -> (bool, bool) {
    let point = format!("killed at boundary {n}");
    let folder = world.copy();
    let armed = folder.path().join("armed");
    let environment = [
        ("LD_PRELOAD", library),
        ("AMBIT_CRASH", armed.to_str().unwrap()),
    ];
    let mut ambit = world.serve(folder.path(), &environment).await;
    std::fs::write(&armed, n.to_string()).unwrap();
    let accepted = world.open(&ambit, "once").await;
    if let Some(id) = &accepted
        && let Some(session) = world.answered(&mut ambit, id).await
    {
        world.check(&ambit, &session, effects, &point).await;
        return (false, false);
    }
    // The client that heard nothing would try again; here the server is gone.
    until("the server is gone", async || ambit.is_gone()).await;
    let mut ambit = world.serve(folder.path(), &[]).await;
    let id = world.open(&ambit, "once").await.unwrap();
    assert!(
        accepted.is_none_or(|accepted| accepted == id),
        "{point}: another session"
    );
    let session = world.answered(&mut ambit, &id).await.unwrap();
    let unknown = world.check(&ambit, &session, effects, &point).await;
    world.check_budget(&ambit, &point).await;
    (true, unknown)
}

/// Kills at every boundary, one after another; how many there were, and how often an outcome was unknown.
async fn killed_everywhere(world: &World, effects: &[(&str, bool)]) -> (usize, usize) {
    let library = world.binary.with_file_name("libambit_crash.so");
    assert!(
        library.is_file(),
        "{}: `cargo xtask build` makes it",
        library.display()
    );
    let library = library.to_str().unwrap();
    let (next, unknown) = (AtomicUsize::new(1), AtomicUsize::new(0));
    let points = join_all((0..AT_ONCE).map(async |_| {
        loop {
            let n = next.fetch_add(1, Ordering::SeqCst);
            let (killed, was_unknown) = killed_at(world, library, effects, n).await;
            unknown.fetch_add(usize::from(was_unknown), Ordering::SeqCst);
            if !killed {
                return n;
            }
        }
    }))
    .await;
    (points.iter().min().unwrap() - 1, unknown.into_inner())
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_every_boundary_nothing_happens_twice_and_nothing_is_lost() {
    let Some(world) = World::new().await else {
        return;
    };
    let (killed, unknown) = killed_everywhere(&world, &EFFECTS).await;
    say(&format!(
        "killed at {killed} boundaries of one session: no effect twice, nothing lost; {unknown} times an outcome was unknown"
    ));
    assert!(killed > 150 && unknown > 0, "{killed}, {unknown}");
}

/// What cannot be undone, and is approved of as soon as it is asked for: between the approval and its end too.
#[tokio::test(flavor = "multi_thread")]
async fn killed_at_every_boundary_what_was_approved_of_happens_once() {
    let Some(world) = World::of(&[
        &[("wire", "a"), ("put", "b")],
        &[("wire", "c"), ("send", "d")],
    ])
    .await
    else {
        return;
    };
    let effects = [("/a", true), ("/b", false), ("/c", true), ("/d", false)];
    let (killed, unknown) = killed_everywhere(&world, &effects).await;
    say(&format!(
        "killed at {killed} boundaries of one session that waits for approvals: nothing twice that cannot be undone, nothing lost; {unknown} times an outcome was unknown"
    ));
    assert!(killed > 80 && unknown > 0, "{killed}, {unknown}");
}

/// An agent that asks another one, which needs an approval on the way: of both sessions, and between them.
#[tokio::test(flavor = "multi_thread")]
async fn killed_at_every_boundary_who_is_asked_is_asked_once() {
    let Some(world) = World::asked("lead", &[&[("pay", "a")], &[("wire", "b")]]).await else {
        return;
    };
    let (killed, unknown) = killed_everywhere(&world, &[("/a", true), ("/b", true)]).await;
    say(&format!(
        "killed at {killed} boundaries of a session and one that it started: nobody asked twice, no effect twice, nothing lost; {unknown} times an outcome was unknown"
    ));
    assert!(killed > 120 && unknown > 0, "{killed}, {unknown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_random_under_load_nothing_happens_twice_and_nothing_is_lost() {
    const ROUNDS: usize = 6;
    const SESSIONS: usize = 24;
    let Some(world) = World::new().await else {
        return;
    };
    let folder = world.copy();
    let mut accepted: HashMap<String, String> = HashMap::new();
    let mut ambit = world.serve(folder.path(), &[]).await;
    for round in 0..ROUNDS {
        let keys: Vec<_> = (0..SESSIONS).map(|n| format!("{round}-{n}")).collect();
        let heard = AtomicUsize::new(0);
        let opened = join_all(keys.iter().map(async |key| {
            let id = world.open(&ambit, key).await;
            heard.fetch_add(usize::from(id.is_some()), Ordering::SeqCst);
            id
        }));
        // When some are accepted, and each time more of them: different moments of their lives, whatever the machine.
        let kill = async {
            until("some are accepted", async || {
                heard.load(Ordering::SeqCst) > 3 * round
            })
            .await;
            ambit.signal(Signal::Kill).await.unwrap();
        };
        let (opened, ()) = tokio::join!(opened, kill);
        for (key, id) in keys.into_iter().zip(opened) {
            accepted.extend(id.map(|id| (key, id)));
        }
        until("the server is gone", async || ambit.is_gone()).await;
        ambit = world.serve(folder.path(), &[]).await;
    }
    let (mut unknown, mut first, mut recovered) = (0, 0, 0);
    for round in 0..ROUNDS {
        for n in 0..SESSIONS {
            let key = format!("{round}-{n}");
            let id = world.open(&ambit, &key).await.unwrap();
            let known = accepted.get(&key);
            assert!(
                known.is_none_or(|known| *known == id),
                "{key}: another session"
            );
            first += usize::from(known.is_some());
            let session = world.answered(&mut ambit, &id).await.unwrap();
            unknown += usize::from(world.check(&ambit, &session, &EFFECTS, &key).await);
            let (.., kinds) = ambit.session(&world.tenant, &id).await.unwrap();
            recovered += usize::from(kinds.iter().any(|kind| kind == "resume"));
        }
    }
    world.check_budget(&ambit, "at the end").await;
    say(&format!(
        "killed {ROUNDS} times under load: {first} of {} sessions were accepted before, {recovered} were gone on with, all have answered, no effect twice; {unknown} times an outcome was unknown",
        ROUNDS * SESSIONS
    ));
    assert!(first > 0 && recovered > 0, "{first}, {recovered}");
}
