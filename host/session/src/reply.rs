//! The effect that is being carried out, and what is known of it however it ends.
//!
//! A request can end in the middle of an effect: its caller goes away, its deadline comes, the provider fails or the guardrail breaks it
//! off. What was released and what was spent by then is journalled and counted all the same.

use crate::{
    ahead::{Ahead, Weight},
    chat::{Run, say},
    definition::ModelName,
    event::SessionEvent,
    guard::OutputGuard,
    observer::ModelCall,
    record::header,
    spending::{Over, spent},
};
use ambit_capabilities::guardrail::Room;
use ambit_inference::{ChatStream, Delta, FinishReason, ToolCall, ToolCallFragment, Usage};
use ambit_types::{Error, ErrorKind};
use serde_json::{Value, json};
use tokio::sync::mpsc;

/// Tool calls one reply may hold, whatever the model says.
pub(crate) const CALLS_AT_MOST: usize = 128;

/// What they may say together, in bytes: as much as an agent's move holds that passes them on.
const CALLED_AT_MOST: usize = 1 << 20;

/// An effect that was begun and has no outcome yet.
pub(crate) enum Underway {
    Model(Box<Reply>),
    /// What they came to is known once all are back.
    Tools,
}

/// A model's reply while it is read.
pub(crate) struct Reply {
    pub(crate) model: ModelName,
    /// Released by the guardrail.
    pub(crate) text: String,
    pub(crate) calls: Vec<ToolCall>,
    /// The provider's numbers of the calls.
    places: Vec<u32>,
    pub(crate) finish: FinishReason,
    pub(crate) usage: Usage,
    /// Bytes that the provider said.
    heard: usize,
    /// Those of them that are calls.
    called: usize,
    /// What it is over as, should it be over now.
    pub(crate) over: Over,
    pub(crate) output: OutputGuard,
    room: Room,
}

impl Weight for Delta {
    fn bytes(&self) -> usize {
        match self {
            Self::Text(text) | Self::Refusal(text) => text.len(),
            Self::ToolCall(call) => {
                let names = [&call.id, &call.name].into_iter().flatten();
                call.arguments.len() + names.map(String::len).sum::<usize>()
            }
            Self::Finish(_) | Self::Usage(_) => 0,
        }
    }
}

impl Run {
    /// Notes what is known of an effect that ends before its outcome. The effect of which nobody knows what it came to.
    pub(crate) fn settle(&mut self, code: &'static str) -> Option<&'static str> {
        match self.underway.take()? {
            Underway::Tools => Some("tools"),
            Underway::Model(reply) => {
                // A verdict that cannot be written as JSON says nothing anyway.
                let _ = reply.output.note(&mut self.recorder);
                let body = json!({ "text": reply.text }).to_string();
                self.note_reply(&reply, ("code", json!(code)), Some(code), body.into_bytes());
                None
            }
        }
    }

    /// Notes and counts the outcome of a model call, with what it cost.
    pub(crate) fn note_reply(
        &mut self,
        reply: &Reply,
        how: (&str, Value),
        code: Option<&'static str>,
        body: Vec<u8>,
    ) {
        let facts = [
            ("effect", json!("model")),
            ("model", json!(reply.model)),
            how,
        ];
        let spent = spent(&reply.usage, reply.heard, reply.over);
        let settled = self.recorder.outcome(header(&facts), spent, body);
        self.progress.spend(settled.map(|settled| settled.cost));
        let call = ModelCall {
            provider: &reply.model.provider,
            usage: &reply.usage,
            cost: settled.map(|settled| settled.cost),
            error: code,
        };
        let (tenant, agent) = (&self.context.tenant_slug, &self.agent.definition.name);
        self.sessions.observer.model_call(tenant, agent, call);
    }
}

impl Reply {
    pub(crate) fn new(model: ModelName, output: OutputGuard) -> Self {
        Self {
            model,
            text: String::new(),
            calls: Vec::new(),
            places: Vec::new(),
            finish: FinishReason::Stop,
            usage: Usage::default(),
            heard: 0,
            called: 0,
            over: Over::Unheard,
            output,
            room: Room::default(),
        }
    }

    /// Reads it to its end; its text goes to the caller, where there is one to hear it, as it is released.
    pub(crate) async fn read(
        &mut self,
        stream: ChatStream,
        caller: Option<&mpsc::Sender<SessionEvent>>,
    ) -> Result<(), Error> {
        self.over = Over::Broken;
        let mut deltas = Ahead::new(stream);
        loop {
            let taken = deltas.take(|_| false).await?;
            if taken.is_empty() {
                break;
            }
            let mut said = String::new();
            for delta in taken {
                self.heard += delta.bytes();
                match delta {
                    Delta::Text(text) | Delta::Refusal(text) => said.push_str(&text),
                    Delta::ToolCall(fragment) => self.add(fragment)?,
                    Delta::Finish(reason) => self.finish = reason,
                    Delta::Usage(usage) => self.usage = usage,
                }
            }
            if !said.is_empty() {
                let released = deltas
                    .during(self.output.push(said, &mut self.room))
                    .await?;
                self.release(released, caller).await;
            }
        }
        self.over = Over::Ended;
        let released = self.output.finish(&mut self.room).await?;
        self.release(released, caller).await;
        self.complete()
    }

    async fn release(&mut self, text: String, caller: Option<&mpsc::Sender<SessionEvent>>) {
        self.text.push_str(&text);
        if let Some(caller) = caller {
            say(caller, SessionEvent::Text(text)).await;
        }
    }

    fn add(&mut self, fragment: ToolCallFragment) -> Result<(), Error> {
        let place = match self
            .places
            .iter()
            .position(|index| *index == fragment.index)
        {
            Some(place) => place,
            None if self.places.len() >= CALLS_AT_MOST => {
                return Err(Error::new(
                    ErrorKind::ProviderFailed {
                        code: "invalid_response",
                    },
                    "the model asked for too many tools at once",
                ));
            }
            None => {
                self.places.push(fragment.index);
                self.calls.push(ToolCall {
                    id: String::new(),
                    name: String::new(),
                    arguments: String::new(),
                });
                self.places.len() - 1
            }
        };
        let name = fragment.name.as_deref().unwrap_or_default();
        let id = fragment.id.as_deref().unwrap_or_default();
        self.called += id.len() + name.len() + fragment.arguments.len();
        if self.called > CALLED_AT_MOST {
            return Err(Error::new(
                ErrorKind::ProviderFailed {
                    code: "invalid_response",
                },
                "the model asked for tools with more than 1 MiB of arguments",
            ));
        }
        let call = &mut self.calls[place];
        call.id.push_str(id);
        call.name.push_str(name);
        call.arguments.push_str(&fragment.arguments);
        Ok(())
    }

    /// Gives calls without an id one: some servers leave it out, and results need something to refer to.
    fn complete(&mut self) -> Result<(), Error> {
        for (place, call) in self.calls.iter_mut().enumerate() {
            if call.name.is_empty() {
                return Err(Error::new(
                    ErrorKind::ProviderFailed {
                        code: "invalid_response",
                    },
                    "the model asked for a tool without naming it",
                ));
            }
            if call.id.is_empty() {
                call.id = format!("call_{place}");
            }
            if call.arguments.trim().is_empty() {
                call.arguments = "{}".into();
            }
        }
        Ok(())
    }
}
