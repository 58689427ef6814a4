//! A typed request as the body of `POST /chat/completions`.

use bytes::Bytes;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::{ChatRequest, Message, Role, Tool, ToolCall};

/// Fields of [`ChatRequest::options`] that are ours.
const OWN: [&str; 6] = [
    "model",
    "messages",
    "tools",
    "stream",
    "stream_options",
    "n",
];

#[derive(Serialize)]
struct Body<'a> {
    model: &'a str,
    messages: Vec<WireMessage<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<WireTool<'a>>,
    stream: bool,
    stream_options: StreamOptions,
    #[serde(flatten)]
    options: serde_json::Map<String, serde_json::Value>,
}

#[derive(Serialize)]
struct StreamOptions {
    include_usage: bool,
}

#[derive(Serialize)]
struct WireMessage<'a> {
    role: Role,
    /// Null where an assistant only called tools: an empty text is refused by some servers.
    content: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<WireCall<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_call_id: Option<&'a str>,
}

#[derive(Serialize)]
struct WireCall<'a> {
    id: &'a str,
    r#type: &'static str,
    function: WireFunction<'a>,
}

#[derive(Serialize)]
struct WireFunction<'a> {
    name: &'a str,
    arguments: &'a str,
}

#[derive(Serialize)]
struct WireTool<'a> {
    r#type: &'static str,
    function: WireSpec<'a>,
}

#[derive(Serialize)]
struct WireSpec<'a> {
    name: &'a str,
    description: &'a str,
    parameters: &'a RawValue,
}

/// The body. Passages are not in it: the messages show them already.
pub(super) fn encode(model: &str, request: &ChatRequest) -> Bytes {
    let options = request
        .options
        .iter()
        .filter(|(key, _)| !OWN.contains(&key.as_str()))
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect();
    let body = Body {
        model,
        messages: request.messages.iter().map(message).collect(),
        tools: request.tools.iter().map(tool).collect(),
        stream: true,
        stream_options: StreamOptions {
            include_usage: true,
        },
        options,
    };
    // Serialising texts, numbers and checked JSON to memory cannot fail; an empty body would be refused by any server.
    serde_json::to_vec(&body).unwrap_or_default().into()
}

fn message(message: &Message) -> WireMessage<'_> {
    WireMessage {
        role: message.role,
        content: if message.text.is_empty() && !message.tool_calls.is_empty() {
            None
        } else {
            Some(&message.text)
        },
        tool_calls: message.tool_calls.iter().map(call).collect(),
        tool_call_id: message.tool_call_id.as_deref(),
    }
}

fn call(call: &ToolCall) -> WireCall<'_> {
    WireCall {
        id: &call.id,
        r#type: "function",
        function: WireFunction {
            name: &call.name,
            arguments: &call.arguments,
        },
    }
}

fn tool(tool: &Tool) -> WireTool<'_> {
    WireTool {
        r#type: "function",
        function: WireSpec {
            name: &tool.name,
            description: &tool.description,
            parameters: &tool.parameters,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn writes_what_the_protocol_says_and_keeps_its_own_fields() {
        let request = ChatRequest {
            messages: vec![
                Message::new(Role::System, "be \"kind\""),
                Message {
                    tool_calls: vec![ToolCall {
                        id: "c1".into(),
                        name: "f".into(),
                        arguments: "{\"a\":1}".into(),
                    }],
                    ..Message::new(Role::Assistant, "")
                },
                Message {
                    tool_call_id: Some("c1".into()),
                    ..Message::new(Role::Tool, "42")
                },
            ],
            tools: vec![Tool {
                name: "f".into(),
                description: "d".into(),
                parameters: RawValue::from_string("{\"type\": \"object\"}".into()).unwrap(),
            }],
            options: json!({"temperature": 0.5, "model": "evil", "n": 4, "stream": false})
                .as_object()
                .unwrap()
                .clone(),
            passages: Vec::new(),
        };
        let body: serde_json::Value = serde_json::from_slice(&encode("m", &request)).unwrap();
        assert_eq!(
            body,
            json!({
                "model": "m",
                "messages": [
                    {"role": "system", "content": "be \"kind\""},
                    {"role": "assistant", "content": null,
                     "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{\"a\":1}"}}]},
                    {"role": "tool", "content": "42", "tool_call_id": "c1"},
                ],
                "tools": [{"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}}}],
                "stream": true,
                "stream_options": {"include_usage": true},
                "temperature": 0.5,
            })
        );
    }
}
