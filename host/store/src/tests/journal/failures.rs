//! Kills, callers that go away, a full disk, a database that is read-only.

use super::Opened;
use crate::{
    Append, Header, NewEvent, Store, StoreConfig, StoreError,
    db::{Access, Db, Statement},
    testing::{Server, TestStore, master_key, server},
    tests::{event, on_both, opening, tenant},
};
use ambit_types::SessionId;
use serde_json::json;
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::time::{sleep, timeout};

/// The files of a process killed at any time are what lies there at that time: everything acknowledged is in them. PostgreSQL is a
/// process of its own, killed below.
#[tokio::test]
async fn what_was_acknowledged_survives_a_kill() {
    let store = TestStore::sqlite().await.unwrap();
    let Opened { acme, session } = Opened::new(&store).await;
    for n in 2..40 {
        let head = store
            .store
            .journal()
            .append(Append::new(acme.id(), session).event(event("x")))
            .await
            .unwrap();
        let copy = tempfile::tempdir().unwrap();
        for name in ["ambit.db", "ambit.db-wal", "master.key"] {
            std::fs::copy(store.folder().unwrap().join(name), copy.path().join(name)).unwrap();
        }
        let revived = Store::open(&StoreConfig::sqlite(copy.path().join("ambit.db")))
            .await
            .unwrap();
        let chain = revived
            .tenant(acme.id())
            .verify_chain(session)
            .await
            .unwrap();
        assert_eq!((chain.events, chain.head), (n, head.head));
        revived.close().await;
    }
    store.store.close().await;
}

/// A killed backend takes all others of its server with it, and what was only in their memory: the server starts anew from its log.
#[tokio::test]
async fn what_was_acknowledged_survives_a_crash_of_the_database() {
    if server().await.is_none() {
        return;
    }
    let server = Server::start(false).unwrap();
    let config = server.create_database().await.unwrap();
    // What is told as committed before it is on disk would be lost.
    for login in ["test_app", "test_operator"] {
        let careless = ["ALTER ROLE ", login, " SET synchronous_commit = off"].concat();
        server.administrate("postgres", &careless).await.unwrap();
    }
    let config = StoreConfig::postgres(config, master_key());
    let store = Store::open(&config).await.unwrap();
    let store = TestStore::of(store, config, "postgres");
    let Opened { acme, session } = Opened::new(&store).await;
    let Db::Postgres { journal, .. } = &store.store.db else {
        panic!("PostgreSQL")
    };
    let mut acknowledged = 1;
    for _ in 0..5 {
        let backend: i32 = sqlx::query_scalar("SELECT pg_backend_pid()")
            .fetch_one(&journal.now())
            .await
            .unwrap();
        for _ in 0..10 {
            let append = Append::new(acme.id(), session).event(event("x"));
            acknowledged = store.store.journal().append(append).await.unwrap().last_seq;
        }
        let killed = std::process::Command::new("kill")
            .args(["-9", &backend.to_string()])
            .status();
        assert!(killed.unwrap().success());
        let next = once_back(async || {
            let append = Append::new(acme.id(), session).event(event("y"));
            store.store.journal().append(append).await
        });
        let next = next.await.last_seq;
        assert!(next > acknowledged, "{next} after {acknowledged}");
        let chain = once_back(async || acme.verify_chain(session).await).await;
        assert_eq!(chain.events, next);
    }
    store.store.close().await;
}

/// Tries again while connections to the server that is gone are found broken.
async fn once_back<T>(mut what: impl AsyncFnMut() -> crate::Result<T>) -> T {
    let back = async {
        loop {
            match what().await {
                Ok(done) => break done,
                Err(StoreError::Unavailable(_)) => sleep(Duration::from_millis(20)).await,
                Err(error) => panic!("{error:?}"),
            }
        }
    };
    timeout(Duration::from_secs(30), back).await.unwrap()
}

#[tokio::test]
async fn closing_writes_what_was_accepted() {
    on_both(async |store| {
        let (_, acme) = tenant(store, "acme").await;
        let other = Store::open(&store.config).await.unwrap();
        // Its key is there, so that nothing stands between a caller and the queue.
        let first = opening(&acme, SessionId::new());
        other.journal().append(first).await.unwrap();
        let sessions: Vec<_> = (0..50).map(|_| SessionId::new()).collect();
        let waiting: Vec<_> = sessions
            .iter()
            .map(|session| {
                let (journal, append) = (other.journal().clone(), opening(&acme, *session));
                tokio::spawn(async move { journal.append(append).await })
            })
            .collect();
        tokio::task::yield_now().await;
        other.close().await;
        let mut written = 0;
        for (task, session) in waiting.into_iter().zip(sessions) {
            match task.await.unwrap() {
                Ok(_) => {
                    written += 1;
                    assert_eq!(acme.verify_chain(session).await.unwrap().events, 1);
                }
                Err(error) => assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}"),
            }
        }
        assert!(written > 0);
        assert!(matches!(
            other
                .journal()
                .append(opening(&acme, SessionId::new()))
                .await,
            Err(StoreError::Unavailable(_))
        ));
    })
    .await;
}

#[tokio::test]
async fn a_caller_that_goes_away_changes_nothing() {
    on_both(async |store| {
        let Opened { acme, session } = Opened::new(store).await;
        for _ in 0..20 {
            let mut append = Box::pin(
                store
                    .store
                    .journal()
                    .append(Append::new(acme.id(), session).event(event("x"))),
            );
            assert!(futures::poll!(append.as_mut()).is_pending());
        }
        let last = store
            .store
            .journal()
            .append(Append::new(acme.id(), session).event(event("y")))
            .await
            .unwrap();
        assert_eq!(
            (
                last.last_seq,
                acme.verify_chain(session).await.unwrap().events
            ),
            (22, 22)
        );
    })
    .await;
}

#[tokio::test]
async fn a_full_disk_fails_clearly_and_the_journal_recovers() {
    on_both(async |store| {
        let Opened { acme, session } = Opened::new(store).await;
        let big = |n: usize| {
            let event = NewEvent::new("big", Header::default(), vec![1; n]);
            store
                .store
                .journal()
                .append(Append::new(acme.id(), session).event(event))
        };
        store.set_full(true).await;
        let outcome = big(1 << 20).await;
        assert!(matches!(outcome, Err(StoreError::Full(_))), "{outcome:?}");
        let seen = ambit_types::Error::from(outcome.unwrap_err());
        assert_eq!(
            (seen.status(), seen.message()),
            (503, "storage is not available; try again")
        );
        // Room again, and the same connection goes on.
        store.set_full(false).await;
        assert_eq!(big(1 << 20).await.unwrap().last_seq, 2);
        assert_eq!(acme.verify_chain(session).await.unwrap().events, 2);
        let too_big = big(65 << 20).await;
        assert!(
            matches!(too_big, Err(StoreError::Invalid { .. })),
            "{too_big:?}"
        );
    })
    .await;
}

#[tokio::test]
async fn a_read_only_database_fails_clearly_and_the_journal_recovers() {
    on_both(async |store| {
        let Opened { acme, session } = Opened::new(store).await;
        store.set_read_only(true).await;
        let outcome = store
            .store
            .journal()
            .append(Append::new(acme.id(), session).event(event("x")))
            .await;
        assert!(
            matches!(outcome, Err(StoreError::ReadOnly(_))),
            "{outcome:?}"
        );
        let outcome = acme
            .apply_agent(&"assistant".parse().unwrap(), &json!({}))
            .await;
        assert!(
            matches!(outcome, Err(StoreError::ReadOnly(_))),
            "{outcome:?}"
        );
        assert_eq!(acme.events(session, 0, 10).await.unwrap().len(), 1);
        store.set_read_only(false).await;
        assert_eq!(
            store
                .store
                .journal()
                .append(Append::new(acme.id(), session).event(event("x")))
                .await
                .unwrap()
                .last_seq,
            2
        );
    })
    .await;
}

/// However many writes wait, of however many tenants, the journal's is one of the next. This is about SQLite's one writer; on PostgreSQL
/// the journal has connections of its own, and what can be held up there is below.
#[tokio::test]
async fn other_writers_do_not_starve_the_journal() {
    /// More than all that may come first; few enough that a slow disk writes them within one write's patience.
    const FLOOD: usize = 240;
    let store = TestStore::sqlite().await.unwrap();
    let Opened { acme, session } = Opened::new(&store).await;
    let written = Arc::new(AtomicUsize::new(0));
    let mut floods = Vec::new();
    let mut flooding = Vec::new();
    for slug in ["a", "b", "c", "d", "e", "f", "g", "h"] {
        flooding.push(tenant(&store, slug).await.1);
    }
    for n in 0..FLOOD {
        let (flooding, written) = (flooding[n % 8].clone(), written.clone());
        floods.push(tokio::spawn(async move {
            let key = format!("b/{n}");
            flooding.put_key_value(&key, b"x").await.unwrap();
            written.fetch_add(1, Relaxed);
        }));
    }
    while written.load(Relaxed) < 10 {
        tokio::task::yield_now().await;
    }
    for _ in 0..10 {
        let before = written.load(Relaxed);
        let append = Append::new(acme.id(), session).event(event("x"));
        store.store.journal().append(append).await.unwrap();
        let meanwhile = written.load(Relaxed) - before;
        assert!(meanwhile <= 6, "{meanwhile} writes came first");
    }
    // Nor do they hold up what else is changed for one of them.
    let before = written.load(Relaxed);
    let (_, other) = tenant(&store, "late").await;
    let assistant = "assistant".parse().unwrap();
    let definition = json!({});
    let change = flooding[0].apply_agent(&assistant, &definition);
    change.await.unwrap();
    other.put_key_value("b/k", b"").await.unwrap();
    let meanwhile = written.load(Relaxed) - before;
    assert!(meanwhile <= 60, "{meanwhile} writes came first");
    assert!(written.load(Relaxed) < FLOOD, "they were still waiting");
    for flood in floods {
        flood.await.unwrap();
    }
    store.store.close().await;
}

/// Writes that wait for each other do so without the connections others need.
#[tokio::test]
async fn a_tenant_that_waits_for_itself_takes_no_connections() {
    let Some(store) = TestStore::postgres().await.unwrap() else {
        return;
    };
    let Opened { acme, session } = Opened::new(&store).await;
    let (_, globex) = tenant(&store, "globex").await;
    acme.put_key_value("b/k", b"").await.unwrap();
    // Another process is amid a write of the same tenant.
    let other = Store::open(&store.config).await.unwrap();
    let mut held = other.db.write(Access::Tenant(acme.id())).await.unwrap();
    LOCK.query()
        .bind(acme.id().to_string())
        .execute(&mut held)
        .await
        .unwrap();
    let waiting = (0..20).map(|_| acme.put_key_value("b/k", b"x"));
    let waiting = futures::future::join_all(waiting);
    let others = async {
        sleep(Duration::from_millis(200)).await;
        let append = Append::new(acme.id(), session).event(event("x"));
        store.store.journal().append(append).await.unwrap();
        globex.put_key_value("b/k", b"x").await.unwrap();
        assert_eq!(globex.key_value("b/k").await.unwrap().unwrap(), b"x");
    };
    let mut waiting = std::pin::pin!(waiting);
    tokio::select! {
        _ = &mut waiting => panic!("the row is locked"),
        outcome = timeout(Duration::from_secs(5), others) => outcome.expect("nobody else waits"),
    }
    drop(held);
    for outcome in waiting.await {
        outcome.unwrap();
    }
    other.close().await;
    store.store.close().await;
}

const LOCK: Statement = Statement {
    name: "LOCK",
    sql: "UPDATE key_value_usage SET size = size WHERE tenant = $1",
};

const LOCK_EVENTS: Statement = Statement {
    name: "LOCK_EVENTS",
    sql: "LOCK TABLE events IN ACCESS EXCLUSIVE MODE",
};

#[tokio::test]
async fn a_journal_that_is_held_up_is_not_ready() {
    on_both(async |store| {
        let Opened { acme, session } = Opened::new(store).await;
        store.store.check().await.unwrap();
        // SQLite has one writer; PostgreSQL has many, of which one may hold the table.
        let mut held = store.store.db.write(Access::Operator).await.unwrap();
        if held.has_row_security() {
            LOCK_EVENTS.query().execute(&mut held).await.unwrap();
        }
        let append = Append::new(acme.id(), session).event(event("x"));
        let mut append = std::pin::pin!(store.store.journal().append(append));
        let waited = timeout(Duration::from_millis(400), &mut append).await;
        assert!(waited.is_err());
        let unavailable = |outcome| {
            assert!(
                matches!(outcome, Err(StoreError::Unavailable(_))),
                "{outcome:?}"
            );
        };
        unavailable(store.store.check().await);
        drop(held);
        append.await.unwrap();
        let ready = async {
            while store.store.check().await.is_err() {
                tokio::task::yield_now().await;
            }
        };
        timeout(Duration::from_secs(5), ready).await.unwrap();
        store.store.close().await;
        unavailable(store.store.check().await);
    })
    .await;
}
