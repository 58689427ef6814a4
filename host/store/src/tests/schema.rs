//! Migrations and statements.

use super::{on_both, opening, tenant};
use crate::{
    Database, Store, StoreError,
    db::{Db, Statement},
    migrations,
    testing::TestStore,
};
use ambit_types::SessionId;
use sqlx::{AssertSqlSafe, Executor as _, Row as _, SqlSafeStr as _, migrate::Migrator};
use std::{collections::BTreeSet, path::Path};

/// Every statement that runs on both databases.
fn statements() -> Vec<Statement> {
    let lists = [
        crate::anchors::ALL,
        crate::approvals::ALL,
        crate::operator::ALL,
        crate::keys::ALL,
        crate::retention::ALL,
        crate::store::ALL,
        crate::tenant::ALL,
        crate::tenant::ACCESS,
        crate::tenant::AGENTS,
        crate::tenant::APPROVALS,
        crate::tenant::DOCUMENTS,
        crate::tenant::KEY_VALUES,
        crate::tenant::SESSIONS,
        crate::tenant::LEDGER,
        crate::tenant::TOKENS,
        crate::tenant::RUNNING,
        crate::nodes::ALL,
        crate::ledger::ALL,
    ];
    lists
        .concat()
        .into_iter()
        .chain(crate::journal::statements())
        .collect()
}

#[tokio::test]
async fn every_statement_prepares_on_both_databases() {
    let names: BTreeSet<_> = statements()
        .iter()
        .map(|statement| statement.name)
        .collect();
    assert!(
        names.len() == statements().len() && names.len() > 50,
        "{} names for {} statements",
        names.len(),
        statements().len()
    );
    on_both(async |store| {
        for statement in statements() {
            let prepared = match &store.store.db {
                Db::Sqlite { writer, .. } => writer
                    .acquire()
                    .await
                    .unwrap()
                    .prepare(statement.sql.into_sql_str())
                    .await
                    .map(drop),
                Db::Postgres { app, .. } => app
                    .now()
                    .acquire()
                    .await
                    .unwrap()
                    .prepare(statement.sql.into_sql_str())
                    .await
                    .map(drop),
            };
            assert!(
                prepared.is_ok(),
                "{}: {}: {prepared:?}",
                store.database,
                statement.name
            );
        }
    })
    .await;
}

/// SQLite numbers values by where they first stand in the text, and the journal's own connection binds them by that number.
#[test]
fn statements_of_the_writer_name_their_values_in_order() {
    let of_writer = crate::journal::statements();
    for statement in of_writer.iter().chain(&crate::approvals::OF_WRITER) {
        let mut next = 1;
        for named in statement.sql.split('$').skip(1) {
            let digits = named.split(|c: char| !c.is_ascii_digit()).next();
            let number: usize = digits.unwrap().parse().unwrap();
            assert!(number <= next, "{}: ${number}", statement.name);
            next = next.max(number + 1);
        }
    }
}

#[tokio::test]
async fn hot_statements_use_their_index() {
    let hot = [
        "KEY_GET",
        "KEY_LIST",
        "ISSUER_LIST",
        "AGENT_GET",
        "SLOT_LIST",
        "DOCUMENT_HASH",
        "DOCUMENT_PAGE",
        "DOCUMENTS_DELETE_RANGE",
        "CHUNK_RANGE",
        "CHUNKS_DELETE",
        "APPROVAL_GET",
        "APPROVALS",
        "APPROVALS_DELETE",
        "APPROVALS_OF",
        "APPROVALS_OF_SESSION",
        "APPROVALS_PENDING",
        "APPROVALS_WITHIN",
        "APPROVALS_WITHIN_OF",
        "APPROVAL_TENANT",
        "CHILDREN",
        "ORPHANS",
        "SESSIONS_TO_WAKE",
        "SESSION_GET",
        "SESSION_PAGE",
        "EVENT_PAGE",
        "KEY_VALUE_GET",
        "KEY_VALUE_RANGE",
        "LAST_EVENT",
        "SESSIONS_IN_STATE",
        "OLD_PARTITIONS",
        "KEPT_SESSION",
        "SESSIONS_OF_DAY",
        "FRONTIER",
        "LEAVES",
        "HEADS_SINCE",
        "EVENTS_DELETE",
        "TENANT_BY_SLUG",
        "BUDGETS_WANTED_16",
        "SESSION_BUDGET",
        "RESERVATION_LOCK_16",
        "RESERVATIONS_OUTSTANDING",
        "RESERVATIONS_CARRY",
        "RESERVATIONS_DELETE",
        "SETTLED_OF_SESSIONS",
        "COST_EVENTS",
        "BUDGETS_OF",
        "ACCOUNTS_OF",
        "COSTS",
    ];
    on_both(async |store| {
        for name in hot {
            let statement = statements()
                .into_iter()
                .find(|statement| statement.name == name)
                .unwrap();
            let plan = store.explain(statement).await;
            let (by_index, scan) = match store.database {
                "sqlite" => ("USING", "SCAN "),
                _ => ("Index", "Seq Scan"),
            };
            assert!(
                plan.contains(by_index) && !plan.contains(scan),
                "{}: {name}:\n{plan}",
                store.database
            );
        }
    })
    .await;
}

/// Every two seconds, beside any number of sessions that wait: by another index each of those would be looked at.
#[tokio::test]
async fn families_are_found_by_indexes_of_their_own() {
    on_both(async |store| {
        for (name, index) in [
            ("CHILDREN", "sessions_children"),
            ("ORPHANS", "sessions_children"),
            ("SESSIONS_TO_WAKE", "sessions_waiting"),
        ] {
            let mut all = statements().into_iter();
            let statement = all.find(|statement| statement.name == name).unwrap();
            let plan = store.explain(statement).await;
            assert!(plan.contains(index), "{}: {name}:\n{plan}", store.database);
        }
    })
    .await;
}

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
    /// How the database would run it.
    async fn explain(&self, statement: Statement) -> String {
        match &self.store.db {
            Db::Sqlite { writer, .. } => {
                let sql = AssertSqlSafe(["EXPLAIN QUERY PLAN ", statement.sql].concat());
                let rows = sqlx::query(sql).fetch_all(writer).await.unwrap();
                rows.iter()
                    .map(|row| row.get::<String, _>("detail"))
                    .collect::<Vec<_>>()
                    .join("\n")
            }
            Db::Postgres { app, operator, .. } => {
                // Tables of tests are tiny: without this the planner rightly reads them whole. Nulls stand for the values.
                let deletes = ["APPROVALS_DELETE", "EVENTS_DELETE", "RESERVATIONS_DELETE"]
                    .contains(&statement.name);
                let mut connection = if deletes { operator } else { app }
                    .now()
                    .acquire()
                    .await
                    .unwrap();
                let prepared = connection
                    .prepare(statement.sql.into_sql_str())
                    .await
                    .unwrap();
                let count = match sqlx::Statement::parameters(&prepared) {
                    Some(sqlx::Either::Left(types)) => types.len(),
                    _ => 0,
                };
                drop(prepared);
                let nulls = vec!["NULL"; count].join(", ");
                let sql = [
                    "SET enable_seqscan = off; SET enable_bitmapscan = off; SET plan_cache_mode = force_generic_plan; PREPARE plan AS ",
                    statement.sql,
                    "; EXPLAIN EXECUTE plan (",
                    &nulls,
                    "); ",
                ]
                .concat();
                let rows = connection
                    .fetch_all(sqlx::raw_sql(AssertSqlSafe(sql)))
                    .await
                    .unwrap();
                connection
                    .execute("DEALLOCATE plan; RESET ALL")
                    .await
                    .unwrap();
                rows.iter()
                    .map(|row| row.get::<String, _>(0))
                    .collect::<Vec<_>>()
                    .join("\n")
            }
        }
    }

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
