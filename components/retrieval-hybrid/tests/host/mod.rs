//! The host's side of the contract for tests: the real index, and a store that is a map.

use ambit_index::{
    Batch, Chunk, Collection, Entry, Filter, Index, IndexConfig, IndexError, Revision, Source,
    Writer,
};
use retrieval_hybrid::{Attribute, Error, Passage, Request, Value};
use std::{
    collections::BTreeMap,
    convert::Infallible,
    ops::Bound,
    sync::{Arc, Mutex},
};

type Stored = (i64, BTreeMap<String, (Vec<u8>, Entry)>);

pub(crate) struct Host {
    runtime: tokio::runtime::Runtime,
    collection: Collection,
    store: Store,
    _dir: tempfile::TempDir,
}

#[derive(Clone, Default)]
struct Store(Arc<Mutex<Stored>>);

impl Source for Store {
    type Error = Infallible;

    async fn revision(&self) -> Result<Revision, Infallible> {
        Ok(Revision {
            incarnation: 0,
            number: self.0.lock().unwrap().0,
        })
    }

    async fn page(&self, after: Option<&str>) -> Result<Vec<Entry>, Infallible> {
        let after = after.map_or(Bound::Unbounded, Bound::Excluded);
        let stored = self.0.lock().unwrap();
        Ok(stored
            .1
            .range::<str, _>((after, Bound::Unbounded))
            .take(200)
            .map(|(_, (_, entry))| entry.clone())
            .collect())
    }
}

impl Host {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let index = Index::open(dir.path(), IndexConfig::default()).unwrap();
        let collection = index.collection(ambit_types::TenantId::new(), &"c".parse().unwrap());
        let runtime = tokio::runtime::Runtime::new().unwrap();
        Self {
            runtime,
            collection,
            store: Store::default(),
            _dir: dir,
        }
    }
}

impl retrieval_hybrid::Index for Host {
    fn content_hashes(&self, _: &str, ids: &[String]) -> Result<Vec<Option<Vec<u8>>>, Error> {
        let stored = self.store.0.lock().unwrap();
        Ok(ids
            .iter()
            .map(|id| Some(stored.1.get(id)?.0.clone()))
            .collect())
    }

    fn put(&self, _: &str, entries: Vec<retrieval_hybrid::Entry>) -> Result<(), Error> {
        let hashes: Vec<_> = entries
            .iter()
            .map(|entry| entry.content_hash.clone())
            .collect();
        let batch = Batch::new(entries.into_iter().map(entry).collect()).map_err(error)?;
        self.runtime.block_on(async {
            let writer: Writer = self.collection.writer().await;
            let number = {
                let mut stored = self.store.0.lock().unwrap();
                for (entry, hash) in batch.entries().iter().zip(hashes) {
                    stored.1.insert(entry.id.clone(), (hash, entry.clone()));
                }
                stored.0 += 1;
                stored.0
            };
            writer
                .put(
                    Revision {
                        incarnation: 0,
                        number,
                    },
                    batch,
                )
                .await
                .map_err(error)
        })
    }

    fn search(&self, request: &Request) -> Result<Vec<Passage>, Error> {
        let request = ambit_index::Request {
            text: request.text.clone(),
            weights: ambit_index::Weights {
                title: request.weights.title,
                headings: request.weights.headings,
                text: request.weights.text,
            },
            filter: request
                .filter
                .as_deref()
                .map(Filter::parse)
                .transpose()
                .map_err(error)?,
            limit: request.limit as usize,
        };
        let hits = self
            .runtime
            .block_on(self.collection.search(&self.store, request))
            .map_err(error)?;
        let passage = |hit: ambit_index::Hit| Passage {
            document: hit.document,
            title: hit.title,
            anchor: hit.anchor,
            headings: hit.headings,
            text: hit.text,
            attributes: hit.attributes.into_iter().map(from_host).collect(),
            score: hit.score,
        };
        Ok(hits.into_iter().map(passage).collect())
    }
}

fn entry(entry: retrieval_hybrid::Entry) -> Entry {
    let chunk = |chunk: retrieval_hybrid::Chunk| Chunk {
        anchor: chunk.anchor,
        headings: chunk.headings,
        text: chunk.text,
    };
    Entry {
        id: entry.id,
        title: entry.title,
        attributes: entry.attributes.into_iter().map(to_host).collect(),
        chunks: entry.chunks.into_iter().map(chunk).collect(),
    }
}

fn to_host(attribute: Attribute) -> ambit_index::Attribute {
    let value = match attribute.value {
        Value::Text(text) => ambit_index::Value::Text(text),
        Value::Number(number) => ambit_index::Value::Number(number),
        Value::Boolean(boolean) => ambit_index::Value::Boolean(boolean),
    };
    ambit_index::Attribute {
        name: attribute.name,
        value,
    }
}

fn from_host(attribute: ambit_index::Attribute) -> Attribute {
    let value = match attribute.value {
        ambit_index::Value::Text(text) => Value::Text(text),
        ambit_index::Value::Number(number) => Value::Number(number),
        ambit_index::Value::Boolean(boolean) => Value::Boolean(boolean),
    };
    Attribute {
        name: attribute.name,
        value,
    }
}

fn error(error: IndexError) -> Error {
    match error {
        IndexError::Invalid(text) => Error::Invalid(text),
        error => Error::Other(error.to_string()),
    }
}
