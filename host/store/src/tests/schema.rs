//! Migrations.

use super::{on_both, opening, tenant};
use crate::{Database, Store, StoreError, db::Db, migrations, testing::TestStore};
use ambit_types::SessionId;
use sqlx::{AssertSqlSafe, Executor as _, migrate::Migrator};
use std::{collections::BTreeSet, path::Path};

/// `<14 digits>_<verb_noun>.sql`: sqlx would skip some other names silently and take others for reversible migrations.
fn well_named(name: &str) -> bool {
    name.strip_suffix(".sql")
        .and_then(|name| name.split_once('_'))
        .is_some_and(|(timestamp, words)| {
            timestamp.len() == 14
                && timestamp.bytes().all(|b| b.is_ascii_digit())
                && words.split('_').count() >= 2
                && words.split('_').all(|word| {
                    !word.is_empty()
                        && word
                            .bytes()
                            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
                })
        })
}

#[test]
fn misnamed_files_are_noticed() {
    assert!(well_named("20261121000100_create_tenants.sql"));
    for bad in [
        "create_tenants.sql",
        "20261121_create_tenants.sql",
        "20261121000100.sql",
        "20261121000100_tenants.sql",
        "20261121000100-create-tenants.sql",
        "20261121000100_Create_Tenants.sql",
        "20261121000100_create_tenants.up.sql",
        "20261121000100_create_tenants.sql~",
        "2026112100010x_create_tenants.sql",
        "20261121000100_create__tenants.sql",
    ] {
        assert!(!well_named(bad), "{bad}");
    }
}

#[test]
fn both_folders_hold_exactly_the_embedded_changes() {
    let embedded: Vec<_> = migrations::CHANGES
        .iter()
        .map(|change| format!("{}.sql", change.name))
        .collect();
    assert!(
        embedded.is_sorted() && embedded.iter().all(|name| well_named(name)),
        "{embedded:?}"
    );
    for database in ["sqlite", "postgres"] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../migrations")
            .join(database);
        let mut files: Vec<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|file| file.unwrap().file_name().into_string().unwrap())
            .collect();
        files.sort();
        assert_eq!(files, embedded, "{database}");
    }
}

/// The same tables with the same columns, so that one text can mean the same on both.
#[tokio::test]
async fn both_schemas_have_the_same_tables_and_columns() {
    let mut schemas = Vec::new();
    for store in TestStore::both().await.unwrap() {
        schemas.push(store.columns().await);
        store.store.close().await;
    }
    assert!(schemas[0].len() > 60, "{:?}", schemas[0]);
    if let [sqlite, postgres] = &schemas[..] {
        assert_eq!(sqlite, postgres);
    }
}

fn up_to(migrator: Migrator, count: usize) -> Migrator {
    Migrator::with_migrations(migrator.iter().take(count).cloned().collect())
}

/// Stops after each change in turn, stores a tenant where that is possible, goes on: the schema is that of a fresh database and the
/// tenant is still there.
#[tokio::test]
async fn an_upgraded_database_equals_a_fresh_one() {
    let fresh = TestStore::sqlite().await.unwrap();
    for count in 1..migrations::CHANGES.len() {
        let folder = tempfile::tempdir().unwrap();
        let config = crate::StoreConfig::sqlite(folder.path().join("ambit.db"));
        let Database::Sqlite { path } = &config.database else {
            panic!("SQLite")
        };
        let options = sqlx::sqlite::SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true);
        let old = sqlx::SqlitePool::connect_with(options).await.unwrap();
        up_to(migrations::sqlite().unwrap(), count)
            .run(&old)
            .await
            .unwrap();
        old.execute(OLD_TENANT).await.unwrap();
        let removals = old_removals(count, "zeroblob(32)");
        if let Some(rows) = removals.clone() {
            old.execute(AssertSqlSafe(rows)).await.unwrap();
        }
        old.close().await;
        let upgraded = Store::open(&config).await.unwrap();
        check_removals(&upgraded, removals.is_some()).await;
        let tenants = upgraded.operator().tenants().await.unwrap();
        assert_eq!(
            tenants
                .iter()
                .map(|tenant| tenant.slug.as_str())
                .collect::<Vec<_>>(),
            ["acme"]
        );
        let upgraded = TestStore::of(upgraded, config.clone(), "sqlite");
        assert_eq!(
            upgraded.dump().await,
            fresh.dump().await,
            "after {count} changes"
        );
        upgraded.store.close().await;
    }
    fresh.store.close().await;
}

const OLD_TENANT: &str = "INSERT INTO tenants (tenant, slug, display_name, created_ms) VALUES ('ten_01990000000070008000000000000001', 'acme', 'Acme', 1)";

/// Days removed before and after an anchor, as they stood before anchors were noted with them.
fn old_removals(count: usize, zeros: &str) -> Option<String> {
    let last = migrations::CHANGES[count - 1].name;
    last.ends_with("_anchor_journal").then(|| {
        format!(
            "INSERT INTO anchors (number, time_ms, note) VALUES (7, 1000, 'note'); \
             INSERT INTO partitions (tenant, day, leaves, root, frontier, removed_ms) VALUES \
             ('ten_01990000000070008000000000000001', '2026-01-01', 0, {zeros}, {zeros}, 900), \
             ('ten_01990000000070008000000000000001', '2026-01-02', 0, {zeros}, {zeros}, 1100)"
        )
    })
}

/// What the anchor said stays said, and the rest is the next one's to say.
async fn check_removals(store: &Store, there: bool) {
    let signed = store.operator().signed().await.unwrap();
    let said: Vec<_> = signed
        .partitions
        .iter()
        .map(|(_, day)| day.removed)
        .collect();
    let next: Vec<_> = signed.removed.iter().map(|(_, day)| day.as_str()).collect();
    let expected: (&[bool], &[&str]) = match there {
        true => (&[true, false], &["2026-01-02"]),
        false => (&[], &[]),
    };
    assert_eq!((&said[..], &next[..]), expected);
}

#[tokio::test]
async fn an_upgraded_postgres_equals_a_fresh_one() {
    let Some(fresh) = TestStore::postgres().await.unwrap() else {
        return;
    };
    let expected = fresh.dump().await;
    fresh.store.close().await;
    for count in 1..migrations::CHANGES.len() {
        let config = TestStore::empty_postgres().await;
        let owner = sqlx::PgPool::connect(config.owner.as_ref().unwrap().expose())
            .await
            .unwrap();
        up_to(migrations::postgres().unwrap(), count)
            .run(&owner)
            .await
            .unwrap();
        // Somebody who serves from a half-migrated schema is told so.
        let unmigrated = crate::PostgresConfig {
            owner: None,
            ..config.clone()
        };
        let outcome = Store::open(&crate::StoreConfig::postgres(
            unmigrated,
            crate::testing::master_key(),
        ))
        .await;
        assert!(
            matches!(outcome, Err(StoreError::Migration(..))),
            "{outcome:?}"
        );
        let operator = sqlx::PgPool::connect(config.operator.expose())
            .await
            .unwrap();
        operator.execute(OLD_TENANT).await.unwrap();
        let removals = old_removals(count, "decode(repeat('00', 32), 'hex')");
        if let Some(rows) = removals.clone() {
            operator.execute(AssertSqlSafe(rows)).await.unwrap();
        }
        operator.close().await;
        owner.close().await;
        let config = crate::StoreConfig::postgres(config, crate::testing::master_key());
        let store = Store::open(&config).await.unwrap();
        assert_eq!(store.operator().tenants().await.unwrap().len(), 1);
        check_removals(&store, removals.is_some()).await;
        let upgraded = TestStore::of(store, config, "postgres");
        assert_eq!(upgraded.dump().await, expected, "after {count} changes");
        upgraded.store.close().await;
    }
}

#[tokio::test]
async fn an_edited_history_and_a_newer_schema_are_refused() {
    let edits = [
        "UPDATE _sqlx_migrations SET checksum = substr(checksum, 1, 3) WHERE version = 20261121000200",
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
            SELECT 99999999999999, description, success, checksum, execution_time FROM _sqlx_migrations WHERE version = 20261121000200",
    ];
    for edit in edits {
        on_both(async |store| {
            store.tamper(edit).await.unwrap();
            let outcome = Store::open(&store.config).await;
            assert!(
                matches!(outcome, Err(StoreError::Migration(..))),
                "{}: {outcome:?}",
                store.database
            );
            if let Database::Postgres(config) = &store.config.database {
                let config = crate::PostgresConfig {
                    owner: None,
                    ..config.clone()
                };
                let outcome = Store::open(&crate::StoreConfig::postgres(
                    config,
                    crate::testing::master_key(),
                ))
                .await;
                assert!(
                    matches!(outcome, Err(StoreError::Migration(..))),
                    "{outcome:?}"
                );
            }
        })
        .await;
    }
}

#[tokio::test]
async fn a_file_that_is_no_database_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ambit.db");
    std::fs::write(
        &path,
        "not a database, but long enough to be read as a header of one, one would think"
            .repeat(100),
    )
    .unwrap();
    let outcome = Store::open(&crate::StoreConfig::sqlite(&path)).await;
    assert!(outcome.is_err());
    let outcome = Store::open(&crate::StoreConfig::sqlite(
        folder.path().join("missing/ambit.db"),
    ))
    .await;
    assert!(
        matches!(outcome, Err(StoreError::Unavailable(_))),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn sqlite_is_durable_and_reopens() {
    let store = TestStore::sqlite().await.unwrap();
    let Db::Sqlite {
        writer, readers, ..
    } = &store.store.db
    else {
        panic!("SQLite")
    };
    for (pragma, expected) in [
        ("PRAGMA synchronous", 2_i64),
        ("PRAGMA foreign_keys", 1),
        ("PRAGMA query_only", 0),
    ] {
        let value: (i64,) = sqlx::query_as(pragma).fetch_one(writer).await.unwrap();
        assert_eq!(value.0, expected, "{pragma}");
    }
    let (mode,): (String,) = sqlx::query_as("PRAGMA journal_mode")
        .fetch_one(writer)
        .await
        .unwrap();
    assert_eq!(mode, "wal");
    assert!(
        sqlx::query("DELETE FROM tenants")
            .execute(readers)
            .await
            .is_err(),
        "readers write"
    );
    let (_, acme) = tenant(&store, "acme").await;
    let session = SessionId::new();
    store
        .store
        .journal()
        .append(opening(&acme, session))
        .await
        .unwrap();
    store.store.check().await.unwrap();
    store.store.close().await;
    assert!(matches!(
        store.store.check().await,
        Err(StoreError::Unavailable(_))
    ));
    let again = Store::open(&store.config).await.unwrap();
    assert_eq!(
        again
            .tenant(acme.id())
            .verify_chain(session)
            .await
            .unwrap()
            .events,
        1
    );
    again.close().await;
}

impl TestStore {
    /// `table.column`, nullable or not.
    async fn columns(&self) -> BTreeSet<(String, bool)> {
        let rows: Vec<(String, bool)> = match &self.store.db {
            Db::Sqlite { writer, .. } => sqlx::query_as(
                "SELECT t.name || '.' || c.name, c.\"notnull\" = 0 FROM sqlite_master t JOIN pragma_table_info(t.name) c \
                 WHERE t.type = 'table' AND t.name NOT LIKE '\\_sqlx%' ESCAPE '\\' AND t.name NOT LIKE 'sqlite%'",
            )
            .fetch_all(writer)
            .await
            .unwrap(),
            Db::Postgres { app, .. } => sqlx::query_as(
                "SELECT c.relname || '.' || a.attname, NOT a.attnotnull FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid \
                 WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace AND a.attnum > 0 AND c.relname NOT LIKE '\\_sqlx%'",
            )
            .fetch_all(&app.now())
            .await
            .unwrap(),
        };
        rows.into_iter().collect()
    }

    /// Everything that a migration can define, as text.
    async fn dump(&self) -> Vec<String> {
        match &self.store.db {
            Db::Sqlite { writer, .. } => {
                sqlx::query_scalar("SELECT coalesce(sql, name) FROM sqlite_master ORDER BY name").fetch_all(writer).await.unwrap()
            }
            Db::Postgres { app, .. } => sqlx::query_scalar(
                "SELECT concat_ws(' ', c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attcollation, a.attnotnull) \
                    FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid WHERE c.relnamespace = 'public'::regnamespace AND a.attnum > 0 \
                 UNION ALL SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' \
                 UNION ALL SELECT concat_ws(' ', tablename, policyname, roles, cmd, qual, with_check) FROM pg_policies \
                 UNION ALL SELECT concat_ws(' ', conrelid::regclass, pg_get_constraintdef(oid)) FROM pg_constraint WHERE conrelid <> 0 \
                 UNION ALL SELECT concat_ws(' ', relname, relacl, relrowsecurity, relforcerowsecurity) FROM pg_class \
                    WHERE relnamespace = 'public'::regnamespace \
                 ORDER BY 1",
            )
            .fetch_all(&app.now())
            .await
            .unwrap(),
        }
    }
}
