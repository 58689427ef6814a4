//! The one writer of events: takes what waits, gives it its places and hashes, commits it in one transaction, answers everybody.
//!
//! One task (on SQLite a thread of its own, see `direct`), because a sequence number and a hash chain have one next place, and because a batch is then simply whatever arrived
//! during the last commit: alone, an append costs one `fsync`; at 256 sessions, a few hundred share one. No timer waits for company.
//!
//! When a commit fails, the batch is tried append by append, so that a bad one (a session another process went on with) fails alone. When
//! the database itself fails (full, read-only, gone), all of the batch is told so and nothing is tried again: the caller knows what it
//! may repeat. The next append starts from what the database says.

use super::{
    changed::Changed,
    event::{Appended, NewSession, SCHEMA_VERSION, SessionState},
    rows::{EVENT_INSERT, SESSION_PUT, in_sizes},
    session_from,
};
use crate::{
    ApprovalOp, Digest, Head, Result, StoreError, approvals,
    db::{Access, Db, Statement, Tx, Value, statements},
    ledger::{self, Wanted},
    now_ms,
};
use ambit_audit::Envelope;
use ambit_ledger::{Books, LedgerOp};
use ambit_types::{SessionId, TenantId};
use std::{
    borrow::Cow,
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

/// Sessions whose head is remembered; some 200 bytes each. Beyond it all are forgotten and read again when they go on.
const REMEMBERED: usize = 16_384;

type Key = (TenantId, SessionId);

/// An append on its way, with everything its caller could compute for it.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) key: Key,
    pub(super) tenant: Arc<str>,
    pub(super) session: Arc<str>,
    pub(super) open: Option<NewSession>,
    /// Of a session that is opened: which one started it.
    pub(super) parent: Option<Arc<str>>,
    /// Of a session that is opened.
    pub(super) sealed_key: Option<Arc<[u8]>>,
    pub(super) durable: bool,
    pub(super) expected: Option<i64>,
    pub(super) state: Option<(SessionState, Option<Cow<'static, str>>)>,
    pub(super) ledger: Vec<LedgerOp>,
    pub(super) approvals: Vec<ApprovalOp>,
    pub(super) events: Vec<WaitingEvent>,
    pub(super) done: oneshot::Sender<Result<Appended>>,
    /// Its share of the queue's bytes.
    pub(super) _share: OwnedSemaphorePermit,
}

#[derive(Debug)]
pub(super) struct WaitingEvent {
    pub(super) kind: Arc<str>,
    pub(super) time_ms: i64,
    pub(super) header: Arc<str>,
    pub(super) body: Arc<[u8]>,
    pub(super) body_hash: Digest,
}

#[derive(Debug)]
pub(super) enum Message {
    Append(Box<Waiting>),
    Stop,
}

/// Where a session's chain ends, and its row.
#[derive(Debug, Clone)]
struct Place {
    seq: i64,
    hash: Digest,
    agent: Arc<str>,
    principal: Arc<str>,
    state: SessionState,
    reason: Option<Arc<str>>,
    created_ms: i64,
    updated_ms: i64,
}

pub(super) struct Writer {
    db: Db,
    /// This process, as the sessions it works on name it.
    node: Arc<str>,
    heads: HashMap<Key, Place>,
    batch: usize,
    busy: Arc<Mutex<Option<Instant>>>,
    changed: Arc<Changed>,
}

impl Writer {
    pub(super) fn new(
        db: Db,
        node: Arc<str>,
        batch: usize,
        busy: Arc<Mutex<Option<Instant>>>,
        changed: Arc<Changed>,
    ) -> Self {
        Self {
            db,
            node,
            heads: HashMap::new(),
            batch: batch.max(1),
            busy,
            changed,
        }
    }

    pub(super) async fn run(&mut self, mut queue: mpsc::Receiver<Message>) {
        let mut messages = Vec::with_capacity(self.batch);
        let mut stopping = false;
        while !stopping && queue.recv_many(&mut messages, self.batch).await > 0 {
            let mut batch = Vec::with_capacity(messages.len());
            for message in messages.drain(..) {
                match message {
                    Message::Append(waiting) => batch.push(*waiting),
                    Message::Stop => stopping = true,
                }
            }
            self.at_work(Some(Instant::now()));
            self.settle(batch).await;
            self.at_work(None);
        }
    }

    fn at_work(&self, since: Option<Instant>) {
        *self.busy.lock().unwrap_or_else(PoisonError::into_inner) = since;
    }

    /// Commits the batch and answers each of its appends.
    async fn settle(&mut self, batch: Vec<Waiting>) {
        if batch.is_empty() {
            return;
        }
        match self.commit(&batch).await {
            Ok(outcomes) => answer(batch, outcomes),
            Err(error) if batch.len() == 1 || error.is_of_database() => {
                // Somebody else was first: no fault of the journal.
                if !matches!(error, StoreError::Conflict { .. }) {
                    tracing::error!(
                        error = &error as &dyn std::error::Error,
                        appends = batch.len(),
                        "the journal could not be written"
                    );
                }
                // What the database really holds is read again when the session goes on.
                for waiting in &batch {
                    self.heads.remove(&waiting.key);
                }
                let error = crate::operator::conflict(error, "session");
                let outcomes = batch.iter().map(|_| Err(error.clone())).collect();
                answer(batch, outcomes);
            }
            Err(_) => {
                for waiting in batch {
                    Box::pin(self.settle(vec![waiting])).await;
                }
            }
        }
        if self.heads.len() > REMEMBERED {
            self.heads.clear();
        }
    }

    /// Commits the batch, or leaves everything, this writer's memory included, as it was.
    async fn commit(&mut self, batch: &[Waiting]) -> Result<Vec<Result<Appended>>> {
        let mut before = Vec::with_capacity(batch.len());
        let outcome = self.write(batch, &mut before).await;
        if outcome.is_err() {
            for (key, head) in before.into_iter().rev() {
                match head {
                    Some(head) => drop(self.heads.insert(key, head)),
                    None => drop(self.heads.remove(&key)),
                }
            }
        }
        outcome
    }

    /// One transaction for all; what one append did wrong by itself is its own outcome.
    async fn write(
        &mut self,
        batch: &[Waiting],
        before: &mut Vec<(Key, Option<Place>)>,
    ) -> Result<Vec<Result<Appended>>> {
        let mut tx = self.db.write(Access::EachTenant).await?;
        let mut outcomes = Vec::with_capacity(batch.len());
        let mut events = Vec::new();
        let mut changed = Vec::new();
        let wanted = batch.iter().map(|waiting| Wanted {
            tenant: waiting.key.0,
            session: waiting.key.1,
            ops: &waiting.ledger,
        });
        let mut books = ledger::load(&mut tx, wanted).await?;
        for waiting in batch {
            before.push((waiting.key, self.heads.get(&waiting.key).cloned()));
            let outcome = self
                .place(&mut tx, waiting, &mut books, &mut events)
                .await?;
            if outcome.is_ok() && (waiting.open.is_some() || waiting.state.is_some()) {
                changed.push(waiting);
            }
            outcomes.push(outcome);
        }
        // In one order whoever writes, so that no two wait for each other. Refused, one takes the batch along; then each of it is tried alone.
        let mut asking: Vec<_> = batch.iter().zip(&outcomes).collect();
        asking.retain(|(waiting, outcome)| outcome.is_ok() && !waiting.approvals.is_empty());
        asking.sort_by(|(a, _), (b, _)| (&a.tenant, &a.session).cmp(&(&b.tenant, &b.session)));
        for (waiting, _) in asking {
            approvals::apply(
                &mut tx,
                &waiting.tenant,
                &waiting.session,
                &waiting.approvals,
            )
            .await?;
        }
        // A session that changed twice in a batch is written once, as it is in the end.
        changed.sort_by(|a, b| (&a.tenant, &a.session).cmp(&(&b.tenant, &b.session)));
        changed.dedup_by_key(|waiting| waiting.key);
        let sessions: Vec<_> = changed
            .iter()
            .filter_map(|waiting| {
                Some(session_row(
                    waiting,
                    &self.node,
                    self.heads.get(&waiting.key)?,
                ))
            })
            .collect();
        ledger::write(&mut tx, &books).await?;
        insert(&mut tx, &SESSION_PUT, sessions).await?;
        insert(&mut tx, &EVENT_INSERT, events).await?;
        tx.commit().await?;
        let written = batch.iter().zip(&outcomes).filter(|(_, done)| done.is_ok());
        let written = written
            .map(|(waiting, _)| waiting.events.len() as u64)
            .sum();
        let heads = batch
            .iter()
            .zip(&outcomes)
            .filter_map(|(waiting, outcome)| {
                let Appended { last_seq, head, .. } = *outcome.as_ref().ok()?;
                let (seq, hash) = (last_seq, head);
                Some((waiting.key, Head { seq, hash }))
            });
        self.changed.put(written, heads);
        for waiting in changed {
            if self
                .heads
                .get(&waiting.key)
                .is_some_and(|head| head.state != SessionState::Open)
            {
                self.heads.remove(&waiting.key);
            }
        }
        Ok(outcomes)
    }

    /// Gives an append its sequence numbers and hashes. The outer error is the database's and spoils the transaction.
    async fn place(
        &mut self,
        tx: &mut Tx,
        waiting: &Waiting,
        books: &mut Books,
        events: &mut Vec<InsertRow>,
    ) -> Result<Result<Appended>> {
        // What is remembered may be another node's past: who says where he goes on is held against the database, not against that.
        let stale = self.heads.get(&waiting.key).is_some_and(|head| {
            waiting
                .expected
                .is_some_and(|expected| expected != head.seq)
        });
        if stale {
            self.heads.remove(&waiting.key);
        }
        let head = match self.heads.entry(waiting.key) {
            Entry::Occupied(_) if waiting.open.is_some() => {
                return Ok(Err(StoreError::Conflict { what: "session" }));
            }
            Entry::Occupied(head) => head.into_mut(),
            Entry::Vacant(place) => {
                let head = match &waiting.open {
                    Some(session) => Some(Known {
                        head: Place::first(session),
                        node: None,
                    }),
                    None => load(tx, waiting).await?,
                };
                let Some(Known { head, node }) = head else {
                    return Ok(Err(StoreError::NotFound { what: "session" }));
                };
                // A process that was taken for dead wakes up: what it worked on is another's now.
                let moved = waiting.expected.is_some_and(|seq| seq != head.seq);
                if moved || node.is_some_and(|node| node != *self.node) {
                    return Ok(Err(StoreError::Conflict { what: "session" }));
                }
                place.insert(head)
            }
        };
        // What is over stays so, whoever went on with it at the same moment.
        let reopens = matches!(waiting.state, Some((SessionState::Open, _)));
        if reopens && head.state.is_closed() {
            self.heads.remove(&waiting.key);
            return Ok(Err(StoreError::Conflict { what: "session" }));
        }
        let (tenant, session) = waiting.key;
        if let Err(refusal) = books.apply(tenant, session, &waiting.ledger) {
            if waiting.open.is_some() {
                self.heads.remove(&waiting.key);
            }
            return Ok(Err(StoreError::refused(refusal)));
        }
        let first_seq = head.seq + 1;
        for event in &waiting.events {
            let seq = head.seq + 1;
            let previous_hash = head.hash;
            let content_hash = Envelope {
                schema_version: SCHEMA_VERSION,
                tenant: &waiting.tenant,
                session: &waiting.session,
                seq,
                kind: &event.kind,
                time_ms: event.time_ms,
                header: &event.header,
                previous_hash,
                body_length: event.body.len() as u64,
                body_hash: event.body_hash,
            }
            .hash();
            events.push(InsertRow {
                tenant: Arc::clone(&waiting.tenant),
                values: vec![
                    Value::from(Arc::clone(&waiting.tenant)),
                    Value::from(Arc::clone(&waiting.session)),
                    Value::from(seq),
                    Value::from(SCHEMA_VERSION),
                    Value::from(Arc::clone(&event.kind)),
                    Value::from(event.time_ms),
                    Value::from(Arc::clone(&event.header)),
                    Value::from(Arc::clone(&event.body)),
                    Value::from(content_hash),
                    Value::from(previous_hash),
                ],
            });
            head.seq = seq;
            head.hash = content_hash;
        }
        if let Some((state, reason)) = &waiting.state {
            head.state = *state;
            head.reason = reason.as_deref().map(Arc::from);
            head.updated_ms = now_ms();
        }
        Ok(Ok(Appended {
            first_seq,
            last_seq: head.seq,
            head: head.hash,
        }))
    }
}

impl Place {
    fn first(session: &NewSession) -> Self {
        let now = now_ms();
        Self {
            seq: 0,
            hash: Digest::default(),
            agent: Arc::clone(&session.agent),
            principal: Arc::clone(&session.principal),
            state: SessionState::Open,
            reason: None,
            created_ms: now,
            updated_ms: now,
        }
    }
}

/// The head of a session that this process has not written lately.
async fn load(tx: &mut Tx, waiting: &Waiting) -> Result<Option<Known>> {
    tx.enter(&waiting.tenant).await?;
    let query = |statement: Statement| {
        statement
            .query()
            .bind(Arc::clone(&waiting.tenant))
            .bind(Arc::clone(&waiting.session))
    };
    let Some(row) = query(SESSION_OF_HEAD).optional(tx).await? else {
        return Ok(None);
    };
    let session = session_from(&row)?;
    let last = query(LAST_EVENT).optional(tx).await?;
    let (seq, hash) = last.map_or(Ok((0, Digest::default())), |row| {
        Ok((row.int(0)?, row.digest(1)?))
    })?;
    let head = Place {
        seq,
        hash,
        agent: session.agent.into(),
        principal: session.principal.into(),
        state: session.state,
        reason: session.reason.map(Arc::from),
        created_ms: session.created_ms,
        updated_ms: session.updated_ms,
    };
    let node = session.node;
    Ok(Some(Known { head, node }))
}

/// What the database knows of a session, and the process that works on it.
struct Known {
    head: Place,
    node: Option<String>,
}

/// A row for one of the multi-row statements.
struct InsertRow {
    tenant: Arc<str>,
    values: Vec<Value>,
}

fn session_row(waiting: &Waiting, node: &Arc<str>, head: &Place) -> InsertRow {
    let node = (head.state == SessionState::Open).then(|| Arc::clone(node));
    InsertRow {
        tenant: Arc::clone(&waiting.tenant),
        values: vec![
            Value::from(Arc::clone(&waiting.tenant)),
            Value::from(Arc::clone(&waiting.session)),
            Value::from(Arc::clone(&head.agent)),
            Value::from(Arc::clone(&head.principal)),
            Value::from(head.state.as_str()),
            Value::from(head.created_ms),
            Value::from(head.updated_ms),
            Value::from(head.seq),
            Value::from(head.hash),
            Value::Blob(waiting.sealed_key.clone()),
            Value::Text(node),
            Value::from(i64::from(waiting.durable)),
            Value::Text(head.reason.clone()),
            Value::Text(waiting.parent.clone()),
        ],
    }
}

/// Inserts the rows with as few statements as the fixed sizes allow; on PostgreSQL tenant by tenant, as row-level security wants it.
async fn insert(tx: &mut Tx, sizes: &[(usize, Statement)], mut rows: Vec<InsertRow>) -> Result<()> {
    if tx.has_row_security() {
        // Stable: within a tenant the order of sequence numbers stays.
        rows.sort_by(|a, b| a.tenant.cmp(&b.tenant));
        let mut rows = rows.into_iter().peekable();
        while let Some(first) = rows.next() {
            let tenant = Arc::clone(&first.tenant);
            let mut group = vec![first];
            while let Some(row) = rows.next_if(|row| row.tenant == tenant) {
                group.push(row);
            }
            tx.enter(&tenant).await?;
            in_sizes(tx, sizes, group.into_iter().map(|row| row.values)).await?;
        }
    } else {
        in_sizes(tx, sizes, rows.into_iter().map(|row| row.values)).await?;
    }
    Ok(())
}

/// A caller that stopped waiting is no fault.
fn answer(batch: Vec<Waiting>, outcomes: Vec<Result<Appended>>) {
    for (waiting, outcome) in batch.into_iter().zip(outcomes) {
        let _ = waiting.done.send(outcome);
    }
}

statements! {
    SESSION_OF_HEAD = "SELECT tenant, session, agent, principal, state, created_ms, updated_ms, head_seq, head_hash, erased_ms, node, durable, reason, cancel_ms, parent FROM sessions \
        WHERE tenant = $1 AND session = $2";
    LAST_EVENT = "SELECT seq, content_hash FROM events WHERE tenant = $1 AND session = $2 ORDER BY seq DESC LIMIT 1";
}
