//! The agent's step: a pure function from what is new to what to do next.
//!
//! The records are those of `ambit:agent` and `ambit:types`, generated from the contract: an agent's move is journalled as it is,
//! and a second set of the same records would only add a place to forget a field.

mod host;

// `Failure` is a word of the contract here.
use crate::{Failure as ComponentFailure, LoadError};
use ambit_runtime::{Admitted, CallScope, Clock, Digest, Pure, Runtime};
use ambit_types::{CallContext, Error};
use host::{AgentError as GuestError, Guest};
use std::{
    collections::HashMap,
    hash::Hash,
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

pub use crate::bindings::types::{Role, ToolCall, ToolSpec, Usage};
pub use host::exports::ambit::agent::agent::{
    Answer, Audience, Decision, Definition, Event, Failure, Finish, FinishReason, Message,
    MessageId, ModelRequest, Move, Passage, PromptPart, Query, Reply, Retrieval, RetrieveRequest,
    ToolResult, Turn,
};

/// Most bytes of state an agent may carry from one step to the next.
pub const STATE_CAP: usize = 64 * 1024;

/// The time and the randomness of a turn: journalled with it, so that a replay sees the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct TurnClock {
    /// Nanoseconds since the Unix epoch: what every clock of the guest says throughout the step.
    pub unix_nanos: u64,
    /// Seed of the guest's random numbers.
    pub seed: [u8; 32],
}

/// Why an agent has no next move. Texts are for the log.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The turn cannot be: a bug of the session's or the agent's.
    #[error("the agent refuses the turn: {0}")]
    BadTurn(String),
    #[error(transparent)]
    Failure(#[from] ComponentFailure),
}

impl From<AgentError> for Error {
    fn from(error: AgentError) -> Self {
        match error {
            AgentError::BadTurn(_) => Self::internal(error),
            AgentError::Failure(failure) => failure.into(),
        }
    }
}

/// An agent's step function. Cheap to clone.
#[derive(Clone)]
pub struct Agent(Arc<Inner>);

struct Inner {
    runtime: Arc<Runtime>,
    component: Pure<(), Guest>,
}

impl Agent {
    /// Links the component.
    ///
    /// # Errors
    ///
    /// When it cannot be linked: it imports something beyond base.
    pub fn new(runtime: &Arc<Runtime>, admitted: &Admitted) -> Result<Self, LoadError> {
        let component = Pure::link(runtime, admitted, |_linker| Ok(()))?;
        Ok(Self(Arc::new(Inner {
            runtime: runtime.clone(),
            component,
        })))
    }

    /// Of the component: the same digest decides the same.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.0.component.code().digest()
    }

    /// The next move. The same turn under the same clock gives the same decision, wherever it runs.
    ///
    /// # Errors
    ///
    /// When the agent fails, or its decision is none it may make: one that names what the turn does not have.
    pub async fn step(
        &self,
        ctx: &CallContext,
        turn: Turn,
        clock: TurnClock,
    ) -> Result<Decision, AgentError> {
        let time = UNIX_EPOCH + Duration::from_nanos(clock.unix_nanos);
        let scope = CallScope {
            clock: Clock::Turn {
                time,
                seed: clock.seed,
            },
            ..self.0.runtime.scope(ctx)
        };
        let tenant = scope.tenant.clone();
        let agent = self.clone();
        let job = move || {
            let step =
                |store: &mut _, guest: &Guest| guest.ambit_agent_agent().call_step(store, &turn);
            let decision = match agent
                .0
                .component
                .call(&scope, (), step)
                .map_err(ComponentFailure::from)?
            {
                Ok(decision) => decision,
                Err(GuestError::BadTurn(what)) => return Err(AgentError::BadTurn(what)),
                Err(GuestError::BadState) => {
                    return Err(ComponentFailure::Contract(
                        "its own state is not one it made".to_owned(),
                    )
                    .into());
                }
                Err(GuestError::Other(what)) => {
                    return Err(ComponentFailure::Component(what).into());
                }
            };
            check(&turn.definition, &decision)?;
            Ok(decision)
        };
        self.0
            .runtime
            .executor()
            .run(&tenant, job)
            .await
            .map_err(ComponentFailure::from)?
    }
}

/// Most collections that may be asked in one move, and how often.
const RETRIEVALS_CAP: usize = 16;

/// Holds a decision to the definition: only tools and collections that are bound, and no more state than may be kept. What it names stands
/// for something longer, so it names each twice at most: a page of numbers would be gigabytes of prompt.
fn check(definition: &Definition, decision: &Decision) -> Result<(), ComponentFailure> {
    let broken = |what: &str| Err(ComponentFailure::Contract(what.to_owned()));
    if decision.state.len() > STATE_CAP {
        return broken("its state is longer than 64 KiB");
    }
    let has = |tools: &[ToolSpec], name: &str| tools.iter().any(|tool| tool.name == name);
    let distinct = |calls: &[ToolCall]| once(calls.iter().map(|call| &call.id));
    match &decision.move_ {
        Move::AskModel(request) => {
            let named = request.prompt.iter().filter_map(|part| match part {
                PromptPart::Message(id) | PromptPart::Passages(id) => Some(id),
                PromptPart::Instruction(_) => None,
            });
            // Twice: some say the question again after what was found.
            if !at_most(2, named) || !once(&request.tools) {
                return broken("its prompt has a message three times, or it offers a tool twice");
            }
            let known =
                |name: &String| has(&definition.tools, name) || has(&definition.client_tools, name);
            if !request.tools.iter().all(known) {
                return broken("it offers a tool that is not bound");
            }
        }
        Move::CallTools(calls) => {
            if calls.is_empty()
                || !distinct(calls)
                // A name that no tool has is the model's invention, which an agent may pass on: whoever carries the call out refuses
                // it, and the model reads that. A tool of the caller's own is not for the host to call.
                || calls.iter().any(|call| has(&definition.client_tools, &call.name))
            {
                return broken(
                    "it calls no tool, one twice under one id, or one of the caller's own",
                );
            }
        }
        Move::HandBack(calls) => {
            if calls.is_empty()
                || !distinct(calls)
                || !calls
                    .iter()
                    .all(|call| has(&definition.client_tools, &call.name))
            {
                return broken(
                    "it hands back no call, one twice under one id, or one of a tool the caller did not declare",
                );
            }
        }
        Move::Retrieve(requests) => {
            if requests.is_empty()
                || requests.len() > RETRIEVALS_CAP
                || !requests
                    .iter()
                    .all(|request| definition.collections.contains(&request.collection))
            {
                return broken(
                    "it asks for no passages, too often at once, or in a collection that is not bound",
                );
            }
        }
        Move::Finish(_) => {}
    }
    Ok(())
}

/// Whether each is there once.
fn once<T: Eq + Hash>(all: impl IntoIterator<Item = T>) -> bool {
    at_most(1, all)
}

/// Whether none is there more often.
fn at_most<T: Eq + Hash>(times: u32, all: impl IntoIterator<Item = T>) -> bool {
    let mut seen = HashMap::new();
    all.into_iter().all(|one| {
        let count = seen.entry(one).or_insert(0);
        *count += 1;
        *count <= times
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn definition() -> Definition {
        let tool = |name: &str| ToolSpec {
            name: name.to_owned(),
            description: String::new(),
            parameters: "{}".to_owned(),
            reversible: true,
            idempotent: true,
        };
        Definition {
            name: "assistant".to_owned(),
            instructions: String::new(),
            tools: vec![tool("now")],
            client_tools: vec![tool("theirs")],
            collections: vec!["handbook".to_owned()],
            max_passages: 5,
            steps_left: 3,
        }
    }

    fn call(id: &str, name: &str) -> ToolCall {
        ToolCall {
            id: id.to_owned(),
            name: name.to_owned(),
            arguments: "{}".to_owned(),
        }
    }

    fn ask(prompt: Vec<PromptPart>, tools: &[&str]) -> Move {
        let tools = tools.iter().map(|&name| name.to_owned()).collect();
        Move::AskModel(ModelRequest {
            model: None,
            prompt,
            tools,
            audience: Audience::Caller,
        })
    }

    fn offer(tools: &[&str]) -> Move {
        ask(Vec::new(), tools)
    }

    fn retrieve(collection: &str, times: usize) -> Move {
        let request = RetrieveRequest {
            collection: collection.to_owned(),
            query: Query::Text("q".to_owned()),
            max_passages: 1,
        };
        Move::Retrieve(vec![request; times])
    }

    #[test]
    fn a_decision_names_only_what_is_bound() {
        let (message, passages) = (PromptPart::Message, PromptPart::Passages);
        let say = || PromptPart::Instruction("Be kind.".to_owned());
        let allowed = |move_: Move| {
            check(
                &definition(),
                &Decision {
                    move_,
                    state: Vec::new(),
                },
            )
            .is_ok()
        };
        for good in [
            offer(&["now", "theirs"]),
            offer(&[]),
            ask(vec![message(1), message(2), passages(3), say(), say()], &[]),
            ask(vec![message(1), passages(2), message(1)], &[]),
            Move::CallTools(vec![call("a", "now"), call("b", "now")]),
            Move::CallTools(vec![call("a", "invented")]),
            Move::HandBack(vec![call("a", "theirs")]),
            retrieve("handbook", RETRIEVALS_CAP),
        ] {
            assert!(allowed(good.clone()), "{good:?}");
        }
        for bad in [
            offer(&["shell"]),
            offer(&["now", "now"]),
            ask(vec![message(1); 30_000], &[]),
            ask(vec![passages(1), say(), passages(1), passages(1)], &[]),
            Move::CallTools(Vec::new()),
            Move::CallTools(vec![call("a", "theirs")]),
            Move::CallTools(vec![call("a", "now"), call("a", "now")]),
            Move::HandBack(vec![call("a", "now")]),
            retrieve("payroll", 1),
            retrieve("handbook", 0),
            retrieve("handbook", RETRIEVALS_CAP + 1),
        ] {
            assert!(!allowed(bad.clone()), "{bad:?}");
        }
        let bloated = Decision {
            move_: offer(&[]),
            state: vec![0; STATE_CAP + 1],
        };
        assert!(check(&definition(), &bloated).is_err());
    }
}
