//! Instances kept between calls, over all components and tenants: how many there may be, and for how long.
//!
//! A kept instance holds memory and one of the engine's slots, and a host may have many thousand tenants. So there are few
//! places; who finds none free runs fresh, which is slower and nothing else. An instance nobody called for a while gives its place up.

use parking_lot::Mutex;
use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

/// Places of the process: of an instance of usual size some 20 MiB together.
const PLACES: usize = 64;

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

#[derive(Default)]
struct Shared {
    taken: AtomicUsize,
    shelves: Mutex<Vec<Weak<dyn Shelf>>>,
}

/// One place, given back when dropped.
pub(crate) struct Place(Arc<Shared>);

impl Warm {
    /// A place, if one is free.
    pub(crate) fn place(&self) -> Option<Place> {
        let take = |taken| (taken < PLACES).then_some(taken + 1);
        self.0
            .taken
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
            .is_ok()
            .then(|| Place(self.0.clone()))
    }

    /// Whether nothing is kept.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.taken.load(Ordering::Relaxed) == 0
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
        f.debug_tuple("Warm").field(&self.0.taken).finish()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_as_many_places_as_there_are() {
        let warm = Warm::default();
        let places: Vec<_> = std::iter::from_fn(|| warm.place())
            .take(PLACES * 2)
            .collect();
        assert_eq!((places.len(), warm.is_empty()), (PLACES, false));
        drop(places);
        assert!(warm.is_empty() && warm.place().is_some());
    }
}
