//! Rows that somebody else wrote, and values that somebody hostile chose.

use super::{event, on_both, opening, tenant};
use crate::{ApiKey, Append, Chunk, Digest, Document, Header, Issuer, NewEvent, StoreError};
use ambit_types::SessionId;
use serde_json::{Map, json};

#[tokio::test]
async fn unreadable_rows_are_typed_errors() {
    on_both(async |store| {
        let (_, acme) = tenant(store, "acme").await;
        let agent = "assistant".parse().unwrap();
        acme.apply_agent(&agent, &json!({})).await.unwrap();
        let issuer = Issuer {
            issuer: "i".into(),
            audiences: vec![],
            algorithms: vec![],
            types: vec![],
            leeway: 0,
            scopes: vec![],
            jwks_uri: None,
            jwks: Some(json!({})),
        };
        acme.put_issuer(&issuer).await.unwrap();
        let key = ApiKey {
            id: "k".into(),
            name: String::new(),
            principal: "p".into(),
            secret_hash: Digest::default(),
            scopes: vec![],
            last_four: String::new(),
            created_ms: 0,
            expires_ms: None,
            revoked_ms: None,
            permissions: None,
        };
        acme.create_key(&key).await.unwrap();
        let collection = "c".parse().unwrap();
        acme.ensure_collection(&collection, None).await.unwrap();
        let chunk = Chunk {
            anchor: String::new(),
            headings: vec![],
            text: String::new(),
        };
        let document = Document {
            id: "d".into(),
            title: String::new(),
            content_hash: vec![],
            attributes: Map::new(),
            chunks: vec![chunk],
        };
        acme.put_documents(&collection, &[document]).await.unwrap();
        let session = SessionId::new();
        store
            .store
            .journal()
            .append(opening(&acme, session))
            .await
            .unwrap();

        let corrupt = |outcome: Result<(), StoreError>, sql| {
            assert!(
                matches!(outcome, Err(StoreError::Corrupt { .. })),
                "{}: {sql}: {outcome:?}",
                store.database
            );
            let seen = ambit_types::Error::from(outcome.unwrap_err());
            assert_eq!(seen.status(), 500);
            assert!(!seen.message().contains("column"), "{seen}");
        };
        for sql in [
            "UPDATE agents SET definition = '{'",
            "UPDATE agents SET definition = '{}', name = '../x'",
        ] {
            store.tamper(sql).await.unwrap();
            corrupt(acme.agents().await.map(drop), sql);
        }
        for sql in [
            "UPDATE issuers SET leeway_s = -1",
            "UPDATE issuers SET leeway_s = 4294967296",
            "UPDATE issuers SET leeway_s = 0, audiences = '{\"a\":1}'",
            "UPDATE issuers SET audiences = '[]', jwks = 'nonsense'",
        ] {
            store.tamper(sql).await.unwrap();
            corrupt(acme.issuers().await.map(drop), sql);
        }
        for sql in [
            "UPDATE api_keys SET scopes = '[1]'",
            "UPDATE api_keys SET scopes = '[]', secret_hash = substr(secret_hash, 1, 31)",
        ] {
            store.tamper(sql).await.unwrap();
            corrupt(acme.keys().await.map(drop), sql);
        }
        for sql in [
            "UPDATE chunks SET headings = '[[]]'",
            "UPDATE chunks SET headings = '[]'; UPDATE documents SET attributes = '[]'",
        ] {
            store.tamper(sql).await.unwrap();
            corrupt(acme.documents(&collection, None, 10).await.map(drop), sql);
        }
        store
            .tamper("UPDATE sessions SET state = 'asleep'")
            .await
            .unwrap();
        corrupt(acme.session(session).await.map(drop), "session state");
        store
            .tamper("UPDATE sessions SET state = 'open'; UPDATE events SET header = '7'")
            .await
            .unwrap();
        corrupt(acme.events(session, 0, 10).await.map(drop), "event header");
        store
            .tamper("UPDATE events SET content_hash = body")
            .await
            .unwrap();
        corrupt(acme.verify_chain(session).await.map(drop), "hash length");
        store
            .tamper("UPDATE tenants SET slug = 'No Slug'")
            .await
            .unwrap();
        corrupt(store.store.operator().tenants().await.map(drop), "slug");
        store
            .tamper("UPDATE tenant_epochs SET kind = 'weather' WHERE kind = 'keys'")
            .await
            .unwrap();
        corrupt(acme.epochs().await.map(drop), "epoch kind");
    })
    .await;
}

#[tokio::test]
async fn values_are_values_and_never_sql() {
    on_both(async |store| {
        let (_, acme) = tenant(store, "acme").await;
        for text in [
            "'; DROP TABLE agents; --",
            "$1",
            "?",
            "\\",
            "\u{202e}\u{feff}",
            "%_",
            "\u{10ffff}",
        ] {
            let agent = "assistant".parse().unwrap();
            let definition = json!({ "instructions": text });
            assert_eq!(
                acme.apply_agent(&agent, &definition)
                    .await
                    .unwrap()
                    .definition,
                definition
            );
            assert_eq!(acme.key(text).await.unwrap(), None);
            assert!(!acme.unbind_slot(text).await.unwrap());
        }
        for outcome in [
            acme.key("a\0").await.map(drop),
            acme.revoke_key("\0", 0).await.map(drop),
            acme.remove_issuer("\0").await.map(drop),
        ] {
            assert!(
                matches!(outcome, Err(StoreError::Invalid { .. })),
                "{outcome:?}"
            );
        }
    })
    .await;
}

/// The largest whole number that every reader of JSON takes as it is (RFC 8785 §3.2.2.3).
const EXACT: i64 = (1 << 53) - 1;

#[tokio::test]
async fn extreme_values_come_back() {
    on_both(async |store| {
        let (_, acme) = tenant(store, "acme").await;
        let session = SessionId::new();
        store
            .store
            .journal()
            .append(opening(&acme, session))
            .await
            .unwrap();
        let facts = json!({ "text": "\u{1f600}".repeat(100_000), "number": 1e300, "min": -EXACT })
            .as_object()
            .unwrap()
            .clone();
        let huge = NewEvent {
            kind: "é".repeat(32).into(),
            time_ms: i64::MAX,
            header: Header {
                usage: None,
                cost: None,
                facts,
            },
            body: vec![0; 8 << 20],
        };
        let append = Append::new(acme.id(), session).events([huge.clone(), event("x")]);
        store.store.journal().append(append).await.unwrap();
        let read = &acme.events(session, 1, 1).await.unwrap()[0];
        assert_eq!(
            (&read.header, read.body.as_ref(), read.time_ms),
            (&huge.header, Some(&huge.body), i64::MAX)
        );
        assert_eq!(acme.verify_chain(session).await.unwrap().events, 3);
        // Beyond it the canonical form would be another number.
        for wrong in [
            json!({ "usage": { "input_tokens": 0, "output_tokens": 1_u64 << 53 } }),
            json!({ "facts": { "deep": [{ "n": -EXACT - 1 }] } }),
        ] {
            let mut far = event("x");
            far.header = serde_json::from_value(wrong.clone()).unwrap();
            let append = Append::new(acme.id(), session).event(far);
            let outcome = store.store.journal().append(append).await;
            assert!(
                matches!(outcome, Err(StoreError::Invalid { what: "header", .. })),
                "{wrong}: {outcome:?}"
            );
        }
        let early = NewEvent {
            time_ms: -1,
            ..event("x")
        };
        let outcome = store
            .store
            .journal()
            .append(Append::new(acme.id(), session).event(early))
            .await;
        assert!(
            matches!(outcome, Err(StoreError::Invalid { .. })),
            "{outcome:?}"
        );

        let text = "long ".repeat(1 << 20);
        let collection = "c".parse().unwrap();
        acme.ensure_collection(&collection, None).await.unwrap();
        let chunk = Chunk {
            anchor: "a".into(),
            headings: vec!["h".into(); 10_000],
            text,
        };
        let document = Document {
            id: "d".into(),
            title: "t".into(),
            content_hash: vec![],
            attributes: Map::new(),
            chunks: vec![chunk],
        };
        acme.put_documents(&collection, std::slice::from_ref(&document))
            .await
            .unwrap();
        assert_eq!(
            acme.documents(&collection, None, u32::MAX).await.unwrap(),
            [document]
        );
    })
    .await;
}
