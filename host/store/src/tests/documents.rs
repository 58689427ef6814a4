//! Collections and documents.

use super::{on_both, tenant};
use crate::{Chunk, CollectionStats, Digest, Document, StoreError};
use serde_json::json;

fn document(id: &str, passages: &[&str]) -> Document {
    let chunk = |text: &&str| Chunk {
        anchor: format!("{text}-1"),
        headings: vec!["Top".into(), "Näher".into()],
        text: (*text).into(),
    };
    let attributes = json!({ "source": "manual", "lang": "de" })
        .as_object()
        .unwrap()
        .clone();
    Document {
        id: id.into(),
        title: format!("Title of {id}"),
        content_hash: id.as_bytes().iter().copied().take(32).collect(),
        attributes,
        chunks: passages.iter().map(chunk).collect(),
    }
}

#[tokio::test]
async fn documents_are_replaced_paged_and_counted() {
    on_both(async |store| {
        let (_, acme) = tenant(store, "acme").await;
        let handbook = "handbook".parse().unwrap();
        assert!(matches!(
            acme.put_documents(&handbook, &[]).await,
            Err(StoreError::NotFound { what: "collection" })
        ));
        let made = acme
            .ensure_collection(&handbook, Some(Digest([1; 32])))
            .await
            .unwrap();
        assert_eq!(acme.ensure_collection(&handbook, None).await.unwrap(), made);
        assert_eq!((made.revision, made.retrieval), (0, Some(Digest([1; 32]))));

        // Ids in an order that collations disagree about.
        let ids = [
            "B.md",
            "a/1.md",
            "a/2.md",
            "a0.md",
            "b.md",
            "Ä.md",
            "\u{1f600}.md",
        ];
        let documents: Vec<_> = ids
            .iter()
            .map(|id| document(id, &["one", "two", "three"]))
            .collect();
        assert_eq!(acme.put_documents(&handbook, &documents).await.unwrap(), 1);
        let shorter = document("a/2.md", &["only"]);
        assert_eq!(
            acme.put_documents(&handbook, std::slice::from_ref(&shorter))
                .await
                .unwrap(),
            2
        );

        let mut read = Vec::new();
        loop {
            let after = read.last().map(|document: &Document| document.id.clone());
            let page = acme
                .documents(&handbook, after.as_deref(), 3)
                .await
                .unwrap();
            if page.is_empty() {
                break;
            }
            read.extend(page);
        }
        let mut expected = documents.clone();
        expected[2] = shorter;
        assert_eq!(read, expected);
        assert_eq!(
            acme.stats(&handbook).await.unwrap(),
            CollectionStats {
                documents: 7,
                chunks: 19
            }
        );

        let asked = ["b.md".to_owned(), "none".to_owned(), "B.md".to_owned()];
        let hashes = acme.content_hashes(&handbook, &asked).await.unwrap();
        assert_eq!(
            hashes,
            [Some(b"b.md".to_vec()), None, Some(b"B.md".to_vec())]
        );
        assert_eq!(acme.collections().await.unwrap()[0].revision, 2);
    })
    .await;
}

#[tokio::test]
async fn a_prefix_is_text_and_not_a_pattern() {
    on_both(async |store| {
        let (_, acme) = tenant(store, "acme").await;
        let (_, globex) = tenant(store, "globex").await;
        let name = "c".parse().unwrap();
        for rows in [&acme, &globex] {
            rows.ensure_collection(&name, None).await.unwrap();
            let ids = [
                "a%b",
                "a_b",
                "aXb",
                "A",
                "\u{10ffff}x",
                "'; DROP TABLE documents; --",
            ];
            rows.put_documents(&name, &ids.map(|id| document(id, &["p"])))
                .await
                .unwrap();
        }
        for (prefix, gone) in [
            ("a%", 1),
            ("a_", 1),
            ("a%", 0),
            ("';", 1),
            ("\u{10ffff}", 1),
            ("", 2),
        ] {
            assert_eq!(
                acme.delete_documents(&name, prefix)
                    .await
                    .unwrap()
                    .documents,
                gone,
                "{prefix}"
            );
        }
        assert_eq!(acme.stats(&name).await.unwrap(), CollectionStats::default());
        assert_eq!(
            globex.stats(&name).await.unwrap(),
            CollectionStats {
                documents: 6,
                chunks: 6
            }
        );
        assert!(globex.remove_collection(&name).await.unwrap());
        assert!(globex.documents(&name, None, 10).await.unwrap().is_empty());
    })
    .await;
}

#[tokio::test]
async fn many_documents_are_deleted_some_at_a_time() {
    on_both(async |store| {
        let (_, acme) = tenant(store, "acme").await;
        let name = "c".parse().unwrap();
        acme.ensure_collection(&name, None).await.unwrap();
        let documents: Vec<_> = (0..450)
            .map(|n| document(&format!("{n:03}"), &["p"]))
            .collect();
        assert_eq!(acme.put_documents(&name, &documents).await.unwrap(), 1);
        let deleted = acme.delete_documents(&name, "").await.unwrap();
        assert_eq!(
            (deleted.documents, deleted.revision),
            (450, 4),
            "each time a new revision"
        );
        let none = acme.delete_documents(&name, "").await.unwrap();
        assert_eq!((none.documents, none.revision), (0, 4));
        let collection = acme.collection(&name).await.unwrap().unwrap();
        assert_eq!(collection.revision, 4, "nothing deleted, nothing moved");
        acme.put_documents(&name, &documents).await.unwrap();
        assert!(acme.remove_collection(&name).await.unwrap());
        assert!(!acme.remove_collection(&name).await.unwrap());
        assert_eq!(acme.stats(&name).await.unwrap(), CollectionStats::default());
    })
    .await;
}

#[tokio::test]
async fn a_bad_document_leaves_everything_as_it_was() {
    on_both(async |store| {
        let (_, acme) = tenant(store, "acme").await;
        let name = "c".parse().unwrap();
        acme.ensure_collection(&name, None).await.unwrap();
        let bad = [
            document("", &["p"]),
            document(&"x".repeat(1025), &["p"]),
            document("nul", &["a\0b"]),
            Document {
                content_hash: vec![0; 65],
                ..document("hash", &[])
            },
        ];
        for bad in bad {
            let outcome = acme
                .put_documents(&name, &[document("good", &["p"]), bad])
                .await;
            assert!(
                matches!(outcome, Err(StoreError::Invalid { .. })),
                "{outcome:?}"
            );
        }
        assert_eq!(acme.stats(&name).await.unwrap(), CollectionStats::default());
        assert_eq!(acme.collection(&name).await.unwrap().unwrap().revision, 0);
        // The longest id, of characters that need most bytes, fits the index of both databases.
        let longest = "\u{1f600}".repeat(256);
        acme.put_documents(&name, &[document(&longest, &["p"])])
            .await
            .unwrap();
        assert_eq!(
            acme.delete_documents(&name, &longest)
                .await
                .unwrap()
                .documents,
            1
        );
    })
    .await;
}
