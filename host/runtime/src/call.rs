//! One call: what it is made for, the data of its store, and how it may end.
//!
//! [`new_store`] is the only place where a store is made, so that no limit can reach one path and miss another.

use crate::{
    base::{Base, Waited},
    engine::EngineClass,
    limiter::Limiter,
    meter::{Limit, Meter, Spent, Tenant},
    pace::thread_time,
    ticker::Ticker,
};
use ambit_policy::Limits;
use ambit_types::{Error, ErrorKind};
use std::{
    sync::{Arc, atomic::AtomicU64},
    time::{Duration, Instant, SystemTime},
};
use wasmtime::{Engine, Store, Trap, UpdateDeadline, component::ResourceTable};

/// Host resources (streams, pollables, requests) a call may hold at once. The host's memory behind them is nobody's guest memory: an interface
/// keeps it within some KiB each, so that a call's is some MiB at most.
const MAX_HANDLES: usize = 256;

/// A pause of a pure guest that takes long, at each tick.
const BREATH: Duration = Duration::from_micros(20);

/// What a call is made for and until when.
#[derive(Debug, Clone)]
pub struct CallScope {
    /// Who pays.
    pub tenant: Arc<Tenant>,
    /// The agent it is done for, as metrics name it.
    pub agent: Option<Arc<str>>,
    /// Where its CPU time is added, in nanoseconds, measured only where this is given.
    pub cpu: Option<Arc<AtomicU64>>,
    /// When the caller stops waiting. The component's own deadline may be earlier.
    pub deadline: Instant,
    /// What the guest's clocks and random functions answer.
    pub clock: Clock,
    /// Narrows the component's limits further, for example by an agent's definition.
    pub limits: Option<Limits>,
}

impl CallScope {
    /// A call with real clocks under the component's own limits.
    #[must_use]
    pub fn new(tenant: Arc<Tenant>, deadline: Instant) -> Self {
        Self {
            tenant,
            agent: None,
            cpu: None,
            deadline,
            clock: Clock::Real,
            limits: None,
        }
    }
}

/// What a guest knows of time and chance.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Clock {
    /// The host's.
    #[default]
    Real,
    /// Stopped at a moment, with random bytes that follow from a seed: the same turn is the same for the guest, whenever and wherever
    /// it is played.
    Turn {
        /// What every clock says.
        time: SystemTime,
        /// What every random byte follows from.
        seed: [u8; 32],
    },
}

/// The data of a call's store.
#[derive(Debug)]
pub struct Call<H> {
    /// What the imports of this component's kind work on.
    pub host: H,
    /// Resources the guest holds.
    pub table: ResourceTable,
    pub(crate) base: Base,
    limiter: Limiter,
    meter: Arc<Meter>,
}

impl<H> Call<H> {
    /// What the call may use and has used.
    #[must_use]
    pub fn meter(&self) -> &Arc<Meter> {
        &self.meter
    }

    /// Makes a warm instance's store that of another call of the same tenant.
    pub(crate) fn renew(&mut self, host: H, meter: Arc<Meter>, clock: Clock) {
        self.host = host;
        self.base.renew(meter.clone(), clock);
        self.limiter.renew(meter.clone());
        self.meter = meter;
    }
}

/// Why a call has no result. None of this names anything of the host's or another tenant's but [`CallError::Host`], which is for the log.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// The component spent one of its limits.
    #[error("the component spent its `{0}` limit")]
    Limit(Limit),
    /// The component failed: a panic, an exit, an illegal operation. The text is for the log.
    #[error("the component trapped: {0}")]
    Trap(String),
    /// Too many calls run at once. Nothing was started.
    #[error("{0}")]
    Busy(Busy),
    /// A host function failed.
    #[error("a host function failed")]
    Host(#[source] wasmtime::Error),
}

/// Who has as many calls running as it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Busy {
    /// All its calls together, or the slots its instances take.
    #[error("the tenant has as many calls running or waiting as it may")]
    Tenant,
    /// Calls of this component for this tenant, over all agents that bind it.
    #[error("the component has as many calls running as it may")]
    Component,
    /// The host: no instance slots are left.
    #[error("the host has as many instances as it may")]
    Host,
}

impl CallError {
    /// Stable name for metrics.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Limit(_) => "limit",
            Self::Trap(_) => "trap",
            Self::Busy(_) => "busy",
            Self::Host(_) => "host",
        }
    }
}

impl From<CallError> for Error {
    fn from(error: CallError) -> Self {
        match &error {
            CallError::Limit(limit) => {
                let kind = ErrorKind::LimitExceeded {
                    limit: limit.as_str(),
                };
                Self::new(
                    kind,
                    format!("a component of this request spent its `{limit}` limit"),
                )
                .because(error)
            }
            CallError::Busy(_) => {
                let kind = ErrorKind::Unavailable {
                    retry_after: Duration::from_secs(1),
                };
                Self::new(kind, "too many calls at once; try again").because(error)
            }
            CallError::Trap(_) | CallError::Host(_) => Self::internal(error),
        }
    }
}

/// Finds out why a call failed. `meter` knows what the error does not say: that an abort followed a refused allocation.
pub(crate) fn classify(error: wasmtime::Error, meter: &Meter) -> CallError {
    if let Some(Spent(limit)) = error
        .downcast_ref::<Spent>()
        .or_else(|| error.chain().find_map(|cause| cause.downcast_ref()))
    {
        return CallError::Limit(*limit);
    }
    if let Some(busy) = error.downcast_ref::<Busy>() {
        return CallError::Busy(*busy);
    }
    if error
        .downcast_ref::<wasmtime::PoolConcurrencyLimitError>()
        .is_some()
    {
        return CallError::Busy(Busy::Host);
    }
    if error.chain().any(|cause| {
        cause
            .downcast_ref::<wasmtime::component::ResourceTableError>()
            .is_some()
    }) {
        return CallError::Limit(Limit::Handles);
    }
    let trap = error.downcast_ref::<Trap>().copied();
    if trap == Some(Trap::StackOverflow) {
        return CallError::Limit(Limit::Stack);
    }
    // wasmtime keeps this error's type to itself; a test of the hostile suite would notice another text.
    if error.chain().any(|cause| {
        cause
            .to_string()
            .starts_with("too much data is being copied between the host and the guest")
    }) {
        return CallError::Limit(Limit::Result);
    }
    // So does wasi:http with the size of headers, which a test of the tools notices.
    if error
        .chain()
        .any(|cause| cause.to_string() == "total size of fields exceeds limit")
    {
        return CallError::Limit(Limit::Handles);
    }
    if error
        .chain()
        .any(|cause| cause.to_string().starts_with("resource limit exceeded"))
    {
        return CallError::Limit(Limit::Instances);
    }
    if let Some(limit) = meter.refused() {
        return CallError::Limit(limit);
    }
    if let Some(trap) = trap {
        return CallError::Trap(trap.to_string());
    }
    if let Some(waited) = error.downcast_ref::<Waited>() {
        return CallError::Trap(waited.to_string());
    }
    match error.downcast_ref::<wasmtime_wasi::I32Exit>() {
        Some(exit) => CallError::Trap(format!("exit({})", exit.0)),
        None => CallError::Host(error),
    }
}

/// Makes a store that holds a call to its limits.
pub(crate) fn new_store<H: Send + 'static>(
    engine: &Engine,
    class: EngineClass,
    ticker: &Arc<Ticker>,
    host: H,
    meter: Arc<Meter>,
    clock: Clock,
) -> Store<Call<H>> {
    let mut table = ResourceTable::new();
    table.set_max_capacity(MAX_HANDLES);
    let mut store = Store::new(
        engine,
        Call {
            host,
            table,
            base: Base::new(meter.clone(), clock),
            limiter: Limiter::new(meter.clone()),
            meter,
        },
    );
    store.limiter(|call| &mut call.limiter);
    match class {
        // Pure components never wait: what their thread spends is theirs.
        EngineClass::Pure => store.epoch_deadline_callback(|store| {
            let meter = &store.data().meter;
            meter.spin(thread_time()).inspect_err(|spent| {
                if spent.0 == Limit::Cpu {
                    meter.tenant().takes_long();
                }
            })?;
            if meter.is_long() {
                // Whoever woke meanwhile has its turn. A kernel may let a thread that never waits run for several of its own ticks,
                // whatever its priority, and who is kept from the core may be the one that brings the disk's answer to everybody.
                std::thread::sleep(BREATH);
            }
            Ok(UpdateDeadline::Continue(1))
        }),
        // Time is billed by `pace`.
        EngineClass::Effectful => {
            let ticker = ticker.clone();
            store.epoch_deadline_callback(move |store| {
                // Others on this thread have their turn, unless they had it just now: time went on while the guest waited too.
                Ok(if store.data().meter.resumed() == ticker.now() {
                    UpdateDeadline::Continue(1)
                } else {
                    UpdateDeadline::Yield(1)
                })
            });
        }
    }
    arm(&mut store);
    store
}

/// Sets a store's limits for the next call in it.
pub(crate) fn arm<H: 'static>(store: &mut Store<Call<H>>) {
    let result = store.data().meter.limits().result;
    store.set_hostcall_fuel(usize::try_from(result).unwrap_or(usize::MAX));
    store.set_epoch_deadline(1);
}
