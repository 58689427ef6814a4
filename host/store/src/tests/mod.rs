//! Every behaviour on both databases.
#![allow(
    clippy::disallowed_methods,
    reason = "tests wait for the tasks they spawn"
)]

mod access;
mod approvals;
mod children;
mod documents;
mod fail_over;
mod hostile;
mod journal;
mod key_values;
mod ledger;
mod row_security;
mod schema;
mod statements;
mod versions;

use crate::{
    Append, Header, NewEvent, NewSession, PostgresConfig, Store, Tenant, TenantStore,
    db::Db,
    testing::{TestStore, server},
};
use ambit_types::SessionId;
use sqlx::Executor as _;

/// Runs a test on each database that is there.
async fn on_both(test: impl AsyncFn(&TestStore)) {
    for store in TestStore::both().await.unwrap() {
        test(&store).await;
        store.store.close().await;
    }
}

async fn tenant(store: &TestStore, slug: &str) -> (Tenant, TenantStore) {
    let tenant = store
        .store
        .operator()
        .create_tenant(slug.parse().unwrap(), slug)
        .await
        .unwrap();
    let rows = store.store.tenant(tenant.id);
    (tenant, rows)
}

fn opening(tenant: &TenantStore, session: SessionId) -> Append {
    Append::new(tenant.id(), session)
        .open(NewSession {
            agent: "assistant".into(),
            principal: "alice".into(),
        })
        .event(event("request"))
}

/// Has another process go on with a session.
async fn hand_over(rows: &TenantStore, session: SessionId, from: &Store, to: &Store) {
    let claimed = rows.claim(session, Some(from.node()), to.node()).await;
    assert!(claimed.unwrap(), "it is not {}'s", from.node());
}

fn event(kind: &'static str) -> NewEvent {
    NewEvent::new(kind, Header::default(), kind.as_bytes().to_vec())
}

impl TestStore {
    /// From here on writes fail, as on a file system or a standby that is read-only.
    async fn set_read_only(&self, read_only: bool) {
        match &self.store.db {
            Db::Sqlite {
                writer, journal, ..
            } => {
                journal.pragma("query_only", read_only.into()).await;
                let [on, off] = ["PRAGMA query_only = on", "PRAGMA query_only = off"];
                sqlx::raw_sql(if read_only { on } else { off })
                    .execute(writer)
                    .await
                    .unwrap();
            }
            Db::Postgres { app, journal, .. } => {
                let [on, off] = [
                    "SET default_transaction_read_only = on",
                    "SET default_transaction_read_only = off",
                ];
                // On every connection that the pool may give.
                let mut connections = Vec::new();
                for pool in [app.now(), journal.now()] {
                    for _ in 0..pool.options().get_max_connections() {
                        let mut connection = pool.acquire().await.unwrap();
                        connection
                            .execute(if read_only { on } else { off })
                            .await
                            .unwrap();
                        connections.push(connection);
                    }
                }
            }
        }
    }

    /// From here on events find no room. PostgreSQL has no limit of its own: a trigger says what the server would say.
    async fn set_full(&self, full: bool) {
        match &self.store.db {
            Db::Sqlite { journal, .. } => {
                let pages = if full { 1 } else { 1 << 20 };
                journal.pragma("max_page_count", pages).await;
            }
            Db::Postgres { .. } => {
                let [on, off] = [
                    "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS \
                     $$BEGIN RAISE 'No space left on device' USING ERRCODE = 'disk_full'; END$$; \
                     CREATE TRIGGER full_disk BEFORE INSERT ON events EXECUTE FUNCTION full_disk()",
                    "DROP TRIGGER full_disk ON events; DROP FUNCTION full_disk()",
                ];
                self.tamper(if full { on } else { off }).await.unwrap();
            }
        }
    }

    /// The logins of a database without tables.
    async fn empty_postgres() -> PostgresConfig {
        server()
            .await
            .unwrap()
            .create_empty_database()
            .await
            .unwrap()
    }
}
