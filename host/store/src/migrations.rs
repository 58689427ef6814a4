//! The schema's history, inside the binary: forward only, one change per file, never edited once released (a checksum would tell).
//!
//! Each change stands twice under one name, `migrations/sqlite/` and `migrations/postgres/`; a test compares the folders with this list.

use crate::{Result, StoreError};
use sqlx::{
    Connection as _, PgConnection, SqlSafeStr as _, SqliteConnection,
    migrate::{Migration, MigrationType, Migrator},
};
use std::sync::Arc;

/// A change of the schema, in both dialects.
pub(crate) struct Change {
    /// `<timestamp>_<verb_noun>`
    pub(crate) name: &'static str,
    sqlite: &'static str,
    postgres: &'static str,
}

macro_rules! changes {
    ($($name:literal),* $(,)?) => {
        pub(crate) const CHANGES: &[Change] = &[$(Change {
            name: $name,
            sqlite: include_str!(concat!("../../../migrations/sqlite/", $name, ".sql")),
            postgres: include_str!(concat!("../../../migrations/postgres/", $name, ".sql")),
        }),*];
    };
}

changes![
    "20261121000100_create_tenants",
    "20261121000200_create_access",
    "20261121000300_create_components",
    "20261121000400_create_agents",
    "20261121000500_create_collections",
    "20261121000600_create_epochs",
    "20261121000700_create_journal",
    "20261121000800_create_key_values",
    "20261121000900_add_key_permissions",
    "20261121001000_seal_journal",
    "20261121003000_anchor_journal",
    "20261121003100_create_ledger",
    "20261121003200_note_anchored_removals",
    "20261121004000_create_tokens",
    "20261121005000_continue_sessions",
    "20261122001000_create_approvals",
    "20261122002000_add_session_parents",
];

impl Change {
    pub(crate) fn version(&self) -> Result<i64> {
        let version = self
            .name
            .split_once('_')
            .and_then(|(version, _)| version.parse().ok());
        version.ok_or_else(|| {
            StoreError::Migration(
                format!("`{}` does not start with a timestamp", self.name),
                None,
            )
        })
    }

    fn migration(&self, sql: &'static str) -> Result<Migration> {
        Ok(Migration::new(
            self.version()?,
            self.name.into(),
            MigrationType::Simple,
            sql.into_sql_str(),
            false,
        ))
    }
}

fn migrator(sql: impl Fn(&Change) -> &'static str) -> Result<Migrator> {
    let migrations: Result<Vec<_>> = CHANGES
        .iter()
        .map(|change| change.migration(sql(change)))
        .collect();
    Ok(Migrator::with_migrations(migrations?))
}

pub(crate) fn sqlite() -> Result<Migrator> {
    migrator(|change| change.sqlite)
}

pub(crate) fn postgres() -> Result<Migrator> {
    migrator(|change| change.postgres)
}

pub(crate) async fn run_sqlite(connection: &mut SqliteConnection) -> Result<()> {
    sqlite()?.run(connection).await.map_err(failed)
}

/// Migrates as the owner of the tables, then lets go of that login.
pub(crate) async fn run_postgres(owner_url: &str) -> Result<()> {
    let mut connection = PgConnection::connect(owner_url)
        .await
        .map_err(|e| crate::db::failed("CONNECT", e))?;
    let outcome = postgres()?.run(&mut connection).await.map_err(failed);
    connection
        .close()
        .await
        .map_err(|e| crate::db::failed("CLOSE", e))?;
    outcome
}

fn failed(error: sqlx::migrate::MigrateError) -> StoreError {
    match error {
        sqlx::migrate::MigrateError::Execute(error) => match crate::db::failed("MIGRATE", error) {
            StoreError::Database { source, .. } => {
                StoreError::Migration("a change was refused".into(), Some(source))
            }
            sorted => sorted,
        },
        error => StoreError::Migration(error.to_string(), Some(Arc::new(error))),
    }
}

/// That somebody brought the schema to exactly this program's version.
pub(crate) async fn check_postgres(pool: &sqlx::PgPool) -> Result<()> {
    let applied: Vec<(i64, bool, Vec<u8>)> =
        sqlx::query_as("SELECT version, success, checksum FROM _sqlx_migrations ORDER BY version")
            .fetch_all(pool)
            .await
            .map_err(|e| {
                StoreError::Migration(
                    "the schema's history cannot be read".into(),
                    Some(Arc::new(e)),
                )
            })?;
    let expected = postgres()?;
    let same = applied.len() == expected.iter().count()
        && applied
            .iter()
            .zip(expected.iter())
            .all(|((version, success, checksum), change)| {
                *success
                    && *version == change.version
                    && checksum.as_slice() == change.checksum.as_ref()
            });
    if same {
        Ok(())
    } else {
        Err(StoreError::Migration(
            "the schema is not this program's: migrate as its owner first".into(),
            None,
        ))
    }
}
