//! Fetching token issuers' key sets. The address is a tenant's choice, so it goes through egress like any guest's request: public addresses
//! over https only, bounded in size and time.

use ambit_capabilities::auth::{KeySetFetch, KeySets};
use ambit_egress::{Budget, Egress, Scope, Shares};
use ambit_policy::{Ambit, Limits, Permissions};
use ambit_types::{Error, TenantId};
use anyhow::{Context as _, ensure};
use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt as _};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use url::Url;

/// A key set of hundreds of keys; anything longer is something else.
const LARGEST: usize = 256 * 1024;
const PATIENCE: Duration = Duration::from_secs(5);
/// Fetches at a time of one tenant.
const AT_ONCE: usize = 16;

struct OverEgress {
    egress: Egress,
    ambit: Arc<Ambit>,
    connections: Shares,
}

/// Key sets fetched through `egress`.
///
/// # Errors
/// Never: only because the built-in permission is parsed like any other.
pub fn key_sets(egress: Egress) -> Result<KeySets, Error> {
    let permission =
        serde_json::json!({ "http": [{ "origin": "https://*:*", "methods": ["GET"] }] });
    let permission: Arc<Permissions> =
        Arc::new(serde_json::from_value(permission).map_err(Error::internal)?);
    let ambit = Arc::new(Ambit::new(permission.clone(), permission));
    Ok(KeySets::new(Arc::new(OverEgress {
        egress,
        ambit,
        connections: Shares::new(AT_ONCE),
    })))
}

impl KeySetFetch for OverEgress {
    fn fetch(&self, tenant: TenantId, uri: Url) -> BoxFuture<'static, anyhow::Result<Bytes>> {
        let budget = Arc::new(Budget::new(2 * LARGEST as u64));
        let scope = Scope::new(
            self.ambit.clone(),
            &Limits::default(),
            Instant::now() + PATIENCE,
            self.connections.of(tenant),
            budget,
        );
        let egress = self.egress.clone();
        async move {
            let document = egress
                .get(&scope, &uri, LARGEST)
                .await
                .context("the key set cannot be fetched")?;
            ensure!(
                document.status.is_success(),
                "the key set's server answered {}",
                document.status
            );
            Ok(document.body)
        }
        .boxed()
    }
}
