//! Capability tokens at work: issued to whoever proved who he is, narrowed for whoever he trusts less, taken at the door, revoked.
//!
//! What a token is and how it narrows is [`ambit_policy::token`]'s; here it meets the tenant: its keys, its revocations, its ledger.

use crate::{library::store_error, tenants::Tenant};
use ambit_ledger::Money;
use ambit_policy::{
    Permissions,
    token::{
        Claims, Credential, Delegation, DelegationError, Held, Mode, Overlooked, Place, SignError,
        Signer, Token, TokenError, VerifiedTokens, Verifier,
    },
};
use ambit_store::{TenantStore, TokenRecord};
use ambit_types::{AgentName, CallContext, Error, ErrorKind, Principal, Scope, SessionId, TokenId};
use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// How long a token is good where nobody says.
const USUAL: Duration = Duration::from_secs(3600);

/// The longest that one is good. What should last longer is a key.
pub const LONGEST: Duration = Duration::from_secs(30 * 24 * 3600);

/// Issues and reads the tokens of one installation.
#[derive(Debug)]
pub struct Tokens {
    issuer: String,
    signer: Signer,
    verified: VerifiedTokens,
    mode: Mode,
    overlooked: Arc<dyn Overlooked>,
}

/// What a new token is to have. What its holder's credential lacks it does not get; that is no error.
#[derive(Debug, Clone, Default)]
pub struct NewToken {
    pub scopes: Option<Vec<Scope>>,
    pub grants: Option<Permissions>,
    /// For it and its descendants together.
    pub budget: Option<Money>,
    pub lifetime: Option<Duration>,
    pub agent: Option<AgentName>,
    pub session: Option<SessionId>,
}

/// A token that was issued.
#[derive(Debug)]
pub struct Issued {
    pub token: Token,
    /// Shown once, here.
    pub text: String,
}

impl Tokens {
    /// Signs with this Ed25519 seed, as `issuer`.
    #[must_use]
    pub fn new(
        issuer: &str,
        seed: &[u8; 32],
        mode: Mode,
        overlooked: Arc<dyn Overlooked>,
    ) -> Option<Self> {
        let signer = Signer::from_seed(seed).ok()?;
        let verifier = Verifier::new(issuer, [signer.public_key().clone()]);
        Some(Self {
            issuer: issuer.to_owned(),
            signer,
            verified: VerifiedTokens::new(verifier),
            mode,
            overlooked,
        })
    }

    #[must_use]
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Whom a token proves to a tenant.
    ///
    /// # Errors
    /// It is none, another tenant's, no longer good, or the key it was issued to is not.
    pub fn principal(&self, tenant: &Tenant, text: &str) -> Result<Arc<Principal>, Error> {
        let token = self
            .verified
            .verify(text, now().as_secs(), &tenant.revoked.load())
            .and_then(|token| match token.tenant == tenant.id {
                true => Ok(token),
                false => Err(TokenError::Tenant),
            })
            .and_then(|token| {
                // What it was made with must still be good.
                let by = &tenant.authenticator;
                let key = token.key.as_deref().is_none_or(|key| by.has_key(key));
                let issuer = token
                    .trusted
                    .as_deref()
                    .is_none_or(|issuer| by.trusts(issuer));
                (key && issuer).then_some(token).ok_or(TokenError::Revoked)
            })
            .map_err(|error| {
                Error::new(
                    ErrorKind::Unauthenticated,
                    "the credential is missing, wrong or no longer valid",
                )
                .because(error)
            })?;
        let credential = Credential {
            permissions: token.credential.clone(),
            token: Some(self.held(tenant, token.clone())),
        };
        Ok(Arc::new(Principal {
            id: token.sub.clone(),
            scopes: token.scopes.clone(),
            key: token.key.as_deref().map(Arc::from),
            issuer: token.trusted.as_deref().map(Arc::from),
            expires_at: Some(token.exp),
            credential: Some(credential.into_opaque()),
        }))
    }

    /// A token where it is used.
    pub(crate) fn held(&self, tenant: &Tenant, token: Arc<Token>) -> Held {
        Held {
            token,
            revoked: tenant.revoked.clone(),
            mode: self.mode,
            overlooked: self.overlooked.clone(),
        }
    }

    /// A token for the principal of a call: a child of the one it came with, or one of his own.
    ///
    /// # Errors
    /// The request or the parent does not allow it, or it cannot be noted.
    pub async fn issue(
        &self,
        store: &TenantStore,
        context: &CallContext,
        new: NewToken,
    ) -> Result<Issued, Error> {
        let principal = &context.principal;
        let lifetime = new.lifetime.unwrap_or(USUAL);
        if lifetime > LONGEST || lifetime.is_zero() {
            let message = format!("expected 1 to {} seconds", LONGEST.as_secs());
            return Err(Error::invalid("expires_in", message));
        }
        let (now, id) = (now(), TokenId::new());
        // Whole millionths, rounded down.
        let budget = new
            .budget
            .map(|budget| budget.nanos().unsigned_abs() / 1000);
        let expires_at = now.as_secs() + lifetime.as_secs();
        let token = match Credential::token_of(principal) {
            Some(parent) => {
                let request = Delegation {
                    id,
                    scopes: new.scopes,
                    grants: new.grants.map(Arc::new).into_iter().collect(),
                    budget_micros: budget,
                    expires_at: Some(expires_at),
                    agent: new.agent,
                    session: new.session,
                };
                parent
                    .delegate(request, now.as_secs())
                    .map_err(undelegated)?
            }
            None => {
                let ends = principal.expires_at.unwrap_or(u64::MAX).min(expires_at);
                let mut claims = self.root(context, id, now.as_secs(), ends);
                if let Some(asked) = new.scopes {
                    claims.scopes.retain(|scope| asked.contains(scope));
                }
                claims.layers.extend(new.grants.map(Arc::new));
                claims.budget_micros = budget;
                claims.agent = new.agent;
                claims.session = new.session;
                Token::issue(claims).map_err(|error| Error::forbidden(error.to_string()))?
            }
        };
        let text = self.signer.sign(&token).map_err(|error| match error {
            SignError::TooLong => Error::invalid("grants", error.to_string()),
            SignError::Failed(_) => Error::internal(error),
        })?;
        let micros = token.budget_micros.filter(|_| new.budget.is_some());
        let budget = micros.and_then(|micros| Money::from_nanos(ms(micros)));
        store
            .create_token(&record(&token), budget)
            .await
            .map_err(store_error)?;
        Ok(Issued { token, text })
    }

    /// Whom a session acts for that the one of `context` starts: the same principal, with a token for that session and its agent, which allows what the
    /// caller's does and each of `layers` too. The token is nobody's to carry: its text is never written.
    ///
    /// # Errors
    /// The caller's token does not allow it, or it cannot be noted.
    pub(crate) async fn hand_over(
        &self,
        store: &TenantStore,
        tenant: &Tenant,
        context: &CallContext,
        (session, agent): (SessionId, &AgentName),
        mut layers: Vec<Arc<Permissions>>,
    ) -> Result<Arc<Principal>, Error> {
        let (now, id) = (now().as_secs(), TokenId::new());
        let parent = Credential::token_of(&context.principal);
        let token = match parent {
            Some(parent) => {
                layers.retain(|layer| !parent.layers.contains(layer));
                let request = Delegation {
                    grants: layers,
                    agent: Some(agent.clone()),
                    session: Some(session),
                    ..Delegation::new(id)
                };
                let from = Place {
                    tenant: context.tenant,
                    session: context.session,
                    agent: context.agent.as_deref(),
                };
                parent.hand_over(from, request, now).map_err(undelegated)?
            }
            None => {
                // As the session that starts it: it may go on when what its caller came with has expired.
                let mut claims = self.root(context, id, now, now + LONGEST.as_secs());
                claims.layers = layers;
                claims.agent = Some(agent.clone());
                claims.session = Some(session);
                Token::issue(claims).map_err(|error| Error::forbidden(error.to_string()))?
            }
        };
        let noted = store.create_token(&record(&token), None).await;
        noted?;
        let credential = Credential {
            permissions: token.credential.clone(),
            token: Some(self.held(tenant, Arc::new(token))),
        };
        Ok(Arc::new(Principal {
            credential: Some(credential.into_opaque()),
            ..Principal::clone(&context.principal)
        }))
    }

    /// Everything that the principal of a call has, who came without a token.
    fn root(&self, context: &CallContext, id: TokenId, now: u64, ends: u64) -> Claims {
        let principal = &context.principal;
        let credential = Credential::of(principal);
        let (tenant, name) = (context.tenant, &principal.id);
        let mut claims = Claims::new(&self.issuer, tenant, name, id, now, ends);
        claims.scopes = principal.scopes.clone();
        claims.key = principal.key.as_deref().map(str::to_owned);
        claims.trusted = principal.issuer.as_deref().map(str::to_owned);
        claims.credential = credential.and_then(|known| known.permissions.clone());
        claims
    }
}

fn record(token: &Token) -> TokenRecord {
    TokenRecord {
        id: token.jti,
        parent: token.ancestors.first().copied(),
        principal: token.sub.clone(),
        key: token.key.clone(),
        agent: token.agent.as_ref().map(ToString::to_string),
        session: token.session.map(|session| session.to_string()),
        created_ms: ms(token.iat),
        expires_ms: ms(token.exp),
        revoked_ms: None,
    }
}

fn ms(seconds: u64) -> i64 {
    i64::try_from(seconds.saturating_mul(1000)).unwrap_or(i64::MAX)
}

/// Ends a token and its descendants: on this node before it is answered, on the others within two seconds. None: there is no such token.
///
/// # Errors
/// The store's.
pub async fn revoke_token(
    store: &TenantStore,
    tenant: Option<&Tenant>,
    id: TokenId,
) -> Result<Option<TokenRecord>, Error> {
    let at_ms = i64::try_from(now().as_millis()).unwrap_or(i64::MAX);
    store.revoke_token(id, at_ms).await.map_err(store_error)?;
    let record = store.token(id).await.map_err(store_error)?;
    if let (Some(tenant), Some(record)) = (tenant, &record) {
        tenant.end_token(id, record.expires_ms);
    }
    Ok(record)
}

fn undelegated(error: DelegationError) -> Error {
    match error {
        DelegationError::Agent => Error::invalid("agent", error.to_string()),
        DelegationError::Session => Error::invalid("session", error.to_string()),
        DelegationError::Ended => Error::invalid("expires_in", error.to_string()),
        DelegationError::TooManyLayers => Error::invalid("grants", error.to_string()),
        DelegationError::Parent(_) | DelegationError::TooDeep => {
            Error::forbidden(error.to_string())
        }
    }
}

fn now() -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap_or_default()
}
