//! The hostile suite, flat out: components that misbehave for one tenant, while another goes on as if nothing happened.
//!
//! What is asserted is structure, never speed: the attacker's calls end with the limit they spent, and each such end is seen on both
//! engines; nothing runs on for half as long again as its limit; queues stay bounded; every call of the neighbour is served; the host's memory stays within what the limits allow.

use crate::{
    base::{Agent, Tool, invoke, link_agent, link_tool, step},
    samples::cpu_time,
    support::{Both, TIGHT, hostile_text, scope, short, tenant},
};
use ambit_runtime::{CallScope, Runtime, RuntimeConfig, TenantLimits};
use std::{
    collections::BTreeMap,
    pin::pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// Calls the attacker has under way at any time, per engine: far more than it may run.
const ATTACKERS: usize = 64;

/// Calls the neighbour makes under siege, per engine.
const NEIGHBOURS: usize = 60;

/// As [`TIGHT`] says.
const CPU: Duration = Duration::from_millis(30);

/// Stands for an argument: it is asked what tools it has.
const DESCRIBE: &str = "describe";

/// How long a caller waits for a call under siege.
const PATIENCE: Duration = Duration::from_secs(1);

/// What misbehaves: a guest of the standard toolchain, in what it does or in what it says it is, or a module of text where Rust has no words
/// for it.
enum Attack {
    Description(Arc<Tool>, Arc<Agent>),
    Guest(Arc<Tool>, Arc<Agent>, &'static str),
    Text(Box<Both>),
}

impl Attack {
    fn new(runtime: &Arc<Runtime>, name: &str, argument: &'static str) -> Self {
        if argument == DESCRIBE {
            // The list itself is to be too much, not what the guest takes to make it.
            let limits = TIGHT.replace("16MiB", "48MiB").replace("30ms", "900ms");
            let tool = link_tool(runtime, name, &limits);
            return Self::Description(tool, link_agent(runtime, name, &limits));
        }
        match name.strip_suffix(".wat") {
            Some(name) => Self::Text(Box::new(Both::new(runtime, &hostile_text(name), TIGHT))),
            None => Self::Guest(
                link_tool(runtime, name, TIGHT),
                link_agent(runtime, name, TIGHT),
                argument,
            ),
        }
    }

    async fn as_tool(&self, scope: &CallScope) -> Result<String, String> {
        match self {
            Self::Guest(tool, _, argument) => invoke(tool, scope, argument).await,
            Self::Description(tool, _) => {
                let run = async |store: &mut _, guest: &crate::support::tool::Guest| {
                    guest.ambit_tool_tool().call_describe(store).await
                };
                let result = tool.call(scope, (), run).await;
                result.map(|tools| tools.len().to_string()).map_err(short)
            }
            Self::Text(both) => {
                let run = async |store: &mut _, guest: &crate::support::effectful::Guest| {
                    guest.ambit_tool_tool().call_run(store, 1).await
                };
                let result = both.effectful.call(scope, (), run).await;
                result.map(|n| n.to_string()).map_err(short)
            }
        }
    }

    fn as_agent(&self, scope: &CallScope) -> Result<String, String> {
        match self {
            Self::Guest(_, agent, argument) => step(agent, scope, argument),
            Self::Description(_, agent) => step(agent, scope, ""),
            Self::Text(both) => {
                let result = both.pure.call(scope, (), |store, guest| {
                    guest.ambit_agent_agent().call_run(store, 1)
                });
                result.map(|n| n.to_string()).map_err(short)
            }
        }
    }
}

/// How calls under siege end.
struct Ends {
    /// As a tool, seen at least once.
    tool: &'static str,
    /// As an agent, seen at least once.
    agent: &'static str,
    /// On either, not always seen.
    may: &'static [&'static str],
}

/// Lets `name` loose on both engines under [`TIGHT`] limits.
async fn besiege(name: &'static str, argument: &'static str, ends: Ends) {
    let limits = TenantLimits {
        memory: 128 << 20,
        concurrency: 16,
        queue: 32,
    };
    let runtime = Runtime::new(RuntimeConfig {
        tenant: limits,
        threads: 3,
        ..RuntimeConfig::default()
    })
    .unwrap();
    let (attacker, neighbour) = (tenant(&runtime, "attacker"), tenant(&runtime, "neighbour"));
    let attack = Arc::new(Attack::new(&runtime, name, argument));
    let (kind_tool, kind_agent) = (
        link_tool(&runtime, "benign", ""),
        link_agent(&runtime, "benign", ""),
    );
    let stop = Arc::new(AtomicBool::new(false));
    let ended = Arc::new(AtomicU64::new(0));
    let seen = Arc::new(Mutex::new(BTreeMap::<_, Vec<_>>::new()));
    let resident = resident_bytes();

    let mut attackers = Vec::new();
    for n in 0..ATTACKERS * 2 {
        let (runtime, attacker, attack) = (runtime.clone(), attacker.clone(), attack.clone());
        let (stop, ended, seen) = (stop.clone(), ended.clone(), seen.clone());
        attackers.push(tokio::spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                let mut scope = scope(&attacker);
                let began = Instant::now();
                scope.deadline = began + PATIENCE;
                let (kind, expected, (end, cpu)) = if n % 2 == 0 {
                    ("tool", ends.tool, on_threads(attack.as_tool(&scope)).await)
                } else {
                    let attack = attack.clone();
                    let job = move || {
                        let began = cpu_time();
                        (attack.as_agent(&scope), cpu_time() - began)
                    };
                    let ended = runtime.executor().run(&attacker, job).await;
                    let busy = |_| (Err("busy".into()), Duration::ZERO);
                    ("agent", ends.agent, ended.unwrap_or_else(busy))
                };
                let end = end.map_or_else(|error| error, |_| "answer".into());
                // A call may find its deadline spent by waiting for its turn among the attacker's own.
                let expected = end == expected
                    || ends.may.contains(&&*end)
                    || end == "busy"
                    || end == "limit deadline";
                assert!(expected, "{name} as {kind}: {end}");
                if end == "busy" {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                } else {
                    ended.fetch_add(1, Ordering::Relaxed);
                    let took = (cpu, began.elapsed());
                    (seen.lock().unwrap().entry((kind, end)).or_default()).push(took);
                    // A call that fails at once has let nobody else run.
                    tokio::task::yield_now().await;
                }
            }
        }));
    }

    let mut worst = (0, 0, 0);
    let mut look = || {
        worst.0 = worst.0.max(runtime.executor().waiting());
        worst.1 = worst.1.max(attacker.memory());
        worst.2 = worst.2.max(attacker.calls());
    };
    for n in 0..NEIGHBOURS {
        look();
        let scope = scope(&neighbour);
        let name = n.to_string();
        assert_eq!(
            invoke(&kind_tool, &scope, &name).await,
            Ok(format!("hello {name}")),
            "no call of the neighbour is refused or lost"
        );
        let agent = kind_agent.clone();
        let answer = runtime
            .executor()
            .run(&neighbour, move || step(&agent, &scope, &name))
            .await;
        assert_eq!(answer, Ok(Ok(format!("hello {n}"))));
        look();
    }
    let wanted = [("tool", ends.tool), ("agent", ends.agent)];
    let patience = Instant::now() + Duration::from_secs(60);
    loop {
        let seen = seen.lock().unwrap().clone();
        let all = wanted
            .iter()
            .all(|(kind, end)| seen.contains_key(&(*kind, (*end).to_owned())));
        if all && ended.load(Ordering::Relaxed) >= 20 {
            break;
        }
        assert!(
            Instant::now() < patience,
            "{name}: {wanted:?} in {:?}",
            seen.keys()
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    stop.store(true, Ordering::Relaxed);
    for task in attackers {
        task.await.unwrap();
    }

    // Nine of ten at least: the thread that counts competes for cores with those it counts.
    for ((kind, end), took) in &*seen.lock().unwrap() {
        let (took, limit): (Vec<_>, _) = match &**end {
            "limit cpu" => (took.iter().map(|(cpu, _)| *cpu).collect(), CPU),
            "limit deadline" => (took.iter().map(|(_, wall)| *wall).collect(), PATIENCE),
            _ => continue,
        };
        let took = nine_of_ten(took);
        assert!(
            took * 2 <= limit * 3,
            "{name} as {kind}: {took:?} of {limit:?}"
        );
    }
    assert!(worst.0 <= limits.queue + 1, "{name}: {} jobs wait", worst.0);
    assert!(worst.1 <= limits.memory, "{name}: {} bytes", worst.1);
    assert!(worst.2 <= limits.concurrency, "{name}: {} calls", worst.2);
    assert_eq!(
        (
            attacker.memory(),
            attacker.calls(),
            runtime.executor().waiting()
        ),
        (0, 0, 0),
        "{name}: everything is given back"
    );
    // The pool keeps at most 256 KiB of each slot it used; the rest of this is room for the allocator and the other tests of this process.
    let grown = resident_bytes().saturating_sub(resident);
    assert!(
        grown < 700 << 20,
        "{name}: {} MiB more are resident",
        grown >> 20
    );
}

/// What threads spend on a call, its waits left out.
async fn on_threads<T>(call: impl Future<Output = T>) -> (T, Duration) {
    let (mut call, mut spent) = (pin!(call), Duration::ZERO);
    let value = std::future::poll_fn(|cx| {
        let began = cpu_time();
        let polled = call.as_mut().poll(cx);
        spent += cpu_time() - began;
        polled
    })
    .await;
    (value, spent)
}

/// What nine of ten took at most.
fn nine_of_ten(mut took: Vec<Duration>) -> Duration {
    let last = (took.len() * 9).div_ceil(10) - 1;
    *took.select_nth_unstable(last).1
}

fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm
        .split(' ')
        .nth(1)
        .and_then(|pages| pages.parse::<u64>().ok())
        .unwrap_or(0)
        * 4096
}

macro_rules! sieges {
    ($($name:ident($guest:literal, $argument:expr) ends $tool:literal as a tool, $agent:literal as an agent, or $may:expr;)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            let ends = Ends { tool: $tool, agent: $agent, may: &$may };
            besiege($guest, $argument, ends).await;
        }
    )*};
}

sieges! {
    tight_loop("tight_loop", "x") ends "limit cpu" as a tool, "limit cpu" as an agent, or [];
    host_call_loop("host_call_loop", "x") ends "limit cpu" as a tool, "limit cpu" as an agent, or [];
    deep_recursion("deep_recursion", "x") ends "limit stack" as a tool, "limit stack" as an agent, or [];
    memory_hog("memory_hog", "x") ends "limit memory" as a tool, "limit memory" as an agent, or ["limit tenant-memory", "limit cpu"];
    many_memories("many_memories.wat", "") ends "limit memory" as a tool, "limit memory" as an agent, or ["limit tenant-memory"];
    huge_initial("huge_initial", "x") ends "limit memory" as a tool, "limit memory" as an agent, or [];
    table_growth("table_growth.wat", "") ends "limit tables" as a tool, "limit tables" as an agent, or ["limit tenant-memory"];
    start_trap("start_trap", "x") ends "trap wasm trap: wasm `unreachable` instruction executed" as a tool,
        "trap wasm trap: wasm `unreachable` instruction executed" as an agent, or [];
    log_flood("log_flood", "line ") ends "limit log" as a tool, "limit log" as an agent, or [];
    oversize_result("oversize_result", "8000000") ends "limit result" as a tool, "limit result" as an agent, or ["limit tenant-memory"];
    huge_list("huge_list", DESCRIBE) ends "limit result" as a tool, "limit result" as an agent, or ["limit tenant-memory"];
    handle_hoard("handle_hoard", "x") ends "limit handles" as a tool, "limit handles" as an agent, or [];
    panicker("panicker", "x") ends "trap wasm trap: wasm `unreachable` instruction executed" as a tool,
        "trap wasm trap: wasm `unreachable` instruction executed" as an agent, or ["limit log"];
    // On the pure engine nobody waits; on the other the caller's deadline ends it.
    sleeper("sleeper", "x") ends "limit deadline" as a tool,
        "trap a pure component waited; only tool and retrieval components may" as an agent, or [];
    wait_then_spin("wait_then_spin", "20") ends "limit cpu" as a tool,
        "trap a pure component waited; only tool and retrieval components may" as an agent, or [];
}
