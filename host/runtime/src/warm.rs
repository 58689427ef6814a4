//! Instances kept between calls, over all components and tenants: how many there may be, and for how long.
//!
//! A kept instance holds memory and slots of its engine, and a host may have many thousand tenants. So there are few places, which
//! tenants share as they do slots; who finds none free runs fresh, which is slower and nothing else. A tenant keeps none at the cost of calls it
//! could make instead. An instance nobody called for a while gives its place up.

use crate::{
    Tenant,
    places::{Of, Places, Taken},
};
use parking_lot::Mutex;
use std::{
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

/// Places of the process: of an instance of usual size some 20 MiB together.
const PLACES: u32 = 64;

/// An instance that was not called for so long is dropped.
pub(crate) const IDLE: Duration = Duration::from_secs(10);

/// Where instances are kept.
pub(crate) trait Shelf: Send + Sync {
    /// Drops what was last used before `moment`.
    fn sweep(&self, moment: Instant);
}

/// The places. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Warm(Arc<Shared>);

struct Shared {
    places: Arc<Places>,
    shelves: Mutex<Vec<Weak<dyn Shelf>>>,
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            places: Places::new(Of::Warm, PLACES),
            shelves: Mutex::default(),
        }
    }
}

impl Warm {
    /// Room for an instance that takes so many slots, if the tenant may keep it.
    pub(crate) fn place(&self, tenant: &Arc<Tenant>, slots: u32) -> Option<Taken> {
        let spared = tenant.memory() <= tenant.limits().memory / 2;
        spared.then(|| self.0.places.take(tenant, slots)).flatten()
    }

    /// Whether nothing is kept.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.places.is_empty()
    }

    /// Has the shelf swept for as long as it lives.
    pub(crate) fn add(&self, shelf: Weak<dyn Shelf>) {
        let mut shelves = self.0.shelves.lock();
        shelves.retain(|shelf| shelf.strong_count() > 0);
        shelves.push(shelf);
    }

    /// Drops every instance that has been idle.
    pub(crate) fn sweep(&self, idle: Duration) {
        let Some(moment) = Instant::now().checked_sub(idle) else {
            return;
        };
        let shelves = self.0.shelves.lock().clone();
        for shelf in shelves.iter().filter_map(Weak::upgrade) {
            shelf.sweep(moment);
        }
    }
}

impl std::fmt::Debug for Warm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Warm").field(&self.0.places).finish()
    }
}
