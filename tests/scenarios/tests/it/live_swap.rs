//! Components are swapped while requests run: none fails, none mixes two editions, and the next request has the new one.

use ambit_mock_provider::{Call, Mock, Reply, Script};
use ambit_scenarios::{Ambit, NewComponent, Tenant, binary, edition, guest, say, until};
use reqwest::{Method, header::HOST};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

/// Requests at the same time.
const AT_ONCE: usize = 8;
/// Times all slots are swapped, there and back.
const ROUNDS: usize = 12;
const SLOTS: [&str; 3] = [
    "tool/test:edition-tool",
    "agent/test:edition-agent",
    "guardrail",
];

/// What a request shows its editions by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    /// A tool is called twice in each of two rounds of one agent's request.
    Tool,
    /// An agent takes four steps.
    Agent,
    /// One guardrail judges what comes in and what goes out, for an agent and for a plain model.
    Guardrail,
    PassThrough,
}

impl Way {
    const ALL: [Self; 4] = [Self::Tool, Self::Agent, Self::Guardrail, Self::PassThrough];

    fn request(self, stream: bool) -> Value {
        let (model, text) = match self {
            Self::Tool => ("tooled", "Which edition?"),
            Self::Agent => ("stepping", "Which edition?"),
            Self::Guardrail => ("echoing", "in <in> and out <out>"),
            Self::PassThrough => ("openai/echo", "in <in> and out <out>"),
        };
        json!({"model": model, "stream": stream, "messages": [{"role": "user", "content": text}]})
    }

    /// How often an answer names its edition.
    fn times(self) -> usize {
        match self {
            Self::Tool | Self::Agent => 4,
            Self::Guardrail | Self::PassThrough => 2,
        }
    }

    async fn ask(self, ambit: &Ambit, tenant: &Tenant, stream: bool) -> String {
        let answer = ambit.ask(tenant, &self.request(stream)).await.unwrap();
        assert!(answer.is_good(), "{self:?}: {answer:?}");
        assert!(!answer.text.contains("mixed"), "{self:?}: {}", answer.text);
        let mut named = answer.text.split("edition ").skip(1);
        let named: Vec<&str> = named.by_ref().filter_map(|rest| rest.get(..8)).collect();
        assert_eq!(named.len(), self.times(), "{self:?}: {}", answer.text);
        assert!(
            named.iter().all(|edition| *edition == named[0]),
            "one answer, one edition: {self:?}: {}",
            answer.text
        );
        named[0].to_owned()
    }
}

/// Two editions of each component, installed; the digests by slot.
async fn install(ambit: &Ambit) -> [Vec<String>; 2] {
    let mut digests = [Vec::new(), Vec::new()];
    for (n, digests) in digests.iter_mut().enumerate() {
        for slot in SLOTS {
            let (kind, name) = slot
                .split_once('/')
                .unwrap_or((slot, "test:edition-guardrail"));
            let file = if kind == "guardrail" {
                "edition_guardrail"
            } else {
                "edition"
            };
            let wasm = edition(file, &letters(n)).unwrap();
            let mut component = NewComponent::new(name, kind, wasm).version(&format!("0.{n}.0"));
            if kind == "agent" {
                component = component
                    .tables("[permissions]\nmodels = [\"openai/*\"]\n")
                    .granted(json!({"models": ["openai/*"]}));
            }
            digests.push(ambit.install(&component).await.unwrap());
        }
    }
    digests
}

fn letters(n: usize) -> String {
    ["original", "replaced"][n].to_owned()
}

async fn swap(ambit: &Ambit, tenant: &Tenant, digests: &[String]) {
    for (slot, digest) in SLOTS.iter().zip(digests) {
        ambit.bind(tenant, slot, digest).await.unwrap();
    }
}

async fn prepare(ambit: &Ambit, tenant: &Tenant) {
    for (name, component, model, tools) in [
        (
            "tooled",
            "ambit:agent-assistant",
            "openai/calls",
            json!(["test:edition-tool"]),
        ),
        ("stepping", "test:edition-agent", "openai/calls", json!([])),
        ("echoing", "ambit:agent-assistant", "openai/echo", json!([])),
    ] {
        let definition =
            json!({"name": name, "component": component, "model": model, "tools": tools});
        ambit.apply(tenant, &definition).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_swap_fails_no_request_and_mixes_none() {
    let Some(binary) = binary() else { return };
    let round = |n: usize| {
        let call = |place| Call::new("edition", json!({"round": n, "place": place}).to_string());
        vec![call(0), call(1)]
    };
    let mut script = Script::models([
        ("calls", Reply::ToolsThenTell(vec![round(0), round(1)])),
        ("echo", Reply::Echo),
    ]);
    // Time for a swap between two steps of a request.
    script.latency_ms = 10;
    script.record = false;
    let mock = Mock::start(script).await.unwrap();
    let ambit = Ambit::up(&binary, Some(&mock.url())).await.unwrap();
    let acme = ambit.tenant("acme");
    let digests = install(&ambit).await;
    swap(&ambit, acme, &digests[0]).await;
    prepare(&ambit, acme).await;

    let (stop, answered) = (AtomicBool::new(false), AtomicU64::new(0));
    let seen = Mutex::new(BTreeMap::<(Way, String), u32>::new());
    let work = futures::future::join_all((0..AT_ONCE).map(async |worker| {
        for n in worker.. {
            if stop.load(Ordering::SeqCst) {
                return;
            }
            let way = Way::ALL[n % Way::ALL.len()];
            let edition = way
                .ask(&ambit, acme, (n / Way::ALL.len()).is_multiple_of(2))
                .await;
            *seen.lock().unwrap().entry((way, edition)).or_default() += 1;
            answered.fetch_add(1, Ordering::SeqCst);
        }
    }));
    let swaps = async {
        for n in 1..=ROUNDS {
            swap(&ambit, acme, &digests[n % 2]).await;
            // Everybody gets to ask, so that requests begin under each edition and run into the next.
            let target = answered.load(Ordering::SeqCst) + AT_ONCE as u64;
            until("requests go on", async || {
                answered.load(Ordering::SeqCst) >= target
            })
            .await;
        }
        stop.store(true, Ordering::SeqCst);
    };
    futures::join!(work, swaps);

    let seen = seen.into_inner().unwrap();
    say(&format!("live swap: {seen:?}"));
    for way in Way::ALL {
        for n in 0..2 {
            assert!(
                seen.contains_key(&(way, letters(n))),
                "{way:?} {}",
                letters(n)
            );
        }
    }
    for last in [1, 0] {
        swap(&ambit, acme, &digests[last]).await;
        for way in Way::ALL {
            for stream in [false, true] {
                assert_eq!(
                    way.ask(&ambit, acme, stream).await,
                    letters(last),
                    "{way:?}"
                );
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_router_takes_effect_at_once() {
    let Some(binary) = binary() else { return };
    let ambit = Ambit::up(&binary, None).await.unwrap();
    let globex = ambit.tenant("globex");
    let alias = NewComponent::new(
        "test:alias-routing",
        "routing",
        guest("alias_routing").unwrap(),
    );
    let digest = ambit.install(&alias).await.unwrap();
    let status = async |host: &str| {
        let url = format!("{}/v1/models", ambit.up.url);
        let request = ambit.client.get(url).header(HOST, host);
        let answer = request.bearer_auth(&globex.api_key).send().await.unwrap();
        answer.status().as_u16()
    };
    let bind = async |component: &str| {
        let bound = ambit
            .put("/slots/routing", &json!({ "component": component }))
            .await
            .unwrap();
        assert_eq!(bound["slot"], "routing", "{bound}");
    };
    for _ in 0..2 {
        assert_eq!(status("alias.localhost").await, 404);
        bind(&digest).await;
        assert_eq!(status("alias.localhost").await, 200);
        assert_eq!(status("globex.localhost").await, 200);
        assert_eq!(status("nobody.localhost").await, 404);
        bind("ambit:routing-subdomain").await;
    }
    assert_eq!(status("alias.localhost").await, 404);
    assert_eq!(status("globex.localhost").await, 200);
    // Without any there would be no way in: that is refused, and nothing changes.
    let removed = ambit.admin(Method::DELETE, "/slots/routing", "").await;
    assert!(removed.unwrap_err().to_string().contains("409"));
    assert_eq!(status("globex.localhost").await, 200);
}
