//! Request bodies: no two readers see two requests in one body.

use ambit_gateway::{ChatBody, parse_chat_request};
use bytes::Bytes;
use serde_json::Value;

/// An accepted body is JSON to any reader, and names the agent or model that was read from it; what is passed on is what came.
pub fn chat_request(data: &[u8]) {
    let body = Bytes::copy_from_slice(data);
    let Ok(request) = parse_chat_request(&body) else {
        return;
    };
    let value: Value = serde_json::from_slice(data).expect("an accepted body is JSON");
    let stream = value["stream"].as_bool().unwrap_or(false);
    assert_eq!(request.stream, stream);
    let messages = value["messages"].as_array().map_or(0, Vec::len);
    let named = match request.body {
        ChatBody::Agent(agent) => {
            assert!(messages > 0, "an agent is asked something");
            agent.agent.to_string()
        }
        ChatBody::PassThrough {
            provider,
            model,
            body: passed_on,
        } => {
            assert_eq!(passed_on, body, "passed on as it came");
            format!("{provider}/{model}")
        }
    };
    assert_eq!(value["model"].as_str(), Some(&*named));
}
