//! Durable sessions: they belong to no connection, wait as rows only, and go on in whatever process is there.
//!
//! A turn is one run of the agent, from a message to its answer. Between turns a session is suspended, and whoever has a message for it
//! opens it again; of two who do so at once, one is told of the other. A turn that fails leaves the session suspended too, with the reason:
//! everything it did is in the journal, and `resume` goes on from there.

use crate::{
    bodies::{Answered, Request},
    chat::{Run, Sessions},
    ending::Tasks,
    event::ChatTurn,
    past::{Past, body},
    progress::UNKNOWN,
    record::{INTERRUPTED, header},
    tenants::{LiveAgent, Tenant, Tenants},
    tools::Offer,
};
use ambit_capabilities::agent::Move;
use ambit_ledger::Money;
use ambit_store::{Append, Event, NewEvent, Session, SessionState};
use ambit_types::{
    AgentName, CallContext, Error, ErrorKind, RequestId, ReservationId, SessionId, TraceContext,
};
use serde_json::{Map, Value, json};
use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

/// The reason of a session that has answered.
const ANSWERED: &str = "message";

/// How often a server that stops looks whether tools are at work.
const LOOK: Duration = Duration::from_millis(20);

/// The sessions this process works on, and how each is told to end.
#[derive(Debug, Clone, Default)]
pub(crate) struct AtWork(Arc<Mutex<HashMap<SessionId, CancellationToken>>>);

impl AtWork {
    fn lock(&self) -> MutexGuard<'_, HashMap<SessionId, CancellationToken>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it is worked on here.
    pub(crate) fn cancel(&self, session: SessionId) -> bool {
        let known = self.lock().get(&session).cloned();
        known.is_some_and(|token| {
            token.cancel();
            true
        })
    }
}

impl AtWork {
    pub(crate) fn has(&self, session: SessionId) -> bool {
        self.lock().contains_key(&session)
    }
}

/// Forgets that a session is worked on.
struct Working(AtWork, SessionId);

impl Drop for Working {
    fn drop(&mut self) {
        self.0.lock().remove(&self.1);
    }
}

/// A durable session as its principal sees it.
#[derive(Debug)]
pub struct View {
    pub session: Session,
    pub metadata: Map<String, Value>,
    /// The last answer.
    pub answer: Option<String>,
}

/// How a session is to go on.
enum Start {
    /// With the turn's message, in a session of its own.
    New,
    /// With the turn's message.
    Message {
        /// What it waits for, should the message be refused.
        waits_for: String,
    },
    /// From its last event.
    Again,
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
        context: CallContext,
        tenant: Arc<Tenant>,
        agent: Arc<LiveAgent>,
        turn: ChatTurn,
    ) -> Result<(), Error> {
        let mut run = self.run(session, context, tenant, agent, turn);
        run.recorder = run.recorder.durable();
        self.work(run, Start::New).await
    }

    /// Gives a suspended session a message; it is durable when this returns. A message whose idempotency key the session has seen is none.
    ///
    /// # Errors
    /// As [`Sessions::open`]; [`ErrorKind::Conflict`] while the session is worked on, and of one that is closed.
    pub async fn message(
        &self,
        known: &Session,
        context: CallContext,
        tenant: Arc<Tenant>,
        turn: ChatTurn,
    ) -> Result<(), Error> {
        let key = turn.key.clone();
        let mut run = self.taken_up(known, context, tenant, turn).await?;
        if key.is_some_and(|key| run.keys.contains(&key)) {
            return Ok(());
        }
        at_rest(known)?;
        run.run.recorder = run.run.recorder.going_on(Some(run.last_seq));
        let waits_for = known.reason.clone();
        let waits_for = waits_for.unwrap_or_else(|| ANSWERED.to_owned());
        self.work(run.run, Start::Message { waits_for }).await
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
        let mut run = self
            .taken_up(known, context, tenant, ChatTurn::default())
            .await?;
        let progress = &mut run.run.progress;
        if progress.current.is_none() && progress.news.is_empty() {
            return Err(Error::new(
                ErrorKind::Conflict,
                "the session has answered and waits for a message",
            ));
        }
        progress.refresh();
        run.run.recorder = run.run.recorder.going_on(Some(run.last_seq));
        run.run.note_resume("caller");
        self.work(run.run, Start::Again).await
    }

    /// Ends a session. One that is worked on, here or elsewhere, ends soon; one that is closed already stays as it is.
    ///
    /// # Errors
    /// The store's; [`ErrorKind::Conflict`] when it went on meanwhile.
    pub async fn cancel(&self, known: &Session) -> Result<(), Error> {
        let store = self.platform.store.tenant(known.tenant);
        match known.state {
            SessionState::Open if self.at_work.cancel(known.id) => Ok(()),
            SessionState::Open => {
                store.ask_to_cancel(known.id).await?;
                Ok(())
            }
            SessionState::Suspended => {
                let facts = header(&[("reason", json!("cancelled"))]);
                let append = Append::new(known.tenant, known.id)
                    .after(known.head_seq)
                    .event(NewEvent::new("end", facts, Vec::new()))
                    .state_because(SessionState::Cancelled, "cancelled");
                self.platform.store.journal().append(append).await?;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// A session with what its journal says of it.
    ///
    /// # Errors
    /// The store's.
    pub async fn view(&self, session: Session) -> Result<View, Error> {
        let store = self.platform.store.tenant(session.tenant);
        let (mut metadata, mut answer) = (Map::new(), None);
        if session.erased_ms.is_none() && session.durable {
            let first = store.events(session.id, 0, 1).await?;
            if let Some(request) = first.iter().find(|event| is_request(event)) {
                metadata = body::<Request>(request)?.metadata;
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

    /// Goes on with a session that a process left open which is no more. Only after the session was claimed.
    pub(crate) async fn recover(&self, tenants: &Tenants, known: &Session) -> Result<(), Error> {
        // In the journal before it is read: whoever worked on it can add nothing more, should he be alive.
        let facts = header(&[("by", json!("recovery"))]);
        let append = Append::new(known.tenant, known.id)
            .event(NewEvent::new("resume", facts, Vec::new()))
            .state(SessionState::Open);
        self.platform.store.journal().append(append).await?;
        let taken_up = async {
            let gone = |what: &str| {
                let message = format!("the {what} of this session is not there any more");
                Error::not_found(message)
            };
            let tenant = tenants.by_id(known.tenant).ok_or_else(|| gone("tenant"))?;
            let store = self.platform.store.tenant(known.tenant);
            let agent = live_agent(&tenant, known)?;
            let past = Past::read(&store, known.id).await?;
            let caller = past.caller.clone().ok_or_else(|| gone("caller"))?;
            let deadline = Instant::now() + agent.definition.limits.deadline();
            let context = CallContext {
                tenant: tenant.id,
                tenant_slug: tenant.slug.clone(),
                principal: caller.principal(&tenant, self.platform.tokens.as_ref())?,
                request: RequestId::new(),
                session: Some(known.id),
                agent: None,
                cpu: None,
                trace: TraceContext::new(),
                deadline,
            };
            let mut run = self.run(known.id, context, tenant, agent, ChatTurn::default());
            run.recorder = run.recorder.going_on(None);
            run.take_over(past)?;
            let held = store.held_back(known.id).await?;
            run.settle_unknown(held);
            Ok::<_, Error>(run)
        };
        match taken_up.await {
            Ok(run) => self.work(run, Start::Again).await,
            Err(error) => {
                tracing::warn!(session = %known.id, error = &error as &dyn std::error::Error, "a session cannot be gone on with; it is suspended");
                let facts = header(&[("reason", json!(error.code()))]);
                let append = Append::new(known.tenant, known.id)
                    .event(NewEvent::new("suspend", facts, Vec::new()))
                    .state_because(SessionState::Suspended, error.code());
                self.platform.store.journal().append(append).await?;
                Ok(())
            }
        }
    }

    /// A turn of a session that has a past.
    async fn taken_up(
        &self,
        known: &Session,
        context: CallContext,
        tenant: Arc<Tenant>,
        turn: ChatTurn,
    ) -> Result<TakenUp, Error> {
        if !known.durable {
            return Err(Error::new(
                ErrorKind::Conflict,
                "this session is a chat completion's, which ended with its answer; open a session to come back to",
            ));
        }
        let store = self.platform.store.tenant(known.tenant);
        let agent = live_agent(&tenant, known)?;
        let mut past = Past::read(&store, known.id).await?;
        let (keys, last_seq) = (std::mem::take(&mut past.keys), past.last_seq);
        let mut run = self.run(known.id, context, tenant, agent, turn);
        run.take_over(past)?;
        Ok(TakenUp {
            run,
            keys,
            last_seq,
        })
    }

    /// Works on a turn in a task of its own. Returns when what it begins with is durable.
    async fn work(&self, mut run: Run, start: Start) -> Result<(), Error> {
        let cancel = CancellationToken::new();
        let session = run.session;
        match self.at_work.lock().entry(session) {
            Entry::Vacant(place) => drop(place.insert(cancel.clone())),
            Entry::Occupied(_) => {
                return Err(Error::new(
                    ErrorKind::Conflict,
                    "the session is being worked on",
                ));
            }
        }
        let working = Working(self.at_work.clone(), session);
        let (tell, begun) = oneshot::channel();
        let span = tracing::info_span!("session", %session, agent = %run.agent.definition.name);
        let task = async move {
            let _working = working;
            match run.start(start).await {
                Ok(()) => {
                    // Whoever asked may have gone: the session stays.
                    let _ = tell.send(Ok(()));
                    run.turn_to_end(cancel).await;
                }
                Err(error) => {
                    let _ = tell.send(Err(error));
                }
            }
        };
        self.tasks.spawn(task.instrument(span));
        begun
            .await
            .unwrap_or_else(|gone| Err(Error::internal(gone)))
    }
}

/// A turn of a session with a past, and what of it is asked once.
struct TakenUp {
    run: Run,
    keys: Vec<String>,
    last_seq: i64,
}

impl Run {
    fn take_over(&mut self, past: Past) -> Result<(), Error> {
        self.progress = past.progress;
        self.offer = Offer::new(&self.agent, Vec::new())?;
        Ok(())
    }

    /// Of a model that was asked by a process that is no more: nobody knows what it answered, so it is taken to have cost what was held back.
    fn settle_unknown(&mut self, held: Vec<(ReservationId, Money)>) {
        let current = self.progress.current.as_ref();
        let asked = current
            .is_some_and(|current| current.begun && matches!(current.move_, Move::AskModel(_)));
        if asked {
            let facts = [("effect", json!("model")), ("code", json!(UNKNOWN))];
            self.recorder.unknown(header(&facts), held);
            self.progress.reply_unknown();
        }
    }

    fn note_resume(&mut self, by: &str) {
        let facts = [("by", json!(by))];
        self.recorder
            .note_bytes("resume", header(&facts), Vec::new());
    }

    /// Makes durable what the turn begins with.
    async fn start(&mut self, start: Start) -> Result<(), Error> {
        let begun = match &start {
            Start::Again => Ok(()),
            Start::New | Start::Message { .. } => {
                self.within_deadline(async |run| run.begin().await).await
            }
        };
        let begun = match begun {
            Ok(()) => return self.recorder.flush().await,
            Err(error) => error,
        };
        // A session whose first message is refused is none; one that has a past waits as it did before.
        match &start {
            Start::New => {
                let reason = begun.code();
                self.close(SessionState::Failed, reason, INTERRUPTED).await;
            }
            Start::Message { waits_for } => {
                self.close(SessionState::Suspended, waits_for, INTERRUPTED)
                    .await;
            }
            Start::Again => {}
        }
        Err(begun)
    }

    /// Goes through the turn, whoever asked for it.
    async fn turn_to_end(mut self, cancel: CancellationToken) {
        let (tasks, outside) = (self.sessions.tasks.clone(), self.outside.clone());
        let ended = tokio::select! {
            biased;
            () = cancel.cancelled() => {
                return self.close(SessionState::Cancelled, "cancelled", "cancelled").await;
            }
            () = stopping(&tasks, &outside) => return self.leave().await,
            ended = self.within_deadline(async |run| run.go().await) => ended,
        };
        match ended {
            Ok(_) => {
                self.close(SessionState::Suspended, ANSWERED, INTERRUPTED)
                    .await
            }
            Err(error) => {
                tracing::info!(
                    code = error.code(),
                    error = &error as &dyn std::error::Error,
                    "a turn failed; its session is suspended"
                );
                self.close(SessionState::Suspended, error.code(), error.code())
                    .await;
            }
        }
    }

    /// Leaves the session to the next process, with what is known.
    async fn leave(&mut self) {
        self.settle(INTERRUPTED);
        if let Err(error) = self.recorder.flush().await {
            crate::record::unwritten(&error);
        }
    }
}

/// Once the server stops and no tool is at work: of one that is cut nobody would know what it did.
async fn stopping(tasks: &Tasks, outside: &AtomicBool) {
    tasks.stopping().await;
    while outside.load(Relaxed) {
        tokio::time::sleep(LOOK).await;
    }
}

/// What was said and passed.
pub(crate) fn is_request(event: &Event) -> bool {
    event.kind == "request" && !event.header.facts.contains_key("refused")
}

/// Whether a session waits.
fn at_rest(known: &Session) -> Result<(), Error> {
    let why = match known.state {
        SessionState::Suspended => return Ok(()),
        SessionState::Open => "the session is being worked on; wait until it is suspended",
        _ => "the session is closed",
    };
    Err(Error::new(ErrorKind::Conflict, why))
}

/// The agent of a session as it is now.
pub(crate) fn live_agent(tenant: &Tenant, known: &Session) -> Result<Arc<LiveAgent>, Error> {
    let name = known.agent.parse::<AgentName>().ok();
    let agent = name.and_then(|name| tenant.agents.get(&name).cloned());
    agent.ok_or_else(|| Error::not_found("the agent of this session is not there any more"))
}
