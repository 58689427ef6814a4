//! One request of an agent: the loop of step, policy check, effect, guardrail, journal.
//!
//! The request runs in a task of its own and speaks to its caller through a small channel: a slow reader slows the provider down, and a
//! reader that goes away cancels the request, whatever it waits for. Either way the session's end is journalled.

use crate::{
    bodies::{Answered, Checkpoint},
    children::{Families, Handed},
    conversation::Conversation,
    ending::{Tasks, stopping},
    event::{ChatEvents, ChatTurn, Citation, ClientTool, SessionEvent},
    guard::Guard,
    observer::Observer,
    past::Reading,
    platform::Platform,
    progress::Progress,
    record::{INTERRUPTED, Recorder, unwritten},
    replay::Tape,
    reply::Underway,
    tenants::{LiveAgent, Tenant},
    tools::Offer,
    turn::AtWork,
};
use ambit_capabilities::{
    agent::{Answer, Decision, Definition, Finish, Move, Turn, TurnClock},
    guardrail::Room,
};
use ambit_inference::FinishReason;
use ambit_policy::token::TokenError;
use ambit_store::SessionState;
use ambit_types::{CallContext, ComponentName, Error, ErrorKind, SessionId};
use serde_json::json;
use std::{
    sync::{Arc, atomic::AtomicBool},
    time::{Instant, SystemTime, UNIX_EPOCH},
};
use tokio::sync::mpsc;
use tracing::Instrument as _;

/// Events on their way to the caller: enough that a burst of tokens does not wake the task for each.
pub(crate) const CHANNEL: usize = 64;

/// Runs sessions.
#[derive(Clone)]
pub struct Sessions {
    pub(crate) platform: Platform,
    pub(crate) observer: Arc<dyn Observer>,
    pub(crate) tasks: Tasks,
    pub(crate) at_work: AtWork,
    pub(crate) families: Arc<Families>,
    /// For what nobody asked for: a tenant whose requests wait for each other's reading does not keep others' sessions from being looked after.
    pub(crate) looking: Arc<Reading>,
}

impl Sessions {
    #[must_use]
    pub fn new(platform: Platform, observer: Arc<dyn Observer>) -> Self {
        Self {
            platform,
            observer,
            tasks: Tasks::default(),
            at_work: AtWork::default(),
            families: Arc::default(),
            looking: Arc::default(),
        }
    }

    /// Runs one request of an agent. Dropping the events cancels it.
    #[must_use]
    pub fn chat(
        &self,
        context: CallContext,
        tenant: Arc<Tenant>,
        agent: Arc<LiveAgent>,
        turn: ChatTurn,
    ) -> ChatEvents {
        let session = SessionId::new();
        let (sender, events) = mpsc::channel(CHANNEL);
        let span = tracing::info_span!("session", %session, agent = %agent.definition.name);
        let mut run = self.run(session, context, tenant, agent, turn);
        run.events = Some(sender);
        self.tasks.spawn(run.run_to_end().instrument(span));
        ChatEvents { session, events }
    }

    /// A turn that has not begun.
    pub(crate) fn run(
        &self,
        session: SessionId,
        mut context: CallContext,
        tenant: Arc<Tenant>,
        agent: Arc<LiveAgent>,
        turn: ChatTurn,
    ) -> Run {
        let definition = &agent.definition;
        context.session = Some(session);
        context.agent = Some(definition.name.as_str().into());
        context.deadline = context
            .deadline
            .min(Instant::now() + definition.limits.deadline());
        let compute = self.platform.compute(&mut context, &definition.name);
        Run {
            recorder: Recorder::new(
                self.platform.store.journal().clone(),
                context.clone(),
                session,
                &definition.name,
            )
            .charging(compute),
            guard: Guard {
                guardrail: tenant.guardrail.clone(),
                context: context.clone(),
                observer: self.observer.clone(),
            },
            handed: None,
            waited: AtomicBool::new(false),
            offer: Offer::default(),
            progress: Progress::new(Conversation::new(), definition.limits.steps),
            underway: None,
            outside: Arc::default(),
            tape: None,
            sessions: self.clone(),
            session,
            context,
            tenant,
            agent,
            turn,
            events: None,
        }
    }
}

/// The state of one running turn.
pub(crate) struct Run {
    pub(crate) sessions: Sessions,
    pub(crate) session: SessionId,
    pub(crate) context: CallContext,
    pub(crate) tenant: Arc<Tenant>,
    pub(crate) agent: Arc<LiveAgent>,
    pub(crate) turn: ChatTurn,
    /// None: nobody listens, and who wants to know reads the journal.
    pub(crate) events: Option<mpsc::Sender<SessionEvent>>,
    pub(crate) recorder: Recorder,
    pub(crate) guard: Guard,
    /// What it has of the session that started it. None: nobody did.
    pub(crate) handed: Option<Arc<Handed>>,
    /// This turn has seen the session that it waits for at work, or at rest.
    pub(crate) waited: AtomicBool,
    pub(crate) offer: Offer,
    pub(crate) progress: Progress,
    pub(crate) underway: Option<Underway>,
    /// Tools are at work.
    pub(crate) outside: Arc<AtomicBool>,
    /// Answers in place of tools and collections, in a replay of that session.
    pub(crate) tape: Option<(SessionId, Tape)>,
}

/// How a turn ended well.
pub(crate) enum Ended {
    Answered(FinishReason),
    /// For this: somebody has to approve of something first, here or in a session that this one started.
    Waits(&'static str),
}

impl Run {
    async fn run_to_end(mut self) {
        let gone = self.events.clone();
        let gone = async {
            match &gone {
                Some(caller) => caller.closed().await,
                None => std::future::pending().await,
            }
        };
        let tasks = self.sessions.tasks.clone();
        let ended = tokio::select! {
            biased;
            () = gone => None,
            () = tasks.stopping() => None,
            ended = self.within_deadline(async |run| {
                run.begin().await?;
                run.go().await
            }) => Some(ended),
        };
        let last = match ended {
            // A caller that is still there hears why.
            None => {
                self.close(SessionState::Interrupted, tasks.reason(), INTERRUPTED)
                    .await;
                self.end_children().await;
                SessionEvent::Failed(stopping())
            }
            Some(Ok(ended)) => match self.ended(ended).await {
                Ok(last) => last,
                Err(error) => SessionEvent::Failed(error),
            },
            Some(Err(error)) => {
                self.close(SessionState::Failed, error.code(), error.code())
                    .await;
                self.end_children().await;
                SessionEvent::Failed(error)
            }
        };
        // The caller may have gone meanwhile; then nobody needs to know.
        self.say(last).await;
    }

    /// Makes the end of a turn durable that ended well. What waits for somebody outlives its connection: it becomes a durable session.
    async fn ended(&mut self, ended: Ended) -> Result<SessionEvent, Error> {
        let reason = match ended {
            Ended::Answered(reason) => {
                let facts = [("reason", json!(reason))];
                self.recorder.close(SessionState::Finished, &facts).await?;
                reason
            }
            Ended::Waits(reason) => {
                if let Err(unwritten) = self.recorder.outlive_connection() {
                    let code = unwritten.code();
                    self.close(SessionState::Failed, code, INTERRUPTED).await;
                    return Err(unwritten);
                }
                let facts = [("reason", json!(reason))];
                self.recorder.close(SessionState::Suspended, &facts).await?;
                let notice = self.notice().await;
                self.say(SessionEvent::Text(notice)).await;
                FinishReason::Stop
            }
        };
        Ok(self.finished(reason))
    }

    pub(crate) fn finished(&self, reason: FinishReason) -> SessionEvent {
        let usage = self.progress.usage;
        SessionEvent::Finished { reason, usage }
    }

    /// Does it, but no longer than the turn may take.
    pub(crate) async fn within_deadline<R>(
        &mut self,
        what: impl AsyncFnOnce(&mut Self) -> Result<R, Error>,
    ) -> Result<R, Error> {
        let deadline = tokio::time::Instant::from_std(self.context.deadline);
        let done = tokio::time::timeout_at(deadline, what(self)).await;
        done.unwrap_or_else(|_| {
            Err(Error::new(
                ErrorKind::LimitExceeded { limit: "deadline" },
                "the request took longer than its deadline allows",
            ))
        })
    }

    /// Ends a session that did not end well, or leaves it suspended, an effect under way with `code`.
    /// What kept that from the journal; it is logged.
    pub(crate) async fn close(
        &mut self,
        state: SessionState,
        reason: &str,
        code: &'static str,
    ) -> Option<Error> {
        let mut facts = vec![("reason", json!(reason))];
        facts.extend(self.settle(code).map(|effect| ("unknown", json!(effect))));
        let closed = self.recorder.close(state, &facts).await;
        closed.inspect_err(unwritten).err()
    }

    /// Takes in what the caller said.
    pub(crate) async fn begin(&mut self) -> Result<(), Error> {
        let client = std::mem::take(&mut self.turn.client_tools);
        self.offer_tools(client)?;
        self.take_in().await
    }

    /// The tool components that the session may use. None: all of its agent's.
    pub(crate) fn tools_left(&self) -> Option<&[ComponentName]> {
        self.handed.as_ref().map(|handed| &*handed.tools)
    }

    /// It has what it has of the session that started it.
    pub(crate) fn hand(&mut self, handed: Handed) {
        self.recorder.below(&handed.above);
        self.handed = Some(Arc::new(handed));
    }

    /// The sessions above it, the nearest first.
    pub(crate) fn above(&self) -> Arc<[SessionId]> {
        let handed = self.handed.as_ref();
        handed.map_or_else(Arc::default, |handed| handed.above.clone())
    }

    /// The session that started this one and waits for it.
    pub(crate) fn parent(&self) -> Option<SessionId> {
        self.handed.as_ref()?.above.first().copied()
    }

    pub(crate) fn offer_tools(&mut self, client: Vec<ClientTool>) -> Result<(), Error> {
        self.offer = Offer::new(&self.tenant, &self.agent, self.tools_left(), client)?;
        Ok(())
    }

    /// Steps, and carries out what is decided, until the turn ends.
    pub(crate) async fn go(&mut self) -> Result<Ended, Error> {
        loop {
            let current = match &self.progress.current {
                Some(current) => current.clone(),
                None if self.progress.left == 0 => {
                    let steps = self.agent.definition.limits.steps;
                    return Err(Error::new(
                        ErrorKind::LimitExceeded { limit: "steps" },
                        format!("the agent did not finish within its {steps} steps"),
                    ));
                }
                None => {
                    self.step().await?;
                    continue;
                }
            };
            match current.move_ {
                Move::AskModel(request) => self.ask_model(request).await?,
                Move::CallTools(calls) => {
                    if let Some(reason) = self.call_tools(calls, current.begun).await? {
                        return Ok(Ended::Waits(reason));
                    }
                }
                Move::Retrieve(requests) => self.retrieve(&requests[current.done..]).await?,
                Move::Finish(finish) => return self.finish(finish).await,
                Move::HandBack(calls) => return self.hand_back(calls).await,
            }
        }
    }

    /// What a step is told of the agent.
    pub(crate) fn definition(&self, steps_left: u32) -> Definition {
        let definition = &self.agent.definition;
        Definition {
            name: definition.name.to_string(),
            instructions: definition.instructions.clone(),
            tools: self.offer.host_specs(),
            client_tools: self.offer.client_specs(),
            collections: definition
                .collections
                .iter()
                .map(ToString::to_string)
                .collect(),
            max_passages: definition.max_passages,
            steps_left,
        }
    }

    async fn step(&mut self) -> Result<(), Error> {
        let _acting = self.ambit().acting().map_err(not_good)?;
        let step = self.progress.step;
        let turn = Turn {
            definition: self.definition(self.progress.left),
            step,
            events: self.progress.news.clone(),
            state: self.progress.state.clone(),
        };
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let clock = clock(
            self.session,
            step,
            u64::try_from(now.as_nanos()).unwrap_or(u64::MAX),
        );
        let decision = self.agent.step.step(&self.context, turn, clock).await?;
        let facts = [
            ("step", json!(step)),
            ("move", json!(move_name(&decision.move_))),
            // As text: beyond what a number of JSON holds exactly.
            ("unix_nanos", json!(clock.unix_nanos.to_string())),
        ];
        let checkpoint = Checkpoint {
            move_: decision.move_,
            state: decision.state,
        };
        self.recorder.note("checkpoint", &facts, &checkpoint)?;
        self.progress.decided(Decision {
            move_: checkpoint.move_,
            state: checkpoint.state,
        });
        Ok(())
    }

    async fn finish(&mut self, finish: Finish) -> Result<Ended, Error> {
        let mut streamed = String::new();
        let mut text = match finish.answer {
            Answer::Message(id)
                if self.events.is_some() && self.progress.streamed.contains(&id) =>
            {
                self.progress
                    .conversation
                    .text(id)?
                    .clone_into(&mut streamed);
                String::new()
            }
            Answer::Message(id) => self.progress.conversation.text(id)?.to_owned(),
            Answer::Text(text) => text,
        };
        text.push_str(&finish.addendum);
        let mut said = String::new();
        if !text.is_empty() {
            let mut output = self.guard.output();
            let released = async {
                let (mut room, output) = (Room::default(), &mut output);
                let text = output.push(text, &mut room).await?;
                Ok::<_, Error>(text + &output.finish(&mut room).await?)
            }
            .await;
            output.note(&mut self.recorder)?;
            said = released?;
            self.say(SessionEvent::Text(said.clone())).await;
        }
        let citations = self.progress.conversation.citations(&finish.citations);
        self.note_answer(streamed + &said, &citations)?;
        if !citations.is_empty() {
            self.say(SessionEvent::Citations(citations)).await;
        }
        Ok(Ended::Answered(FinishReason::Stop))
    }

    /// Where not only a caller is told as it comes, the journal tells whoever asks.
    fn note_answer(&mut self, text: String, citations: &[Citation]) -> Result<(), Error> {
        if self.events.is_some() && !self.recorder.is_durable() {
            return Ok(());
        }
        let citations = citations.to_vec();
        let body = Answered { text, citations };
        self.recorder.note("answer", &[], &body)
    }

    /// Gives the caller its own tools' calls: those the model asked for, and no others.
    async fn hand_back(
        &mut self,
        calls: Vec<ambit_capabilities::tool::ToolCall>,
    ) -> Result<Ended, Error> {
        let asked: Vec<_> = self
            .progress
            .last_reply_calls
            .iter()
            .filter(|asked| {
                self.offer.is_client(&asked.name) && calls.iter().any(|call| call.id == asked.id)
            })
            .cloned()
            .collect();
        if asked.len() != calls.len() || asked.is_empty() {
            return Err(crate::conversation::bad_move(
                "calls handed back are not those the model asked for".into(),
            ));
        }
        self.note_answer(String::new(), &[])?;
        self.say(SessionEvent::ToolCalls(asked)).await;
        Ok(Ended::Answered(FinishReason::ToolCalls))
    }

    pub(crate) async fn say(&self, event: SessionEvent) {
        if let Some(caller) = &self.events {
            say(caller, event).await;
        }
    }
}

/// The turn's time, and a seed that is the session's own and differs with every step.
pub(crate) fn clock(session: SessionId, step: u32, unix_nanos: u64) -> TurnClock {
    let mut seed = [0; 32];
    for (place, byte) in seed.iter_mut().zip(
        session
            .to_string()
            .bytes()
            .skip(4)
            .chain(step.to_le_bytes()),
    ) {
        *place = byte;
    }
    seed[28..].copy_from_slice(&step.to_le_bytes());
    TurnClock { unix_nanos, seed }
}

/// A capability token that is not good for what was to be done.
pub(crate) fn not_good(error: TokenError) -> Error {
    Error::forbidden(error.to_string())
}

/// A caller that went away is noticed by [`Run::run_to_end`].
pub(crate) async fn say(caller: &mpsc::Sender<SessionEvent>, event: SessionEvent) {
    if !matches!(&event, SessionEvent::Text(text) if text.is_empty()) {
        let _ = caller.send(event).await;
    }
}

pub(crate) fn move_name(move_: &Move) -> &'static str {
    match move_ {
        Move::AskModel(_) => "ask-model",
        Move::CallTools(_) => "call-tools",
        Move::Retrieve(_) => "retrieve",
        Move::Finish(_) => "finish",
        Move::HandBack(_) => "hand-back",
    }
}

pub(crate) fn bytes(text: &str) -> u32 {
    u32::try_from(text.len()).unwrap_or(u32::MAX)
}
