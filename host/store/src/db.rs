//! One way to run one SQL text on either database.
//!
//! A [`Statement`] is a constant with a name; its name, never its values, appears in errors. A [`Tx`] is a transaction with one [`Access`]: on
//! PostgreSQL that decides login and row-level security, on SQLite (which has one user) only whether it may write.

use crate::{
    Result, StoreError,
    direct::{self, Direct, DirectTx},
};
use ambit_types::TenantId;
use serde::de::DeserializeOwned;
use sqlx::{
    PgPool, Postgres, Row as _, Sqlite, SqlitePool, Transaction,
    postgres::{PgArguments, PgRow},
    query::Query as SqlxQuery,
    sqlite::{SqliteArguments, SqliteRow},
};
use std::{str::FromStr, sync::Arc, time::Duration};
use tokio::{
    sync::{Mutex, OwnedMutexGuard},
    time::timeout,
};

/// Takes the write lock at once: a transaction that would take it later can find that it reads the past and must fail.
const IMMEDIATE: &str = "BEGIN IMMEDIATE";

/// Long enough for a checkpoint or a backup that holds the file; after it the caller hears that the database is not available.
pub(crate) const BUSY: Duration = Duration::from_secs(10);

/// A named SQL text, the same for both databases.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Statement {
    pub(crate) name: &'static str,
    pub(crate) sql: &'static str,
}

/// Declares statements and the list of them, which the tests prepare on both databases.
macro_rules! statements {
    ($($name:ident = $sql:expr;)*) => {
        $(const $name: $crate::db::Statement = $crate::db::Statement { name: stringify!($name), sql: $sql };)*
        #[cfg(test)]
        pub(crate) const ALL: &[$crate::db::Statement] = &[$($name),*];
    };
}
pub(crate) use statements;

/// Whose rows a transaction may touch.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Access {
    Tenant(TenantId),
    /// Any tenant's, one after the other by [`Tx::enter`]. Only the journal's writer does that.
    EachTenant,
    Operator,
}

#[derive(Debug, Clone)]
pub(crate) enum Db {
    Sqlite {
        writer: SqlitePool,
        readers: SqlitePool,
        /// The journal's own.
        journal: Direct,
        turns: Turns,
    },
    Postgres {
        app: PgPool,
        operator: PgPool,
        /// The journal's own connection: it waits for nobody's.
        journal: PgPool,
    },
}

/// Whose turn it is to write to SQLite: a queue, where SQLite's own lock would make the journal and the pool poll.
#[derive(Debug, Clone, Default)]
pub(crate) struct Turns {
    /// Whoever writes holds it.
    writing: Arc<Mutex<()>>,
    /// All but the journal hold this too, from before they wait for the other: so the journal waits for two of them at most, however many there are.
    others: Arc<Mutex<()>>,
}

/// What a writer holds until its transaction ends.
pub(crate) type Turn = OwnedMutexGuard<()>;

impl Turns {
    async fn journal(&self) -> Result<Turn> {
        take(&self.writing).await
    }

    async fn other(&self) -> Result<[Turn; 2]> {
        let first = take(&self.others).await?;
        Ok([take(&self.writing).await?, first])
    }
}

/// Waits for a turn, for as long as it makes sense.
pub(crate) async fn take(turn: &Arc<Mutex<()>>) -> Result<Turn> {
    timeout(BUSY, Arc::clone(turn).lock_owned())
        .await
        .map_err(StoreError::unavailable)
}

impl Db {
    /// A transaction that only reads, on one snapshot.
    pub(crate) async fn read(&self, access: Access) -> Result<Tx> {
        match self {
            Self::Sqlite { readers, .. } => readers
                .begin()
                .await
                .map(|tx| Tx::Sqlite(tx, Vec::new()))
                .map_err(|e| failed("BEGIN", e)),
            Self::Postgres { .. } => {
                self.begin_postgres(access, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
                    .await
            }
        }
    }

    /// A transaction that writes. Nothing of it stays unless [`Tx::commit`] succeeds.
    pub(crate) async fn write(&self, access: Access) -> Result<Tx> {
        match self {
            Self::Sqlite {
                writer,
                journal,
                turns,
                ..
            } => {
                if matches!(access, Access::EachTenant) {
                    return journal.begin(turns.journal().await?).await.map(Tx::Direct);
                }
                let turn = turns.other().await?;
                match writer.begin_with(IMMEDIATE).await {
                    // When the disk is full SQLite may end a transaction by itself; sqlx then believes for ever that
                    // the connection is still in one. A new connection is not.
                    Err(sqlx::Error::InvalidSavePointStatement) => {
                        let stuck = writer.acquire().await.map_err(|e| failed("BEGIN", e))?;
                        stuck.close().await.map_err(|e| failed("BEGIN", e))?;
                        writer.begin_with(IMMEDIATE).await
                    }
                    outcome => outcome,
                }
                .map(|tx| Tx::Sqlite(tx, turn.into()))
                .map_err(|e| failed("BEGIN", e))
            }
            Self::Postgres { .. } => self.begin_postgres(access, "BEGIN").await,
        }
    }

    pub(crate) async fn close(&self) {
        match self {
            Self::Sqlite {
                writer,
                readers,
                journal,
                ..
            } => {
                readers.close().await;
                journal.close().await;
                writer.close().await;
            }
            Self::Postgres {
                app,
                operator,
                journal,
            } => {
                app.close().await;
                operator.close().await;
                journal.close().await;
            }
        }
    }

    async fn begin_postgres(&self, access: Access, begin: &'static str) -> Result<Tx> {
        let Self::Postgres {
            app,
            operator,
            journal,
        } = self
        else {
            return Err(StoreError::unavailable("not on PostgreSQL"));
        };
        let pool = match access {
            Access::Tenant(_) => app,
            Access::Operator => operator,
            Access::EachTenant => journal,
        };
        let tx = pool.begin_with(begin).await;
        let mut tx = tx
            .map(|tx| Tx::Postgres(tx, Vec::new()))
            .map_err(|e| failed("BEGIN", e))?;
        if let Access::Tenant(tenant) = access {
            tx.enter(&tenant.to_string()).await?;
        }
        Ok(tx)
    }
}

/// An open transaction, rolled back when dropped.
#[derive(Debug)]
pub(crate) enum Tx {
    /// With the turns of the one that writes.
    Sqlite(Transaction<'static, Sqlite>, Vec<Turn>),
    Direct(DirectTx),
    Postgres(Transaction<'static, Postgres>, Vec<Turn>),
}

impl Tx {
    /// Gives `turn` back only when the transaction has ended.
    pub(crate) fn holding(mut self, turn: Turn) -> Self {
        if let Self::Sqlite(_, turns) | Self::Postgres(_, turns) = &mut self {
            turns.push(turn);
        }
        self
    }

    pub(crate) async fn commit(self) -> Result<()> {
        match self {
            Self::Sqlite(tx, _turns) => tx.commit().await,
            Self::Direct(tx) => return tx.commit(),
            Self::Postgres(tx, _turns) => tx.commit().await,
        }
        .map_err(|e| failed("COMMIT", e))
    }

    /// Whether rows of one tenant only are visible at a time.
    pub(crate) fn has_row_security(&self) -> bool {
        matches!(self, Self::Postgres(..))
    }

    /// From here to the end of the transaction, row-level security shows this tenant only. SQLite has none.
    pub(crate) async fn enter(&mut self, tenant: &str) -> Result<()> {
        if let Self::Postgres(tx, _) = self {
            sqlx::query("SELECT set_config('ambit.tenant', $1, true)")
                .bind(tenant)
                .execute(&mut **tx)
                .await
                .map_err(|e| failed("SET TENANT", e))?;
        }
        Ok(())
    }
}

impl Statement {
    pub(crate) fn query(self) -> Query {
        Query {
            statement: self,
            values: Vec::with_capacity(12),
        }
    }
}

/// A statement with its values.
#[derive(Debug)]
#[must_use]
pub(crate) struct Query {
    statement: Statement,
    values: Vec<Value>,
}

macro_rules! sqlx_query {
    ($self:expr, $arguments:ty) => {
        $self.values.into_iter().fold(
            sqlx::query($self.statement.sql),
            |query: SqlxQuery<'_, _, $arguments>, value| match value {
                Value::Int(value) => query.bind(value),
                Value::Text(value) => query.bind(value),
                Value::Blob(value) => query.bind(value),
            },
        )
    };
}

impl Query {
    /// With all values at once, in order of `$n`.
    pub(crate) fn with_values(statement: Statement, values: Vec<Value>) -> Self {
        Self { statement, values }
    }

    /// Binds the next `$n`.
    pub(crate) fn bind(mut self, value: impl Into<Value>) -> Self {
        self.values.push(value.into());
        self
    }

    /// The number of rows changed.
    pub(crate) async fn execute(self, tx: &mut Tx) -> Result<u64> {
        let name = self.check()?;
        match tx {
            Tx::Direct(tx) => return tx.run(name, self.statement.sql, self.values),
            Tx::Sqlite(tx, _) => sqlx_query!(self, SqliteArguments)
                .execute(&mut **tx)
                .await
                .map(|done| done.rows_affected()),
            Tx::Postgres(tx, _) => sqlx_query!(self, PgArguments)
                .execute(&mut **tx)
                .await
                .map(|done| done.rows_affected()),
        }
        .map_err(|e| failed(name, e))
    }

    pub(crate) async fn optional(self, tx: &mut Tx) -> Result<Option<Row>> {
        let statement = self.check()?;
        Ok(match tx {
            Tx::Direct(tx) => {
                let row = tx.row(statement, self.statement.sql, self.values)?;
                Ok(row.map(Inner::Direct))
            }
            Tx::Sqlite(tx, _) => sqlx_query!(self, SqliteArguments)
                .fetch_optional(&mut **tx)
                .await
                .map(|row| row.map(Inner::Sqlite)),
            Tx::Postgres(tx, _) => sqlx_query!(self, PgArguments)
                .fetch_optional(&mut **tx)
                .await
                .map(|row| row.map(Inner::Postgres)),
        }
        .map_err(|e| failed(statement, e))?
        .map(|inner| Row { statement, inner }))
    }

    pub(crate) async fn all(self, tx: &mut Tx) -> Result<Vec<Row>> {
        let statement = self.check()?;
        Ok(match tx {
            Tx::Direct(_) => {
                return Err(StoreError::Invalid {
                    what: "statement",
                    why: "of many rows is none of the journal's",
                });
            }
            Tx::Sqlite(tx, _) => {
                let rows = sqlx_query!(self, SqliteArguments)
                    .fetch_all(&mut **tx)
                    .await
                    .map_err(|e| failed(statement, e))?;
                rows.into_iter()
                    .map(|row| Row {
                        statement,
                        inner: Inner::Sqlite(row),
                    })
                    .collect()
            }
            Tx::Postgres(tx, _) => {
                let rows = sqlx_query!(self, PgArguments)
                    .fetch_all(&mut **tx)
                    .await
                    .map_err(|e| failed(statement, e))?;
                rows.into_iter()
                    .map(|row| Row {
                        statement,
                        inner: Inner::Postgres(row),
                    })
                    .collect()
            }
        })
    }

    /// PostgreSQL's text cannot hold NUL, SQLite's can: neither may, so that both behave alike.
    fn check(&self) -> Result<&'static str> {
        for value in &self.values {
            if let Value::Text(Some(text)) = value
                && text.as_bytes().contains(&0)
            {
                return Err(StoreError::Invalid {
                    what: "text",
                    why: "must not hold a NUL character",
                });
            }
        }
        Ok(self.statement.name)
    }
}

/// What a column can hold. A null has its column's type: PostgreSQL asks for it.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    Int(Option<i64>),
    Text(Option<Arc<str>>),
    Blob(Option<Arc<[u8]>>),
}

macro_rules! value_from {
    ($($type:ty, $value:ident => $to:expr;)*) => {$(
        impl From<$type> for Value {
            fn from($value: $type) -> Self {
                $to
            }
        }
    )*};
}

value_from! {
    i64, value => Self::Int(Some(value));
    Option<i64>, value => Self::Int(value);
    &str, value => Self::Text(Some(value.into()));
    &String, value => Self::Text(Some(value.as_str().into()));
    String, value => Self::Text(Some(value.into()));
    Arc<str>, value => Self::Text(Some(value));
    Option<String>, value => Self::Text(value.map(Into::into));
    &[u8], value => Self::Blob(Some(value.into()));
    Arc<[u8]>, value => Self::Blob(Some(value));
    crate::Digest, value => Self::Blob(Some(value.0.as_slice().into()));
    Option<crate::Digest>, value => Self::Blob(value.map(|digest| digest.0.as_slice().into()));
}

/// A row that knows which statement it came from. Columns are read by position, which is cheaper and no less clear beside the statement.
#[derive(Debug)]
pub(crate) struct Row {
    statement: &'static str,
    inner: Inner,
}

#[derive(Debug)]
enum Inner {
    Sqlite(SqliteRow),
    Direct(Vec<rusqlite::types::Value>),
    Postgres(PgRow),
}

macro_rules! row_get {
    ($($name:ident: $type:ty;)*) => {$(
        pub(crate) fn $name(&self, column: usize) -> Result<$type> {
            match &self.inner {
                Inner::Sqlite(row) => row.try_get(column).map_err(|e| self.corrupt(column, e)),
                Inner::Direct(row) => direct::cell(row, column).map_err(|e| self.corrupt(column, e)),
                Inner::Postgres(row) => row.try_get(column).map_err(|e| self.corrupt(column, e)),
            }
        }
    )*};
}

impl Row {
    row_get! {
        int: i64;
        optional_int: Option<i64>;
        text: String;
        optional_text: Option<String>;
        blob: Vec<u8>;
        optional_blob: Option<Vec<u8>>;
    }

    /// A count or a size: never negative.
    pub(crate) fn unsigned(&self, column: usize) -> Result<u64> {
        u64::try_from(self.int(column)?).map_err(|e| self.corrupt(column, e))
    }

    pub(crate) fn unsigned_32(&self, column: usize) -> Result<u32> {
        u32::try_from(self.int(column)?).map_err(|e| self.corrupt(column, e))
    }

    pub(crate) fn parsed<T: FromStr<Err: std::error::Error + Send + Sync + 'static>>(
        &self,
        column: usize,
    ) -> Result<T> {
        self.text(column)?
            .parse()
            .map_err(|e| self.corrupt(column, e))
    }

    pub(crate) fn json<T: DeserializeOwned>(&self, column: usize) -> Result<T> {
        serde_json::from_str(&self.text(column)?).map_err(|e| self.corrupt(column, e))
    }

    pub(crate) fn optional_json<T: DeserializeOwned>(&self, column: usize) -> Result<Option<T>> {
        let text = self.optional_text(column)?;
        text.map(|text| serde_json::from_str(&text))
            .transpose()
            .map_err(|e| self.corrupt(column, e))
    }

    pub(crate) fn digest(&self, column: usize) -> Result<crate::Digest> {
        let bytes = self.blob(column)?;
        bytes
            .as_slice()
            .try_into()
            .map(crate::Digest)
            .map_err(|e: std::array::TryFromSliceError| self.corrupt(column, e))
    }

    pub(crate) fn optional_digest(&self, column: usize) -> Result<Option<crate::Digest>> {
        match self.optional_blob(column)? {
            None => Ok(None),
            Some(_) => self.digest(column).map(Some),
        }
    }

    fn corrupt(
        &self,
        column: usize,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> StoreError {
        StoreError::Corrupt {
            statement: self.statement,
            column,
            source: Arc::from(source.into()),
        }
    }
}

/// JSON text of a value that this crate defined or was given as JSON: it always has one.
pub(crate) fn json(value: &impl serde::Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|_| StoreError::Invalid {
        what: "value",
        why: "has no JSON form",
    })
}

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
