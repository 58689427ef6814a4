//! Who works on a session: taken over, fenced off, asked for twice, wanted ended.

use crate::{
    Append, Requested, SessionState, Store, StoreError, digest_of,
    testing::TestStore,
    tests::{event, on_both, opening, tenant},
};
use ambit_types::SessionId;

/// Another process on the same database.
async fn another(store: &TestStore) -> Store {
    Store::open(&store.config).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_was_taken_for_dead_writes_nothing_more() {
    on_both(async |store| {
        let (acme, rows) = tenant(store, "acme").await;
        let (first, second) = (&store.store, another(store).await);
        let session = SessionId::new();
        let open = opening(&rows, session).durable();
        let opened = first.journal().append(open).await.unwrap();
        let operator = second.operator();
        let me = Some(first.node().to_owned());
        assert_eq!(operator.nodes_at_work().await.unwrap(), [me]);
        let known = operator
            .sessions_of_node(Some(first.node()), None, 10)
            .await
            .unwrap();
        assert!(known.len() == 1 && known[0].durable && known[0].id == session);

        // Nobody but who works on it, until it is claimed; of two who claim it, one has it.
        let more = || Append::new(acme.id, session).event(event("resume"));
        let refused = second.journal().append(more()).await.unwrap_err();
        assert!(matches!(refused, StoreError::Conflict { .. }), "{refused}");
        let theirs = second.tenant(acme.id);
        let claim = async |from| theirs.claim(session, from, second.node()).await.unwrap();
        assert!(!claim(None).await && !claim(Some("nod_other")).await);
        assert!(claim(Some(first.node())).await && !claim(Some(first.node())).await);
        let resumed = second.journal().append(more()).await.unwrap();
        assert_eq!(resumed.first_seq, opened.last_seq + 1);
        // First by the place of its next event, which it remembers, then by the row, which it reads again.
        for _ in 0..3 {
            let refused = first.journal().append(more()).await.unwrap_err();
            assert!(matches!(refused, StoreError::Conflict { .. }), "{refused}");
        }
        // Nobody works on one that waits: whoever comes first goes on with it.
        let wait = Append::new(acme.id, session).event(event("suspend"));
        let wait = wait.state_because(SessionState::Suspended, "message");
        let waits = second.journal().append(wait).await.unwrap();
        let row = rows.session(session).await.unwrap().unwrap();
        assert_eq!((row.node, row.reason.as_deref()), (None, Some("message")));
        assert!(row.durable && row.head_seq == waits.last_seq);
        let go_on = || more().after(waits.last_seq).state(SessionState::Open);
        first.journal().append(go_on()).await.unwrap();
        let refused = second.journal().append(go_on()).await.unwrap_err();
        assert!(matches!(refused, StoreError::Conflict { .. }), "{refused}");
        let row = rows.session(session).await.unwrap().unwrap();
        assert_eq!(
            (row.node.as_deref(), row.reason),
            (Some(first.node()), None)
        );
        assert!(rows.verify_chain(session).await.is_ok());
        second.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_who_go_on_at_once_one_does() {
    on_both(async |store| {
        let (acme, rows) = tenant(store, "acme").await;
        let second = another(store).await;
        for _ in 0..20 {
            let session = SessionId::new();
            let wait = opening(&rows, session).durable();
            let wait = wait.state_because(SessionState::Suspended, "message");
            let waits = store.store.journal().append(wait).await.unwrap();
            let go_on = async |store: &Store| {
                let append = Append::new(acme.id, session).after(waits.last_seq);
                let append = append.event(event("request")).state(SessionState::Open);
                store.journal().append(append).await
            };
            let (one, other) = tokio::join!(go_on(&store.store), go_on(&second));
            let (won, lost) = match (one, other) {
                (Ok(won), Err(lost)) | (Err(lost), Ok(won)) => (won, lost),
                other => panic!("{other:?}"),
            };
            assert_eq!(won.last_seq, waits.last_seq + 1);
            assert!(matches!(lost, StoreError::Conflict { .. }), "{lost}");
            assert_eq!(
                rows.verify_chain(session).await.unwrap().events,
                won.last_seq
            );
        }
        second.close().await;
    })
    .await;
}

/// Who was late once is in time the next time: what he remembers of the session is not held against him.
#[tokio::test(flavor = "multi_thread")]
async fn who_was_late_once_may_go_on_later() {
    on_both(async |store| {
        let (acme, rows) = tenant(store, "acme").await;
        let (first, second) = (&store.store, another(store).await);
        let session = SessionId::new();
        let rest = |append: Append| append.state_because(SessionState::Suspended, "message");
        let open = rest(opening(&rows, session).durable());
        let mut last = first.journal().append(open).await.unwrap().last_seq;
        for _ in 0..3 {
            let turn = |after| {
                rest(
                    Append::new(acme.id, session)
                        .after(after)
                        .event(event("request")),
                )
            };
            let late = second.journal().append(turn(last - 1)).await.unwrap_err();
            assert!(matches!(late, StoreError::Conflict { .. }), "{late}");
            last = first.journal().append(turn(last)).await.unwrap().last_seq;
            last = second.journal().append(turn(last)).await.unwrap().last_seq;
        }
        assert!(rows.verify_chain(session).await.is_ok());
        second.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_about_the_session_it_was_about_first() {
    on_both(async |store| {
        let (_, acme) = tenant(store, "acme").await;
        let (_, globex) = tenant(store, "globex").await;
        let wanted = || Requested {
            session: SessionId::new(),
            digest: digest_of(b"one"),
        };
        let ask = async |rows: &crate::TenantStore, who: &str| {
            rows.request_session(who, "key-1", wanted()).await.unwrap()
        };
        let asked = futures::future::join_all((0..8).map(|_| ask(&acme, "alice"))).await;
        assert!(asked.iter().all(|one| *one == asked[0]), "{asked:?}");
        assert_ne!(ask(&acme, "bob").await, asked[0]);
        assert_ne!(ask(&globex, "alice").await, asked[0]);
        // Kept as long as sessions are.
        store
            .store
            .operator()
            .prune_sessions(i64::MAX)
            .await
            .unwrap();
        assert_ne!(ask(&acme, "alice").await, asked[0]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_works_on_a_session_is_told_to_end_it() {
    on_both(async |store| {
        let (acme, rows) = tenant(store, "acme").await;
        let session = SessionId::new();
        let open = opening(&rows, session).durable();
        store.store.journal().append(open).await.unwrap();
        let (operator, node) = (store.store.operator(), store.store.node());
        assert_eq!(operator.sessions_to_cancel(node).await.unwrap(), []);
        assert!(rows.ask_to_cancel(session).await.unwrap());
        assert_eq!(operator.sessions_to_cancel("nod_other").await.unwrap(), []);
        let told = operator.sessions_to_cancel(node).await.unwrap();
        assert_eq!(told, [(acme.id, session)]);
        let end = Append::new(acme.id, session).event(event("end"));
        let end = end.state(SessionState::Cancelled);
        store.store.journal().append(end).await.unwrap();
        assert!(!rows.ask_to_cancel(session).await.unwrap());
        // What is over stays so, also for who knows its last event.
        let reopen = Append::new(acme.id, session).event(event("request"));
        let reopen = reopen.after(2).state(SessionState::Open);
        let refused = store.store.journal().append(reopen).await.unwrap_err();
        assert!(matches!(refused, StoreError::Conflict { .. }), "{refused}");
        assert_eq!(operator.sessions_to_cancel(node).await.unwrap(), []);

        operator.beat(node, 1).await.unwrap();
        operator.beat(node, 2).await.unwrap();
        assert_eq!(operator.nodes().await.unwrap(), [(node.to_owned(), 2)]);
        operator.forget_node(node).await.unwrap();
        assert_eq!(operator.nodes().await.unwrap(), []);
        let mine = rows.sessions_of("alice", None, 10).await.unwrap();
        assert_eq!(mine.len(), 1);
        assert_eq!(rows.sessions_of("bob", None, 10).await.unwrap(), []);
    })
    .await;
}
