//! Tokens of somebody else's making: an issuer is trusted, and from the next request on it is not.

use ambit_scenarios::{Ambit, Tenant, binary};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use reqwest::{Method, header::HOST};
use serde_json::{Value, json};
use std::time::{SystemTime, UNIX_EPOCH};

const ISSUER: &str = "https://id.example.com";

fn jwk(key: &Ed25519KeyPair) -> Value {
    let x = URL_SAFE_NO_PAD.encode(key.public_key().as_ref());
    json!({"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "kid": "k1", "x": x})
}

fn token(key: &Ed25519KeyPair, claims: &Value) -> String {
    let header = json!({"alg": "EdDSA", "kid": "k1", "typ": "JWT"});
    let parts = [header.to_string(), claims.to_string()].map(|part| URL_SAFE_NO_PAD.encode(part));
    let message = parts.join(".");
    let signature = URL_SAFE_NO_PAD.encode(key.sign(message.as_bytes()));
    format!("{message}.{signature}")
}

async fn status(ambit: &Ambit, tenant: &Tenant, token: &str) -> u16 {
    let request = ambit.client.get(format!("{}/v1/models", ambit.up.url));
    let request = request.header(HOST, &tenant.host).bearer_auth(token);
    request.send().await.unwrap().status().as_u16()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_counts_as_long_as_its_issuer_is_trusted() {
    let Some(binary) = binary() else { return };
    let ambit = Ambit::up(&binary, None).await.unwrap();
    let (acme, globex) = (ambit.tenant("acme"), ambit.tenant("globex"));
    let [old, new] = [0, 1].map(|_| Ed25519KeyPair::generate().unwrap());
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let claims = |audience: &str| json!({"iss": ISSUER, "aud": audience, "sub": "alice", "exp": now.as_secs() + 600});
    let good = token(&old, &claims("agents"));
    let path = "/tenants/acme/issuers";
    let trust = async |key: &Ed25519KeyPair| {
        let issuer = json!({"issuer": ISSUER, "audiences": ["agents"], "algorithms": ["EdDSA"], "scopes": ["chat"],
            "jwks": {"keys": [jwk(key)]}});
        ambit.put(path, &issuer).await.unwrap();
    };
    assert_eq!(
        status(&ambit, acme, &good).await,
        401,
        "before it is trusted"
    );

    trust(&old).await;
    for _ in 0..2 {
        assert_eq!(status(&ambit, acme, &good).await, 200);
    }
    let question = json!({"model": "assistant", "messages": [{"role": "user", "content": "How are permissions narrowed?"}]});
    let alice = Tenant {
        api_key: good.clone(),
        ..acme.clone()
    };
    let answer = ambit.ask(&alice, &question).await.unwrap();
    assert!(answer.is_good(), "{answer:?}");
    let search = json!({"query": "x"});
    let answer = ambit
        .post(&alice, "/vector_stores/handbook/search", &search)
        .await
        .unwrap();
    assert_eq!(answer.status(), 403, "a scope its issuer may not give");
    for (why, bad) in [
        (
            "another tenant trusts nobody",
            status(&ambit, globex, &good).await,
        ),
        (
            "somebody else's key",
            status(&ambit, acme, &token(&new, &claims("agents"))).await,
        ),
        (
            "for somebody else",
            status(&ambit, acme, &token(&old, &claims("others"))).await,
        ),
    ] {
        assert_eq!(bad, 401, "{why}");
    }

    // A key that is changed takes with it what was verified by it; so does an issuer.
    trust(&new).await;
    assert_eq!(status(&ambit, acme, &good).await, 401, "its key is gone");
    let renewed = token(&new, &claims("agents"));
    assert_eq!(status(&ambit, acme, &renewed).await, 200);
    let one = format!("{path}?issuer={ISSUER}");
    for was_there in [true, false] {
        let answer = ambit.admin(Method::DELETE, &one, "").await.unwrap();
        assert_eq!(answer["removed"], was_there);
        assert_eq!(
            status(&ambit, acme, &renewed).await,
            401,
            "its issuer is gone"
        );
    }
}
