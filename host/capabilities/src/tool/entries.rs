//! A tenant's entries, each used with the permit of its key.

use ambit_policy::{KeyUse, KeysUnder, Permit};
use ambit_store::{StoreError, TenantStore};

type Result<T> = std::result::Result<T, StoreError>;

/// Cheap to clone.
#[derive(Clone)]
pub(super) struct Entries(TenantStore);

impl Entries {
    pub(super) fn new(store: TenantStore) -> Self {
        Self(store)
    }

    pub(super) async fn get(&self, permit: &Permit<KeyUse>) -> Result<Option<Vec<u8>>> {
        self.0.key_value(&permit.key).await
    }

    pub(super) async fn exists(&self, permit: &Permit<KeyUse>) -> Result<bool> {
        self.0.has_key_value(&permit.key).await
    }

    pub(super) async fn set(&self, permit: &Permit<KeyUse>, value: &[u8]) -> Result<()> {
        self.0.put_key_value(&permit.key, value).await
    }

    pub(super) async fn increment(&self, permit: &Permit<KeyUse>, delta: u64) -> Result<u64> {
        self.0.increment_key_value(&permit.key, delta).await
    }

    pub(super) async fn delete(&self, permit: &Permit<KeyUse>) -> Result<()> {
        self.0.remove_key_value(&permit.key).await.map(drop)
    }

    /// Keys of a bucket, in order; where there is `after`, those after it. Which of them may be told is asked of each.
    pub(super) async fn keys(
        &self,
        permit: &Permit<KeysUnder>,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<String>> {
        // `0` is the character after the `/` that a bucket ends with.
        let end = format!("{}0", permit.prefix.trim_end_matches('/'));
        self.0
            .keys_between(&permit.prefix, &end, after, limit)
            .await
    }
}
