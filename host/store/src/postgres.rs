//! Connections to PostgreSQL that may stop answering.
//!
//! When a server fails over and its packets are dropped, nothing arrives on its connections, not even an error, until the kernel gives up after a quarter of an
//! hour. So every statement has a time to be answered in. When one is not, its connection and all of its pool are left to themselves, and a new pool is used from then on. The
//! server's own limits are tighter: what is merely slow ends there, with an error.

use crate::{
    Result, StoreError,
    db::{BUSY, Turn, failed},
};
use sqlx::{
    ConnectOptions as _, Executor as _, PgPool, Postgres, Transaction,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use std::{
    str::FromStr as _,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::time::timeout;

/// How long an answer may take, the wait for a connection included.
const ANSWER: Duration = if cfg!(test) {
    Duration::from_secs(2)
} else {
    Duration::from_secs(15)
};

/// How long to wait for a connection; where the server was not heard of meanwhile, those there are hang.
const ACQUIRE: Duration = if cfg!(test) {
    Duration::from_secs(1)
} else {
    BUSY
};

/// A statement ends after [`BUSY`], and with it a wait for a lock; and so does a transaction whose owner was cut off, before others have waited for its locks too long.
///
/// And what is told as committed is on disk, even where a login's default is to answer before.
const SETTINGS: &str = "SET statement_timeout = '10s'; SET idle_in_transaction_session_timeout = '10s'; \
     SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'";

/// The connections of one login. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Pool(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    login: PgConnectOptions,
    size: u32,
    current: Mutex<Arc<Generation>>,
}

/// A pool until it is left.
#[derive(Debug)]
struct Generation {
    pool: PgPool,
    /// When the server last answered on it.
    heard: Mutex<Instant>,
}

impl Generation {
    fn new(pool: PgPool) -> Arc<Self> {
        let heard = Mutex::new(Instant::now());
        Arc::new(Self { pool, heard })
    }

    fn heard(&self) -> MutexGuard<'_, Instant> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether this is a URL that connections can be made with. It holds a password: the answer holds nothing of it.
#[must_use]
pub fn is_postgres_url(url: &str) -> bool {
    (url.starts_with("postgres://") || url.starts_with("postgresql://"))
        && PgConnectOptions::from_str(url).is_ok()
}

impl Pool {
    /// Connects once, to see that it can.
    pub(crate) async fn connect(url: &str, size: u32) -> Result<Self> {
        let login = PgConnectOptions::from_str(url)
            .map_err(|e| failed("CONNECT", e))?
            .application_name("ambit")
            .disable_statement_logging();
        let pool = options(size).connect_with(login.clone());
        let pool = pool.await.map_err(|e| failed("CONNECT", e))?;
        Ok(Self(Arc::new(Inner {
            login,
            size,
            current: Mutex::new(Generation::new(pool)),
        })))
    }

    /// The pool in use.
    pub(crate) fn now(&self) -> PgPool {
        self.current().pool.clone()
    }

    pub(crate) async fn begin(&self, begin: &'static str) -> Result<PgTx> {
        let origin = Origin {
            generation: Arc::clone(&self.current()),
            pool: self.clone(),
        };
        let tx = origin.generation.pool.begin_with(begin);
        let tx = origin.answered("BEGIN", tx).await?;
        Ok(PgTx {
            tx,
            origin,
            turns: Vec::new(),
        })
    }

    pub(crate) async fn close(&self) {
        if timeout(ANSWER, self.now().close()).await.is_err() {
            tracing::warn!("connections to the database do not end; they are left");
        }
    }

    fn current(&self) -> MutexGuard<'_, Arc<Generation>> {
        let current = self.0.current.lock();
        current.unwrap_or_else(PoisonError::into_inner)
    }
}

fn options(size: u32) -> PgPoolOptions {
    PgPoolOptions::new()
        .max_connections(size.max(1))
        .acquire_timeout(ACQUIRE)
        .test_before_acquire(false)
        .after_connect(|connection, _| {
            Box::pin(async move { connection.execute(SETTINGS).await.map(drop) })
        })
}

/// The pool a connection is of.
#[derive(Debug)]
pub(crate) struct Origin {
    pool: Pool,
    generation: Arc<Generation>,
}

impl Origin {
    /// Waits for what the server says.
    pub(crate) async fn answered<T>(
        &self,
        statement: &'static str,
        answer: impl Future<Output = sqlx::Result<T>>,
    ) -> Result<T> {
        match timeout(ANSWER, answer).await {
            Ok(Err(error @ sqlx::Error::PoolTimedOut)) => {
                if self.generation.heard().elapsed() >= ACQUIRE {
                    self.leave(statement);
                }
                Err(failed(statement, error))
            }
            Ok(answer) => {
                *self.generation.heard() = Instant::now();
                answer.map_err(|e| failed(statement, e))
            }
            Err(elapsed) => {
                self.leave(statement);
                Err(StoreError::unavailable(elapsed))
            }
        }
    }

    /// Puts a new pool in its place, unless somebody did.
    fn leave(&self, statement: &'static str) {
        let mut current = self.pool.current();
        if Arc::ptr_eq(&current, &self.generation) {
            tracing::warn!(
                statement,
                "the database does not answer; its connections are left"
            );
            let Inner { login, size, .. } = &*self.pool.0;
            *current = Generation::new(options(*size).connect_lazy_with(login.clone()));
        }
    }
}

/// A transaction, rolled back when dropped.
#[derive(Debug)]
pub(crate) struct PgTx {
    pub(crate) tx: Transaction<'static, Postgres>,
    pub(crate) origin: Origin,
    /// Given back when it has ended.
    pub(crate) turns: Vec<Turn>,
}

impl PgTx {
    pub(crate) async fn commit(self) -> Result<()> {
        let Self { tx, origin, turns } = self;
        let done = origin.answered("COMMIT", tx.commit()).await;
        drop(turns);
        done
    }
}
