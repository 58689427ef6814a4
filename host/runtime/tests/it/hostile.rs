//! The hostile suite, one call at a time: each ends as it should, within what it may use. [`siege`](crate::siege) has them flat out.

use crate::{
    base::{invoke, link_agent, link_tool, step},
    samples::cpu_time,
    support::{TIGHT, runtime, scope, tenant},
};
use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

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
