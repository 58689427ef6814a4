//! Each limit alone, on both engines.

use crate::support::{self, Both, TIGHT, runtime, scope, tenant};
use ambit_runtime::Limit;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

/// `check` runs `module`'s `run(n)` under [`TIGHT`] limits.
async fn check(name: &str, module: &str, n: u64, expected: Result<u64, &str>) {
    let runtime = runtime();
    let tenant = tenant(&runtime, name);
    let both = Both::new(&runtime, module, TIGHT);
    assert_eq!(
        both.run(&scope(&tenant), n).await,
        expected.map_err(str::to_owned),
        "{name}"
    );
    assert_eq!(tenant.memory(), 0, "{name}: memory is given back");
    assert_eq!(tenant.calls(), 0, "{name}: the place is given back");
}

#[tokio::test]
async fn an_honest_guest_answers() {
    check("honest", r#"(memory (export "memory") 1) (func (export "run") (param i64) (result i64) local.get 0)"#, 42, Ok(42)).await;
}

/// A limit counts ticks; who pays by CPU time pays for calls shorter than one too.
#[tokio::test]
async fn a_short_call_is_paid_for() {
    let module = r#"(memory (export "memory") 1) (func (export "run") (param i64) (result i64) local.get 0)"#;
    let runtime = runtime();
    let tenant = tenant(&runtime, "short");
    let both = Both::new(&runtime, module, TIGHT);
    let mut scope = scope(&tenant);
    let paid = Arc::new(AtomicU64::new(0));
    scope.cpu = Some(paid.clone());
    let pure = both.pure.call(&scope, (), |store, guest| {
        guest.ambit_agent_agent().call_run(store, 7)
    });
    let by_pure = paid.load(Ordering::Relaxed);
    assert!(pure.is_ok() && by_pure > 0, "{pure:?}, {by_pure} ns");
    let effectful = both
        .effectful
        .call(&scope, (), async |store, guest| {
            guest.ambit_tool_tool().call_run(store, 7).await
        })
        .await;
    let by_both = paid.load(Ordering::Relaxed);
    assert!(effectful.is_ok() && by_both > by_pure, "{effectful:?}");
}

#[tokio::test]
async fn a_tight_loop_is_cut_at_its_ticks() {
    let module = r#"(memory (export "memory") 1) (func (export "run") (param i64) (result i64) (loop $l (br $l)) unreachable)"#;
    let runtime = runtime();
    let tenant = tenant(&runtime, "tight-loop");
    let both = Both::new(&runtime, module, TIGHT);
    assert_eq!(both.run(&scope(&tenant), 0).await, Err("limit cpu".into()));
    // Two calls of 30 ticks each; a tick is counted while the guest runs and at no other time. The last may be counted with the one before it.
    assert!((60..=66).contains(&tenant.cpu_ms()), "{}", tenant.cpu_ms());
    assert_eq!(
        runtime
            .metrics()
            .limit_hits("test:guest", "tight-loop", None, Limit::Cpu),
        2
    );
    let mut of_agent = scope(&tenant);
    of_agent.agent = Some("support".into());
    assert_eq!(both.run(&of_agent, 0).await, Err("limit cpu".into()));
    let counted = |agent| {
        let metrics = runtime.metrics();
        metrics.limit_hits("test:guest", "tight-loop", agent, Limit::Cpu)
    };
    assert_eq!((counted(Some("support")), counted(None)), (2, 2));
    // Its next jobs step back behind those of others.
    let quiet = support::tenant(&runtime, "quiet");
    for (tenant, threads) in [(&tenant, "ambit-slow-"), (&quiet, "ambit-pure-")] {
        let name = || std::thread::current().name().unwrap_or_default().to_owned();
        let name = runtime.executor().run(tenant, name).await.unwrap();
        assert!(name.starts_with(threads), "{name}");
    }
}

/// What a quiet machine lets a guest finish a busy one does too: what the guest waits for a core is not its own time.
#[tokio::test]
async fn a_busy_machine_takes_nothing_of_a_guests_time() {
    let module = r#"(memory (export "memory") 1) (func (export "run") (param i64) (result i64) (loop $l (br $l)) unreachable)"#;
    let runtime = runtime();
    let tenant = tenant(&runtime, "busy-machine");
    let both = Both::new(
        &runtime,
        module,
        "[limits]\ncpu = \"100ms\"\ndeadline = \"60s\"\n",
    );
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    let over = Arc::new(AtomicBool::new(false));
    let busy: Vec<_> = (0..3 * cores)
        .map(|_| {
            let over = over.clone();
            std::thread::spawn(move || while !over.load(Ordering::Relaxed) {})
        })
        .collect();
    let mut scope = scope(&tenant);
    let paid = Arc::new(AtomicU64::new(0));
    scope.cpu = Some(paid.clone());
    let cut = both.run(&scope, 0).await;
    over.store(true, Ordering::Relaxed);
    for thread in busy {
        thread.join().unwrap();
    }
    assert_eq!(cut, Err("limit cpu".into()));
    // Each engine's call had what it may have; the first tick of a pure call is counted whole.
    let had = Duration::from_nanos(paid.load(Ordering::Relaxed));
    assert!(had >= Duration::from_millis(198), "{had:?}");
}

#[tokio::test]
async fn a_guest_is_cut_where_its_caller_stops_waiting() {
    let module = r#"(memory (export "memory") 1) (func (export "run") (param i64) (result i64) (loop $l (br $l)) unreachable)"#;
    let runtime = runtime();
    let tenant = tenant(&runtime, "deadline");
    let both = Both::new(
        &runtime,
        module,
        "[limits]\ncpu = \"60s\"\ndeadline = \"60s\"\n",
    );
    let mut scope = scope(&tenant);
    scope.deadline = std::time::Instant::now() + std::time::Duration::from_millis(50);
    assert_eq!(
        both.run(&scope, 0).await,
        Err("limit deadline".into()),
        "the second call finds its deadline past"
    );
    assert!(tenant.cpu_ms() < 60_000);
}

#[tokio::test]
async fn memory_is_one_sum_over_all_memories() {
    // Eight memories of one page; `run` grows each in turn by n pages until one refuses, and answers how often it grew.
    let memories = (0..8).map(|n| {
        format!(
            "(memory $m{n} {} 1)",
            if n == 0 { "(export \"memory\")" } else { "" }
        )
    });
    let grows = (0..8).map(|n| {
        format!(
            "(if (i32.eq (memory.grow $m{n} (i32.wrap_i64 (local.get 0))) (i32.const -1)) (then (return (local.get 1))))
             (local.set 1 (i64.add (local.get 1) (i64.const 1)))"
        )
    });
    let module = format!(
        r#"{} (func (export "run") (param i64) (result i64) (local i64) (loop $l {} (br $l)) unreachable)"#,
        memories.collect::<String>(),
        grows.collect::<String>()
    );
    // 16 MiB are 256 pages: eight are there from the start, so 15 growths of 16 pages fit, whatever memory they are of.
    check("many-memories", &module, 16, Ok(15)).await;
}

#[tokio::test]
async fn a_growth_the_type_forbids_gives_nothing_back() {
    // Grows by one page, then asks for more than a memory can ever have, 1,000 times: answers how often it grew.
    let module = r#"(memory (export "memory") 1) (func (export "run") (param i64) (result i64) (local i64)
        (loop $l
            (if (i32.ne (memory.grow (i32.const 1)) (i32.const -1)) (then (local.set 1 (i64.add (local.get 1) (i64.const 1)))))
            (drop (memory.grow (i32.const 65536)))
            (local.set 0 (i64.sub (local.get 0) (i64.const 1)))
            (br_if $l (i64.ne (local.get 0) (i64.const 0))))
        (local.get 1))"#;
    check("forbidden-growth", module, 1_000, Ok(255)).await;
}

#[tokio::test]
async fn a_huge_initial_memory_is_not_given() {
    let module = r#"(memory (export "memory") 1000) (func (export "run") (param i64) (result i64) local.get 0)"#;
    check("huge-initial", module, 1, Err("limit memory")).await;
}

#[tokio::test]
async fn an_allocation_that_fails_names_the_limit_not_the_abort() {
    let module = r#"(memory (export "memory") 1) (func (export "run") (param i64) (result i64)
        (loop $l (br_if $l (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) unreachable)"#;
    check("memory-abort", module, 0, Err("limit memory")).await;
}

#[tokio::test]
async fn tables_count_by_elements_and_as_memory() {
    // Answers how many times a table of functions grew by n elements.
    let module = r#"(memory (export "memory") 1) (table $t 0 funcref) (func (export "run") (param i64) (result i64) (local i64)
        (loop $l
            (if (i32.eq (table.grow $t (ref.null func) (i32.wrap_i64 (local.get 0))) (i32.const -1)) (then (return (local.get 1))))
            (local.set 1 (i64.add (local.get 1) (i64.const 1)))
            (br $l))
        unreachable)"#;
    check("table-growth", module, 1_000, Ok(65)).await;
}

#[tokio::test]
async fn more_memories_than_an_instance_may_have_are_not_made() {
    let more = "(memory 1)".repeat(12);
    let module = format!(
        r#"(memory (export "memory") 1) {more} (func (export "run") (param i64) (result i64) local.get 0)"#
    );
    let runtime = runtime();
    let both = Both::new(&runtime, &module, "[limits]\ninstances = 8\n");
    assert_eq!(
        both.run(&scope(&tenant(&runtime, "instances")), 0).await,
        Err("limit instances".into())
    );
}

#[tokio::test]
async fn deep_recursion_ends_at_the_stack() {
    let module = r#"(memory (export "memory") 1) (func $f (export "run") (param i64) (result i64)
        (i64.add (i64.const 1) (call $f (i64.add (local.get 0) (i64.const 1)))))"#;
    check("recursion", module, 0, Err("limit stack")).await;
}

#[tokio::test]
async fn a_long_result_is_not_lifted() {
    // `bytes(n)` answers n bytes of a memory of 4 MiB.
    let module = r#"(memory (export "memory") 64) (func (export "run") (param i64) (result i64) local.get 0)
        (func (export "bytes") (param i32) (result i32)
            (i32.store (i32.const 0) (i32.const 8)) (i32.store (i32.const 4) (local.get 0)) (i32.const 0))"#;
    let runtime = runtime();
    let tenant = tenant(&runtime, "long-result");
    let both = Both::new(&runtime, module, TIGHT);
    assert_eq!(both.bytes(&scope(&tenant), 60 << 10).await, Ok(60 << 10));
    assert_eq!(
        both.bytes(&scope(&tenant), 65 << 10).await,
        Err("limit result".into())
    );
    assert_eq!(
        both.bytes(&scope(&tenant), (4 << 20) - 8).await,
        Err("limit result".into())
    );
}

#[tokio::test]
async fn a_start_function_that_traps_or_spins_is_a_failed_call() {
    let rest = r#"(memory (export "memory") 1) (func (export "run") (param i64) (result i64) local.get 0)"#;
    let trap = format!("(func $start unreachable) (start $start) {rest}");
    check(
        "start-trap",
        &trap,
        0,
        Err("trap wasm trap: wasm `unreachable` instruction executed"),
    )
    .await;
    let spin = format!("(func $start (loop $l (br $l))) (start $start) {rest}");
    check("start-spin", &spin, 0, Err("limit cpu")).await;
}

#[tokio::test]
async fn a_tenants_memory_is_one_sum_over_its_calls() {
    use ambit_runtime::{Runtime, RuntimeConfig, TenantLimits};
    let limits = TenantLimits {
        memory: 3 << 20,
        ..TenantLimits::default()
    };
    let runtime = Runtime::new(RuntimeConfig {
        tenant: limits,
        ..RuntimeConfig::default()
    })
    .unwrap();
    let module = r#"(memory (export "memory") 1) (func (export "run") (param i64) (result i64)
        (i64.extend_i32_s (memory.grow (i32.wrap_i64 (local.get 0)))))"#;
    let both = Both::new(&runtime, module, "");
    let (poor, other) = (tenant(&runtime, "poor"), tenant(&runtime, "other"));
    // While one call holds 2 MiB, the next has 1 MiB left; another tenant has its own.
    let held = both.pure.call(&scope(&poor), (), |store, guest| {
        let grown = guest.ambit_agent_agent().call_run(&mut *store, 31)?;
        let again = both.pure.call(&scope(&poor), (), |store, guest| {
            guest.ambit_agent_agent().call_run(store, 31)
        });
        let less = both.pure.call(&scope(&poor), (), |store, guest| {
            guest.ambit_agent_agent().call_run(store, 7)
        });
        let elsewhere = both.pure.call(&scope(&other), (), |store, guest| {
            guest.ambit_agent_agent().call_run(store, 31)
        });
        Ok((grown, again.unwrap(), less.unwrap(), elsewhere.unwrap()))
    });
    assert_eq!(held.unwrap(), (1, u64::MAX, 1, 1));
    assert_eq!(poor.memory() + other.memory(), 0);
}

#[tokio::test]
async fn what_is_written_as_text_is_a_tool_like_any_other() {
    use crate::{base::invoke, support::hostile_text};
    let runtime = runtime();
    for (name, expected) in [
        ("many_memories", "limit memory"),
        ("table_growth", "limit tables"),
    ] {
        let component = hostile_text("tool").replace("MODULE", &hostile_text(name));
        let wasm = wat::parse_str(component).unwrap_or_else(|error| panic!("{error}"));
        let tool =
            crate::support::admitted(&runtime, &wasm, crate::support::manifest("tool", TIGHT));
        let tool = crate::base::Tool::link(&runtime, &tool, |_| Ok(())).unwrap();
        let tenant = tenant(&runtime, "text");
        let described = tool
            .call(&scope(&tenant), (), async |store, guest| {
                guest.ambit_tool_tool().call_describe(store).await
            })
            .await;
        assert_eq!(described.unwrap()[0].name, "misbehave");
        assert_eq!(
            invoke(&tool, &scope(&tenant), "x").await,
            Err(expected.into())
        );
    }
}
