//! The decision about a token: is it of a trusted issuer, meant for us, and valid now (RFC 7519 §4.1, RFC 8725 §3)?

use crate::{
    json::{self, Json},
    token::{self, Header, ReadError},
};
use std::collections::BTreeMap;

/// Longest `sub` and `iss` taken over into a principal (OpenID Connect Core §2 allows 255 for `sub`).
const NAME_CAP: usize = 255;
/// What an issuer without its own list may write in `typ`; an ID token or logout token says something else.
const DEFAULT_TYPES: [&str; 2] = ["jwt", "at+jwt"];

/// A trusted issuer and what it is trusted for. See `ambit:auth/keys.issuer`.
#[derive(Debug, Clone, Default)]
pub struct Issuer {
    pub audiences: Vec<String>,
    pub algorithms: Vec<String>,
    pub types: Vec<String>,
    pub leeway: u32,
    pub scopes: Vec<String>,
}

/// Why a signature could not be checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VerifyError {
    UnknownKey(String),
    RefusedAlgorithm(String),
    Other(String),
}

/// What the host knows and does for this component.
pub trait Host {
    fn issuer(&self, issuer: &str) -> Option<Issuer>;
    fn verify(
        &self,
        issuer: &str,
        key_id: Option<&str>,
        algorithm: &str,
        message: &[u8],
        signature: &[u8],
    ) -> Result<bool, VerifyError>;
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// `jwt:<iss>#<sub>`: unique over issuers, and never the id of an API key.
    pub id: String,
    pub scopes: Vec<String>,
    pub issuer: String,
    /// The `exp` claim.
    pub expires_at: u64,
    /// The `ambit` claim as JSON.
    pub permissions: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuthError {
    NotMine,
    Malformed(String),
    Unknown(String),
    Expired,
    Refused(String),
    Other(String),
}

fn refused<T>(why: impl Into<String>) -> Result<T, AuthError> {
    Err(AuthError::Refused(why.into()))
}

/// Decides about `credential` at `now`, seconds since the Unix epoch.
///
/// The signature is checked before any claim but `iss`, which says whose it should be: an unsigned text learns nothing about
/// what would have been accepted.
pub fn authenticate(credential: &str, now: u64, host: &impl Host) -> Result<Principal, AuthError> {
    let token = token::read(credential).map_err(|error| match error {
        ReadError::NotMine => AuthError::NotMine,
        ReadError::Malformed(what) => AuthError::Malformed(what.to_owned()),
    })?;
    let claims = json::object(&token.payload).ok_or_else(|| {
        AuthError::Malformed("the claims are not a JSON object with unique names".to_owned())
    })?;
    let name = required_text(&claims, "iss")?;
    if name.contains('#') {
        return refused("`iss` has a fragment (RFC 8414 §2)");
    }
    let issuer = host
        .issuer(name)
        .ok_or_else(|| AuthError::Unknown(name.to_owned()))?;
    check_header(&token.header, &issuer)?;
    match host.verify(
        name,
        token.header.key_id.as_deref(),
        &token.header.algorithm,
        token.message,
        &token.signature,
    ) {
        Ok(true) => {}
        Ok(false) => return refused("the signature is not the issuer's"),
        Err(VerifyError::UnknownKey(id)) => {
            return Err(AuthError::Unknown(format!("{name} key {id}")));
        }
        Err(VerifyError::RefusedAlgorithm(name)) => {
            return refused(format!("`alg` {name} is refused"));
        }
        Err(VerifyError::Other(what)) => return Err(AuthError::Other(what)),
    }
    check_audience(&claims, &issuer)?;
    let expires_at = check_times(&claims, now, u64::from(issuer.leeway))?;
    let subject = required_text(&claims, "sub")?;
    Ok(Principal {
        id: format!("jwt:{name}#{subject}"),
        scopes: scopes(&claims, issuer.scopes)?,
        issuer: name.to_owned(),
        expires_at,
        permissions: permissions(&claims)?,
    })
}

/// `alg` and `typ` as the issuer's record allows them (RFC 8725 §3.1, §3.11).
fn check_header(header: &Header, issuer: &Issuer) -> Result<(), AuthError> {
    // The issuer's list is the operator's; that it names no MAC and not `none` is not left to it.
    let known = matches!(header.algorithm.as_str(), "RS256" | "ES256" | "EdDSA");
    if !known || !issuer.algorithms.contains(&header.algorithm) {
        return refused("`alg` is not one this issuer is trusted for");
    }
    let allowed = match &header.media_type {
        Some(name) if issuer.types.is_empty() => DEFAULT_TYPES.contains(&name.as_str()),
        Some(name) => issuer.types.contains(name),
        None => issuer.types.is_empty(),
    };
    if allowed {
        Ok(())
    } else {
        refused("`typ` is not one this issuer is trusted for")
    }
}

fn check_audience(claims: &BTreeMap<String, Json>, issuer: &Issuer) -> Result<(), AuthError> {
    let ours =
        |value: &Json| matches!(value, Json::String(name) if issuer.audiences.contains(name));
    let meant_for_us = match claims.get("aud") {
        Some(name @ Json::String(_)) => ours(name),
        Some(Json::Array(names)) if names.iter().all(|name| matches!(name, Json::String(_))) => {
            names.iter().any(ours)
        }
        None => return refused("`aud` is missing"),
        Some(_) => return refused("`aud` is neither a text nor a list of texts"),
    };
    if meant_for_us {
        Ok(())
    } else {
        refused("`aud` does not name us")
    }
}

/// The second of `exp`, if `exp`, `nbf` and `iat` agree with `now` and each other within `leeway` seconds.
fn check_times(claims: &BTreeMap<String, Json>, now: u64, leeway: u64) -> Result<u64, AuthError> {
    let Some(expires) = seconds(claims, "exp")? else {
        return refused("`exp` is missing");
    };
    if now >= expires.saturating_add(leeway) {
        return Err(AuthError::Expired);
    }
    if seconds(claims, "nbf")?.is_some_and(|begins| begins > now.saturating_add(leeway)) {
        return refused("`nbf` is still to come");
    }
    if let Some(issued) = seconds(claims, "iat")? {
        if issued > now.saturating_add(leeway) {
            return refused("`iat` is still to come");
        }
        if issued > expires {
            return refused("`iat` is after `exp`");
        }
    }
    Ok(expires)
}

/// A NumericDate (RFC 7519 §2): seconds, whose fraction is dropped.
fn seconds(claims: &BTreeMap<String, Json>, name: &str) -> Result<Option<u64>, AuthError> {
    /// Year 9999; a later time is a mistake in units.
    const LAST: f64 = 253_402_300_799.0;
    match claims.get(name) {
        None => Ok(None),
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "between 0 and LAST"
        )]
        Some(&Json::Number(value)) if (0.0..=LAST).contains(&value) => Ok(Some(value as u64)),
        Some(_) => refused(format!("`{name}` is not a time")),
    }
}

fn required_text<'a>(claims: &'a BTreeMap<String, Json>, name: &str) -> Result<&'a str, AuthError> {
    match claims.get(name) {
        Some(Json::String(text)) if text.is_empty() => refused(format!("`{name}` is empty")),
        Some(Json::String(text)) if text.len() > NAME_CAP => {
            refused(format!("`{name}` is longer than {NAME_CAP} bytes"))
        }
        Some(Json::String(text)) if text.chars().any(char::is_control) => {
            refused(format!("`{name}` has control characters"))
        }
        Some(Json::String(text)) => Ok(text),
        Some(_) => refused(format!("`{name}` is not a text")),
        None => refused(format!("`{name}` is missing")),
    }
}

/// The issuer's scopes, less those a `scope` claim (RFC 8693 §4.2) does not name. A claim never adds one.
fn scopes(claims: &BTreeMap<String, Json>, granted: Vec<String>) -> Result<Vec<String>, AuthError> {
    match claims.get("scope") {
        None => Ok(granted),
        Some(Json::String(asked)) => Ok(granted
            .into_iter()
            .filter(|scope| asked.split(' ').any(|name| name == scope))
            .collect()),
        Some(_) => refused("`scope` is not a text"),
    }
}

/// The private claim `ambit`: what the token narrows every component to, in the form of a grant. The host reads it; whoever holds the
/// token holds no more than that.
fn permissions(claims: &BTreeMap<String, Json>) -> Result<Option<String>, AuthError> {
    match claims.get("ambit") {
        None => Ok(None),
        Some(object @ Json::Object(_)) => match serde_json::to_string(object) {
            Ok(text) => Ok(Some(text)),
            Err(error) => refused(format!("`ambit`: {error}")),
        },
        Some(_) => refused("`ambit` is not an object"),
    }
}

#[cfg(test)]
#[path = "claims_tests.rs"]
mod tests;
