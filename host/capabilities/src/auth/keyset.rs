//! An issuer's key set (RFC 7517), parsed once, and signature checks against it.
//!
//! Keys that are not for checking RS256, ES256 or EdDSA signatures are left out when the set is read: another `use`, `key_ops` or
//! `alg`, RSA below 2048 bits, points off the curve, and anything with a private or symmetric part. What is not in the set cannot
//! be chosen by a token's header.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256,
    RsaPublicKeyComponents,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;
use std::str::FromStr;

/// Longest set read: some identity providers list dozens of keys with certificate chains.
pub(crate) const JSON_CAP: usize = 256 * 1024;
/// Most keys of a set that are looked at.
const KEYS_CAP: usize = 100;

/// A signature algorithm that may be allowed (RFC 7518 §3.1, RFC 8037 §3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Algorithm {
    Rs256,
    Es256,
    EdDsa,
}

impl FromStr for Algorithm {
    type Err = UnknownAlgorithm;

    fn from_str(name: &str) -> Result<Self, UnknownAlgorithm> {
        match name {
            "RS256" => Ok(Self::Rs256),
            "ES256" => Ok(Self::Es256),
            "EdDSA" => Ok(Self::EdDsa),
            _ => Err(UnknownAlgorithm),
        }
    }
}

/// Not the name of an algorithm that may be allowed: MACs, `none`, and what nobody needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected RS256, ES256 or EdDSA")]
pub struct UnknownAlgorithm;

/// Why a text is not a key set.
#[derive(Debug, thiserror::Error)]
pub enum KeySetError {
    #[error("the key set is longer than 256 KiB")]
    TooLong,
    #[error("not a JSON Web Key Set")]
    Json(#[source] serde_json::Error),
    #[error("no key of the set can check RS256, ES256 or EdDSA signatures")]
    NoUsableKey,
}

/// The usable keys of an issuer.
#[derive(Debug)]
pub struct KeySet {
    keys: Vec<Key>,
}

#[derive(Debug)]
struct Key {
    id: Option<String>,
    algorithm: Algorithm,
    key: ParsedPublicKey,
}

impl KeySet {
    /// Reads the JSON of a set. Keys that cannot be used are left out (RFC 7517 §5).
    ///
    /// # Errors
    ///
    /// When it is no set, or none of its keys can be used.
    pub fn parse(json: &[u8]) -> Result<Self, KeySetError> {
        #[derive(Deserialize)]
        struct Set {
            keys: Vec<serde_json::Value>,
        }
        if json.len() > JSON_CAP {
            return Err(KeySetError::TooLong);
        }
        let set: Set = serde_json::from_slice(json).map_err(KeySetError::Json)?;
        let keys: Vec<Key> = set
            .keys
            .into_iter()
            .take(KEYS_CAP)
            .filter_map(|key| serde_json::from_value::<Jwk>(key).ok())
            .filter_map(Jwk::usable)
            .collect();
        if keys.is_empty() {
            Err(KeySetError::NoUsableKey)
        } else {
            Ok(Self { keys })
        }
    }

    /// Whether `signature` is one over `message` by the key with this id, or by the set's only key of the algorithm where the
    /// token names none. `None`: no such key.
    #[must_use]
    pub fn verify(
        &self,
        key_id: Option<&str>,
        algorithm: Algorithm,
        message: &[u8],
        signature: &[u8],
    ) -> Option<bool> {
        let named = |key: &&Key| {
            key.algorithm == algorithm && (key_id.is_none() || key.id.as_deref() == key_id)
        };
        let mut keys = self.keys.iter().filter(named);
        let key = keys.next()?;
        // Two keys under one name leave open which is meant.
        if keys.next().is_some() {
            return None;
        }
        Some(key.key.verify_sig(message, signature).is_ok())
    }
}

/// A key as it stands in a set (RFC 7517 §4, RFC 7518 §6, RFC 8037 §2).
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    purpose: Option<String>,
    key_ops: Option<Vec<String>>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
    d: Option<serde_json::Value>,
    k: Option<serde_json::Value>,
}

impl Jwk {
    fn usable(self) -> Option<Key> {
        let for_signatures = self
            .purpose
            .as_deref()
            .is_none_or(|purpose| purpose == "sig");
        let for_checking = self
            .key_ops
            .as_ref()
            .is_none_or(|ops| ops.iter().any(|op| op == "verify"));
        // A published private key proves nothing.
        let secret = self.d.is_some() || self.k.is_some();
        if !for_signatures || !for_checking || secret {
            return None;
        }
        let (algorithm, key) = match (self.kty.as_str(), self.crv.as_deref()) {
            ("RSA", None) => (Algorithm::Rs256, rsa(&decode(self.n)?, &decode(self.e)?)?),
            ("EC", Some("P-256")) => (Algorithm::Es256, p256(&decode(self.x)?, &decode(self.y)?)?),
            ("OKP", Some("Ed25519")) => (Algorithm::EdDsa, ed25519(&decode(self.x)?)?),
            _ => return None,
        };
        // RFC 9864 gives EdDSA over Ed25519 a second name.
        let meant = |name: &str| {
            name.parse() == Ok(algorithm) || (name == "Ed25519" && algorithm == Algorithm::EdDsa)
        };
        self.alg.as_deref().is_none_or(meant).then_some(Key {
            id: self.kid,
            algorithm,
            key,
        })
    }
}

fn decode(member: Option<String>) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(member?).ok()
}

fn rsa(n: &[u8], e: &[u8]) -> Option<ParsedPublicKey> {
    const MIN_BITS: usize = 2048;
    const MAX_BITS: usize = 8192;
    // RFC 7518 §6.3.1.1 forbids leading zeros; some libraries write one all the same.
    let n = &n[n.iter().position(|byte| *byte != 0)?..];
    let e = &e[e.iter().position(|byte| *byte != 0)?..];
    let bits = n.len() * 8 - n[0].leading_zeros() as usize;
    // An exponent that is even or 1 makes no signature.
    let odd = e.last().is_some_and(|byte| byte % 2 == 1) && e != [1];
    if !(MIN_BITS..=MAX_BITS).contains(&bits) || !odd || e.len() > 4 {
        return None;
    }
    RsaPublicKeyComponents { n, e }
        .to_parsed_public_key(&RSA_PKCS1_2048_8192_SHA256)
        .ok()
}

fn p256(x: &[u8], y: &[u8]) -> Option<ParsedPublicKey> {
    const COORDINATE: usize = 32;
    if x.len() != COORDINATE || y.len() != COORDINATE {
        return None;
    }
    let mut point = Vec::with_capacity(1 + 2 * COORDINATE);
    point.push(4); // uncompressed
    point.extend_from_slice(x);
    point.extend_from_slice(y);
    ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).ok()
}

fn ed25519(x: &[u8]) -> Option<ParsedPublicKey> {
    const LENGTH: usize = 32;
    if x.len() != LENGTH {
        return None;
    }
    ParsedPublicKey::new(&ED25519, x).ok()
}

#[cfg(test)]
#[path = "keyset_tests.rs"]
mod tests;
