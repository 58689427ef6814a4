//! Who, for which tenant, until when: the first argument of every operation.

use crate::{Labels, RequestId, SessionId, TenantId, TenantSlug, TraceContext};
use serde::{Deserialize, Serialize};
use std::{
    any::Any,
    fmt,
    sync::{Arc, atomic::AtomicU64},
    time::Instant,
};

/// What a principal may do on the data plane. The component says it in text; anything else is no scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// Talk to agents, and to models by `provider/model`.
    Chat,
    /// Search collections.
    Retrieve,
    /// Ask the guardrail for its verdict.
    Moderate,
    /// See what agents wait for an approval of, arguments included, whoever they act for, and decide.
    Approve,
}

/// The principal that stands for whoever has the installation's admin key. No credential of a tenant proves it.
pub const OPERATOR: &str = "operator";

impl Scope {
    pub const ALL: [Self; 4] = [Self::Chat, Self::Retrieve, Self::Moderate, Self::Approve];

    /// What a credential has of which nobody said more: to decide on others' work is no part of it.
    pub const USUAL: [Self; 3] = [Self::Chat, Self::Retrieve, Self::Moderate];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Retrieve => "retrieve",
            Self::Moderate => "moderate",
            Self::Approve => "approve",
        }
    }
}

/// What travels through here and only another crate can read.
#[derive(Clone)]
pub struct Opaque(Arc<dyn Any + Send + Sync>);

impl Opaque {
    #[must_use]
    pub fn new(value: impl Any + Send + Sync) -> Self {
        Self(Arc::new(value))
    }

    /// None: it is of another type.
    #[must_use]
    pub fn get<T: Any>(&self) -> Option<&T> {
        self.0.downcast_ref()
    }
}

/// The very same value.
impl PartialEq for Opaque {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Opaque {}

impl fmt::Debug for Opaque {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Opaque")
    }
}

/// Who a request acts for, inside one tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    pub id: String,
    pub scopes: Vec<Scope>,
    /// The public id of the API key that proved it. None: something else did.
    pub key: Option<Arc<str>>,
    /// The trusted issuer whose token proved it.
    pub issuer: Option<Arc<str>>,
    /// Seconds since the Unix epoch.
    pub expires_at: Option<u64>,
    /// What the credential narrows every component to, as `ambit_policy::Credential` reads it. None: it does not narrow.
    pub credential: Option<Opaque>,
}

impl Principal {
    #[must_use]
    pub fn may(&self, scope: Scope) -> bool {
        self.scopes.contains(&scope)
    }
}

/// Travels with every call. No context, no call.
#[derive(Debug, Clone)]
pub struct CallContext {
    pub tenant: TenantId,
    /// For metrics and logs, which show names.
    pub tenant_slug: TenantSlug,
    pub principal: Arc<Principal>,
    pub request: RequestId,
    pub session: Option<SessionId>,
    /// The agent this is done for, as metrics name it; none before it is known, and where there is none.
    pub agent: Option<Arc<str>>,
    /// Where the CPU time of components is added up, in nanoseconds. None: nobody pays by it.
    pub cpu: Option<Arc<AtomicU64>>,
    /// Sent on as `traceparent` to providers, so that their spans hang below the request's.
    pub trace: TraceContext,
    /// When the caller stops waiting; nothing done for this call outlives it.
    pub deadline: Instant,
}

impl CallContext {
    /// The agent's label in metrics.
    #[must_use]
    pub fn agent(&self) -> &str {
        self.agent.as_deref().unwrap_or(Labels::NONE)
    }
}
