//! One request of an agent: the loop of step, policy check, effect, guardrail, journal.
//!
//! The request runs in a task of its own and speaks to its caller through a small channel: a slow reader slows the provider down, and a
//! reader that goes away cancels the request, whatever it waits for. Either way the session's end is journalled.

use crate::{
    conversation::{Conversation, reply_message},
    ending::{Tasks, stopping},
    event::{ChatEvents, ChatTurn, SessionEvent},
    guard::Guard,
    observer::Observer,
    platform::Platform,
    record::{INTERRUPTED, Recorder, header},
    reply::Underway,
    tenants::{LiveAgent, Tenant},
    tools::Offer,
};
use ambit_capabilities::agent::{
    Answer, Decision, Definition, Event, Finish, Move, Turn, TurnClock,
};
use ambit_inference::{FinishReason, ToolCall, Usage};
use ambit_policy::token::TokenError;
use ambit_store::SessionState;
use ambit_types::{CallContext, Error, ErrorKind, SessionId};
use serde_json::json;
use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Instant, SystemTime, UNIX_EPOCH},
};
use tokio::sync::mpsc;
use tracing::Instrument as _;

/// Events on their way to the caller: enough that a burst of tokens does not wake the task for each.
const CHANNEL: usize = 64;

/// Runs sessions.
#[derive(Clone)]
pub struct Sessions {
    pub(crate) platform: Platform,
    pub(crate) observer: Arc<dyn Observer>,
    pub(crate) tasks: Tasks,
}

impl Sessions {
    #[must_use]
    pub fn new(platform: Platform, observer: Arc<dyn Observer>) -> Self {
        Self {
            platform,
            observer,
            tasks: Tasks::default(),
        }
    }

    /// Runs one request of an agent. Dropping the events cancels it.
    #[must_use]
    pub fn chat(
        &self,
        mut context: CallContext,
        tenant: Arc<Tenant>,
        agent: Arc<LiveAgent>,
        turn: ChatTurn,
    ) -> ChatEvents {
        let session = SessionId::new();
        context.session = Some(session);
        context.agent = Some(agent.definition.name.as_str().into());
        context.deadline = context
            .deadline
            .min(Instant::now() + agent.definition.limits.deadline());
        let compute = self.platform.compute(&mut context, &agent.definition.name);
        let (sender, events) = mpsc::channel(CHANNEL);
        let span = tracing::info_span!("session", %session, agent = %agent.definition.name);
        let run = Run {
            recorder: Recorder::new(
                self.platform.store.journal().clone(),
                context.clone(),
                session,
                &agent.definition.name,
            )
            .charging(compute),
            guard: Guard {
                guardrail: tenant.guardrail.clone(),
                context: context.clone(),
                observer: self.observer.clone(),
            },
            offer: Offer::default(),
            conversation: Conversation::new(),
            usage: Usage::default(),
            streamed: BTreeSet::new(),
            last_reply_calls: Vec::new(),
            model_calls: 0,
            underway: None,
            sessions: self.clone(),
            context,
            tenant,
            agent,
            turn,
            events: sender,
        };
        self.tasks.spawn(run.run_to_end().instrument(span));
        ChatEvents { session, events }
    }
}

/// The state of one running request.
pub(crate) struct Run {
    pub(crate) sessions: Sessions,
    pub(crate) context: CallContext,
    pub(crate) tenant: Arc<Tenant>,
    pub(crate) agent: Arc<LiveAgent>,
    pub(crate) turn: ChatTurn,
    pub(crate) events: mpsc::Sender<SessionEvent>,
    pub(crate) recorder: Recorder,
    pub(crate) guard: Guard,
    pub(crate) offer: Offer,
    pub(crate) conversation: Conversation,
    pub(crate) usage: Usage,
    /// Replies whose text the caller has already.
    pub(crate) streamed: BTreeSet<u64>,
    /// Calls the last reply asked for: only these may be made or handed back.
    pub(crate) last_reply_calls: Vec<ToolCall>,
    pub(crate) model_calls: u32,
    pub(crate) underway: Option<Underway>,
}

/// How a request ended well.
struct Ended {
    reason: FinishReason,
}

impl Run {
    async fn run_to_end(mut self) {
        let gone = self.events.clone();
        let tasks = self.sessions.tasks.clone();
        let deadline = tokio::time::Instant::from_std(self.context.deadline);
        let ended = tokio::select! {
            biased;
            () = gone.closed() => None,
            () = tasks.stopping() => None,
            ended = tokio::time::timeout_at(deadline, self.go()) => Some(ended.unwrap_or_else(|_| {
                Err(Error::new(ErrorKind::LimitExceeded { limit: "deadline" }, "the request took longer than its deadline allows"))
            })),
        };
        let last = match ended {
            // A caller that is still there hears why.
            None => {
                self.close(SessionState::Interrupted, tasks.reason(), INTERRUPTED)
                    .await;
                SessionEvent::Failed(stopping())
            }
            Some(Ok(ended)) => match self
                .recorder
                .close(SessionState::Finished, &[("reason", json!(ended.reason))])
                .await
            {
                Ok(()) => SessionEvent::Finished {
                    reason: ended.reason,
                    usage: self.usage,
                },
                Err(error) => SessionEvent::Failed(error),
            },
            Some(Err(error)) => {
                self.close(SessionState::Failed, error.code(), error.code())
                    .await;
                SessionEvent::Failed(error)
            }
        };
        // The caller may have gone meanwhile; then nobody needs to know.
        let _ = self.events.send(last).await;
    }

    /// Ends a session that did not end well, an effect under way with `code`.
    async fn close(&mut self, state: SessionState, reason: &str, code: &'static str) {
        let mut facts = vec![("reason", json!(reason))];
        facts.extend(self.settle(code).map(|effect| ("unknown", json!(effect))));
        if let Err(error) = self.recorder.close(state, &facts).await {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "a session's end could not be journalled"
            );
        }
    }

    async fn go(&mut self) -> Result<Ended, Error> {
        self.offer = Offer::new(&self.agent, std::mem::take(&mut self.turn.client_tools))?;
        let mut events = self.take_in().await?;
        let mut state = Vec::new();
        let steps = self.agent.definition.limits.steps;
        for step in 0..steps {
            let decision = self
                .step(step, steps - step, std::mem::take(&mut events), state)
                .await?;
            state = decision.state;
            events = match decision.move_ {
                Move::AskModel(request) => vec![self.ask_model(request).await?],
                Move::CallTools(calls) => self.call_tools(calls).await?,
                Move::Retrieve(requests) => self.retrieve(requests).await?,
                Move::Finish(finish) => return self.finish(finish).await,
                Move::HandBack(calls) => return self.hand_back(calls).await,
            };
        }
        Err(Error::new(
            ErrorKind::LimitExceeded { limit: "steps" },
            format!("the agent did not finish within its {steps} steps"),
        ))
    }

    async fn step(
        &mut self,
        step: u32,
        steps_left: u32,
        events: Vec<Event>,
        state: Vec<u8>,
    ) -> Result<Decision, Error> {
        let _acting = self.ambit().acting().map_err(not_good)?;
        let definition = &self.agent.definition;
        let turn = Turn {
            definition: Definition {
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
            },
            step,
            events,
            state,
        };
        let clock = self.clock(step);
        let decision = self.agent.step.step(&self.context, turn, clock).await?;
        let facts = [
            ("step", json!(step)),
            ("move", json!(move_name(&decision.move_))),
            // As text: beyond what a number of JSON holds exactly.
            ("unix_nanos", json!(clock.unix_nanos.to_string())),
        ];
        self.recorder
            .note_bytes("checkpoint", header(&facts), decision.state.clone());
        Ok(decision)
    }

    /// The turn's time, and a seed that is the session's own and differs with every step.
    fn clock(&self, step: u32) -> TurnClock {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let mut seed = [0; 32];
        let session = self
            .context
            .session
            .map(|session| session.to_string())
            .unwrap_or_default();
        for (place, byte) in seed
            .iter_mut()
            .zip(session.bytes().skip(4).chain(step.to_le_bytes()))
        {
            *place = byte;
        }
        seed[28..].copy_from_slice(&step.to_le_bytes());
        TurnClock {
            unix_nanos: u64::try_from(now.as_nanos()).unwrap_or(u64::MAX),
            seed,
        }
    }

    async fn finish(&mut self, finish: Finish) -> Result<Ended, Error> {
        let mut text = match finish.answer {
            Answer::Message(id) if self.streamed.contains(&id) => String::new(),
            Answer::Message(id) => self.conversation.text(id)?.to_owned(),
            Answer::Text(text) => text,
        };
        text.push_str(&finish.addendum);
        if !text.is_empty() {
            let mut output = self.guard.output();
            let released =
                async { Ok::<_, Error>(output.push(text).await? + &output.finish().await?) }.await;
            output.note(&mut self.recorder)?;
            self.say(SessionEvent::Text(released?)).await;
        }
        let citations = self.conversation.citations(&finish.citations);
        if !citations.is_empty() {
            self.say(SessionEvent::Citations(citations)).await;
        }
        Ok(Ended {
            reason: FinishReason::Stop,
        })
    }

    /// Gives the caller its own tools' calls: those the model asked for, and no others.
    async fn hand_back(
        &mut self,
        calls: Vec<ambit_capabilities::tool::ToolCall>,
    ) -> Result<Ended, Error> {
        let asked: Vec<_> = self
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
        self.say(SessionEvent::ToolCalls(asked)).await;
        Ok(Ended {
            reason: FinishReason::ToolCalls,
        })
    }

    async fn say(&self, event: SessionEvent) {
        say(&self.events, event).await;
    }

    /// Adds a reply to the conversation.
    pub(crate) fn keep_reply(&mut self, text: String, calls: &[ToolCall], streamed: bool) -> u64 {
        self.last_reply_calls = calls.to_vec();
        let id = self.conversation.push(reply_message(text, calls.to_vec()));
        if streamed {
            self.streamed.insert(id);
        }
        id
    }
}

/// A capability token that is not good for what was to be done.
fn not_good(error: TokenError) -> Error {
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
