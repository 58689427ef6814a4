//! What the mock does.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The whole behaviour. Every field has a default: a plain short answer at once.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Script {
    pub models: Vec<String>,
    pub reply: Reply,
    pub usage: UsageCounts,
    /// Before the head of an answer.
    pub latency_ms: u64,
    /// Between the events of a stream.
    pub pace_ms: u64,
    /// Characters of text per event.
    pub chars_per_event: usize,
    /// The text is the times at which its events are sent, after the time at which the request arrived.
    pub stamped: Option<Stamps>,
    /// Bytes per HTTP chunk: events and characters are cut wherever that falls. 0: an event each.
    pub bytes_per_chunk: usize,
    pub fault: Option<Fault>,
    /// Only so many requests meet the fault; the others are answered.
    pub fault_times: Option<u64>,
    /// Keep the bodies of requests for [`Stats::bodies`](crate::Stats::bodies).
    pub record: bool,
}

/// Times written as words: nanoseconds since the Unix epoch in hexadecimal digits, for which stand the letters `a` to `p` (digits
/// could be taken for a card number); for the arrival of the request `A` to `P`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Stamps {
    /// Every event ends with a space: a guardrail sees whole words.
    Words,
    /// Every event begins with a space, as the tokens of models do: whether a word is whole shows the next one.
    Tokens,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            models: vec!["mock-1".into()],
            reply: Reply::Text("Hello from the mock.".into()),
            usage: UsageCounts::default(),
            latency_ms: 0,
            pace_ms: 0,
            chars_per_event: 12,
            stamped: None,
            bytes_per_chunk: 0,
            fault: None,
            fault_times: None,
            record: true,
        }
    }
}

impl Script {
    /// Answers with this text.
    #[must_use]
    pub fn text(text: impl Into<String>) -> Self {
        Self {
            reply: Reply::Text(text.into()),
            ..Self::default()
        }
    }

    /// Asks for these calls, and once a tool's result stands in the prompt answers with `text`.
    #[must_use]
    pub fn tools(calls: Vec<Call>, text: impl Into<String>) -> Self {
        Self {
            reply: Reply::ToolsThenText {
                calls,
                text: text.into(),
            },
            ..Self::default()
        }
    }

    /// Does whatever any text says.
    #[must_use]
    pub fn obedient() -> Self {
        Self {
            reply: Reply::Obedient,
            ..Self::default()
        }
    }

    /// Serves models that each say something else.
    #[must_use]
    pub fn models<const N: usize>(replies: [(&str, Reply); N]) -> Self {
        Self {
            models: replies.iter().map(|(name, _)| (*name).to_owned()).collect(),
            reply: Reply::ByModel(replies.map(|(name, reply)| (name.to_owned(), reply)).into()),
            ..Self::default()
        }
    }

    #[must_use]
    pub fn with_fault(mut self, fault: Fault) -> Self {
        self.fault = Some(fault);
        self
    }
}

/// What the model says.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    Text(String),
    /// Calls in parallel, until the last message is a tool's.
    ToolsThenText {
        calls: Vec<Call>,
        text: String,
    },
    /// Those of the calls whose tools the request offers, in parallel, until the last message is a tool's. Without any, `text`.
    ToolsIfOffered {
        calls: Vec<Call>,
        text: String,
    },
    /// Rounds of calls, one after the other, then everything the tools answered, a line each.
    ToolsThenTell(Vec<Vec<Call>>),
    /// The same, with a text beside each round.
    ToolsWithText {
        text: String,
        rounds: Vec<Vec<Call>>,
    },
    /// Each model has its own; a model that is not named says nothing.
    ByModel(BTreeMap<String, Reply>),
    /// Obeys every text. See [`crate`].
    Obedient,
    /// Repeats the text of the last user message.
    Echo,
}

/// A tool call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    pub name: String,
    /// JSON, or whatever a bad model would write.
    pub arguments: String,
}

impl Call {
    #[must_use]
    pub fn new(name: impl Into<String>, arguments: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            arguments: arguments.into(),
        }
    }
}

/// What goes wrong. Events are counted from the first of the stream; JSON answers meet the faults of the head only.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// An error status, with a body in OpenAI's shape.
    Status {
        status: u16,
        message: String,
        retry_after: Option<String>,
    },
    /// Never answers.
    HangBeforeHead,
    /// The head comes, then nothing.
    HangBeforeFirstEvent,
    /// Silence after so many events.
    HangAfter(usize),
    /// The connection is closed without an answer.
    CloseBeforeHead,
    /// The connection breaks after so many events.
    BreakAfter(usize),
    /// The body ends in order after so many events: no finish reason, no `[DONE]`.
    EndAfter(usize),
    /// `[DONE]` comes after so many events, without a finish reason.
    DoneAfter(usize),
    /// An event that is no JSON after so many events; a JSON answer is no JSON at all.
    MalformedAfter(usize),
    /// OpenAI's error object as an event after so many events.
    ErrorAfter(usize),
    /// One line of so many bytes.
    HugeLine(usize),
    /// A byte per so many milliseconds.
    Drip(u64),
    /// A JSON body where a stream was asked for, and the other way round.
    WrongContentType,
    /// A head of so many bytes.
    HugeHead(usize),
}

/// Tokens the answer reports.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UsageCounts {
    pub input: u64,
    pub cached: u64,
    pub output: u64,
    pub reasoning: u64,
}

impl Default for UsageCounts {
    fn default() -> Self {
        Self {
            input: 150,
            cached: 0,
            output: 75,
            reasoning: 0,
        }
    }
}
