//! Approvals of one tenant.

use super::TenantStore;
use crate::{
    Approval, Asked, Digest, Event, Result,
    approvals::{Statements, approval_from, pending_at, select_approvals, within},
    db::statements,
    journal::Stored,
};
use ambit_types::{ApprovalId, SessionId};

impl TenantStore {
    pub async fn approval(&self, id: ApprovalId) -> Result<Option<Approval>> {
        let query = self.query(APPROVAL_GET).bind(id.to_string());
        let row = query.optional(&mut self.read().await?).await?;
        row.as_ref().map(approval_from).transpose()
    }

    /// All of a session's, in order.
    pub async fn approvals_of(&self, session: SessionId) -> Result<Vec<Approval>> {
        let query = self.query(APPROVALS_OF_SESSION).bind(session.to_string());
        let rows = query.all(&mut self.read().await?).await?;
        rows.iter().map(approval_from).collect()
    }

    pub async fn approvals(&self, asked: &Asked, now_ms: i64) -> Result<Vec<Approval>> {
        let which = Statements {
            all: APPROVALS_OF,
            pending: APPROVALS_PENDING_OF,
            within: APPROVALS_WITHIN_OF,
        };
        let query = asked.query(&which, |statement| self.query(statement), now_ms);
        let rows = query.all(&mut self.read().await?).await?;
        rows.iter().map(approval_from).collect()
    }

    /// Every event of a kind, in order.
    pub async fn events_of_kind(&self, session: SessionId, kind: &str) -> Result<Vec<Event>> {
        let query = self.query(EVENTS_OF_KIND).bind(session.to_string());
        let rows = query.bind(kind).all(&mut self.read().await?).await?;
        let stored: Result<Vec<_>> = rows.iter().map(Stored::from_row).collect();
        self.opened(session, stored?).await
    }

    /// HMAC-SHA-256 (RFC 2104) of a text with a key that is the session's own: who has the database alone can neither guess a text by it nor tell that two
    /// sessions have the same. None: there is no such session, or its key was erased.
    pub async fn keyed_digest(&self, session: SessionId, text: &[u8]) -> Result<Option<Digest>> {
        self.keys.digest(self.id(), session, text).await
    }
}

statements! {
    APPROVAL_GET = select_approvals!("a.tenant = $1 AND a.approval = $2");
    APPROVALS_OF_SESSION = select_approvals!("a.tenant = $1 AND a.session = $2 ORDER BY a.approval");
    APPROVALS_OF = select_approvals!("a.tenant = $1 AND a.approval < $2 ORDER BY a.approval DESC LIMIT $3");
    APPROVALS_PENDING_OF = select_approvals!(
        "a.tenant = $1 AND a.approval < $2 AND ",
        pending_at!("$4"),
        " ORDER BY a.approval DESC LIMIT $3"
    );
    APPROVALS_WITHIN_OF = select_approvals!(
        "a.tenant = $1 AND a.approval < $2 AND ",
        within!("$4", "$5"),
        " ORDER BY a.approval DESC LIMIT $3"
    );
    EVENTS_OF_KIND = "SELECT seq, schema_version, kind, time_ms, header, body, content_hash, previous_hash FROM events \
        WHERE tenant = $1 AND session = $2 AND kind = $3 ORDER BY seq";
}
