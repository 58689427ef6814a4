//! The journal: order, chain, group commit, failures and recovery, sealed bodies. Retention has its tests beside anchors.

mod append;
mod chain;
mod failures;
mod running;
mod sealed;

use super::{opening, tenant};
use crate::{TenantStore, testing::TestStore};
use ambit_types::SessionId;

/// Tenant `acme` with a session that holds its first event.
struct Opened {
    acme: TenantStore,
    session: SessionId,
}

impl Opened {
    async fn new(store: &TestStore) -> Self {
        let (_, acme) = tenant(store, "acme").await;
        let session = SessionId::new();
        let append = opening(&acme, session);
        store.store.journal().append(append).await.unwrap();
        Self { acme, session }
    }
}
