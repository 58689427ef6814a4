//! Replaying a session: what its agent decided, decided again; or the whole of it with another model or other instructions.
//!
//! An agent is a pure function, and its journal has everything it was told. So a replay steps it again, each time with exactly what it had, and
//! must get the very same move and state: nothing is asked of a model, a tool or a collection. A *trial* asks another model (or the same one with
//! other instructions) instead of reading its replies, while tools and collections answer from the journal: nothing outside is touched twice. It is a
//! session of its own, governed, journalled and paid for like any other, in the operator's name.

use crate::{
    bodies::{Checkpoint, Reply, Request, Returned},
    chat::{Run, Sessions, clock},
    children::Handed,
    conversation::{Conversation, Found},
    definition::ModelName,
    durable::{is_request, live_agent},
    ending::stopping,
    event::{ChatMessage, ChatTurn},
    past::{Past, body, found},
    progress::Current,
    record::INTERRUPTED,
    tenants::{LiveAgent, Tenant},
};
use ambit_capabilities::{
    agent::{Decision, Failure, Move, Turn, TurnClock},
    tool::ToolCall as AgentCall,
};
use ambit_store::{Event, Session, SessionState, TenantStore};
use ambit_types::{CallContext, Error, ErrorKind, SessionId};
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::{collections::VecDeque, sync::Arc, time::Instant};
use tokio::sync::oneshot;

/// Events read at a time.
const PAGE: u32 = 256;

/// What came of a replay.
#[derive(Debug, Serialize)]
pub struct Replayed {
    /// Steps taken again.
    pub steps: u32,
    /// Digest of the component that took them first, and of the one that took them again.
    pub component: [String; 2],
    /// Steps that came out otherwise.
    pub differences: Vec<Difference>,
}

/// A step that came out otherwise.
#[derive(Debug, Serialize)]
pub struct Difference {
    pub step: u32,
    pub recorded: Value,
    pub replayed: Value,
}

/// What to try.
#[derive(Debug, Clone, Default)]
pub struct Trial {
    /// One that the agent may ask.
    pub model: Option<ModelName>,
    pub instructions: Option<String>,
}

/// What came of a trial.
#[derive(Debug, Serialize)]
pub struct Tried {
    /// The session it was.
    pub session: SessionId,
    /// Why it ended before the recorded one's last turn.
    pub error: Option<String>,
    /// What the models said, reply by reply, and whether both said the same.
    pub replies: Vec<Compared>,
}

/// A reply of both.
#[derive(Debug, Serialize)]
pub struct Compared {
    pub same: bool,
    pub recorded: Option<Value>,
    pub tried: Option<Value>,
}

/// What tools and collections answered, to be answered again.
#[derive(Debug, Default)]
pub(crate) struct Tape {
    tools: Vec<(AgentCall, (bool, String))>,
    found: Vec<(String, Result<Vec<Found>, Failure>)>,
}

impl Tape {
    /// What the same call came to, each time it was made in turn. None: it was not made.
    pub(crate) fn returned(&mut self, call: &AgentCall) -> Option<(bool, String)> {
        let same =
            |(made, _): &(AgentCall, _)| made.name == call.name && made.arguments == call.arguments;
        let place = self.tools.iter().position(same)?;
        Some(self.tools.remove(place).1)
    }

    /// What the collection held, each time it was asked in turn.
    pub(crate) fn found(&mut self, collection: &str) -> Result<Vec<Found>, Failure> {
        let place = self.found.iter().position(|(name, _)| name == collection);
        match place {
            Some(place) => self.found.remove(place).1,
            None => Err(Failure {
                move_: "retrieve".to_owned(),
                code: "unavailable".to_owned(),
                message: "the journal has no further answer of this collection".to_owned(),
            }),
        }
    }

    /// Takes in what an event adds, given what was being carried out before it.
    fn take(&mut self, event: &Event, before: Option<&Current>) -> Result<(), Error> {
        let effect = event.header.facts.get("effect").and_then(Value::as_str);
        let Some(before) = before.filter(|_| event.kind == "outcome") else {
            return Ok(());
        };
        match (effect, &before.move_) {
            (Some("tools"), Move::CallTools(calls)) => {
                let returned: Vec<Returned> = body(event)?;
                let results = returned.into_iter().map(|one| (one.ok, one.content));
                self.tools.extend(calls.iter().cloned().zip(results));
            }
            (Some("retrieve"), Move::Retrieve(requests)) => {
                let request = requests.get(before.done);
                let collection = request.map(|request| request.collection.clone());
                self.found
                    .push((collection.unwrap_or_default(), found(event)?));
            }
            _ => {}
        }
        Ok(())
    }
}

/// All events of a session, one after another.
struct Events<'a> {
    store: &'a TenantStore,
    session: SessionId,
    after: i64,
    read: VecDeque<Event>,
    all: bool,
}

impl<'a> Events<'a> {
    fn new(store: &'a TenantStore, session: SessionId) -> Self {
        Self {
            store,
            session,
            after: 0,
            read: VecDeque::new(),
            all: false,
        }
    }

    async fn next(&mut self) -> Result<Option<Event>, Error> {
        if self.read.is_empty() && !self.all {
            let page = self.store.events(self.session, self.after, PAGE).await?;
            self.all = page.len() < PAGE as usize;
            self.after = page.last().map_or(self.after, |last| last.seq);
            self.read = page.into();
        }
        Ok(self.read.pop_front())
    }
}

impl Sessions {
    /// Takes every step of a session again.
    ///
    /// # Errors
    /// The store's; its agent is gone, its content was erased, or an earlier version wrote it.
    pub async fn replay(
        &self,
        mut context: CallContext,
        tenant: &Tenant,
        known: &Session,
    ) -> Result<Replayed, Error> {
        context.session = Some(known.id);
        let agent = live_agent(tenant, known)?;
        let store = self.platform.store.tenant(known.tenant);
        let mut past = Past::new();
        let mut replayed = Replayed {
            steps: 0,
            component: [String::new(), agent.step.digest().to_string()],
            differences: Vec::new(),
        };
        let mut events = Events::new(&store, known.id);
        while let Some(event) = events.next().await? {
            let fact = |name: &str| event.header.facts.get(name).and_then(Value::as_str);
            if let Some(component) = fact("component") {
                replayed.component[0] = component.to_owned();
            }
            if event.kind == "checkpoint" {
                let recorded: Checkpoint = body(&event)?;
                let nanos = fact("unix_nanos").and_then(|nanos| nanos.parse().ok());
                let nanos =
                    nanos.ok_or_else(|| Error::internal("a checkpoint without its time"))?;
                let step = past.progress.step;
                let again = step_again(&context, &agent, &past, clock(known.id, step, nanos)).await;
                let recorded = in_json(&recorded)?;
                let again = match again {
                    Ok(Decision { move_, state }) => in_json(&Checkpoint { move_, state })?,
                    Err(error) => json!({ "error": error.message() }),
                };
                replayed.steps += 1;
                if recorded != again {
                    replayed.differences.push(Difference {
                        step,
                        recorded,
                        replayed: again,
                    });
                }
            }
            past.take(&event)?;
        }
        Ok(replayed)
    }

    /// Goes through a session again with another model or other instructions.
    ///
    /// # Errors
    /// As [`Sessions::replay`]; the agent may not ask that model.
    pub async fn try_again(
        &self,
        context: CallContext,
        tenant: Arc<Tenant>,
        known: &Session,
        trial: Trial,
    ) -> Result<Tried, Error> {
        // Whoever asked may go away: the session it is has its end all the same.
        let (tell, told) = oneshot::channel();
        let (sessions, known) = (self.clone(), known.clone());
        self.tasks.spawn(async move {
            let tried = sessions.tried(context, tenant, &known, trial).await;
            let _ = tell.send(tried);
        });
        told.await.unwrap_or_else(|gone| Err(Error::internal(gone)))
    }

    async fn tried(
        &self,
        context: CallContext,
        tenant: Arc<Tenant>,
        known: &Session,
        trial: Trial,
    ) -> Result<Tried, Error> {
        let agent = Arc::new(other(&*live_agent(&tenant, known)?, trial)?);
        let store = self.platform.store.tenant(known.tenant);
        let (mut past, mut tape, mut turns) = (Past::new(), Tape::default(), Vec::new());
        let mut delimiter = None;
        let mut events = Events::new(&store, known.id);
        while let Some(event) = events.next().await? {
            if is_request(&event) {
                let request: Request = body(&event)?;
                delimiter.get_or_insert(request.delimiter);
                turns.push((request.messages, request.options));
            }
            tape.take(&event, past.progress.current.as_ref())?;
            past.take(&event)?;
        }
        let session = SessionId::new();
        let mut run = self.run(session, context, tenant, agent, ChatTurn::default());
        run.tape = Some((known.id, tape));
        // As the one that is tried again had no more.
        run.handed = past.handed.as_ref().map(Handed::recorded).map(Arc::new);
        // With its delimiters the prompts are the same to the letter.
        if let Some(delimiter) = delimiter {
            run.progress.conversation = Conversation::delimited_by(delimiter);
        }
        let all = tokio::select! {
            biased;
            () = self.tasks.stopping() => Err(stopping()),
            all = run.through(turns) => all,
        };
        let error = all.err();
        let (state, reason) = match &error {
            None => (SessionState::Finished, "stop"),
            Some(error) => (SessionState::Failed, error.code()),
        };
        let code = error.as_ref().map_or(INTERRUPTED, Error::code);
        run.close(state, reason, code).await;
        let (recorded, tried) = (
            replies(&store, known.id).await?,
            replies(&store, session).await?,
        );
        let length = recorded.len().max(tried.len());
        let replies = (0..length).map(|n| {
            let (recorded, tried) = (recorded.get(n).cloned(), tried.get(n).cloned());
            Compared {
                same: recorded == tried,
                recorded,
                tried,
            }
        });
        Ok(Tried {
            session,
            error: error.map(|error| error.message().to_owned()),
            replies: replies.collect(),
        })
    }
}

impl Run {
    /// Goes through turns one after another, each with its own time.
    async fn through(
        &mut self,
        turns: Vec<(Vec<ChatMessage>, Map<String, Value>)>,
    ) -> Result<(), Error> {
        for (messages, options) in turns {
            let deadline = Instant::now() + self.agent.definition.limits.deadline();
            self.context.deadline = deadline;
            self.guard.context.deadline = deadline;
            self.turn.messages = messages;
            self.turn.options = options;
            self.within_deadline(async |run| {
                run.begin().await?;
                run.go().await
            })
            .await?;
            self.progress.answered();
        }
        Ok(())
    }
}

async fn step_again(
    context: &CallContext,
    agent: &LiveAgent,
    past: &Past,
    clock: TurnClock,
) -> Result<Decision, Error> {
    let definition = past.definition.clone();
    let mut definition = definition.ok_or_else(|| Error::internal("a step before any request"))?;
    definition.steps_left = past.progress.left;
    let turn = Turn {
        definition,
        step: past.progress.step,
        events: past.progress.news.clone(),
        state: past.progress.state.clone(),
    };
    Ok(agent.step.step(context, turn, clock).await?)
}

/// The agent with what is tried.
fn other(agent: &LiveAgent, trial: Trial) -> Result<LiveAgent, Error> {
    let mut definition = agent.definition.clone();
    if let Some(model) = trial.model {
        let mut known = std::iter::once(&definition.model).chain(&definition.models);
        if !known.any(|one| *one == model) {
            let message = format!(
                "the agent `{}` may not ask `{model}`; add it to its `models` first",
                definition.name
            );
            return Err(Error::new(ErrorKind::Forbidden, message));
        }
        definition.model = model;
    }
    if let Some(instructions) = trial.instructions {
        definition.instructions = instructions;
    }
    Ok(LiveAgent {
        definition,
        updated_ms: agent.updated_ms,
        step: agent.step.clone(),
        tools: agent.tools.clone(),
        ambit: agent.ambit.clone(),
    })
}

fn in_json(value: &impl Serialize) -> Result<Value, Error> {
    serde_json::to_value(value).map_err(Error::internal)
}

/// What models said in a session: text, and calls without their ids, which are drawn.
async fn replies(store: &TenantStore, session: SessionId) -> Result<Vec<Value>, Error> {
    let mut replies = Vec::new();
    let mut events = Events::new(store, session);
    while let Some(event) = events.next().await? {
        let facts = &event.header.facts;
        let is_reply = facts.get("effect").and_then(Value::as_str) == Some("model")
            && !facts.contains_key("code");
        if event.kind == "outcome" && is_reply {
            let reply: Reply = body(&event)?;
            let calls = reply.tool_calls.iter();
            let calls: Vec<_> = calls
                .map(|call| json!({ "name": call.name, "arguments": call.arguments }))
                .collect();
            replies.push(json!({ "text": reply.text, "tool_calls": calls }));
        }
    }
    Ok(replies)
}
