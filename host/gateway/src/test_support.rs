//! What several tests of this crate need.

use ambit_types::{CallContext, Principal, RequestId, Scope, TenantId, TraceContext};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// A call of `principal` in a new tenant called `slug`.
pub(crate) fn context(slug: &str, principal: &str) -> CallContext {
    CallContext {
        tenant: TenantId::new(),
        tenant_slug: slug.parse().unwrap(),
        principal: Arc::new(Principal {
            id: principal.to_owned(),
            scopes: Scope::ALL.to_vec(),
            key: None,
            issuer: None,
            expires_at: None,
            credential: None,
        }),
        request: RequestId::new(),
        session: None,
        agent: None,
        cpu: None,
        trace: TraceContext::new(),
        deadline: Instant::now() + Duration::from_secs(60),
    }
}
