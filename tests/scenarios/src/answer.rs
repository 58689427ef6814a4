//! What a chat request came to, streamed or not.

use anyhow::{Context as _, Result};
use reqwest::Response;
use serde_json::Value;

/// An answer read to its end.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    /// The session it names.
    pub session: Option<String>,
    /// The text of its first choice.
    pub text: String,
    /// OpenAI's error object: the body's, or the last event's.
    pub error: Value,
    /// A whole answer, or a stream that ended in `[DONE]`.
    pub complete: bool,
    pub body: String,
}

impl Answer {
    /// # Errors
    /// The body breaks off.
    pub async fn read(response: Response) -> Result<Self> {
        let status = response.status().as_u16();
        let header = |name: &str| {
            let value = response.headers().get(name)?;
            value.to_str().ok().map(str::to_owned)
        };
        let session = header("x-ambit-session");
        let streamed = header("content-type").is_some_and(|kind| kind.starts_with("text/event"));
        let body = response.text().await.context("the answer broke off")?;
        let mut answer = Self {
            status,
            session,
            text: String::new(),
            error: Value::Null,
            complete: false,
            body,
        };
        if streamed {
            let events = answer.body.split_terminator("\n\n");
            for event in events.filter_map(|event| event.strip_prefix("data: ")) {
                answer.complete = event == "[DONE]";
                let event: Value = serde_json::from_str(event).unwrap_or_default();
                let delta = &event["choices"][0]["delta"]["content"];
                answer.text.push_str(delta.as_str().unwrap_or_default());
                answer.error = event["error"].clone();
            }
        } else {
            let body: Value = serde_json::from_str(&answer.body).unwrap_or_default();
            let text = &body["choices"][0]["message"]["content"];
            answer.text = text.as_str().unwrap_or_default().to_owned();
            answer.error = body["error"].clone();
            answer.complete = status == 200;
        }
        Ok(answer)
    }

    /// Answered, whole, without an error.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.status == 200 && self.complete && self.error.is_null()
    }

    /// The stable code of its error.
    #[must_use]
    pub fn code(&self) -> &str {
        self.error["code"].as_str().unwrap_or_default()
    }
}
