//! Content under keys: who has the database alone reads nothing, and what is erased is gone.

use crate::{
    Append, MasterKey, SessionState, Store, StoreConfig, StoreError,
    db::Db,
    testing::TestStore,
    tests::{event, on_both, opening, tenant},
};
use ambit_types::{Secret, SessionId};

const SAID: &str = "the heron stands in the reeds";

fn said() -> crate::NewEvent {
    let mut said = event("request");
    said.body = SAID.into();
    said
}

async fn closed(store: &TestStore, rows: &crate::TenantStore) -> SessionId {
    let session = SessionId::new();
    let append = opening(rows, session)
        .event(said())
        .state(SessionState::Finished);
    store.store.journal().append(append).await.unwrap();
    session
}

#[tokio::test]
async fn the_database_alone_says_nothing() {
    on_both(async |store| {
        let (_, acme) = tenant(store, "acme").await;
        let session = closed(store, &acme).await;
        let events = acme.events(session, 0, 10).await.unwrap();
        assert_eq!(events[1].body.as_deref(), Some(SAID.as_bytes()));
        for stored in acme.stored(session, 0, 10).await.unwrap() {
            assert!(!stored.body.is_empty());
            assert!(!stored.body.windows(5).any(|part| part == b"heron"));
        }
    })
    .await;
    let store = TestStore::sqlite().await.unwrap();
    let (_, acme) = tenant(&store, "acme").await;
    closed(&store, &acme).await;
    store.store.close().await;
    for file in std::fs::read_dir(store.folder().unwrap()).unwrap() {
        let file = file.unwrap().path();
        let bytes = std::fs::read(&file).unwrap();
        let found = bytes.windows(5).any(|part| part == b"heron");
        assert!(!found, "{}", file.display());
    }
}

#[tokio::test]
async fn what_is_erased_is_gone_and_its_chain_still_verifies() {
    on_both(async |store| {
        let (_, acme) = tenant(store, "acme").await;
        let (session, other) = (closed(store, &acme).await, closed(store, &acme).await);
        let head = acme.verify_chain(session).await.unwrap();
        assert!(acme.erase(session).await.unwrap());
        assert!(!acme.erase(session).await.unwrap(), "once");
        let events = acme.events(session, 0, 10).await.unwrap();
        assert!(events.iter().all(|event| event.body.is_none()));
        assert_eq!(acme.verify_chain(session).await.unwrap(), head);
        let kept = acme.events(other, 0, 10).await.unwrap();
        assert_eq!(kept[1].body.as_deref(), Some(SAID.as_bytes()));

        // Nothing more is said in it; that it was erased may be.
        let journal = store.store.journal();
        let more = Append::new(acme.id(), session).event(said());
        assert!(matches!(
            journal.append(more).await,
            Err(StoreError::NotFound { .. })
        ));
        let mut erasure = event("erasure");
        erasure.body = Vec::new();
        let note = Append::new(acme.id(), session).event(erasure);
        journal.append(note).await.unwrap();
        acme.verify_chain(session).await.unwrap();

        // Only what is over, and only its own tenant's.
        let open = SessionId::new();
        journal.append(opening(&acme, open)).await.unwrap();
        assert!(matches!(
            acme.erase(open).await,
            Err(StoreError::Conflict { .. })
        ));
        let (_, globex) = tenant(store, "globex").await;
        let foreign = globex.erase(other).await;
        assert!(matches!(foreign, Err(StoreError::NotFound { .. })));
    })
    .await;
}

/// Neither the file nor its log keeps the key.
#[tokio::test]
async fn an_erased_key_is_in_no_file() {
    let store = TestStore::sqlite().await.unwrap();
    let (_, acme) = tenant(&store, "acme").await;
    let session = closed(&store, &acme).await;
    let Db::Sqlite { writer, .. } = &store.store.db else {
        panic!("SQLite")
    };
    let query = sqlx::query_scalar("SELECT sealed_key FROM sessions");
    let key: Vec<u8> = query.fetch_one(writer).await.unwrap();
    let holds = || {
        let files = std::fs::read_dir(store.folder().unwrap()).unwrap();
        let mut files = files.map(|file| std::fs::read(file.unwrap().path()).unwrap());
        files.any(|bytes| bytes.windows(key.len()).any(|part| part == key))
    };
    assert!(holds(), "it is there before");
    acme.erase(session).await.unwrap();
    assert!(!holds());
}

/// What opens in one place opens in no other.
#[tokio::test]
async fn sealed_content_opens_only_where_it_belongs() {
    let swaps = [
        // Another event's body, another kind's, another session's key, another tenant's.
        "UPDATE events SET kind = 'outcome' WHERE seq = 2",
        "UPDATE events SET body = (SELECT body FROM events AS o WHERE o.seq = 1 AND o.session = events.session) WHERE seq = 2",
        "UPDATE sessions SET sealed_key = (SELECT sealed_key FROM sessions AS o WHERE o.session <> sessions.session)",
        "UPDATE tenant_keys SET wrapped = (SELECT wrapped FROM tenant_keys AS o WHERE o.tenant <> tenant_keys.tenant)",
    ];
    for swap in swaps {
        on_both(async |store| {
            let (_, acme) = tenant(store, "acme").await;
            let (_, globex) = tenant(store, "globex").await;
            let session = closed(store, &acme).await;
            closed(store, &globex).await;
            store.tamper(swap).await.unwrap();
            // As another process reads it.
            let config = store.config.clone();
            let again = match Store::open(&config).await {
                Ok(again) => again,
                Err(error) => {
                    assert!(matches!(error, StoreError::MasterKey(_)), "{swap}: {error}");
                    return;
                }
            };
            let read = again.tenant(acme.id()).events(session, 0, 10).await;
            again.close().await;
            match read {
                // Bodies of one kind in one session may change places: the chain says so.
                Ok(_) => assert!(acme.verify_chain(session).await.is_err(), "{swap}"),
                Err(error) => assert!(matches!(error, StoreError::Sealed(_)), "{swap}: {error}"),
            }
        })
        .await;
    }
}

#[tokio::test]
async fn the_master_key_is_the_right_one_or_nothing_starts() {
    on_both(async |store| {
        let (_, acme) = tenant(store, "acme").await;
        let session = closed(store, &acme).await;
        let with = |key: &str| StoreConfig {
            master_key: MasterKey::Given(Secret::new(key)),
            ..store.config.clone()
        };
        for key in [&*"77".repeat(32), "", "5a5a", &"zz".repeat(32)] {
            let outcome = Store::open(&with(key)).await;
            let told = outcome.unwrap_err().to_string();
            assert!(told.starts_with("the master key cannot be used"), "{told}");
            assert!(key.is_empty() || !told.contains(key), "{told}");
        }
        let again = Store::open(&store.config).await.unwrap();
        let events = again
            .tenant(acme.id())
            .events(session, 0, 10)
            .await
            .unwrap();
        assert_eq!(events[1].body.as_deref(), Some(SAID.as_bytes()));
        again.close().await;
    })
    .await;
    let store = TestStore::sqlite().await.unwrap();
    let (_, acme) = tenant(&store, "acme").await;
    let file = store.folder().unwrap().join("master.key");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = std::fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    closed(&store, &acme).await;
    store.store.close().await;
    std::fs::remove_file(&file).unwrap();
    let outcome = Store::open(&store.config).await;
    assert!(
        matches!(outcome, Err(StoreError::MasterKey(_))),
        "{outcome:?}"
    );
    assert!(!file.exists(), "a new key would open nothing");
}
