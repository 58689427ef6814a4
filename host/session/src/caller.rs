//! Whom a session acts for while nobody is there: kept in its journal, sealed like all of it, and asked again whether it still holds.

use crate::{tenants::Tenant, tokens::Tokens};
use ambit_policy::{
    Permissions,
    token::{Claims, Credential, Token},
};
use ambit_types::{Error, Principal, Scope};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// A principal as a journal keeps it. The credential itself is nowhere: only what it proved.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Caller {
    principal: String,
    scopes: Vec<Scope>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    issuer: Option<String>,
    /// What the credential narrows to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    permissions: Option<Arc<Permissions>>,
    /// Of a capability token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    token: Option<Claims>,
}

impl Caller {
    pub(crate) fn of(principal: &Principal) -> Self {
        let credential = Credential::of(principal);
        let token = Credential::token_of(principal);
        Self {
            principal: principal.id.clone(),
            scopes: principal.scopes.clone(),
            key: principal.key.as_deref().map(str::to_owned),
            issuer: principal.issuer.as_deref().map(str::to_owned),
            permissions: credential.and_then(|known| known.permissions.clone()),
            token: token.map(|token| Claims::clone(token)),
        }
    }

    /// The principal again. The time to which an issuer vouched for it counts when a turn is accepted, not when it is gone on with.
    ///
    /// # Errors
    /// Its key, its issuer or its capability token is good no more.
    pub(crate) fn principal(
        self,
        tenant: &Tenant,
        tokens: Option<&Arc<Tokens>>,
    ) -> Result<Arc<Principal>, Error> {
        let gone = |what: &str| {
            Error::forbidden(format!(
                "the {what} this session was started with is no longer valid"
            ))
        };
        let by = &tenant.authenticator;
        if !self.key.as_deref().is_none_or(|key| by.has_key(key)) {
            return Err(gone("key"));
        }
        if !self.issuer.as_deref().is_none_or(|one| by.trusts(one)) {
            return Err(gone("issuer"));
        }
        let token = self.token.map(|claims| {
            let kept = Token::kept(claims).map_err(|error| gone("token").because(error))?;
            let tokens = tokens.ok_or_else(|| gone("token"))?;
            Ok::<_, Error>(tokens.held(tenant, Arc::new(kept)))
        });
        let expires_at = None;
        let token = token.transpose()?;
        let credential = (self.permissions.is_some() || token.is_some()).then_some(Credential {
            permissions: self.permissions,
            token,
        });
        Ok(Arc::new(Principal {
            id: self.principal,
            scopes: self.scopes,
            key: self.key.map(Arc::from),
            issuer: self.issuer.map(Arc::from),
            expires_at,
            credential: credential.map(Credential::into_opaque),
        }))
    }
}
