use super::*;
use serde_json::{Value, json};

/// RFC 8037 appendix A.2 and A.4.
const RFC8037_KEY: &str =
    r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
const RFC8037_MESSAGE: &str = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc";
const RFC8037_SIGNATURE: &str =
    "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";

fn set(keys: &[Value]) -> Result<KeySet, KeySetError> {
    KeySet::parse(json!({ "keys": keys }).to_string().as_bytes())
}

fn ed25519_with(name: &str, value: Value) -> Value {
    let mut key: Value = serde_json::from_str(RFC8037_KEY).unwrap();
    key[name] = value;
    key
}

fn rfc8037(set: &KeySet, key_id: Option<&str>) -> Option<bool> {
    let signature = URL_SAFE_NO_PAD.decode(RFC8037_SIGNATURE).unwrap();
    set.verify(
        key_id,
        Algorithm::EdDsa,
        RFC8037_MESSAGE.as_bytes(),
        &signature,
    )
}

#[test]
fn the_ed25519_example_of_rfc_8037_holds_and_no_changed_bit_does() {
    let set = set(&[serde_json::from_str(RFC8037_KEY).unwrap()]).unwrap();
    assert_eq!(rfc8037(&set, None), Some(true));
    let signature = URL_SAFE_NO_PAD.decode(RFC8037_SIGNATURE).unwrap();
    for at in 0..signature.len() * 8 {
        let mut changed = signature.clone();
        changed[at / 8] ^= 1 << (at % 8);
        assert_eq!(
            set.verify(None, Algorithm::EdDsa, RFC8037_MESSAGE.as_bytes(), &changed),
            Some(false),
            "bit {at}"
        );
    }
    assert_eq!(
        set.verify(None, Algorithm::EdDsa, b"another message", &signature),
        Some(false)
    );
    for wrong in [&[][..], &signature[..63], &[&signature[..], &[0]].concat()] {
        assert_eq!(
            set.verify(None, Algorithm::EdDsa, RFC8037_MESSAGE.as_bytes(), wrong),
            Some(false)
        );
    }
    // An Ed25519 key is for nothing else.
    assert_eq!(
        set.verify(
            None,
            Algorithm::Es256,
            RFC8037_MESSAGE.as_bytes(),
            &signature
        ),
        None
    );
    assert_eq!(
        set.verify(
            None,
            Algorithm::Rs256,
            RFC8037_MESSAGE.as_bytes(),
            &signature
        ),
        None
    );
}

#[test]
fn a_key_is_found_by_its_name_or_by_being_the_only_one() {
    let named = |name: &str| ed25519_with("kid", json!(name));
    let one = set(&[named("a")]).unwrap();
    assert_eq!(rfc8037(&one, Some("a")), Some(true));
    assert_eq!(rfc8037(&one, Some("b")), None);
    assert_eq!(rfc8037(&one, None), Some(true));
    let two = set(&[named("a"), named("b")]).unwrap();
    assert_eq!(rfc8037(&two, Some("b")), Some(true));
    assert_eq!(rfc8037(&two, None), None, "which of the two?");
    let twins = set(&[named("a"), named("a")]).unwrap();
    assert_eq!(rfc8037(&twins, Some("a")), None);
    let nameless = set(&[serde_json::from_str(RFC8037_KEY).unwrap()]).unwrap();
    assert_eq!(rfc8037(&nameless, Some("a")), None);
}

#[test]
fn keys_for_something_else_are_left_out() {
    for (name, value) in [
        ("use", json!("enc")),
        ("key_ops", json!(["sign"])),
        ("key_ops", json!([])),
        ("alg", json!("ES256")),
        ("alg", json!("none")),
        ("d", json!("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A")),
        ("crv", json!("X25519")),
        ("crv", json!("P-256")),
        ("kty", json!("RSA")),
        ("kty", json!("oct")),
        ("x", json!("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHUQ")),
        ("x", json!("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo=")),
        ("x", json!(7)),
    ] {
        assert!(
            matches!(
                set(&[ed25519_with(name, value.clone())]),
                Err(KeySetError::NoUsableKey)
            ),
            "{name}: {value}"
        );
    }
    for (name, value) in [
        ("use", json!("sig")),
        ("key_ops", json!(["verify", "sign"])),
        ("alg", json!("EdDSA")),
        ("alg", json!("Ed25519")),
    ] {
        assert!(
            set(&[ed25519_with(name, value.clone())]).is_ok(),
            "{name}: {value}"
        );
    }
}

#[test]
fn weak_and_broken_keys_are_left_out() {
    let rsa = |bits: usize, e: &[u8]| {
        let mut n = vec![0xff; bits / 8];
        n[0] = 0x80;
        json!({ "kty": "RSA", "n": URL_SAFE_NO_PAD.encode(n), "e": URL_SAFE_NO_PAD.encode(e) })
    };
    assert!(set(&[rsa(2048, &[1, 0, 1])]).is_ok());
    for weak in [
        rsa(1024, &[1, 0, 1]),
        rsa(2040, &[1, 0, 1]),
        rsa(16_384, &[1, 0, 1]),
        rsa(2048, &[1]),
        rsa(2048, &[2]),
        rsa(2048, &[]),
    ] {
        assert!(matches!(set(&[weak]), Err(KeySetError::NoUsableKey)));
    }
    let off_curve = json!({ "kty": "EC", "crv": "P-256", "x": URL_SAFE_NO_PAD.encode([1; 32]), "y": URL_SAFE_NO_PAD.encode([1; 32]) });
    assert!(matches!(set(&[off_curve]), Err(KeySetError::NoUsableKey)));
}

#[test]
fn what_is_no_set_is_an_error() {
    for bad in [
        "",
        "[]",
        "{}",
        r#"{"keys":{}}"#,
        r#"{"keys":[1]}"#,
        r#"{"keys":[]}"#,
    ] {
        assert!(KeySet::parse(bad.as_bytes()).is_err(), "{bad}");
    }
    assert!(matches!(
        KeySet::parse(&vec![b' '; JSON_CAP + 1]),
        Err(KeySetError::TooLong)
    ));
}

/// Every vector of project Wycheproof: the valid ones of our algorithms pass, everything else is refused. Reads the compact form
/// with the component's own parser, so that the two halves of the signature layer are tested as one.
#[test]
fn wycheproof_signatures() {
    let Some(path) = ambit_skips::data("jose-wycheproof-dev/json_web_signature_test.json") else {
        return;
    };
    let text = std::fs::read(path).unwrap();
    let vectors: Value = serde_json::from_slice(&text).unwrap();
    let (mut accepted, mut refused) = (0, 0);
    for group in vectors["testGroups"].as_array().unwrap() {
        let key = group
            .get("public")
            .or_else(|| group.get("private"))
            .unwrap();
        let set = set(std::slice::from_ref(key)).ok();
        for test in group["tests"].as_array().unwrap() {
            let Some(jws) = test["jws"].as_str() else {
                continue;
            };
            let verdict = set.as_ref().is_some_and(|set| accepts(set, jws));
            let ours = auth_jwt::read(jws)
                .is_ok_and(|signed| signed.header.algorithm.parse::<Algorithm>().is_ok());
            let expected = test["result"] == "valid" && ours;
            assert_eq!(verdict, expected, "{} {}", test["tcId"], test["comment"]);
            if verdict { accepted += 1 } else { refused += 1 }
        }
    }
    assert!(
        accepted == 10 && refused >= 350,
        "{accepted} accepted, {refused} refused"
    );
}

fn accepts(set: &KeySet, jws: &str) -> bool {
    let Ok(signed) = auth_jwt::read(jws) else {
        return false;
    };
    let Ok(algorithm) = signed.header.algorithm.parse() else {
        return false;
    };
    set.verify(
        signed.header.key_id.as_deref(),
        algorithm,
        signed.message,
        &signed.signature,
    ) == Some(true)
}
