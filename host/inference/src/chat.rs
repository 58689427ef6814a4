//! The typed form of a request and its answer: what the session loop builds and reads.

use futures::{Stream, stream::BoxStream};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, value::RawValue};
use std::{
    pin::Pin,
    task::{Context, Poll},
};

use crate::ProviderError;

/// The author of a message, as in the OpenAI chat format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    System,
    Developer,
    User,
    Assistant,
    Tool,
}

/// One message of a prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    pub role: Role,
    pub text: String,
    /// What an assistant message asked for.
    pub tool_calls: Vec<ToolCall>,
    /// The call a tool message answers.
    pub tool_call_id: Option<String>,
}

impl Message {
    /// A message without tool calls.
    #[must_use]
    pub fn new(role: Role, text: impl Into<String>) -> Self {
        Self {
            role,
            text: text.into(),
            tool_calls: Vec::new(),
            tool_call_id: None,
        }
    }
}

/// One call a model asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolCall {
    pub id: String,
    pub name: String,
    /// A JSON object as the model wrote it, unchecked.
    pub arguments: String,
}

/// A tool offered to the model.
#[derive(Debug, Clone)]
pub struct Tool {
    pub name: String,
    pub description: String,
    /// JSON Schema of the arguments.
    pub parameters: Box<RawValue>,
}

/// A retrieved passage. The prompt's messages already show its text, delimited; here it stands once more in structured form for
/// providers that answer from passages instead of generating text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passage {
    /// The answer cites it as `[number]`.
    pub number: u32,
    pub title: String,
    pub anchor: String,
    /// Markdown or plain text.
    pub text: String,
}

/// A request to continue a conversation.
#[derive(Debug, Clone, Default)]
pub struct ChatRequest {
    /// Oldest first.
    pub messages: Vec<Message>,
    pub passages: Vec<Passage>,
    pub tools: Vec<Tool>,
    /// Fields of the caller's request that go to the provider as they are: `temperature`, `max_tokens`, `tool_choice` and the like.
    /// Those this type has itself (`model`, `messages`, `tools`), `stream`, `stream_options` and `n` are not taken from here.
    pub options: Map<String, Value>,
}

impl ChatRequest {
    /// Bytes of everything in it that a model reads, with room for what stands around each part on the wire.
    #[must_use]
    pub fn bytes(&self) -> usize {
        /// Of the names, braces and quotes of one part.
        const AROUND: usize = 64;
        let messages = self.messages.iter().map(|message| {
            let calls = message.tool_calls.iter();
            let calls =
                calls.map(|call| call.id.len() + call.name.len() + call.arguments.len() + AROUND);
            let id = message.tool_call_id.as_ref().map_or(0, String::len);
            message.text.len() + id + calls.sum::<usize>() + AROUND
        });
        let tools = self.tools.iter().map(|tool| {
            tool.name.len() + tool.description.len() + tool.parameters.get().len() + AROUND
        });
        // A schema of the answer is read too.
        let options = self
            .options
            .iter()
            .map(|(name, value)| name.len() + value.to_string().len() + AROUND);
        messages.chain(tools).chain(options).sum()
    }

    /// Upper bound of the answer's tokens, where the caller gave one.
    #[must_use]
    pub fn max_tokens(&self) -> Option<u64> {
        let names = ["max_completion_tokens", "max_tokens"];
        let given = names
            .iter()
            .filter_map(|name| self.options.get(*name)?.as_u64());
        given.max()
    }
}

/// Why a model stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    Stop,
    Length,
    ToolCalls,
    ContentFilter,
}

impl FinishReason {
    /// As on the wire. A word we do not know means that the model stopped, which is all that can be said.
    #[must_use]
    pub fn from_wire(word: &str) -> Self {
        match word {
            "length" | "max_tokens" => Self::Length,
            "tool_calls" | "function_call" => Self::ToolCalls,
            "content_filter" => Self::ContentFilter,
            _ => Self::Stop,
        }
    }

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::ToolCalls => "tool_calls",
            Self::ContentFilter => "content_filter",
        }
    }
}

/// Tokens a call used, as the provider reported them. Zero where it reported nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    pub input_tokens: u64,
    /// Part of `input_tokens` read from the provider's cache.
    pub cached_tokens: u64,
    pub output_tokens: u64,
    /// Part of `output_tokens` spent on reasoning.
    pub reasoning_tokens: u64,
}

impl Usage {
    /// The most tokens of one kind that a call is believed to have used, whatever its provider reports.
    pub const MOST: u64 = u32::MAX as u64;

    /// Of two calls together.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        Self {
            input_tokens: self.input_tokens.saturating_add(other.input_tokens),
            cached_tokens: self.cached_tokens.saturating_add(other.cached_tokens),
            output_tokens: self.output_tokens.saturating_add(other.output_tokens),
            reasoning_tokens: self.reasoning_tokens.saturating_add(other.reasoning_tokens),
        }
    }
}

/// A piece of a tool call. Pieces of one call share `index`; `id` and `name` come with the first, `arguments` are concatenated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolCallFragment {
    pub index: u32,
    pub id: Option<String>,
    pub name: Option<String>,
    pub arguments: String,
}

/// What a model said since the last delta.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delta {
    Text(String),
    /// Text with which the model declines; in place of an answer.
    Refusal(String),
    ToolCall(ToolCallFragment),
    /// The model is done. Nothing but usage follows.
    Finish(FinishReason),
    Usage(Usage),
}

/// An answer as it is made: deltas, one [`Delta::Finish`], then perhaps one [`Delta::Usage`]. An error is the last item; a stream that
/// ends without one had a finish. Dropping it cancels the call.
pub struct ChatStream(BoxStream<'static, Result<Delta, ProviderError>>);

impl ChatStream {
    /// The stream keeps the order described above.
    pub fn new(deltas: impl Stream<Item = Result<Delta, ProviderError>> + Send + 'static) -> Self {
        Self(Box::pin(deltas))
    }
}

impl Stream for ChatStream {
    type Item = Result<Delta, ProviderError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.as_mut().poll_next(cx)
    }
}

impl std::fmt::Debug for ChatStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ChatStream")
    }
}
