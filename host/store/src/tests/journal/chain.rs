//! What is written comes back exactly, and no change of it goes unseen.

use crate::{
    Append, Digest, Header, NewEvent, SessionState, StoreError, Usage,
    tests::{event, on_both, opening, tenant},
};
use ambit_types::SessionId;
use serde_json::json;

#[tokio::test]
async fn events_come_back_exactly_and_chain() {
    on_both(async |store| {
        let (_, acme) = tenant(store, "acme").await;
        let (journal, session) = (store.store.journal(), SessionId::new());
        let header = Header {
            usage: Some(Usage {
                input_tokens: 7,
                output_tokens: (1 << 53) - 1,
                ..Usage::default()
            }),
            cost: None,
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
            (
                &events[1].header,
                events[1].body.as_ref(),
                events[1].time_ms
            ),
            (&header, Some(&body), 5)
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
        let stored = &acme.stored(session, 0, 1).await.unwrap()[0].body;
        let mut bytes = b"ambit-event-1\0\0\0\x03\0\0\0\x24".to_vec();
        bytes.extend(acme.id().to_string().bytes());
        bytes.extend([0, 0, 0, 36]);
        bytes.extend(session.to_string().bytes());
        bytes.extend(1_i64.to_be_bytes());
        bytes.extend(b"\0\0\0\x07request");
        bytes.extend(time.to_be_bytes());
        bytes.extend(b"\0\0\0\x02{}");
        bytes.extend([0; 32]);
        // Nonce, as many bytes as were said, tag.
        assert_eq!(stored.len(), 12 + 7 + 16);
        bytes.extend(35_u64.to_be_bytes());
        bytes.extend(Sha256::digest(stored));
        assert_eq!(head.0, <[u8; 32]>::from(Sha256::digest(bytes)));
    })
    .await;
}

/// What an attacker with the database in his hands does; on PostgreSQL as the server's superuser, because no login of ours may update events.
#[tokio::test]
async fn every_tampering_is_found() {
    let tamperings = [
        ("UPDATE events SET kind = 'allowed' WHERE seq = 2", 2),
        ("UPDATE events SET time_ms = time_ms + 1 WHERE seq = 2", 2),
        ("UPDATE events SET schema_version = 1 WHERE seq = 2", 2),
        (
            "UPDATE events SET header = '{\"cost_nanos\":0}' WHERE seq = 3",
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
            store.tamper(sql).await.unwrap();
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
