use super::*;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use proptest::prelude::*;

const NOW: u64 = 1_800_000_000;
const ISSUER: &str = "https://issuer.example";

/// Trusts one issuer; a signature is right when it says so.
struct OneIssuer {
    types: Vec<String>,
    algorithms: Vec<String>,
}

impl Default for OneIssuer {
    fn default() -> Self {
        Self {
            types: Vec::new(),
            algorithms: vec!["RS256".to_owned(), "ES256".to_owned()],
        }
    }
}

impl Host for OneIssuer {
    fn issuer(&self, issuer: &str) -> Option<Issuer> {
        (issuer == ISSUER).then(|| Issuer {
            audiences: vec!["ambit".to_owned(), "acme".to_owned()],
            algorithms: self.algorithms.clone(),
            types: self.types.clone(),
            leeway: 30,
            scopes: vec!["chat".to_owned(), "retrieve".to_owned()],
        })
    }

    fn verify(
        &self,
        _issuer: &str,
        key_id: Option<&str>,
        algorithm: &str,
        message: &[u8],
        signature: &[u8],
    ) -> Result<bool, VerifyError> {
        assert!(
            message.contains(&b'.') && self.algorithms.iter().any(|allowed| allowed == algorithm)
        );
        match key_id {
            Some("gone") => Err(VerifyError::UnknownKey("gone".to_owned())),
            Some("mac") => Err(VerifyError::RefusedAlgorithm("HS256".to_owned())),
            _ => Ok(signature == b"right"),
        }
    }
}

fn token(header: &str, claims: &str, signature: &str) -> String {
    [header, claims, signature]
        .map(|part| URL_SAFE_NO_PAD.encode(part))
        .join(".")
}

/// Good claims with one member replaced, or removed where `value` is empty.
fn claims(name: &str, value: &str) -> String {
    let members = [
        ("iss", format!("\"{ISSUER}\"")),
        ("sub", "\"ann\"".to_owned()),
        ("aud", "\"acme\"".to_owned()),
        ("exp", (NOW + 60).to_string()),
    ];
    let mut all: Vec<String> = members
        .iter()
        .filter(|(given, _)| *given != name)
        .map(|(given, value)| format!("\"{given}\":{value}"))
        .collect();
    if !value.is_empty() {
        all.push(format!("\"{name}\":{value}"));
    }
    format!("{{{}}}", all.join(","))
}

fn decide(claims: &str) -> Result<Principal, AuthError> {
    authenticate(
        &token(r#"{"alg":"RS256"}"#, claims, "right"),
        NOW,
        &OneIssuer::default(),
    )
}

#[track_caller]
fn check(name: &str, value: &str, expected: &str) {
    let verdict = match decide(&claims(name, value)) {
        Ok(principal) => format!("ok {}", principal.scopes.join(" ")),
        Err(AuthError::Expired) => "expired".to_owned(),
        Err(AuthError::Refused(why)) => why,
        Err(AuthError::Unknown(what)) => format!("unknown {what}"),
        Err(other) => format!("{other:?}"),
    };
    assert_eq!(verdict, expected, "{name}: {value}");
}

#[test]
fn a_good_token_proves_its_subject_until_exp() {
    let principal = decide(&claims("", "")).unwrap();
    assert_eq!(principal.id, "jwt:https://issuer.example#ann");
    assert_eq!(principal.scopes, ["chat", "retrieve"]);
    assert_eq!(principal.expires_at, NOW + 60);
}

#[test]
fn what_a_token_narrows_to_is_passed_on_as_it_was_signed() {
    let narrowed = |value: &str| decide(&claims("ambit", value)).unwrap().permissions;
    assert_eq!(narrowed(""), None);
    assert_eq!(narrowed("{}").as_deref(), Some("{}"));
    let grant = r#"{"collections":["read:a\"b"],"models":[],"n":[2.5,true,null]}"#;
    assert_eq!(narrowed(grant).as_deref(), Some(grant));
    check("ambit", "[]", "`ambit` is not an object");
    check("ambit", "\"models\"", "`ambit` is not an object");
}

#[test]
fn issuer_is_compared_byte_for_byte() {
    check("iss", "", "`iss` is missing");
    check("iss", "\"\"", "`iss` is empty");
    check("iss", "7", "`iss` is not a text");
    check(
        "iss",
        "\"https://issuer.example/\"",
        "unknown https://issuer.example/",
    );
    check(
        "iss",
        "\"https://ISSUER.example\"",
        "unknown https://ISSUER.example",
    );
    check(
        "iss",
        "\"https://issuer.example#x\"",
        "`iss` has a fragment (RFC 8414 §2)",
    );
    check("iss", "\"a\\u0000\"", "`iss` has control characters");
}

#[test]
fn audience_must_name_us() {
    check("aud", "", "`aud` is missing");
    check("aud", "\"other\"", "`aud` does not name us");
    check("aud", "\"ACME\"", "`aud` does not name us");
    check("aud", "[]", "`aud` does not name us");
    check("aud", "[\"other\",\"ambit\"]", "ok chat retrieve");
    check(
        "aud",
        "[\"acme\",7]",
        "`aud` is neither a text nor a list of texts",
    );
    check(
        "aud",
        "{\"acme\":1}",
        "`aud` is neither a text nor a list of texts",
    );
}

#[test]
fn times_hold_within_the_leeway() {
    check("exp", "", "`exp` is missing");
    check("exp", "\"1900000000\"", "`exp` is not a time");
    check("exp", "-1", "`exp` is not a time");
    check("exp", "1e300", "`exp` is not a time");
    check("exp", "null", "`exp` is not a time");
    check("exp", &(NOW - 29).to_string(), "ok chat retrieve");
    check("exp", &(NOW - 30).to_string(), "expired");
    check("exp", &format!("{}.5", NOW + 1), "ok chat retrieve");
    check("nbf", &(NOW + 30).to_string(), "ok chat retrieve");
    check("nbf", &(NOW + 31).to_string(), "`nbf` is still to come");
    check("nbf", "true", "`nbf` is not a time");
    check("iat", &NOW.to_string(), "ok chat retrieve");
    check("iat", &(NOW + 31).to_string(), "`iat` is still to come");
    let late = claims("exp", &(NOW - 10).to_string()).replace('}', &format!(",\"iat\":{NOW}}}"));
    assert_eq!(
        decide(&late),
        Err(AuthError::Refused("`iat` is after `exp`".to_owned()))
    );
}

#[test]
fn subject_is_a_short_plain_text() {
    check("sub", "", "`sub` is missing");
    check("sub", "\"\"", "`sub` is empty");
    check("sub", "42", "`sub` is not a text");
    check("sub", "\"a\\nb\"", "`sub` has control characters");
    check(
        "sub",
        &format!("\"{}\"", "a".repeat(256)),
        "`sub` is longer than 255 bytes",
    );
}

#[test]
fn a_scope_claim_only_narrows() {
    check("scope", "\"chat\"", "ok chat");
    check("scope", "\"admin chat  moderate\"", "ok chat");
    check("scope", "\"\"", "ok ");
    check("scope", "\"chatter\"", "ok ");
    check("scope", "[\"chat\"]", "`scope` is not a text");
}

#[test]
fn algorithm_and_type_follow_the_issuers_record() {
    let good = claims("", "");
    let decide =
        |header: &str, host: &OneIssuer| authenticate(&token(header, &good, "right"), NOW, host);
    let default = OneIssuer::default();
    for header in [
        r#"{"alg":"ES256"}"#,
        r#"{"alg":"RS256","typ":"JWT"}"#,
        r#"{"alg":"RS256","typ":"application/AT+JWT"}"#,
    ] {
        assert!(decide(header, &default).is_ok(), "{header}");
    }
    for alg in [
        "EdDSA", "none", "None", "HS256", "rs256", "RS384", "PS256", "",
    ] {
        let refused = Err(AuthError::Refused(
            "`alg` is not one this issuer is trusted for".to_owned(),
        ));
        assert_eq!(
            decide(&format!(r#"{{"alg":"{alg}"}}"#), &default),
            refused,
            "{alg}"
        );
    }
    // A record that allows a MAC does not make it allowed: the public key would be its secret.
    let careless = OneIssuer {
        algorithms: vec!["HS256".to_owned(), "none".to_owned()],
        ..OneIssuer::default()
    };
    assert!(decide(r#"{"alg":"HS256"}"#, &careless).is_err());
    assert!(decide(r#"{"alg":"none"}"#, &careless).is_err());

    let wrong_type = Err(AuthError::Refused(
        "`typ` is not one this issuer is trusted for".to_owned(),
    ));
    for typ in ["id_token", "logout+jwt", "secevent+jwt", ""] {
        assert_eq!(
            decide(&format!(r#"{{"alg":"RS256","typ":"{typ}"}}"#), &default),
            wrong_type,
            "{typ}"
        );
    }
    let strict = OneIssuer {
        types: vec!["at+jwt".to_owned()],
        ..OneIssuer::default()
    };
    assert!(decide(r#"{"alg":"RS256","typ":"at+jwt"}"#, &strict).is_ok());
    assert_eq!(
        decide(r#"{"alg":"RS256","typ":"JWT"}"#, &strict),
        wrong_type
    );
    assert_eq!(decide(r#"{"alg":"RS256"}"#, &strict), wrong_type);
}

#[test]
fn the_signature_is_checked_before_any_claim_but_the_issuer() {
    let host = OneIssuer::default();
    let wrong = token(r#"{"alg":"RS256"}"#, &claims("exp", "1"), "wrong");
    assert_eq!(
        authenticate(&wrong, NOW, &host),
        Err(AuthError::Refused(
            "the signature is not the issuer's".to_owned()
        ))
    );
    let rotated = token(r#"{"alg":"RS256","kid":"gone"}"#, &claims("", ""), "right");
    assert_eq!(
        authenticate(&rotated, NOW, &host),
        Err(AuthError::Unknown(format!("{ISSUER} key gone")))
    );
    let mac = token(r#"{"alg":"RS256","kid":"mac"}"#, &claims("", ""), "right");
    assert_eq!(
        authenticate(&mac, NOW, &host),
        Err(AuthError::Refused("`alg` HS256 is refused".to_owned()))
    );
}

proptest! {
    #[test]
    fn no_text_panics_or_passes(credential in ".{0,300}") {
        prop_assert!(authenticate(&credential, NOW, &OneIssuer::default()).is_err());
    }

    #[test]
    fn no_parts_panic(header in ".{0,80}", claims in ".{0,80}", signature in proptest::collection::vec(any::<u8>(), 0..8)) {
        let text = [header.as_bytes(), claims.as_bytes(), &signature].map(|part| URL_SAFE_NO_PAD.encode(part)).join(".");
        prop_assert!(authenticate(&text, NOW, &OneIssuer::default()).is_err());
    }

    #[test]
    fn scopes_are_never_wider_than_the_issuers(scope in "[a-z :]{0,40}") {
        let claims = claims("scope", &format!("\"{scope}\""));
        if let Ok(principal) = decide(&claims) {
            prop_assert!(principal.scopes.iter().all(|scope| ["chat", "retrieve"].contains(&scope.as_str())));
        }
    }
}
