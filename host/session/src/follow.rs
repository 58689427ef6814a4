//! Following what other processes change: a revoked key works nowhere longer than [`LOOK_EVERY`] and a database's answers, whatever else
//! is being taken in. Binding takes longer, as tools have to describe themselves, so credentials are followed apart from it.
//!
//! Every change moves an epoch in its own transaction. What could not be taken in is tried again, without a change too; a tenant that
//! fails keeps none of the others from being taken in.

use crate::{
    library::store_error,
    platform::Platform,
    tenants::{AT_ONCE, Tenants},
};
use ambit_types::{Error, TenantId};
use futures::{StreamExt as _, stream};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use tokio::time::Instant;

/// How often other processes' changes are looked for.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Between two attempts to bind a tenant that cannot be: doubled from the first to the second.
const PAUSES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(60)];

/// Up to where changes were taken in.
pub(crate) struct Seen {
    epochs: Epochs,
    credentials: Credentials,
    budgets: BTreeMap<TenantId, i64>,
    failed: BTreeMap<TenantId, Retry>,
}

struct Retry {
    at: Instant,
    pause: Duration,
}

impl Seen {
    pub(crate) async fn read(platform: &Platform) -> Result<Self, Error> {
        Ok(Self {
            epochs: Epochs::read(platform).await?,
            credentials: Credentials::new(),
            budgets: BTreeMap::new(),
            failed: BTreeMap::new(),
        })
    }

    /// These could not be bound.
    pub(crate) fn retry(&mut self, failed: impl IntoIterator<Item = TenantId>) {
        for tenant in failed {
            let pause = self.failed.get(&tenant).map_or(PAUSES[0], |retry| {
                retry.pause.saturating_mul(2).min(PAUSES[1])
            });
            let at = Instant::now() + pause;
            self.failed.insert(tenant, Retry { at, pause });
        }
    }

    /// The tenants that changed, or whose next attempt is due.
    fn changed(&self, now: &Epochs) -> BTreeSet<TenantId> {
        let epochs = now.tenants.iter();
        let changed =
            epochs.filter(|(tenant, epochs)| self.epochs.tenants.get(tenant) != Some(epochs));
        let due = self
            .failed
            .iter()
            .filter(|(_, retry)| retry.at <= Instant::now());
        changed
            .map(|(tenant, _)| *tenant)
            .chain(due.map(|(tenant, _)| *tenant))
            .collect()
    }
}

impl Tenants {
    /// Follows what other processes change, until dropped. Run it once, beside the server.
    pub async fn follow(&self) {
        let bindings = every(async || self.look().await);
        let credentials = every(async || self.look_at_credentials().await);
        tokio::join!(bindings, credentials);
    }

    /// Takes in the credentials that are newer than those at work.
    ///
    /// # Errors
    /// The store cannot be read. What could not be taken in is tried again.
    async fn look_at_credentials(&self) -> Result<(), Error> {
        let now = Epochs::read(&self.inner.platform).await?;
        for (id, epoch) in now.budgets {
            if self.by_id(id).is_none() || self.seen().budgets.get(&id) == Some(&epoch) {
                continue;
            }
            match self.renew_budgets(id).await {
                Ok(()) => drop(self.seen().budgets.insert(id, epoch)),
                Err(error) => {
                    tracing::error!(tenant = %id, error = &error as &dyn std::error::Error, "changed budgets could not be read");
                }
            }
        }
        for (id, epoch) in now.credentials {
            let Some(live) = self.by_id(id) else { continue };
            // An authenticator reads its keys by itself where one is missing, and not what else was revoked: its epoch alone says too little.
            let taken_in = self.seen().credentials.get(&id) == Some(&epoch);
            if taken_in && live.authenticator.epoch() >= epoch {
                continue;
            }
            match self.renew_credentials(id).await {
                Ok(()) => drop(self.seen().credentials.insert(id, epoch)),
                Err(error) => {
                    tracing::error!(tenant = %id, error = &error as &dyn std::error::Error, "changed credentials could not be read");
                }
            }
        }
        Ok(())
    }

    /// Takes in what has changed since the last time.
    ///
    /// # Errors
    /// The store cannot be read; nothing of what changed is forgotten.
    pub async fn look(&self) -> Result<(), Error> {
        let now = Epochs::read(&self.inner.platform).await?;
        if self.seen().epochs.installation != now.installation {
            let failed = self.rebind_all().await?;
            let mut seen = self.seen();
            seen.failed.retain(|tenant, _| failed.contains(tenant));
            seen.retry(failed);
            seen.epochs = now;
            return Ok(());
        }
        let changed = self.seen().changed(&now);
        let take_in = async |tenant| {
            let bound = self.rebind_or_tell(tenant).await;
            let mut seen = self.seen();
            match bound {
                Ok(()) => drop(seen.failed.remove(&tenant)),
                Err(()) => seen.retry([tenant]),
            }
            if let Some(epochs) = now.tenants.get(&tenant) {
                seen.epochs.tenants.insert(tenant, epochs.clone());
            }
        };
        stream::iter(changed)
            .for_each_concurrent(AT_ONCE, take_in)
            .await;
        Ok(())
    }
}

async fn every(mut look: impl AsyncFnMut() -> Result<(), Error>) {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        if let Err(error) = look().await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "changes could not be looked for"
            );
        }
    }
}

/// The epoch of each tenant's keys and issuers, as [`ambit_capabilities::auth::AuthRecords`] have it.
type Credentials = BTreeMap<TenantId, u64>;

/// Counters that move with every change.
struct Epochs {
    installation: [i64; 2],
    tenants: BTreeMap<TenantId, Vec<i64>>,
    credentials: Credentials,
    budgets: BTreeMap<TenantId, i64>,
}

impl Epochs {
    async fn read(platform: &Platform) -> Result<Self, Error> {
        use ambit_store::{
            EpochKind::{Budgets, Issuers, Keys},
            InstallationEpochKind::{Components, Directory},
        };
        let operator = platform.store.operator();
        let installation = [
            operator
                .installation_epoch(Components)
                .await
                .map_err(store_error)?,
            operator
                .installation_epoch(Directory)
                .await
                .map_err(store_error)?,
        ];
        let mut tenants: BTreeMap<TenantId, Vec<i64>> = BTreeMap::new();
        let mut rows = operator.tenant_epochs().await.map_err(store_error)?;
        rows.sort_by_key(|row| (row.tenant, row.kind));
        let mut credentials = Credentials::new();
        let mut budgets = BTreeMap::new();
        for row in rows {
            if matches!(row.kind, Keys | Issuers) {
                // Each only grows, so their sum stays only where both do.
                *credentials.entry(row.tenant).or_default() +=
                    u64::try_from(row.value).unwrap_or(0);
            }
            if row.kind == Budgets {
                budgets.insert(row.tenant, row.value);
                // No binding hangs on them.
                continue;
            }
            tenants.entry(row.tenant).or_default().push(row.value);
        }
        Ok(Self {
            installation,
            tenants,
            credentials,
            budgets,
        })
    }
}
