//! Who is calling.

use futures::future::BoxFuture;

/// A stored API key, as the store has it. The secret itself is nowhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKey {
    /// 16 lower-case hexadecimal digits.
    pub public_id: String,
    /// SHA-256 of the 256-bit secret.
    pub secret_hash: [u8; 32],
    /// Principal id, for example `key:3f9a…`.
    pub principal: String,
    pub scopes: Vec<String>,
    /// Seconds since the Unix epoch.
    pub expires_at: Option<u64>,
}

/// Where the keys of an issuer are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Jwks {
    /// The JSON of an RFC 7517 key set.
    Inline(String),
    /// Fetched through egress, cached and refreshed.
    Uri(url::Url),
}

/// A token issuer the tenant trusts, and what for. Fields as in `ambit:auth/keys.issuer`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issuer {
    pub issuer: String,
    pub audiences: Vec<String>,
    pub algorithms: Vec<String>,
    pub types: Vec<String>,
    /// Tolerated clock difference in seconds.
    pub leeway: u32,
    pub scopes: Vec<String>,
    pub jwks: Jwks,
}

/// Everything a tenant's authenticator may look up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuthRecords {
    /// The tenant's revocation epoch these records were read at.
    pub epoch: u64,
    pub keys: Vec<ApiKey>,
    pub issuers: Vec<Issuer>,
}

/// Reads a tenant's records anew when a lookup missed. Called at most once at a time and a few times a minute.
pub trait AuthSource: Send + Sync + 'static {
    fn load(&self) -> BoxFuture<'_, anyhow::Result<AuthRecords>>;
}
