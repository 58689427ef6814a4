//! Where the data lies.

use crate::MasterKey;
use ambit_types::Secret;
use std::{path::PathBuf, time::Duration};

/// Everything [`crate::Store::open`] needs.
#[derive(Debug, Clone)]
pub struct StoreConfig {
    pub database: Database,
    pub journal: JournalConfig,
    /// What the journal's content is sealed with, at the end.
    pub master_key: MasterKey,
}

impl StoreConfig {
    /// The embedded default: one file, created with its tables when absent, and `master.key` beside it.
    #[must_use]
    pub fn sqlite(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        Self {
            master_key: MasterKey::File(path.with_file_name("master.key")),
            database: Database::Sqlite { path },
            journal: JournalConfig::default(),
        }
    }

    /// Nodes share a database, and so a master key: each is given it.
    #[must_use]
    pub fn postgres(config: PostgresConfig, master_key: MasterKey) -> Self {
        Self {
            database: Database::Postgres(config),
            journal: JournalConfig::default(),
            master_key,
        }
    }
}

#[derive(Debug, Clone)]
pub enum Database {
    Sqlite { path: PathBuf },
    Postgres(PostgresConfig),
}

/// Three logins, because a process that serves tenants must not be able to change tables or see across tenants by mistake.
#[derive(Debug, Clone)]
pub struct PostgresConfig {
    /// A login that is a member of the role `ambit_app`: DML on tenants' rows, one tenant per transaction, owner of nothing.
    pub app: Secret,
    /// A login that is a member of the role `ambit_operator`: DML across tenants, owner of nothing.
    pub operator: Secret,
    /// The owner of the tables, used for migrations and closed again. It may create the two roles (`CREATEROLE`) or finds them made.
    /// None: somebody else migrates; opening fails when the schema is not the expected one.
    pub owner: Option<Secret>,
    /// Connections of each of the two logins; the journal has one more.
    pub max_connections: u32,
}

#[derive(Debug, Clone)]
pub struct JournalConfig {
    /// Appends waiting for the writer; one more waits outside the queue.
    pub queue: usize,
    /// Bytes of events that may wait for the writer, so that large bodies cannot fill memory.
    pub queue_bytes: usize,
    /// Appends that share one commit at most: bounds how long a commit holds SQLite's only writer.
    pub batch: usize,
    /// Closed sessions older than this are removed by [`crate::Operator::prune_sessions`].
    pub retention: Duration,
    /// Sessions that waited for longer are over.
    pub idle: Duration,
}

impl Default for JournalConfig {
    fn default() -> Self {
        // 30 days: long enough to answer a complaint, short enough that nobody keeps conversations by accident.
        Self {
            queue: 4096,
            queue_bytes: 64 << 20,
            batch: 512,
            retention: Duration::from_secs(30 * 24 * 3600),
            idle: Duration::from_secs(90 * 24 * 3600),
        }
    }
}
