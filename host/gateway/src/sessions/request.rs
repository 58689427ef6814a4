//! Requests about sessions: JSON that nobody vouches for.

use crate::openai::{
    chat_request,
    json::{self, Bad},
};
use ambit_ledger::Money;
use ambit_session::ChatMessage;
use ambit_types::{AgentName, Error};
use http::HeaderMap;
use serde_json::{Map, Value, json};

/// As OpenAI bounds metadata: entries, bytes of a name, bytes of a value.
const METADATA: (usize, usize, usize) = (16, 64, 512);

/// What a session is opened with.
pub(super) struct Asked {
    pub(super) agent: AgentName,
    pub(super) messages: Vec<ChatMessage>,
    pub(super) metadata: Map<String, Value>,
    pub(super) budget: Option<Money>,
    pub(super) key: Option<String>,
}

pub(super) fn asked(body: &[u8]) -> Result<Asked, Bad> {
    let mut map = json::object(body)?;
    let agent = json::required(&mut map, "agent", |value| {
        json::string(value)?
            .parse()
            .map_err(|_| Bad::new("expected an agent's name"))
    })?;
    let messages = messages(&mut map)?;
    let metadata = json::optional(&mut map, "metadata", metadata)?.unwrap_or_default();
    let budget = json::optional(&mut map, "budget", |value| {
        let text = json::string(value)?;
        let amount = text.parse::<Money>();
        amount.map_err(|error| Bad::new(error.to_string()))
    })?;
    let key = json::optional(&mut map, "idempotency_key", json::string)?;
    nothing_else(&map)?;
    Ok(Asked {
        agent,
        messages,
        metadata,
        budget,
        key,
    })
}

/// `input`: a text, or messages as in a chat completion.
pub(super) fn messages(map: &mut Map<String, Value>) -> Result<Vec<ChatMessage>, Bad> {
    json::required(map, "input", |input| {
        let input = match input {
            Value::String(text) => json!([{"role": "user", "content": text}]),
            input => input,
        };
        let messages = chat_request::messages(input)?;
        match messages.is_empty() {
            true => Err(Bad::new("needs at least one message")),
            false => Ok(messages),
        }
    })
}

fn metadata(value: Value) -> Result<Map<String, Value>, Bad> {
    let (entries, name, text) = METADATA;
    let map = json::map(value)?;
    let fits = map.len() <= entries
        && map.iter().all(|(key, value)| {
            key.len() <= name && value.as_str().is_some_and(|value| value.len() <= text)
        });
    match fits {
        true => Ok(map),
        false => Err(Bad::new(format!(
            "expected at most {entries} texts of {text} bytes, under names of {name}"
        ))),
    }
}

/// What is not known would be lost without a word.
pub(super) fn nothing_else(map: &Map<String, Value>) -> Result<(), Bad> {
    // What was read is null by now.
    match map.iter().find(|(_, value)| !value.is_null()) {
        Some((name, _)) => Err(Bad::new("there is no such field here").in_field(name)),
        None => Ok(()),
    }
}

/// The idempotency key, of the header or the body.
pub(crate) fn key(headers: &HeaderMap, of_body: Option<String>) -> Result<Option<String>, Error> {
    let of_header = headers.get("idempotency-key").map(|value| value.to_str());
    let of_header = of_header.transpose().map_err(|_| no_key())?;
    let key = match (of_header, of_body) {
        (Some(header), Some(body)) if header != body => return Err(no_key()),
        (header, body) => body.or(header.map(str::to_owned)),
    };
    match key {
        Some(key) if key.is_empty() || key.len() > 255 || key.chars().any(char::is_control) => {
            Err(no_key())
        }
        key => Ok(key),
    }
}

fn no_key() -> Error {
    Error::invalid(
        "idempotency-key",
        "expected one of 1 to 255 bytes without control characters, once",
    )
}
