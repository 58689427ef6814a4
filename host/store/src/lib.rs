//! Storage: control data, documents and the journal, over SQLite (embedded default) and PostgreSQL.
//!
//! Rules this crate keeps:
//!
//! - Every query on tenant data takes its tenant from a [`TenantStore`]; the tenant leads every key. What crosses tenants is an
//!   [`Operator`] method, so that it is visible at the call. On PostgreSQL row-level security says the same a second time: a tenant's
//!   transaction runs as a role that owns nothing and sees only rows of `current_setting('ambit.tenant')`; an operator's runs as another role.
//! - One SQL text serves both databases: `$n`, and the types bool, int, text and blob. No text is built at run time.
//! - A change that other processes must notice bumps an epoch in the same transaction ([`EpochKind`]).
//! - The [`Journal`] is the only writer of events: it assigns sequence numbers, chains hashes, and many appends share one `fsync`.
//!
//! Why not `sqlx::Any`: it takes connection settings only as a URL, copies every text and blob twice, cannot read a `BOOLEAN` column of
//! SQLite and panics on a shared text. `db` does the same job on the two concrete drivers in one small file.
//!
//! ```
//! # use ambit_store::{NewSession, Append, NewEvent, Header, Store, StoreConfig};
//! # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
//! # let dir = tempfile::tempdir().unwrap();
//! let store = Store::open(&StoreConfig::sqlite(dir.path().join("ambit.db"))).await?;
//! let acme = store.operator().create_tenant("acme".parse().unwrap(), "Acme").await?;
//!
//! let session = ambit_types::SessionId::new();
//! let append = Append::new(acme.id, session)
//!     .open(NewSession { agent: "assistant".into(), principal: "alice".into() })
//!     .event(NewEvent::new("request", Header::default(), br#"{"model":"assistant"}"#.to_vec()));
//! let durable = store.journal().append(append).await?;
//! assert_eq!(durable.last_seq, 1);
//! # store.close().await; Ok::<_, ambit_store::StoreError>(()) }).unwrap();
//! ```

mod anchors;
mod approvals;
mod config;
mod day;
mod db;
mod direct;
mod error;
mod failure;
mod journal;
mod keys;
mod ledger;
mod migrations;
mod nodes;
mod operator;
mod postgres;
mod records;
mod retention;
mod row;
mod store;
mod tenant;
#[cfg(feature = "testing")]
pub mod testing;
#[cfg(test)]
mod tests;

pub use ambit_audit::{Digest, body_hash as digest_of};
pub use ambit_ledger::{Day, Usage};
pub use anchors::{Anchored, Grown, Head, NewAnchor, Note, Signed};
pub use approvals::{Approval, ApprovalOp, ApprovalState, Asked, Bound, NewApproval};
pub use config::{Database, JournalConfig, PostgresConfig, StoreConfig};
pub use day::day_of;
pub use error::StoreError;
pub use journal::{
    Append, Appended, Event, EventFacts, Header, Heads, Journal, NewEvent, NewSession,
    SCHEMA_VERSION, Session, SessionState, VerifiedChain, holds_exact,
};
pub use keys::{MasterKey, key_file};
pub use ledger::{CostBy, CostFault, CostReport, Costs, Standing};
pub use operator::Operator;
pub use postgres::is_postgres_url;
pub use records::{
    Agent, ApiKey, Chunk, Collection, CollectionStats, Component, Deleted, Document, Epoch,
    EpochKind, Grant, GuardrailRule, HostName, InstallationEpochKind, Issuer, SlotBinding, Tenant,
    TenantEpoch, TokenRecord,
};
pub use store::Store;
pub use tenant::{KEY_CAP, Requested, TENANT_CAP, TenantStore, VALUE_CAP};

/// The crate's result.
pub type Result<T, E = StoreError> = std::result::Result<T, E>;

/// Milliseconds since the Unix epoch.
fn now_ms() -> i64 {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(now.as_millis()).unwrap_or(i64::MAX)
}
