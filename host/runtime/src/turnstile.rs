//! Turns of effectful guests on the threads of the async runtime.
//!
//! A guest that does not wait gives its thread back at every tick. With enough of them those threads would still have nothing but guests
//! before each piece of I/O. So no more stretches run at a time than leave a quarter of the threads, one at least, to I/O, and tenants take
//! turns: one that has many waits with them among its own. Calls do not nest: a host function that called a component would wait for a turn
//! that its caller has.

use crate::Tenant;
use std::{num::NonZero, thread};
use tokio::sync::{Semaphore, SemaphorePermit};

#[derive(Debug)]
pub(crate) struct Turnstile(Semaphore);

/// The right to run until the guest waits or a tick is over; given back when dropped.
pub(crate) struct Turn<'a> {
    _global: SemaphorePermit<'a>,
    _own: SemaphorePermit<'a>,
}

impl Turnstile {
    pub(crate) fn new() -> Self {
        Self(Semaphore::new(turns(threads())))
    }

    /// Fewer than all there are, where there are two: both semaphores are fair, so a tenant waits for one stretch of each other tenant.
    pub(crate) fn of_a_tenant() -> Semaphore {
        Semaphore::new(turns(threads()).saturating_sub(1).max(1))
    }

    /// Waits for a turn. None: the host is stopping.
    pub(crate) async fn pass<'a>(&'a self, tenant: &'a Tenant) -> Option<Turn<'a>> {
        let own = tenant.turns.acquire().await.ok()?;
        let global = self.0.acquire().await.ok()?;
        Some(Turn {
            _global: global,
            _own: own,
        })
    }
}

/// As the async runtime counts its threads.
fn threads() -> usize {
    thread::available_parallelism().map_or(1, NonZero::get)
}

fn turns(threads: usize) -> usize {
    threads.saturating_sub((threads / 4).max(1)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TenantLimits;
    use ambit_types::TenantId;
    use futures::{FutureExt as _, future::join_all};
    use std::sync::Mutex;

    #[tokio::test]
    async fn a_tenant_waits_for_one_stretch_of_another_however_many_there_are() {
        let tenant = |name: &str| {
            let slug = name.parse().unwrap();
            let tenant = Tenant::new(TenantId::new(), slug, TenantLimits::default());
            // One at a time, however many threads this machine has.
            let spare = turns(threads()).saturating_sub(1).max(1) - 1;
            assert_eq!(tenant.turns.forget_permits(spare), spare);
            tenant
        };
        let (loud, quiet) = (tenant("loud"), tenant("quiet"));
        let turnstile = Turnstile(Semaphore::new(1));
        let running = turnstile.pass(&loud).await;
        let order = Mutex::new(Vec::new());
        let stretch = async |tenant: &Tenant| {
            let turn = turnstile.pass(tenant).await;
            order.lock().unwrap().push(tenant.slug().to_string());
            tokio::task::yield_now().await;
            drop(turn);
        };
        let mut many = Box::pin(join_all((0..32).map(|_| stretch(&loud))));
        assert!((&mut many).now_or_never().is_none());
        let mut one = Box::pin(stretch(&quiet));
        assert!((&mut one).now_or_never().is_none());
        drop(running);
        futures::join!(many, one);
        let order = order.into_inner().unwrap();
        let place = order.iter().position(|who| who == "quiet").unwrap();
        assert!(place <= 1, "{place} of {order:?}");
        assert_eq!(order.len(), 33);
    }

    #[test]
    fn a_thread_is_left_to_io_where_there_are_two() {
        let of = [1, 2, 3, 4, 8, 16].map(turns);
        assert_eq!(of, [1, 1, 2, 3, 6, 12]);
    }
}
