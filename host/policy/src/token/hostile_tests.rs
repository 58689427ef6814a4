//! Texts that somebody made up, changed or took from elsewhere.

use super::{
    fixtures::{ISSUER, NOW, OTHER_SEED, SEED, claims, full, other, signer},
    *,
};
use crate::Permissions;
use aws_lc_rs::signature::Ed25519KeyPair;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use std::sync::Arc;

type Change = fn(&mut Value);

fn verify(text: impl AsRef<[u8]>) -> Result<Token, TokenError> {
    let verifier = Verifier::new(ISSUER, [signer().public_key().clone()]);
    verifier.verify(text, NOW, &Revocations::default())
}

/// Header and claims as they are given, signed with this key.
fn forge(seed: &[u8; 32], header: &[u8], claims: &[u8]) -> String {
    let [header, claims] = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part));
    let message = format!("{header}.{claims}");
    let key = Ed25519KeyPair::from_seed_unchecked(seed).unwrap();
    let signature = URL_SAFE_NO_PAD.encode(key.sign(message.as_bytes()));
    format!("{message}.{signature}")
}

fn good_header() -> Value {
    json!({ "typ": TYPE, "alg": "EdDSA", "kid": signer().public_key().id() })
}

fn with_header(header: &Value) -> Result<Token, TokenError> {
    let claims = serde_json::to_vec(&*full()).unwrap();
    verify(forge(&SEED, header.to_string().as_bytes(), &claims))
}

/// Claims that the installation's own key signs, changed.
fn with_claims(change: impl FnOnce(&mut Value)) -> Result<Token, TokenError> {
    let mut claims = serde_json::to_value(&*full()).unwrap();
    change(&mut claims);
    with_json(claims.to_string())
}

fn with_json(claims: impl AsRef<[u8]>) -> Result<Token, TokenError> {
    let header = good_header().to_string();
    verify(forge(&SEED, header.as_bytes(), claims.as_ref()))
}

#[test]
fn what_was_signed_is_what_is_read() {
    let token = full();
    assert_eq!(verify(signer().sign(&token).unwrap()), Ok(token));
    let plain = Token::issue(claims()).unwrap();
    assert_eq!(verify(signer().sign(&plain).unwrap()), Ok(plain));
    // What is forged below is refused for what is changed in it, and for nothing else.
    assert!(with_header(&good_header()).is_ok() && with_claims(|_| ()).is_ok());
}

#[test]
fn any_byte_that_changes_or_goes_is_found() {
    let text = signer().sign(&full()).unwrap().into_bytes();
    for at in 0..text.len() {
        for bit in 0..8 {
            let mut changed = text.clone();
            changed[at] ^= 1 << bit;
            assert!(verify(&changed).is_err(), "bit {bit} of byte {at}");
        }
        let mut shorter = text.clone();
        shorter.remove(at);
        assert!(verify(&shorter).is_err(), "without byte {at}");
        assert!(verify(&text[..at]).is_err(), "the first {at} bytes");
        assert!(verify(&text[at + 1..]).is_err(), "all after byte {at}");
    }
    for more in ["=", ".", "A", "\n", " "] {
        assert!(verify([&text, more.as_bytes()].concat()).is_err());
        assert!(verify([more.as_bytes(), &text].concat()).is_err());
    }
}

#[test]
fn a_header_of_any_other_kind_is_refused() {
    let change = |name: &str, value: Value| {
        let mut header = good_header();
        header[name] = value;
        with_header(&header)
    };
    for algorithm in [
        "none", "None", "", "HS256", "ES256", "RS256", "eddsa", "Ed25519",
    ] {
        let refused = change("alg", json!(algorithm));
        assert_eq!(refused, Err(TokenError::Malformed), "{algorithm}");
    }
    for name in ["typ", "alg", "kid"] {
        let mut header = good_header();
        header.as_object_mut().unwrap().remove(name);
        assert_eq!(with_header(&header), Err(TokenError::Malformed), "{name}");
    }
    for (name, value) in [
        ("typ", json!("JWT")),
        ("typ", json!("at+jwt")),
        ("typ", json!("AMBIT-CAP+JWT")),
        ("crit", json!(["exp"])),
        ("b64", json!(false)),
        ("zip", json!("DEF")),
        ("jku", json!("https://evil.example/keys")),
        (
            "jwk",
            json!({ "kty": "OKP", "crv": "Ed25519", "x": URL_SAFE_NO_PAD.encode([1; 32]) }),
        ),
        ("x5u", json!("https://evil.example/cert")),
        ("cty", json!("JWT")),
        ("kid", json!(7)),
        ("unknown", json!(null)),
    ] {
        let refused = change(name, value.clone());
        assert_eq!(refused, Err(TokenError::Malformed), "{name}: {value}");
    }
    let unknown = change("kid", json!(other().public_key().id()));
    assert_eq!(unknown, Err(TokenError::UnknownKey));
    assert_eq!(change("kid", json!("")), Err(TokenError::UnknownKey));
}

#[test]
fn a_public_key_is_no_shared_secret() {
    let key = signer();
    for (secret, algorithm) in [
        (key.public_key().as_bytes().to_vec(), Algorithm::HS256),
        (key.public_key().id().as_bytes().to_vec(), Algorithm::HS512),
    ] {
        let header = Header {
            typ: Some(TYPE.to_owned()),
            kid: Some(key.public_key().id().to_owned()),
            ..Header::new(algorithm)
        };
        let text = jsonwebtoken::encode(&header, &*full(), &EncodingKey::from_secret(&secret));
        assert_eq!(verify(text.unwrap()), Err(TokenError::Malformed));
    }
    let text = key.sign(&full()).unwrap();
    let unsigned = &text[..=text.rfind('.').unwrap()];
    assert!(verify(unsigned).is_err(), "no signature");
}

#[test]
fn another_key_signs_for_itself() {
    // A wider token than any here, by somebody with a key of their own.
    let wide = Token::issue(claims()).unwrap();
    assert_eq!(
        verify(other().sign(&wide).unwrap()),
        Err(TokenError::UnknownKey)
    );
    let claims = serde_json::to_vec(&*wide).unwrap();
    let named = forge(&OTHER_SEED, good_header().to_string().as_bytes(), &claims);
    assert_eq!(verify(named), Err(TokenError::Signature));

    // Claims of one token and the signature of another.
    let [ours, theirs] = [full(), wide].map(|token| signer().sign(&token).unwrap());
    let (message, _) = theirs.rsplit_once('.').unwrap();
    let (_, signature) = ours.rsplit_once('.').unwrap();
    let mixed = format!("{message}.{signature}");
    assert_eq!(verify(mixed), Err(TokenError::Signature));
}

#[test]
fn keys_take_each_others_place() {
    let [old, new] = [signer(), other()];
    let token = full();
    let texts = [&old, &new].map(|signer| signer.sign(&token).unwrap());
    let good = |keys: &[&Signer]| {
        let keys = keys.iter().map(|signer| signer.public_key().clone());
        let verifier = Verifier::new(ISSUER, keys);
        texts.each_ref().map(|text| {
            let read = verifier.verify(text, NOW, &Revocations::default());
            read.is_ok_and(|read| read == token)
        })
    };
    assert_eq!(good(&[&old]), [true, false]);
    assert_eq!(good(&[&old, &new]), [true, true]);
    assert_eq!(good(&[&new]), [false, true]);
    assert_eq!(good(&[]), [false, false]);
}

/// Each of these would widen the token, and changes what was signed: without the key there is no way to any of them.
#[test]
fn widening_needs_the_key() {
    let token = full();
    let text = signer().sign(&token).unwrap();
    let [header, _, signature] = text.split('.').collect::<Vec<_>>().try_into().unwrap();
    let changes: [Change; 8] = [
        |claims| claims["tenant"] = json!(TenantId::new()),
        |claims| claims["sub"] = json!("key:root"),
        |claims| claims["session"] = json!(SessionId::new()),
        |claims| claims["ancestors"] = json!([]),
        |claims| claims["layers"] = json!([]),
        |claims| claims["layers"][0]["models"] = json!(["*"]),
        |claims| claims["budget_micros"] = json!(u64::MAX),
        |claims| claims["exp"] = json!(u64::MAX),
    ];
    for change in changes {
        let mut claims = serde_json::to_value(&*token).unwrap();
        change(&mut claims);
        let claims = URL_SAFE_NO_PAD.encode(claims.to_string());
        let forged = format!("{header}.{claims}.{signature}");
        assert_eq!(verify(forged), Err(TokenError::Signature));
    }
}

/// The key is not the only guard: what it signs for another purpose, or by mistake, is no token either.
#[test]
fn claims_of_any_other_kind_are_refused() {
    let cases: [(&str, Change, TokenError); 15] = [
        (
            "issuer",
            |c| c["iss"] = json!("https://other.example"),
            TokenError::Claim("iss"),
        ),
        (
            "issuers",
            |c| c["iss"] = json!([ISSUER]),
            TokenError::Malformed,
        ),
        (
            "audience",
            |c| c["aud"] = json!("ambit-ops"),
            TokenError::Claim("aud"),
        ),
        (
            "audiences",
            |c| c["aud"] = json!([AUDIENCE]),
            TokenError::Malformed,
        ),
        (
            "principal",
            |c| c["sub"] = json!(""),
            TokenError::Claim("sub"),
        ),
        (
            "tenant",
            |c| c["tenant"] = json!("acme"),
            TokenError::Malformed,
        ),
        (
            "expired",
            |c| {
                c["nbf"] = json!(NOW - 60);
                c["exp"] = json!(NOW);
            },
            TokenError::Expired,
        ),
        (
            "not yet",
            |c| c["nbf"] = json!(NOW + 60),
            TokenError::NotYet,
        ),
        (
            "fraction",
            |c| c["exp"] = json!(1e18),
            TokenError::Malformed,
        ),
        ("negative", |c| c["nbf"] = json!(-1), TokenError::Malformed),
        (
            "budget",
            |c| c["budget_micros"] = json!("5"),
            TokenError::Malformed,
        ),
        (
            "depth",
            |c| {
                let ids = std::iter::repeat_with(TokenId::new).take(MAX_ANCESTORS + 1);
                c["ancestors"] = json!(ids.collect::<Vec<_>>());
            },
            TokenError::Claim("ancestors"),
        ),
        (
            "layers",
            |c| c["layers"] = json!(vec![json!({}); MAX_LAYERS + 1]),
            TokenError::Claim("layers"),
        ),
        (
            "rule",
            |c| c["layers"][0]["modles"] = json!(["*"]),
            TokenError::Malformed,
        ),
        ("claim", |c| c["admin"] = json!(true), TokenError::Malformed),
    ];
    for (name, change, error) in cases {
        assert_eq!(with_claims(change), Err(error), "{name}");
    }
    for name in ["iss", "aud", "sub", "tenant", "jti", "iat", "nbf", "exp"] {
        let without = with_claims(|claims| drop(claims.as_object_mut().unwrap().remove(name)));
        assert_eq!(without, Err(TokenError::Malformed), "without {name}");
    }
}

#[test]
fn a_claim_said_twice_is_refused() {
    let claims = serde_json::to_string(&*full()).unwrap();
    for again in [
        format!("\"tenant\":\"{}\"", TenantId::new()),
        "\"layers\":[]".to_owned(),
        "\"exp\":99999999999".to_owned(),
        "\"ancestors\":[]".to_owned(),
    ] {
        let twice = claims.replacen('{', &format!("{{{again},"), 1);
        assert_eq!(with_json(twice), Err(TokenError::Malformed), "{again}");
    }
    // In a grant, too, where the later one would win.
    let twice = claims.replacen("\"models\":[", "\"models\":[\"*\"],\"models\":[", 1);
    assert_ne!(twice, claims);
    assert_eq!(with_json(twice), Err(TokenError::Malformed));
    let id = signer().public_key().id().to_owned();
    let header = format!(r#"{{"alg":"none","alg":"EdDSA","typ":"{TYPE}","kid":"{id}"}}"#);
    let text = forge(&SEED, header.as_bytes(), claims.as_bytes());
    assert_eq!(verify(text), Err(TokenError::Malformed));
}

#[test]
fn what_is_long_deep_or_no_text_costs_nothing() {
    let mebibyte = 1 << 20;
    for byte in [b'A', b'.', b'{', 0, 0xff] {
        assert_eq!(verify(vec![byte; mebibyte]), Err(TokenError::TooLong));
        assert_eq!(verify(vec![byte; MAX_TEXT]), Err(TokenError::Malformed));
    }
    for text in ["", ".", "..", "...", "a.b.c", "eyJ9.eyJ9."] {
        assert_eq!(verify(text), Err(TokenError::Malformed), "{text}");
    }
    let deep = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    for depth in [200, 4_000] {
        assert_eq!(with_json(deep(depth)), Err(TokenError::Malformed));
        let nested = with_json(format!("{{\"layers\":{}}}", deep(depth)));
        assert_eq!(nested, Err(TokenError::Malformed));
        let header = format!("{{\"crit\":{}}}", deep(depth));
        let text = forge(&SEED, header.as_bytes(), b"{}");
        assert_eq!(verify(text), Err(TokenError::Malformed));
    }
    let claims = serde_json::to_string(&*full()).unwrap();
    let mut bytes = claims.clone().into_bytes();
    bytes[claims.find("key:").unwrap()] = 0xff;
    assert_eq!(with_json(bytes), Err(TokenError::Malformed));
    assert_eq!(
        with_json(format!("{claims}{claims}")),
        Err(TokenError::Malformed)
    );
    for json in ["", "null", "[]", "{}", "\"\"", "7"] {
        assert_eq!(with_json(json), Err(TokenError::Malformed), "{json}");
    }
}

#[test]
fn no_text_is_signed_that_is_not_read() {
    let rules: Vec<_> = (0..1_000)
        .map(|n| format!("\"provider/model-{n}\""))
        .collect();
    let text = format!("models = [{}]", rules.join(","));
    let layer = Arc::new(Permissions::parse(&text).unwrap());
    let long = Token::issue(Claims {
        layers: vec![layer],
        ..claims()
    })
    .unwrap();
    assert!(matches!(signer().sign(&long), Err(SignError::TooLong)));
}

#[test]
fn a_revoked_token_is_refused_at_the_door() {
    let token = full();
    let text = signer().sign(&token).unwrap();
    let verifier = Verifier::new(ISSUER, [signer().public_key().clone()]);
    for id in token.lineage() {
        let revoked = [(id, token.exp)].into_iter().collect();
        assert_eq!(
            verifier.verify(&text, NOW, &revoked),
            Err(TokenError::Revoked)
        );
    }
}

#[test]
fn a_refusal_shows_nothing_of_the_token() {
    let text = signer().sign(&full()).unwrap();
    let errors = [
        verify(&text[..text.len() - 1]),
        verify(text.replacen('.', ".e", 1)),
        with_claims(|claims| claims["sub"] = json!("hunter2\n")),
        with_claims(|claims| claims["hunter2"] = json!("hunter2")),
    ];
    for error in errors {
        let shown = format!("{error:?} {}", error.as_ref().unwrap_err());
        for part in text.split('.').chain(["hunter2", "key:3f9a"]) {
            assert!(!shown.contains(part), "{shown}");
        }
    }
}
