//! Sessions that another one started.

use super::{event, on_both, opening, tenant};
use crate::{Append, SessionState, TenantStore, testing::TestStore};
use ambit_types::SessionId;

struct Family<'a> {
    store: &'a TestStore,
    rows: TenantStore,
    parent: SessionId,
    child: SessionId,
}

impl<'a> Family<'a> {
    /// A session and one that it started, both at work.
    async fn new(store: &'a TestStore, slug: &str) -> Self {
        let (_, rows) = tenant(store, slug).await;
        let [parent, child] = [SessionId::new(), SessionId::new()];
        let journal = store.store.journal();
        let opened = opening(&rows, parent).durable();
        journal.append(opened).await.unwrap();
        let opened = opening(&rows, child).durable().started_by(parent);
        journal.append(opened).await.unwrap();
        Self {
            store,
            rows,
            parent,
            child,
        }
    }

    async fn rests(&self, session: SessionId, state: SessionState, reason: &'static str) {
        let append = Append::new(self.rows.id(), session)
            .event(event("suspend"))
            .state_because(state, reason);
        self.store.store.journal().append(append).await.unwrap();
    }

    async fn children(&self) -> Vec<SessionId> {
        let children = self.rows.children(self.parent).await.unwrap();
        children.into_iter().map(|child| child.id).collect()
    }

    async fn to_wake(&self) -> Vec<SessionId> {
        let waiting = self.store.store.operator().sessions_to_wake(None, 10).await;
        waiting.unwrap().into_iter().map(|one| one.id).collect()
    }

    async fn orphans(&self) -> Vec<SessionId> {
        let orphans = self.store.store.operator().orphans(10).await;
        orphans.unwrap().into_iter().map(|one| one.id).collect()
    }
}

#[tokio::test]
async fn who_waits_for_a_session_is_woken_once_it_is_over() {
    on_both(async |store| {
        let family = Family::new(store, "acme").await;
        let known = family.rows.session(family.child).await.unwrap().unwrap();
        assert_eq!(known.parent, Some(family.parent));
        assert_eq!(family.children().await, [family.child]);
        family
            .rests(family.child, SessionState::Suspended, "approval")
            .await;
        let waits = SessionState::Suspended;
        family.rests(family.parent, waits, "child").await;
        assert!(family.to_wake().await.is_empty(), "it is not over");
        let finished = SessionState::Finished;
        family.rests(family.child, finished, "stop").await;
        assert_eq!(family.to_wake().await, [family.parent]);
        assert!(family.children().await.is_empty());
        family.rests(family.parent, waits, "message").await;
        assert!(family.to_wake().await.is_empty(), "it does not wait");
        let known = family.rows.session(family.child).await.unwrap().unwrap();
        assert_eq!(known.parent, Some(family.parent), "it stays known");
    })
    .await;
}

#[tokio::test]
async fn whose_starter_is_over_is_an_orphan() {
    on_both(async |store| {
        let family = Family::new(store, "acme").await;
        let other = Family::new(store, "globex").await;
        assert!(family.orphans().await.is_empty());
        let cancelled = SessionState::Cancelled;
        family.rests(family.parent, cancelled, "cancelled").await;
        assert_eq!(family.orphans().await, [family.child]);
        assert!(family.rows.ask_to_cancel(family.child).await.unwrap());
        assert!(family.orphans().await.is_empty(), "it is asked to end");
        // Asked while it came to rest.
        let waits = SessionState::Suspended;
        family.rests(family.child, waits, "approval").await;
        assert_eq!(family.orphans().await, [family.child]);
        family.rests(family.child, cancelled, "cancelled").await;
        assert!(family.orphans().await.is_empty());
        assert_eq!(other.children().await, [other.child]);
        let theirs = other.rows.children(family.parent).await.unwrap();
        assert!(theirs.is_empty(), "another tenant's");
    })
    .await;
}
