//! The journal: one append-only, hash-chained log per session.

mod event;

pub use event::{
    Append, Appended, Event, Header, NewEvent, NewSession, SCHEMA_VERSION, Session, SessionState,
    Usage, VerifiedChain,
};

use crate::{Result, StoreError};

/// Handle of the writer. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Journal {}

impl Journal {
    /// Resolves when everything in `append` is durable, or nothing of it is. A caller that stops waiting does not take it back.
    pub async fn append(&self, append: Append) -> Result<Appended> {
        Err(StoreError::Unavailable("not built yet".into()))
    }
}
