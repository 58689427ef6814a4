//! One way to run one SQL text on either database.
//!
//! A [`Statement`] is a constant with a name; its name, never its values, appears in errors. A [`Tx`] is a transaction with one [`Access`]: on
//! PostgreSQL that decides login and row-level security, on SQLite (which has one user) only whether it may write.

use crate::{
    Result, StoreError,
    direct::{Direct, DirectTx},
    postgres::{PgTx, Pool},
    row::Inner,
};
use ambit_types::TenantId;
use sqlx::{
    Sqlite, SqlitePool, Transaction, postgres::PgArguments, query::Query as SqlxQuery,
    sqlite::SqliteArguments,
};
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::{Mutex, OwnedMutexGuard},
    time::timeout,
};

pub(crate) use crate::{
    failure::{failed, sqlite_failed},
    row::{Row, Value, json},
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
        app: Pool,
        operator: Pool,
        /// The journal's own connection: it waits for nobody's.
        journal: Pool,
    },
}

/// Whose turn it is: a queue in two classes. Of SQLite's writers (its own lock would make them poll) the journal goes first, of a tenant's everybody but its tools.
#[derive(Debug, Clone, Default)]
pub(crate) struct Turns {
    /// Whoever has the turn holds it.
    first: Arc<Mutex<()>>,
    /// The second class holds this too, from before it waits for the other: so the first waits for two of them at most, however many there are.
    second: Arc<Mutex<()>>,
}

/// What a writer holds until its transaction ends.
pub(crate) type Turn = OwnedMutexGuard<()>;

impl Turns {
    pub(crate) async fn first(&self) -> Result<Turn> {
        take(&self.first).await
    }

    pub(crate) async fn second(&self) -> Result<[Turn; 2]> {
        let second = take(&self.second).await?;
        Ok([take(&self.first).await?, second])
    }
}

/// Waits for a turn, for as long as it makes sense.
async fn take(turn: &Arc<Mutex<()>>) -> Result<Turn> {
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
                    return journal.begin(turns.first().await?).await.map(Tx::Direct);
                }
                let turn = turns.second().await?;
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

    /// Writes SQLite's log into its file and empties it, as far as nobody reads what stands there. PostgreSQL sees to its own.
    pub(crate) async fn checkpoint(&self) {
        if let Self::Sqlite { writer, .. } = self
            && let Err(error) = sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)")
                .execute(writer)
                .await
        {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the log could not be emptied"
            );
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
        let mut tx = Tx::Postgres(pool.begin(begin).await?);
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
    Postgres(PgTx),
}

impl Tx {
    /// Gives these back only when the transaction has ended.
    pub(crate) fn holding(mut self, held: impl IntoIterator<Item = Turn>) -> Self {
        if let Self::Sqlite(_, turns) | Self::Postgres(PgTx { turns, .. }) = &mut self {
            turns.extend(held);
        }
        self
    }

    pub(crate) async fn commit(self) -> Result<()> {
        match self {
            Self::Sqlite(tx, _turns) => tx.commit().await,
            Self::Direct(tx) => return tx.commit(),
            Self::Postgres(tx) => return tx.commit().await,
        }
        .map_err(|e| failed("COMMIT", e))
    }

    /// Whether rows of one tenant only are visible at a time.
    pub(crate) fn has_row_security(&self) -> bool {
        matches!(self, Self::Postgres(..))
    }

    /// From here to the end of the transaction, row-level security shows this tenant only. SQLite has none.
    pub(crate) async fn enter(&mut self, tenant: &str) -> Result<()> {
        if let Self::Postgres(PgTx { tx, origin, .. }) = self {
            let set = sqlx::query("SELECT set_config('ambit.tenant', $1, true)").bind(tenant);
            origin
                .answered("SET TENANT", set.execute(&mut **tx))
                .await?;
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
            Tx::Postgres(PgTx { tx, origin, .. }) => {
                let done = sqlx_query!(self, PgArguments).execute(&mut **tx);
                return Ok(origin.answered(name, done).await?.rows_affected());
            }
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
            Tx::Postgres(PgTx { tx, origin, .. }) => {
                let row = sqlx_query!(self, PgArguments).fetch_optional(&mut **tx);
                Ok(origin.answered(statement, row).await?.map(Inner::Postgres))
            }
        }
        .map_err(|e| failed(statement, e))?
        .map(|inner| Row { statement, inner }))
    }

    pub(crate) async fn all(self, tx: &mut Tx) -> Result<Vec<Row>> {
        let statement = self.check()?;
        Ok(match tx {
            Tx::Direct(tx) => {
                let rows = tx.rows(statement, self.statement.sql, self.values)?;
                rows.into_iter()
                    .map(|row| Row {
                        statement,
                        inner: Inner::Direct(row),
                    })
                    .collect()
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
            Tx::Postgres(PgTx { tx, origin, .. }) => {
                let rows = sqlx_query!(self, PgArguments).fetch_all(&mut **tx);
                let rows = origin.answered(statement, rows).await?;
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
