//! One immutable state of a tenant's keys and issuers, with the credentials verified against it.

use super::{
    key_sets::{Entry, KeySets},
    keyset::{Algorithm, KeySet},
    records::{ApiKey, AuthRecords, Issuer, Jwks},
};
use ambit_types::{Principal, TenantId};
use moka::sync::Cache;
use std::{collections::HashMap, sync::Arc, time::Duration};

/// Verified credentials remembered per tenant; some hundred bytes each.
const VERIFIED_CAP: u64 = 10_000;
/// How long one is remembered at most: bounds what a revocation made by another process costs before its epoch is noticed.
const VERIFIED_FOR: Duration = Duration::from_secs(60);

pub(super) struct Snapshot {
    tables: Arc<Tables>,
    /// By SHA-256 of the credential. The snapshot is one tenant's, so no key is ever found for another.
    verified: Cache<[u8; 32], Arc<Principal>>,
}

struct Tables {
    records: AuthRecords,
    keys: HashMap<String, usize>,
    issuers: HashMap<String, Trusted>,
}

/// A trusted issuer with its keys.
struct Trusted {
    at: usize,
    algorithms: Vec<Algorithm>,
    keys: Keys,
}

pub(super) enum Keys {
    /// None where the inline set cannot be used: every token of the issuer is then refused.
    Inline(Option<Arc<KeySet>>),
    Fetched(Arc<Entry>),
}

impl Snapshot {
    pub(super) fn new(tenant: TenantId, records: AuthRecords, key_sets: &KeySets) -> Self {
        let keys = records
            .keys
            .iter()
            .enumerate()
            .map(|(at, key)| (key.public_id.clone(), at))
            .collect();
        let trust = |(at, issuer): (usize, &Issuer)| {
            let algorithms = issuer
                .algorithms
                .iter()
                .filter_map(|name| name.parse().ok())
                .collect();
            let keys = match &issuer.jwks {
                Jwks::Uri(uri) => Keys::Fetched(key_sets.entry(tenant, uri)),
                Jwks::Inline(json) => Keys::Inline(match KeySet::parse(json.as_bytes()) {
                    Ok(set) => Some(Arc::new(set)),
                    Err(error) => {
                        tracing::warn!(%tenant, issuer = issuer.issuer, %error, "the issuer's key set cannot be used");
                        None
                    }
                }),
            };
            (
                issuer.issuer.clone(),
                Trusted {
                    at,
                    algorithms,
                    keys,
                },
            )
        };
        let issuers = records.issuers.iter().enumerate().map(trust).collect();
        Self::over(Arc::new(Tables {
            records,
            keys,
            issuers,
        }))
    }

    fn over(tables: Arc<Tables>) -> Self {
        Self {
            tables,
            verified: Cache::builder()
                .max_capacity(VERIFIED_CAP)
                .time_to_live(VERIFIED_FOR)
                .build(),
        }
    }

    /// The same records with nothing verified.
    pub(super) fn renewed(&self) -> Self {
        Self::over(self.tables.clone())
    }

    /// That of the records it was made from.
    pub(super) fn epoch(&self) -> u64 {
        self.tables.records.epoch
    }

    /// Whether these records are what it was made from, or older.
    pub(super) fn holds(&self, records: &AuthRecords) -> bool {
        records.epoch < self.tables.records.epoch || *records == self.tables.records
    }

    pub(super) fn key(&self, public_id: &str) -> Option<&ApiKey> {
        self.tables
            .records
            .keys
            .get(*self.tables.keys.get(public_id)?)
    }

    pub(super) fn issuer(&self, name: &str) -> Option<&Issuer> {
        self.tables
            .records
            .issuers
            .get(self.tables.issuers.get(name)?.at)
    }

    /// The algorithms and keys of an issuer.
    pub(super) fn trust(&self, issuer: &str) -> Option<(&[Algorithm], &Keys)> {
        let trusted = self.tables.issuers.get(issuer)?;
        Some((&trusted.algorithms, &trusted.keys))
    }

    /// The principal remembered under this digest, if still valid at `now`.
    pub(super) fn verified(&self, digest: &[u8; 32], now: u64) -> Option<Arc<Principal>> {
        let principal = self.verified.get(digest)?;
        if principal.expires_at.is_some_and(|end| now >= end) {
            self.verified.invalidate(digest);
            return None;
        }
        Some(principal)
    }

    pub(super) fn remember(&self, digest: [u8; 32], principal: &Arc<Principal>) {
        self.verified.insert(digest, principal.clone());
    }
}
