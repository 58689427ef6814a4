//! Opening a database and closing it again.

use crate::{
    Database, Journal, Operator, PostgresConfig, Result, StoreConfig, StoreError, TenantStore,
    db::{Access, BUSY, Db, Turns, failed, statements},
    direct::Direct,
    keys::Keyring,
    migrations,
    postgres::Pool,
};
use ambit_types::{NodeId, TenantId};
use sqlx::{
    ConnectOptions as _, PgPool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use std::{
    collections::HashMap,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

/// 16 MiB of log between checkpoints, each of which rewrites every touched page once and stops the writer meanwhile.
const WAL_PAGES: &str = "4096";

/// At most 16 MiB of pages per connection.
const CACHE: &str = "-16384";

/// Readers of SQLite: each is a thread with its own page cache, and reads of the hot path come from snapshots in memory.
const SQLITE_READERS: u32 = 4;

/// The open database with its journal. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {
    pub(crate) db: Db,
    node: Arc<str>,
    keys: Arc<Keyring>,
    journal: Journal,
    lanes: Arc<Lanes>,
}

/// One write of a tenant at a time, its own tools' among them: whoever writes much waits for himself, before he takes a turn or a connection that others need.
type Lanes = Mutex<HashMap<TenantId, Turns>>;

impl Store {
    /// Opens, migrates (SQLite always; PostgreSQL when an owner is configured) and checks that the logins are harmless.
    ///
    /// # Errors
    /// [`StoreError::Migration`] when the schema is not this program's, [`StoreError::Role`] for a login that row-level security does not
    /// bind, [`StoreError::MasterKey`], [`StoreError::ReadOnly`], [`StoreError::Full`] and [`StoreError::Unavailable`] when the database cannot be used.
    pub async fn open(config: &StoreConfig) -> Result<Self> {
        let db = match &config.database {
            Database::Sqlite { path } => open_sqlite(path).await?,
            Database::Postgres(postgres) => open_postgres(postgres).await?,
        };
        let keys = Keyring::open(db.clone(), &config.master_key).await?;
        let node: Arc<str> = NodeId::new().to_string().into();
        let journal = Journal::start(db.clone(), node.clone(), keys.clone(), &config.journal)?;
        Ok(Self {
            db,
            node,
            keys,
            journal,
            lanes: Arc::default(),
        })
    }

    /// Everything of one tenant. Does not check that the tenant exists: an unknown one has no rows.
    #[must_use]
    pub fn tenant(&self, tenant: TenantId) -> TenantStore {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        let lane = lanes.entry(tenant).or_default().clone();
        TenantStore::new(self.db.clone(), self.keys.clone(), lane, tenant)
    }

    /// What crosses tenants: for the operator's commands and for the host's own snapshots, never for a request.
    #[must_use]
    pub fn operator(&self) -> Operator {
        Operator::new(self.db.clone())
    }

    #[must_use]
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// This process, as the sessions it works on name it; another one each time the store is opened.
    #[must_use]
    pub fn node(&self) -> &str {
        &self.node
    }

    /// Whether the database answers and the journal is being written; for `/readyz`.
    pub async fn check(&self) -> Result<()> {
        self.journal.check()?;
        let mut tx = self.db.read(Access::Operator).await?;
        ANSWER.query().optional(&mut tx).await.map(drop)
    }

    /// Writes what the journal has accepted, then closes every connection. Later operations fail.
    pub async fn close(&self) {
        self.journal.stop().await;
        self.db.close().await;
    }
}

async fn open_sqlite(path: &Path) -> Result<Db> {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .foreign_keys(true)
        .busy_timeout(BUSY)
        .journal_mode(SqliteJournalMode::Wal)
        // FULL: a commit is on disk when it returns. NORMAL would lose the last ones with the power, and the journal promises them.
        .synchronous(SqliteSynchronous::Full)
        .pragma("wal_autocheckpoint", WAL_PAGES)
        .pragma("cache_size", CACHE)
        // What is deleted is overwritten: a key that is forgotten is to be gone.
        .pragma("secure_delete", "on")
        // Not at any level: errors name the statement, and a line per query is the dearest part of a small one.
        .disable_statement_logging();
    let writer = SqlitePoolOptions::new()
        .max_connections(1)
        .acquire_timeout(BUSY)
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false)
        .connect_with(options.clone())
        .await
        .map_err(|e| failed("OPEN", e))?;
    let mut connection = writer.acquire().await.map_err(|e| failed("OPEN", e))?;
    migrations::run_sqlite(&mut connection).await?;
    drop(connection);
    let readers = SqlitePoolOptions::new()
        .max_connections(SQLITE_READERS)
        .acquire_timeout(BUSY)
        .max_lifetime(None)
        .test_before_acquire(false)
        .connect_lazy_with(options.pragma("query_only", "on"));
    // The same promises as above.
    let pragmas = [
        ("foreign_keys", "on"),
        ("synchronous", "full"),
        ("wal_autocheckpoint", WAL_PAGES),
        ("cache_size", CACHE),
        ("secure_delete", "on"),
    ];
    Ok(Db::Sqlite {
        writer,
        readers,
        journal: Direct::open(path, BUSY, &pragmas)?,
        turns: Turns::default(),
    })
}

async fn open_postgres(config: &PostgresConfig) -> Result<Db> {
    if let Some(owner) = &config.owner {
        migrations::run_postgres(owner.expose()).await?;
    }
    let app = Pool::connect(config.app.expose(), config.max_connections).await?;
    let operator = Pool::connect(config.operator.expose(), config.max_connections).await?;
    let journal = Pool::connect(config.app.expose(), 1).await?;
    check_role(&app.now(), "ambit_app").await?;
    check_role(&operator.now(), "ambit_operator").await?;
    migrations::check_postgres(&app.now()).await?;
    Ok(Db::Postgres {
        app,
        operator,
        journal,
    })
}

/// Row-level security does not bind superusers, `BYPASSRLS` roles and (without `FORCE`) owners; and a login in both groups would have the
/// sum of their policies.
async fn check_role(pool: &PgPool, group: &'static str) -> Result<()> {
    let (user, unbound, owned, member, other): (String, bool, i64, bool, bool) = sqlx::query_as(
        "SELECT current_user::text, (rolsuper OR rolbypassrls), \
            (SELECT count(*) FROM pg_class WHERE relowner = pg_roles.oid), \
            pg_has_role(current_user, $1, 'USAGE'), pg_has_role(current_user, $2, 'USAGE') \
         FROM pg_roles WHERE rolname = current_user",
    )
    .bind(group)
    .bind(if group == "ambit_app" {
        "ambit_operator"
    } else {
        "ambit_app"
    })
    .fetch_one(pool)
    .await
    .map_err(|e| failed("CHECK ROLE", e))?;
    let fault = match (unbound, owned, member, other) {
        (true, ..) => "is a superuser or bypasses row-level security",
        (_, 1.., ..) => "owns relations",
        (_, _, false, _) => "is not a member of its group",
        (_, _, _, true) => "is a member of both groups",
        _ => return Ok(()),
    };
    Err(StoreError::Role(
        [&user, " (for ", group, ") ", fault].concat(),
    ))
}

statements! {
    ANSWER = "SELECT 1";
}
