//! One module per kind of component: the imports it is granted, the typed call into its export, and what its answer means.
//!
//! Pure kinds (`auth`, `routing`, `guardrail`, `agent`) read immutable snapshots and run on the executor's threads; effectful
//! kinds (`tool`, `retrieval`) run on the async engine. Each module offers a handle that is cheap to clone and made from an
//! [`Admitted`] component; nothing of wasmtime is in its signatures, so that a caller neither builds a store nor forgets a limit.
//!
//! A guest's answer is data from outside: every module checks what its contract promises (offsets, sizes, names) and answers a
//! typed error where it does not hold. Guardrails fail closed.

pub mod agent;
pub mod auth;
pub mod bindings;
mod failure;
pub mod guardrail;
pub mod retrieval;
pub mod routing;
pub mod tool;

pub use failure::{Failure, LoadError};

use ambit_policy::{Ambit, Permissions};
use ambit_types::CallContext;
use std::sync::Arc;

/// What is known of an HTTP request before anybody is authenticated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestFacts {
    /// Upper case, for example `POST`.
    pub method: String,
    /// The `Host` header or `:authority` exactly as the client sent it.
    pub host: String,
    /// Path without the query string.
    pub path: String,
}

impl From<&RequestFacts> for bindings::types::RequestFacts {
    fn from(facts: &RequestFacts) -> Self {
        Self {
            method: facts.method.clone(),
            host: facts.host.clone(),
            path: facts.path.clone(),
        }
    }
}

/// What the tenant leaves of a component's ambit. Nothing here can widen it. What the caller's token leaves comes with each call.
#[derive(Debug, Clone, Default)]
pub struct Narrowing {
    /// The tenant's grant for the component; none does not narrow.
    pub tenant: Option<Arc<Permissions>>,
}

impl Narrowing {
    fn of(&self, ambit: &Ambit) -> Ambit {
        ambit.clone().narrowed_by_tenant(self.tenant.clone())
    }

    fn of_call(&self, ambit: &Ambit, context: &CallContext) -> Ambit {
        self.of(ambit).narrowed_by_caller(context)
    }
}

/// How bad a finding is.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    Low,
    Medium,
    High,
    Critical,
}
