//! What a call may use, and what it has used.
//!
//! A [`Meter`] belongs to one call and is shared by everything that works for it: the store's limiter, the epoch callback, log and
//! egress streams. A [`Tenant`] is shared by all calls of one tenant, whatever component runs. A limit that is spent ends the
//! call with [`Spent`]; nothing else happens: no other call, tenant or thread notices.
//!
//! Time is counted in ticks of a thread's CPU time, so that a thread taken off its core is not billed; wasmtime's own epoch deadline would
//! bill that. On the pure engine the clock is read at each callback of the epoch, and the first counts as a tick: reading it at the start
//! as well would cost every call, and most are over before. On the other engine [`pace`](crate::pace) measures.

use crate::{places::Of, ticker::TICK, turnstile::Turnstile};
use ambit_policy::Limits;
use ambit_types::{TenantId, TenantSlug};
use parking_lot::Mutex;
use std::{
    fmt,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::sync::Semaphore;

/// A limit a call can spend. The names are those of the manifest's `[limits]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Limit {
    /// Bytes over all memories and tables of the call.
    Memory,
    /// Bytes over all calls of the tenant.
    TenantMemory,
    /// Ticks a thread worked for the call.
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
    /// Host resources (streams, requests, pollables) held at once, or what one of them holds.
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

/// What all calls of a tenant may use together.
#[derive(Debug, Clone, Copy)]
pub struct TenantLimits {
    /// Bytes of guest memory over all running and warm instances.
    pub memory: u64,
    /// Calls running at once. More are answered [`Busy`](crate::Busy), not queued: queues stand before, in the executor.
    pub concurrency: u32,
    /// Jobs waiting in the executor.
    pub queue: usize,
}

impl Default for TenantLimits {
    /// Room for 64 calls of the default 32 MiB, as many waiting again as run, times sixteen: some 100 ms of guardrail work.
    fn default() -> Self {
        Self {
            memory: 2 << 30,
            concurrency: 256,
            queue: 4_096,
        }
    }
}

/// A tenant is slow for so many milliseconds after its pure guests took long.
const SLOW_FOR: u64 = 10_000;
/// CPU time of a second that a tenant's pure guests may spend in calls of more than a tick. The components the project ships judge 64 KiB in
/// a tick or four, and usual texts within the first.
const SPINS: Duration = Duration::from_millis(100);

/// Milliseconds since it was asked for the first time.
fn uptime() -> u64 {
    static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);
    u64::try_from(BEGAN.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// A tenant's share of the host, and what of it is in use.
#[derive(Debug)]
pub struct Tenant {
    id: TenantId,
    slug: TenantSlug,
    limits: TenantLimits,
    memory: AtomicU64,
    calls: AtomicU32,
    ticks: AtomicU64,
    /// Nanoseconds of the ends of calls that were no whole tick.
    rests: AtomicU64,
    /// Jobs.
    waiting: AtomicUsize,
    running: AtomicUsize,
    /// CPU time its pure guests spun for in the present second, and which second that is.
    spun: Mutex<(u64, Duration)>,
    /// Milliseconds on the clock of [`uptime`].
    slow_until: AtomicU64,
    /// Of the places all tenants share, by [`Of`].
    held: [AtomicU32; Of::COUNT],
    /// Its stretches of effectful calls that may wait for a thread of the async runtime; see [`Turnstile`](crate::turnstile::Turnstile).
    pub(crate) turns: Semaphore,
}

impl Tenant {
    pub(crate) fn new(id: TenantId, slug: TenantSlug, limits: TenantLimits) -> Arc<Self> {
        let (memory, calls, ticks, rests, waiting, running, spun, slow_until, held) =
            Default::default();
        Arc::new(Self {
            id,
            slug,
            limits,
            memory,
            calls,
            ticks,
            rests,
            waiting,
            running,
            spun,
            slow_until,
            held,
            turns: Turnstile::of_a_tenant(),
        })
    }

    /// Whose share it is.
    #[must_use]
    pub fn id(&self) -> TenantId {
        self.id
    }

    /// The name metrics and logs show.
    #[must_use]
    pub fn slug(&self) -> &TenantSlug {
        &self.slug
    }

    /// The share.
    #[must_use]
    pub fn limits(&self) -> &TenantLimits {
        &self.limits
    }

    /// Bytes of guest memory in use.
    #[must_use]
    pub fn memory(&self) -> u64 {
        self.memory.load(Ordering::Relaxed)
    }

    /// Calls running.
    #[must_use]
    pub fn calls(&self) -> u32 {
        self.calls.load(Ordering::Relaxed)
    }

    /// Milliseconds threads worked for calls of this tenant since the host started: what compute is billed by.
    #[must_use]
    pub fn cpu_ms(&self) -> u64 {
        self.ticks.load(Ordering::Relaxed)
    }

    /// Adds up what is less than a tick, over all calls; whether this made a whole one.
    pub(crate) fn carry(&self, rest: Duration) -> bool {
        let rest = u64::try_from(rest.as_nanos()).unwrap_or(0);
        let before = self.rests.fetch_add(rest, Ordering::Relaxed);
        let ticks = |nanos: u64| u128::from(nanos) / TICK.as_nanos();
        ticks(before) < ticks(before.wrapping_add(rest))
    }

    /// Takes a place among those of its jobs that wait, over both kinds of the executor's threads. Whether there was one.
    pub(crate) fn waits(&self) -> bool {
        let limit = self.limits.queue;
        let one_more = |waiting| (waiting < limit).then_some(waiting + 1);
        self.waiting
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_more)
            .is_ok()
    }

    pub(crate) fn waits_no_more(&self) {
        self.waiting.fetch_sub(1, Ordering::SeqCst);
    }

    pub(crate) fn has_waiting(&self) -> bool {
        self.waiting.load(Ordering::SeqCst) > 0
    }

    /// Takes a place among those of its jobs that run. Whether there was one.
    pub(crate) fn starts(&self, cap: usize) -> bool {
        let one_more = |running| (running < cap).then_some(running + 1);
        self.running
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_more)
            .is_ok()
    }

    pub(crate) fn ended(&self) {
        self.running.fetch_sub(1, Ordering::SeqCst);
    }

    /// A pure guest of its spun for so long. More than a share of a second, over all of them, and it is slow for a while.
    pub(crate) fn spins(&self, time: Duration) {
        let second = uptime() / 1_000;
        let mut spun = self.spun.lock();
        if spun.0 != second {
            *spun = (second, Duration::ZERO);
        }
        spun.1 += time;
        if spun.1 > SPINS {
            drop(spun);
            self.takes_long();
        }
    }

    /// One of its guests spent its CPU limit, or all together took long.
    pub(crate) fn takes_long(&self) {
        self.slow_until
            .store(uptime() + SLOW_FOR, Ordering::Relaxed);
    }

    /// Its pure guests took long of late.
    pub(crate) fn is_slow(&self) -> bool {
        self.slow_until.load(Ordering::Relaxed) > uptime()
    }

    /// How many it holds of the places all tenants share.
    pub(crate) fn held(&self, of: Of) -> &AtomicU32 {
        &self.held[of as usize]
    }

    pub(crate) fn take_memory(&self, bytes: u64) -> bool {
        let take = |used: u64| {
            used.checked_add(bytes)
                .filter(|sum| *sum <= self.limits.memory)
        };
        self.memory
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
            .is_ok()
    }

    pub(crate) fn give_memory(&self, bytes: u64) {
        self.memory.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// A place among the calls that run at once, of a tenant or of a component; given back when dropped.
#[derive(Debug)]
pub(crate) struct Place<'a>(&'a AtomicU32);

impl<'a> Place<'a> {
    /// Takes a place unless `limit` are taken.
    pub(crate) fn take(taken: &'a AtomicU32, limit: u32) -> Option<Self> {
        let take = |n: u32| (n < limit).then_some(n + 1);
        taken
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
            .is_ok()
            .then_some(Self(taken))
    }

    /// Takes a place among the tenant's calls.
    pub(crate) fn of_tenant(tenant: &'a Tenant) -> Option<Self> {
        Self::take(&tenant.calls, tenant.limits.concurrency)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One call's use of its limits.
#[derive(Debug)]
pub struct Meter {
    tenant: Arc<Tenant>,
    limits: Limits,
    deadline: Instant,
    ticks: AtomicU64,
    max_ticks: u64,
    /// The tick at which the call's thread last took it up again.
    resumed: AtomicU64,
    /// Nanoseconds on the CPU clock of the thread up to which a pure call was billed; zero before its first tick.
    billed: AtomicU64,
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
            resumed: AtomicU64::new(0),
            billed: AtomicU64::new(0),
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

    /// Ticks (milliseconds) a thread worked for the call.
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

    pub(crate) fn resume(&self, tick: u64) {
        self.resumed.store(tick, Ordering::Relaxed);
    }

    pub(crate) fn resumed(&self) -> u64 {
        self.resumed.load(Ordering::Relaxed)
    }

    /// Counts one tick of the call's time.
    pub(crate) fn tick(&self) -> Result<(), Spent> {
        self.tenant.ticks.fetch_add(1, Ordering::Relaxed);
        if self.ticks.fetch_add(1, Ordering::Relaxed) + 1 >= self.max_ticks {
            return Err(Spent(Limit::Cpu));
        }
        self.check_deadline()
    }

    /// Counts the CPU time since what was billed last, in whole ticks, and tells the tenant of it. The first is one tick, whatever it took.
    pub(crate) fn spin(&self, thread_time: Duration) -> Result<(), Spent> {
        let now = u64::try_from(thread_time.as_nanos()).unwrap_or(u64::MAX);
        let tick = u64::try_from(TICK.as_nanos()).unwrap_or(u64::MAX);
        let before = self.billed.load(Ordering::Relaxed);
        let ticks = match before {
            0 => 1,
            _ => now.saturating_sub(before) / tick,
        };
        let billed = if before == 0 {
            now
        } else {
            before + ticks * tick
        };
        self.billed.store(billed, Ordering::Relaxed);
        self.tenant.spins(Duration::from_nanos(ticks * tick));
        (0..ticks).try_for_each(|_| self.tick())?;
        self.check_deadline()
    }

    /// More than a tick or three.
    pub(crate) fn is_long(&self) -> bool {
        self.ticks.load(Ordering::Relaxed) > 3
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
pub(crate) mod tests {
    use super::*;

    pub(crate) fn meter(tenant: TenantLimits, limits: Limits) -> Arc<Meter> {
        let tenant = Tenant::new(TenantId::new(), "acme".parse().unwrap(), tenant);
        Meter::new(tenant, limits, Instant::now() + Duration::from_secs(60))
    }

    #[test]
    fn a_byte_over_the_limit_is_refused_and_remembered() {
        let limits = Limits {
            egress: 10,
            log: 5,
            ..Limits::default()
        };
        let meter = meter(TenantLimits::default(), limits);
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
        let meter = meter(TenantLimits::default(), limits);
        let ticks: Vec<_> = (0..3).map(|_| meter.tick()).collect();
        assert_eq!(ticks, [Ok(()), Ok(()), Err(Spent(Limit::Cpu))]);
        assert_eq!((meter.cpu_ms(), meter.tenant().cpu_ms()), (3, 3));
    }

    #[test]
    fn calls_of_less_than_a_tick_are_not_free() {
        let meter = meter(TenantLimits::default(), Limits::default());
        let calls = (0..1_000).filter(|_| meter.tenant().carry(Duration::from_micros(300)));
        assert_eq!(calls.count(), 300);
    }
}
