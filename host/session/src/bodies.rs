//! The bodies of events, as they are written and read again.

use crate::{
    caller::Caller,
    conversation::Found,
    event::{ChatMessage, Citation, calls},
    untrusted::Delimiter,
};
use ambit_capabilities::agent::{Definition, Move, Usage as AgentUsage};
use ambit_inference::ToolCall;
use ambit_types::ComponentName;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

/// Of `request`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Request {
    /// As they passed the guardrail.
    pub(crate) messages: Vec<ChatMessage>,
    /// For the provider as they are.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub(crate) options: Map<String, Value>,
    /// What each step of the turn is told of the agent.
    pub(crate) definition: Definition,
    /// Of the session's untrusted text.
    pub(crate) delimiter: Delimiter,
    /// Whom the turn acts for; of durable sessions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) caller: Option<Caller>,
    /// The most that may be spent in the session, in nano-units; with its first message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) budget_nanos: Option<i64>,
    /// What the session has that another one started; with its first message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) handed: Option<HandedOn>,
    /// The caller's own words about the session.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub(crate) metadata: Map<String, Value>,
}

/// Of `request`, where another session started this one.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct HandedOn {
    /// The tool components that it may use.
    pub(crate) tools: Vec<ComponentName>,
    /// Tokens that models may read and write in it. None: as its own agent's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) tokens: Option<u64>,
}

/// Of `resume`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Resume {
    /// What each step is told of the agent from here on.
    pub(crate) definition: Definition,
    /// Whom the turn acts for from here on, where that is another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) caller: Option<Caller>,
}

/// Of `approval`, where one is asked for.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Asked {
    /// The call's id.
    pub(crate) call: String,
    /// In canonical form (RFC 8785).
    pub(crate) arguments: String,
    /// Whom the session acts for, where no event before says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) caller: Option<Caller>,
}

/// Of `approval`, where one is decided.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Decided {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
}

/// Of a message: the digests of its idempotency key and of its request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    pub key: String,
    pub request: String,
}

/// Of `checkpoint`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Checkpoint {
    #[serde(rename = "move")]
    pub(crate) move_: Move,
    /// The agent's, in base64.
    #[serde(serialize_with = "base64", deserialize_with = "unbase64")]
    pub(crate) state: Vec<u8>,
}

/// Of `outcome` of a model.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Reply {
    pub(crate) text: String,
    #[serde(default, with = "calls")]
    pub(crate) tool_calls: Vec<ToolCall>,
    /// As the provider counted.
    #[serde(default = "none")]
    pub(crate) usage: AgentUsage,
}

/// Of `outcome` of tools, one for each call in their order.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Returned {
    pub(crate) id: String,
    /// `ok`, or why there is no result.
    pub(crate) code: String,
    pub(crate) ok: bool,
    /// What the model reads.
    pub(crate) content: String,
}

/// Of `outcome` of a retrieval that found.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Passage {
    pub(crate) citation: Citation,
    pub(crate) text: String,
    pub(crate) score: f32,
}

/// Of `outcome` of one that failed.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct NotFound {
    pub(crate) collection: String,
    pub(crate) message: String,
}

/// Of `answer`, which ends a turn.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Answered {
    pub(crate) text: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) citations: Vec<Citation>,
}

impl From<&Found> for Passage {
    fn from(found: &Found) -> Self {
        Self {
            citation: found.citation.clone(),
            text: found.text.clone(),
            score: found.score,
        }
    }
}

impl From<Passage> for Found {
    fn from(passage: Passage) -> Self {
        Self {
            citation: passage.citation,
            text: passage.text,
            score: passage.score,
        }
    }
}

fn none() -> AgentUsage {
    AgentUsage {
        input_tokens: 0,
        cached_tokens: 0,
        output_tokens: 0,
        reasoning_tokens: 0,
    }
}

fn base64<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&STANDARD.encode(bytes))
}

fn unbase64<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    let text = String::deserialize(deserializer)?;
    STANDARD.decode(text).map_err(serde::de::Error::custom)
}
