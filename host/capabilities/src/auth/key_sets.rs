//! Key sets fetched from `jwks_uri`: cached per tenant and address, refreshed single-flight and not too often.
//!
//! A fetch runs in a task of its own: a caller that goes away does not stop it, or someone who keeps hanging up could keep a key
//! set from ever arriving.

use super::keyset::KeySet;
use ambit_types::TenantId;
use arc_swap::ArcSwapOption;
use bytes::Bytes;
use futures::future::BoxFuture;
use moka::sync::Cache;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::Mutex;
use url::Url;

/// How old sets may be.
#[derive(Debug, Clone, Copy)]
pub struct Ages {
    /// Between two attempts to fetch one set.
    pub pause: Duration,
    /// A set this old is fetched again in the background when it is next used.
    pub fresh_for: Duration,
}

impl Default for Ages {
    fn default() -> Self {
        Self {
            pause: Duration::from_secs(10),
            fresh_for: Duration::from_secs(10 * 60),
        }
    }
}

/// A set this old is no longer used: its issuer may have withdrawn a key long ago.
const USABLE_FOR: Duration = Duration::from_secs(60 * 60);
const FETCH_DEADLINE: Duration = Duration::from_secs(5);
/// Sets remembered, over all tenants.
const SETS_CAP: u64 = 10_000;

/// Gets the bytes at an issuer's `jwks_uri`. The address is the tenant's choice: it must go through egress.
pub trait KeySetFetch: Send + Sync + 'static {
    /// The body of a successful answer, at most 256 KiB.
    fn fetch(&self, tenant: TenantId, uri: Url) -> BoxFuture<'static, anyhow::Result<Bytes>>;
}

/// The fetched key sets of an installation. Cheap to clone.
#[derive(Clone)]
pub struct KeySets {
    fetch: Arc<dyn KeySetFetch>,
    ages: Ages,
    /// By tenant too: what one tenant's calls make the host fetch must not show in another's.
    entries: Cache<(TenantId, Url), Arc<Entry>>,
}

/// One set and its fetching.
pub(super) struct Entry {
    tenant: TenantId,
    uri: Url,
    fresh_for: Duration,
    current: ArcSwapOption<Fetched>,
    /// When it was last attempted.
    attempted: Mutex<Option<Instant>>,
}

struct Fetched {
    set: KeySet,
    /// As it came, to tell a new one from the same.
    body: Bytes,
    at: Instant,
}

/// What is there of a set.
pub(super) enum Present<R> {
    Absent,
    /// The answer of the set, which is to be fetched again where `stale`.
    Answer {
        answer: R,
        stale: bool,
    },
}

impl KeySets {
    #[must_use]
    pub fn new(fetch: Arc<dyn KeySetFetch>) -> Self {
        Self::with_ages(fetch, Ages::default())
    }

    #[must_use]
    pub fn with_ages(fetch: Arc<dyn KeySetFetch>, ages: Ages) -> Self {
        Self {
            fetch,
            ages,
            entries: Cache::new(SETS_CAP),
        }
    }

    pub(super) fn entry(&self, tenant: TenantId, uri: &Url) -> Arc<Entry> {
        self.entries.get_with((tenant, uri.clone()), || {
            Arc::new(Entry {
                tenant,
                uri: uri.clone(),
                fresh_for: self.ages.fresh_for,
                current: ArcSwapOption::empty(),
                attempted: Mutex::default(),
            })
        })
    }

    /// Fetches the set unless that was tried a moment ago. True when it is another one than before.
    pub(super) async fn refresh(&self, entry: &Arc<Entry>) -> Result<bool, String> {
        let seen = entry.fetched_at();
        let (fetch, entry, pause) = (self.fetch.clone(), entry.clone(), self.ages.pause);
        #[expect(
            clippy::disallowed_methods,
            reason = "waited for below; a caller that goes away must not end the fetch of those that wait with it"
        )]
        let task = tokio::spawn(async move {
            let mut attempted = entry.attempted.lock().await;
            if entry.fetched_at() != seen {
                return Ok(true);
            }
            if attempted.is_some_and(|at| at.elapsed() < pause) {
                return Ok(false);
            }
            *attempted = Some(Instant::now());
            entry.load(&*fetch).await
        });
        task.await.unwrap_or_else(|error| Err(error.to_string()))
    }

    /// Fetches the set while nobody waits for it. `changed`: when it is another one than before.
    pub(super) fn refresh_soon(&self, entry: Arc<Entry>, changed: impl FnOnce() + Send + 'static) {
        let key_sets = self.clone();
        #[expect(
            clippy::disallowed_methods,
            reason = "one fetch, ended by its own deadline"
        )]
        tokio::spawn(async move {
            if let Ok(true) = key_sets.refresh(&entry).await {
                changed();
            }
        });
    }
}

impl Entry {
    /// Asks the present set, if there is a usable one.
    pub(super) fn with<R>(&self, ask: impl FnOnce(&KeySet) -> R) -> Present<R> {
        match &*self.current.load() {
            Some(fetched) if fetched.at.elapsed() < USABLE_FOR => Present::Answer {
                answer: ask(&fetched.set),
                stale: fetched.at.elapsed() >= self.fresh_for,
            },
            _ => Present::Absent,
        }
    }

    pub(super) fn has_keys(&self) -> bool {
        matches!(self.with(|_| ()), Present::Answer { .. })
    }

    fn fetched_at(&self) -> Option<Instant> {
        self.current.load().as_ref().map(|fetched| fetched.at)
    }

    async fn load(&self, fetch: &dyn KeySetFetch) -> Result<bool, String> {
        let fetched =
            tokio::time::timeout(FETCH_DEADLINE, fetch.fetch(self.tenant, self.uri.clone())).await;
        let result = match fetched {
            Err(_) => Err("no answer in time".to_owned()),
            Ok(Err(error)) => Err(format!("{error:#}")),
            Ok(Ok(body)) => KeySet::parse(&body)
                .map(|set| (set, body))
                .map_err(|error| error.to_string()),
        };
        match result {
            Ok((set, body)) => {
                let changed = self
                    .current
                    .load()
                    .as_ref()
                    .is_none_or(|before| before.body != body);
                self.current.store(Some(Arc::new(Fetched {
                    set,
                    body,
                    at: Instant::now(),
                })));
                Ok(changed)
            }
            Err(why) => {
                tracing::warn!(tenant = %self.tenant, uri = %self.uri, why, "the issuer's key set cannot be fetched");
                Err(why)
            }
        }
    }
}
