//! Instances between calls, and components between versions.

use crate::support::{AGENT, Both, admitted, manifest, pure, runtime, scope, short, tenant, text};
use ambit_runtime::{Busy, CallError, Pure};
use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering},
};

/// Answers how often this instance was called; traps when called with 99.
const COUNTER: &str = r#"(memory (export "memory") 1) (global $n (mut i64) (i64.const 0))
    (func (export "run") (param i64) (result i64)
        (if (i64.eq (local.get 0) (i64.const 99)) (then unreachable))
        (global.set $n (i64.add (global.get $n) (i64.const 1))) (global.get $n))"#;

/// What calls of one tenant answer on each engine, which must be the same.
async fn counts(reuse: &str, calls: &[u64]) -> Vec<Result<u64, String>> {
    let runtime = runtime();
    let both = Both::reused(&runtime, COUNTER, "", reuse);
    let tenant = tenant(&runtime, "counter");
    let mut counts = Vec::new();
    for n in calls {
        // The same of both, or it panics.
        let count = both.run(&scope(&tenant), *n).await;
        counts.push(count.map_err(|error| error.split(' ').next().unwrap().to_owned()));
    }
    counts
}

#[tokio::test]
async fn an_instance_is_reused_only_where_the_manifest_says_so_and_never_after_a_trap() {
    let trap = Err("trap".to_owned());
    assert_eq!(
        counts("fresh", &[0, 0, 99, 0]).await,
        [Ok(1), Ok(1), trap.clone(), Ok(1)]
    );
    for reuse in ["warm-serial", "warm-concurrent"] {
        assert_eq!(
            counts(reuse, &[0, 0, 0, 99, 0, 0]).await,
            [Ok(1), Ok(2), Ok(3), trap.clone(), Ok(1), Ok(2)],
            "{reuse}"
        );
    }
}

#[tokio::test]
async fn tenants_never_share_an_instance_and_a_warm_one_stays_charged() {
    let runtime = runtime();
    let mut manifest = manifest("agent", "");
    manifest.component.reuse = "warm-serial".parse().unwrap();
    let admitted = admitted(&runtime, &text(AGENT, COUNTER), manifest);
    let linked = Pure::<(), pure::Guest>::link(&runtime, &admitted, |_| Ok(())).unwrap();
    let (a, b) = (tenant(&runtime, "tenant-a"), tenant(&runtime, "tenant-b"));
    let call = |tenant| {
        linked
            .call(&scope(tenant), (), |store, guest| {
                guest.ambit_agent_agent().call_run(store, 0)
            })
            .unwrap()
    };
    assert_eq!([call(&a), call(&b), call(&a), call(&b)], [1, 1, 2, 2]);
    assert_eq!((a.memory(), b.memory()), (65_536, 65_536));
    drop(linked);
    assert_eq!((a.memory(), b.memory()), (0, 0));
}

#[tokio::test]
async fn an_instance_nobody_calls_is_dropped() {
    let runtime = runtime();
    let mut manifest = manifest("agent", "");
    manifest.component.reuse = "warm-serial".parse().unwrap();
    let admitted = admitted(&runtime, &text(AGENT, COUNTER), manifest);
    let linked = Pure::<(), pure::Guest>::link(&runtime, &admitted, |_| Ok(())).unwrap();
    let tenant = tenant(&runtime, "seldom");
    let call = || {
        linked
            .call(&scope(&tenant), (), |store, guest| {
                guest.ambit_agent_agent().call_run(store, 0)
            })
            .unwrap()
    };
    assert_eq!((call(), call(), tenant.memory()), (1, 2, 65_536));
    let patience = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while tenant.memory() > 0 {
        assert!(std::time::Instant::now() < patience, "it is kept for ever");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    assert_eq!(call(), 1);
}

/// Each of its instances takes 16 of the engine's slots: some sixty calls would take them all.
#[tokio::test]
async fn tenants_that_take_every_slot_they_can_get_leave_some_to_others() {
    let runtime = ambit_runtime::Runtime::new(ambit_runtime::RuntimeConfig::default()).unwrap();
    let run = r#"(func (export "run") (param i64) (result i64) local.get 0)"#;
    let module = format!(
        r#"(memory (export "memory") 1) {} {run}"#,
        "(memory 1)".repeat(15)
    );
    let greedy = Both::new(&runtime, &module, "[limits]\nconcurrency = 64\n");
    let modest = Both::new(
        &runtime,
        &format!(r#"(memory (export "memory") 1) {run}"#),
        "",
    );
    let (release, released) = tokio::sync::watch::channel(false);
    let tenants: Vec<_> = ["first", "second", "third"]
        .map(|name| tenant(&runtime, name))
        .to_vec();
    let mut calls = Vec::new();
    for tenant in &tenants {
        for _ in 0..64 {
            let (effectful, scope) = (greedy.effectful.clone(), scope(tenant));
            let mut released = released.clone();
            calls.push(tokio::spawn(async move {
                let run = async |store: &mut _, guest: &_| {
                    released.wait_for(|released| *released).await?;
                    let guest: &crate::support::effectful::Guest = guest;
                    guest.ambit_tool_tool().call_run(store, 7).await
                };
                effectful.call(&scope, (), run).await
            }));
        }
    }
    // Each holds what it got.
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
    }
    let held: Vec<_> = tenants.iter().map(|tenant| tenant.calls()).collect();
    let other = tenant(&runtime, "other");
    assert_eq!(
        modest.run(&scope(&other), 7).await,
        Ok(7),
        "beside {held:?}"
    );
    release.send(true).unwrap();
    let mut refused = 0;
    for call in calls {
        match call.await.unwrap() {
            Ok(seven) => assert_eq!(seven, 7),
            Err(CallError::Busy(Busy::Tenant)) => refused += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert!(
        refused > 0 && held.iter().all(|calls| (5..=31).contains(calls)),
        "{held:?}"
    );
    // And everything is free again.
    assert_eq!(greedy.run(&scope(&other), 7).await, Ok(7));
}

#[tokio::test]
async fn one_tenant_keeps_instances_warm_and_another_still_can() {
    let runtime = ambit_runtime::Runtime::new(ambit_runtime::RuntimeConfig::default()).unwrap();
    let mut manifest = manifest("agent", "[limits]\nconcurrency = 128\n");
    manifest.component.reuse = "warm-concurrent".parse().unwrap();
    let admitted = admitted(&runtime, &text(AGENT, COUNTER), manifest);
    let linked = Pure::<(), pure::Guest>::link(&runtime, &admitted, |_| Ok(())).unwrap();
    // One call inside the other, so that each has an instance of its own.
    fn nested(linked: &Pure<(), pure::Guest>, scope: &ambit_runtime::CallScope, depth: u32) -> u64 {
        linked
            .call(scope, (), |store, guest| {
                if depth > 1 {
                    nested(linked, scope, depth - 1);
                }
                guest.ambit_agent_agent().call_run(store, 0)
            })
            .unwrap()
    }
    let (hoarder, other) = (tenant(&runtime, "hoarder"), tenant(&runtime, "other"));
    nested(&linked, &scope(&hoarder), 100);
    assert_eq!(hoarder.memory(), 32 * 65_536, "half of the places");
    assert_eq!([1, 2].map(|_| nested(&linked, &scope(&other), 1)), [1, 2]);
}

#[tokio::test]
async fn limits_are_anew_for_each_call_of_a_warm_instance() {
    // Spins n rounds, at most some milliseconds each.
    let module = r#"(memory (export "memory") 1) (func (export "run") (param i64) (result i64)
        (loop $l (local.set 0 (i64.sub (local.get 0) (i64.const 1))) (br_if $l (i64.ne (local.get 0) (i64.const 0))))
        (local.get 0))"#;
    let runtime = runtime();
    let mut manifest = manifest("agent", "[limits]\ncpu = \"2s\"\n");
    manifest.component.reuse = "warm-serial".parse().unwrap();
    let admitted = admitted(&runtime, &text(AGENT, module), manifest);
    let linked = Pure::<(), pure::Guest>::link(&runtime, &admitted, |_| Ok(())).unwrap();
    let tenant = tenant(&runtime, "warm-limits");
    let mut narrow = scope(&tenant);
    let mut limits = admitted.code().manifest().limits;
    limits.cpu = std::time::Duration::from_millis(20);
    narrow.limits = Some(limits);
    let call = |scope, n| {
        linked
            .call(scope, (), |store, guest| {
                guest.ambit_agent_agent().call_run(store, n)
            })
            .map_err(short)
    };
    for _ in 0..40 {
        // Together far more than 20 ms, each far less.
        assert_eq!(call(&narrow, 1_000_000), Ok(0));
    }
    assert_eq!(call(&narrow, u64::MAX), Err("limit cpu".into()));
    assert_eq!(
        call(&scope(&tenant), 1_000_000),
        Ok(0),
        "and the next call has an instance of its own"
    );
}

#[tokio::test]
async fn what_a_warm_instance_answers_and_spends_is_limited_call_by_call() {
    // `n` bytes from address 16 on; `run` grows its memory by `n` pages and says how many it had.
    let module = r#"(memory (export "memory") 3)
        (func (export "bytes") (param i32) (result i32)
            (i32.store (i32.const 0) (i32.const 16)) (i32.store (i32.const 4) (local.get 0)) (i32.const 0))
        (func (export "run") (param i64) (result i64)
            (i64.extend_i32_s (memory.grow (i32.wrap_i64 (local.get 0)))))"#;
    let runtime = runtime();
    let limits = "[limits]\nresult = \"64KiB\"\nmemory = \"512KiB\"\n";
    let both = Both::reused(&runtime, module, limits, "warm-serial");
    let tenant = tenant(&runtime, "warm-limits");
    let scope = scope(&tenant);
    for _ in 0..8 {
        assert_eq!(both.bytes(&scope, 40 << 10).await, Ok(40 << 10));
    }
    assert_eq!(
        both.bytes(&scope, 100 << 10).await,
        Err("limit result".into())
    );
    // What it grew to stays, in the instance and charged.
    assert_eq!(both.run(&scope, 2).await, Ok(3));
    assert_eq!(both.run(&scope, 2).await, Ok(5));
    assert_eq!(tenant.memory(), 2 * 7 * 65_536);
    assert_eq!(both.run(&scope, 2).await, Ok(u64::MAX), "no more is there");
    assert_eq!(tenant.memory(), 2 * 7 * 65_536);
}

#[tokio::test]
async fn a_component_is_linked_once_for_whoever_binds_it_alike() {
    let runtime = runtime();
    let mut manifest = manifest("agent", "");
    manifest.component.reuse = "warm-serial".parse().unwrap();
    let wasm = text(AGENT, COUNTER);
    let code = crate::support::load(&runtime, &wasm, manifest.clone());
    let tenant = tenant(&runtime, "binder");
    let link = |grant: &str| {
        let grant = ambit_policy::Grant::parse(grant).unwrap();
        let admitted = ambit_runtime::admit(&code, &grant.permissions).unwrap();
        let admitted = admitted.under(&grant.limits);
        let linked = Pure::<(), pure::Guest>::link(&runtime, &admitted, |_| Ok(())).unwrap();
        let count = linked.call(&scope(&tenant), (), |store, guest| {
            guest.ambit_agent_agent().call_run(store, 0)
        });
        (count.unwrap(), linked)
    };
    let (first, one) = link("");
    let (second, two) = link("");
    assert_eq!((first, second), (1, 2), "one instance serves both");
    // What may do more, or use less, is another.
    let (other, _) = link("models = [\"openai/*\"]");
    let (narrower, _) = link("[limits]\nlog = \"1KiB\"");
    assert_eq!((other, narrower), (1, 1));
    // So is other code of the same bytes.
    let again = admitted(&runtime, &wasm, manifest);
    let again = Pure::<(), pure::Guest>::link(&runtime, &again, |_| Ok(())).unwrap();
    let count = again.call(&scope(&tenant), (), |store, guest| {
        guest.ambit_agent_agent().call_run(store, 0)
    });
    assert_eq!(count.unwrap(), 1);
    // And when nobody binds it any more, nothing of it is left.
    drop((one, two));
    assert_eq!(link("").0, 1);
}

#[tokio::test]
async fn calls_beyond_a_components_concurrency_wait_or_are_told_so() {
    let runtime = runtime();
    let module = r#"(memory (export "memory") 1) (func (export "run") (param i64) (result i64) local.get 0)"#;
    let both = Both::new(&runtime, module, "[limits]\nconcurrency = 1\n");
    let (a, b) = (
        tenant(&runtime, "one-place"),
        tenant(&runtime, "another-place"),
    );
    // Pure: the executor is the queue, so a second call at once is refused, but only the same tenant's.
    let nested = both.pure.call(&scope(&a), (), |_, _| {
        let run = |tenant| {
            both.pure.call(&scope(tenant), (), |store, guest| {
                guest.ambit_agent_agent().call_run(store, 7)
            })
        };
        Ok((run(&a), run(&b)))
    });
    let (own, others) = nested.unwrap();
    assert!(matches!(own, Err(CallError::Busy(Busy::Component))));
    assert_eq!(others.unwrap(), 7);

    // Effectful: 16 wait for the one place, the next is told so; the other tenant is not concerned.
    let (release, released) = tokio::sync::watch::channel(false);
    let call = |tenant: &std::sync::Arc<ambit_runtime::Tenant>, hold: bool| {
        let (effectful, scope, mut released) =
            (both.effectful.clone(), scope(tenant), released.clone());
        tokio::spawn(async move {
            effectful
                .call(&scope, (), async |store, guest| {
                    if hold {
                        released.wait_for(|released| *released).await?;
                    }
                    guest.ambit_tool_tool().call_run(store, 7).await
                })
                .await
        })
    };
    let holder = call(&a, true);
    while a.calls() == 0 {
        tokio::task::yield_now().await;
    }
    let waiting: Vec<_> = (0..16).map(|_| call(&a, false)).collect();
    let refused = loop {
        // Spawned calls take their places in the queue in their own time.
        let mut call = call(&a, false);
        let patience = std::time::Duration::from_millis(20);
        if let Ok(done) = tokio::time::timeout(patience, &mut call).await {
            break done.unwrap();
        }
        call.abort();
    };
    assert!(matches!(refused, Err(CallError::Busy(Busy::Component))));
    assert_eq!(call(&b, false).await.unwrap().unwrap(), 7);
    release.send(true).unwrap();
    assert_eq!(holder.await.unwrap().unwrap(), 7);
    for call in waiting {
        assert_eq!(call.await.unwrap().unwrap(), 7);
    }
}

/// Two numbers that always belong to the same version; a call that saw two versions would answer a mix.
fn version(n: u64) -> Vec<u8> {
    let module = format!(
        r#"(memory (export "memory") 1) (global $v i64 (i64.const {n}))
        (func (export "run") (param i64) (result i64) (i64.add (i64.mul (global.get $v) (i64.const 1000)) (local.get 0)))"#
    );
    text(AGENT, &module)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_component_is_swapped_while_calls_run() {
    let runtime = runtime();
    let tenant = tenant(&runtime, "swapper");
    let link = |n| {
        let admitted = admitted(&runtime, &version(n), manifest("agent", ""));
        Arc::new(Pure::<(), pure::Guest>::link(&runtime, &admitted, |_| Ok(())).unwrap())
    };
    let current = Arc::new(Mutex::new((1_u64, link(1))));
    let stop = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> = (0..4)
        .map(|_| {
            let (runtime, tenant, current, stop) = (
                runtime.clone(),
                tenant.clone(),
                current.clone(),
                stop.clone(),
            );
            tokio::spawn(async move {
                let mut calls = 0;
                while !stop.load(Ordering::Relaxed) {
                    // A request takes the version it finds and keeps it.
                    let (version, linked) = current.lock().unwrap().clone();
                    let scope = scope(&tenant);
                    let job = move || {
                        let run = |n| {
                            linked.call(&scope, (), |store, guest| {
                                guest.ambit_agent_agent().call_run(store, n)
                            })
                        };
                        (run(1), run(2))
                    };
                    let (one, two) = runtime.executor().run(&tenant, job).await.unwrap();
                    assert_eq!(
                        (one.unwrap(), two.unwrap()),
                        (version * 1_000 + 1, version * 1_000 + 2)
                    );
                    calls += 1;
                }
                calls
            })
        })
        .collect();
    for n in 2..20 {
        let next = link(n);
        *current.lock().unwrap() = (n, next);
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
    stop.store(true, Ordering::Relaxed);
    for caller in callers {
        assert!(caller.await.unwrap() > 0);
    }
    assert_eq!(tenant.memory(), 0);
}
