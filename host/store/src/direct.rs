//! SQLite on the calling thread, for the journal's writer alone.
//!
//! sqlx runs every statement on a thread of its own: two hand-overs each, which together cost more than the statements of a small
//! commit. The journal's writer has a thread of its own already, so it holds a connection and calls SQLite in place. Statements
//! are the same texts; everybody else goes through sqlx.

use crate::{
    Result, StoreError,
    db::{Value, sqlite_failed},
};
use rusqlite::{
    Connection, ErrorCode, OpenFlags,
    types::{FromSql, FromSqlError, Value as Cell},
};
use std::{path::Path, sync::Arc, time::Duration};
use tokio::sync::{Mutex, OwnedMutexGuard};

/// The connection, until the store is closed.
#[derive(Debug, Clone)]
pub(crate) struct Direct(Arc<Mutex<Option<Connection>>>);

/// Its transaction, rolled back when dropped.
#[derive(Debug)]
pub(crate) struct DirectTx {
    connection: OwnedMutexGuard<Option<Connection>>,
    _turn: OwnedMutexGuard<()>,
}

impl Direct {
    /// Opens a database that exists and is migrated; `pragmas` as the other connections have them.
    pub(crate) fn open(path: &Path, busy: Duration, pragmas: &[(&str, &str)]) -> Result<Self> {
        let open = || {
            let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let connection = Connection::open_with_flags(path, flags)?;
            connection.busy_timeout(busy)?;
            for (name, value) in pragmas {
                connection.pragma_update(None, name, value)?;
            }
            Ok(connection)
        };
        let connection = open().map_err(|e| failed("OPEN", e))?;
        Ok(Self(Arc::new(Mutex::new(Some(connection)))))
    }

    /// Begins a transaction that writes. `turn`: SQLite has one writer at a time, and waiting for it in a queue is fair.
    pub(crate) async fn begin(&self, turn: OwnedMutexGuard<()>) -> Result<DirectTx> {
        let connection = Arc::clone(&self.0).lock_owned().await;
        let tx = DirectTx {
            connection,
            _turn: turn,
        };
        tx.run("BEGIN", "BEGIN IMMEDIATE", Vec::new())?;
        Ok(tx)
    }

    pub(crate) async fn close(&self) {
        // Closing flushes nothing: every commit is on disk.
        drop(self.0.lock().await.take());
    }

    #[cfg(test)]
    pub(crate) async fn pragma(&self, name: &str, value: i64) {
        let connection = self.0.lock().await;
        connection
            .as_ref()
            .unwrap()
            .pragma_update(None, name, value)
            .unwrap();
    }
}

impl DirectTx {
    pub(crate) fn commit(self) -> Result<()> {
        self.run("COMMIT", "COMMIT", Vec::new()).map(drop)
    }

    /// The number of rows changed. `values` in order of `$1`, `$2` and so on, which is the order in which the text names them.
    pub(crate) fn run(&self, name: &'static str, sql: &str, values: Vec<Value>) -> Result<u64> {
        let run = |connection: &Connection| {
            let mut statement = bound(connection, sql, &values)?;
            Ok(statement.raw_execute()? as u64)
        };
        run(self.connection()?).map_err(|e| failed(name, e))
    }

    /// The first row, if there is one.
    pub(crate) fn row(
        &self,
        name: &'static str,
        sql: &str,
        values: Vec<Value>,
    ) -> Result<Option<Vec<Cell>>> {
        let run = |connection: &Connection| {
            let mut statement = bound(connection, sql, &values)?;
            let columns = statement.column_count();
            let mut rows = statement.raw_query();
            match rows.next()? {
                Some(row) => (0..columns)
                    .map(|column| row.get(column))
                    .collect::<rusqlite::Result<_>>()
                    .map(Some),
                None => Ok(None),
            }
        };
        run(self.connection()?).map_err(|e| failed(name, e))
    }

    pub(crate) fn rows(
        &self,
        name: &'static str,
        sql: &str,
        values: Vec<Value>,
    ) -> Result<Vec<Vec<Cell>>> {
        let run = |connection: &Connection| {
            let mut statement = bound(connection, sql, &values)?;
            let columns = statement.column_count();
            let mut rows = statement.raw_query();
            let mut all = Vec::new();
            while let Some(row) = rows.next()? {
                let row = (0..columns).map(|column| row.get(column));
                all.push(row.collect::<rusqlite::Result<_>>()?);
            }
            Ok(all)
        };
        run(self.connection()?).map_err(|e| failed(name, e))
    }

    fn connection(&self) -> Result<&Connection> {
        self.connection
            .as_ref()
            .ok_or_else(|| StoreError::unavailable("the database is closed"))
    }
}

impl Drop for DirectTx {
    fn drop(&mut self) {
        // After a full disk SQLite has rolled back by itself.
        if self
            .connection()
            .is_ok_and(|connection| !connection.is_autocommit())
            && let Err(error) = self.run("ROLLBACK", "ROLLBACK", Vec::new())
        {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "a transaction could not be rolled back"
            );
        }
    }
}

fn bound<'a>(
    connection: &'a Connection,
    sql: &str,
    values: &[Value],
) -> rusqlite::Result<rusqlite::CachedStatement<'a>> {
    let mut statement = connection.prepare_cached(sql)?;
    for (place, value) in (1..).zip(values) {
        match value {
            Value::Int(value) => statement.raw_bind_parameter(place, value)?,
            Value::Text(value) => statement.raw_bind_parameter(place, value.as_deref())?,
            Value::Blob(value) => statement.raw_bind_parameter(place, value.as_deref())?,
        }
    }
    Ok(statement)
}

/// A column's value as `T`.
pub(crate) fn cell<T: FromSql>(
    row: &[Cell],
    column: usize,
) -> std::result::Result<T, FromSqlError> {
    row.get(column)
        .ok_or(FromSqlError::InvalidType)
        .and_then(|cell| T::column_result(cell.into()))
}

fn failed(statement: &'static str, error: rusqlite::Error) -> StoreError {
    let code = error
        .sqlite_error()
        .map(|error| (error.code, error.extended_code));
    match code {
        Some((ErrorCode::ConstraintViolation, extended)) if is_taken(extended) => {
            StoreError::Conflict { what: "row" }
        }
        Some((_, extended)) => sqlite_failed(statement, extended, error),
        None => StoreError::Database {
            statement,
            source: Arc::new(error),
        },
    }
}

fn is_taken(extended_code: i32) -> bool {
    use rusqlite::ffi::{SQLITE_CONSTRAINT_PRIMARYKEY, SQLITE_CONSTRAINT_UNIQUE};
    matches!(
        extended_code,
        SQLITE_CONSTRAINT_PRIMARYKEY | SQLITE_CONSTRAINT_UNIQUE
    )
}

#[cfg(test)]
mod tests {
    /// Values are bound by place, and SQLite gives places in the order in which names first appear.
    #[test]
    fn the_journals_statements_name_their_values_in_order() {
        for statement in crate::journal::statements() {
            let mut most = 0;
            for name in statement.sql.split('$').skip(1) {
                let digits = name.bytes().take_while(u8::is_ascii_digit).count();
                let n: usize = name[..digits].parse().unwrap();
                assert!(n <= most + 1, "{}: ${n} after ${most}", statement.name);
                most = most.max(n);
            }
        }
    }
}
