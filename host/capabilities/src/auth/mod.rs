//! Who is calling.
//!
//! An [`Authenticator`] is one tenant's chain of auth components over one immutable snapshot of the tenant's keys and issuers. A
//! credential goes: cache of verified credentials; else, in one job of the executor, the components in their order until one knows
//! its form; on `unknown`, one refresh of whatever was missed (single-flight, rate-limited) and one more try.
//!
//! Snapshot and cache are one value that is swapped whole: a call that began before a revocation cannot put its principal into the
//! cache that is read after it.

mod host;
mod issue;
mod key_sets;
mod keyset;
mod records;
mod snapshot;

pub use issue::new_api_key;
pub use key_sets::{Ages, KeySetFetch, KeySets};
pub use keyset::{Algorithm, KeySet, KeySetError, UnknownAlgorithm};
pub use records::{ApiKey, AuthRecords, AuthSource, Issuer, Jwks};

use crate::{Failure, LoadError, RequestFacts};
use ambit_policy::token::Credential;
use ambit_runtime::{Admitted, CallScope, Pure, Runtime, Tenant};
use ambit_types::{Error, ErrorKind, OPERATOR, Principal, Scope};
use arc_swap::ArcSwap;
use host::{Guest, GuestAuthError, LookedUp, Lookups};
use sha2::{Digest as _, Sha256};
use snapshot::Snapshot;
use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use tokio::sync::Mutex;

/// Longest credential looked at: a token of 16 KiB and nothing longer.
const CREDENTIAL_CAP: usize = 16 * 1024;
/// Longest principal id taken from a component.
const PRINCIPAL_CAP: usize = 1024;
/// A lookup that missed makes the records be read again at most this often.
const RECORDS_PAUSE: Duration = Duration::from_secs(1);
/// Waiting for a thread included; the components' own limits are tighter.
const DEADLINE: Duration = Duration::from_secs(5);

/// Why a request is not let in. Texts are for the log.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// No component of the chain accepts the credential.
    #[error("bad credential: {0}")]
    Bad(String),
    /// It was good once.
    #[error("the credential has expired")]
    Expired,
    /// Whether it is good cannot be told now: keys or records could not be read.
    #[error("credentials cannot be checked: {0}")]
    Unavailable(String),
    #[error(transparent)]
    Failure(#[from] Failure),
}

impl From<AuthError> for Error {
    fn from(error: AuthError) -> Self {
        match error {
            AuthError::Bad(_) | AuthError::Expired => Self::new(
                ErrorKind::Unauthenticated,
                "the credential is missing, wrong or no longer valid",
            )
            .because(error),
            AuthError::Unavailable(_) => {
                let kind = ErrorKind::Unavailable {
                    retry_after: Duration::from_secs(5),
                };
                Self::new(kind, "credentials cannot be checked at the moment").because(error)
            }
            AuthError::Failure(failure) => failure.into(),
        }
    }
}

/// One tenant's way of telling callers apart. Cheap to clone.
#[derive(Clone)]
pub struct Authenticator(Arc<Inner>);

struct Inner {
    runtime: Arc<Runtime>,
    tenant: Arc<Tenant>,
    chain: Arc<[Pure<Lookups, Guest>]>,
    snapshot: ArcSwap<Snapshot>,
    source: Arc<dyn AuthSource>,
    key_sets: KeySets,
    /// When the records were last read because a lookup had missed.
    records_read: Arc<Mutex<Option<Instant>>>,
}

/// What one run of the chain found.
enum Outcome {
    Proven(Principal),
    Refused(String),
    Expired,
    Unknown { what: String, looked_up: LookedUp },
}

impl Authenticator {
    /// Links the components of `chain`, which are asked in this order, over `records`.
    ///
    /// # Errors
    ///
    /// When a component cannot be linked.
    pub fn new(
        runtime: &Arc<Runtime>,
        tenant: Arc<Tenant>,
        chain: &[Admitted],
        records: AuthRecords,
        source: Arc<dyn AuthSource>,
        key_sets: KeySets,
    ) -> Result<Self, LoadError> {
        let chain = chain
            .iter()
            .map(|admitted| host::link(runtime, admitted))
            .collect::<Result<_, _>>()?;
        let snapshot = ArcSwap::from_pointee(Snapshot::new(tenant.id(), records, &key_sets));
        let runtime = runtime.clone();
        Ok(Self(Arc::new(Inner {
            runtime,
            tenant,
            chain,
            snapshot,
            source,
            key_sets,
            records_read: Arc::default(),
        })))
    }

    /// Puts `records` in place of the present ones and forgets every verified credential.
    pub fn replace(&self, records: AuthRecords) {
        self.0.replace(records);
    }

    /// That of the records at work.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.0.snapshot.load().epoch()
    }

    /// Whether an API key is there, and neither revoked nor at its end.
    #[must_use]
    pub fn has_key(&self, id: &str) -> bool {
        let snapshot = self.0.snapshot.load();
        let key = snapshot.key(id);
        key.is_some_and(|key| key.expires_at.is_none_or(|end| now() < end))
    }

    /// Whether a token issuer is trusted.
    #[must_use]
    pub fn trusts(&self, issuer: &str) -> bool {
        self.0.snapshot.load().issuer(issuer).is_some()
    }

    /// The principal of a credential that was verified before and is still valid: what most requests need.
    #[must_use]
    pub fn cached(&self, credential: &str) -> Option<Arc<Principal>> {
        self.0.snapshot.load().verified(&digest(credential), now())
    }

    /// The principal that `credential` (what follows `Bearer `) proves.
    ///
    /// # Errors
    ///
    /// [`AuthError::Bad`] and [`AuthError::Expired`] are the caller's doing, the others are not.
    pub async fn authenticate(
        &self,
        credential: &str,
        facts: &RequestFacts,
    ) -> Result<Arc<Principal>, AuthError> {
        if credential.is_empty() || credential.len() > CREDENTIAL_CAP {
            return Err(AuthError::Bad(
                "no credential, or one longer than 16 KiB".to_owned(),
            ));
        }
        let digest = digest(credential);
        let mut snapshot = self.0.snapshot.load_full();
        if let Some(principal) = snapshot.verified(&digest, now()) {
            return Ok(principal);
        }
        let mut refreshed = false;
        loop {
            match self.0.ask(&snapshot, credential, facts).await? {
                Outcome::Proven(principal) => {
                    let principal = Arc::new(principal);
                    snapshot.remember(digest, &principal);
                    return Ok(principal);
                }
                Outcome::Refused(why) => return Err(AuthError::Bad(why)),
                Outcome::Expired => return Err(AuthError::Expired),
                Outcome::Unknown { what, looked_up } => {
                    if refreshed || !self.0.refresh(&snapshot, looked_up).await? {
                        return Err(AuthError::Bad(format!("nothing is known of {what}")));
                    }
                    refreshed = true;
                    snapshot = self.0.snapshot.load_full();
                }
            }
        }
    }
}

impl Inner {
    /// Unless there are newer ones: of two readings the one that began first may end last.
    fn replace(&self, records: AuthRecords) {
        let epoch = records.epoch;
        let new = Arc::new(Snapshot::new(self.tenant.id(), records, &self.key_sets));
        self.snapshot.rcu(|present| {
            let newest = if present.epoch() > epoch {
                present
            } else {
                &new
            };
            newest.clone()
        });
    }

    /// Forgets verified credentials: keys that are gone must not live on in them.
    fn renew(&self) {
        self.snapshot.rcu(|snapshot| Arc::new(snapshot.renewed()));
    }

    /// Asks the chain once, on the executor.
    async fn ask(
        self: &Arc<Self>,
        snapshot: &Arc<Snapshot>,
        credential: &str,
        facts: &RequestFacts,
    ) -> Result<Outcome, AuthError> {
        let scope = CallScope::new(self.tenant.clone(), Instant::now() + DEADLINE);
        let (chain, snapshot) = (self.chain.clone(), snapshot.clone());
        let (credential, facts) = (credential.to_owned(), facts.clone());
        let (outcome, stale) = self
            .runtime
            .executor()
            .run(&self.tenant, move || {
                run_chain(&chain, &scope, &snapshot, &credential, &facts)
            })
            .await
            .map_err(Failure::from)??;
        for entry in stale {
            // In the background of this one request: its answer does not wait, the next one has the new keys.
            let inner = self.clone();
            self.key_sets.refresh_soon(entry, move || inner.renew());
        }
        Ok(outcome)
    }

    /// Reads again what was missed. True when another try may end differently.
    async fn refresh(&self, seen: &Arc<Snapshot>, looked_up: LookedUp) -> Result<bool, AuthError> {
        if let Some(entry) = looked_up.key_set {
            return match self.key_sets.refresh(&entry).await {
                Ok(changed) => {
                    if changed {
                        self.renew();
                    }
                    Ok(changed)
                }
                Err(_) if entry.has_keys() => Ok(false),
                Err(why) => Err(AuthError::Unavailable(why)),
            };
        }
        if !looked_up.records {
            return Ok(false);
        }
        let mut last = self.records_read.lock().await;
        if !Arc::ptr_eq(&self.snapshot.load_full(), seen) {
            return Ok(true);
        }
        if last.is_some_and(|at| at.elapsed() < RECORDS_PAUSE) {
            return Ok(false);
        }
        *last = Some(Instant::now());
        let records = self
            .source
            .load()
            .await
            .map_err(|error| AuthError::Unavailable(format!("{error:#}")))?;
        let changed = !seen.holds(&records);
        if changed {
            self.replace(records);
        }
        Ok(changed)
    }
}

/// The first answer that is not `not-mine`, and the key sets that ought to be fetched again.
fn run_chain(
    chain: &[Pure<Lookups, Guest>],
    scope: &CallScope,
    snapshot: &Arc<Snapshot>,
    credential: &str,
    facts: &RequestFacts,
) -> Result<(Outcome, Vec<Arc<key_sets::Entry>>), Failure> {
    for component in chain {
        let (answer, mut looked_up) =
            host::authenticate(component, scope, snapshot, credential, facts)?;
        let stale = std::mem::take(&mut looked_up.stale);
        let outcome = match answer {
            Err(GuestAuthError::NotMine) => continue,
            Err(GuestAuthError::Malformed(what)) => Outcome::Refused(format!("malformed: {what}")),
            Err(GuestAuthError::Refused(why)) => Outcome::Refused(why),
            Err(GuestAuthError::Expired) => Outcome::Expired,
            Err(GuestAuthError::Unknown(what)) => Outcome::Unknown { what, looked_up },
            Err(GuestAuthError::Other(what)) => return Err(Failure::Component(what)),
            Ok(principal) => {
                if !is_principal(&principal.id) {
                    return Err(Failure::Contract(
                        "a principal's id is empty, longer than 1 KiB or has control characters"
                            .to_owned(),
                    ));
                }
                let permissions = principal.permissions.as_deref();
                let permissions = match permissions.map(serde_json::from_str).transpose() {
                    Ok(permissions) => permissions.map(Arc::new),
                    Err(error) => {
                        // One that was meant to narrow and cannot be read allows nothing at all.
                        let why = format!("the permissions it narrows to cannot be read: {error}");
                        return Ok((Outcome::Refused(why), stale));
                    }
                };
                let credential = permissions.is_some().then(|| {
                    let token = None;
                    Credential { permissions, token }.into_opaque()
                });
                let key = looked_up.key.filter(|(_, proves)| *proves == principal.id);
                Outcome::Proven(Principal {
                    id: principal.id,
                    // What a key proves needs no issuer.
                    issuer: looked_up.issuer.filter(|_| key.is_none()),
                    key: key.map(|(id, _)| id),
                    // A scope this host does not know allows nothing.
                    scopes: Scope::ALL
                        .into_iter()
                        .filter(|scope| principal.scopes.iter().any(|name| name == scope.as_str()))
                        .collect(),
                    expires_at: principal.expires_at,
                    credential,
                })
            }
        };
        return Ok((outcome, stale));
    }
    Ok((
        Outcome::Refused("no component knows this form of credential".to_owned()),
        Vec::new(),
    ))
}

/// It stands in the journal and in logs.
fn is_principal(id: &str) -> bool {
    (1..=PRINCIPAL_CAP).contains(&id.len()) && !id.chars().any(char::is_control) && id != OPERATOR
}

fn digest(credential: &str) -> [u8; 32] {
    Sha256::digest(credential).into()
}

/// Seconds since the Unix epoch.
fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_principals_id_is_a_line_of_text() {
        assert!(is_principal("jwt:https://issuer.example#änn"));
        for bad in [
            "",
            "a\0b",
            "a\nb",
            "a\u{85}b",
            OPERATOR,
            &"x".repeat(PRINCIPAL_CAP + 1),
        ] {
            assert!(!is_principal(bad), "{bad:?}");
        }
    }
}
