//! The processes that share a database, and what each works on.

use crate::{Operator, Result, Session, db::statements, journal::session_from};
use ambit_types::{SessionId, TenantId};

impl Operator {
    /// Says that a process lives: its `beat` is another one than the last time. Clocks of machines differ; that a number moves, all see alike.
    pub async fn beat(&self, node: &str, beat: i64) -> Result<()> {
        let mut tx = self.write().await?;
        let query = NODE_BEAT.query().bind(node).bind(beat);
        query.execute(&mut tx).await?;
        tx.commit().await
    }

    /// Every process that said so, with its last beat.
    pub async fn nodes(&self) -> Result<Vec<(String, i64)>> {
        let rows = NODES.query().all(&mut self.read().await?).await?;
        rows.iter()
            .map(|row| Ok((row.text(0)?, row.int(1)?)))
            .collect()
    }

    /// Forgets a process that ended, or is dead and has no session left.
    pub async fn forget_node(&self, node: &str) -> Result<()> {
        let mut tx = self.write().await?;
        NODE_DELETE.query().bind(node).execute(&mut tx).await?;
        tx.commit().await
    }

    /// Whoever works on open sessions; None: sessions of which nobody says so.
    pub async fn nodes_at_work(&self) -> Result<Vec<Option<String>>> {
        let rows = NODES_AT_WORK.query().all(&mut self.read().await?).await?;
        rows.iter().map(|row| row.optional_text(0)).collect()
    }

    /// Open sessions of a process, in order, from after `after`.
    pub async fn sessions_of_node(
        &self,
        node: Option<&str>,
        after: Option<SessionId>,
        limit: u32,
    ) -> Result<Vec<Session>> {
        let after = after.map_or_else(String::new, |session| session.to_string());
        let query = SESSIONS_OF_NODE.query().bind(node.unwrap_or_default());
        let query = query.bind(after).bind(i64::from(limit));
        let rows = query.all(&mut self.read().await?).await?;
        rows.iter().map(session_from).collect()
    }

    /// Suspended sessions that nothing has happened in since then, longest first.
    pub async fn idle_sessions(&self, before_ms: i64, limit: u32) -> Result<Vec<Session>> {
        let query = SESSIONS_IDLE.query().bind(before_ms).bind(i64::from(limit));
        let rows = query.all(&mut self.read().await?).await?;
        rows.iter().map(session_from).collect()
    }

    /// Sessions that wait for one that they started and that is over, in order, from after `after`.
    pub async fn sessions_to_wake(
        &self,
        after: Option<SessionId>,
        limit: u32,
    ) -> Result<Vec<Session>> {
        let after = after.map_or_else(String::new, |session| session.to_string());
        let query = SESSIONS_TO_WAKE.query().bind(after).bind(i64::from(limit));
        let rows = query.all(&mut self.read().await?).await?;
        rows.iter().map(session_from).collect()
    }

    /// Sessions that go on, or wait, for one that is over, and that nobody was asked to end.
    pub async fn orphans(&self, limit: u32) -> Result<Vec<Session>> {
        let query = ORPHANS.query().bind(i64::from(limit));
        let rows = query.all(&mut self.read().await?).await?;
        rows.iter().map(session_from).collect()
    }

    /// Sessions that a process works on and somebody wants ended.
    pub async fn sessions_to_cancel(&self, node: &str) -> Result<Vec<(TenantId, SessionId)>> {
        let query = SESSIONS_TO_CANCEL.query().bind(node);
        let rows = query.all(&mut self.read().await?).await?;
        rows.iter()
            .map(|row| Ok((row.parsed(0)?, row.parsed(1)?)))
            .collect()
    }
}

statements! {
    NODE_BEAT = "INSERT INTO nodes (node, beat) VALUES ($1, $2) ON CONFLICT (node) DO UPDATE SET beat = excluded.beat";
    NODES = "SELECT node, beat FROM nodes ORDER BY node";
    NODE_DELETE = "DELETE FROM nodes WHERE node = $1";
    NODES_AT_WORK = "SELECT DISTINCT node FROM sessions WHERE state = 'open'";
    SESSIONS_OF_NODE = "SELECT tenant, session, agent, principal, state, created_ms, updated_ms, head_seq, head_hash, erased_ms, node, durable, reason, cancel_ms, parent \
        FROM sessions WHERE state = 'open' AND COALESCE(node, '') = $1 AND session > $2 ORDER BY session LIMIT $3";
    SESSIONS_IDLE = "SELECT tenant, session, agent, principal, state, created_ms, updated_ms, head_seq, head_hash, erased_ms, node, durable, reason, cancel_ms, parent \
        FROM sessions WHERE state = 'suspended' AND updated_ms < $1 ORDER BY updated_ms LIMIT $2";
    SESSIONS_TO_WAKE = "SELECT tenant, session, agent, principal, state, created_ms, updated_ms, head_seq, head_hash, erased_ms, node, durable, reason, cancel_ms, parent \
        FROM sessions WHERE reason = 'child' AND session > $1 AND state = 'suspended' AND NOT EXISTS (SELECT 1 FROM sessions AS child \
        WHERE child.durable = 1 AND child.tenant = sessions.tenant AND child.parent = sessions.session AND child.parent IS NOT NULL AND child.state IN ('open', 'suspended')) \
        ORDER BY session LIMIT $2";
    ORPHANS = "SELECT tenant, session, agent, principal, state, created_ms, updated_ms, head_seq, head_hash, erased_ms, node, durable, reason, cancel_ms, parent \
        FROM sessions WHERE durable = 1 AND parent IS NOT NULL AND state IN ('open', 'suspended') AND (cancel_ms IS NULL OR state = 'suspended') \
        AND NOT EXISTS (SELECT 1 FROM sessions AS starter \
        WHERE starter.tenant = sessions.tenant AND starter.session = sessions.parent AND starter.state IN ('open', 'suspended')) LIMIT $1";
    SESSIONS_TO_CANCEL = "SELECT tenant, session FROM sessions WHERE state = 'open' AND node = $1 AND cancel_ms IS NOT NULL";
}
