//! Durable sessions: they belong to no connection, wait as rows only, and go on in whatever process is there.
//!
//! A turn is one run of the agent, from a message to its answer. Between turns a session is suspended, and whoever has a message for it
//! opens it again; of two who do so at once, one is told of the other. A turn that fails leaves the session suspended too, with the reason:
//! everything it did is in the journal, and `resume` goes on from there.

use crate::{
    bodies::{Answered, Key, Request},
    caller::Caller,
    chat::{Run, Sessions},
    event::ChatTurn,
    past::{Past, body},
    record::header,
    tenants::{LiveAgent, Tenant, Tenants},
    turn::{BY_CALLER, RECOVERY, Start},
};
use ambit_store::{Append, Event, NewEvent, Session, SessionState, TenantStore};
use ambit_types::{AgentName, CallContext, Error, ErrorKind, RequestId, SessionId, TraceContext};
use serde_json::{Map, Value, json};
use std::{sync::Arc, time::Instant};

/// The reason of a session that has answered.
pub(crate) const ANSWERED: &str = "message";

/// The reason of one that somebody ended.
pub(crate) const CANCELLED: &str = "cancelled";

/// Times a session is gone on with after its process ended without anything having come of it.
const RECOVERIES: u32 = 8;

/// A durable session as its principal sees it.
#[derive(Debug)]
pub struct View {
    pub session: Session,
    pub metadata: Map<String, Value>,
    /// The last answer.
    pub answer: Option<String>,
}

impl Sessions {
    /// Opens a session and begins its first turn, with messages that are durable when this returns.
    ///
    /// # Errors
    /// The guardrail refuses them (then the session is closed), or the journal does not take them. [`ErrorKind::Conflict`]: there is such a
    /// session.
    pub async fn open(
        &self,
        session: SessionId,
        mut context: CallContext,
        tenant: Arc<Tenant>,
        agent: Arc<LiveAgent>,
        turn: ChatTurn,
    ) -> Result<(), Error> {
        context.deadline = Instant::now() + agent.definition.limits.deadline();
        let mut run = self.run(session, context, tenant, agent, turn);
        run.recorder = run.recorder.durable();
        self.work(run, Start::New).await
    }

    /// Gives a suspended session a message; it is durable when this returns. A message that came with its idempotency key before is none.
    ///
    /// # Errors
    /// As [`Sessions::open`]; [`ErrorKind::Conflict`] while the session is worked on, of one that is closed, and of a key that came with
    /// another message.
    pub async fn message(
        &self,
        known: &Session,
        context: CallContext,
        tenant: Arc<Tenant>,
        turn: ChatTurn,
    ) -> Result<(), Error> {
        at_rest(known)?;
        let key = turn.key.clone();
        let (run, keys) = self.taken_up(known, context, tenant, turn).await?;
        if came_before(key.as_ref(), &keys)? {
            return Ok(());
        }
        run.nothing_pending().await?;
        let waits_for = known.reason.clone();
        let waits_for = waits_for.unwrap_or_else(|| ANSWERED.to_owned());
        self.work(run, Start::Message { waits_for }).await
    }

    /// Goes on with a suspended session from its last event.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`] while the session is worked on, when it waits for a message, and when it is closed.
    pub async fn resume(
        &self,
        known: &Session,
        context: CallContext,
        tenant: Arc<Tenant>,
    ) -> Result<(), Error> {
        at_rest(known)?;
        let turn = ChatTurn::default();
        let (mut run, _) = self.taken_up(known, context, tenant, turn).await?;
        run.nothing_pending().await?;
        if !run.progress.has_more() {
            return Err(Error::new(
                ErrorKind::Conflict,
                "the session has answered and waits for a message",
            ));
        }
        run.note_resume(BY_CALLER)?;
        self.work(run, Start::Again).await
    }

    /// Ends a session, and those that it started. One that is worked on, here or elsewhere, ends soon; one that is closed already stays as it is.
    ///
    /// # Errors
    /// The store's; [`ErrorKind::Conflict`] when it went on meanwhile, and of a chat completion.
    pub async fn cancel(&self, known: &Session) -> Result<(), Error> {
        self.cancel_one(known).await?;
        // It is ended; what it started is so too, now or when it is looked after next.
        if let Err(error) = self.cancel_children(known.tenant, known.id).await {
            tracing::debug!(session = %known.id, error = &error as &dyn std::error::Error, "what a session started could not be ended just now");
        }
        Ok(())
    }

    async fn cancel_one(&self, known: &Session) -> Result<(), Error> {
        let store = self.platform.store.tenant(known.tenant);
        match known.state {
            SessionState::Open if !known.durable => Err(Error::new(
                ErrorKind::Conflict,
                "this session is a chat completion's; close its connection to end it",
            )),
            // First where it lasts, should this process die before it has ended.
            SessionState::Open if store.ask_to_cancel(known.id).await? => {
                self.at_work.cancel(known.id);
                Ok(())
            }
            SessionState::Open => match store.session(known.id).await? {
                Some(now) if now.state == SessionState::Suspended => self.end(&now).await,
                Some(now) if now.state == SessionState::Open => Err(Error::new(
                    ErrorKind::Conflict,
                    "the session is just being gone on with; try again",
                )),
                _ => Ok(()),
            },
            SessionState::Suspended => self.end(known).await,
            _ => Ok(()),
        }
    }

    /// Ends a session that waits.
    pub(crate) async fn end(&self, known: &Session) -> Result<(), Error> {
        let facts = header(&[("reason", json!(CANCELLED))]);
        let append = Append::new(known.tenant, known.id)
            .after(known.head_seq)
            .event(NewEvent::new("end", facts, Vec::new()))
            .state_because(SessionState::Cancelled, CANCELLED);
        self.platform.store.journal().append(append).await?;
        Ok(())
    }

    /// A session with what its journal says of it.
    ///
    /// # Errors
    /// The store's.
    pub async fn view(&self, session: Session) -> Result<View, Error> {
        let store = self.platform.store.tenant(session.tenant);
        let (mut metadata, mut answer) = (Map::new(), None);
        if session.erased_ms.is_none() && session.durable {
            let first = store.first(session.id, "request").await?;
            if let Some(request) = first.filter(is_request) {
                metadata = body::<Request>(&request)?.metadata;
            }
            if let Some(last) = store.latest(session.id, "answer").await? {
                answer = Some(body::<Answered>(&last)?.text);
            }
        }
        Ok(View {
            session,
            metadata,
            answer,
        })
    }

    /// Goes on with a session that a process left open which is no more. Only after the session was claimed: it is left alone when it is not
    /// this process's, or not open, any more.
    ///
    /// # Errors
    /// What may be otherwise the next time: then it stays open.
    pub(crate) async fn recover(&self, tenants: &Tenants, known: &Session) -> Result<(), Error> {
        let store = self.platform.store.tenant(known.tenant);
        let now = store.session(known.id).await?;
        let mine = now.filter(|now| {
            now.state == SessionState::Open
                && now.node.as_deref() == Some(self.platform.store.node())
        });
        let Some(now) = mine.filter(|_| !self.at_work.has(known.id)) else {
            return Ok(());
        };
        if now.cancel_ms.is_some() || self.is_orphan(&now).await? {
            let held = store.held_back(known.id).await?;
            let append = Append::new(known.tenant, known.id).after(last_seq(&store, known).await?);
            let facts = header(&[("reason", json!(CANCELLED))]);
            let append = crate::recovery::unknown(append, held)
                .event(NewEvent::new("end", facts, Vec::new()))
                .state_because(SessionState::Cancelled, CANCELLED);
            self.platform.store.journal().append(append).await?;
            return Ok(());
        }
        let tenant = self.tenant_now(tenants, known).await?;
        let past = Past::read(&store, known.id, &self.looking).await;
        let held = store.held_back(known.id).await?;
        let last_seq = match &past {
            Ok(past) => past.last_seq,
            Err(error) if matches!(error.kind(), ErrorKind::Unavailable { .. }) => {
                return past.map(drop);
            }
            Err(_) => last_seq(&store, known).await?,
        };
        let run = match past {
            Ok(past) => self.recovered(known, tenant, past).await,
            Err(error) => Err(error),
        };
        match run {
            // The database, not the session.
            Err(error) if matches!(error.kind(), ErrorKind::Unavailable { .. }) => Err(error),
            Ok(mut run) => {
                run.note_resume(RECOVERY)?;
                run.settle_unknown(held);
                if run.progress.has_more() {
                    return self.work(run, Start::Again).await;
                }
                let rests = match known.parent {
                    Some(_) => SessionState::Finished,
                    None => SessionState::Suspended,
                };
                run.close(rests, ANSWERED, ANSWERED).await;
                Ok(())
            }
            Err(error) => {
                let append = Append::new(known.tenant, known.id).after(last_seq);
                self.give_up(known, crate::recovery::unknown(append, held), &error)
                    .await
            }
        }
    }

    /// Leaves a session suspended that cannot be gone on with, until somebody has it go on; one that another one waits for is over.
    pub(crate) async fn give_up(
        &self,
        known: &Session,
        append: Append,
        why: &Error,
    ) -> Result<(), Error> {
        tracing::warn!(session = %known.id, error = why as &dyn std::error::Error, "a session cannot be gone on with");
        let facts = header(&[("reason", json!(why.code()))]);
        let (kind, state) = match known.parent {
            Some(_) => ("end", SessionState::Failed),
            None => ("suspend", SessionState::Suspended),
        };
        let append = append
            .event(NewEvent::new(kind, facts, Vec::new()))
            .state_because(state, why.code());
        self.platform.store.journal().append(append).await?;
        Ok(())
    }

    /// The turn of a session that a process left open.
    async fn recovered(
        &self,
        known: &Session,
        tenant: Arc<Tenant>,
        past: Past,
    ) -> Result<Run, Error> {
        if past.recoveries >= RECOVERIES {
            return Err(Error::new(
                ErrorKind::LimitExceeded {
                    limit: "recoveries",
                },
                "its process ended each time it was gone on with",
            ));
        }
        self.taken_over(known, tenant, past).await
    }

    /// A session's turn from its last event, for whom it acts for.
    pub(crate) async fn taken_over(
        &self,
        known: &Session,
        tenant: Arc<Tenant>,
        past: Past,
    ) -> Result<Run, Error> {
        let agent = live_agent(&tenant, known)?;
        let handed = match known.parent {
            Some(parent) => Some(self.handed(&tenant, &agent.definition.name, parent).await?),
            None => None,
        };
        let caller = past.caller.clone();
        let caller = caller.ok_or_else(|| Error::not_found("the session has no caller"))?;
        let context = CallContext {
            tenant: tenant.id,
            tenant_slug: tenant.slug.clone(),
            principal: caller.principal(&tenant, self.platform.tokens.as_ref())?,
            request: RequestId::new(),
            session: Some(known.id),
            agent: None,
            cpu: None,
            trace: TraceContext::new(),
            deadline: Instant::now() + agent.definition.limits.deadline(),
        };
        let mut run = self.run(known.id, context, tenant, agent, ChatTurn::default());
        if let Some(handed) = handed {
            run.hand(handed);
        }
        run.take_over(past)?;
        Ok(run)
    }

    /// A turn of a session that waits, and the idempotency keys it has seen.
    pub(crate) async fn taken_up(
        &self,
        known: &Session,
        mut context: CallContext,
        tenant: Arc<Tenant>,
        turn: ChatTurn,
    ) -> Result<(Run, Vec<Key>), Error> {
        if let Some(parent) = known.parent {
            return Err(Error::new(
                ErrorKind::Conflict,
                format!(
                    "the session {parent} started this one and waits for it; go on with that one"
                ),
            ));
        }
        if !known.durable {
            return Err(Error::new(
                ErrorKind::Conflict,
                "this session is a chat completion's, which ended with its answer; open a session to come back to",
            ));
        }
        let store = self.platform.store.tenant(known.tenant);
        let agent = live_agent(&tenant, known)?;
        let mut past = Past::read(&store, known.id, &tenant.reading).await?;
        if past.last_seq != known.head_seq {
            return Err(Error::new(
                ErrorKind::Conflict,
                "somebody else went on with this session just now; look at it and try again",
            ));
        }
        let keys = std::mem::take(&mut past.keys);
        let caller = Caller::of(&context.principal);
        let another = past.caller.as_ref().is_some_and(|known| *known != caller);
        context.deadline = Instant::now() + agent.definition.limits.deadline();
        let mut run = self.run(known.id, context, tenant, agent, turn);
        run.take_over(past)?;
        if another {
            run.progress.abandon();
        }
        Ok((run, keys))
    }
}

/// Whether a message came with this key before.
///
/// # Errors
/// Another one did.
pub(crate) fn came_before(key: Option<&Key>, seen: &[Key]) -> Result<bool, Error> {
    let Some(key) = key else { return Ok(false) };
    match seen.iter().find(|seen| seen.key == key.key) {
        None => Ok(false),
        Some(seen) if seen.request == key.request => Ok(true),
        Some(_) => Err(Error::new(
            ErrorKind::Conflict,
            "this idempotency key came with another message before",
        )),
    }
}

/// What was said and passed.
pub(crate) fn is_request(event: &Event) -> bool {
    event.kind == "request" && !event.header.facts.contains_key("refused")
}

/// Whether a session waits.
pub(crate) fn at_rest(known: &Session) -> Result<(), Error> {
    let why = match known.state {
        SessionState::Suspended => return Ok(()),
        SessionState::Open => "the session is being worked on; wait until it is suspended",
        _ => "the session is closed",
    };
    Err(Error::new(ErrorKind::Conflict, why))
}

/// The last event of a session whose journal cannot be read.
async fn last_seq(store: &TenantStore, known: &Session) -> Result<i64, Error> {
    let mut last = 0;
    loop {
        let page = store.event_facts(known.id, last, 256).await?;
        match page.last() {
            Some(event) => last = event.seq,
            None => return Ok(last),
        }
    }
}

/// The agent of a session as it is now.
pub(crate) fn live_agent(tenant: &Tenant, known: &Session) -> Result<Arc<LiveAgent>, Error> {
    let name = known.agent.parse::<AgentName>().ok();
    let agent = name.and_then(|name| tenant.agents.get(&name).cloned());
    agent.ok_or_else(|| Error::not_found("the agent of this session is not there any more"))
}
