//! The imports of a retrieval component and the conversions to and from its records.

use super::{Document, MediaType, Mode, Passage, Query};
use crate::LoadError;
use ambit::retrieval::index::{self, IndexError};
use ambit_index::{Attribute, Batch, Chunk, Entry, Filter, Index, Revision, Value, Weights};
use ambit_policy::{Access, Ambit};
use ambit_runtime::{Admitted, Call, Effectful, Runtime};
use ambit_store::{Collection, Store, StoreError, TenantStore};
use ambit_types::{CollectionName, TenantId};
use exports::ambit::retrieval::retriever;
use std::sync::Arc;
use wasmtime::component::HasSelf;

pub(super) use exports::ambit::retrieval::retriever::RetrievalError as GuestError;

wasmtime::component::bindgen!({
    path: ["../../wit/types", "../../wit/retrieval"],
    world: "ambit:retrieval/guest",
    imports: { default: async },
    exports: { default: async },
});

ambit_runtime::bindings!(Guest, GuestPre);

/// Documents read from the store at a time while an index is rebuilt.
const PAGE: u32 = 200;

/// What one call reaches: a tenant's collections, as far as the ambit goes.
pub(super) struct IndexHost {
    store: TenantStore,
    index: Index,
    tenant: TenantId,
    ambit: Ambit,
}

impl IndexHost {
    pub(super) fn new(store: &Store, index: &Index, tenant: TenantId, ambit: Ambit) -> Self {
        Self {
            store: store.tenant(tenant),
            index: index.clone(),
            tenant,
            ambit,
        }
    }

    /// The collection of this name, if the ambit opens it and it is there.
    async fn open(&self, access: Access, name: &str) -> Result<Collection, IndexError> {
        let Ok(name) = name.parse::<CollectionName>() else {
            return Err(IndexError::UnknownCollection(
                name.chars().take(80).collect(),
            ));
        };
        // What is not allowed is denied whether or not it exists.
        let permit = self
            .ambit
            .collection(access, &name)
            .map_err(|denied| IndexError::Denied(denied.to_string()))?;
        let found = self.store.collection(&permit.name).await.map_err(stored)?;
        found.ok_or_else(|| IndexError::UnknownCollection(name.to_string()))
    }

    fn index(&self, collection: &Collection) -> ambit_index::Collection {
        self.index.collection(self.tenant, &collection.name)
    }
}

pub(super) fn link(
    runtime: &Arc<Runtime>,
    admitted: &Admitted,
) -> Result<Effectful<IndexHost, Guest>, LoadError> {
    Ok(Effectful::link(runtime, admitted, |linker| {
        index::add_to_linker::<Call<IndexHost>, HasSelf<IndexHost>>(linker, |call| &mut call.host)
    })?)
}

impl index::Host for IndexHost {
    async fn content_hashes(
        &mut self,
        collection: String,
        ids: Vec<String>,
    ) -> Result<Vec<Option<Vec<u8>>>, IndexError> {
        let collection = self.open(Access::Read, &collection).await?;
        self.store
            .content_hashes(&collection.name, &ids)
            .await
            .map_err(stored)
    }

    async fn put(
        &mut self,
        collection: String,
        entries: Vec<index::Entry>,
    ) -> Result<(), IndexError> {
        let collection = self.open(Access::Write, &collection).await?;
        let hashes: Vec<_> = entries
            .iter()
            .map(|entry| entry.content_hash.clone())
            .collect();
        let batch = Batch::new(entries.into_iter().map(entry).collect()).map_err(indexed)?;
        let documents: Vec<_> = batch
            .entries()
            .iter()
            .zip(hashes)
            .map(|(entry, hash)| stored_document(entry, hash))
            .collect();
        // The turn first, so that store and index see changes in one order.
        let writer = self.index(&collection).writer().await;
        let number = self
            .store
            .put_documents(&collection.name, &documents)
            .await
            .map_err(stored)?;
        let to = Revision {
            incarnation: collection.created_ms,
            number,
        };
        if let Err(error) = writer.put(to, batch).await {
            tracing::warn!(tenant = %self.tenant, collection = %collection.name, error = &error as &dyn std::error::Error, "the next search catches up");
        }
        Ok(())
    }

    async fn delete_prefix(
        &mut self,
        collection: String,
        prefix: String,
    ) -> Result<u64, IndexError> {
        let collection = self.open(Access::Write, &collection).await?;
        let writer = self.index(&collection).writer().await;
        let deleted = self
            .store
            .delete_documents(&collection.name, &prefix)
            .await
            .map_err(stored)?;
        let to = Revision {
            incarnation: collection.created_ms,
            number: deleted.revision,
        };
        // Where nothing was deleted nothing moved.
        if deleted.documents > 0
            && let Err(error) = writer.delete_prefix(to, &prefix).await
        {
            tracing::warn!(tenant = %self.tenant, collection = %collection.name, error = &error as &dyn std::error::Error, "the next search catches up");
        }
        Ok(deleted.documents)
    }

    async fn search(&mut self, request: index::Request) -> Result<Vec<index::Hit>, IndexError> {
        let collection = self.open(Access::Read, &request.collection).await?;
        let filter = request
            .filter
            .as_deref()
            .map(Filter::parse)
            .transpose()
            .map_err(indexed)?;
        let weights = Weights {
            title: request.weights.title,
            headings: request.weights.headings,
            text: request.weights.text,
        };
        let asked = ambit_index::Request {
            text: request.text,
            weights,
            filter,
            limit: request.limit as usize,
        };
        let source = Source {
            store: self.store.clone(),
            name: collection.name.clone(),
        };
        let hits = self
            .index(&collection)
            .search(&source, asked)
            .await
            .map_err(indexed)?;
        Ok(hits
            .into_iter()
            .map(|hit| index::Hit {
                document: hit.document,
                title: hit.title,
                anchor: hit.anchor,
                headings: hit.headings,
                text: hit.text,
                attributes: hit.attributes.into_iter().map(guest_attribute).collect(),
                score: hit.score,
            })
            .collect())
    }

    async fn get_stats(&mut self, collection: String) -> Result<index::Stats, IndexError> {
        let collection = self.open(Access::Read, &collection).await?;
        let stats = self.store.stats(&collection.name).await.map_err(stored)?;
        Ok(index::Stats {
            documents: stats.documents,
            chunks: stats.chunks,
        })
    }
}

/// One collection in the store, for an index that has to catch up.
#[derive(Clone)]
struct Source {
    store: TenantStore,
    name: CollectionName,
}

/// Why an index cannot catch up.
#[derive(Debug, thiserror::Error)]
enum SourceError {
    #[error("the collection is gone")]
    Gone,
    #[error("the store cannot be read")]
    Store(#[from] StoreError),
}

impl ambit_index::Source for Source {
    type Error = SourceError;

    async fn revision(&self) -> Result<Revision, SourceError> {
        let collection = self
            .store
            .collection(&self.name)
            .await?
            .ok_or(SourceError::Gone)?;
        Ok(Revision {
            incarnation: collection.created_ms,
            number: collection.revision,
        })
    }

    async fn page(&self, after: Option<&str>) -> Result<Vec<Entry>, SourceError> {
        let documents = self.store.documents(&self.name, after, PAGE).await?;
        Ok(documents.into_iter().map(indexed_document).collect())
    }
}

/// A failure of the store is not the guest's business; it goes to the log with its cause.
fn stored(error: StoreError) -> IndexError {
    tracing::error!(
        error = &error as &dyn std::error::Error,
        "the store failed a retrieval component"
    );
    IndexError::Other("the store failed".to_owned())
}

fn indexed(error: ambit_index::IndexError) -> IndexError {
    match error {
        ambit_index::IndexError::Invalid(what) => IndexError::Invalid(what),
        error => {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "the index failed a retrieval component"
            );
            IndexError::Other("the index failed".to_owned())
        }
    }
}

fn entry(entry: index::Entry) -> Entry {
    let chunk = |chunk: index::Chunk| Chunk {
        anchor: chunk.anchor,
        headings: chunk.headings,
        text: chunk.text,
    };
    Entry {
        id: entry.id,
        title: entry.title,
        attributes: entry.attributes.into_iter().map(attribute).collect(),
        chunks: entry.chunks.into_iter().map(chunk).collect(),
    }
}

fn stored_document(entry: &Entry, content_hash: Vec<u8>) -> ambit_store::Document {
    let chunk = |chunk: &Chunk| ambit_store::Chunk {
        anchor: chunk.anchor.clone(),
        headings: chunk.headings.clone(),
        text: chunk.text.clone(),
    };
    let json = |value: &Value| match value {
        Value::Text(text) => text.as_str().into(),
        Value::Number(number) => (*number).into(),
        Value::Boolean(truth) => (*truth).into(),
    };
    ambit_store::Document {
        id: entry.id.clone(),
        title: entry.title.clone(),
        content_hash,
        attributes: entry
            .attributes
            .iter()
            .map(|attribute| (attribute.name.clone(), json(&attribute.value)))
            .collect(),
        chunks: entry.chunks.iter().map(chunk).collect(),
    }
}

fn indexed_document(document: ambit_store::Document) -> Entry {
    let value = |value: serde_json::Value| match value {
        serde_json::Value::String(text) => Some(Value::Text(text)),
        serde_json::Value::Bool(truth) => Some(Value::Boolean(truth)),
        serde_json::Value::Number(number) => number.as_f64().map(Value::Number),
        // Never written by `put`.
        _ => None,
    };
    let chunk = |chunk: ambit_store::Chunk| Chunk {
        anchor: chunk.anchor,
        headings: chunk.headings,
        text: chunk.text,
    };
    let attributes = document.attributes.into_iter();
    Entry {
        id: document.id,
        title: document.title,
        attributes: attributes
            .filter_map(|(name, found)| {
                Some(Attribute {
                    name,
                    value: value(found)?,
                })
            })
            .collect(),
        chunks: document.chunks.into_iter().map(chunk).collect(),
    }
}

fn attribute(attribute: index::Attribute) -> Attribute {
    let value = match attribute.value {
        index::Value::Text(text) => Value::Text(text),
        index::Value::Number(number) => Value::Number(number),
        index::Value::Boolean(truth) => Value::Boolean(truth),
    };
    Attribute {
        name: attribute.name,
        value,
    }
}

fn guest_attribute(attribute: Attribute) -> index::Attribute {
    let value = match attribute.value {
        Value::Text(text) => index::Value::Text(text),
        Value::Number(number) => index::Value::Number(number),
        Value::Boolean(truth) => index::Value::Boolean(truth),
    };
    index::Attribute {
        name: attribute.name,
        value,
    }
}

pub(super) fn query(collection: &CollectionName, query: &Query) -> retriever::Query {
    retriever::Query {
        collection: collection.to_string(),
        text: query.text.clone(),
        max_results: query.max_results,
        filter: query.filter.clone(),
        mode: query.mode.map(|mode| match mode {
            Mode::Keyword => retriever::Mode::Keyword,
            Mode::Vector => retriever::Mode::Vector,
            Mode::Hybrid => retriever::Mode::Hybrid,
        }),
    }
}

pub(super) fn document(document: Document) -> retriever::Document {
    retriever::Document {
        id: document.id,
        title: document.title,
        media_type: match document.media_type {
            MediaType::Plain => retriever::MediaType::Plain,
            MediaType::Markdown => retriever::MediaType::Markdown,
            MediaType::Html => retriever::MediaType::Html,
        },
        text: document.text,
        attributes: document
            .attributes
            .into_iter()
            .map(guest_attribute)
            .collect(),
    }
}

pub(super) fn passage(passage: retriever::Passage) -> Passage {
    Passage {
        document: passage.document,
        title: passage.title,
        anchor: passage.anchor,
        headings: passage.headings,
        text: passage.text,
        attributes: passage.attributes.into_iter().map(attribute).collect(),
        score: passage.score,
    }
}
