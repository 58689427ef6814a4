//! The journal: order, chain, group commit, failures and recovery, retention.

use super::{event, on_both, opening, tenant};
use crate::{
    Append, Digest, Header, NewEvent, SessionState, Store, StoreConfig, StoreError, Usage,
    db::{Access, Db, Statement},
    testing::TestStore,
};
use ambit_types::{SessionId, TenantId};
use serde_json::json;

#[tokio::test]
async fn events_come_back_exactly_and_chain() {
    on_both(async |store| {
        let (_, acme) = tenant(store, "acme").await;
        let (journal, session) = (store.store.journal(), SessionId::new());
        let header = Header {
            usage: Some(Usage {
                input_tokens: 7,
                output_tokens: u64::MAX,
            }),
            cost_micros: Some(-1),
            facts: json!({ "provider": "openai", "z": [1, "ä"], "a": null })
                .as_object()
                .unwrap()
                .clone(),
        };
        let body: Vec<u8> = (0..=255).collect();
        let first = journal.append(opening(&acme, session)).await.unwrap();
        let outcome = NewEvent {
            kind: "model-outcome".into(),
            time_ms: 5,
            header: header.clone(),
            body: body.clone(),
        };
        let second = journal
            .append(Append::new(acme.id(), session).events([outcome, event("finish")]))
            .await
            .unwrap();
        assert_eq!(
            (
                first.first_seq,
                first.last_seq,
                second.first_seq,
                second.last_seq
            ),
            (1, 1, 2, 3)
        );

        let events = acme.events(session, 0, 10).await.unwrap();
        assert_eq!(
            events.iter().map(|event| event.seq).collect::<Vec<_>>(),
            [1, 2, 3]
        );
        assert_eq!(
            (&events[1].header, &events[1].body, events[1].time_ms),
            (&header, &body, 5)
        );
        assert_eq!(events[0].previous_hash, Digest::default());
        assert_eq!(events[1].previous_hash, first.head);
        assert_eq!(events[2].content_hash, second.head);
        assert_eq!(acme.events(session, 1, 1).await.unwrap(), &events[1..2]);
        assert_eq!(acme.verify_chain(session).await.unwrap().head, second.head);

        let open = acme.session(session).await.unwrap().unwrap();
        assert_eq!(
            (open.state, &*open.agent, &*open.principal),
            (SessionState::Open, "assistant", "alice")
        );
        let done = Append::new(acme.id(), session)
            .event(event("end"))
            .state(SessionState::Finished);
        let done = journal.append(done).await.unwrap();
        let closed = acme.session(session).await.unwrap().unwrap();
        assert_eq!(
            (closed.state, closed.head_seq, closed.head_hash),
            (SessionState::Finished, 4, done.head)
        );
        assert_eq!(
            acme.sessions(None, 10).await.unwrap(),
            std::slice::from_ref(&closed)
        );
        assert_eq!(acme.sessions(Some(session), 10).await.unwrap(), []);
    })
    .await;
}

/// The documented bytes, hashed by hand: what another program would do to check the journal.
#[tokio::test]
async fn the_hash_is_the_documented_one() {
    use sha2::{Digest as _, Sha256};
    on_both(async |store| {
        let (_, acme) = tenant(store, "acme").await;
        let session = SessionId::new();
        let head = store
            .store
            .journal()
            .append(opening(&acme, session))
            .await
            .unwrap()
            .head;
        let time = acme.events(session, 0, 1).await.unwrap()[0].time_ms;
        let mut bytes = b"ambit-event-1\0\0\0\x01\0\0\0\x24".to_vec();
        bytes.extend(acme.id().to_string().bytes());
        bytes.extend([0, 0, 0, 36]);
        bytes.extend(session.to_string().bytes());
        bytes.extend(1_i64.to_be_bytes());
        bytes.extend(b"\0\0\0\x07request");
        bytes.extend(time.to_be_bytes());
        bytes.extend(b"\0\0\0\x02{}");
        bytes.extend([0; 32]);
        bytes.extend(7_u64.to_be_bytes());
        bytes.extend(Sha256::digest(b"request"));
        assert_eq!(head.0, <[u8; 32]>::from(Sha256::digest(bytes)));
    })
    .await;
}

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

#[tokio::test]
async fn what_cannot_be_appended_is_refused_alone() {
    on_both(async |store| {
        let (_, acme) = tenant(store, "acme").await;
        let (_, globex) = tenant(store, "globex").await;
        let (journal, session) = (store.store.journal(), SessionId::new());
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
        let (_, acme) = tenant(store, "acme").await;
        let session = SessionId::new();
        let append = || Append::new(acme.id(), session).event(event("x"));
        store
            .store
            .journal()
            .append(opening(&acme, session))
            .await
            .unwrap();
        let elsewhere = Store::open(&store.config).await.unwrap();
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

/// What an attacker with the database in his hands does; on PostgreSQL as the server's superuser, because no login of ours may update events.
#[tokio::test]
async fn every_tampering_is_found() {
    let tamperings = [
        ("UPDATE events SET kind = 'allowed' WHERE seq = 2", 2),
        ("UPDATE events SET time_ms = time_ms + 1 WHERE seq = 2", 2),
        ("UPDATE events SET schema_version = 2 WHERE seq = 2", 2),
        (
            "UPDATE events SET header = '{\"cost_micros\":0}' WHERE seq = 3",
            3,
        ),
        ("UPDATE events SET body = content_hash WHERE seq = 4", 4),
        (
            "UPDATE events SET content_hash = previous_hash WHERE seq = 1",
            1,
        ),
        (
            "UPDATE events SET previous_hash = content_hash WHERE seq = 4",
            4,
        ),
        ("DELETE FROM events WHERE seq = 1", 1),
        ("DELETE FROM events WHERE seq = 3", 3),
        ("DELETE FROM events WHERE seq = 4", 4),
        ("DELETE FROM events", 1),
        (
            "UPDATE sessions SET head_hash = (SELECT previous_hash FROM events WHERE seq = 4)",
            4,
        ),
        (
            "UPDATE events SET seq = CASE seq WHEN 2 THEN -3 WHEN 3 THEN -2 END WHERE seq IN (2, 3); UPDATE events SET seq = -seq WHERE seq < 0",
            2,
        ),
    ];
    for (sql, broken_at) in tamperings {
        on_both(async |store| {
            let (_, acme) = tenant(store, "acme").await;
            let session = SessionId::new();
            let append = opening(&acme, session)
                .events([event("a"), event("b"), event("c")])
                .state(SessionState::Finished);
            store.store.journal().append(append).await.unwrap();
            assert_eq!(acme.verify_chain(session).await.unwrap().events, 4);
            store.tamper(sql).await;
            let outcome = acme.verify_chain(session).await;
            assert!(
                matches!(outcome, Err(StoreError::BrokenChain { seq, .. }) if seq == broken_at),
                "{}: {sql}: {outcome:?}",
                store.database
            );
        })
        .await;
    }
}

/// The files of a process killed at any time are what lies there at that time: everything acknowledged is in them.
#[tokio::test]
async fn what_was_acknowledged_survives_a_kill() {
    let store = TestStore::sqlite().await.unwrap();
    let (_, acme) = tenant(&store, "acme").await;
    let session = SessionId::new();
    store
        .store
        .journal()
        .append(opening(&acme, session))
        .await
        .unwrap();
    for n in 2..40 {
        let head = store
            .store
            .journal()
            .append(Append::new(acme.id(), session).event(event("x")))
            .await
            .unwrap();
        let copy = tempfile::tempdir().unwrap();
        for name in ["ambit.db", "ambit.db-wal"] {
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

#[tokio::test]
async fn closing_writes_what_was_accepted() {
    on_both(async |store| {
        let (_, acme) = tenant(store, "acme").await;
        let other = Store::open(&store.config).await.unwrap();
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
        let (_, acme) = tenant(store, "acme").await;
        let session = SessionId::new();
        store
            .store
            .journal()
            .append(opening(&acme, session))
            .await
            .unwrap();
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
    let store = TestStore::sqlite().await.unwrap();
    let (_, acme) = tenant(&store, "acme").await;
    let session = SessionId::new();
    store
        .store
        .journal()
        .append(opening(&acme, session))
        .await
        .unwrap();
    let Db::Sqlite { journal, .. } = &store.store.db else {
        panic!("SQLite")
    };
    journal.pragma("max_page_count", 1).await;
    let big = |n: usize| {
        Append::new(acme.id(), session).event(NewEvent::new("big", Header::default(), vec![1; n]))
    };
    let outcome = store.store.journal().append(big(1 << 20)).await;
    assert!(matches!(outcome, Err(StoreError::Full(_))), "{outcome:?}");
    let seen = ambit_types::Error::from(outcome.unwrap_err());
    assert_eq!(
        (seen.status(), seen.message()),
        (503, "storage is not available; try again")
    );
    // Room again, and the same connection goes on.
    journal.pragma("max_page_count", 1 << 20).await;
    assert_eq!(
        store
            .store
            .journal()
            .append(big(1 << 20))
            .await
            .unwrap()
            .last_seq,
        2
    );
    assert_eq!(acme.verify_chain(session).await.unwrap().events, 2);
    let too_big = store.store.journal().append(big(65 << 20)).await;
    assert!(
        matches!(too_big, Err(StoreError::Invalid { .. })),
        "{too_big:?}"
    );
    store.store.close().await;
}

#[tokio::test]
async fn a_read_only_database_fails_clearly_and_the_journal_recovers() {
    on_both(async |store| {
        let (_, acme) = tenant(store, "acme").await;
        let session = SessionId::new();
        store
            .store
            .journal()
            .append(opening(&acme, session))
            .await
            .unwrap();
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

#[tokio::test]
async fn retention_removes_whole_closed_sessions() {
    on_both(async |store| {
        let (_, acme) = tenant(store, "acme").await;
        let (_, globex) = tenant(store, "globex").await;
        let (journal, operator) = (store.store.journal(), store.store.operator());
        let open = SessionId::new();
        journal.append(opening(&acme, open)).await.unwrap();
        let mut closed = Vec::new();
        for n in 0..230 {
            let rows = if n % 2 == 0 { &acme } else { &globex };
            let state = [
                SessionState::Finished,
                SessionState::Failed,
                SessionState::Interrupted,
            ][n % 3];
            let session = SessionId::new();
            journal
                .append(opening(rows, session).event(event("end")).state(state))
                .await
                .unwrap();
            closed.push((rows, session));
        }
        let suspended = SessionId::new();
        journal
            .append(opening(&acme, suspended).state(SessionState::Suspended))
            .await
            .unwrap();

        assert_eq!(
            operator
                .sessions_in_state(SessionState::Open, 10)
                .await
                .unwrap()
                .len(),
            1
        );
        assert_eq!(
            operator
                .prune_sessions(crate::now_ms() - 60_000)
                .await
                .unwrap(),
            0
        );
        assert_eq!(
            operator
                .prune_sessions(crate::now_ms() + 60_000)
                .await
                .unwrap(),
            230
        );
        for (rows, session) in closed {
            assert_eq!(rows.session(session).await.unwrap(), None);
            assert_eq!(rows.events(session, 0, 10).await.unwrap(), []);
            assert!(matches!(
                rows.verify_chain(session).await,
                Err(StoreError::NotFound { .. })
            ));
        }
        assert_eq!(acme.verify_chain(open).await.unwrap().events, 1);
        assert_eq!(acme.verify_chain(suspended).await.unwrap().events, 1);
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

/// Group commit is what makes the rate: a thousand appends that wait together must not need a thousand transactions.
#[tokio::test]
async fn appends_that_wait_together_share_commits() {
    const WAL_FRAMES: Statement = Statement {
        name: "WAL_FRAMES",
        sql: "PRAGMA wal_checkpoint(PASSIVE)",
    };
    let store = TestStore::sqlite().await.unwrap();
    let tenant = TenantId::new();
    let rows = store.store.tenant(tenant);
    let appends = (0..1000).map(|_| {
        store
            .store
            .journal()
            .append(opening(&rows, SessionId::new()))
    });
    let outcomes = futures::future::join_all(appends).await;
    assert!(outcomes.iter().all(Result::is_ok));
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
