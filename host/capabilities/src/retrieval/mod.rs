//! Finding passages in a tenant's collections, and keeping them up to date.
//!
//! The component cuts, ranks and filters; the store and the index it reaches through this module belong to the tenant of the call
//! and are opened one collection at a time, each against the ambit. The store is the truth: a document is stored first, then indexed,
//! and an index that fell behind catches up before it answers.

mod host;
pub mod judged;

pub use ambit_index::{Attribute, Value};

use crate::{Failure, LoadError, Narrowing};
use ambit_index::Index;
use ambit_policy::{Access, Ambit, CollectionUse, Permit};
use ambit_runtime::{Admitted, CallScope, Effectful, Runtime};
use ambit_store::Store;
use ambit_types::{CallContext, CollectionName, Error};
use host::{Guest, GuestError, IndexHost};
use std::sync::Arc;

/// Most passages of one answer.
pub const MAX_RESULTS: u32 = 100;

/// How text is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MediaType {
    Plain,
    Markdown,
    Html,
}

/// A document as its owner gave it.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Document {
    /// Id or URI, unique in the collection.
    pub id: String,
    pub title: String,
    pub media_type: MediaType,
    pub text: String,
    pub attributes: Vec<Attribute>,
}

/// How passages are ranked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    Keyword,
    Vector,
    Hybrid,
}

/// What to look for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    pub text: String,
    /// Passages to return, 1 to 100.
    pub max_results: u32,
    /// JSON of OpenAI's vector-store filter.
    pub filter: Option<String>,
    /// None: the best mode the component has.
    pub mode: Option<Mode>,
}

/// A passage with everything needed to cite it.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Passage {
    pub document: String,
    pub title: String,
    /// Position inside the document that stays the same as long as the passage does.
    pub anchor: String,
    /// Headings above the passage, outermost first.
    pub headings: Vec<String>,
    pub text: String,
    pub attributes: Vec<Attribute>,
    /// 0 to 1; comparable only within one answer.
    pub score: f32,
}

/// What an ingest did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct IngestReport {
    /// Documents written because they are new or changed.
    pub written: u32,
    /// Documents whose content hash is the stored one.
    pub unchanged: u32,
    pub chunks: u32,
}

/// The size of a collection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Stats {
    pub documents: u64,
    pub chunks: u64,
}

/// Why there is no answer. `Denied`, `UnknownCollection` and `Invalid` are fit for the caller.
#[derive(Debug, thiserror::Error)]
pub enum RetrievalError {
    /// The permissions in force do not cover the collection.
    #[error("{0}")]
    Denied(String),
    #[error("there is no collection `{0}`")]
    UnknownCollection(String),
    /// The query, filter or documents cannot be read.
    #[error("{0}")]
    Invalid(String),
    #[error(transparent)]
    Failure(#[from] Failure),
}

impl From<RetrievalError> for Error {
    fn from(error: RetrievalError) -> Self {
        let message = error.to_string();
        match error {
            RetrievalError::Denied(_) => {
                Self::forbidden("the collection is not open to this caller").because(error)
            }
            RetrievalError::UnknownCollection(_) => Self::not_found(message),
            RetrievalError::Invalid(_) => {
                Self::new(ambit_types::ErrorKind::Invalid { param: None }, message)
            }
            RetrievalError::Failure(failure) => failure.into(),
        }
    }
}

impl From<GuestError> for RetrievalError {
    fn from(error: GuestError) -> Self {
        match error {
            GuestError::Denied(what) => Self::Denied(what),
            GuestError::UnknownCollection(name) => Self::UnknownCollection(name),
            GuestError::Invalid(what) => Self::Invalid(what),
            GuestError::Other(what) => Failure::Component(what).into(),
        }
    }
}

/// A tenant's way of finding passages. Cheap to clone.
#[derive(Clone)]
pub struct Retriever(Arc<Inner>);

struct Inner {
    runtime: Arc<Runtime>,
    component: Effectful<IndexHost, Guest>,
    ambit: Ambit,
    store: Store,
    index: Index,
}

impl Retriever {
    /// Links the component over store and index; each call reaches only what belongs to the tenant of its context.
    ///
    /// # Errors
    ///
    /// When it cannot be linked.
    pub fn new(
        runtime: &Arc<Runtime>,
        admitted: &Admitted,
        store: Store,
        index: Index,
    ) -> Result<Self, LoadError> {
        let component = host::link(runtime, admitted)?;
        Ok(Self(Arc::new(Inner {
            runtime: runtime.clone(),
            component,
            ambit: admitted.ambit().clone(),
            store,
            index,
        })))
    }

    /// May this collection be searched by whoever calls, with no agent between?
    ///
    /// # Errors
    ///
    /// [`RetrievalError::Denied`].
    pub fn may_search(
        &self,
        ctx: &CallContext,
        narrowing: &Narrowing,
        collection: &CollectionName,
    ) -> Result<Permit<CollectionUse>, RetrievalError> {
        narrowing
            .of_call(&self.0.ambit, ctx)
            .collection(Access::Read, collection)
            .map_err(|denied| RetrievalError::Denied(denied.to_string()))
    }

    /// The best passages of the collection the permit names, best first.
    ///
    /// # Errors
    ///
    /// See [`RetrievalError`]. A permit to write is none to search.
    pub async fn search(
        &self,
        ctx: &CallContext,
        narrowing: &Narrowing,
        permit: &Permit<CollectionUse>,
        query: &Query,
    ) -> Result<Vec<Passage>, RetrievalError> {
        if permit.access != Access::Read {
            return Err(RetrievalError::Denied(format!(
                "{}:{} is not a permit to search",
                permit.access, permit.name
            )));
        }
        if !(1..=MAX_RESULTS).contains(&query.max_results) {
            return Err(RetrievalError::Invalid(format!(
                "between 1 and {MAX_RESULTS} results can be asked for"
            )));
        }
        let asked = host::query(&permit.name, query);
        let call = async |store: &mut _, guest: &Guest| {
            guest
                .ambit_retrieval_retriever()
                .call_search(store, &asked)
                .await
        };
        let (scope, host) = self.call(ctx, narrowing);
        let passages = self
            .0
            .component
            .call(&scope, host, call)
            .await
            .map_err(Failure::from)??;
        let sound = passages.len() <= query.max_results as usize
            && passages
                .iter()
                .all(|passage| (0.0..=1.0).contains(&passage.score));
        if !sound {
            return Err(Failure::Contract(
                "more passages than asked for, or a score outside 0 to 1".to_owned(),
            )
            .into());
        }
        Ok(passages.into_iter().map(host::passage).collect())
    }

    /// Stores documents, all or none; unchanged ones cost a hash.
    ///
    /// # Errors
    ///
    /// See [`RetrievalError`].
    pub async fn ingest(
        &self,
        ctx: &CallContext,
        narrowing: &Narrowing,
        collection: &CollectionName,
        documents: Vec<Document>,
    ) -> Result<IngestReport, RetrievalError> {
        let documents: Vec<_> = documents.into_iter().map(host::document).collect();
        let call = async |store: &mut _, guest: &Guest| {
            guest
                .ambit_retrieval_retriever()
                .call_ingest(store, collection, &documents)
                .await
        };
        let (scope, host) = self.call(ctx, narrowing);
        let report = self
            .0
            .component
            .call(&scope, host, call)
            .await
            .map_err(Failure::from)??;
        Ok(IngestReport {
            written: report.written,
            unchanged: report.unchanged,
            chunks: report.chunks,
        })
    }

    /// Removes every document whose id starts with `prefix` (empty: all); the number removed.
    ///
    /// # Errors
    ///
    /// See [`RetrievalError`].
    pub async fn delete(
        &self,
        ctx: &CallContext,
        narrowing: &Narrowing,
        collection: &CollectionName,
        prefix: &str,
    ) -> Result<u64, RetrievalError> {
        let call = async |store: &mut _, guest: &Guest| {
            guest
                .ambit_retrieval_retriever()
                .call_delete(store, collection, prefix)
                .await
        };
        let (scope, host) = self.call(ctx, narrowing);
        Ok(self
            .0
            .component
            .call(&scope, host, call)
            .await
            .map_err(Failure::from)??)
    }

    /// How much is in a collection.
    ///
    /// # Errors
    ///
    /// See [`RetrievalError`].
    pub async fn stats(
        &self,
        ctx: &CallContext,
        narrowing: &Narrowing,
        collection: &CollectionName,
    ) -> Result<Stats, RetrievalError> {
        let call = async |store: &mut _, guest: &Guest| {
            guest
                .ambit_retrieval_retriever()
                .call_get_stats(store, collection)
                .await
        };
        let (scope, host) = self.call(ctx, narrowing);
        let stats = self
            .0
            .component
            .call(&scope, host, call)
            .await
            .map_err(Failure::from)??;
        Ok(Stats {
            documents: stats.documents,
            chunks: stats.chunks,
        })
    }

    fn call(&self, ctx: &CallContext, narrowing: &Narrowing) -> (CallScope, IndexHost) {
        let inner = &self.0;
        let scope = inner.runtime.scope(ctx);
        let host = IndexHost::new(
            &inner.store,
            &inner.index,
            ctx.tenant,
            narrowing.of_call(&inner.ambit, ctx),
        );
        (scope, host)
    }
}
