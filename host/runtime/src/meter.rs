//! What a call may use, and what it has used.
//!
//! A [`Meter`] belongs to one call and is shared by everything that works for it: the store's limiter, the epoch callback, log and
//! egress streams. A [`Tenant`](crate::Tenant) is shared by all calls of one tenant, whatever component runs. A limit that is spent ends the
//! call with [`Spent`]; nothing else happens: no other call, tenant or thread notices.
//!
//! Guest time is counted in ticks of the epoch, one per callback: a callback runs only while the guest does, so neither a
//! host call nor a thread taken off its core is billed. wasmtime's own epoch deadline would bill both.

use crate::{Tenant, ticker::TICK};
use ambit_policy::Limits;
use parking_lot::Mutex;
use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Instant,
};

/// A limit a call can spend. The names are those of the manifest's `[limits]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Limit {
    /// Bytes over all memories and tables of the call.
    Memory,
    /// Bytes over all calls of the tenant.
    TenantMemory,
    /// Ticks the guest ran.
    Cpu,
    /// Wall time of the whole call.
    Deadline,
    /// Depth of the guest's stack.
    Stack,
    /// Bytes sent and received over the network.
    Egress,
    /// Bytes handed to the host, in a result or in the arguments of a host function.
    Result,
    /// Bytes written to stdout and stderr.
    Log,
    /// Number of core instances, memories or tables.
    Instances,
    /// Elements of all tables together.
    Tables,
    /// Host resources (streams, requests, pollables) held at once.
    Handles,
}

impl Limit {
    /// Stable name for errors and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::TenantMemory => "tenant-memory",
            Self::Cpu => "cpu",
            Self::Deadline => "deadline",
            Self::Stack => "stack",
            Self::Egress => "egress",
            Self::Result => "result",
            Self::Log => "log",
            Self::Instances => "instances",
            Self::Tables => "tables",
            Self::Handles => "handles",
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The call has spent a limit. Returned from a host function as a trap it ends the call as [`CallError::Limit`](crate::CallError::Limit).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the call has spent its `{0}` limit")]
pub struct Spent(pub Limit);

/// One call's use of its limits.
#[derive(Debug)]
pub struct Meter {
    tenant: Arc<Tenant>,
    limits: Limits,
    deadline: Instant,
    ticks: AtomicU64,
    max_ticks: u64,
    egress: AtomicU64,
    log: AtomicU64,
    /// The last thing refused, a growth of memory or a transfer. Not yet an error: the guest may live with less.
    refused: Mutex<Option<Limit>>,
    /// Set when the call is over: streams that outlive it charge nobody.
    over: AtomicBool,
}

impl Meter {
    pub(crate) fn new(tenant: Arc<Tenant>, limits: Limits, deadline: Instant) -> Arc<Self> {
        let max_ticks = limits.cpu.as_nanos().div_ceil(TICK.as_nanos());
        Arc::new(Self {
            tenant,
            deadline,
            max_ticks: u64::try_from(max_ticks).unwrap_or(u64::MAX).max(1),
            limits,
            ticks: AtomicU64::new(0),
            egress: AtomicU64::new(0),
            log: AtomicU64::new(0),
            refused: Mutex::new(None),
            over: AtomicBool::new(false),
        })
    }

    /// For whom.
    #[must_use]
    pub fn tenant(&self) -> &Arc<Tenant> {
        &self.tenant
    }

    /// The limits in force.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// When the call ends, done or not.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Ticks (milliseconds) the guest ran.
    #[must_use]
    pub fn cpu_ms(&self) -> u64 {
        self.ticks.load(Ordering::Relaxed)
    }

    /// Bytes charged as egress.
    #[must_use]
    pub fn egress(&self) -> u64 {
        self.egress.load(Ordering::Relaxed)
    }

    /// Bytes logged.
    #[must_use]
    pub fn log(&self) -> u64 {
        self.log.load(Ordering::Relaxed)
    }

    /// Charges bytes sent or received over the network, before they are handed on.
    ///
    /// # Errors
    ///
    /// When this would spend more than the limit, or the call is over.
    pub fn charge_egress(&self, bytes: u64) -> Result<(), Spent> {
        self.charge(&self.egress, bytes, self.limits.egress, Limit::Egress)
    }

    pub(crate) fn charge_log(&self, bytes: u64) -> Result<(), Spent> {
        self.charge(&self.log, bytes, self.limits.log, Limit::Log)
    }

    fn charge(&self, used: &AtomicU64, bytes: u64, max: u64, limit: Limit) -> Result<(), Spent> {
        let add = |used: u64| used.checked_add(bytes).filter(|sum| *sum <= max);
        let charged = !self.over.load(Ordering::Relaxed)
            && used
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, add)
                .is_ok();
        if charged {
            Ok(())
        } else {
            self.refuse(limit);
            Err(Spent(limit))
        }
    }

    /// Counts one tick of guest time.
    pub(crate) fn tick(&self) -> Result<(), Spent> {
        self.tenant.tick();
        if self.ticks.fetch_add(1, Ordering::Relaxed) + 1 >= self.max_ticks {
            return Err(Spent(Limit::Cpu));
        }
        self.check_deadline()
    }

    pub(crate) fn check_deadline(&self) -> Result<(), Spent> {
        if Instant::now() >= self.deadline {
            Err(Spent(Limit::Deadline))
        } else {
            Ok(())
        }
    }

    pub(crate) fn refuse(&self, limit: Limit) {
        *self.refused.lock() = Some(limit);
    }

    /// The limit that made a growth or a transfer fail, if one did: why the guest then gave up.
    pub(crate) fn refused(&self) -> Option<Limit> {
        *self.refused.lock()
    }

    pub(crate) fn end(&self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TenantLimits;
    use ambit_types::TenantId;
    use std::time::Duration;

    fn meter(limits: Limits) -> Arc<Meter> {
        let tenant = Tenant::new(
            TenantId::new(),
            "acme".parse().unwrap(),
            TenantLimits::default(),
        );
        Meter::new(tenant, limits, Instant::now() + Duration::from_secs(60))
    }

    #[test]
    fn a_byte_over_the_limit_is_refused_and_remembered() {
        let limits = Limits {
            egress: 10,
            log: 5,
            ..Limits::default()
        };
        let meter = meter(limits);
        assert_eq!(meter.charge_egress(10), Ok(()));
        assert_eq!(meter.refused(), None);
        assert_eq!(meter.charge_egress(1), Err(Spent(Limit::Egress)));
        assert_eq!(meter.charge_egress(u64::MAX), Err(Spent(Limit::Egress)));
        assert_eq!((meter.egress(), meter.refused()), (10, Some(Limit::Egress)));
        assert_eq!(meter.charge_log(5), Ok(()));
        meter.end();
        assert_eq!(
            meter.charge_log(0),
            Err(Spent(Limit::Log)),
            "nobody pays for a call that is over"
        );
    }

    #[test]
    fn time_is_counted_in_whole_ticks() {
        let limits = Limits {
            cpu: Duration::from_micros(2_500),
            ..Limits::default()
        };
        let meter = meter(limits);
        let ticks: Vec<_> = (0..3).map(|_| meter.tick()).collect();
        assert_eq!(ticks, [Ok(()), Ok(()), Err(Spent(Limit::Cpu))]);
        assert_eq!((meter.cpu_ms(), meter.tenant().cpu_ms()), (3, 3));
    }
}
