//! What a component call costs: `cargo run --release -p ambit-runtime --example call_cost [COMPONENT.wasm …]`.
//!
//! Prints, in microseconds, the median of several rounds of an empty call on each engine, reused and fresh, and for each pure component
//! named on the command line, as the build writes it, the same of one real call.

#[path = "../tests/it/samples.rs"]
mod samples;

use ambit_policy::{Manifest, Permissions};
use ambit_runtime::{CallScope, Code, Effectful, Pure, Runtime, RuntimeConfig, admit};
use std::{
    error::Error,
    hint::black_box,
    io::Write as _,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

mod pure {
    wasmtime::component::bindgen!({
        inline: "package ambit:agent@0.1.0; interface agent { run: func(n: u64) -> u64; } world guest { export agent; }",
        world: "guest",
    });
    ambit_runtime::bindings!(Guest, GuestPre);
}

mod effectful {
    wasmtime::component::bindgen!({
        inline: "package ambit:tool@0.1.0; interface tool { run: func(n: u64) -> u64; } world guest { export tool; }",
        world: "guest",
        exports: { default: async },
    });
    ambit_runtime::bindings!(Guest, GuestPre);
}

fn main() -> Result<(), Box<dyn Error>> {
    let runtime = Runtime::new(RuntimeConfig::default())?;
    let scope = CallScope::new(
        runtime.host_tenant().clone(),
        Instant::now() + Duration::from_secs(3_600),
    );
    let mut out = std::io::stdout().lock();
    for reuse in ["warm-serial", "fresh"] {
        let code = load(&runtime, &empty("ambit:agent/agent@0.1.0"), "agent", reuse)?;
        let admitted = admit(&code, &Permissions::default())?;
        let link = |_| Pure::<(), pure::Guest>::link(&runtime, &admitted, |_| Ok(()));
        let six = (0..6).map(link).collect::<Result<Vec<_>, _>>()?;
        let empty_call = |linked: &Pure<(), pure::Guest>| {
            let result = linked.call(&scope, (), |store, guest| {
                guest.ambit_agent_agent().call_run(store, black_box(1))
            });
            black_box(result).is_ok()
        };
        let cost = median(|| empty_call(&six[0]));
        writeln!(out, "pure       empty call, {reuse:12} {cost:8.2} µs")?;
        let cost = median(|| six.iter().all(empty_call));
        writeln!(out, "pure       six empty calls, {reuse:7} {cost:8.2} µs")?;
    }
    let tokio = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()?;
    for reuse in ["warm-serial", "fresh"] {
        let code = load(&runtime, &empty("ambit:tool/tool@0.1.0"), "tool", reuse)?;
        let linked = Effectful::<(), effectful::Guest>::link(
            &runtime,
            &admit(&code, &Permissions::default())?,
            |_| Ok(()),
        )?;
        let cost = median(|| {
            let call = linked.call(&scope, (), async |store, guest| {
                guest.ambit_tool_tool().call_run(store, black_box(1)).await
            });
            black_box(tokio.block_on(call)).is_ok()
        });
        writeln!(out, "effectful  empty call, {reuse:12} {cost:8.2} µs")?;
    }
    for path in std::env::args_os().skip(1).map(PathBuf::from) {
        let wasm = std::fs::read(&path)?;
        let stem = path.file_stem().and_then(|stem| stem.to_str());
        let sampled = samples::COMPONENTS
            .into_iter()
            .find(|(name, _)| Some(*name) == stem);
        let (name, what) = sampled.ok_or_else(|| format!("no call for {}", path.display()))?;
        for reuse in ["warm-serial", "fresh"] {
            let mut call = samples::sample(&runtime, name, &wasm, reuse)?;
            let cost = median(|| call(&scope));
            writeln!(out, "pure       {name} {what}, {reuse:12} {cost:8.2} µs")?;
        }
    }
    Ok(())
}

/// Answers what it is called with.
fn empty(interface: &str) -> Vec<u8> {
    let text = format!(
        r#"(component
            (core module $m (memory 1) (func (export "run") (param i64) (result i64) local.get 0))
            (core instance $i (instantiate $m))
            (func $run (param "n" u64) (result u64) (canon lift (core func $i "run")))
            (instance $e (export "run" (func $run)))
            (export "{interface}" (instance $e)))"#
    );
    wat::parse_str(text).unwrap_or_default()
}

fn load(
    runtime: &Runtime,
    wasm: &[u8],
    kind: &str,
    reuse: &str,
) -> Result<Arc<Code>, Box<dyn Error>> {
    let text = format!(
        "[component]\nname = \"bench:empty\"\nversion = \"0.1.0\"\nkind = \"{kind}\"\nreuse = \"{reuse}\"\n"
    );
    let manifest = Manifest::parse(&text).map_err(|problems| format!("{problems:?}"))?;
    Ok(runtime.load_blocking(wasm, manifest)?)
}

/// Microseconds of this thread's time for one call: the median of 21 rounds of 2,000 calls. CPU time, not wall time, so that other work
/// on the machine moves it little.
fn median(mut call: impl FnMut() -> bool) -> f64 {
    const CALLS: u32 = 2_000;
    let mut rounds: Vec<f64> = (0..21)
        .map(|_| {
            let began = samples::cpu_time();
            for _ in 0..CALLS {
                assert!(call(), "the call succeeds");
            }
            (samples::cpu_time() - began).as_secs_f64() * 1e6 / f64::from(CALLS)
        })
        .collect();
    rounds.sort_by(f64::total_cmp);
    rounds[rounds.len() / 2]
}
