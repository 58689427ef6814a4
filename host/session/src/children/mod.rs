//! An agent that asks another one: in a session of its own, a child, that has at most what the asking one has, and that it waits for.
//!
//! The definition names whom an agent may ask; of each it is offered a tool ([`spec`]). A call starts the child ([`open`]): which session that is
//! stands in the call's intent, so whoever goes on with the parent waits for the same one ([`wait`]). While the child waits for somebody's approval
//! the parent waits too, as rows only ([`CHILD`]), and is woken when it is over ([`family`]). The child answers once and is over. What ends the
//! parent ends it.

mod families;
mod family;
mod handed;
mod open;
mod wait;

pub(crate) use families::Families;
pub(crate) use handed::Handed;
pub(crate) use wait::Below;

use crate::{
    calls::{ToolFailure, unknown},
    chat::Run,
    definition::AgentDefinition,
    tools::Source,
};
use ambit_capabilities::tool::{ToolCall as AgentCall, ToolSpec};
use ambit_types::{AgentName, Error, SessionId};
use serde_json::json;
use std::{sync::atomic::Ordering::Relaxed, time::Instant};

/// The reason of a session that waits for one that it started.
pub(crate) const CHILD: &str = "child";

/// What became of asking an agent.
pub(crate) enum Asking {
    /// Somebody has to approve of something first.
    Waits,
    Over {
        answer: Result<String, ToolFailure>,
        took: Below,
    },
}

/// What the tool is called by which an agent is asked.
pub(crate) fn tool_name(agent: &AgentName) -> String {
    format!("ask_{}", agent.as_str())
}

/// The tool by which an agent is asked.
pub(crate) fn spec(asked: &AgentDefinition) -> ToolSpec {
    let name = &asked.name;
    let what = match asked.description.trim() {
        "" => String::new(),
        description => format!(" {description}"),
    };
    let parameters = json!({
        "type": "object",
        "properties": {
            "input": {
                "type": "string",
                "minLength": 1,
                "description": "The task or question, with everything that has to be known for it: the agent sees nothing of this conversation."
            },
            "budget": {
                "type": "string",
                "description": "The most that may be spent on it, as a decimal number, for example \"0.50\". Without it: what is left here."
            }
        },
        "required": ["input"],
        "additionalProperties": false
    });
    ToolSpec {
        name: tool_name(name),
        description: format!("Asks the agent `{name}` and waits for its answer.{what}"),
        parameters: parameters.to_string(),
        reversible: true,
        idempotent: false,
    }
}

impl Run {
    /// The session that these calls start, or started.
    pub(crate) fn child_of(
        &self,
        calls: &[AgentCall],
        refused: &[Option<ToolFailure>],
    ) -> Option<SessionId> {
        let ([call], [None], None) = (calls, refused, &self.tape) else {
            return None;
        };
        match self.offer.source(&call.name) {
            Some(Source::Agent(_)) => Some(self.progress.child().unwrap_or_else(SessionId::new)),
            _ => None,
        }
    }

    /// Whether nobody waits any more for what the current move started.
    pub(crate) fn is_abandoned(&self) -> bool {
        let current = self.progress.current.as_ref();
        current.is_some_and(|current| current.abandoned)
    }

    /// Whether a call that was begun goes on by itself, in a session that it started.
    pub(crate) fn goes_on(&self, call: &AgentCall) -> bool {
        let asks = matches!(self.offer.source(&call.name), Some(Source::Agent(_)));
        asks && self.progress.child().is_some()
    }

    /// Starts the child unless it is there, and waits for it.
    ///
    /// # Errors
    /// The journal's, and what may be otherwise the next time: then the child can be waited for again.
    pub(crate) async fn ask_agent(
        &self,
        call: &AgentCall,
        child: SessionId,
    ) -> Result<Asking, Error> {
        let store = self.sessions.platform.store.tenant(self.tenant.id);
        loop {
            if store.session(child).await?.is_some() {
                let over = self.wait_for(child).await?;
                // Most of its time was spent waiting: it is woken with a turn's time to make something of the answer. Not where somebody listens,
                // who would have to come back for it.
                let alone = self.recorder.is_durable() && self.events.is_none();
                let rests = alone && self.waited.load(Relaxed) && self.is_late();
                return Ok(if rests { Asking::Waits } else { over });
            }
            if self.sessions.at_work.has(child) {
                // It is just being opened, by a turn that is over.
                self.waited.store(true, Relaxed);
                self.rests(child).await;
                continue;
            }
            let opened = match store.was_removed(child).await? {
                // It was there, and its day was removed after the retention time.
                true => Err(unknown(call)),
                false => self.open_child(call, child).await?,
            };
            if let Err(failure) = opened {
                let (answer, took) = (Err(failure), Below::default());
                return Ok(Asking::Over { answer, took });
            }
        }
    }

    /// Whether more than half of a turn's time is over.
    fn is_late(&self) -> bool {
        let left = self
            .context
            .deadline
            .saturating_duration_since(Instant::now());
        left < self.agent.definition.limits.deadline() / 2
    }

    /// Whether what the current move starts is there, or was.
    pub(crate) async fn was_started(&self) -> Result<bool, Error> {
        let store = self.sessions.platform.store.tenant(self.tenant.id);
        match self.progress.child() {
            Some(child) => {
                let there = store.session(child).await?.is_some();
                Ok(there || self.sessions.at_work.has(child) || store.was_removed(child).await?)
            }
            None => Ok(false),
        }
    }

    /// Whether there is something to wait for: it is not over, or it was not when this turn looked first. What cannot be read is.
    pub(crate) async fn has_to_wait(&self) -> bool {
        let store = self.sessions.platform.store.tenant(self.tenant.id);
        let Some(child) = self.progress.child() else {
            return false;
        };
        if self.waited.load(Relaxed) || self.sessions.at_work.has(child) {
            return true;
        }
        let known = store.session(child).await;
        known.map_or(true, |known| {
            known.is_some_and(|known| !known.state.is_closed())
        })
    }
}
