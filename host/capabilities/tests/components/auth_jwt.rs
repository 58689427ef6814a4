use crate::{
    auth_api_key::{Records, Unreachable, tenant},
    support::{admitted, block_on, facts, runtime},
};
use ambit_capabilities::auth::{
    Ages, AuthError, AuthRecords, Authenticator, Issuer, Jwks, KeySetFetch, KeySets,
};
use ambit_types::{Scope, TenantId};
use aws_lc_rs::{
    rand::SystemRandom,
    rsa,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
        RSA_PKCS1_SHA256,
    },
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use futures::{FutureExt as _, future::BoxFuture};
use serde_json::{Value, json};
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use url::Url;

const ISSUER: &str = "https://issuer.example";

/// An identity provider's key of one algorithm.
enum Signer {
    Rsa(Box<rsa::KeyPair>),
    P256(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl Signer {
    fn all() -> [(&'static str, Self); 3] {
        [
            (
                "RS256",
                Self::Rsa(Box::new(
                    rsa::KeyPair::generate(rsa::KeySize::Rsa2048).unwrap(),
                )),
            ),
            (
                "ES256",
                Self::P256(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap()),
            ),
            ("EdDSA", Self::Ed25519(Ed25519KeyPair::generate().unwrap())),
        ]
    }

    fn jwk(&self, id: &str) -> Value {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        match self {
            Self::Rsa(key) => {
                let key = key.public_key();
                let (n, e) = (
                    key.modulus().big_endian_without_leading_zero(),
                    key.exponent().big_endian_without_leading_zero(),
                );
                json!({ "kty": "RSA", "kid": id, "n": text(n), "e": text(e) })
            }
            Self::P256(key) => {
                let point = key.public_key().as_ref();
                json!({ "kty": "EC", "crv": "P-256", "kid": id, "x": text(&point[1..33]), "y": text(&point[33..]) })
            }
            Self::Ed25519(key) => {
                json!({ "kty": "OKP", "crv": "Ed25519", "kid": id, "x": text(key.public_key().as_ref()) })
            }
        }
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Self::Rsa(key) => {
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature)
                    .unwrap();
                signature
            }
            Self::P256(key) => key.sign(&random, message).unwrap().as_ref().to_vec(),
            Self::Ed25519(key) => key.sign(message).as_ref().to_vec(),
        }
    }

    fn token(&self, algorithm: &str, id: &str, claims: &Value) -> String {
        let header = json!({ "alg": algorithm, "kid": id, "typ": "JWT" });
        let message = format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(header.to_string()),
            URL_SAFE_NO_PAD.encode(claims.to_string())
        );
        format!(
            "{message}.{}",
            URL_SAFE_NO_PAD.encode(self.sign(message.as_bytes()))
        )
    }
}

/// Seconds a token may be late.
const LEEWAY: u64 = 5;

fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
}

fn claims() -> Value {
    json!({ "iss": ISSUER, "sub": "ann", "aud": "acme", "exp": now() + 60, "scope": "chat admin" })
}

fn issuer(jwks: Jwks) -> Issuer {
    Issuer {
        issuer: ISSUER.to_owned(),
        audiences: vec!["acme".to_owned()],
        algorithms: ["RS256", "ES256", "EdDSA"].map(str::to_owned).into(),
        types: Vec::new(),
        leeway: u32::try_from(LEEWAY).unwrap(),
        scopes: vec!["chat".to_owned(), "retrieve".to_owned()],
        jwks,
    }
}

fn key_set(keys: &[Value]) -> String {
    json!({ "keys": keys }).to_string()
}

fn authenticator(jwks: Jwks, fetch: Arc<dyn KeySetFetch>) -> Authenticator {
    authenticator_over(jwks, KeySets::new(fetch))
}

fn authenticator_over(jwks: Jwks, key_sets: KeySets) -> Authenticator {
    let chain = [admitted("auth-api-key"), admitted("auth-jwt")];
    let records = AuthRecords {
        epoch: 1,
        keys: Vec::new(),
        issuers: vec![issuer(jwks)],
    };
    let source = Records {
        records: Mutex::new(records.clone()),
        ..Records::default()
    };
    Authenticator::new(
        runtime(),
        tenant("acme"),
        &chain,
        records,
        Arc::new(source),
        key_sets,
    )
    .unwrap()
}

#[test]
fn tokens_of_every_allowed_algorithm_prove_their_subject() {
    block_on(async {
        let signers = Signer::all();
        let keys: Vec<_> = signers
            .iter()
            .map(|(algorithm, signer)| signer.jwk(algorithm))
            .collect();
        let auth = authenticator(Jwks::Inline(key_set(&keys)), Arc::new(Unreachable));
        let ask = async |token: &str| auth.authenticate(token, &facts("acme.localhost")).await;
        for (algorithm, signer) in &signers {
            let token = signer.token(algorithm, algorithm, &claims());
            let principal = ask(&token).await.unwrap();
            assert_eq!(principal.id, "jwt:https://issuer.example#ann");
            assert_eq!(
                principal.scopes,
                [Scope::Chat],
                "the token's scopes within the issuer's"
            );
            assert!(auth.cached(&token).is_some());

            let mut changed = token.clone().into_bytes();
            let at = token.find('.').unwrap() + 5;
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            assert!(
                ask(&String::from_utf8(changed).unwrap()).await.is_err(),
                "{algorithm}: changed claims"
            );

            let (other_algorithm, other) = &Signer::all()[2];
            let forged = other.token(other_algorithm, algorithm, &claims());
            assert!(
                ask(&forged).await.is_err(),
                "{algorithm}: a key of somebody else's"
            );
            let confused = signer.token("HS256", algorithm, &claims());
            assert!(
                ask(&confused).await.is_err(),
                "{algorithm}: another algorithm's name"
            );
        }
        let (algorithm, signer) = &signers[1];
        for (name, value) in [
            ("iss", json!("https://other.example")),
            ("aud", json!("globex")),
            ("sub", json!("")),
            ("nbf", json!(now() + 60)),
        ] {
            let mut claims = claims();
            claims[name] = value;
            assert!(
                matches!(
                    ask(&signer.token(algorithm, algorithm, &claims)).await,
                    Err(AuthError::Bad(_))
                ),
                "{name}"
            );
        }
        let mut late = claims();
        late["exp"] = json!(now() - 60);
        assert!(matches!(
            ask(&signer.token(algorithm, algorithm, &late)).await,
            Err(AuthError::Expired)
        ));
        // A good one is cached no longer than it lives.
        late["exp"] = json!(now() + 2);
        let short = signer.token(algorithm, algorithm, &late);
        assert!(ask(&short).await.is_ok());
        assert!(auth.cached(&short).is_some());
        while auth.cached(&short).is_some() {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        let expires = late["exp"].as_u64().unwrap();
        assert!(now() >= expires);
        // Within the leeway it is judged each time; then it is refused.
        while ask(&short).await.is_ok() {
            assert!(auth.cached(&short).is_none() && now() <= expires + LEEWAY);
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        }
        assert!(now() >= expires + LEEWAY);
        assert!(matches!(ask(&short).await, Err(AuthError::Expired)));
    });
}

/// An address of a key set that can change, and counts.
struct Served {
    set: Mutex<Option<String>>,
    fetches: AtomicUsize,
}

impl KeySetFetch for Served {
    fn fetch(&self, _tenant: TenantId, uri: Url) -> BoxFuture<'static, anyhow::Result<Bytes>> {
        assert_eq!(uri.as_str(), "https://issuer.example/jwks");
        self.fetches.fetch_add(1, Ordering::SeqCst);
        let set = self.set.lock().unwrap().clone();
        async move {
            // Long enough for others to come meanwhile.
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            set.map(Bytes::from)
                .ok_or_else(|| anyhow::anyhow!("out of order"))
        }
        .boxed()
    }
}

#[test]
fn a_key_set_is_fetched_once_for_all_who_wait_and_not_again_at_once() {
    block_on(async {
        let [_, (algorithm, signer), _] = Signer::all();
        let served = Arc::new(Served {
            set: Mutex::new(Some(key_set(&[signer.jwk("a")]))),
            fetches: AtomicUsize::new(0),
        });
        let auth = authenticator(
            Jwks::Uri("https://issuer.example/jwks".parse().unwrap()),
            served.clone(),
        );
        let asked = (0..20).map(|n| {
            let mut claims = claims();
            claims["sub"] = json!(format!("user-{n}"));
            let (auth, token) = (auth.clone(), signer.token(algorithm, "a", &claims));
            tokio::spawn(async move { auth.authenticate(&token, &facts("acme.localhost")).await })
        });
        for answer in futures::future::join_all(asked).await {
            answer.unwrap().unwrap();
        }
        assert_eq!(served.fetches.load(Ordering::SeqCst), 1);

        // A name nobody has heard of would be a reason to fetch, if that had not just been done.
        for n in 0..10 {
            let token = signer.token(algorithm, &format!("b{n}"), &claims());
            assert!(matches!(
                auth.authenticate(&token, &facts("acme.localhost")).await,
                Err(AuthError::Bad(_))
            ));
        }
        assert_eq!(served.fetches.load(Ordering::SeqCst), 1);
    });
}

#[test]
fn an_issuer_out_of_order_is_not_the_callers_fault() {
    block_on(async {
        let [_, (algorithm, signer), _] = Signer::all();
        let served = Arc::new(Served {
            set: Mutex::new(None),
            fetches: AtomicUsize::new(0),
        });
        let auth = authenticator(
            Jwks::Uri("https://issuer.example/jwks".parse().unwrap()),
            served,
        );
        let token = signer.token(algorithm, "a", &claims());
        let answer = auth.authenticate(&token, &facts("acme.localhost")).await;
        assert!(
            matches!(answer, Err(AuthError::Unavailable(_))),
            "{answer:?}"
        );
    });
}

#[test]
fn a_key_that_leaves_a_fetched_set_takes_its_verified_tokens_along() {
    block_on(async {
        let [_, (algorithm, old), _] = Signer::all();
        let [_, (_, new), _] = Signer::all();
        let served = Arc::new(Served {
            set: Mutex::new(Some(key_set(&[old.jwk("old"), new.jwk("new")]))),
            fetches: AtomicUsize::new(0),
        });
        // Each use of the set has it fetched again in the background.
        let ages = Ages {
            pause: Duration::ZERO,
            fresh_for: Duration::ZERO,
        };
        let auth = authenticator_over(
            Jwks::Uri("https://issuer.example/jwks".parse().unwrap()),
            KeySets::with_ages(served.clone(), ages),
        );
        let ask = async |token: &str| auth.authenticate(token, &facts("acme.localhost")).await;
        let token = old.token(algorithm, "old", &claims());
        ask(&token).await.unwrap();
        assert!(auth.cached(&token).is_some());
        *served.set.lock().unwrap() = Some(key_set(&[new.jwk("new")]));
        // Somebody else's request is what makes the host look. A look under way may have seen the set as it was.
        let end = Instant::now() + Duration::from_secs(10);
        loop {
            ask(&new.token(algorithm, "new", &claims())).await.unwrap();
            if auth.cached(&token).is_none() {
                match ask(&token).await {
                    Ok(_) => {}
                    Err(AuthError::Bad(_)) => break,
                    Err(other) => panic!("{other}"),
                }
            }
            assert!(Instant::now() < end, "the removed key's token lives on");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(matches!(ask(&token).await, Err(AuthError::Bad(_))));
    });
}
