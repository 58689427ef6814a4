//! Sessions that go on: which process works on one, who asked for it, who wants it ended.

use super::TenantStore;
use crate::{Digest, Result, Session, day_of, db::statements, journal::session_from, now_ms};
use ambit_ledger::Money;
use ambit_types::{ReservationId, SessionId};

/// The session that a request with an idempotency key is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Requested {
    pub session: SessionId,
    /// Of the request that came with the key first.
    pub digest: Digest,
}

impl TenantStore {
    /// Takes an open session over from the process that worked on it (`from`; None: nobody said he did). Whether it was still that one's.
    pub async fn claim(&self, session: SessionId, from: Option<&str>, node: &str) -> Result<bool> {
        let query = self.query(SESSION_CLAIM).bind(session.to_string());
        let query = query.bind(from.unwrap_or_default()).bind(node);
        let mut tx = self.write().await?;
        let claimed = query.execute(&mut tx).await?;
        tx.commit().await?;
        Ok(claimed > 0)
    }

    /// Asks whoever works on a session to end it. Whether anybody does.
    pub async fn ask_to_cancel(&self, session: SessionId) -> Result<bool> {
        let query = self.query(SESSION_CANCEL).bind(session.to_string());
        let mut tx = self.write().await?;
        let asked = query.bind(now_ms()).execute(&mut tx).await?;
        tx.commit().await?;
        Ok(asked > 0)
    }

    /// Notes that a principal's request with this idempotency key opens `wanted`, unless one with the key came before.
    pub async fn request_session(
        &self,
        principal: &str,
        key: &str,
        wanted: Requested,
    ) -> Result<Requested> {
        let mut tx = self.write().await?;
        let query = self.query(REQUEST_INSERT).bind(principal).bind(key);
        let query = query.bind(wanted.session.to_string()).bind(wanted.digest);
        query.bind(now_ms()).execute(&mut tx).await?;
        let query = self.query(REQUEST_GET).bind(principal).bind(key);
        let row = query.optional(&mut tx).await?;
        tx.commit().await?;
        let known = row.map(|row| {
            Ok(Requested {
                session: row.parsed(0)?,
                digest: row.digest(1)?,
            })
        });
        known.unwrap_or(Ok(wanted))
    }

    /// What calls of a session hold back of budgets, with the most each can cost.
    pub async fn held_back(&self, session: SessionId) -> Result<Vec<(ReservationId, Money)>> {
        let query = self.query(RESERVED_OF).bind(session.to_string());
        let rows = query.all(&mut self.read().await?).await?;
        rows.iter()
            .map(|row| Ok((row.parsed(0)?, row.money(1)?)))
            .collect()
    }

    /// Whether the day of a session was removed after the retention time.
    pub async fn was_removed(&self, session: SessionId) -> Result<bool> {
        let Some(day) = day_of(session) else {
            return Ok(false);
        };
        let query = self.query(DAY_REMOVED).bind(day.to_string());
        let row = query.optional(&mut self.read().await?).await?;
        Ok(row.is_some())
    }

    /// The sessions that this one started and that are not over.
    pub async fn children(&self, session: SessionId) -> Result<Vec<Session>> {
        let query = self.query(CHILDREN).bind(session.to_string());
        let rows = query.all(&mut self.read().await?).await?;
        rows.iter().map(session_from).collect()
    }

    /// A principal's durable sessions, newest first; `before`: only those whose id is smaller.
    pub async fn sessions_of(
        &self,
        principal: &str,
        before: Option<SessionId>,
        limit: u32,
    ) -> Result<Vec<Session>> {
        let before = before.map_or_else(|| "ses_g".to_owned(), |session| session.to_string());
        let query = self.query(SESSIONS_OF).bind(principal).bind(before);
        let query = query.bind(i64::from(limit));
        let rows = query.all(&mut self.read().await?).await?;
        rows.iter().map(session_from).collect()
    }
}

statements! {
    SESSION_CLAIM = "UPDATE sessions SET node = $4 WHERE tenant = $1 AND session = $2 AND state = 'open' AND COALESCE(node, '') = $3";
    SESSION_CANCEL = "UPDATE sessions SET cancel_ms = $3 WHERE tenant = $1 AND session = $2 AND state = 'open'";
    REQUEST_INSERT = "INSERT INTO session_requests (tenant, principal, idempotency_key, session, digest, created_ms) \
        VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (tenant, principal, idempotency_key) DO NOTHING";
    REQUEST_GET = "SELECT session, digest FROM session_requests WHERE tenant = $1 AND principal = $2 AND idempotency_key = $3";
    RESERVED_OF = "SELECT reservation, amount FROM reservations WHERE tenant = $1 AND session = $2 AND state = 'reserved' ORDER BY reservation";
    DAY_REMOVED = "SELECT removed_ms FROM partitions WHERE tenant = $1 AND day = $2 AND removed_ms IS NOT NULL";
    CHILDREN = "SELECT tenant, session, agent, principal, state, created_ms, updated_ms, head_seq, head_hash, erased_ms, node, durable, reason, cancel_ms, parent \
        FROM sessions WHERE tenant = $1 AND parent = $2 AND durable = 1 AND parent IS NOT NULL AND state IN ('open', 'suspended')";
    SESSIONS_OF = "SELECT tenant, session, agent, principal, state, created_ms, updated_ms, head_seq, head_hash, erased_ms, node, durable, reason, cancel_ms, parent \
        FROM sessions WHERE tenant = $1 AND principal = $2 AND session < $3 AND durable = 1 ORDER BY session DESC LIMIT $4";
}
