use crate::support::{admitted, block_on, facts, runtime};
use ambit_capabilities::auth::{
    AuthError, AuthRecords, AuthSource, Authenticator, KeySetFetch, KeySets, new_api_key,
};
use ambit_policy::{Permissions, token::Credential};
use ambit_runtime::Tenant;
use ambit_types::{Scope, TenantId};
use bytes::Bytes;
use futures::{FutureExt as _, future::BoxFuture};
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use url::Url;

/// A store of one tenant's records that counts how often it is read.
#[derive(Default)]
pub(crate) struct Records {
    pub(crate) records: Mutex<AuthRecords>,
    pub(crate) reads: AtomicUsize,
}

impl AuthSource for Records {
    fn load(&self) -> BoxFuture<'_, anyhow::Result<AuthRecords>> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        let records = self.records.lock().unwrap().clone();
        async { Ok(records) }.boxed()
    }
}

/// No network.
pub(crate) struct Unreachable;

impl KeySetFetch for Unreachable {
    fn fetch(&self, _tenant: TenantId, _uri: Url) -> BoxFuture<'static, anyhow::Result<Bytes>> {
        async { anyhow::bail!("unreachable") }.boxed()
    }
}

pub(crate) fn tenant(slug: &str) -> Arc<Tenant> {
    runtime().tenant(TenantId::new(), &slug.parse().unwrap())
}

fn authenticator(records: AuthRecords, source: &Arc<Records>) -> Authenticator {
    let chain = [admitted("auth-api-key"), admitted("auth-jwt")];
    let key_sets = KeySets::new(Arc::new(Unreachable));
    Authenticator::new(
        runtime(),
        tenant("acme"),
        &chain,
        records,
        source.clone(),
        key_sets,
    )
    .unwrap()
}

fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
}

#[test]
fn a_key_proves_its_principal_until_it_is_revoked() {
    block_on(async {
        let (credential, key) =
            new_api_key(vec!["chat".to_owned(), "no-such-scope".to_owned()], None).unwrap();
        let (other, _) = new_api_key(vec!["chat".to_owned()], None).unwrap();
        let source = Arc::<Records>::default();
        let auth = authenticator(
            AuthRecords {
                epoch: 1,
                keys: vec![key.clone()],
                issuers: Vec::new(),
            },
            &source,
        );
        let ask = async |credential: &str| {
            auth.authenticate(credential, &facts("acme.localhost"))
                .await
        };

        let principal = ask(credential.expose()).await.unwrap();
        assert_eq!(principal.id, format!("key:{}", key.public_id));
        assert_eq!(principal.scopes, [Scope::Chat]);
        assert_eq!(
            auth.cached(credential.expose()).as_deref(),
            Some(&*principal)
        );

        let wrong = credential.expose().replace(
            &credential.expose()[70..],
            &"0".repeat(credential.expose().len() - 70),
        );
        for bad in [
            other.expose(),
            &wrong,
            "",
            "sk-something",
            "a.b.c",
            &"x".repeat(1 << 20),
        ] {
            assert!(
                matches!(ask(bad).await, Err(AuthError::Bad(_))),
                "{bad:.80}"
            );
            assert!(auth.cached(bad).is_none());
        }

        auth.replace(AuthRecords {
            epoch: 2,
            ..AuthRecords::default()
        });
        assert!(auth.cached(credential.expose()).is_none());
        assert!(matches!(
            ask(credential.expose()).await,
            Err(AuthError::Bad(_))
        ));
    });
}

#[test]
fn what_a_key_narrows_to_comes_with_its_principal() {
    block_on(async {
        let narrowing = r#"{"models":["openai/small"]}"#;
        for (permissions, accepted) in [
            (narrowing, true),
            ("{}", true),
            (r#"{"modles":["openai/small"]}"#, false),
            ("[]", false),
            ("", false),
        ] {
            let (credential, mut key) = new_api_key(vec!["chat".to_owned()], None).unwrap();
            key.permissions = Some(permissions.to_owned());
            let records = AuthRecords {
                epoch: 1,
                keys: vec![key],
                issuers: Vec::new(),
            };
            let answer = authenticator(records, &Arc::default())
                .authenticate(credential.expose(), &facts("acme.localhost"))
                .await;
            match answer {
                Ok(principal) if accepted => {
                    let narrows = Credential::of(&principal).unwrap().permissions.as_ref();
                    let expected: Permissions = serde_json::from_str(permissions).unwrap();
                    assert_eq!(**narrows.unwrap(), expected);
                }
                Err(AuthError::Bad(_)) if !accepted => {}
                other => panic!("{permissions}: {other:?}"),
            }
        }
    });
}

#[test]
fn an_expired_key_is_refused_from_the_cache_too() {
    block_on(async {
        // Linked before the time begins to run.
        let auth = authenticator(AuthRecords::default(), &Arc::default());
        let (expired, expired_key) = new_api_key(Vec::new(), Some(now() - 1)).unwrap();
        let (short, short_key) = new_api_key(Vec::new(), Some(now() + 2)).unwrap();
        auth.replace(AuthRecords {
            epoch: 1,
            keys: vec![expired_key, short_key],
            issuers: Vec::new(),
        });
        let ask = async |credential: &str| {
            auth.authenticate(credential, &facts("acme.localhost"))
                .await
        };
        assert!(matches!(
            ask(expired.expose()).await,
            Err(AuthError::Expired)
        ));
        assert!(ask(short.expose()).await.is_ok());
        while auth.cached(short.expose()).is_some() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert!(matches!(ask(short.expose()).await, Err(AuthError::Expired)));
    });
}

#[test]
fn a_new_key_is_found_by_one_reading_and_guesses_cause_no_more() {
    block_on(async {
        let source = Arc::<Records>::default();
        let auth = authenticator(AuthRecords::default(), &source);
        let (credential, key) = new_api_key(vec!["chat".to_owned()], None).unwrap();
        *source.records.lock().unwrap() = AuthRecords {
            epoch: 1,
            keys: vec![key],
            issuers: Vec::new(),
        };
        assert!(
            auth.authenticate(credential.expose(), &facts("acme.localhost"))
                .await
                .is_ok()
        );
        assert_eq!(source.reads.load(Ordering::SeqCst), 1);

        // Guesses, all at once: one of them at most makes the records be read within a second.
        let guesses = (0..50).map(|_| {
            let auth = auth.clone();
            tokio::spawn(async move {
                let (guess, _) = new_api_key(Vec::new(), None).unwrap();
                auth.authenticate(guess.expose(), &facts("acme.localhost"))
                    .await
                    .is_err()
            })
        });
        for guess in futures::future::join_all(guesses).await {
            assert!(guess.unwrap());
        }
        assert!(
            source.reads.load(Ordering::SeqCst) <= 3,
            "{:?}",
            source.reads
        );
    });
}
