//! What a caller sends for one request of an agent, and what comes back.

use crate::bodies::Key;
use ambit_inference::{FinishReason, Message, Role, ToolCall, Usage};
use ambit_ledger::Money;
use ambit_types::{Error, SessionId};
use futures::Stream;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, value::RawValue};
use std::{
    pin::Pin,
    task::{Context, Poll},
};
use tokio::sync::mpsc;

/// One request: the whole conversation so far, as stateless clients send it.
#[derive(Debug, Clone, Default)]
pub struct ChatTurn {
    /// Oldest first.
    pub messages: Vec<ChatMessage>,
    /// Tools the client carries out itself.
    pub client_tools: Vec<ClientTool>,
    /// Fields for the provider as they are: `temperature`, `max_tokens`, `tool_choice` and the like.
    pub options: Map<String, Value>,
    /// The caller's own words about the session.
    pub metadata: Map<String, Value>,
    /// What the caller's idempotency key says of the message.
    pub key: Option<Key>,
    /// The most that may be spent in the session; with its first message.
    pub budget: Option<Money>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ChatMessage {
    pub role: Role,
    pub text: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty", with = "calls")]
    pub tool_calls: Vec<ToolCall>,
    /// Which call a tool message answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_call_id: Option<String>,
}

/// A tool of the client's, as the model sees it.
#[derive(Debug, Clone)]
pub struct ClientTool {
    pub name: String,
    pub description: String,
    /// JSON Schema.
    pub parameters: Box<RawValue>,
}

/// A passage an answer rests on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Citation {
    pub number: u32,
    pub collection: String,
    /// The document's id or URI.
    pub document: String,
    pub title: String,
    pub anchor: String,
}

/// What happens in a session, for its caller. The last one is `Finished` or `Failed`.
#[derive(Debug, Clone)]
pub enum SessionEvent {
    /// Judged by the output guardrail; may be sent.
    Text(String),
    /// Calls of the client's own tools.
    ToolCalls(Vec<ToolCall>),
    Citations(Vec<Citation>),
    /// The outcome is durable.
    Finished {
        reason: FinishReason,
        usage: Usage,
    },
    Failed(Error),
}

impl From<ChatMessage> for Message {
    fn from(message: ChatMessage) -> Self {
        Self {
            role: message.role,
            text: message.text,
            tool_calls: message.tool_calls,
            tool_call_id: message.tool_call_id,
        }
    }
}

/// A running request. Dropping it cancels the request and whatever it waits for.
#[derive(Debug)]
pub struct ChatEvents {
    pub(crate) session: SessionId,
    pub(crate) events: mpsc::Receiver<SessionEvent>,
}

impl ChatEvents {
    #[must_use]
    pub fn session(&self) -> SessionId {
        self.session
    }
}

impl Stream for ChatEvents {
    type Item = SessionEvent;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<SessionEvent>> {
        self.events.poll_recv(cx)
    }
}

/// Calls of tools as the journal has them.
pub(crate) mod calls {
    use ambit_inference::ToolCall;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    pub(crate) struct Call<T> {
        pub(crate) id: T,
        pub(crate) name: T,
        pub(crate) arguments: T,
    }

    pub(crate) fn serialize<S: Serializer>(
        calls: &[ToolCall],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(calls.iter().map(|call| Call {
            id: &call.id,
            name: &call.name,
            arguments: &call.arguments,
        }))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<ToolCall>, D::Error> {
        let calls = Vec::<Call<String>>::deserialize(deserializer)?;
        let call = |call: Call<String>| ToolCall {
            id: call.id,
            name: call.name,
            arguments: call.arguments,
        };
        Ok(calls.into_iter().map(call).collect())
    }
}
