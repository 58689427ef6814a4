//! Snapshots: a component whose start-up work is done.
//!
//! A fresh instance per call pays for everything the guest sets up at its first use: 14 lazily compiled regexes cost 9.9 ms in each. The
//! build therefore runs every pure component once, calls its export [`INITIALIZE`], and writes the memory it leaves back as the
//! component's initial memory.
//!
//! What a guest's author does: export `wizer-initialize: func()` from the world's root (widen the world inline:
//! `world component { include ambit:guardrail/guest@0.1.0; export wizer-initialize: func(); }`) and force every lazy table there.
//! A component without that export stays as it is. Rules:
//! - Only the base works then. Every clock says the epoch, random bytes are the same in every build, output is thrown away; any
//!   other import traps.
//! - A snapshot is public and the same in every call. Nothing secret may be in it. `HashMap` draws its seed once per thread and keeps
//!   it: once one was made in `wizer-initialize`, every later one in that component has a known seed. Keys a caller chooses then
//!   belong in a `BTreeMap` or a sorted list; tables of fixed keys do not care. The seed cannot be drawn anew from outside: it lies
//!   somewhere in the guest's memory. A guest that fills a known-seed map with hostile keys spends its own `cpu` limit, no more.
//! - Host resources (streams, pollables) must be gone when it returns: handles are not part of a memory.
//!
//! The export stays in the component (`keep_init_func`): without it what comes out does not validate.

use crate::{
    TenantLimits, base,
    call::{Call, Clock, new_store},
    engine::{Allocation, EngineClass, Engines},
    meter::{Meter, Tenant},
    ticker::Ticker,
    warm::Warm,
};
use ambit_policy::Limits;
use ambit_types::TenantId;
use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};
use tokio::time::timeout;
use wasmtime::component::{Component, Linker, ResourceType, types::ComponentItem};
use wasmtime_wizer::Wizer;

/// The export a snapshot calls.
pub const INITIALIZE: &str = "wizer-initialize";

/// Time an initialisation may take: it is compiled without the optimiser's help and runs once, on the builder's machine.
const DEADLINE: Duration = Duration::from_secs(60);

/// No snapshot could be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// It is not a component, traps in its initialisation, or does what a snapshot cannot hold.
    #[error("cannot make a snapshot of the component")]
    Failed(#[source] wasmtime::Error),
    /// No thread or no async runtime.
    #[error("cannot start what runs the component")]
    Start(#[source] std::io::Error),
}

/// The component with its initialisation done, or unchanged if it has none.
///
/// # Errors
///
/// When it is not a component or its initialisation fails.
pub fn snapshot(wasm: &[u8]) -> Result<Vec<u8>, SnapshotError> {
    let engines = Engines::new(Allocation::OnDemand).map_err(SnapshotError::Failed)?;
    let engine = &engines.effectful;
    let component = Component::from_binary(engine, wasm).map_err(SnapshotError::Failed)?;
    if component
        .component_type()
        .get_export(engine, INITIALIZE)
        .is_none()
    {
        return Ok(wasm.to_vec());
    }
    let ticker =
        Arc::new(Ticker::start(engines.clone(), Warm::default()).map_err(SnapshotError::Start)?);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .map_err(SnapshotError::Start)?;
    let taken = runtime.block_on(async { timeout(DEADLINE, run(wasm, &engines, &ticker)).await });
    taken
        .unwrap_or_else(|_| Err(wasmtime::Error::msg("its initialisation does not end")))
        .map_err(SnapshotError::Failed)
}

/// Defines every import beyond base as a trap. Not wasmtime's `define_unknown_imports_as_traps`: that one compares exact versions, so it
/// would put a trap in front of a base interface that is linked in a compatible one.
fn trap_beyond_base(linker: &mut Linker<Call<()>>, component: &Component) -> wasmtime::Result<()> {
    let engine = linker.engine().clone();
    for (name, import) in component.component_type().imports(&engine) {
        let ComponentItem::ComponentInstance(instance) = import.ty else {
            continue;
        };
        if BASE.iter().any(|base| name.starts_with(base)) {
            continue;
        }
        let mut traps = linker.instance(name)?;
        for (item, export) in instance.exports(&engine) {
            match export.ty {
                ComponentItem::ComponentFunc(_) => {
                    let called = format!("{name}#{item}");
                    traps.func_new(item, move |_, _, _, _| {
                        Err(wasmtime::Error::msg(format!(
                            "`{called}` cannot be called in a snapshot"
                        )))
                    })?;
                }
                ComponentItem::Resource(_) => {
                    traps.resource(item, ResourceType::host::<()>(), |_, _| Ok(()))?
                }
                _ => {}
            }
        }
    }
    Ok(())
}

/// Packages of the base.
const BASE: [&str; 4] = ["wasi:cli/", "wasi:clocks/", "wasi:io/", "wasi:random/"];

async fn run(wasm: &[u8], engines: &Engines, ticker: &Arc<Ticker>) -> wasmtime::Result<Vec<u8>> {
    let limits = Limits {
        memory: 1 << 30,
        cpu: DEADLINE,
        deadline: DEADLINE,
        // The whole memory is read out as a result.
        result: u64::MAX,
        ..Limits::default()
    };
    let tenant = Tenant::new(
        TenantId::new(),
        "snapshot".parse()?,
        TenantLimits::default(),
    );
    let meter = Meter::new(tenant, limits, Instant::now() + DEADLINE);
    let clock = Clock::Turn {
        time: SystemTime::UNIX_EPOCH,
        seed: [0; 32],
    };
    let engine = &engines.effectful;
    let mut store = new_store(engine, EngineClass::Effectful, ticker, (), meter, clock);
    let mut linker = Linker::<Call<()>>::new(engine);
    base::link_effectful(&mut linker)?;
    let _running = ticker.running();
    let mut wizer = Wizer::new();
    wizer.init_func(INITIALIZE).keep_init_func(true);
    let (wasm, _) = wizer
        .run_component(&mut store, wasm, async move |store, component| {
            // What is not base may be imported, and traps when it is called.
            trap_beyond_base(&mut linker, component)?;
            linker.instantiate_async(store, component).await
        })
        .await?;
    Ok(wasm)
}
