//! The rows of the control data and of documents, as the rest of the host sees them.
//!
//! Times are milliseconds since the Unix epoch. What other crates define (permissions, limits, an agent's definition) is JSON here:
//! valid JSON is checked, its meaning is theirs.

use crate::Digest;
use ambit_types::{AgentName, CollectionName, ComponentName, TenantId, TenantSlug, TokenId};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tenant {
    pub id: TenantId,
    pub slug: TenantSlug,
    pub display_name: String,
    pub created_ms: i64,
}

/// A whole name that a tenant owns: lower-case A-labels, no port, no trailing dot. The router's rules decide the form.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostName {
    pub tenant: TenantId,
    pub name: String,
}

/// An API key without its secret, which is nowhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiKey {
    /// The public half, at most 64 bytes; unique in the tenant.
    pub id: String,
    /// What its owner calls it.
    pub name: String,
    pub principal: String,
    /// SHA-256 of the 256-bit secret.
    pub secret_hash: Digest,
    pub scopes: Vec<String>,
    /// The secret's last four characters, to tell keys apart in a list.
    pub last_four: String,
    pub created_ms: i64,
    pub expires_ms: Option<i64>,
    /// Set once, never cleared.
    pub revoked_ms: Option<i64>,
    /// What the key narrows every component to, as in a grant. None: it does not narrow.
    pub permissions: Option<serde_json::Value>,
}

/// A capability token that was issued, without the token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRecord {
    pub id: TokenId,
    /// The one it was delegated from.
    pub parent: Option<TokenId>,
    pub principal: String,
    /// The public id of the API key it was issued to.
    pub key: Option<String>,
    /// The one agent it is for.
    pub agent: Option<String>,
    /// The one session it is for.
    pub session: Option<String>,
    pub created_ms: i64,
    pub expires_ms: i64,
    pub revoked_ms: Option<i64>,
}

/// A token issuer a tenant trusts, and what for. `ambit:auth/keys.issuer` has the meaning of each field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Issuer {
    pub issuer: String,
    pub audiences: Vec<String>,
    pub algorithms: Vec<String>,
    pub types: Vec<String>,
    /// Seconds.
    pub leeway: u32,
    pub scopes: Vec<String>,
    /// Where the key set is fetched, unless `jwks` holds it.
    pub jwks_uri: Option<String>,
    /// An inline key set (RFC 7517).
    pub jwks: Option<Value>,
}

/// An installed component version. Its bytes lie in `DIR/components/<digest>.wasm`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Component {
    pub digest: Digest,
    pub name: ComponentName,
    pub version: String,
    pub kind: String,
    /// `component.toml` as installed.
    pub manifest: String,
    pub installed_ms: i64,
}

/// What the operator (or a tenant) allows a component, in any version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Grant {
    pub component: ComponentName,
    /// `ambit_policy::Permissions`.
    pub permissions: Value,
    /// `ambit_policy::Limits`.
    pub limits: Value,
}

/// Which component fills a slot: `auth/0`, `auth/1`, …, `routing`, `guardrail`, `retrieval`, `agent/<implementation>`, `tool/<name>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotBinding {
    pub slot: String,
    pub component: Digest,
}

/// What happens to a finding of `category` (a prefix up to a `/` matches all below it) at `stage`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuardrailRule {
    pub stage: String,
    pub category: String,
    pub action: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Agent {
    pub name: AgentName,
    pub definition: Value,
    /// 1 at first, one more with each change.
    pub version: i64,
    pub updated_ms: i64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Collection {
    pub name: CollectionName,
    pub created_ms: i64,
    /// The retrieval component that chunked it, when not the tenant's slot.
    pub retrieval: Option<Digest>,
    /// One more with each write of documents: a search index that remembers another number is out of date.
    pub revision: i64,
}

/// A document with its chunks in order; the position in `chunks` is the ordinal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Document {
    /// Id or URI, unique in its collection; at most 1,024 bytes.
    pub id: String,
    pub title: String,
    /// At most 64 bytes.
    pub content_hash: Vec<u8>,
    pub attributes: Map<String, Value>,
    pub chunks: Vec<Chunk>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunk {
    pub anchor: String,
    pub headings: Vec<String>,
    pub text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CollectionStats {
    pub documents: u64,
    pub chunks: u64,
}

/// What a deletion by prefix did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deleted {
    pub documents: u64,
    /// The collection's revision afterwards.
    pub revision: i64,
}

macro_rules! text_enum {
    ($($(#[$doc:meta])* $name:ident { $($(#[$case_doc:meta])* $case:ident = $text:literal,)* })*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        pub enum $name { $($(#[$case_doc])* #[serde(rename = $text)] $case,)* }

        impl $name {
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$case => $text,)* }
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::records::UnknownWord;

            fn from_str(value: &str) -> Result<Self, $crate::records::UnknownWord> {
                match value { $($text => Ok(Self::$case),)* _ => Err($crate::records::UnknownWord(value.chars().take(80).collect())) }
            }
        }
    )*};
}
pub(crate) use text_enum;

/// A stored word that this version does not know.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a word of its column")]
pub struct UnknownWord(pub(crate) String);

text_enum! {
    /// What of a tenant changed. Each change bumps its epoch in the same transaction, so that other processes can notice it.
    EpochKind {
        /// API keys, revocation above all.
        Keys = "keys",
        Issuers = "issuers",
        /// The tenant's own grants.
        Grants = "grants",
        Slots = "slots",
        Rules = "rules",
        Agents = "agents",
        /// Collections made or removed; their documents count in [`Collection::revision`].
        Collections = "collections",
        Budgets = "budgets",
    }
    /// What of the whole installation changed.
    InstallationEpochKind {
        /// Tenants and host names: the routing directory.
        Directory = "directory",
        /// Installed components, operator grants, default slots.
        Components = "components",
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Epoch {
    pub kind: EpochKind,
    /// 0 until the first change.
    pub value: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TenantEpoch {
    pub tenant: TenantId,
    pub kind: EpochKind,
    pub value: i64,
}
