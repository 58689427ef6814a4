//! What a tenant's authenticator may look up, as plain data, and where it comes from.

use ambit_store::{EpochKind, TenantStore};
use futures::{FutureExt as _, future::BoxFuture};

/// A stored API key. The secret itself is nowhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKey {
    /// 16 lower-case hexadecimal digits.
    pub public_id: String,
    /// SHA-256 of the 256-bit secret.
    pub secret_hash: [u8; 32],
    /// Principal id, for example `key:3f9a…`.
    pub principal: String,
    pub scopes: Vec<String>,
    /// Seconds since the Unix epoch.
    pub expires_at: Option<u64>,
    /// JSON of what the key narrows every component to.
    pub permissions: Option<String>,
}

/// Where the keys of an issuer are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Jwks {
    /// The JSON of an RFC 7517 key set.
    Inline(String),
    /// Fetched, cached and refreshed by [`KeySets`](super::KeySets).
    Uri(url::Url),
}

/// A token issuer the tenant trusts, and what for. Fields as in `ambit:auth/keys.issuer`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issuer {
    pub issuer: String,
    pub audiences: Vec<String>,
    pub algorithms: Vec<String>,
    pub types: Vec<String>,
    /// Tolerated clock difference in seconds.
    pub leeway: u32,
    pub scopes: Vec<String>,
    pub jwks: Jwks,
}

/// Everything a tenant's authenticator may look up. Revoked keys are not in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuthRecords {
    /// Counts the tenant's changes of keys and issuers: records of an older epoch never replace newer ones.
    pub epoch: u64,
    pub keys: Vec<ApiKey>,
    pub issuers: Vec<Issuer>,
}

/// Reads a tenant's records. After a lookup that missed it is asked at most once at a time and once a second.
pub trait AuthSource: Send + Sync + 'static {
    fn load(&self) -> BoxFuture<'_, anyhow::Result<AuthRecords>>;
}

impl AuthSource for TenantStore {
    fn load(&self) -> BoxFuture<'_, anyhow::Result<AuthRecords>> {
        async move {
            // The epoch first: a change in between makes the records newer than they say, never older.
            let epochs = self.epochs().await?;
            let keys = self
                .keys()
                .await?
                .into_iter()
                .filter(|key| key.revoked_ms.is_none());
            let issuers = self.issuers().await?;
            let counted = epochs
                .iter()
                .filter(|epoch| matches!(epoch.kind, EpochKind::Keys | EpochKind::Issuers));
            Ok(AuthRecords {
                epoch: counted
                    .map(|epoch| u64::try_from(epoch.value).unwrap_or_default())
                    .sum(),
                keys: keys.map(ApiKey::from).collect(),
                issuers: issuers
                    .into_iter()
                    .filter_map(|issuer| Issuer::try_from(issuer).ok())
                    .collect(),
            })
        }
        .boxed()
    }
}

impl From<ambit_store::ApiKey> for ApiKey {
    fn from(key: ambit_store::ApiKey) -> Self {
        Self {
            public_id: key.id,
            secret_hash: key.secret_hash.0,
            principal: key.principal,
            scopes: key.scopes,
            expires_at: key
                .expires_ms
                .map(|ms| u64::try_from(ms / 1000).unwrap_or_default()),
            permissions: key.permissions.map(|permissions| permissions.to_string()),
        }
    }
}

/// A stored issuer that has neither a key set nor a readable address of one: nothing of it could ever be verified.
#[derive(Debug, thiserror::Error)]
#[error("issuer `{0}` has neither a key set nor a valid `jwks_uri`")]
pub struct NoKeySet(String);

impl TryFrom<ambit_store::Issuer> for Issuer {
    type Error = NoKeySet;

    fn try_from(stored: ambit_store::Issuer) -> Result<Self, NoKeySet> {
        let jwks = match (stored.jwks, &stored.jwks_uri) {
            (Some(set), _) => Jwks::Inline(set.to_string()),
            (None, Some(uri)) => {
                Jwks::Uri(uri.parse().map_err(|_| NoKeySet(stored.issuer.clone()))?)
            }
            (None, None) => return Err(NoKeySet(stored.issuer)),
        };
        Ok(Self {
            issuer: stored.issuer,
            audiences: stored.audiences,
            algorithms: stored.algorithms,
            types: stored.types,
            leeway: stored.leeway,
            scopes: stored.scopes,
            jwks,
        })
    }
}
