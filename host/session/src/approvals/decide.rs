//! Deciding on what an agent waits for.

use super::{KIND, WAITS, decided, in_bytes};
use crate::{
    bodies,
    chat::{Run, Sessions, not_good},
    library::now_ms,
    past::Past,
    record::header,
    tenants::Tenant,
    turn::Start,
};
use ambit_store::{
    Append, Approval, ApprovalOp, ApprovalState, NewEvent, Session, SessionState, StoreError,
    TenantStore,
};
use ambit_types::{ApprovalId, Error, ErrorKind, SessionId};
use std::sync::Arc;

/// By whom a session is gone on with: who decided last.
const BY_APPROVAL: &str = "approval";

/// What somebody decided.
#[derive(Debug, Clone)]
pub struct Decision {
    pub approved: bool,
    /// The principal.
    pub by: String,
    /// In his words; the agent is told why it was refused.
    pub reason: Option<String>,
}

impl Sessions {
    /// Decides. With the last decision that a session waits for it goes on, and both are durable when this returns.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] without such an approval; [`ErrorKind::Forbidden`] for who asked, where another one has to decide;
    /// [`ErrorKind::Conflict`] for one that is decided, expired or withdrawn, whose session cannot go on, or what was asked for is allowed on other
    /// terms now.
    pub async fn decide(
        &self,
        tenant: Arc<Tenant>,
        id: ApprovalId,
        decision: Decision,
    ) -> Result<Approval, Error> {
        let store = self.platform.store.tenant(tenant.id);
        let known = pending(&store, id).await?;
        if known.by_another && known.principal == decision.by {
            return Err(Error::forbidden(
                "somebody other than the principal whom the agent acts for has to decide on this",
            ));
        }
        let session = store.session(known.session).await?.ok_or_else(no_longer)?;
        if session.state != SessionState::Suspended {
            return Err(conflict(
                "the session is just being gone on with; try again",
            ));
        }
        let mut past = Past::read(&store, session.id, &tenant.reading).await?;
        let others = past.progress.approvals();
        if session.reason.as_deref() != Some(WAITS) || !others.contains(&id) {
            return Err(no_longer());
        }
        if past.last_seq != session.head_seq {
            return Err(conflict(
                "somebody else decided just now; look and try again",
            ));
        }
        let last_seq = past.last_seq;
        past.progress.decided_on(id, decision.reason.clone());
        let run = self.taken_over(&session, tenant, past).await;
        if decision.approved {
            let run = run.as_ref().map_err(Clone::clone)?;
            let _acting = run.ambit().acting().map_err(not_good)?;
            if !run.still_holds(&known).await? {
                return Err(conflict(
                    "what the agent was allowed when it asked has changed since; deny this, and it may ask again",
                ));
            }
        }
        let others = others.into_iter().filter(|other| *other != id).collect();
        let waits = pending_of(&store, session.id, others).await?.is_some();
        let decided = match run {
            Ok(run) if !waits => self.go_on(run, id, decision).await,
            // Somebody else has to decide too; or what was refused stays so, though the session cannot go on at present.
            _ => self.record(&session, last_seq, id, decision).await,
        };
        if let Err(error) = decided {
            // Whoever was first has decided.
            pending(&store, id).await?;
            return Err(error);
        }
        store.approval(id).await?.ok_or_else(unknown)
    }

    /// The decision and that the session goes on, in one append.
    async fn go_on(&self, mut run: Run, id: ApprovalId, decision: Decision) -> Result<(), Error> {
        let facts = decided(id, decision.approved, &decision.by);
        let body = bodies::Decided {
            reason: decision.reason.clone(),
        };
        run.recorder.note(KIND, &facts, &body)?;
        run.recorder.approvals([op(id, &decision)]);
        run.note_resume(BY_APPROVAL)?;
        self.work(run, Start::Again).await
    }

    async fn record(
        &self,
        session: &Session,
        last_seq: i64,
        id: ApprovalId,
        decision: Decision,
    ) -> Result<(), Error> {
        let op = op(id, &decision);
        let facts = header(&decided(id, decision.approved, &decision.by));
        let body = in_bytes(&bodies::Decided {
            reason: decision.reason,
        })?;
        let append = Append::new(session.tenant, session.id)
            .after(last_seq)
            .event(NewEvent::new(KIND, facts, body))
            .approvals([op])
            .state_because(SessionState::Suspended, WAITS);
        let appended = self.platform.store.journal().append(append).await;
        appended.map(drop).map_err(|error| match error {
            StoreError::Conflict { .. } => {
                conflict("somebody else decided just now; look and try again").because(error)
            }
            error => error.into(),
        })
    }
}

impl Run {
    /// What its session waits for and somebody can still decide on: here, or in one that it started.
    pub(crate) async fn pending(&self) -> Result<Option<Approval>, Error> {
        let store = self.sessions.platform.store.tenant(self.tenant.id);
        let own = pending_of(&store, self.session, self.progress.approvals()).await?;
        match (own, self.progress.child()) {
            (None, Some(child)) => {
                let below = self.sessions.pending_below(self.tenant.id, child).await?;
                Ok(below.into_iter().next())
            }
            (own, _) => Ok(own),
        }
    }

    /// Refuses to go on while somebody can still decide.
    pub(crate) async fn nothing_pending(&self) -> Result<(), Error> {
        match self.pending().await? {
            None => Ok(()),
            Some(row) => Err(conflict(format!(
                "the session waits for the approval {} of a call of `{}`; it goes on when that is decided",
                row.id, row.tool
            ))),
        }
    }
}

/// The first of these that somebody can still decide on.
async fn pending_of(
    store: &TenantStore,
    session: SessionId,
    asked: Vec<ApprovalId>,
) -> Result<Option<Approval>, Error> {
    if asked.is_empty() {
        return Ok(None);
    }
    let (rows, now) = (store.approvals_of(session).await?, now_ms());
    let mut rows = rows.into_iter();
    Ok(rows.find(|row| asked.contains(&row.id) && row.is_pending(now)))
}

fn op(id: ApprovalId, decision: &Decision) -> ApprovalOp {
    ApprovalOp::Decide {
        id,
        approved: decision.approved,
        by: decision.by.as_str().into(),
        at_ms: now_ms(),
    }
}

/// An approval that somebody can still decide on.
async fn pending(store: &TenantStore, id: ApprovalId) -> Result<Approval, Error> {
    let known = store.approval(id).await?.ok_or_else(unknown)?;
    let by = known.decided_by.as_deref().unwrap_or_default();
    match known.standing(now_ms()) {
        "pending" => Ok(known),
        "expired" => Err(conflict("nobody decided on this in time: it has expired")),
        "withdrawn" => Err(conflict("the session that asked for this is over")),
        "void" => Err(no_longer()),
        _ if known.state == ApprovalState::Denied => {
            Err(conflict(format!("`{by}` has denied this already")))
        }
        _ => Err(conflict(format!("`{by}` has approved of this already"))),
    }
}

fn unknown() -> Error {
    Error::not_found("there is no such approval")
}

fn no_longer() -> Error {
    conflict("the session no longer waits for this")
}

fn conflict(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Conflict, message)
}
