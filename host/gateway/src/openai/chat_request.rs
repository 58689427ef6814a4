//! `POST /v1/chat/completions`: the request.
//!
//! [`parse_chat_request`] is the whole way from bytes to a valid request and touches nothing else, so it can be fuzzed as it is. A
//! request to an agent is read field by field: what an agent cannot honour (`n` above 1, images, log probabilities) is refused by
//! name rather than ignored, and what it does not know is ignored, as OpenAI's clients expect. A request to `provider/model` is
//! only checked as far as the gateway itself relies on it and passes on as it came, unknown fields included.

use super::json::{self, Bad};
use ambit_types::{AgentName, Error, ProviderName, ToolName};
use bytes::Bytes;
use serde_json::{Map, Value};

const MAX_MESSAGES: usize = 4096;
const MAX_PARTS: usize = 1024;
/// OpenAI's own limit.
const MAX_TOOLS: usize = 128;

/// What `model` names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    Agent(AgentName),
    /// `provider/model`; the model's own name may hold further slashes.
    Model {
        provider: ProviderName,
        model: String,
    },
}

#[derive(Debug, Clone, PartialEq)]
pub struct ChatRequest {
    pub stream: bool,
    /// `stream_options.include_usage`: a last chunk with the usage and no choices.
    pub include_usage: bool,
    pub body: ChatBody,
}

#[derive(Debug, Clone, PartialEq)]
pub enum ChatBody {
    Agent(Box<AgentRequest>),
    /// The bytes as they came: strictly valid JSON with no name twice, so that every reader sees the same request.
    PassThrough {
        provider: ProviderName,
        model: String,
        body: Bytes,
    },
}

/// A conversation with an agent.
#[derive(Debug, Clone, PartialEq)]
pub struct AgentRequest {
    pub agent: AgentName,
    /// Never empty.
    pub messages: Vec<ChatMessage>,
    /// Tools the caller runs itself.
    pub tools: Vec<ClientTool>,
    pub tool_choice: ToolChoice,
    pub sampling: Sampling,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChatMessage {
    System(String),
    Developer(String),
    User(String),
    Assistant {
        text: String,
        tool_calls: Vec<ClientToolCall>,
    },
    Tool {
        call: String,
        text: String,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientToolCall {
    pub id: String,
    pub name: String,
    /// As the model wrote it; not necessarily JSON.
    pub arguments: String,
}

#[derive(Debug, Clone, PartialEq)]
pub struct ClientTool {
    pub name: ToolName,
    pub description: String,
    /// JSON Schema of the arguments; an object.
    pub parameters: Map<String, Value>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum ToolChoice {
    #[default]
    Auto,
    None,
    Required,
    Named(ToolName),
}

/// Wishes about the model's sampling, within OpenAI's ranges.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Sampling {
    pub temperature: Option<f64>,
    pub top_p: Option<f64>,
    pub max_output_tokens: Option<u32>,
    pub stop: Vec<String>,
    pub seed: Option<i64>,
    pub frequency_penalty: Option<f64>,
    pub presence_penalty: Option<f64>,
    pub parallel_tool_calls: Option<bool>,
}

/// Reads a request body.
///
/// # Errors
/// 400 with `param` where a field is missing, of the wrong type, out of range or not supported by agents.
pub fn parse_chat_request(body: &Bytes) -> Result<ChatRequest, Error> {
    Ok(read(body)?)
}

fn read(body: &Bytes) -> Result<ChatRequest, Bad> {
    let mut map = json::object(body)?;
    let target = json::required(&mut map, "model", |value| target(&json::string(value)?))?;
    let stream = json::optional(&mut map, "stream", json::boolean)?.unwrap_or(false);
    let include_usage = json::optional(&mut map, "stream_options", |value| {
        json::optional(&mut json::map(value)?, "include_usage", json::boolean)
    })?
    .flatten()
    .unwrap_or(false);
    let body = match target {
        Target::Agent(agent) => ChatBody::Agent(Box::new(agent_request(agent, map)?)),
        Target::Model { provider, model } => {
            json::required(&mut map, "messages", |value| {
                json::array(value, MAX_MESSAGES, json::map)
            })?;
            ChatBody::PassThrough {
                provider,
                model,
                body: body.clone(),
            }
        }
    };
    Ok(ChatRequest {
        stream,
        include_usage,
        body,
    })
}

/// What a `model` field or path segment names.
pub(crate) fn target(model: &str) -> Result<Target, Bad> {
    match model.split_once('/') {
        None => model.parse().map(Target::Agent).map_err(|_| {
            Bad::new("expected an agent (1 to 64 lower-case letters, digits and inner hyphens) or `provider/model`")
        }),
        Some((provider, model)) => {
            let provider = provider.parse().map_err(|_| Bad::new("the provider before `/` is not a provider name"))?;
            let fits = !model.is_empty() && model.len() <= 200 && model.bytes().all(|b| b.is_ascii_graphic());
            if !fits {
                return Err(Bad::new("the model after `/` has to be 1 to 200 printable characters without spaces"));
            }
            Ok(Target::Model { provider, model: model.to_owned() })
        }
    }
}

fn agent_request(agent: AgentName, mut map: Map<String, Value>) -> Result<AgentRequest, Bad> {
    refuse_unsupported(&mut map)?;
    let messages = json::required(&mut map, "messages", |value| {
        json::array(value, MAX_MESSAGES, message)
    })?;
    if messages.is_empty() {
        return Err(Bad::new("needs at least one message").in_field("messages"));
    }
    let tools = json::optional(&mut map, "tools", |value| {
        json::array(value, MAX_TOOLS, tool)
    })?
    .unwrap_or_default();
    for (i, tool) in tools.iter().enumerate() {
        if tools[..i].iter().any(|earlier| earlier.name == tool.name) {
            return Err(Bad::new(format!("`{}` is declared twice", tool.name))
                .at(i)
                .in_field("tools"));
        }
    }
    let tool_choice = json::optional(&mut map, "tool_choice", tool_choice)?.unwrap_or_default();
    if let ToolChoice::Named(name) = &tool_choice
        && !tools.iter().any(|tool| tool.name == *name)
    {
        return Err(Bad::new("names a tool that `tools` does not declare").in_field("tool_choice"));
    }
    Ok(AgentRequest {
        agent,
        messages,
        tools,
        tool_choice,
        sampling: sampling(&mut map)?,
    })
}

/// Fields whose meaning an agent could only betray.
fn refuse_unsupported(map: &mut Map<String, Value>) -> Result<(), Bad> {
    let unless = |map: &mut Map<String, Value>, key: &str, fine: fn(&Value) -> bool, why: &str| {
        match json::take(map, key) {
            Some(value) if !fine(&value) => Err(Bad::new(why).in_field(key)),
            _ => Ok(()),
        }
    };
    unless(
        map,
        "n",
        |n| n.as_u64() == Some(1),
        "an agent gives one answer: only 1 is supported",
    )?;
    unless(
        map,
        "logprobs",
        |b| *b == Value::Bool(false),
        "agents give no log probabilities",
    )?;
    unless(
        map,
        "top_logprobs",
        |n| n.as_u64() == Some(0),
        "agents give no log probabilities",
    )?;
    unless(map, "audio", |_| false, "agents answer in text only")?;
    unless(
        map,
        "modalities",
        |m| m.as_array().is_some_and(|m| m.iter().all(|m| m == "text")),
        "agents answer in text only",
    )?;
    unless(map, "functions", |_| false, "use `tools`")?;
    unless(map, "function_call", |_| false, "use `tool_choice`")?;
    unless(
        map,
        "response_format",
        |format| format.get("type").is_some_and(|kind| kind == "text"),
        "agents answer in plain text: only {\"type\":\"text\"} is supported",
    )
}

fn message(value: Value) -> Result<ChatMessage, Bad> {
    let mut map = json::map(value)?;
    let role = json::required(&mut map, "role", json::string)?;
    let mut text = |needed: bool| {
        let text = json::optional(&mut map, "content", content)?;
        if needed && text.is_none() {
            Err(Bad::new("is missing").in_field("content"))
        } else {
            Ok(text.unwrap_or_default())
        }
    };
    match role.as_str() {
        "system" => Ok(ChatMessage::System(text(true)?)),
        "developer" => Ok(ChatMessage::Developer(text(true)?)),
        "user" => Ok(ChatMessage::User(text(true)?)),
        "assistant" => {
            let text = text(false)?;
            let refusal = json::optional(&mut map, "refusal", json::string)?;
            let tool_calls = json::optional(&mut map, "tool_calls", |value| {
                json::array(value, MAX_TOOLS, tool_call)
            })?
            .unwrap_or_default();
            Ok(ChatMessage::Assistant {
                text: if text.is_empty() {
                    refusal.unwrap_or_default()
                } else {
                    text
                },
                tool_calls,
            })
        }
        "tool" => {
            let text = text(true)?;
            Ok(ChatMessage::Tool {
                call: json::required(&mut map, "tool_call_id", identifier)?,
                text,
            })
        }
        _ => Err(Bad::new("expected system, developer, user, assistant or tool").in_field("role")),
    }
}

/// A text, or an array of text parts, which mean the same as their texts in a row.
fn content(value: Value) -> Result<String, Bad> {
    match value {
        Value::String(text) => Ok(text),
        Value::Array(_) => json::array(value, MAX_PARTS, |part| {
            let mut part = json::map(part)?;
            let kind = json::required(&mut part, "type", json::string)?;
            match kind.as_str() {
                "text" => json::required(&mut part, "text", json::string),
                "refusal" => json::required(&mut part, "refusal", json::string),
                _ => Err(Bad::new("agents read text parts only").in_field("type")),
            }
        })
        .map(|parts| parts.concat()),
        other => Err(json::wrong(&other, "a string or an array of parts")),
    }
}

fn tool_call(value: Value) -> Result<ClientToolCall, Bad> {
    let mut map = json::map(value)?;
    function_type(&mut map)?;
    let id = json::required(&mut map, "id", identifier)?;
    json::required(&mut map, "function", |function| {
        let mut function = json::map(function)?;
        Ok(ClientToolCall {
            id,
            name: json::required(&mut function, "name", json::string)?,
            arguments: json::required(&mut function, "arguments", json::string)?,
        })
    })
}

fn tool(value: Value) -> Result<ClientTool, Bad> {
    let mut map = json::map(value)?;
    function_type(&mut map)?;
    json::required(&mut map, "function", |function| {
        let mut function = json::map(function)?;
        Ok(ClientTool {
            name: json::required(&mut function, "name", tool_name)?,
            description: json::optional(&mut function, "description", json::string)?
                .unwrap_or_default(),
            parameters: json::optional(&mut function, "parameters", json::map)?
                .unwrap_or_else(no_parameters),
        })
    })
}

fn tool_choice(value: Value) -> Result<ToolChoice, Bad> {
    match value.as_str() {
        Some("auto") => return Ok(ToolChoice::Auto),
        Some("none") => return Ok(ToolChoice::None),
        Some("required") => return Ok(ToolChoice::Required),
        Some(_) => return Err(Bad::new("expected auto, none, required or a function")),
        None => {}
    }
    let mut map = json::map(value)?;
    function_type(&mut map)?;
    json::required(&mut map, "function", |value| {
        json::required(&mut json::map(value)?, "name", tool_name)
    })
    .map(ToolChoice::Named)
}

fn sampling(map: &mut Map<String, Value>) -> Result<Sampling, Bad> {
    let mut tokens = |key| {
        json::optional(map, key, |value| {
            json::integer(&value, 1, i64::from(u32::MAX))
        })
    };
    // `max_tokens` is the older name; where both stand, the newer one counts.
    let (older, newer) = (tokens("max_tokens")?, tokens("max_completion_tokens")?);
    Ok(Sampling {
        temperature: json::optional(map, "temperature", |value| json::number(&value, 0.0, 2.0))?,
        top_p: json::optional(map, "top_p", |value| json::number(&value, 0.0, 1.0))?,
        max_output_tokens: newer.or(older).and_then(|n| u32::try_from(n).ok()),
        stop: json::optional(map, "stop", |value| match value {
            Value::String(one) => Ok(vec![one]),
            many => json::array(many, 4, json::string),
        })?
        .unwrap_or_default(),
        seed: json::optional(map, "seed", |value| {
            json::integer(&value, i64::MIN, i64::MAX)
        })?,
        frequency_penalty: json::optional(map, "frequency_penalty", |value| {
            json::number(&value, -2.0, 2.0)
        })?,
        presence_penalty: json::optional(map, "presence_penalty", |value| {
            json::number(&value, -2.0, 2.0)
        })?,
        parallel_tool_calls: json::optional(map, "parallel_tool_calls", json::boolean)?,
    })
}

/// `type` of a tool, call or choice: `function`, which is also what leaving it out means.
fn function_type(map: &mut Map<String, Value>) -> Result<(), Bad> {
    match json::optional(map, "type", json::string)?.as_deref() {
        None | Some("function") => Ok(()),
        Some(_) => Err(Bad::new("only `function` is supported").in_field("type")),
    }
}

fn tool_name(value: Value) -> Result<ToolName, Bad> {
    json::string(value)?
        .parse()
        .map_err(|_| Bad::new("expected 1 to 64 letters, digits, `_` and `-`"))
}

fn identifier(value: Value) -> Result<String, Bad> {
    json::string(value).and_then(|id| match id.len() {
        1..=256 => Ok(id),
        _ => Err(Bad::new("expected 1 to 256 bytes")),
    })
}

fn no_parameters() -> Map<String, Value> {
    Map::from_iter([
        ("type".to_owned(), "object".into()),
        ("properties".to_owned(), Map::new().into()),
    ])
}

#[cfg(test)]
#[path = "chat_request_tests.rs"]
mod tests;
