//! One tenant's components misbehave as hard as they can, all of them at once and driven flat out through HTTP; the other tenant's requests are
//! all answered, the host stays within its memory, and the first hears typed errors that give nothing away.

use ambit_mock_provider::{Call, Mock, Reply, Script};
use ambit_scenarios::{Ambit, Answer, NewComponent, Tenant, binary, guest, say};
use reqwest::Method;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

/// Requests of the hostile tenant at the same time, and of the other.
const HOSTILE: usize = 12;
const CALM: usize = 4;
/// Requests of the other tenant, all of which must be answered.
const ANSWERED: usize = 240;
/// What the hostile tenant may add to the host's memory: its calls at once, each at its limit, twice over.
const MEMORY: u64 = 2 * HOSTILE as u64 * (32 << 20);

const LIMITS: &str = "[limits]\nmemory = \"32MiB\"\ncpu = \"50ms\"\ndeadline = \"1s\"\n";
/// Stands in a panic's message, which only the log may have.
const SECRET: &str = "the-instructions-of-this-agent";

/// Guests, and the stable code their call ends with: in the answer of an agent, in the journal's outcome of a tool.
const AGENTS: [(&str, &str); 11] = [
    ("tight_loop", "limit_exceeded"),
    ("host_call_loop", "limit_exceeded"),
    ("huge_initial", "limit_exceeded"),
    ("start_trap", "internal_error"),
    ("deep_recursion", "limit_exceeded"),
    ("memory_hog", "limit_exceeded"),
    ("log_flood", "limit_exceeded"),
    ("oversize_result", "limit_exceeded"),
    ("huge_list", "limit_exceeded"),
    ("handle_hoard", "limit_exceeded"),
    ("panicker", "internal_error"),
];
const TOOLS: [(&str, &str); 15] = [
    ("tight_loop", "limit"),
    ("host_call_loop", "limit"),
    ("wait_then_spin", "limit"),
    ("many_memories.wat", "limit"),
    ("table_growth.wat", "limit"),
    ("fat_handles", "limit"),
    ("deep_recursion", "limit"),
    ("memory_hog", "limit"),
    ("log_flood", "limit"),
    ("oversize_result", "limit"),
    ("handle_hoard", "limit"),
    ("sleeper", "timeout"),
    ("slow_drip", "timeout"),
    ("connection_hoard", "ok"),
    ("panicker", "unavailable"),
];

/// Tools that cannot say what they are, so that nothing is ever bound to them.
const MUTE: [&str; 3] = ["huge_list", "huge_initial", "start_trap"];

/// Sends the head of an answer and then a byte now and then, to everybody.
async fn drip() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    #[allow(clippy::disallowed_methods, reason = "ends with the test")]
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let _ = socket.read(&mut [0; 4096]).await;
                let head = "HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n";
                let mut going = socket.write_all(head.as_bytes()).await.is_ok();
                while going {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    going = socket.write_all(b".").await.is_ok();
                }
            });
        }
    });
    address
}

/// The agent that sets a guest loose.
fn agent_of(guest: &str, kind: &str) -> String {
    format!(
        "{}-{kind}",
        guest.trim_end_matches(".wat").replace('_', "-")
    )
}

fn named(guest: &str, kind: &str) -> String {
    format!("hostile:{}", agent_of(guest, kind))
}

/// Installs every guest for the tenant; the names of the agents that set them loose.
async fn prepare(
    ambit: &Ambit,
    tenant: &Tenant,
    address: &str,
) -> Vec<(String, &'static str, &'static str)> {
    let mut agents = Vec::new();
    for (guests, kind) in [(&AGENTS[..], "agent"), (&TOOLS[..], "tool")] {
        for (name, code) in guests {
            let component = named(name, kind);
            let mut new = NewComponent::new(&component, kind, guest(name).unwrap());
            if kind == "tool" {
                let rule = json!({"origin": format!("http://{address}"), "methods": ["GET"]});
                new = new
                    .tables(&format!(
                        "[[permissions.http]]\norigin = \"http://{address}\"\nmethods = [\"GET\"]\n"
                    ))
                    .granted(json!({ "http": [rule] }));
            }
            let digest = ambit.install(&new.tables(LIMITS)).await.unwrap();
            ambit
                .bind(tenant, &format!("{kind}/{component}"), &digest)
                .await
                .unwrap();
            let agent = agent_of(name, kind);
            let mut definition =
                json!({"name": agent, "model": "openai/calls", "instructions": SECRET});
            match kind {
                "agent" => definition["component"] = component.into(),
                _ => definition["tools"] = json!([component]),
            }
            ambit.apply(tenant, &definition).await.unwrap();
            agents.push((agent, kind, *code));
        }
    }
    agents
}

fn question(model: &str, stream: bool) -> Value {
    json!({"model": model, "stream": stream, "messages": [{"role": "user", "content": "Hello?"}]})
}

/// The code of a session's last tool call.
async fn outcome(ambit: &Ambit, tenant: &Tenant, session: &str) -> String {
    let path = format!("/tenants/{}/sessions/{session}/events", tenant.slug);
    let events = ambit.get(&path).await.unwrap();
    let outcomes = events["data"].as_array().unwrap().iter();
    let code = outcomes
        .filter(|event| event["header"]["facts"]["effect"] == "tools")
        .find_map(|event| event["body"][0]["code"].as_str());
    code.unwrap_or_default().to_owned()
}

/// No answer says what is inside or beside.
fn gives_nothing_away(answer: &Answer) {
    let body = answer.body.to_lowercase();
    for word in [
        "wasm",
        "trap",
        "panicked",
        "unreachable",
        "backtrace",
        "/tmp",
        "/work",
        "globex",
        "cargo",
        ".rs:",
        SECRET,
    ] {
        assert!(!body.contains(word), "`{word}` in {body}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_tenant_hurts_only_itself() {
    let Some(binary) = binary() else { return };
    let address = drip().await;
    let call = Call::new("misbehave", json!({ "argument": address }).to_string());
    let mut script = Script::models([
        (
            "calls",
            Reply::ToolsThenText {
                calls: vec![call],
                text: "The tool was asked.".into(),
            },
        ),
        ("calm", Reply::Text("All is well with this tenant.".into())),
    ]);
    script.record = false;
    let mock = Mock::start(script).await.unwrap();
    let ambit = Ambit::up(&binary, Some(&mock.url())).await.unwrap();
    let (acme, globex) = (ambit.tenant("acme"), ambit.tenant("globex"));
    let agents = prepare(&ambit, acme, &address).await;
    // A tool that cannot describe itself is never bound; the tenant's other agents are.
    for name in MUTE {
        let component = named(name, "tool");
        let mute = NewComponent::new(&component, "tool", guest(name).unwrap());
        let digest = ambit.install(&mute.tables(LIMITS)).await.unwrap();
        let slot = format!("tool/{component}");
        ambit.bind(acme, &slot, &digest).await.unwrap();
        let definition =
            json!({"name": agent_of(name, "tool"), "model": "openai/calls", "tools": [component]});
        assert!(ambit.apply(acme, &definition).await.is_err(), "{name}");
    }
    // One that wants everything is not even admitted.
    let greedy = NewComponent::new("hostile:everything", "tool", guest("everything").unwrap());
    let digest = ambit.install(&greedy.tables(LIMITS)).await.unwrap();
    let bound = ambit.bind(acme, "tool/hostile:everything", &digest).await;
    assert!(bound.is_err());

    // Each by itself: what it comes to.
    let mut wrong = Vec::new();
    for (agent, kind, expected) in &agents {
        let answer = ambit.ask(acme, &question(agent, false)).await.unwrap();
        gives_nothing_away(&answer);
        let code = if *kind == "agent" {
            answer.code().to_owned()
        } else {
            assert!(answer.is_good(), "{agent}: {answer:?}");
            outcome(&ambit, acme, answer.session.as_deref().unwrap()).await
        };
        if code != *expected {
            wrong.push(format!("{agent}: {code}, not {expected}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");

    let calm = json!({"name": "calm", "model": "openai/calm", "collections": ["contracts"], "tools": ["ambit:tool-datetime"]});
    ambit.apply(globex, &calm).await.unwrap();
    let before = ambit.memory();
    let (stop, most) = (AtomicBool::new(false), AtomicU64::new(0));
    let came = Mutex::new(BTreeMap::<String, u32>::new());
    let hostile = futures::future::join_all((0..HOSTILE).map(async |worker| {
        // Each begins elsewhere, so that together they soon had every agent.
        for n in worker * agents.len() / HOSTILE.. {
            if stop.load(Ordering::SeqCst) {
                return;
            }
            let (agent, kind, expected) = &agents[n % agents.len()];
            let answer = ambit.ask(acme, &question(agent, n % 2 == 0)).await.unwrap();
            gives_nothing_away(&answer);
            // Its own crowd may be in its way too; then it hears that.
            let crowded = ["unavailable", "deadline_exceeded"].contains(&answer.code());
            let expected = if *kind == "agent" {
                answer.code() == *expected
            } else {
                answer.is_good()
            };
            assert!(expected || crowded, "{agent}: {answer:?}");
            *came
                .lock()
                .unwrap()
                .entry(format!("{agent} {}", answer.code()))
                .or_default() += 1;
        }
    }));
    let others = async {
        futures::future::join_all((0..CALM).map(async |worker| {
            for n in 0..ANSWERED / CALM {
                let model = ["calm", "assistant"][(n / 2) % 2];
                let answer = ambit
                    .ask(globex, &question(model, (n + worker) % 2 == 0))
                    .await
                    .unwrap();
                assert!(answer.is_good(), "{model}: {answer:?}");
                assert!(!answer.text.is_empty());
                if let Some(now) = ambit.memory() {
                    most.fetch_max(now, Ordering::SeqCst);
                }
            }
        }))
        .await;
        // Until each agent has come to its end among the others at least once.
        let patience = Instant::now() + Duration::from_secs(60);
        let has_come = |(agent, kind, expected): &(String, &str, &str)| {
            let expected = if *kind == "agent" { *expected } else { "" };
            came.lock()
                .unwrap()
                .contains_key(&format!("{agent} {expected}"))
        };
        while !agents.iter().all(has_come) && Instant::now() < patience {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let url = format!("{}/healthz", ambit.up.ops_url);
        let alive = ambit.client.get(url).send().await.unwrap();
        assert_eq!(alive.status(), 200, "under attack");
        stop.store(true, Ordering::SeqCst);
    };
    futures::join!(hostile, others);

    let came = came.into_inner().unwrap();
    let most = most.into_inner();
    let mib = |bytes: u64| bytes >> 20;
    say(&format!(
        "neighbours: {ANSWERED} calm requests answered beside {came:?}; memory {:?} MiB, at most {} MiB",
        before.map(mib),
        mib(most)
    ));
    if let Some(before) = before {
        assert!(most < before + MEMORY, "{} MiB", mib(most));
    }
    for (agent, kind, expected) in &agents {
        let expected = if *kind == "agent" { *expected } else { "" };
        let end = format!("{agent} {expected}");
        assert!(came.contains_key(&end), "`{end}` in {came:?}");
    }
    // And afterwards both work as before.
    for tenant in [acme, globex] {
        let answer = ambit
            .ask(tenant, &question("assistant", true))
            .await
            .unwrap();
        assert!(answer.is_good(), "{answer:?}");
    }
    let ready = ambit.admin(Method::GET, "/tenants", "").await.unwrap();
    assert!(
        ready["data"]
            .as_array()
            .unwrap()
            .iter()
            .all(|tenant| tenant["served"] == true)
    );
}
