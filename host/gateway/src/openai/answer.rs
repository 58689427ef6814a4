//! The shapes of a chat answer: one completion, or the chunks of a stream.
//!
//! A stream's chunks differ only in their delta, so everything around it is printed once per stream and copied.

use super::codepoints;
use ambit_types::Error;
use bytes::Bytes;
use serde_json::{Value, json};
use std::time::{SystemTime, UNIX_EPOCH};

/// What the chunks of one answer share.
#[derive(Debug)]
pub(crate) struct Envelope {
    id: String,
    created: u64,
    model: String,
    /// `data: {… "choices":[{"index":0,"delta":`
    head: String,
}

/// A call of one of the caller's own tools.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) arguments: String,
}

/// Where a statement of the answer comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Source {
    /// The answer cites it as `[number]`.
    pub(crate) number: u32,
    pub(crate) document: String,
    pub(crate) title: String,
    pub(crate) anchor: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Tokens {
    pub(crate) input: u64,
    pub(crate) cached: u64,
    pub(crate) output: u64,
    pub(crate) reasoning: u64,
}

/// The end of every stream that ended well.
pub(crate) const DONE: Bytes = Bytes::from_static(b"data: [DONE]\n\n");
/// A comment: keeps the connection alive and means nothing.
pub(crate) const HEARTBEAT: Bytes = Bytes::from_static(b": \n\n");

impl Envelope {
    /// `unique` tells answers apart: the request's id.
    pub(crate) fn new(unique: &str, model: &str) -> Self {
        let created = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs();
        let id = format!("chatcmpl-{unique}");
        let head = format!(
            r#"data: {{"id":{},"object":"chat.completion.chunk","created":{created},"model":{},"choices":[{{"index":0,"delta":"#,
            json!(id),
            json!(model),
        );
        Self {
            id,
            created,
            model: model.to_owned(),
            head,
        }
    }

    pub(crate) fn role(&self) -> Bytes {
        self.chunk(&json!({"role": "assistant", "content": ""}), None)
    }

    pub(crate) fn text(&self, text: &str) -> Bytes {
        self.chunk(&json!({ "content": text }), None)
    }

    /// All calls at once, whole: each has its own index.
    pub(crate) fn calls(&self, calls: &[Call]) -> Bytes {
        let calls: Vec<_> = calls
            .iter()
            .enumerate()
            .map(|(index, call)| {
                let mut call = call_json(call);
                call["index"] = index.into();
                call
            })
            .collect();
        self.chunk(&json!({ "tool_calls": calls }), None)
    }

    /// The last chunk with a choice, and the sources the answer rests on.
    pub(crate) fn finish(&self, reason: &str, text: &str, sources: &[Source]) -> Bytes {
        let delta = if sources.is_empty() {
            json!({})
        } else {
            json!({ "annotations": annotations(text, sources) })
        };
        self.chunk(&delta, Some(reason))
    }

    /// `stream_options.include_usage`: no choices, only the usage.
    pub(crate) fn usage(&self, tokens: Tokens) -> Bytes {
        let chunk = json!({"id": self.id, "object": "chat.completion.chunk", "created": self.created, "model": self.model,
            "choices": [], "usage": usage_json(tokens)});
        Bytes::from(format!("data: {chunk}\n\n"))
    }

    fn chunk(&self, delta: &Value, finish: Option<&str>) -> Bytes {
        let finish = finish.map_or(Value::Null, Value::from);
        Bytes::from(format!(
            "{}{delta},\"logprobs\":null,\"finish_reason\":{finish}}}]}}\n\n",
            self.head
        ))
    }

    /// The answer in one piece.
    pub(crate) fn completion(
        &self,
        text: &str,
        calls: &[Call],
        reason: &str,
        sources: &[Source],
        tokens: Tokens,
    ) -> Value {
        let mut message = json!({"role": "assistant", "content": text, "refusal": null, "annotations": annotations(text, sources)});
        if !calls.is_empty() {
            message["tool_calls"] = calls.iter().map(call_json).collect();
            if text.is_empty() {
                message["content"] = Value::Null;
            }
        }
        json!({
            "id": self.id, "object": "chat.completion", "created": self.created, "model": self.model,
            "choices": [{"index": 0, "message": message, "logprobs": null, "finish_reason": reason}],
            "usage": usage_json(tokens),
        })
    }
}

/// The event with which a stream ends that failed. No `[DONE]` follows it.
pub(crate) fn error_event(error: &Error) -> Bytes {
    Bytes::from(format!("data: {}\n\n", crate::error::openai_body(error)))
}

fn call_json(call: &Call) -> Value {
    json!({"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}})
}

fn usage_json(tokens: Tokens) -> Value {
    json!({
        "prompt_tokens": tokens.input, "completion_tokens": tokens.output, "total_tokens": tokens.input.saturating_add(tokens.output),
        "prompt_tokens_details": {"cached_tokens": tokens.cached},
        "completion_tokens_details": {"reasoning_tokens": tokens.reasoning},
    })
}

/// OpenAI's `url_citation`, with the document and its anchor beside the URL made of both. The indices are the code points of the first
/// `[number]` in the text, or the text's end where the answer names the source without a mark.
fn annotations(text: &str, sources: &[Source]) -> Value {
    let ranges: Vec<_> = sources
        .iter()
        .map(|source| {
            let mark = format!("[{}]", source.number);
            let start = text.find(&mark).unwrap_or(text.len());
            (start as u64, (start + mark.len()).min(text.len()) as u64)
        })
        .collect();
    sources
        .iter()
        .zip(codepoints::from_bytes(text, &ranges))
        .map(|(source, (start, end))| {
            let url = if source.anchor.is_empty() {
                source.document.clone()
            } else {
                format!("{}#{}", source.document, source.anchor)
            };
            json!({"type": "url_citation", "url_citation": {
                "url": url, "title": source.title, "start_index": start, "end_index": end,
                "document": source.document, "anchor": source.anchor, "number": source.number,
            }})
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(event: &Bytes) -> Value {
        let text = std::str::from_utf8(event).unwrap();
        let body = text
            .strip_prefix("data: ")
            .unwrap()
            .strip_suffix("\n\n")
            .unwrap();
        assert!(!body.contains('\n'), "one event is one line: {body:?}");
        serde_json::from_str(body).unwrap()
    }

    fn source() -> Source {
        Source {
            number: 2,
            document: "guide.md".to_owned(),
            title: "Guide".to_owned(),
            anchor: "a/b#1".to_owned(),
        }
    }

    #[test]
    fn chunks_survive_any_text() {
        let envelope = Envelope::new("req_1", "as\"sistant");
        for text in ["", "a\n\ndata: [DONE]\n\n", "\"}]}", "\u{2028}\u{0}🦀"] {
            let chunk = data(&envelope.text(text));
            assert_eq!(chunk["choices"][0]["delta"]["content"], text);
            assert_eq!(chunk["choices"][0]["finish_reason"], Value::Null);
            assert_eq!(
                (chunk["id"].as_str(), chunk["model"].as_str()),
                (Some("chatcmpl-req_1"), Some("as\"sistant"))
            );
        }
    }

    #[test]
    fn the_end_of_a_stream() {
        let envelope = Envelope::new("req_1", "assistant");
        let last = data(&envelope.finish("stop", "ä x [2].", &[source()]));
        assert_eq!(last["choices"][0]["finish_reason"], "stop");
        let citation = &last["choices"][0]["delta"]["annotations"][0]["url_citation"];
        assert_eq!(
            (
                &citation["start_index"],
                &citation["end_index"],
                &citation["url"]
            ),
            (&json!(4), &json!(7), &json!("guide.md#a/b#1"))
        );
        let usage = data(&envelope.usage(Tokens {
            input: 3,
            output: 4,
            ..Tokens::default()
        }));
        assert_eq!(
            (&usage["choices"], &usage["usage"]["total_tokens"]),
            (&json!([]), &json!(7))
        );
        assert_eq!(
            data(&envelope.finish("length", "", &[]))["choices"][0]["delta"],
            json!({})
        );
    }

    #[test]
    fn a_completion_with_calls_has_no_text() {
        let calls = [Call {
            id: "c1".to_owned(),
            name: "now".to_owned(),
            arguments: "{}".to_owned(),
        }];
        let envelope = Envelope::new("req_1", "assistant");
        let message = &envelope.completion("", &calls, "tool_calls", &[], Tokens::default())["choices"]
            [0]["message"];
        assert_eq!(
            (
                &message["content"],
                &message["tool_calls"][0]["function"]["name"]
            ),
            (&Value::Null, &json!("now"))
        );
        assert_eq!(
            data(&envelope.calls(&calls))["choices"][0]["delta"]["tool_calls"][0]["index"],
            0
        );
    }

    #[test]
    fn a_source_without_a_mark_points_at_the_end() {
        assert_eq!(
            annotations("äb", &[source()])[0]["url_citation"]["start_index"],
            2
        );
    }
}
