//! What a tenant's agents did: reading the journal.

use super::TenantStore;
use crate::{
    Digest, Event, EventFacts, Result, Session, StoreError, VerifiedChain,
    db::{Row, Statement, statements},
    journal::{Stored, session_from},
    now_ms,
};
use ambit_types::SessionId;

/// Events that a verification holds in memory at once.
const PAGE: u32 = 256;

impl TenantStore {
    pub async fn session(&self, session: SessionId) -> Result<Option<Session>> {
        let row = self
            .query(SESSION_GET)
            .bind(session.to_string())
            .optional(&mut self.read().await?)
            .await?;
        row.as_ref().map(session_from).transpose()
    }

    /// Newest first; `before`: only sessions whose id is smaller (ids sort by age).
    pub async fn sessions(&self, before: Option<SessionId>, limit: u32) -> Result<Vec<Session>> {
        // `ses_` and hexadecimal digits: every id is smaller than "ses_g".
        let before = before.map_or_else(|| "ses_g".to_owned(), |session| session.to_string());
        let rows = self
            .query(SESSION_PAGE)
            .bind(before)
            .bind(i64::from(limit))
            .all(&mut self.read().await?)
            .await?;
        rows.iter().map(session_from).collect()
    }

    /// Events in order, from after `after_seq` (0: from the first).
    pub async fn events(
        &self,
        session: SessionId,
        after_seq: i64,
        limit: u32,
    ) -> Result<Vec<Event>> {
        let stored = self.stored(session, after_seq, limit).await?;
        self.opened(session, stored).await
    }

    /// The first event of a kind.
    pub async fn first(&self, session: SessionId, kind: &str) -> Result<Option<Event>> {
        self.one_event(EVENT_FIRST, session, kind).await
    }

    /// The last event of a kind.
    pub async fn latest(&self, session: SessionId, kind: &str) -> Result<Option<Event>> {
        self.one_event(EVENT_LATEST, session, kind).await
    }

    async fn one_event(
        &self,
        statement: Statement,
        session: SessionId,
        kind: &str,
    ) -> Result<Option<Event>> {
        let query = self.query(statement).bind(session.to_string());
        let row = query.bind(kind).optional(&mut self.read().await?).await?;
        let stored = row.as_ref().map(Stored::from_row).transpose()?;
        let opened = self.opened(session, stored.into_iter().collect()).await?;
        Ok(opened.into_iter().next())
    }

    /// Events with their bodies opened.
    pub(super) async fn opened(
        &self,
        session: SessionId,
        stored: Vec<Stored>,
    ) -> Result<Vec<Event>> {
        let row = {
            let query = self.query(SESSION_SEAL).bind(session.to_string());
            query.optional(&mut self.read().await?).await?
        };
        // From the row each time: what another process erased is gone here too.
        let wrapped = row.map(|row| row.optional_blob(0)).transpose()?.flatten();
        let key = match wrapped {
            Some(wrapped) => Some(self.keys.unwrap(self.id(), session, &wrapped).await?),
            None => None,
        };
        let open = |event: Stored| event.into_event(self.id(), session, key.as_ref());
        stored.into_iter().map(open).collect()
    }

    /// Sessions of a principal whose content is not erased, in order, from after `after`.
    pub async fn unerased(
        &self,
        principal: &str,
        after: Option<SessionId>,
        limit: u32,
    ) -> Result<Vec<Session>> {
        let after = after.map_or_else(String::new, |session| session.to_string());
        let query = self.query(SESSION_UNERASED).bind(principal).bind(after);
        let rows = query
            .bind(i64::from(limit))
            .all(&mut self.read().await?)
            .await?;
        rows.iter().map(session_from).collect()
    }

    /// Forgets the key of a closed session, and with it what was said in it: whether it still had one. Its chain stays and still verifies.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] without such a session, [`StoreError::Conflict`] for one that is not closed.
    pub async fn erase(&self, session: SessionId) -> Result<bool> {
        let known = self.session(session).await?;
        let known = known.ok_or(StoreError::NotFound { what: "session" })?;
        if !known.state.is_closed() {
            return Err(StoreError::Conflict { what: "session" });
        }
        let mut tx = self.write().await?;
        let query = self.query(SESSION_ERASE).bind(session.to_string());
        let erased = query.bind(now_ms()).execute(&mut tx).await?;
        tx.commit().await?;
        self.keys.forget(self.id(), session);
        // On SQLite the old page stands in the log until it is written over.
        self.db.checkpoint().await;
        Ok(erased > 0)
    }

    /// As [`TenantStore::events`], without the bodies.
    pub async fn event_facts(
        &self,
        session: SessionId,
        after_seq: i64,
        limit: u32,
    ) -> Result<Vec<EventFacts>> {
        let rows = self
            .query(EVENT_FACTS_PAGE)
            .bind(session.to_string())
            .bind(after_seq)
            .bind(i64::from(limit))
            .all(&mut self.read().await?)
            .await?;
        let facts = |row: &Row| {
            Ok(EventFacts {
                seq: row.int(0)?,
                kind: row.text(1)?,
                header: row.json(2)?,
            })
        };
        rows.iter().map(facts).collect()
    }

    /// Recomputes every hash of the session's chain, and compares it with the head kept when the session's state last changed.
    ///
    /// # Errors
    /// [`StoreError::BrokenChain`] names the first event that does not fit; [`StoreError::NotFound`] without such a session.
    pub async fn verify_chain(&self, session: SessionId) -> Result<VerifiedChain> {
        let known = self
            .session(session)
            .await?
            .ok_or(StoreError::NotFound { what: "session" })?;
        let broken = |seq, why| StoreError::BrokenChain {
            session: session.to_string(),
            seq,
            why,
        };
        let mut chain = VerifiedChain {
            events: 0,
            head: Digest::default(),
        };
        loop {
            let page = self.stored(session, chain.events, PAGE).await?;
            for event in &page {
                if event.seq != chain.events + 1 {
                    return Err(broken(chain.events + 1, "it is missing"));
                }
                if event.previous_hash != chain.head {
                    return Err(broken(event.seq, "it does not follow the one before"));
                }
                if event.hash(self.id(), session) != event.content_hash {
                    return Err(broken(event.seq, "its content is not what was recorded"));
                }
                chain = VerifiedChain {
                    events: event.seq,
                    head: event.content_hash,
                };
                if chain.events == known.head_seq && chain.head != known.head_hash {
                    return Err(broken(event.seq, "it is not the recorded head"));
                }
            }
            if page.is_empty() {
                break;
            }
        }
        if chain.events < known.head_seq {
            return Err(broken(chain.events + 1, "it is missing"));
        }
        Ok(chain)
    }

    /// Events as they are stored, for an export.
    pub async fn exported(
        &self,
        session: SessionId,
        after_seq: i64,
        limit: u32,
    ) -> Result<Vec<ambit_audit::Event>> {
        let stored = self.stored(session, after_seq, limit).await?;
        Ok(stored.into_iter().map(Stored::into_exported).collect())
    }

    pub(crate) async fn stored(
        &self,
        session: SessionId,
        after_seq: i64,
        limit: u32,
    ) -> Result<Vec<Stored>> {
        let query = self
            .query(EVENT_PAGE)
            .bind(session.to_string())
            .bind(after_seq)
            .bind(i64::from(limit));
        query
            .all(&mut self.read().await?)
            .await?
            .iter()
            .map(Stored::from_row)
            .collect()
    }
}

statements! {
    SESSION_GET = "SELECT tenant, session, agent, principal, state, created_ms, updated_ms, head_seq, head_hash, erased_ms, node, durable, reason, cancel_ms, parent FROM sessions \
        WHERE tenant = $1 AND session = $2";
    SESSION_PAGE = "SELECT tenant, session, agent, principal, state, created_ms, updated_ms, head_seq, head_hash, erased_ms, node, durable, reason, cancel_ms, parent FROM sessions \
        WHERE tenant = $1 AND session < $2 ORDER BY session DESC LIMIT $3";
    EVENT_FACTS_PAGE = "SELECT seq, kind, header FROM events WHERE tenant = $1 AND session = $2 AND seq > $3 ORDER BY seq LIMIT $4";
    EVENT_FIRST = "SELECT seq, schema_version, kind, time_ms, header, body, content_hash, previous_hash FROM events \
        WHERE tenant = $1 AND session = $2 AND kind = $3 ORDER BY seq LIMIT 1";
    EVENT_LATEST = "SELECT seq, schema_version, kind, time_ms, header, body, content_hash, previous_hash FROM events \
        WHERE tenant = $1 AND session = $2 AND kind = $3 ORDER BY seq DESC LIMIT 1";
    SESSION_UNERASED = "SELECT tenant, session, agent, principal, state, created_ms, updated_ms, head_seq, head_hash, erased_ms, node, durable, reason, cancel_ms, parent FROM sessions \
        WHERE tenant = $1 AND principal = $2 AND session > $3 AND sealed_key IS NOT NULL ORDER BY session LIMIT $4";
    SESSION_SEAL = "SELECT sealed_key FROM sessions WHERE tenant = $1 AND session = $2";
    SESSION_ERASE = "UPDATE sessions SET sealed_key = NULL, erased_ms = $3 WHERE tenant = $1 AND session = $2 AND sealed_key IS NOT NULL";
    EVENT_PAGE = "SELECT seq, schema_version, kind, time_ms, header, body, content_hash, previous_hash FROM events \
        WHERE tenant = $1 AND session = $2 AND seq > $3 ORDER BY seq LIMIT $4";
}
