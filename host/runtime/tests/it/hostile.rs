//! The hostile suite: components that misbehave flat out for one tenant, while another goes on as if nothing happened.
//!
//! What is asserted is structure, never speed: the attacker's calls end with the limit they spent, by counted ticks; queues stay bounded;
//! every call of the neighbour is served; the host's memory stays within what the limits allow.

use crate::{
    base::{invoke, link_agent, link_tool, step},
    samples::cpu_time,
    support::{TIGHT, runtime, scope, tenant},
};
use ambit_runtime::{Runtime, RuntimeConfig, TenantLimits};
use std::{
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

/// Lets `guest` loose on both engines under [`TIGHT`] limits; its calls must end with one of `ends` or be refused as too many.
async fn besiege(name: &'static str, argument: &'static str, ends: &'static [&'static str]) {
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
    let (tool, agent) = (
        link_tool(&runtime, name, TIGHT),
        link_agent(&runtime, name, TIGHT),
    );
    let (kind_tool, kind_agent) = (
        link_tool(&runtime, "benign", ""),
        link_agent(&runtime, "benign", ""),
    );
    let stop = Arc::new(AtomicBool::new(false));
    let ended = Arc::new(AtomicU64::new(0));
    let resident = resident_bytes();

    let mut attack = Vec::new();
    for n in 0..ATTACKERS * 2 {
        let (runtime, attacker, tool, agent) = (
            runtime.clone(),
            attacker.clone(),
            tool.clone(),
            agent.clone(),
        );
        let (stop, ended) = (stop.clone(), ended.clone());
        attack.push(tokio::spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                let mut scope = scope(&attacker);
                scope.deadline = std::time::Instant::now() + std::time::Duration::from_millis(500);
                let end = if n % 2 == 0 {
                    invoke(&tool, &scope, argument).await
                } else {
                    let agent = agent.clone();
                    let job = move || step(&agent, &scope, argument);
                    runtime
                        .executor()
                        .run(&attacker, job)
                        .await
                        .unwrap_or_else(|_| Err("busy".into()))
                };
                let end = end.map_or_else(|error| error, |_| "answer".into());
                // A call may find its deadline spent by waiting for its turn among the attacker's own.
                assert!(
                    ends.contains(&end.as_str()) || end == "busy" || end == "limit deadline",
                    "{name}: {end}"
                );
                if end == "busy" {
                    tokio::time::sleep(std::time::Duration::from_millis(1)).await;
                } else {
                    ended.fetch_add(1, Ordering::Relaxed);
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
        let mut scope = scope(&neighbour);
        scope.deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
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
    while ended.load(Ordering::Relaxed) < 20 {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    stop.store(true, Ordering::Relaxed);
    for task in attack {
        task.await.unwrap();
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
    ($($name:ident($guest:literal, $argument:literal) ends $ends:expr;)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            besiege($guest, $argument, &$ends).await;
        }
    )*};
}

sieges! {
    tight_loop("tight_loop", "x") ends ["limit cpu"];
    deep_recursion("deep_recursion", "x") ends ["limit stack"];
    memory_hog("memory_hog", "x") ends ["limit memory", "limit tenant-memory", "limit cpu"];
    log_flood("log_flood", "line ") ends ["limit log"];
    oversize_result("oversize_result", "8000000") ends ["limit result", "limit tenant-memory"];
    handle_hoard("handle_hoard", "x") ends ["limit handles"];
    panicker("panicker", "x") ends ["trap wasm trap: wasm `unreachable` instruction executed", "limit log"];
    // On the pure engine nobody waits; on the other the caller's deadline ends it.
    sleeper("sleeper", "x") ends ["trap a pure component waited; only tool and retrieval components may", "limit deadline"];
}

#[tokio::test]
async fn a_list_that_is_small_in_the_guest_and_huge_outside_is_not_lifted() {
    use crate::support::{short, tool};
    use ambit_runtime::Effectful;
    let runtime = runtime();
    let tenant = tenant(&runtime, "huge-list");
    let code = crate::support::admitted(
        &runtime,
        &crate::support::guest("huge_list"),
        crate::support::manifest("tool", ""),
    );
    let tool = Effectful::<(), tool::Guest>::link(&runtime, &code, |_| Ok(())).unwrap();
    let tools = tool
        .call(&scope(&tenant), (), async |store, guest| {
            guest.ambit_tool_tool().call_describe(store).await
        })
        .await;
    assert_eq!(
        tools.map(|tools| tools.len()).map_err(short),
        Err("limit result".into())
    );
    let agent = link_agent(&runtime, "huge_list", "");
    assert_eq!(
        step(&agent, &scope(&tenant), ""),
        Err("limit result".into())
    );
}

/// What its thread spends on a call, waits of the call and of the thread left out. Others disturb it: the least of some calls counts.
async fn least_cpu(name: &str, mut call: impl AsyncFnMut() -> Result<String, String>) -> Duration {
    let mut least = Duration::MAX;
    for _ in 0..5 {
        let began = cpu_time();
        assert_eq!(call().await, Err("limit cpu".into()), "{name}");
        least = least.min(cpu_time().saturating_sub(began));
    }
    least
}

/// Real time on a core, since what the host counts is what is to be tested. The runtime of these tests has one thread, this one.
#[tokio::test]
async fn guests_are_cut_within_one_and_a_half_times_their_limit() {
    let runtime = runtime();
    let tenant = tenant(&runtime, "cut");
    let limit = Duration::from_millis(30);
    for (guest, argument, engines) in [
        ("tight_loop", "x", 2),
        ("host_call_loop", "x", 2),
        // Only an effectful guest may wait.
        ("wait_then_spin", "200", 1),
        ("wait_then_spin", "edges", 1),
    ] {
        let tool = link_tool(&runtime, guest, TIGHT);
        let mut least = least_cpu(guest, async || {
            invoke(&tool, &scope(&tenant), argument).await
        })
        .await;
        if engines == 2 {
            let agent = link_agent(&runtime, guest, TIGHT);
            let pure = least_cpu(guest, async || step(&agent, &scope(&tenant), argument)).await;
            least = least.max(pure);
        }
        assert!(
            least * 2 <= limit * 3 && least * 2 >= limit,
            "{guest} {argument}: {least:?} of {limit:?}"
        );
    }
}

/// Whatever a guest does, another task of its thread has its turn every other tick, and the call ends at its deadline. Other work on this
/// machine gets in between: the best of some calls counts.
#[tokio::test]
async fn a_guest_that_waited_or_calls_the_host_holds_no_thread() {
    let runtime = runtime();
    let tenant = tenant(&runtime, "holds");
    let limits = "[limits]\ncpu = \"900ms\"\ndeadline = \"400ms\"\n";
    for guest in ["wait_then_spin", "host_call_loop"] {
        let tool = link_tool(&runtime, guest, limits);
        let (mut gap, mut took) = (Duration::MAX, Duration::MAX);
        for _ in 0..3 {
            let longest = Arc::new(Mutex::new(Duration::ZERO));
            let other = tokio::spawn({
                let longest = longest.clone();
                async move {
                    loop {
                        let began = Instant::now();
                        tokio::task::yield_now().await;
                        let mut longest = longest.lock().unwrap();
                        *longest = longest.max(began.elapsed());
                    }
                }
            });
            let began = Instant::now();
            assert_eq!(
                invoke(&tool, &scope(&tenant), "350").await,
                Err("limit deadline".into()),
                "{guest}"
            );
            took = took.min(began.elapsed());
            other.abort();
            gap = gap.min(*longest.lock().unwrap());
        }
        assert!(gap < Duration::from_millis(50), "{guest}: {gap:?}");
        assert!(took < Duration::from_millis(550), "{guest}: {took:?}");
    }
}

#[tokio::test]
async fn a_guest_that_waits_in_the_host_is_ended_at_its_deadline() {
    let runtime = runtime();
    let tenant = tenant(&runtime, "sleepy");
    let tool = link_tool(&runtime, "sleeper", "[limits]\ndeadline = \"50ms\"\n");
    let began = std::time::Instant::now();
    assert_eq!(
        invoke(&tool, &scope(&tenant), "x").await,
        Err("limit deadline".into())
    );
    assert!(
        began.elapsed() < std::time::Duration::from_secs(30),
        "it would have slept for an hour"
    );
    assert_eq!((tenant.memory(), tenant.calls()), (0, 0));
    assert!(
        tenant.cpu_ms() < 25,
        "sleeping is not computing: {} ms",
        tenant.cpu_ms()
    );
}

#[tokio::test]
async fn a_caller_that_goes_away_takes_its_call_with_it() {
    let runtime = runtime();
    let tenant = tenant(&runtime, "gone");
    let tool = link_tool(&runtime, "sleeper", "[limits]\ndeadline = \"60s\"\n");
    let task = tokio::spawn({
        let (tool, scope) = (tool.clone(), scope(&tenant));
        async move { invoke(&tool, &scope, "x").await }
    });
    while tenant.memory() == 0 {
        tokio::task::yield_now().await;
    }
    task.abort();
    assert!(task.await.is_err());
    assert_eq!((tenant.memory(), tenant.calls()), (0, 0));
}
