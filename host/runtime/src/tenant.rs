//! A tenant's share of the host.
//!
//! Shared by all calls of the tenant, whatever component runs, and by its warm instances. Taking from it never waits: who finds it
//! spent is told so at once.

use ambit_types::{TenantId, TenantSlug};
use std::sync::{
    Arc,
    atomic::{AtomicU32, AtomicU64, Ordering},
};

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

/// A tenant's share of the host, and what of it is in use.
#[derive(Debug)]
pub struct Tenant {
    id: TenantId,
    slug: TenantSlug,
    limits: TenantLimits,
    memory: AtomicU64,
    calls: AtomicU32,
    ticks: AtomicU64,
}

impl Tenant {
    pub(crate) fn new(id: TenantId, slug: TenantSlug, limits: TenantLimits) -> Arc<Self> {
        let (memory, calls, ticks) = Default::default();
        Arc::new(Self {
            id,
            slug,
            limits,
            memory,
            calls,
            ticks,
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

    /// Milliseconds guests ran for this tenant since the host started: what compute is billed by.
    #[must_use]
    pub fn cpu_ms(&self) -> u64 {
        self.ticks.load(Ordering::Relaxed)
    }

    pub(crate) fn tick(&self) {
        self.ticks.fetch_add(1, Ordering::Relaxed);
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
