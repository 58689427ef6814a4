//! What a database says went wrong, sorted by what a caller can do.

use crate::StoreError;
use std::sync::Arc;

/// The error of a statement, sorted by what a caller can do.
pub(crate) fn failed(statement: &'static str, error: sqlx::Error) -> StoreError {
    use sqlx::error::ErrorKind;
    let code = error
        .as_database_error()
        .and_then(|e| e.code().map(std::borrow::Cow::into_owned));
    let is_sqlite = error
        .as_database_error()
        .is_some_and(|e| e.try_downcast_ref::<sqlx::sqlite::SqliteError>().is_some());
    let kind = error
        .as_database_error()
        .map(sqlx::error::DatabaseError::kind);
    match (&error, kind) {
        (_, Some(ErrorKind::UniqueViolation)) => return StoreError::Conflict { what: "row" },
        (_, Some(ErrorKind::ForeignKeyViolation)) => {
            return StoreError::NotFound {
                what: "row that this one refers to",
            };
        }
        (
            sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed
            | sqlx::Error::Io(_)
            | sqlx::Error::Tls(_),
            _,
        ) => {
            return StoreError::Unavailable(Arc::new(error));
        }
        _ => {}
    }
    match code.as_deref() {
        Some(code) if is_sqlite => {
            sqlite_failed(statement, code.parse().unwrap_or_default(), error)
        }
        // Classes and codes of PostgreSQL's appendix A.
        Some("25P03") => StoreError::Unavailable(Arc::new(error)),
        Some("53100") => StoreError::Full(Arc::new(error)),
        Some("25006") => StoreError::ReadOnly(Arc::new(error)),
        Some("54000") => StoreError::Invalid {
            what: "value",
            why: "is too big",
        },
        Some(code) if matches!(code.get(..2), Some("08" | "53" | "57" | "40")) => {
            StoreError::Unavailable(Arc::new(error))
        }
        _ => StoreError::Database {
            statement,
            source: Arc::new(error),
        },
    }
}

/// The same for an error of SQLite's, by its extended code.
pub(crate) fn sqlite_failed(
    statement: &'static str,
    extended_code: i32,
    error: impl std::error::Error + Send + Sync + 'static,
) -> StoreError {
    let source = Arc::new(error);
    match extended_code & 0xff {
        13 => StoreError::Full(source),                     // SQLITE_FULL
        8 => StoreError::ReadOnly(source),                  // SQLITE_READONLY
        5 | 6 | 10 | 14 => StoreError::Unavailable(source), // BUSY, LOCKED, IOERR, CANTOPEN
        18 => StoreError::Invalid {
            what: "value",
            why: "is too big",
        }, // SQLITE_TOOBIG
        _ => StoreError::Database { statement, source },
    }
}
