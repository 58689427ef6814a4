//! Throw-away stores for tests: SQLite in a temporary folder, PostgreSQL on a throw-away server.
//!
//! The server is started once per test process, as a user that is not root, on a socket in a temporary folder, with a database per test
//! copied from a migrated template. A shell holds its leash: it waits for the end of its standard input, which comes when this process ends
//! in whatever way, then stops the server and removes the folder. Without PostgreSQL the tests of it say so and are skipped; with
//! `AMBIT_REQUIRE_POSTGRES=1` they fail.

use crate::{MasterKey, PostgresConfig, Result, Store, StoreConfig, db::Db};
use ambit_types::Secret;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};
use std::{
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::atomic::{AtomicU64, Ordering},
};
use tempfile::TempDir;
use tokio::sync::OnceCell;

/// A store on its own empty, migrated database. Dropping it removes the database's folder.
#[derive(Debug)]
pub struct TestStore {
    pub store: Store,
    pub config: StoreConfig,
    /// `sqlite` or `postgres`: for messages.
    pub database: &'static str,
    folder: Option<TempDir>,
}

impl TestStore {
    /// On SQLite, in a temporary folder.
    ///
    /// # Errors
    /// Those of [`Store::open`].
    pub async fn sqlite() -> Result<Self> {
        let folder = TempDir::new().map_err(crate::StoreError::unavailable)?;
        let config = StoreConfig::sqlite(folder.path().join("ambit.db"));
        let store = Store::open(&config).await?;
        Ok(Self {
            store,
            config,
            database: "sqlite",
            folder: Some(folder),
        })
    }

    /// On PostgreSQL. None, with the reason printed once, where there is no server to start.
    ///
    /// # Errors
    /// Those of [`Store::open`], and a server that should start but does not.
    pub async fn postgres() -> Result<Option<Self>> {
        let Some(server) = server().await else {
            return Ok(None);
        };
        let config = StoreConfig::postgres(server.create_database().await?, master_key());
        let store = Store::open(&config).await?;
        Ok(Some(Self::of(store, config, "postgres")))
    }

    /// Around a store that was opened elsewhere.
    pub(crate) fn of(store: Store, config: StoreConfig, database: &'static str) -> Self {
        Self {
            store,
            config,
            database,
            folder: None,
        }
    }

    /// One on each database that is there.
    ///
    /// # Errors
    /// Those of [`TestStore::sqlite`] and [`TestStore::postgres`].
    pub async fn both() -> Result<Vec<Self>> {
        let mut stores = vec![Self::sqlite().await?];
        stores.extend(Self::postgres().await?);
        Ok(stores)
    }

    /// Changes rows as somebody who is none of our logins: the file's owner, the server's superuser.
    ///
    /// # Errors
    /// What the database refused.
    pub async fn tamper(&self, sql: &str) -> Result<()> {
        match &self.store.db {
            Db::Sqlite { writer, .. } => {
                // Audited: constants of tests, with ids and numbers in them.
                let changed = sqlx::raw_sql(AssertSqlSafe(sql)).execute(writer).await;
                changed
                    .map(drop)
                    .map_err(|e| crate::db::failed("TAMPER", e))
            }
            Db::Postgres { app, .. } => {
                let query = sqlx::query_as("SELECT current_database()::text");
                let (database,): (String,) = query
                    .fetch_one(&app.now())
                    .await
                    .map_err(|e| crate::db::failed("TAMPER", e))?;
                match server().await {
                    Some(server) => server.administrate(&database, sql).await,
                    None => Ok(()),
                }
            }
        }
    }

    /// The folder of SQLite's file.
    #[must_use]
    pub fn folder(&self) -> Option<&Path> {
        self.folder.as_ref().map(TempDir::path)
    }
}

/// A master key as nodes share it.
#[must_use]
pub fn master_key() -> MasterKey {
    MasterKey::Given(Secret::new("5a".repeat(32)))
}

/// A running server.
#[derive(Debug)]
pub struct Server {
    folder: PathBuf,
    databases: AtomicU64,
    template: OnceCell<()>,
    /// Closing it ends the server.
    _leash: ChildStdin,
    _shell: Child,
}

const TEMPLATE: &str = "ambit_template";

/// This process's server. None, with the reason said, where there is none to start.
///
/// # Panics
/// There is none although `AMBIT_REQUIRE_POSTGRES` is 1.
pub async fn server() -> Option<&'static Server> {
    static SERVER: OnceCell<std::result::Result<Server, String>> = OnceCell::const_new();
    let server = SERVER
        .get_or_init(|| async {
            let server = Server::start(false);
            if let Err(reason) = &server {
                ambit_skips::skipped(&["tests on PostgreSQL: ", reason].concat());
            }
            server
        })
        .await;
    match server {
        Ok(server) => Some(server),
        Err(reason) => {
            #[allow(
                clippy::disallowed_methods,
                reason = "set by the developers' commands, read only in tests"
            )]
            let required =
                std::env::var_os("AMBIT_REQUIRE_POSTGRES").is_some_and(|value| value == "1");
            assert!(!required, "PostgreSQL is required: {reason}");
            None
        }
    }
}

impl Server {
    /// Starts one; `durable` keeps `fsync` on, for measurements.
    ///
    /// # Errors
    /// Why there is none, in one sentence.
    pub fn start(durable: bool) -> std::result::Result<Self, String> {
        let initdb = program("initdb")?;
        let postgres = program("postgres")?;
        let folder = TempDir::with_prefix("ambit-pg-").map_err(|e| e.to_string())?;
        let unprivileged = unprivileged(folder.path())?;
        // Arguments, not text, carry the paths; everything the shell runs inherits the unprivileged user.
        let script = r#"
            "$1" -D "$3/data" -U postgres -A trust -E UTF8 --locale=C --no-sync >"$3/log" 2>&1 || { tail -n 3 "$3/log"; exit 1; }
            "$2" -D "$3/data" -k "$3" -c listen_addresses= -c max_connections=400 -c shared_buffers=64MB -c fsync="$4" \
                -c full_page_writes="$4" >>"$3/log" 2>&1 </dev/null &
            server=$!
            trap '' INT TERM HUP
            while kill -0 $server 2>/dev/null && ! grep -q ready "$3/data/postmaster.pid" 2>/dev/null; do sleep 0.02; done
            kill -0 $server 2>/dev/null && echo started || tail -n 3 "$3/log"
            cat >/dev/null
            kill -QUIT $server 2>/dev/null
            wait $server
            rm -rf "$3"
        "#;
        let mut command = Command::new(unprivileged.first().map_or("sh", String::as_str));
        command.args(unprivileged.iter().skip(1));
        if !unprivileged.is_empty() {
            command.arg("sh");
        }
        let mut shell = command
            .args(["-c", script, "sh"])
            .args([&initdb, &postgres])
            .arg(folder.path())
            .arg(if durable { "on" } else { "off" })
            .current_dir(folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|e| e.to_string())?;
        let (Some(leash), Some(output)) = (shell.stdin.take(), shell.stdout.take()) else {
            return Err("no pipes".into());
        };
        let mut line = String::new();
        BufReader::new(output)
            .read_line(&mut line)
            .map_err(|e| e.to_string())?;
        if line.trim() != "started" {
            return Err(["PostgreSQL does not start: ", line.trim()].concat());
        }
        Ok(Self {
            folder: folder.keep(),
            databases: AtomicU64::new(0),
            template: OnceCell::new(),
            _leash: leash,
            _shell: shell,
        })
    }

    /// Where its socket is.
    #[cfg(test)]
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// An empty, migrated database and its three logins.
    ///
    /// # Errors
    /// What the server refused.
    pub async fn create_database(&self) -> Result<PostgresConfig> {
        self.create(&[" TEMPLATE ", TEMPLATE].concat()).await
    }

    /// A database without tables and its three logins.
    ///
    /// # Errors
    /// What the server refused.
    pub async fn create_empty_database(&self) -> Result<PostgresConfig> {
        self.create("").await
    }

    async fn create(&self, from: &str) -> Result<PostgresConfig> {
        self.template
            .get_or_try_init(|| self.create_template())
            .await?;
        let number = self.databases.fetch_add(1, Ordering::Relaxed);
        let name = ["test_", &number.to_string()].concat();
        let sql = ["CREATE DATABASE ", &name, " OWNER ambit_owner", from].concat();
        self.administrate("postgres", &sql).await?;
        Ok(self.logins(&name))
    }

    async fn create_template(&self) -> Result<()> {
        self.administrate("postgres", "CREATE ROLE ambit_owner LOGIN CREATEROLE")
            .await?;
        self.administrate(
            "postgres",
            &["CREATE DATABASE ", TEMPLATE, " OWNER ambit_owner"].concat(),
        )
        .await?;
        crate::migrations::run_postgres(self.url("ambit_owner", TEMPLATE).expose()).await?;
        self.administrate("postgres", "CREATE ROLE test_app LOGIN IN ROLE ambit_app")
            .await?;
        self.administrate(
            "postgres",
            "CREATE ROLE test_operator LOGIN IN ROLE ambit_operator",
        )
        .await
    }

    /// As the server's superuser: what only a test's fixture may do.
    ///
    /// # Errors
    /// What the server refused.
    pub async fn administrate(&self, database: &str, sql: &str) -> Result<()> {
        let failed = |e| crate::db::failed("ADMINISTRATE", e);
        let mut connection = PgConnection::connect(self.url("postgres", database).expose())
            .await
            .map_err(failed)?;
        // Audited: the names above and constants of tests.
        connection
            .execute(sqlx::raw_sql(AssertSqlSafe(sql)))
            .await
            .map_err(failed)?;
        connection.close().await.map_err(failed)
    }

    fn logins(&self, database: &str) -> PostgresConfig {
        PostgresConfig {
            app: self.url("test_app", database),
            operator: self.url("test_operator", database),
            owner: Some(self.url("ambit_owner", database)),
            max_connections: 4,
        }
    }

    fn url(&self, user: &str, database: &str) -> Secret {
        Secret::new(
            [
                "postgres://",
                user,
                "@localhost/",
                database,
                "?host=",
                &self.folder.to_string_lossy(),
            ]
            .concat(),
        )
    }
}

/// From `PATH`, or where Debian keeps versioned programs; the newest.
fn program(name: &str) -> std::result::Result<PathBuf, String> {
    #[allow(
        clippy::disallowed_methods,
        reason = "a program is looked up where a shell would"
    )]
    let path = std::env::var_os("PATH").unwrap_or_default();
    let debian = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path().join("bin"));
    let mut debian: Vec<_> = debian.collect();
    debian.sort();
    let mut folders = std::env::split_paths(&path).chain(debian.into_iter().rev());
    let found =
        folders.find_map(|folder| Some(folder.join(name)).filter(|program| program.is_file()));
    found.ok_or_else(|| {
        [
            "`",
            name,
            "` is neither in PATH nor in /usr/lib/postgresql/*/bin",
        ]
        .concat()
    })
}

/// The command in front of the server's, because PostgreSQL refuses to run as root; gives that user the folder.
fn unprivileged(folder: &Path) -> std::result::Result<Vec<String>, String> {
    if !rustix::process::geteuid().is_root() {
        return Ok(Vec::new());
    }
    let users = std::fs::read_to_string("/etc/passwd").map_err(|e| e.to_string())?;
    let ids = |name: &str| {
        let mut fields = users
            .lines()
            .map(|line| line.split(':'))
            .find_map(|mut fields| (fields.next() == Some(name)).then_some(fields))?;
        Some((
            fields.nth(1)?.parse::<u32>().ok()?,
            fields.next()?.parse::<u32>().ok()?,
        ))
    };
    let (user, group) = ids("postgres")
        .or_else(|| ids("nobody"))
        .ok_or("root needs a user `postgres` or `nobody` to run it as")?;
    std::os::unix::fs::chown(folder, Some(user), Some(group)).map_err(|e| e.to_string())?;
    let setpriv = program("setpriv")?.to_string_lossy().into_owned();
    let (user, group) = (user.to_string(), group.to_string());
    Ok(vec![
        setpriv,
        ["--reuid=", &user].concat(),
        ["--regid=", &group].concat(),
        "--clear-groups".into(),
        "--".into(),
    ])
}
