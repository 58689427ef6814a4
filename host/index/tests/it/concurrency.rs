//! Searches and changes at once, and more collections than may be open.

use crate::support::{Fixture, Store, entry, name, put, request};
use ambit_index::{Index, IndexConfig};
use ambit_types::TenantId;
use std::time::Duration;

#[tokio::test]
async fn more_collections_than_may_be_open_all_answer() {
    let dir = tempfile::tempdir().unwrap();
    let config = IndexConfig {
        open_collections: 2,
        writer_idle: Duration::ZERO,
    };
    let index = Index::open(dir.path(), config).unwrap();
    let all: Vec<_> = (0..6)
        .map(|n| (index.collection(TenantId::new(), &name("c")), Store::new(n)))
        .collect();
    for round in 0..3 {
        for (place, (collection, store)) in all.iter().enumerate() {
            put(
                collection,
                store,
                vec![entry(&format!("{place}-{round}"), "alpha")],
            )
            .await;
        }
    }
    for (collection, store) in &all {
        assert_eq!(
            collection
                .search(store, request("alpha"))
                .await
                .unwrap()
                .len(),
            3
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn searches_and_changes_at_once_stay_consistent() {
    let fixture = Fixture::new();
    let searches = (0..4).map(|_| {
        let (collection, store) = (fixture.collection(), fixture.store.clone());
        tokio::spawn(async move {
            for _ in 0..50 {
                // Each put replaces both documents: a search sees two or, at the very start, none.
                let found = collection.search(&store, request("alpha")).await.unwrap();
                assert!([0, 2].contains(&found.len()), "{}", found.len());
                tokio::task::yield_now().await;
            }
        })
    });
    let searches: Vec<_> = searches.collect();
    for round in 0..20 {
        let text = format!("alpha round{round}");
        fixture
            .put(vec![entry("a", &text), entry("b", &text)])
            .await;
        assert_eq!(fixture.ids(&format!("round{round}")).await, "a b");
    }
    for search in searches {
        search.await.unwrap();
    }
}
