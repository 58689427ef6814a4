//! The search index: tantivy, one index per (tenant, collection), so that one tenant's documents never move another's scores.
//!
//! The store is the truth and the index a reading of it. Each change is committed in the store first, which moves the collection's
//! [`Revision`]; the index then takes the same change and carries that revision in its own commit, so both halves of "what is
//! indexed" and "up to where" become durable in one step. A search names the store through [`Source`]: where the index carries
//! another revision than the store (a crash between the two commits, a write by another node, a new machine, a damaged folder), it
//! is rebuilt from the store before the search is answered. So nothing has to be repaired by hand, an index may be deleted at any
//! time, and a failed index write loses nothing. A transaction over both was the obvious alternative; tantivy has none to offer.
//!
//! On disk: `DIR/<tenant id>/<collection>/<generation>/`, made of typed names only, so a path never holds what a tenant wrote.
//!
//! Life of a put: [`Batch::new`] (limits, before anything is stored) → [`Collection::writer`] → the store's commit →
//! [`Writer::put`]. Life of a search: [`Collection::search`] → is the index at the store's revision? → query → hits.
//!
//! All calls are async and do their blocking work on tokio's blocking threads. An idle collection costs an open reader at most; the
//! writer (threads, up to 15 MB) lives a few seconds after the last change.

mod analysis;
mod collection;
mod entry;
mod filter;
mod query;
mod schema;
mod shelf;

pub use collection::{Collection, Index, IndexConfig, Revision, Source, Writer};
pub use entry::{Attribute, Batch, Chunk, Entry, Value, limits};
pub use filter::Filter;
pub use query::{Hit, Request, Weights};

/// What went wrong with an index.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IndexError {
    /// An entry, filter or request that cannot be read. The text is fit for the caller.
    #[error("{0}")]
    Invalid(String),
    /// The index is not at the revision a change starts from. Nothing was written; the next search catches up.
    #[error("the index is behind the store")]
    Behind,
    /// The host is going down.
    #[error("the host is shutting down")]
    Stopped,
    /// The store could not be read while the index caught up with it.
    #[error("the store could not be read")]
    Source(#[source] std::sync::Arc<dyn std::error::Error + Send + Sync>),
    /// The disk or tantivy failed. The next search starts over from the store where the files are damaged.
    #[error("the search index failed")]
    Broken(#[source] std::sync::Arc<dyn std::error::Error + Send + Sync>),
}
