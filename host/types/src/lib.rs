//! Ids, names, errors and the call context: the words every other crate shares.
//!
//! Parse once: each name has a private field and one validating constructor behind `FromStr` and `Deserialize`, so a value of the
//! type is proof that it is well formed.

mod context;
mod error;
mod id;
mod labels;
mod name;
mod secret;
mod trace;

pub use context::{CallContext, OPERATOR, Opaque, Principal, Scope};
pub use error::{Error, ErrorKind};
pub use id::{
    ApprovalId, DocumentId, IdError, KeyId, NodeId, RequestId, ReservationId, SessionId, TenantId,
    TokenId,
};
pub use labels::Labels;
pub use name::{
    AgentName, CollectionName, ComponentName, NameError, ProviderName, TenantSlug, ToolName,
    canonical_domain,
};
pub use secret::Secret;
pub use trace::{TraceContext, TraceError};
