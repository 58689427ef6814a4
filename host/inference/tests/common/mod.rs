//! What every test of this crate needs.

use ambit_types::{CallContext, Principal, RequestId, TenantId, TraceContext};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

pub(crate) fn context() -> CallContext {
    context_for(Duration::from_secs(20))
}

pub(crate) fn context_for(patience: Duration) -> CallContext {
    CallContext {
        tenant: TenantId::new(),
        tenant_slug: "acme".parse().unwrap(),
        principal: Arc::new(Principal {
            id: "test".into(),
            scopes: Vec::new(),
            expires_at: None,
        }),
        request: RequestId::new(),
        session: None,
        trace: TraceContext::new(),
        deadline: Instant::now() + patience,
    }
}
