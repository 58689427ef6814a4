//! The categories this component reports. A finding in flight is stored in the state by its place in this list, so the
//! list only grows at the end.

pub const PROMPT_INJECTION: &str = "prompt-injection";

pub const CREDIT_CARD: &str = "pii/credit-card";
pub const IBAN: &str = "pii/iban";
pub const EMAIL: &str = "pii/email";
pub const IP_ADDRESS: &str = "pii/ip-address";
pub const US_SSN: &str = "pii/us-ssn";
pub const PHONE: &str = "pii/phone";

pub const PRIVATE_KEY: &str = "secret/private-key";
pub const JWT: &str = "secret/jwt";
pub const CLOUD_KEY: &str = "secret/cloud-key";
pub const API_TOKEN: &str = "secret/api-token";
pub const BASIC_AUTH: &str = "secret/basic-auth";
pub const BEARER_TOKEN: &str = "secret/bearer-token";
pub const PASSWORD: &str = "secret/password";
pub const KEY: &str = "secret/key";
pub const PASSWORD_HASH: &str = "secret/password-hash";
pub const CONNECTION_STRING: &str = "secret/connection-string";
pub const HIGH_ENTROPY: &str = "secret/high-entropy";

/// Every category, in the order of the state format.
pub const ALL: [&str; 18] = [
    PROMPT_INJECTION,
    CREDIT_CARD,
    IBAN,
    EMAIL,
    IP_ADDRESS,
    US_SSN,
    PHONE,
    PRIVATE_KEY,
    JWT,
    CLOUD_KEY,
    API_TOKEN,
    BASIC_AUTH,
    BEARER_TOKEN,
    PASSWORD,
    KEY,
    PASSWORD_HASH,
    CONNECTION_STRING,
    HIGH_ENTROPY,
];

/// The place of a category in [`ALL`].
pub fn index(category: &str) -> usize {
    ALL.iter().position(|other| *other == category).unwrap_or(0)
}
