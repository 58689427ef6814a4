//! Order, group commit, refusals, and sessions kept apart.

use super::Opened;
use crate::{
    Append, Header, NewEvent, NewSession, Store, StoreError,
    db::{Access, Db, Statement},
    testing::TestStore,
    tests::{event, hand_over, on_both, opening, tenant},
};
use ambit_types::{SessionId, TenantId};
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn many_sessions_of_many_tenants_share_commits_and_stay_apart() {
    on_both(async |store| {
        let mut tasks = Vec::new();
        for n in 0..40 {
            let (_, rows) = tenant(store, &format!("t{}-{n}", n % 4)).await;
            let journal = store.store.journal().clone();
            tasks.push(tokio::spawn(async move {
                let session = SessionId::new();
                journal.append(opening(&rows, session)).await.unwrap();
                // Several at once, of one session, without waiting for each other.
                for _ in 0..5 {
                    let append = || {
                        journal.append(Append::new(rows.id(), session).events([
                            event("a"),
                            event("b"),
                            event("c"),
                        ]))
                    };
                    let ends = futures::future::join_all((0..4).map(|_| append())).await;
                    assert!(ends.iter().all(|end| {
                        end.as_ref()
                            .is_ok_and(|end| end.last_seq == end.first_seq + 2)
                    }));
                }
                (rows, session)
            }));
        }
        for task in tasks {
            let (rows, session) = task.await.unwrap();
            assert_eq!(rows.verify_chain(session).await.unwrap().events, 61);
            assert_eq!(rows.sessions(None, 10).await.unwrap().len(), 1);
        }
    })
    .await;
}

async fn append_a_thousand_together(store: &TestStore) {
    let (journal, rows) = (store.store.journal(), store.store.tenant(TenantId::new()));
    let appends = (0..1000).map(|_| journal.append(opening(&rows, SessionId::new())));
    let outcomes = futures::future::join_all(appends).await;
    assert!(outcomes.iter().all(Result::is_ok));
}

/// Group commit is what makes the rate: a thousand appends that wait together must not need a thousand transactions.
/// SQLite tells how many pages were written; PostgreSQL's twin is below.
#[tokio::test]
async fn appends_that_wait_together_share_commits() {
    const WAL_FRAMES: Statement = Statement {
        name: "WAL_FRAMES",
        sql: "PRAGMA wal_checkpoint(PASSIVE)",
    };
    let store = TestStore::sqlite().await.unwrap();
    append_a_thousand_together(&store).await;
    let Db::Sqlite { writer, .. } = &store.store.db else {
        panic!("SQLite")
    };
    let (_, frames, _): (i64, i64, i64) = sqlx::query_as(WAL_FRAMES.sql)
        .fetch_one(writer)
        .await
        .unwrap();
    // Alone, each would write at least the pages it touches (two tables, three indexes): 5,000 frames.
    assert!(frames < 1500, "{frames} pages written");
    drop(store.store.db.read(Access::Operator).await.unwrap());
    store.store.close().await;
}

/// The same on PostgreSQL, which counts transactions itself.
#[tokio::test]
async fn appends_that_wait_together_share_transactions() {
    const TRANSACTIONS: &str = "SELECT count(DISTINCT xmin::text) FROM events";
    let Some(store) = TestStore::postgres().await.unwrap() else {
        return;
    };
    append_a_thousand_together(&store).await;
    let Db::Postgres { operator, .. } = &store.store.db else {
        panic!("PostgreSQL")
    };
    let transactions: i64 = sqlx::query_scalar(TRANSACTIONS)
        .fetch_one(&operator.now())
        .await
        .unwrap();
    assert!(transactions < 20, "{transactions} transactions");
    store.store.close().await;
}

#[tokio::test]
async fn what_cannot_be_appended_is_refused_alone() {
    on_both(async |store| {
        let (_, acme) = tenant(store, "acme").await;
        let (_, globex) = tenant(store, "globex").await;
        let (journal, session) = (store.store.journal(), SessionId::new());
        // Their keys are there, so that they come to the queue in order.
        for rows in [&acme, &globex] {
            let first = opening(rows, SessionId::new());
            journal.append(first).await.unwrap();
        }
        let append =
            |rows: &crate::TenantStore, session| Append::new(rows.id(), session).event(event("x"));
        // All of these wait together and share a transaction.
        let (first, unknown, again, other, empty) = futures::join!(
            journal.append(opening(&acme, session)),
            journal.append(append(&acme, SessionId::new())),
            journal.append(opening(&acme, session)),
            journal.append(append(&globex, session)),
            journal.append(Append::new(acme.id(), session)),
        );
        assert_eq!(first.unwrap().last_seq, 1);
        assert!(
            matches!(unknown, Err(StoreError::NotFound { what: "session" })),
            "{unknown:?}"
        );
        assert!(
            matches!(again, Err(StoreError::Conflict { what: "session" })),
            "{again:?}"
        );
        assert!(
            matches!(other, Err(StoreError::NotFound { what: "session" })),
            "{other:?}"
        );
        assert!(
            matches!(empty, Err(StoreError::Invalid { .. })),
            "{empty:?}"
        );
        for kind in [String::new(), "x".repeat(65), "a\0b".into()] {
            let bad = NewEvent {
                kind: kind.into(),
                time_ms: 0,
                header: Header::default(),
                body: vec![],
            };
            let outcome = journal
                .append(Append::new(acme.id(), session).event(bad))
                .await;
            assert!(
                matches!(outcome, Err(StoreError::Invalid { .. })),
                "{outcome:?}"
            );
        }
        assert_eq!(
            journal
                .append(append(&acme, session))
                .await
                .unwrap()
                .last_seq,
            2
        );
        assert_eq!(acme.verify_chain(session).await.unwrap().events, 2);
    })
    .await;
}

/// A second process (here: a second store on the same database) goes on with a session; the first one's memory of it is then wrong.
#[tokio::test]
async fn a_session_continued_elsewhere_conflicts_once_and_goes_on() {
    on_both(async |store| {
        let Opened { acme, session } = Opened::new(store).await;
        let append = || Append::new(acme.id(), session).event(event("x"));
        let elsewhere = Store::open(&store.config).await.unwrap();
        let unasked = elsewhere.journal().append(append()).await;
        assert!(
            matches!(unasked, Err(StoreError::Conflict { what: "session" })),
            "{unasked:?}"
        );
        hand_over(&acme, session, &store.store, &elsewhere).await;
        assert_eq!(
            elsewhere.journal().append(append()).await.unwrap().last_seq,
            2
        );
        // In one batch with an innocent one.
        let innocent = SessionId::new();
        let (stale, fine) = futures::join!(
            store.store.journal().append(append()),
            store.store.journal().append(opening(&acme, innocent))
        );
        assert!(
            matches!(stale, Err(StoreError::Conflict { what: "session" })),
            "{stale:?}"
        );
        assert_eq!(fine.unwrap().last_seq, 1);
        hand_over(&acme, session, &elsewhere, &store.store).await;
        assert_eq!(
            store
                .store
                .journal()
                .append(append())
                .await
                .unwrap()
                .last_seq,
            3
        );
        // Opening a session that exists is refused too, whoever remembers it.
        elsewhere.close().await;
        let elsewhere = Store::open(&store.config).await.unwrap();
        let again = elsewhere.journal().append(opening(&acme, session)).await;
        assert!(
            matches!(again, Err(StoreError::Conflict { what: "session" })),
            "{again:?}"
        );
        assert_eq!(acme.verify_chain(session).await.unwrap().events, 3);
        elsewhere.close().await;
    })
    .await;
}

#[tokio::test]
async fn another_tenants_session_is_not_there() {
    on_both(async |store| {
        let (_, acme) = tenant(store, "acme").await;
        let (_, globex) = tenant(store, "globex").await;
        let session = SessionId::new();
        store
            .store
            .journal()
            .append(opening(&acme, session))
            .await
            .unwrap();
        assert_eq!(globex.session(session).await.unwrap(), None);
        assert_eq!(globex.events(session, 0, 10).await.unwrap(), []);
        assert_eq!(globex.sessions(None, 10).await.unwrap(), []);
        assert!(matches!(
            globex.verify_chain(session).await,
            Err(StoreError::NotFound { .. })
        ));
        // The same id in two tenants is two sessions.
        store
            .store
            .journal()
            .append(opening(&globex, session).event(event("more")))
            .await
            .unwrap();
        assert_eq!(acme.verify_chain(session).await.unwrap().events, 1);
        assert_eq!(globex.verify_chain(session).await.unwrap().events, 2);
    })
    .await;
}

/// What cannot be written is refused before it is in a batch with others.
#[tokio::test]
async fn text_that_no_database_holds_is_refused_before_the_queue() {
    on_both(async |store| {
        let (_, acme) = tenant(store, "acme").await;
        let opened = |agent: &str, principal: &str| {
            let open = NewSession {
                agent: agent.into(),
                principal: principal.into(),
            };
            let append = Append::new(acme.id(), SessionId::new()).open(open);
            append.event(event("request"))
        };
        // While the writer waits for its turn, whatever is accepted stays in the queue.
        let held = match &store.store.db {
            Db::Sqlite { .. } => Some(store.store.db.write(Access::Operator).await.unwrap()),
            Db::Postgres { .. } => None,
        };
        for append in [opened("a\0", "p"), opened("a", "p\0")] {
            let outcome = store.store.journal().append(append);
            let outcome = tokio::time::timeout(Duration::from_secs(5), outcome).await;
            assert!(
                matches!(outcome, Ok(Err(StoreError::Invalid { .. }))),
                "{outcome:?}"
            );
        }
        drop(held);
        let journal = store.store.journal();
        journal.append(opened("a", "p")).await.unwrap();
    })
    .await;
}
