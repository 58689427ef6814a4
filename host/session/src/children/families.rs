//! Sessions that somebody waits for, or that wait, and that are to be looked after at once.

use ambit_types::{SessionId, TenantId};
use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};
use tokio::{
    sync::Notify,
    time::{sleep, timeout_at},
};

/// The least time between two looks: many families change at once.
const APART: Duration = Duration::from_millis(50);

/// What is asked of whoever looks after sessions.
#[derive(Debug, Default)]
pub(crate) struct Families {
    changed: Notify,
    /// Those that nobody but the one that waits for them goes on with.
    to_go_on: Mutex<BTreeSet<(TenantId, SessionId)>>,
}

impl Families {
    /// One that waits may have to be woken, or one is an orphan.
    pub(crate) fn look(&self) {
        self.changed.notify_one();
    }

    /// A child waits for nobody, and its parent for it.
    pub(crate) fn go_on_with(&self, tenant: TenantId, child: SessionId) {
        self.not_yet(tenant, child);
        self.look();
    }

    /// The same, at the next look: it could not be gone on with.
    pub(super) fn not_yet(&self, tenant: TenantId, child: SessionId) {
        let to_go_on = self.to_go_on.lock();
        let mut to_go_on = to_go_on.unwrap_or_else(PoisonError::into_inner);
        to_go_on.insert((tenant, child));
    }

    pub(super) fn take(&self) -> BTreeSet<(TenantId, SessionId)> {
        let to_go_on = self.to_go_on.lock();
        std::mem::take(&mut *to_go_on.unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether there is something to look after, before `next`.
    pub(crate) async fn changed(&self, next: Instant) -> bool {
        sleep(APART).await;
        // However much there is to do, the time comes for everything else.
        let is_time = Instant::now() >= next;
        !is_time
            && timeout_at(next.into(), self.changed.notified())
                .await
                .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_changes_is_heard_of_once_and_never_instead_of_everything_else() {
        let families = Families::default();
        let soon = || Instant::now() + Duration::from_millis(200);
        assert!(!families.changed(soon()).await);
        families.look();
        families.look();
        assert!(families.changed(soon()).await);
        assert!(!families.changed(soon()).await);
        families.look();
        let now = Instant::now();
        assert!(!families.changed(now).await, "it is time for the rest");
        let (tenant, session) = (TenantId::new(), SessionId::new());
        families.go_on_with(tenant, session);
        families.go_on_with(tenant, session);
        assert_eq!(families.take(), BTreeSet::from([(tenant, session)]));
        assert!(families.take().is_empty());
        assert!(families.changed(soon()).await);
    }
}
