//! Statements: that both databases take them, and run those that are hot by an index.

use super::on_both;
use crate::{
    db::{Db, Statement},
    testing::TestStore,
};
use sqlx::{AssertSqlSafe, Executor as _, Row as _, SqlSafeStr as _};
use std::collections::BTreeSet;

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
        "HEADS_OF_DAY",
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
}
