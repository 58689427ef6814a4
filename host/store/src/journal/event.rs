//! What is written to the journal, what comes back, and the hash that chains it.
//!
//! Version 1 stored bodies as they were, version 2 stores them sealed (see [`crate::MasterKey`]) and headers as canonical JSON (RFC 8785); with
//! version 3 what sessions write in them is enough to go on from and to replay.
//! The hash is that of [`ambit_audit::Envelope`] in both, over what is stored.

use crate::{
    ApprovalOp, Digest, Result, StoreError,
    db::Row,
    keys::{Key, of_body},
    records::text_enum,
};
use ambit_audit::{Envelope, body_hash};
use ambit_ledger::{LedgerOp, Money, Reserve, Usage};
use ambit_types::{ReservationId, SessionId, TenantId};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::{borrow::Cow, sync::Arc};

/// Version of what is written; what older programs wrote is read as they wrote it.
pub const SCHEMA_VERSION: i64 = 3;

/// From this version on bodies are sealed.
const SEALED: i64 = 2;

/// Everything that is to become durable together, for one session.
#[derive(Debug, Clone)]
pub struct Append {
    pub(crate) tenant: TenantId,
    pub(crate) session: SessionId,
    pub(crate) open: Option<NewSession>,
    pub(crate) parent: Option<SessionId>,
    pub(crate) events: Vec<NewEvent>,
    pub(crate) durable: bool,
    pub(crate) expected: Option<i64>,
    pub(crate) state: Option<(SessionState, Option<Cow<'static, str>>)>,
    pub(crate) ledger: Vec<LedgerOp>,
    pub(crate) approvals: Vec<ApprovalOp>,
}

impl Append {
    #[must_use]
    pub fn new(tenant: TenantId, session: SessionId) -> Self {
        Self {
            tenant,
            session,
            open: None,
            parent: None,
            events: Vec::new(),
            durable: false,
            expected: None,
            state: None,
            ledger: Vec::new(),
            approvals: Vec::new(),
        }
    }

    /// Opens the session; its first append must.
    #[must_use]
    pub fn open(mut self, session: NewSession) -> Self {
        self.open = Some(session);
        self
    }

    /// The session that is opened was started by this one, which waits for it.
    #[must_use]
    pub fn started_by(mut self, parent: SessionId) -> Self {
        self.parent = Some(parent);
        self
    }

    /// Another process goes on with the session from here on, should this one die.
    #[must_use]
    pub fn durable(mut self) -> Self {
        self.durable = true;
        self
    }

    /// Only if this is the sequence number of the session's last event; otherwise the append is a [`StoreError::Conflict`].
    #[must_use]
    pub fn after(mut self, last_seq: i64) -> Self {
        self.expected = Some(last_seq);
        self
    }

    #[must_use]
    pub fn event(mut self, event: NewEvent) -> Self {
        self.events.push(event);
        self
    }

    #[must_use]
    pub fn events(mut self, events: impl IntoIterator<Item = NewEvent>) -> Self {
        self.events.extend(events);
        self
    }

    /// The session's state from here on.
    #[must_use]
    pub fn state(mut self, state: SessionState) -> Self {
        self.state = Some((state, None));
        self
    }

    /// As [`Append::state`], with what a suspended session waits for or why it stopped.
    #[must_use]
    pub fn state_because(
        mut self,
        state: SessionState,
        reason: impl Into<Cow<'static, str>>,
    ) -> Self {
        self.state = Some((state, Some(reason.into())));
        self
    }

    /// Holds back what a call can cost, together with its intent: when a budget has not enough, nothing of the append is written.
    #[must_use]
    pub fn reserve(mut self, reserve: Reserve) -> Self {
        self.ledger.push(LedgerOp::Reserve(reserve));
        self
    }

    /// Operations on the ledger, in their order; of those that settle or spend, an event beside them says the same cost in its header.
    #[must_use]
    pub fn ledger(mut self, ops: impl IntoIterator<Item = LedgerOp>) -> Self {
        self.ledger.extend(ops);
        self
    }

    /// Changes approvals of the session: where the conditions of one of these do not hold, nothing of the append is written, and it is a
    /// [`StoreError::Conflict`] about an approval. Not in the append that opens the session.
    #[must_use]
    pub fn approvals(mut self, ops: impl IntoIterator<Item = ApprovalOp>) -> Self {
        self.approvals.extend(ops);
        self
    }

    /// Spends what a call did cost in place of what was held back for it. An event beside it says the same cost in its header.
    #[must_use]
    pub fn settle(mut self, id: ReservationId, cost: Money, usage: Usage) -> Self {
        self.ledger.push(LedgerOp::Settle { id, cost, usage });
        self
    }

    /// Gives back what was held back for a call that was not made or cost nothing. Of one that is over already, it changes nothing.
    #[must_use]
    pub fn release(mut self, id: ReservationId) -> Self {
        self.ledger.push(LedgerOp::Release { id });
        self
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewSession {
    pub agent: Arc<str>,
    pub principal: Arc<str>,
}

/// An event before the journal gave it its place.
#[derive(Debug, Clone)]
pub struct NewEvent {
    /// At most 64 bytes.
    pub kind: Cow<'static, str>,
    pub time_ms: i64,
    pub header: Header,
    pub body: Vec<u8>,
}

impl NewEvent {
    /// Happening now.
    #[must_use]
    pub fn new(kind: impl Into<Cow<'static, str>>, header: Header, body: Vec<u8>) -> Self {
        Self {
            kind: kind.into(),
            time_ms: crate::now_ms(),
            header,
            body,
        }
    }
}

/// The clear part of an event, readable without the session's key: no text of a person belongs here.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Header {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// Of the calls that are settled with this event.
    #[serde(
        default,
        rename = "cost_nanos",
        skip_serializing_if = "Option::is_none"
    )]
    pub cost: Option<Money>,
    /// Whatever else the kind of event says in clear: provider, model, tool, verdict.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub facts: Map<String, Value>,
}

/// Where an append landed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// Sequence number of the first event appended; the others follow without a gap.
    pub first_seq: i64,
    pub last_seq: i64,
    /// Content hash of the last one: covers the session up to there.
    pub head: Digest,
}

/// A stored event.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// 1 for the first of a session.
    pub seq: i64,
    pub schema_version: i64,
    pub kind: String,
    pub time_ms: i64,
    pub header: Header,
    /// None: its key was erased.
    pub body: Option<Vec<u8>>,
    pub content_hash: Digest,
    pub previous_hash: Digest,
}

/// What an event says in clear.
#[derive(Debug, Clone, PartialEq)]
pub struct EventFacts {
    pub seq: i64,
    pub kind: String,
    pub header: Header,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    pub tenant: TenantId,
    pub id: SessionId,
    pub agent: String,
    pub principal: String,
    pub state: SessionState,
    pub created_ms: i64,
    /// When the state last changed.
    pub updated_ms: i64,
    /// The last event when the state last changed.
    pub head_seq: i64,
    pub head_hash: Digest,
    /// When its content was erased.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub erased_ms: Option<i64>,
    /// The process that works on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Whether another process goes on with it when that one dies.
    #[serde(default)]
    pub durable: bool,
    /// What it waits for while it is suspended, or why it stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When somebody asked for its end while it was worked on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancel_ms: Option<i64>,
    /// The session that started it and waits for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<SessionId>,
}

/// A chain that holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VerifiedChain {
    pub events: i64,
    pub head: Digest,
}

text_enum! {
    /// Where a session stands.
    SessionState {
        Open = "open",
        /// Waits for somebody: for a message, or for what stopped it to be mended.
        Suspended = "suspended",
        Finished = "finished",
        Failed = "failed",
        /// The process died while it was open.
        Interrupted = "interrupted",
        /// Somebody ended it before it was done.
        Cancelled = "cancelled",
    }
}

impl SessionState {
    /// Those in which a session's row has its last event.
    pub(crate) const AT_REST: [Self; 5] = [
        Self::Suspended,
        Self::Finished,
        Self::Failed,
        Self::Interrupted,
        Self::Cancelled,
    ];

    /// Whether nothing more happens in it: such sessions are removed after the retention time.
    #[must_use]
    pub fn is_closed(self) -> bool {
        matches!(
            self,
            Self::Finished | Self::Failed | Self::Interrupted | Self::Cancelled
        )
    }
}

/// Refuses what cannot be stored on both databases or would not be read back.
/// PostgreSQL's text cannot hold NUL.
pub(crate) fn check_text(what: &'static str, text: &str) -> Result<()> {
    if text.contains('\0') {
        return Err(StoreError::Invalid {
            what,
            why: "must not hold a NUL character",
        });
    }
    Ok(())
}

pub(crate) fn check(event: &NewEvent) -> Result<()> {
    check_text("event kind", &event.kind)?;
    if event.kind.is_empty() || event.kind.len() > 64 {
        return Err(StoreError::Invalid {
            what: "event kind",
            why: "must have 1 to 64 bytes",
        });
    }
    if event.time_ms < 0 {
        return Err(StoreError::Invalid {
            what: "event time",
            why: "must not be before 1970",
        });
    }
    Ok(())
}

/// A row of `events` with the header's exact text, which the hash covers.
pub(crate) struct Stored {
    pub(crate) seq: i64,
    schema_version: i64,
    kind: String,
    time_ms: i64,
    header: String,
    pub(crate) body: Vec<u8>,
    pub(crate) content_hash: Digest,
    pub(crate) previous_hash: Digest,
}

impl Stored {
    pub(crate) fn from_row(row: &Row) -> Result<Self> {
        Ok(Self {
            seq: row.int(0)?,
            schema_version: row.int(1)?,
            kind: row.text(2)?,
            time_ms: row.int(3)?,
            header: row.text(4)?,
            body: row.blob(5)?,
            content_hash: row.digest(6)?,
            previous_hash: row.digest(7)?,
        })
    }

    pub(crate) fn hash(&self, tenant: TenantId, session: SessionId) -> Digest {
        Envelope {
            schema_version: self.schema_version,
            tenant: &tenant.to_string(),
            session: &session.to_string(),
            seq: self.seq,
            kind: &self.kind,
            time_ms: self.time_ms,
            header: &self.header,
            previous_hash: self.previous_hash,
            body_length: self.body.len() as u64,
            body_hash: body_hash(&self.body),
        }
        .hash()
    }

    pub(crate) fn into_exported(self) -> ambit_audit::Event {
        ambit_audit::Event {
            seq: self.seq,
            schema_version: self.schema_version,
            kind: self.kind,
            time_ms: self.time_ms,
            header: self.header,
            body: STANDARD.encode(self.body),
            content_hash: self.content_hash,
        }
    }

    /// With its body opened. Without a key, what is sealed is gone.
    pub(crate) fn into_event(
        self,
        tenant: TenantId,
        session: SessionId,
        key: Option<&Key>,
    ) -> Result<Event> {
        let body = match key {
            _ if self.schema_version < SEALED || self.body.is_empty() => Some(self.body),
            Some(key) => Some(key.open(&of_body(tenant, session, &self.kind), &self.body)?),
            None => None,
        };
        let header = serde_json::from_str(&self.header).map_err(|e| StoreError::Corrupt {
            statement: "EVENT_PAGE",
            column: 4,
            source: std::sync::Arc::new(e),
        })?;
        Ok(Event {
            seq: self.seq,
            schema_version: self.schema_version,
            kind: self.kind,
            time_ms: self.time_ms,
            header,
            body,
            content_hash: self.content_hash,
            previous_hash: self.previous_hash,
        })
    }
}

pub(crate) fn session_from(row: &Row) -> Result<Session> {
    Ok(Session {
        tenant: row.parsed(0)?,
        id: row.parsed(1)?,
        agent: row.text(2)?,
        principal: row.text(3)?,
        state: row.parsed(4)?,
        created_ms: row.int(5)?,
        updated_ms: row.int(6)?,
        head_seq: row.int(7)?,
        head_hash: row.digest(8)?,
        erased_ms: row.optional_int(9)?,
        node: row.optional_text(10)?,
        durable: row.int(11)? != 0,
        reason: row.optional_text(12)?,
        cancel_ms: row.optional_int(13)?,
        parent: match row.optional_text(14)? {
            Some(_) => Some(row.parsed(14)?),
            None => None,
        },
    })
}
