//! Waiting for a child.

use super::{Asking, CHILD};
use crate::{
    approvals::WAITS, bodies::Answered, chat::Run, effects::ToolFailure, past::body,
    spending::spent_in,
};
use ambit_store::{Session, SessionState, TenantStore};
use ambit_types::{Error, ErrorKind, SessionId};
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// How often is looked whether a child is at rest that another process works on.
const LOOK: Duration = Duration::from_millis(250);

/// The same of one that this process works on and says so of.
const SELDOM: Duration = Duration::from_secs(5);

impl Run {
    /// Until the child is over, or somebody has to approve of something first.
    pub(super) async fn wait_for(&self, child: SessionId) -> Result<Asking, Error> {
        let store = self.sessions.platform.store.tenant(self.tenant.id);
        loop {
            let known = store.session(child).await?;
            let known =
                known.ok_or_else(|| Error::internal("a session that was started is gone"))?;
            match known.state {
                SessionState::Open => self.rests(child).await,
                SessionState::Suspended if self.waits_for_somebody(&known).await? => {
                    return Ok(Asking::Waits);
                }
                SessionState::Suspended => self.go_on_with(&known).await?,
                _ => {
                    let spent = spent_in(&store, child).await?;
                    let answer = answer(&store, &known).await?;
                    return Ok(Asking::Over { answer, spent });
                }
            }
        }
    }

    async fn rests(&self, child: SessionId) {
        let at_work = &self.sessions.at_work;
        if at_work.has(child) {
            // It says when; but who knows.
            let _ = timeout(SELDOM, at_work.rests(child)).await;
        } else {
            sleep(LOOK).await;
        }
    }

    /// Whether a child that is at rest goes on by itself, once somebody has decided.
    async fn waits_for_somebody(&self, known: &Session) -> Result<bool, Error> {
        let store = self.sessions.platform.store.tenant(self.tenant.id);
        match known.reason.as_deref() {
            Some(WAITS) => {
                let pending = self
                    .sessions
                    .pending_below(self.tenant.id, known.id)
                    .await?;
                Ok(!pending.is_empty())
            }
            Some(CHILD) => {
                let children = store.children(known.id).await?;
                let open = children.iter().any(|one| one.state == SessionState::Open);
                let pending = self
                    .sessions
                    .pending_below(self.tenant.id, known.id)
                    .await?;
                Ok(open || !pending.is_empty())
            }
            _ => Ok(false),
        }
    }

    /// Goes on with a child that nobody has to decide about, and nobody else goes on with.
    async fn go_on_with(&self, known: &Session) -> Result<(), Error> {
        let went_on = self
            .sessions
            .go_on_for_parent(known, self.tenant.clone())
            .await;
        match went_on {
            // Somebody did just now.
            Err(error) if matches!(error.kind(), ErrorKind::Conflict) => {
                sleep(LOOK).await;
                Ok(())
            }
            went_on => went_on,
        }
    }
}

/// What a child that is over answered, for the model of its parent.
async fn answer(
    store: &TenantStore,
    known: &Session,
) -> Result<Result<String, ToolFailure>, Error> {
    let agent = &known.agent;
    let none = |code, why: String| {
        let message = format!("the agent `{agent}` gave no answer: {why}");
        Ok(Err(ToolFailure { code, message }))
    };
    let reason = known.reason.as_deref().unwrap_or("it failed");
    match known.state {
        SessionState::Finished => match store.latest(known.id, "answer").await? {
            Some(event) => match body::<Answered>(&event) {
                Ok(answered) => Ok(Ok(answered.text)),
                Err(_) => none("failed", "it was erased".to_owned()),
            },
            None => none("failed", format!("its session ended ({reason})")),
        },
        SessionState::Cancelled => none("cancelled", "somebody ended its session".to_owned()),
        _ => none("failed", format!("its session failed ({reason})")),
    }
}
