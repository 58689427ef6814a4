//! The journal: one append-only, hash-chained log per session, with one writer.
//!
//! `event` says what an event is and how it is hashed, `writer` commits, `rows` holds the writer's multi-row statements; reading is
//! [`crate::TenantStore::events`] and [`crate::TenantStore::verify_chain`].

mod changed;
mod event;
pub(crate) mod rows;
mod writer;

pub use changed::Heads;
pub use event::{
    Append, Appended, Event, EventFacts, Header, NewEvent, NewSession, SCHEMA_VERSION, Session,
    SessionState, VerifiedChain,
};

pub(crate) use event::{Stored, session_from};

use crate::{
    JournalConfig, Result, StoreError,
    db::Db,
    keys::{Keyring, of_body},
    ledger,
};
use ambit_audit::body_hash;
use changed::Changed;
use serde_json::Value;
use std::{
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};
use tokio::sync::{Semaphore, mpsc, oneshot};
use writer::{Message, Waiting, WaitingEvent, Writer};

/// A batch that takes so long is stuck; on a slow disk it takes a tenth.
const STALLED: Duration = if cfg!(test) {
    Duration::from_millis(300)
} else {
    Duration::from_secs(5)
};

/// Handle of the writer. Cheap to clone; the writer ends when all handles are gone or the store is closed.
#[derive(Debug, Clone)]
pub struct Journal {
    queue: mpsc::Sender<Message>,
    keys: Arc<Keyring>,
    /// Kibibytes that may still wait.
    room: Arc<Semaphore>,
    most: u32,
    /// Since when the writer is at the batch it is at.
    busy: Arc<Mutex<Option<Instant>>>,
    changed: Arc<Changed>,
    /// Answered when the writer is done.
    ended: Arc<Mutex<Option<oneshot::Receiver<()>>>>,
}

impl Journal {
    pub(crate) fn start(
        db: Db,
        node: Arc<str>,
        keys: Arc<Keyring>,
        config: &JournalConfig,
    ) -> Result<Self> {
        let most = u32::try_from(config.queue_bytes / 1024)
            .unwrap_or(u32::MAX)
            .max(1);
        let (queue, waiting) = mpsc::channel(config.queue.max(1));
        let (end, ended) = oneshot::channel();
        let batch = config.batch;
        let in_place = matches!(db, Db::Sqlite { .. });
        let busy = Arc::<Mutex<Option<Instant>>>::default();
        let changed = Arc::<Changed>::default();
        let mut writer = Writer::new(db, node, batch, Arc::clone(&busy), Arc::clone(&changed));
        let writer = async move {
            writer.run(waiting).await;
            let _ = end.send(());
        };
        if in_place {
            // SQLite is called on the writer's own thread and blocks it.
            let runtime = tokio::runtime::Handle::current();
            thread::Builder::new()
                .name("ambit-journal".to_owned())
                .spawn(move || runtime.block_on(writer))
                .map_err(StoreError::unavailable)?;
        } else {
            #[expect(
                clippy::disallowed_methods,
                reason = "ends with the last handle, and `stop` waits for it"
            )]
            tokio::spawn(writer);
        }
        Ok(Self {
            queue,
            keys,
            room: Arc::new(Semaphore::new(most as usize)),
            most,
            busy,
            changed,
            ended: Arc::new(Mutex::new(Some(ended))),
        })
    }

    /// Resolves when everything in `append` is durable, or nothing of it is. A caller that stops waiting does not take it back.
    ///
    /// While the queue is full this waits: the caller is slowed down, nothing is dropped.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] for a session that was not opened, [`StoreError::Conflict`] for one opened twice, that another process works
    /// on or that went on meanwhile, [`StoreError::Full`] and [`StoreError::ReadOnly`] when nothing was written, [`StoreError::Unavailable`] when
    /// that is not known. With operations on the ledger also [`StoreError::OverBudget`], and [`StoreError::NotFound`] or
    /// [`StoreError::Conflict`] for a reservation that is not there or settled already: nothing was written then either.
    pub async fn append(&self, append: Append) -> Result<Appended> {
        if append.events.is_empty() {
            return Err(StoreError::Invalid {
                what: "append",
                why: "must hold an event",
            });
        }
        // Here and not when the batch is written: a bad append would spoil the commit of all others.
        if let Some(open) = &append.open {
            event::check_text("agent", &open.agent)?;
            event::check_text("principal", &open.principal)?;
        }
        ledger::check(&append)?;
        if append.open.is_some() && !append.approvals.is_empty() {
            return Err(StoreError::Invalid {
                what: "append",
                why: "opens the session that its approvals are of",
            });
        }
        let (tenant, session) = (append.tenant, append.session);
        let has_content = append.events.iter().any(|event| !event.body.is_empty());
        let (key, sealed_key) = match &append.open {
            Some(_) => {
                let (key, wrapped) = self.keys.begin(tenant, session).await?;
                (Some(key), Some(wrapped.into()))
            }
            None if has_content => (self.keys.session(tenant, session).await?, None),
            None => (None, None),
        };
        let mut bytes = 0;
        let mut events = Vec::with_capacity(append.events.len());
        for event in append.events {
            event::check(&event)?;
            let header = canonical(&event.header)?;
            let body = match &key {
                _ if event.body.is_empty() => event.body,
                Some(key) => key.seal(&of_body(tenant, session, &event.kind), &event.body)?,
                None => return Err(StoreError::NotFound { what: "session" }),
            };
            bytes += header.len() + body.len();
            events.push(WaitingEvent {
                kind: event.kind.into(),
                time_ms: event.time_ms,
                header: header.into(),
                body_hash: body_hash(&body),
                body: body.into(),
            });
        }
        let share = u32::try_from(bytes / 1024 + 1).unwrap_or(u32::MAX);
        if share > self.most {
            return Err(StoreError::Invalid {
                what: "append",
                why: "is bigger than the journal's queue",
            });
        }
        let share = Arc::clone(&self.room)
            .acquire_many_owned(share)
            .await
            .map_err(|_| closed())?;
        let opens = append.open.is_some();
        let (done, outcome) = oneshot::channel();
        let waiting = Box::new(Waiting {
            key: (append.tenant, append.session),
            tenant: append.tenant.to_string().into(),
            session: append.session.to_string().into(),
            open: append.open,
            parent: append.parent.map(|parent| parent.to_string().into()),
            sealed_key,
            durable: append.durable,
            expected: append.expected,
            state: append.state,
            ledger: append.ledger,
            approvals: append.approvals,
            events,
            done,
            _share: share,
        });
        self.queue
            .send(Message::Append(waiting))
            .await
            .map_err(|_| closed())?;
        let appended = outcome.await.map_err(|_| closed())??;
        if let Some(key) = key.filter(|_| opens) {
            self.keys.began(tenant, session, &key);
        }
        Ok(appended)
    }

    /// Heads of the sessions that this process wrote to since the last call; of the first call on, which has none.
    #[must_use]
    pub fn take_heads(&self) -> Heads {
        self.changed.take()
    }

    /// What was taken and not used; the next call has it again, where nothing newer is there.
    pub fn give_back_heads(&self, heads: Heads) {
        self.changed.give_back(heads);
    }

    /// Resolves when so many events have been written since heads were taken.
    pub async fn many_heads(&self, events: u64) {
        self.changed.many(events).await;
    }

    /// Whether what is appended now will be written: the writer lives, and is not held up.
    pub(crate) fn check(&self) -> Result<()> {
        if self.queue.is_closed() {
            return Err(closed());
        }
        let busy = *self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        match busy {
            Some(since) if since.elapsed() > STALLED => {
                Err(StoreError::unavailable("the journal's writer is held up"))
            }
            _ => Ok(()),
        }
    }

    /// Writes what was accepted and ends the writer.
    pub(crate) async fn stop(&self) {
        // It may have ended already.
        let _ = self.queue.send(Message::Stop).await;
        let ended = self
            .ended
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(ended) = ended
            && ended.await.is_err()
        {
            tracing::error!("the journal's writer broke");
        }
    }
}

/// A header in the form that is hashed (RFC 8785).
fn canonical(header: &Header) -> Result<String> {
    let usage = header.usage.unwrap_or_default();
    let counts = [
        usage.input_tokens,
        usage.cached_tokens,
        usage.output_tokens,
        usage.reasoning_tokens,
    ];
    let cost = header.cost.map(|cost| i128::from(cost.nanos()));
    let numbers = counts.map(i128::from).into_iter().chain(cost);
    if !numbers.into_iter().all(is_exact) || !header.facts.values().all(holds_exact) {
        return Err(StoreError::Invalid {
            what: "header",
            why: "must hold no whole number beyond 2^53 - 1",
        });
    }
    serde_json_canonicalizer::to_string(header).map_err(|_| StoreError::Invalid {
        what: "header",
        why: "has no canonical JSON form",
    })
}

/// A whole number that its canonical form, which is a double's, does not change.
fn is_exact(number: i128) -> bool {
    number.unsigned_abs() < 1 << 53
}

/// Whether the canonical form of a value (RFC 8785) says all of its whole numbers exactly.
#[must_use]
pub fn holds_exact(value: &Value) -> bool {
    match value {
        Value::Number(number) => {
            let whole = number.as_i64().map(i128::from);
            whole
                .or(number.as_u64().map(i128::from))
                .is_none_or(is_exact)
        }
        Value::Array(items) => items.iter().all(holds_exact),
        Value::Object(entries) => entries.values().all(holds_exact),
        Value::Null | Value::Bool(_) | Value::String(_) => true,
    }
}

fn closed() -> StoreError {
    StoreError::unavailable("the journal is closed")
}

#[cfg(test)]
pub(crate) fn statements() -> Vec<crate::db::Statement> {
    let multi_row = rows::EVENT_INSERT
        .iter()
        .chain(&rows::SESSION_PUT)
        .map(|(_, statement)| *statement);
    writer::ALL
        .iter()
        .copied()
        .chain(multi_row)
        .chain(ledger::in_batches())
        .collect()
}
