//! Waiting for a child.

use super::{Asking, CHILD};
use crate::{bodies::Answered, calls::ToolFailure, chat::Run, past::body};
use ambit_ledger::Money;
use ambit_store::{Session, SessionState, TenantStore};
use ambit_types::{Error, ErrorKind, SessionId};
use futures::future::BoxFuture;
use serde_json::{Map, Value, json};
use std::{sync::atomic::Ordering::Relaxed, time::Duration};
use tokio::time::{sleep, timeout};

/// How often is looked whether a child is at rest that another process works on.
const LOOK: Duration = Duration::from_millis(250);

/// The same of one that this process works on and says so of.
const SELDOM: Duration = Duration::from_secs(5);

/// Events read at a time.
const PAGE: u32 = 256;

/// The facts of an outcome that say what a session took which the call had started: in nano-units, and in tokens that models read and wrote.
const SPENT: &str = "child_spent";
const TOKENS: &str = "child_tokens";

/// An event carries no more exactly.
const MOST: i64 = (1 << 53) - 1;

/// What a session took, and those that it started.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Below {
    pub(crate) spent: Money,
    pub(crate) tokens: u64,
}

impl Below {
    /// As an outcome tells it.
    pub(crate) fn told(facts: &Map<String, Value>) -> Self {
        let spent = facts.get(SPENT).and_then(Value::as_i64);
        let tokens = facts.get(TOKENS).and_then(Value::as_u64);
        Self {
            spent: spent.and_then(Money::from_nanos).unwrap_or(Money::ZERO),
            tokens: tokens.unwrap_or(0),
        }
    }

    pub(crate) fn facts(self) -> [(&'static str, Value); 2] {
        let (spent, tokens) = (self.spent.nanos().min(MOST), self.tokens.min(MOST as u64));
        [(SPENT, json!(spent)), (TOKENS, json!(tokens))]
    }

    /// And this.
    fn and(self, other: Self) -> Self {
        let spent = self.spent.nanos().saturating_add(other.spent.nanos());
        Self {
            spent: Money::from_nanos(spent).unwrap_or(self.spent),
            tokens: self.tokens.saturating_add(other.tokens),
        }
    }

    /// Of a session that is over, as its events say; and the one that it started and did not wait for to the end.
    async fn of(
        store: &TenantStore,
        session: SessionId,
    ) -> Result<(Self, Option<SessionId>), Error> {
        let (mut after, mut all, mut started) = (0, Self::default(), None);
        loop {
            let events = store.event_facts(session, after, PAGE).await?;
            for event in &events {
                let facts = &event.header.facts;
                let fact = |name: &str| facts.get(name).and_then(Value::as_str);
                match event.kind.as_str() {
                    "intent" => {
                        let child = fact("child").and_then(|id| id.parse().ok());
                        started = child.or(started);
                    }
                    "outcome" if fact("effect") == Some("tools") => started = None,
                    _ => {}
                }
                let usage = event.header.usage.unwrap_or_default();
                let own = Self {
                    spent: event.header.cost.unwrap_or(Money::ZERO),
                    tokens: usage.input_tokens.saturating_add(usage.output_tokens),
                };
                all = all.and(own).and(Self::told(facts));
                after = event.seq;
            }
            if events.len() < PAGE as usize {
                return Ok((all, started));
            }
        }
    }
}

/// What a child that is at rest, and not over, waits for.
enum Rest {
    /// Somebody has to approve of something, in it or below.
    Approval,
    /// One below is at work, or it is just being woken.
    Soon,
    /// Nobody: who waits for it goes on with it.
    Nobody,
}

impl Run {
    /// Until the child is over, or somebody has to approve of something first.
    pub(super) async fn wait_for(&self, child: SessionId) -> Result<Asking, Error> {
        let store = self.sessions.platform.store.tenant(self.tenant.id);
        loop {
            let known = store.session(child).await?;
            let known =
                known.ok_or_else(|| Error::internal("a session that was started is gone"))?;
            self.waited.fetch_or(!known.state.is_closed(), Relaxed);
            match known.state {
                SessionState::Open => self.rests(child).await,
                SessionState::Suspended => match self.rest_of(&known).await? {
                    Rest::Approval => return Ok(Asking::Waits),
                    Rest::Soon => {
                        self.sessions.families.look();
                        sleep(LOOK).await;
                    }
                    Rest::Nobody => {
                        self.sessions.families.go_on_with(self.tenant.id, child);
                        sleep(LOOK).await;
                    }
                },
                _ => {
                    let took = self.taken_by(child).await?;
                    let answer = answer(&store, &known).await?;
                    return Ok(Asking::Over { answer, took });
                }
            }
        }
    }

    /// Ends a child that is not to be waited for any more; what it took.
    pub(crate) fn give_up_on(&self, child: SessionId) -> BoxFuture<'_, Result<Below, Error>> {
        Box::pin(async move {
            let store = self.sessions.platform.store.tenant(self.tenant.id);
            let at_work = &self.sessions.at_work;
            loop {
                match store.session(child).await? {
                    // It is just being opened, by a turn that is over.
                    None if at_work.cancel(child) => self.rests(child).await,
                    None => return Ok(Below::default()),
                    Some(known) if known.state.is_closed() => return self.taken_by(child).await,
                    Some(known) => {
                        match self.sessions.end_child(&known).await {
                            // It went on just now.
                            Err(error) if !matches!(error.kind(), ErrorKind::Conflict) => {
                                return Err(error);
                            }
                            _ => self.rests(child).await,
                        }
                    }
                }
            }
        })
    }

    /// What a session took that is over, and those that it started: what it did not wait for ends first.
    async fn taken_by(&self, session: SessionId) -> Result<Below, Error> {
        let store = self.sessions.platform.store.tenant(self.tenant.id);
        match Below::of(&store, session).await? {
            (took, None) => Ok(took),
            (took, Some(started)) => {
                let below = self.give_up_on(started).await?;
                Ok(took.and(below))
            }
        }
    }

    pub(super) async fn rests(&self, child: SessionId) {
        let at_work = &self.sessions.at_work;
        if at_work.has(child) {
            // It says when; but who knows.
            let _ = timeout(SELDOM, at_work.rests(child)).await;
        } else {
            sleep(LOOK).await;
        }
    }

    async fn rest_of(&self, known: &Session) -> Result<Rest, Error> {
        let pending = self
            .sessions
            .pending_below(self.tenant.id, known.id)
            .await?;
        if !pending.is_empty() {
            return Ok(Rest::Approval);
        }
        let store = self.sessions.platform.store.tenant(self.tenant.id);
        let soon = match known.reason.as_deref() {
            Some(CHILD) => {
                let children = store.children(known.id).await?;
                let mut states = children.iter().map(|one| one.state);
                children.is_empty() || states.any(|state| state == SessionState::Open)
            }
            _ => false,
        };
        Ok(match soon {
            true => Rest::Soon,
            false => Rest::Nobody,
        })
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
