//! Places that all tenants share: of each engine's pool, and of instances kept warm.
//!
//! A tenant gets more only while it would hold no more than are free. So one that takes all it can get holds half of them, two hold a third
//! each, and some are always free for who comes next; nothing is set aside for tenants that ask for nothing. What was taken while
//! fewer asked comes back as calls end.

use crate::Tenant;
use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

/// What there are places of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Of {
    /// Slots of the pure engine's pool.
    Pure,
    /// Slots of the other engine's.
    Effectful,
    /// Instances between calls.
    Warm,
}

impl Of {
    pub(crate) const COUNT: usize = 3;
}

/// All places of a sort.
#[derive(Debug)]
pub(crate) struct Places {
    of: Of,
    total: u32,
    taken: AtomicU32,
}

/// Some places, given back when dropped.
#[derive(Debug)]
pub(crate) struct Taken {
    places: Arc<Places>,
    tenant: Arc<Tenant>,
    count: u32,
}

impl Places {
    pub(crate) fn new(of: Of, total: u32) -> Arc<Self> {
        let taken = AtomicU32::new(0);
        Arc::new(Self { of, total, taken })
    }

    /// Takes so many for the tenant, if that leaves others what they may need.
    pub(crate) fn take(self: &Arc<Self>, tenant: &Arc<Tenant>, count: u32) -> Option<Taken> {
        let held = tenant.held(self.of);
        let holds = held.fetch_add(count, Ordering::Relaxed) + count;
        let take = |taken: u32| (holds <= self.total - taken).then_some(taken + count);
        let got = self
            .taken
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
            .is_ok();
        if !got {
            held.fetch_sub(count, Ordering::Relaxed);
            return None;
        }
        Some(Taken {
            places: self.clone(),
            tenant: tenant.clone(),
            count,
        })
    }

    /// Whether none is taken.
    pub(crate) fn is_empty(&self) -> bool {
        self.taken.load(Ordering::Relaxed) == 0
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        let held = self.tenant.held(self.places.of);
        held.fetch_sub(self.count, Ordering::Relaxed);
        self.places.taken.fetch_sub(self.count, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TenantLimits;
    use ambit_types::TenantId;

    fn tenant() -> Arc<Tenant> {
        let slug = "acme".parse().unwrap();
        Tenant::new(TenantId::new(), slug, TenantLimits::default())
    }

    fn all(places: &Arc<Places>, tenant: &Arc<Tenant>, count: u32) -> Vec<Taken> {
        std::iter::from_fn(|| places.take(tenant, count)).collect()
    }

    #[test]
    fn whoever_takes_all_it_can_get_leaves_as_much_as_it_holds() {
        let places = Places::new(Of::Warm, 64);
        let (a, b, c) = (tenant(), tenant(), tenant());
        let of_a = all(&places, &a, 1);
        let of_b = all(&places, &b, 1);
        assert_eq!((of_a.len(), of_b.len()), (32, 16));
        assert!(places.take(&c, 1).is_some(), "and a third finds one free");
        drop((of_a, of_b));
        assert!(places.is_empty() && all(&places, &c, 1).len() == 32);
    }

    #[test]
    fn what_is_larger_takes_more() {
        let places = Places::new(Of::Effectful, 64);
        let (a, b) = (tenant(), tenant());
        assert_eq!(all(&places, &a, 16).len(), 2);
        let _kept = places.take(&a, 16).unwrap();
        assert!(places.take(&a, 33).is_none(), "more than are free");
        assert!(places.take(&b, 64).is_none() && places.take(&b, 48).is_some());
    }

    #[test]
    fn two_that_come_and_go_end_up_equal() {
        let places = Places::new(Of::Pure, 60);
        let (a, b) = (tenant(), tenant());
        let (mut of_a, mut of_b) = (all(&places, &a, 1), Vec::new());
        for _ in 0..100 {
            // A call of each ends, and each asks for as many as it can get.
            of_a.pop();
            of_b.extend(places.take(&b, 1));
            of_a.extend(places.take(&a, 1));
        }
        let (a, b) = (of_a.len(), of_b.len());
        assert!(a.abs_diff(b) <= 1 && a + b >= 40, "{a} and {b} of 60");
    }
}
