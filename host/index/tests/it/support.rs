//! A store that is a map, an index on real files, and entries to put there.

use ambit_index::{
    Attribute, Batch, Chunk, Collection, Entry, Filter, Hit, Index, IndexConfig, Request, Revision,
    Source, Value, Weights,
};
use ambit_types::{CollectionName, TenantId};
use std::{
    collections::BTreeMap,
    convert::Infallible,
    ops::Bound,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

#[derive(Clone)]
pub(crate) struct Store(Arc<Inner>);

struct Inner {
    incarnation: i64,
    state: Mutex<(i64, BTreeMap<String, Entry>)>,
    /// First pages read: how often an index was rebuilt.
    rebuilds: AtomicUsize,
}

impl Store {
    pub(crate) fn new(incarnation: i64) -> Self {
        Self(Arc::new(Inner {
            incarnation,
            state: Mutex::default(),
            rebuilds: AtomicUsize::new(0),
        }))
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut BTreeMap<String, Entry>)) -> Revision {
        let mut state = self.0.state.lock().unwrap();
        change(&mut state.1);
        state.0 += 1;
        Revision {
            incarnation: self.0.incarnation,
            number: state.0,
        }
    }

    /// The documents with exactly this text.
    pub(crate) fn documents(&self, text: &str) -> Vec<String> {
        let state = self.0.state.lock().unwrap();
        let found = state
            .1
            .values()
            .filter(|entry| entry.chunks[0].text == text);
        found.map(|entry| entry.id.clone()).collect()
    }

    pub(crate) fn rebuilds(&self) -> usize {
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

pub(crate) struct Fixture {
    dir: tempfile::TempDir,
    pub(crate) index: Index,
    pub(crate) tenant: TenantId,
    pub(crate) store: Store,
}

pub(crate) fn name(name: &str) -> CollectionName {
    name.parse().unwrap()
}

impl Fixture {
    pub(crate) fn new() -> Self {
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
    pub(crate) fn reopen(&mut self) {
        self.index = Index::open(self.dir.path(), IndexConfig::default()).unwrap();
    }

    pub(crate) fn collection(&self) -> Collection {
        self.index.collection(self.tenant, &name("handbook"))
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.dir
            .path()
            .join(self.tenant.to_string())
            .join("handbook")
    }

    pub(crate) async fn put(&self, entries: Vec<Entry>) {
        put(&self.collection(), &self.store, entries).await;
    }

    pub(crate) async fn delete(&self, prefix: &str) {
        let writer = self.collection().writer().await;
        let to = self
            .store
            .change(|entries| entries.retain(|id, _| !id.starts_with(prefix)));
        writer.delete_prefix(to, prefix).await.unwrap();
    }

    pub(crate) async fn ids(&self, text: &str) -> String {
        let mut ids: Vec<_> = self
            .search(text, None)
            .await
            .into_iter()
            .map(|hit| hit.document)
            .collect();
        ids.sort();
        ids.join(" ")
    }

    pub(crate) async fn search(&self, text: &str, filter: Option<&str>) -> Vec<Hit> {
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

pub(crate) async fn put(collection: &Collection, store: &Store, entries: Vec<Entry>) {
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

pub(crate) fn request(text: &str) -> Request {
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

pub(crate) fn entry(id: &str, text: &str) -> Entry {
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

pub(crate) fn with(id: &str, attributes: &[(&str, Value)]) -> Entry {
    let attributes = attributes.iter().map(|(name, value)| Attribute {
        name: (*name).to_owned(),
        value: value.clone(),
    });
    Entry {
        attributes: attributes.collect(),
        ..entry(id, "alpha")
    }
}
