//! What can go wrong in storage. A variant exists where a caller acts on the difference.

use ambit_ledger::{Day, OverBudget, Refusal};
use ambit_types::{Error, ErrorKind};
use std::{sync::Arc, time::Duration};

/// Shared, because one failed commit is the answer to every append that was in it.
type Source = Arc<dyn std::error::Error + Send + Sync>;

#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The row the operation is about is not there (or belongs to another tenant).
    #[error("there is no such {what}")]
    NotFound { what: &'static str },
    /// It is already there, or has changed meanwhile.
    #[error("the {what} is already there or has changed meanwhile")]
    Conflict { what: &'static str },
    /// A budget has not enough left for what an append would reserve. Nothing of the append was written.
    #[error(transparent)]
    OverBudget(Box<OverBudget>),
    /// The value cannot be stored.
    #[error("{what} {why}")]
    Invalid {
        what: &'static str,
        why: &'static str,
    },
    /// A stored value cannot be read back: somebody else wrote it, or the file is damaged.
    #[error("unreadable data from {statement}, column {column}")]
    Corrupt {
        statement: &'static str,
        column: usize,
        source: Source,
    },
    /// A session's events do not chain.
    #[error("session {session} is broken at event {seq}: {why}")]
    BrokenChain {
        session: String,
        seq: i64,
        why: &'static str,
    },
    /// What stands in the database is not what the last anchor signed.
    #[error("the journal is not what was anchored: {0}")]
    Tampered(&'static str),
    /// The disk or the database's quota is full. Nothing of the operation was written.
    #[error("the database is full")]
    Full(#[source] Source),
    /// The database cannot be written.
    #[error("the database is read-only")]
    ReadOnly(#[source] Source),
    /// The database cannot be reached, is closed, or did not answer in time. A write may or may not have happened.
    #[error("the database is not available")]
    Unavailable(#[source] Source),
    /// The schema cannot be brought to, or is not at, the version of this program.
    #[error("migration failed: {0}")]
    Migration(String, #[source] Option<Source>),
    /// A PostgreSQL login has rights that would switch row-level security off.
    #[error("unsafe database role: {0}")]
    Role(String),
    /// The key that everything sealed hangs on is not there or not the right one.
    #[error("the master key cannot be used: {0}")]
    MasterKey(&'static str),
    /// Sealed content cannot be opened, or nothing can be sealed.
    #[error("{0}")]
    Sealed(&'static str),
    #[error("the database refused {statement}")]
    Database {
        statement: &'static str,
        source: Source,
    },
}

impl StoreError {
    /// Whether the database as a whole failed, so that the next operation would fail too.
    pub(crate) fn is_of_database(&self) -> bool {
        matches!(
            self,
            Self::Full(_) | Self::ReadOnly(_) | Self::Unavailable(_)
        )
    }

    /// What the ledger does not do.
    pub(crate) fn refused(refusal: Refusal) -> Self {
        let what = "reservation";
        match refusal {
            Refusal::OverBudget(over) => Self::OverBudget(over),
            Refusal::Unknown => Self::NotFound { what },
            Refusal::Conflict => Self::Conflict { what },
        }
    }

    pub(crate) fn unavailable(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Unavailable(Arc::from(source.into()))
    }
}

/// With what is left and when it renews, and how long to wait: a moment where calls under way hold what is missing, a day where nothing
/// but an operator changes it.
fn over_budget(over: &OverBudget) -> Error {
    let OverBudget {
        scope,
        limit,
        left,
        held,
        needed,
        ..
    } = over;
    let renewal = match over.renews_ms {
        // Windows begin at midnight.
        Some(at) => format!("it renews at {}T00:00:00Z", Day::from_ms(at)),
        None => "it does not renew".to_owned(),
    };
    let retry_after = match over.renews_ms {
        _ if *needed <= left.saturating_add(*held) => Duration::from_secs(1),
        Some(at) => {
            Duration::from_millis(at.saturating_sub(crate::now_ms()).max(1000).unsigned_abs())
        }
        None => Duration::from_secs(24 * 3600),
    };
    Error::new(
        ErrorKind::InsufficientQuota { retry_after },
        format!(
            "the budget of {scope} has {left} left of {limit}, calls under way hold {held}, and this one may cost {needed}; {renewal}"
        ),
    )
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        match &error {
            StoreError::OverBudget(over) => over_budget(over),
            StoreError::NotFound { .. } => Self::not_found(error.to_string()),
            StoreError::Conflict { .. } => Self::new(ErrorKind::Conflict, error.to_string()),
            StoreError::Invalid { .. } => {
                Self::new(ErrorKind::Invalid { param: None }, error.to_string())
            }
            StoreError::Full(_) | StoreError::ReadOnly(_) | StoreError::Unavailable(_) => {
                Self::new(
                    ErrorKind::Unavailable {
                        retry_after: Duration::from_secs(1),
                    },
                    "storage is not available; try again",
                )
                .because(error)
            }
            _ => Self::internal(error),
        }
    }
}
