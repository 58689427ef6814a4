//! Who, for which tenant, until when: the first argument of every operation.

use crate::{Labels, RequestId, SessionId, TenantId, TenantSlug, TraceContext};
use serde::{Deserialize, Serialize};
use std::{sync::Arc, time::Instant};

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
}

impl Scope {
    pub const ALL: [Self; 3] = [Self::Chat, Self::Retrieve, Self::Moderate];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Retrieve => "retrieve",
            Self::Moderate => "moderate",
        }
    }
}

/// Who a request acts for, inside one tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    pub id: String,
    pub scopes: Vec<Scope>,
    /// Seconds since the Unix epoch.
    pub expires_at: Option<u64>,
    /// JSON of the permissions the credential narrows every component to, valid when the credential was checked. None: it does not narrow.
    pub permissions: Option<Arc<str>>,
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
