//! `POST /v1/chat/completions`: the request.
//!
//! [`parse_chat_request`] is the whole way from bytes to a valid request and touches nothing else, so it can be fuzzed as it is. A
//! request to an agent is read field by field: what an agent cannot honour (`n` above 1, images, log probabilities) is refused by
//! name rather than ignored, and what it does not know is ignored, as OpenAI's clients expect. A request to `provider/model` is
//! only checked as far as the gateway itself relies on it and passes on as it came, unknown fields included.

use super::json::{self, Bad};
use ambit_inference::{Role, ToolCall};
use ambit_session::{ChatMessage, ChatTurn, ClientTool};
use ambit_types::{AgentName, Error, ProviderName, ToolName};
use bytes::Bytes;
use serde_json::{Map, Value, value::to_raw_value};

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

#[derive(Debug, Clone)]
pub struct ChatRequest {
    pub stream: bool,
    /// `stream_options.include_usage`: a last chunk with the usage and no choices.
    pub include_usage: bool,
    pub body: ChatBody,
}

#[derive(Debug, Clone)]
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
#[derive(Debug, Clone)]
pub struct AgentRequest {
    pub agent: AgentName,
    /// Has at least one message.
    pub turn: ChatTurn,
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
    let messages = json::required(&mut map, "messages", messages)?;
    if messages.is_empty() {
        return Err(Bad::new("needs at least one message").in_field("messages"));
    }
    let client_tools = json::optional(&mut map, "tools", |value| {
        json::array(value, MAX_TOOLS, tool)
    })?
    .unwrap_or_default();
    for (i, tool) in client_tools.iter().enumerate() {
        if client_tools[..i]
            .iter()
            .any(|earlier| earlier.name == tool.name)
        {
            return Err(Bad::new(format!("`{}` is declared twice", tool.name))
                .at(i)
                .in_field("tools"));
        }
    }
    let options = options(&mut map, &client_tools)?;
    Ok(AgentRequest {
        agent,
        turn: ChatTurn {
            messages,
            client_tools,
            options,
            ..ChatTurn::default()
        },
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

/// A conversation, oldest first.
pub(crate) fn messages(value: Value) -> Result<Vec<ChatMessage>, Bad> {
    json::array(value, MAX_MESSAGES, message)
}

fn message(value: Value) -> Result<ChatMessage, Bad> {
    let mut map = json::map(value)?;
    let role = json::required(&mut map, "role", |role| {
        match json::string(role)?.as_str() {
            "system" => Ok(Role::System),
            "developer" => Ok(Role::Developer),
            "user" => Ok(Role::User),
            "assistant" => Ok(Role::Assistant),
            "tool" => Ok(Role::Tool),
            _ => Err(Bad::new(
                "expected system, developer, user, assistant or tool",
            )),
        }
    })?;
    let mut message = ChatMessage {
        role,
        text: String::new(),
        tool_calls: Vec::new(),
        tool_call_id: None,
    };
    if role == Role::Assistant {
        // An assistant's turn may be calls only, or a refusal in place of an answer.
        let text = json::optional(&mut map, "content", content)?;
        let refusal = json::optional(&mut map, "refusal", json::string)?;
        message.text = text
            .filter(|text| !text.is_empty())
            .or(refusal)
            .unwrap_or_default();
        let calls = json::optional(&mut map, "tool_calls", |value| {
            json::array(value, MAX_TOOLS, tool_call)
        })?;
        message.tool_calls = calls.unwrap_or_default();
    } else {
        message.text = json::required(&mut map, "content", content)?;
    }
    if role == Role::Tool {
        message.tool_call_id = Some(json::required(&mut map, "tool_call_id", identifier)?);
    }
    Ok(message)
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

fn tool_call(value: Value) -> Result<ToolCall, Bad> {
    let mut map = json::map(value)?;
    function_type(&mut map)?;
    let id = json::required(&mut map, "id", identifier)?;
    json::required(&mut map, "function", |function| {
        let mut function = json::map(function)?;
        Ok(ToolCall {
            id,
            name: json::required(&mut function, "name", tool_name)?.to_string(),
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
            name: json::required(&mut function, "name", tool_name)?.to_string(),
            description: json::optional(&mut function, "description", json::string)?
                .unwrap_or_default(),
            parameters: match json::optional(&mut function, "parameters", json::map)? {
                Some(schema) => raw(&schema)?,
                None => raw(&serde_json::json!({"type": "object", "properties": {}}))?,
            },
        })
    })
}

/// The fields that go on to the provider, each checked here so that a mistake has a name. Unknown ones stay behind: an agent's model and
/// its provider are the operator's choice, and a field the caller means for one of them may mean something else to the other.
fn options(map: &mut Map<String, Value>, tools: &[ClientTool]) -> Result<Map<String, Value>, Bad> {
    type Check = fn(&Value) -> Result<(), Bad>;
    let checks: [(&str, Check); 9] = [
        ("temperature", |value| {
            json::number(value, 0.0, 2.0).map(drop)
        }),
        ("top_p", |value| json::number(value, 0.0, 1.0).map(drop)),
        ("max_tokens", |value| {
            json::integer(value, 1, i64::from(u32::MAX)).map(drop)
        }),
        ("max_completion_tokens", |value| {
            json::integer(value, 1, i64::from(u32::MAX)).map(drop)
        }),
        ("seed", |value| {
            json::integer(value, i64::MIN, i64::MAX).map(drop)
        }),
        ("frequency_penalty", |value| {
            json::number(value, -2.0, 2.0).map(drop)
        }),
        ("presence_penalty", |value| {
            json::number(value, -2.0, 2.0).map(drop)
        }),
        ("parallel_tool_calls", |value| {
            json::boolean(value.clone()).map(drop)
        }),
        ("stop", |value| match value {
            Value::String(_) => Ok(()),
            many => json::array(many.clone(), 4, json::string).map(drop),
        }),
    ];
    let mut options = Map::new();
    for (key, check) in checks {
        if let Some(value) = json::take(map, key) {
            check(&value).map_err(|bad| bad.in_field(key))?;
            options.insert(key.to_owned(), value);
        }
    }
    if let Some(choice) = json::take(map, "tool_choice") {
        tool_choice(&choice, tools).map_err(|bad| bad.in_field("tool_choice"))?;
        options.insert("tool_choice".to_owned(), choice);
    }
    // `max_tokens` is the older name of the same wish; where both stand, the newer one counts.
    if options.contains_key("max_completion_tokens") {
        options.remove("max_tokens");
    }
    Ok(options)
}

fn tool_choice(value: &Value, tools: &[ClientTool]) -> Result<(), Bad> {
    match value.as_str() {
        Some("auto" | "none" | "required") => return Ok(()),
        Some(_) => return Err(Bad::new("expected auto, none, required or a function")),
        None => {}
    }
    let mut map = json::map(value.clone())?;
    function_type(&mut map)?;
    let name = json::required(&mut map, "function", |value| {
        json::required(&mut json::map(value)?, "name", tool_name)
    })?;
    if tools.iter().any(|tool| tool.name == *name) {
        Ok(())
    } else {
        Err(Bad::new("names a tool that `tools` does not declare"))
    }
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

fn raw(schema: &impl serde::Serialize) -> Result<Box<serde_json::value::RawValue>, Bad> {
    to_raw_value(schema).map_err(|error| Bad::new(error.to_string()))
}

#[cfg(test)]
#[path = "chat_request_tests.rs"]
mod tests;
