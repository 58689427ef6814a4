//! The memory of a store: wasmtime asks here before any of it grows.

use crate::{Limit, Meter};
use std::sync::Arc;

/// Adds up the memory of a store, over all its memories and tables, against the call's and the tenant's limit. Lives as long as
/// the store: what a warm instance holds between calls stays charged.
#[derive(Debug)]
pub(crate) struct Limiter {
    meter: Arc<Meter>,
    held: Held,
    /// The growth that was allowed last: given back should it fail all the same.
    pending: Held,
}

#[derive(Debug, Clone, Copy, Default)]
struct Held {
    bytes: u64,
    /// Elements of tables; they count as bytes too.
    elements: u64,
}

/// Bytes of a table's element.
const ELEMENT: u64 = 8;

impl Limiter {
    pub(crate) fn new(meter: Arc<Meter>) -> Self {
        Self {
            meter,
            held: Held::default(),
            pending: Held::default(),
        }
    }

    /// Charges from now on go by another call's limits. What is held stays with the tenant, which is the same.
    pub(crate) fn renew(&mut self, meter: Arc<Meter>) {
        debug_assert!(
            Arc::ptr_eq(self.meter.tenant(), meter.tenant()),
            "instances never change tenants"
        );
        self.meter = meter;
        self.pending = Held::default();
    }

    fn grow(&mut self, growth: Held) -> bool {
        self.pending = Held::default();
        let (limits, tenant) = (self.meter.limits(), self.meter.tenant());
        let refuse = |limit| {
            self.meter.refuse(limit);
            false
        };
        let Some(bytes) = self
            .held
            .bytes
            .checked_add(growth.bytes)
            .filter(|sum| *sum <= limits.memory)
        else {
            return refuse(Limit::Memory);
        };
        let elements = self.held.elements.saturating_add(growth.elements);
        if elements > u64::from(limits.tables) {
            return refuse(Limit::Tables);
        }
        if !tenant.take_memory(growth.bytes) {
            return refuse(Limit::TenantMemory);
        }
        self.held = Held { bytes, elements };
        self.pending = growth;
        true
    }

    /// wasmtime also reports growths here that it refused before asking: for those nothing was charged, and giving back the last
    /// growth, which did succeed, would let a guest grow for ever.
    fn grow_failed(&mut self, error: &wasmtime::Error) {
        const NEVER_ASKED: [&str; 2] = [
            "memory growth exceeds memory type's limits",
            "overflow calculating new table size",
        ];
        let pending = std::mem::take(&mut self.pending);
        if !NEVER_ASKED.contains(&error.to_string().as_str()) {
            self.meter.tenant().give_memory(pending.bytes);
            self.held.bytes -= pending.bytes;
            self.held.elements -= pending.elements;
        }
    }
}

/// How much more is wanted, unless it is more than the type allows: that fails without our help.
fn growth(current: usize, desired: usize, maximum: Option<usize>) -> Option<u64> {
    (maximum.is_none_or(|maximum| desired <= maximum))
        .then_some(desired.saturating_sub(current) as u64)
}

impl wasmtime::ResourceLimiter for Limiter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(growth(current, desired, maximum)
            .is_some_and(|bytes| self.grow(Held { bytes, elements: 0 })))
    }

    fn memory_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        self.grow_failed(&error);
        Ok(())
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(growth(current, desired, maximum).is_some_and(|elements| {
            self.grow(Held {
                bytes: elements.saturating_mul(ELEMENT),
                elements,
            })
        }))
    }

    fn table_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        self.grow_failed(&error);
        Ok(())
    }

    fn instances(&self) -> usize {
        self.meter.limits().instances as usize
    }

    fn tables(&self) -> usize {
        self.meter.limits().instances as usize
    }

    fn memories(&self) -> usize {
        self.meter.limits().instances as usize
    }
}

impl Drop for Limiter {
    fn drop(&mut self) {
        self.meter.tenant().give_memory(self.held.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{TenantLimits, meter::tests::meter};
    use ambit_policy::Limits;
    use wasmtime::ResourceLimiter as _;

    #[test]
    fn a_failed_growth_is_given_back_once_and_only_if_it_was_taken() {
        let tenant = TenantLimits {
            memory: 1_000,
            ..TenantLimits::default()
        };
        let meter = meter(
            tenant,
            Limits {
                memory: 500,
                tables: 4,
                ..Limits::default()
            },
        );
        let mut limiter = Limiter::new(meter.clone());
        let failed = || wasmtime::format_err!("no memory");
        assert!(limiter.memory_growing(0, 400, None).unwrap());
        assert!(
            !limiter.memory_growing(400, 501, None).unwrap(),
            "over the call's limit"
        );
        assert!(
            !limiter.memory_growing(400, 450, Some(420)).unwrap(),
            "over its own maximum"
        );
        limiter.memory_grow_failed(failed()).unwrap();
        assert_eq!(
            meter.tenant().memory(),
            400,
            "what was never given is not taken back"
        );
        assert!(limiter.memory_growing(400, 500, None).unwrap());
        limiter.memory_grow_failed(failed()).unwrap();
        limiter.memory_grow_failed(failed()).unwrap();
        assert_eq!(meter.tenant().memory(), 400);
        assert!(limiter.table_growing(0, 4, None).unwrap());
        assert_eq!(meter.tenant().memory(), 432);
        assert!(!limiter.table_growing(4, 5, None).unwrap());
        drop(limiter);
        assert_eq!(meter.tenant().memory(), 0);
    }

    #[test]
    fn a_tenants_calls_share_its_memory() {
        let tenant = TenantLimits {
            memory: 1_000,
            ..TenantLimits::default()
        };
        let first = meter(
            tenant,
            Limits {
                memory: 800,
                ..Limits::default()
            },
        );
        let second = Meter::new(first.tenant().clone(), *first.limits(), first.deadline());
        let (mut one, mut two) = (Limiter::new(first.clone()), Limiter::new(second.clone()));
        assert!(one.memory_growing(0, 800, None).unwrap());
        assert!(!two.memory_growing(0, 201, None).unwrap());
        assert_eq!(second.refused(), Some(Limit::TenantMemory));
        assert!(two.memory_growing(0, 200, None).unwrap());
        drop(one);
        assert!(two.memory_growing(200, 800, None).unwrap());
    }
}
