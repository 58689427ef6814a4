//! An index that is behind, of another collection, or damaged, shows the store again.

use crate::support::{Fixture, Store, entry, request, with};
use ambit_index::{Hit, IndexError, Value};
use std::{
    path::{Path, PathBuf},
    time::Duration,
};

#[tokio::test]
async fn an_index_that_is_behind_catches_up_once() {
    let mut fixture = Fixture::new();
    fixture
        .put(vec![
            entry("a", "alpha"),
            entry("b", "alpha"),
            entry("c", "beta"),
        ])
        .await;
    // The process died between the store's commit and the index's.
    fixture
        .store
        .change(|entries| drop(entries.insert("d".to_owned(), entry("d", "alpha"))));
    fixture.reopen();
    assert_eq!(fixture.ids("alpha").await, "a b d");
    assert_eq!(fixture.ids("alpha").await, "a b d");
    assert_eq!(fixture.store.rebuilds(), 1);
    // A change that does not follow on the index's revision is not taken.
    fixture.store.change(|entries| drop(entries.remove("a")));
    let writer = fixture.collection().writer().await;
    let to = fixture.store.change(|entries| drop(entries.remove("b")));
    assert!(matches!(
        writer.delete_prefix(to, "b").await,
        Err(IndexError::Behind)
    ));
    assert_eq!(fixture.ids("alpha").await, "d");
    // And a restart needs no rebuild.
    fixture.reopen();
    assert_eq!(fixture.ids("alpha").await, "d");
    assert_eq!(fixture.store.rebuilds(), 2);
}

#[tokio::test]
async fn a_collection_made_again_shows_nothing_of_the_old_one() {
    let mut fixture = Fixture::new();
    fixture.put(vec![entry("old", "alpha")]).await;
    fixture.store = Store::new(8);
    assert_eq!(fixture.ids("alpha").await, "");
    fixture.put(vec![entry("new", "alpha")]).await;
    fixture.store = Store::new(9);
    fixture.put(vec![entry("newer", "alpha")]).await;
    assert_eq!(fixture.ids("alpha").await, "newer");
    fixture.collection().remove().await.unwrap();
    assert!(!fixture.path().exists());
    fixture.collection().remove().await.unwrap();
    assert_eq!(
        fixture.ids("alpha").await,
        "newer",
        "the store still has it"
    );
}

/// The files of the newest generation.
fn files(dir: &Path) -> Vec<PathBuf> {
    let generation = |dir: &PathBuf| dir.file_name()?.to_str()?.parse::<u64>().ok();
    let dirs = std::fs::read_dir(dir)
        .unwrap()
        .map(|dir| dir.unwrap().path());
    let dir = dirs.max_by_key(generation).unwrap();
    let mut files: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|file| file.unwrap().path())
        .collect();
    files.retain(|file| file.is_file());
    files.sort();
    files
}

#[tokio::test]
async fn a_damaged_index_is_rebuilt_whichever_file_it_is() {
    let mut fixture = Fixture::new();
    fixture
        .put(
            (0..50)
                .map(|n| with(&n.to_string(), &[("n", Value::Number(f64::from(n)))]))
                .collect(),
        )
        .await;
    let whole = fixture.search("alpha title", None).await;
    let count = files(&fixture.path()).len();
    assert!(count >= 5);
    for place in 0..count {
        for damage in ["flip", "cut", "empty", "garbage", "remove"] {
            fixture.reopen();
            let files = files(&fixture.path());
            let Some(file) = files.get(place) else {
                continue;
            };
            let mut bytes = std::fs::read(file).unwrap();
            match damage {
                "flip" => {
                    let middle = bytes.len() / 2;
                    if let Some(byte) = bytes.get_mut(middle) {
                        *byte ^= 0x55;
                    }
                }
                "cut" => bytes.truncate(bytes.len() / 2),
                "empty" => bytes.clear(),
                _ => bytes = vec![0xff; 300],
            }
            if damage == "remove" {
                std::fs::remove_file(file).unwrap();
            } else {
                // Another file in its place, as a broken disk or a careless copy would leave it: the old one may still be mapped.
                std::fs::remove_file(file).unwrap();
                std::fs::write(file, bytes).unwrap();
            }
            let mut found = fixture.search("alpha title", None).await;
            // Equal scores may change places in an index that was built anew.
            let key = |hit: &Hit| (hit.score.to_bits(), hit.document.clone());
            let mut expected = whole.clone();
            found.sort_by_key(key);
            expected.sort_by_key(key);
            assert_eq!(found, expected, "{damage} {}", file.display());
        }
    }
    std::fs::remove_dir_all(fixture.path()).unwrap();
    std::fs::write(fixture.path(), "not a folder").unwrap();
    fixture.reopen();
    assert!(
        fixture
            .collection()
            .search(&fixture.store, request("alpha"))
            .await
            .is_err()
    );
}

#[tokio::test]
async fn a_rebuild_outlives_the_caller_that_gave_up() {
    let fixture = Fixture::new();
    fixture.store.change(|entries| {
        entries.extend((0..20).map(|n| (n.to_string(), entry(&n.to_string(), "alpha"))))
    });
    let collection = fixture.collection();
    let given_up = tokio::time::timeout(
        Duration::ZERO,
        collection.search(&fixture.store, request("alpha")),
    )
    .await;
    assert!(given_up.is_err());
    assert_eq!(fixture.search("alpha", None).await.len(), 20);
    assert_eq!(fixture.store.rebuilds(), 1);
}
