//! The imports of an auth component and the call into its export.

use super::{
    key_sets::{Entry, Present},
    keyset::Algorithm,
    snapshot::{Keys, Snapshot},
};
use crate::{Failure, LoadError, RequestFacts};
use ambit::auth::{keys, verify};
use ambit_runtime::{Admitted, Call, CallScope, Pure, Runtime};
use std::sync::Arc;
use wasmtime::component::HasSelf;

pub(super) use exports::ambit::auth::authenticator::AuthError as GuestAuthError;

wasmtime::component::bindgen!({
    path: ["../../wit/types", "../../wit/auth"],
    world: "ambit:auth/guest",
    with: { "ambit:types/types": crate::bindings::types },
});

ambit_runtime::bindings!(Guest, GuestPre);

/// What one call looks things up in.
pub(super) struct Lookups {
    snapshot: Arc<Snapshot>,
    looked_up: LookedUp,
}

/// What a call looked up: the host's own account, so that a component cannot make it refresh something else.
#[derive(Default)]
pub(super) struct LookedUp {
    /// The API key that it found last, and whom that proves.
    pub(super) key: Option<(Arc<str>, String)>,
    /// The issuer that it found last.
    pub(super) issuer: Option<Arc<str>>,
    /// A key or an issuer that is not there.
    pub(super) records: bool,
    /// A set whose key is not there.
    pub(super) key_set: Option<Arc<Entry>>,
    /// Used, but old.
    pub(super) stale: Vec<Arc<Entry>>,
}

pub(super) fn link(
    runtime: &Arc<Runtime>,
    admitted: &Admitted,
) -> Result<Pure<Lookups, Guest>, LoadError> {
    Ok(Pure::link(runtime, admitted, |linker| {
        keys::add_to_linker::<Call<Lookups>, HasSelf<Lookups>>(linker, |call| &mut call.host)?;
        verify::add_to_linker::<Call<Lookups>, HasSelf<Lookups>>(linker, |call| &mut call.host)
    })?)
}

/// The component's answer and what it looked up.
pub(super) fn authenticate(
    component: &Pure<Lookups, Guest>,
    scope: &CallScope,
    snapshot: &Arc<Snapshot>,
    credential: &str,
    facts: &RequestFacts,
) -> Result<
    (
        Result<crate::bindings::types::Principal, GuestAuthError>,
        LookedUp,
    ),
    Failure,
> {
    let lookups = Lookups {
        snapshot: snapshot.clone(),
        looked_up: LookedUp::default(),
    };
    let facts = facts.into();
    Ok(component.call(scope, lookups, |store, guest| {
        let answer =
            guest
                .ambit_auth_authenticator()
                .call_authenticate(&mut *store, credential, &facts)?;
        Ok((answer, std::mem::take(&mut store.data_mut().host.looked_up)))
    })?)
}

impl keys::Host for Lookups {
    fn lookup(&mut self, public_id: String) -> Option<keys::ApiKey> {
        let Some(key) = self.snapshot.key(&public_id) else {
            self.looked_up.records = true;
            return None;
        };
        self.looked_up.key = Some((public_id.into(), key.principal.clone()));
        Some(keys::ApiKey {
            secret_hash: key.secret_hash.to_vec(),
            principal: key.principal.clone(),
            scopes: key.scopes.clone(),
            expires_at: key.expires_at,
            permissions: key.permissions.clone(),
        })
    }

    fn lookup_issuer(&mut self, name: String) -> Option<keys::Issuer> {
        let Some(issuer) = self.snapshot.issuer(&name) else {
            self.looked_up.records = true;
            return None;
        };
        self.looked_up.issuer = Some(name.into());
        Some(keys::Issuer {
            issuer: issuer.issuer.clone(),
            audiences: issuer.audiences.clone(),
            algorithms: issuer.algorithms.clone(),
            types: issuer.types.clone(),
            leeway: issuer.leeway,
            scopes: issuer.scopes.clone(),
        })
    }
}

impl verify::Host for Lookups {
    fn verify(
        &mut self,
        issuer: String,
        key_id: Option<String>,
        algorithm: String,
        message: Vec<u8>,
        signature: Vec<u8>,
    ) -> Result<bool, verify::VerifyError> {
        use verify::VerifyError;
        let unknown =
            || VerifyError::UnknownKey(key_id.clone().unwrap_or_else(|| "(unnamed)".to_owned()));
        let Some((allowed, keys)) = self.snapshot.trust(&issuer) else {
            self.looked_up.records = true;
            return Err(unknown());
        };
        let algorithm = match algorithm.parse::<Algorithm>() {
            Ok(algorithm) if allowed.contains(&algorithm) => algorithm,
            _ => return Err(VerifyError::RefusedAlgorithm(algorithm)),
        };
        match keys {
            Keys::Inline(set) => set
                .as_ref()
                .and_then(|set| set.verify(key_id.as_deref(), algorithm, &message, &signature))
                .ok_or_else(unknown),
            Keys::Fetched(entry) => match entry
                .with(|set| set.verify(key_id.as_deref(), algorithm, &message, &signature))
            {
                Present::Answer {
                    answer: Some(valid),
                    stale,
                } => {
                    if stale {
                        self.looked_up.stale.push(entry.clone());
                    }
                    Ok(valid)
                }
                Present::Answer { answer: None, .. } | Present::Absent => {
                    self.looked_up.key_set = Some(entry.clone());
                    Err(unknown())
                }
            },
        }
    }
}
