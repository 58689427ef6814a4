//! Which sessions went on since somebody asked: what the next anchor takes.

use crate::Head;
use ambit_types::{SessionId, TenantId};
use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};
use tokio::sync::Notify;

/// Heads of the sessions that this process wrote to.
pub type Heads = HashMap<(TenantId, SessionId), Head>;

/// Collected from when they are first taken on: where nobody anchors, nothing is.
#[derive(Debug, Default)]
pub(super) struct Changed {
    heads: Mutex<Option<Heads>>,
    /// Events since they were taken.
    events: AtomicU64,
    /// So many that somebody waits for them; none while nobody does.
    many: AtomicU64,
    are_many: Notify,
}

impl Changed {
    pub(super) fn put(
        &self,
        events: u64,
        heads: impl Iterator<Item = ((TenantId, SessionId), Head)>,
    ) {
        if let Some(changed) = &mut *self.lock() {
            changed.extend(heads);
            let events = self.events.fetch_add(events, Relaxed) + events;
            let many = self.many.load(Relaxed);
            if many > 0 && events >= many {
                self.are_many.notify_one();
            }
        }
    }

    pub(super) fn take(&self) -> Heads {
        let mut changed = self.lock();
        self.events.store(0, Relaxed);
        changed.replace(Heads::new()).unwrap_or_default()
    }

    pub(super) fn give_back(&self, heads: Heads) {
        let mut changed = self.lock();
        let changed = changed.get_or_insert_default();
        for (key, head) in heads {
            match changed.entry(key) {
                Entry::Occupied(newer) if newer.get().seq >= head.seq => {}
                entry => drop(entry.insert_entry(head)),
            }
        }
    }

    pub(super) async fn many(&self, events: u64) {
        self.many.store(events, Relaxed);
        self.are_many.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, Option<Heads>> {
        self.heads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
