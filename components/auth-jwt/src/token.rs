//! The compact form of a signed token (RFC 7515 §3.1, §7.1), read strictly, and its header.

use crate::json::{self, Json};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use std::collections::BTreeMap;

/// Longest token looked at; HTTP headers are rarely allowed to be longer.
pub const TOKEN_CAP: usize = 16 * 1024;
/// Longest `kid`: it is a name, and it goes into the host's lookup.
const KEY_ID_CAP: usize = 256;

/// A signed text taken apart. Nothing in it is true yet.
#[derive(Debug)]
pub struct Signed<'a> {
    pub header: Header,
    pub payload: Vec<u8>,
    /// What was signed: the first two parts with the dot between them, as sent.
    pub message: &'a [u8],
    pub signature: Vec<u8>,
}

/// The members of the header that count.
#[derive(Debug)]
pub struct Header {
    pub algorithm: String,
    pub key_id: Option<String>,
    /// Lower case, without `application/`.
    pub media_type: Option<String>,
}

/// Why a text is not of this form.
#[derive(Debug, PartialEq, Eq)]
pub enum ReadError {
    /// Not of this form at all.
    NotMine,
    Malformed(&'static str),
}

/// Takes `credential` apart. Everything that is not the one way to write it is refused, so that two readers cannot differ.
pub fn read(credential: &str) -> Result<Signed<'_>, ReadError> {
    let mut parts = credential.split('.');
    let (Some(header), Some(payload), Some(signature), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(ReadError::NotMine);
    };
    if credential.len() > TOKEN_CAP {
        return Err(ReadError::Malformed("the token is longer than 16 KiB"));
    }
    let message = &credential.as_bytes()[..header.len() + 1 + payload.len()];
    let header = part(header, "the header is not base64url")?;
    let payload = part(payload, "the claims are not base64url")?;
    let signature = part(signature, "the signature is not base64url")?;
    let header = json::object(&header).ok_or(ReadError::Malformed(
        "the header is not a JSON object with unique names",
    ))?;
    Ok(Signed {
        header: read_header(header)?,
        payload,
        message,
        signature,
    })
}

/// Base64url without padding, whitespace or stray bits (RFC 7515 §2).
fn part(text: &str, otherwise: &'static str) -> Result<Vec<u8>, ReadError> {
    URL_SAFE_NO_PAD
        .decode(text)
        .map_err(|_| ReadError::Malformed(otherwise))
}

/// The members that count. Those that bring keys along (`jwk`, `jku`, `x5c`, `x5u`) are never looked at (RFC 8725 §3.10).
fn read_header(mut header: BTreeMap<String, Json>) -> Result<Header, ReadError> {
    // No extension is understood here, so none may be critical (RFC 7515 §4.1.11); `b64` would change what was signed (RFC 7797).
    if header.contains_key("crit") {
        return Err(ReadError::Malformed(
            "`crit` names extensions that are not understood",
        ));
    }
    if header.contains_key("b64") {
        return Err(ReadError::Malformed("`b64` is not understood"));
    }
    // Tokens in tokens and compressed ones are not what an access token is.
    if header.contains_key("enc") || header.contains_key("zip") {
        return Err(ReadError::Malformed(
            "encrypted and compressed tokens are not understood",
        ));
    }
    let mut text = |name, otherwise| match header.remove(name) {
        None => Ok(None),
        Some(Json::String(text)) => Ok(Some(text)),
        Some(_) => Err(ReadError::Malformed(otherwise)),
    };
    let algorithm =
        text("alg", "`alg` is not a text")?.ok_or(ReadError::Malformed("`alg` is missing"))?;
    let key_id = text("kid", "`kid` is not a text")?;
    let media_type = text("typ", "`typ` is not a text")?.map(|name| normal_type(&name));
    let content_type = text("cty", "`cty` is not a text")?.map(|name| normal_type(&name));
    if content_type.as_deref() == Some("jwt") {
        return Err(ReadError::Malformed("nested tokens are not understood"));
    }
    if key_id.as_ref().is_some_and(|id| id.len() > KEY_ID_CAP) {
        return Err(ReadError::Malformed("`kid` is longer than 256 bytes"));
    }
    Ok(Header {
        algorithm,
        key_id,
        media_type,
    })
}

/// `application/at+jwt`, `AT+JWT` and `at+jwt` are the same (RFC 7515 §4.1.9).
fn normal_type(name: &str) -> String {
    let lower = name.to_ascii_lowercase();
    lower
        .strip_prefix("application/")
        .map_or(lower.clone(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encode(text: &str) -> String {
        URL_SAFE_NO_PAD.encode(text)
    }

    #[track_caller]
    fn check(header: &str, expected: Result<(), &'static str>) {
        let token = format!("{}.{}.{}", encode(header), encode("{}"), encode("s"));
        assert_eq!(
            read(&token).map(drop),
            expected.map_err(ReadError::Malformed),
            "{header}"
        );
    }

    #[test]
    fn other_shapes_are_somebody_elses() {
        for other in ["", "amb_0", "a.b", "a.b.c.d.e", "...."] {
            assert!(matches!(read(other), Err(ReadError::NotMine)), "{other}");
        }
    }

    #[test]
    fn headers_are_read_strictly() {
        check(r#"{"alg":"RS256"}"#, Ok(()));
        check(
            r#"{"alg":"RS256","jwk":{"kty":"oct","k":"AA"},"x5u":"https://evil.example"}"#,
            Ok(()),
        );
        check(r#"{"alg":"RS256","cty":"json"}"#, Ok(()));
        check(r"{}", Err("`alg` is missing"));
        check(r#"{"alg":null}"#, Err("`alg` is not a text"));
        check(r#"{"alg":["RS256"]}"#, Err("`alg` is not a text"));
        check(
            r#"{"alg":"none","alg":"RS256"}"#,
            Err("the header is not a JSON object with unique names"),
        );
        check(r#"{"alg":"RS256","kid":1}"#, Err("`kid` is not a text"));
        check(
            r#"{"alg":"RS256","crit":[]}"#,
            Err("`crit` names extensions that are not understood"),
        );
        check(
            r#"{"alg":"RS256","b64":true}"#,
            Err("`b64` is not understood"),
        );
        check(
            r#"{"alg":"RS256","cty":"application/JWT"}"#,
            Err("nested tokens are not understood"),
        );
        check(
            r#"{"alg":"RSA-OAEP","enc":"A128GCM"}"#,
            Err("encrypted and compressed tokens are not understood"),
        );
        check(
            &format!(r#"{{"alg":"RS256","kid":"{}"}}"#, "k".repeat(257)),
            Err("`kid` is longer than 256 bytes"),
        );
    }

    #[test]
    fn base64url_has_one_spelling() {
        let good = format!("{}.{}.{}", encode(r#"{"alg":"RS256"}"#), encode("{}"), "AA");
        assert!(read(&good).is_ok());
        for bad in [
            good.replace(".AA", ".AA=="), // padding
            good.replace(".AA", ".AB"),   // stray bits
            good.replace(".AA", ".A"),    // half a byte
            good.replace(".AA", ".A+AA"), // the other alphabet
            good.replace(".AA", ".AA\n"), // whitespace
            good.replace(".AA", ". AA"),
        ] {
            assert!(
                matches!(read(&bad), Err(ReadError::Malformed(_))),
                "{bad:?}"
            );
        }
        let long = format!("{good}{}", "A".repeat(TOKEN_CAP));
        assert_eq!(
            read(&long).unwrap_err(),
            ReadError::Malformed("the token is longer than 16 KiB")
        );
    }

    #[test]
    fn what_was_signed_is_what_was_sent() {
        let token = format!("{}.{}.AA", encode(" {\"alg\" : \"RS256\"} "), encode("{}"));
        assert_eq!(
            read(&token).unwrap().message,
            token.as_bytes().strip_suffix(b".AA").unwrap()
        );
    }
}
