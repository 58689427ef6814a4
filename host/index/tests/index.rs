//! The index as its users see it: a store that is a map, the real tantivy, real files.
#![allow(
    clippy::disallowed_methods,
    reason = "each test waits for the tasks it starts"
)]
#![allow(
    clippy::float_cmp,
    reason = "scores of equal indexes are equal bit for bit"
)]

use ambit_index::{
    Attribute, Batch, Chunk, Collection, Entry, Filter, Hit, Index, IndexConfig, IndexError,
    Request, Revision, Source, Value, Weights, limits,
};
use ambit_types::{CollectionName, TenantId};
use proptest::prelude::*;
use std::{
    collections::BTreeMap,
    convert::Infallible,
    ops::Bound,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

#[derive(Clone)]
struct Store(Arc<Inner>);

struct Inner {
    incarnation: i64,
    state: Mutex<(i64, BTreeMap<String, Entry>)>,
    /// First pages read: how often an index was rebuilt.
    rebuilds: AtomicUsize,
}

impl Store {
    fn new(incarnation: i64) -> Self {
        Self(Arc::new(Inner {
            incarnation,
            state: Mutex::default(),
            rebuilds: AtomicUsize::new(0),
        }))
    }

    fn change(&self, change: impl FnOnce(&mut BTreeMap<String, Entry>)) -> Revision {
        let mut state = self.0.state.lock().unwrap();
        change(&mut state.1);
        state.0 += 1;
        Revision {
            incarnation: self.0.incarnation,
            number: state.0,
        }
    }

    fn rebuilds(&self) -> usize {
        self.0.rebuilds.load(Ordering::SeqCst)
    }
}

impl Source for Store {
    type Error = Infallible;

    async fn revision(&self) -> Result<Revision, Infallible> {
        Ok(Revision {
            incarnation: self.0.incarnation,
            number: self.0.state.lock().unwrap().0,
        })
    }

    async fn page(&self, after: Option<&str>) -> Result<Vec<Entry>, Infallible> {
        if after.is_none() {
            self.0.rebuilds.fetch_add(1, Ordering::SeqCst);
        }
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let state = self.0.state.lock().unwrap();
        Ok(state
            .1
            .range::<str, _>((from, Bound::Unbounded))
            .take(2)
            .map(|(_, entry)| entry.clone())
            .collect())
    }
}

struct Fixture {
    dir: tempfile::TempDir,
    index: Index,
    tenant: TenantId,
    store: Store,
}

fn name(name: &str) -> CollectionName {
    name.parse().unwrap()
}

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let index = Index::open(dir.path(), IndexConfig::default()).unwrap();
        Self {
            dir,
            index,
            tenant: TenantId::new(),
            store: Store::new(7),
        }
    }

    /// What a restart of the process leaves.
    fn reopen(&mut self) {
        self.index = Index::open(self.dir.path(), IndexConfig::default()).unwrap();
    }

    fn collection(&self) -> Collection {
        self.index.collection(self.tenant, &name("handbook"))
    }

    fn path(&self) -> PathBuf {
        self.dir
            .path()
            .join(self.tenant.to_string())
            .join("handbook")
    }

    async fn put(&self, entries: Vec<Entry>) {
        put(&self.collection(), &self.store, entries).await;
    }

    async fn delete(&self, prefix: &str) {
        let writer = self.collection().writer().await;
        let to = self
            .store
            .change(|entries| entries.retain(|id, _| !id.starts_with(prefix)));
        writer.delete_prefix(to, prefix).await.unwrap();
    }

    async fn ids(&self, text: &str) -> String {
        let mut ids: Vec<_> = self
            .search(text, None)
            .await
            .into_iter()
            .map(|hit| hit.document)
            .collect();
        ids.sort();
        ids.join(" ")
    }

    async fn search(&self, text: &str, filter: Option<&str>) -> Vec<Hit> {
        let filter = filter.map(|filter| Filter::parse(filter).unwrap());
        self.collection()
            .search(
                &self.store,
                Request {
                    filter,
                    ..request(text)
                },
            )
            .await
            .unwrap()
    }
}

async fn put(collection: &Collection, store: &Store, entries: Vec<Entry>) {
    let batch = Batch::new(entries).unwrap();
    let writer = collection.writer().await;
    let to = store.change(|stored| {
        stored.extend(
            batch
                .entries()
                .iter()
                .map(|entry| (entry.id.clone(), entry.clone())),
        )
    });
    writer.put(to, batch).await.unwrap();
}

fn request(text: &str) -> Request {
    Request {
        text: text.to_owned(),
        weights: Weights {
            title: 0.5,
            headings: 0.5,
            text: 1.0,
        },
        filter: None,
        limit: 100,
    }
}

fn entry(id: &str, text: &str) -> Entry {
    let chunk = Chunk {
        anchor: "#1".to_owned(),
        headings: vec!["Heading".to_owned()],
        text: text.to_owned(),
    };
    Entry {
        id: id.to_owned(),
        title: format!("Title {id}"),
        attributes: Vec::new(),
        chunks: vec![chunk],
    }
}

fn with(id: &str, attributes: &[(&str, Value)]) -> Entry {
    let attributes = attributes.iter().map(|(name, value)| Attribute {
        name: (*name).to_owned(),
        value: value.clone(),
    });
    Entry {
        attributes: attributes.collect(),
        ..entry(id, "alpha")
    }
}

#[tokio::test]
async fn a_change_is_seen_by_the_next_search() {
    let fixture = Fixture::new();
    assert_eq!(fixture.ids("alpha").await, "");
    fixture
        .put(vec![entry("a", "alpha beta"), entry("b", "beta")])
        .await;
    assert_eq!(fixture.ids("alpha").await, "a");
    fixture.put(vec![entry("a", "gamma")]).await;
    assert_eq!(fixture.ids("alpha").await, "");
    assert_eq!(fixture.ids("gamma").await, "a");
    assert_eq!(
        fixture.store.rebuilds(),
        1,
        "only the first search, of an empty collection, read the store"
    );
    let hit = fixture.search("gamma", None).await.remove(0);
    assert_eq!(
        (
            hit.title.as_str(),
            hit.anchor.as_str(),
            hit.headings.as_slice()
        ),
        ("Title a", "#1", &["Heading".to_owned()][..])
    );
}

#[tokio::test]
async fn words_match_by_their_stem_in_every_field() {
    let fixture = Fixture::new();
    fixture
        .put(vec![entry("connection", "The valves are opened slowly.")])
        .await;
    for (text, found) in [
        ("opening valve", 1),
        ("connections", 1),
        ("headings", 1),
        ("the are", 0),
        ("shut", 0),
        ("TITLE", 1),
    ] {
        assert_eq!(fixture.search(text, None).await.len(), found, "{text}");
    }
}

#[tokio::test]
async fn a_prefix_is_deleted_at_once_and_taken_literally() {
    let fixture = Fixture::new();
    let ids = [
        "a",
        "docs/1",
        "docs/10",
        "docs/2",
        "docs0",
        "doc*",
        "ü/1",
        "üb",
        "\u{10ffff}x",
    ];
    fixture.put(ids.map(|id| entry(id, "alpha")).to_vec()).await;
    for (prefix, left) in [
        ("docs/1", "a doc* docs/2 docs0 ü/1 üb \u{10ffff}x"),
        ("docs/", "a doc* docs0 ü/1 üb \u{10ffff}x"),
        ("doc*", "a docs0 ü/1 üb \u{10ffff}x"),
        ("ü/", "a docs0 üb \u{10ffff}x"),
        ("\u{10ffff}", "a docs0 üb"),
        ("nothing", "a docs0 üb"),
        ("", ""),
    ] {
        fixture.delete(prefix).await;
        assert_eq!(fixture.ids("alpha").await, left, "after {prefix:?}");
    }
    assert_eq!(
        fixture.store.rebuilds(),
        0,
        "every answer came from the index"
    );
}

#[tokio::test]
async fn a_tenant_sees_the_same_whether_or_not_another_exists() {
    let fixture = Fixture::new();
    let texts = ["alpha beta", "alpha alpha", "beta gamma delta"];
    let entries = |n: usize| {
        (0..n)
            .map(|place| entry(&place.to_string(), texts[place % 3]))
            .collect::<Vec<_>>()
    };
    fixture.put(entries(3)).await;
    let alone = fixture.search("alpha gamma", None).await;
    let other = (
        fixture.index.collection(TenantId::new(), &name("handbook")),
        Store::new(1),
    );
    put(&other.0, &other.1, entries(300)).await;
    let beside = (
        fixture.index.collection(fixture.tenant, &name("other")),
        Store::new(1),
    );
    put(&beside.0, &beside.1, entries(300)).await;
    assert_eq!(fixture.search("alpha gamma", None).await, alone);
}

#[tokio::test]
async fn filters_compare_typed_values() {
    let fixture = Fixture::new();
    let text = |text: &str| Value::Text(text.to_owned());
    let number = Value::Number;
    fixture
        .put(vec![
            with(
                "1",
                &[
                    ("year", number(1960.0)),
                    ("kind", text("report")),
                    ("open", Value::Boolean(true)),
                ],
            ),
            with("2", &[("year", number(1970.5)), ("kind", text("note"))]),
            with(
                "3",
                &[("year", number(-3.0)), ("open", Value::Boolean(false))],
            ),
            with("4", &[("year", text("1960")), ("date", text("2024-05-01"))]),
            with("5", &[]),
        ])
        .await;
    let check = async |filter: &str, expected: &str| {
        let mut ids: Vec<_> = fixture
            .search("alpha", Some(filter))
            .await
            .into_iter()
            .map(|hit| hit.document)
            .collect();
        ids.sort();
        assert_eq!(ids.join(" "), expected, "{filter}");
    };
    check(r#"{"type":"eq","key":"year","value":1960}"#, "1").await;
    check(r#"{"type":"eq","key":"year","value":1960.0}"#, "1").await;
    check(r#"{"type":"eq","key":"year","value":"1960"}"#, "4").await;
    check(r#"{"type":"ne","key":"year","value":1960}"#, "2 3 4 5").await;
    check(r#"{"type":"gt","key":"year","value":1960}"#, "2").await;
    check(r#"{"type":"gte","key":"year","value":1960}"#, "1 2").await;
    check(r#"{"type":"lt","key":"year","value":1960}"#, "3").await;
    check(r#"{"type":"lte","key":"year","value":1960}"#, "1 3").await;
    check(r#"{"type":"gte","key":"date","value":"2024-01-01"}"#, "4").await;
    check(r#"{"type":"lt","key":"date","value":"2024-05-01T00"}"#, "4").await;
    check(r#"{"type":"eq","key":"open","value":true}"#, "1").await;
    check(r#"{"type":"ne","key":"open","value":true}"#, "2 3 4 5").await;
    check(
        r#"{"type":"in","key":"kind","value":["note","report","x"]}"#,
        "1 2",
    )
    .await;
    check(
        r#"{"type":"in","key":"year","value":[1960,"1960",true]}"#,
        "1 4",
    )
    .await;
    check(r#"{"type":"in","key":"kind","value":[]}"#, "").await;
    check(r#"{"type":"nin","key":"kind","value":["note"]}"#, "1 3 4 5").await;
    check(r#"{"type":"nin","key":"kind","value":[]}"#, "1 2 3 4 5").await;
    check(r#"{"type":"eq","key":"absent","value":"x"}"#, "").await;
    check(r#"{"type":"gt","key":"kin","value":""}"#, "").await;
    let both = |kind: &str| {
        format!(
            r#"{{"type":"{kind}","filters":[{{"type":"gt","key":"year","value":0}},{{"type":"or","filters":[
               {{"type":"eq","key":"kind","value":"note"}},{{"type":"eq","key":"open","value":false}}]}}]}}"#
        )
    };
    check(&both("and"), "2").await;
    check(&both("or"), "1 2 3").await;
    // A filter chooses; it does not rank.
    let free = fixture.search("alpha", None).await;
    let held = fixture
        .search("alpha", Some(r#"{"type":"ne","key":"absent","value":1}"#))
        .await;
    assert_eq!(held, free);
}

#[test]
fn hostile_filters_are_invalid() {
    let deep = |levels: usize| {
        let open = r#"{"type":"and","filters":["#.repeat(levels);
        format!(
            r#"{open}{{"type":"eq","key":"a","value":1}}{}"#,
            "]}".repeat(levels)
        )
    };
    assert!(Filter::parse(&deep(16)).is_ok());
    let many = |count: usize| {
        let each = vec![r#"{"type":"eq","key":"a","value":1}"#; count].join(",");
        format!(r#"{{"type":"or","filters":[{each}]}}"#)
    };
    assert!(Filter::parse(&many(128)).is_ok());
    let list = |count: usize| {
        format!(
            r#"{{"type":"in","key":"a","value":[{}]}}"#,
            vec!["1"; count].join(",")
        )
    };
    assert!(Filter::parse(&list(1000)).is_ok());
    for bad in [
        "",
        "null",
        "[]",
        "{}",
        "{\"type\":\"eq\"",
        &deep(17),
        &deep(50_000),
        &"[".repeat(60_000),
        &many(129),
        &list(1001),
        &"x".repeat(1_000_000),
        r#"{"type":"like","key":"a","value":"b"}"#,
        r#"{"type":1,"key":"a","value":"b"}"#,
        r#"{"type":"eq","key":"","value":"b"}"#,
        r#"{"type":"eq","key":7,"value":"b"}"#,
        r#"{"type":"eq","key":"a"}"#,
        r#"{"type":"eq","key":"a","value":null}"#,
        r#"{"type":"eq","key":"a","value":[1]}"#,
        r#"{"type":"eq","key":"a","value":{"$gt":""}}"#,
        r#"{"type":"eq","key":"a","value":1e999}"#,
        r#"{"type":"gt","key":"a","value":true}"#,
        r#"{"type":"in","key":"a","value":"b"}"#,
        r#"{"type":"in","key":"a","value":[[1]]}"#,
        r#"{"type":"and","filters":[]}"#,
        r#"{"type":"and","filters":{}}"#,
        r#"{"type":"and","filters":[1]}"#,
        r#"{"type":"and","filters":[{"type":"eq","key":"a","value":1}],"key":"a"}"#,
        r#"{"type":"eq","key":"a","value":1,"tenant":"other"}"#,
    ] {
        let short: String = bad.chars().take(80).collect();
        assert!(
            matches!(Filter::parse(bad), Err(IndexError::Invalid(_))),
            "{short}"
        );
    }
}

#[tokio::test]
async fn hostile_requests_are_invalid_or_harmless() {
    let fixture = Fixture::new();
    fixture.put(vec![entry("a", "alpha")]).await;
    let weights = |weight: f32| Weights {
        title: weight,
        headings: 0.0,
        text: 1.0,
    };
    for bad in [
        Request {
            limit: 0,
            ..request("alpha")
        },
        Request {
            limit: 1001,
            ..request("alpha")
        },
        Request {
            weights: weights(-1.0),
            ..request("alpha")
        },
        Request {
            weights: weights(f32::NAN),
            ..request("alpha")
        },
        Request {
            weights: weights(f32::INFINITY),
            ..request("alpha")
        },
    ] {
        assert!(matches!(
            fixture.collection().search(&fixture.store, bad).await,
            Err(IndexError::Invalid(_))
        ));
    }
    let all_words = (0..100_000).fold(String::from("alpha"), |text, n| format!("{text} w{n}"));
    for (text, found) in [
        (all_words.as_str(), 1),
        (&"alpha ".repeat(200_000), 1),
        ("document:a", 0),
        ("\0\u{feff}", 0),
    ] {
        assert_eq!(fixture.search(text, None).await.len(), found);
    }
    let nothing = Weights {
        title: 0.0,
        headings: 0.0,
        text: 0.0,
    };
    let found = fixture
        .collection()
        .search(
            &fixture.store,
            Request {
                weights: nothing,
                ..request("alpha")
            },
        )
        .await;
    assert_eq!(found.unwrap(), Vec::new());
}

#[test]
fn batches_keep_the_limits() {
    let long = |length: usize| "x".repeat(length);
    let good = entry("a", "alpha");
    assert!(Batch::new(vec![good.clone(), entry("b", &long(limits::TEXT))]).is_ok());
    let chunk = |anchor: &str| Chunk {
        anchor: anchor.to_owned(),
        ..good.chunks[0].clone()
    };
    let attribute = |name: &str, value: Value| {
        vec![Attribute {
            name: name.to_owned(),
            value,
        }]
    };
    for bad in [
        vec![good.clone(), good.clone()],
        vec![entry("", "x")],
        vec![entry("a\0", "x")],
        vec![entry("a", "x\0")],
        vec![entry(&long(limits::ID + 1), "x")],
        vec![entry("a", &long(limits::TEXT + 1))],
        vec![Entry {
            title: long(limits::TITLE + 1),
            ..good.clone()
        }],
        vec![Entry {
            chunks: vec![chunk("#1"), chunk("#1")],
            ..good.clone()
        }],
        vec![Entry {
            chunks: vec![chunk(&long(limits::ANCHOR + 1))],
            ..good.clone()
        }],
        vec![Entry {
            chunks: (0..=limits::CHUNKS)
                .map(|n| chunk(&n.to_string()))
                .collect(),
            ..good.clone()
        }],
        vec![Entry {
            attributes: attribute("", Value::Boolean(true)),
            ..good.clone()
        }],
        vec![Entry {
            attributes: attribute(&long(limits::NAME + 1), Value::Boolean(true)),
            ..good.clone()
        }],
        vec![Entry {
            attributes: attribute("n", Value::Number(f64::NAN)),
            ..good.clone()
        }],
        vec![Entry {
            attributes: attribute("n", Value::Text(long(limits::VALUE + 1))),
            ..good.clone()
        }],
        vec![Entry {
            attributes: [
                attribute("n", Value::Boolean(true)),
                attribute("n", Value::Number(1.0)),
            ]
            .concat(),
            ..good.clone()
        }],
        (0..=limits::ENTRIES)
            .map(|n| entry(&n.to_string(), "x"))
            .collect(),
    ] {
        assert!(matches!(Batch::new(bad), Err(IndexError::Invalid(_))));
    }
}

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

#[derive(Debug, Clone)]
enum Step {
    Put(u8, u8),
    Delete(u8),
    Restart,
    /// Only the store takes it.
    Lost(u8),
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn the_index_always_shows_the_store(steps in prop::collection::vec(
        prop_oneof![
            6 => (0..12u8, 0..3u8).prop_map(|(id, word)| Step::Put(id, word)),
            2 => (0..12u8).prop_map(Step::Delete),
            1 => Just(Step::Restart),
            1 => (0..12u8).prop_map(Step::Lost),
        ], 1..25)) {
        tokio::runtime::Runtime::new().unwrap().block_on(async {
            let mut fixture = Fixture::new();
            let words = ["alpha", "beta", "gamma"];
            for step in steps {
                match step {
                    Step::Put(id, word) => {
                        let entry = entry(&format!("d{id}"), words[usize::from(word)]);
                        let batch = Batch::new(vec![entry.clone()]).unwrap();
                        let writer = fixture.collection().writer().await;
                        let to = fixture.store.change(|entries| drop(entries.insert(entry.id.clone(), entry)));
                        // Behind after a lost change: allowed, the next search mends it.
                        let _ = writer.put(to, batch).await;
                    }
                    Step::Delete(id) => {
                        let prefix = format!("d{id}");
                        let writer = fixture.collection().writer().await;
                        let to = fixture.store.change(|entries| entries.retain(|id, _| !id.starts_with(&prefix)));
                        let _ = writer.delete_prefix(to, &prefix).await;
                    }
                    Step::Restart => fixture.reopen(),
                    Step::Lost(id) => {
                        fixture.store.change(|entries| drop(entries.remove(&format!("d{id}"))));
                    }
                }
                for word in words {
                    let stored: Vec<_> = {
                        let state = fixture.store.0.state.lock().unwrap();
                        state.1.values().filter(|entry| entry.chunks[0].text == word).map(|entry| entry.id.clone()).collect()
                    };
                    assert_eq!(fixture.ids(word).await, stored.join(" "));
                }
            }
        });
    }
}
