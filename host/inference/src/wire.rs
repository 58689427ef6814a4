//! The OpenAI chat format as far as this code must understand it: where the texts are, what the model asks for, how it ended.
//!
//! Answers are read with borrowed structures that skip every unknown field, and texts are remembered with the place they have in
//! the bytes, so that a guardrail can put other text there while everything else stays as the provider wrote it.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::{borrow::Cow, ops::Range};

use crate::{FinishReason, ToolCallFragment, Usage, object::object};

/// What a text is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TextKind {
    /// A message's content, or a text part of it.
    Content,
    Refusal,
    /// What a model thought, where the server shows it (`reasoning_content`, `reasoning`).
    Reasoning,
    /// Arguments of a tool call; in a stream, pieces with the same number belong together. The old `function_call` has the number
    /// [`u32::MAX`].
    ToolArguments(u32),
}

/// One text inside a JSON body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextSpan {
    /// Which message of a request, or which choice of an answer; from 0.
    pub index: u32,
    pub kind: TextKind,
    pub text: String,
    /// The string literal in the body, quotes included.
    pub(crate) place: Range<usize>,
}

/// What an answer, or a chunk of one, says.
#[derive(Debug, Default)]
pub(crate) struct Reading {
    pub(crate) texts: Vec<TextSpan>,
    /// Only of choice 0: the typed form asks for one choice.
    pub(crate) tool_calls: Vec<ToolCallFragment>,
    /// (choice, reason)
    pub(crate) finishes: Vec<(u32, FinishReason)>,
    pub(crate) usage: Option<Usage>,
    /// Choices spoken of, by their number.
    pub(crate) choices: Vec<u32>,
    /// The provider reports a failure in place of an answer.
    pub(crate) error: bool,
}

object! {
    struct Answer<'a> {
        choices: Option<Vec<Choice<'a>>>,
        usage: Option<WireUsage>,
        error: Option<&'a RawValue>,
    }
}

object! {
    struct Choice<'a> {
        index: Option<u32>,
        delta: Option<Said<'a>>,
        message: Option<Said<'a>>,
        finish_reason: Option<Cow<'a, str>>,
        /// The text once more, token by token, where no guardrail looks. Never asked for.
        logprobs: Option<&'a RawValue>,
    }
}

object! {
    /// A message of a request, a message of an answer, or a delta: the fields that hold text are the same.
    pub(crate) struct Said<'a> {
        role: Option<&'a RawValue>,
        content: Option<&'a RawValue>,
        refusal: Option<&'a RawValue>,
        reasoning_content: Option<&'a RawValue>,
        reasoning: Option<&'a RawValue>,
        tool_calls: Option<Vec<Call<'a>>>,
        /// What came before `tool_calls`; some servers still send it.
        function_call: Option<Function<'a>>,
    }
}

object! {
    struct Call<'a> {
        index: Option<u32>,
        id: Option<Cow<'a, str>>,
        function: Option<Function<'a>>,
    }
}

object! {
    struct Function<'a> {
        name: Option<Cow<'a, str>>,
        arguments: Option<&'a RawValue>,
    }
}

object! {
    struct Part<'a> {
        text: Option<&'a RawValue>,
        refusal: Option<&'a RawValue>,
    }
}

#[derive(Deserialize)]
struct WireUsage {
    #[serde(default)]
    prompt_tokens: Option<u64>,
    #[serde(default)]
    completion_tokens: Option<u64>,
    #[serde(default)]
    prompt_tokens_details: Option<PromptDetails>,
    #[serde(default)]
    completion_tokens_details: Option<CompletionDetails>,
}

#[derive(Deserialize)]
struct PromptDetails {
    #[serde(default)]
    cached_tokens: Option<u64>,
}

#[derive(Deserialize)]
struct CompletionDetails {
    #[serde(default)]
    reasoning_tokens: Option<u64>,
}

impl WireUsage {
    fn read(self) -> Usage {
        let tokens = |count: Option<u64>| count.unwrap_or(0).min(Usage::MOST);
        let prompt = self.prompt_tokens_details;
        let completion = self.completion_tokens_details;
        Usage {
            input_tokens: tokens(self.prompt_tokens),
            cached_tokens: tokens(prompt.and_then(|details| details.cached_tokens)),
            output_tokens: tokens(self.completion_tokens),
            reasoning_tokens: tokens(completion.and_then(|details| details.reasoning_tokens)),
        }
    }
}

/// Reads a completion or a chunk of one.
pub(crate) fn read(body: &Bytes) -> Result<Reading, serde_json::Error> {
    let answer: Answer<'_> = serde_json::from_slice(body)?;
    let mut reading = Reading {
        usage: answer.usage.map(WireUsage::read),
        error: answer.error.is_some(),
        ..Reading::default()
    };
    for choice in answer.choices.unwrap_or_default() {
        let index = choice.index.unwrap_or(0);
        reading.choices.push(index);
        let repeats = |logprobs: &RawValue| !matches!(logprobs.get(), "null" | "{}" | "[]");
        if choice.logprobs.is_some_and(repeats) {
            return Err(serde::de::Error::custom("logprobs that nobody asked for"));
        }
        for said in [&choice.delta, &choice.message].into_iter().flatten() {
            said.texts(body, index, &mut reading.texts)?;
            if index == 0 {
                said.fragments(&mut reading.tool_calls)?;
            }
        }
        if let Some(reason) = choice.finish_reason {
            reading
                .finishes
                .push((index, FinishReason::from_wire(&reason)));
        }
    }
    Ok(reading)
}

impl<'a> Said<'a> {
    /// Adds every text of this message, in the order they stand in `body`'s format. How many parts are something else.
    pub(crate) fn texts(
        &self,
        body: &[u8],
        index: u32,
        into: &mut Vec<TextSpan>,
    ) -> Result<usize, serde_json::Error> {
        let mut others = 0;
        let mut add = |kind, raw: Option<&RawValue>| -> Result<(), serde_json::Error> {
            let Some(raw) = raw.filter(|raw| raw.get() != "null") else {
                return Ok(());
            };
            let text = match kind {
                _ if raw.get().starts_with('"') => serde_json::from_str(raw.get())?,
                // Some servers send the object itself.
                TextKind::ToolArguments(_) => raw.get().to_owned(),
                // What is neither text nor nothing, another reader may know how to show.
                _ => return Err(serde::de::Error::custom("a text that is no string")),
            };
            into.push(TextSpan {
                index,
                kind,
                text,
                place: place(body, raw),
            });
            Ok(())
        };
        if let Some(content) = self
            .content
            .filter(|content| content.get().starts_with('['))
        {
            for part in serde_json::from_str::<Vec<Part<'a>>>(content.get())? {
                others += usize::from(part.text.is_none() && part.refusal.is_none());
                add(TextKind::Content, part.text)?;
                add(TextKind::Refusal, part.refusal)?;
            }
        } else {
            add(TextKind::Content, self.content)?;
        }
        add(TextKind::Refusal, self.refusal)?;
        add(TextKind::Reasoning, self.reasoning_content)?;
        add(TextKind::Reasoning, self.reasoning)?;
        for (n, call) in self.calls().enumerate() {
            let arguments = call
                .function
                .as_ref()
                .and_then(|function| function.arguments);
            add(TextKind::ToolArguments(call.number(n)), arguments)?;
        }
        let legacy = self
            .function_call
            .as_ref()
            .and_then(|function| function.arguments);
        add(TextKind::ToolArguments(u32::MAX), legacy)?;
        Ok(others)
    }

    fn fragments(&self, into: &mut Vec<ToolCallFragment>) -> Result<(), serde_json::Error> {
        for (n, call) in self.calls().enumerate() {
            let (name, arguments) = call
                .function
                .as_ref()
                .map_or((None, None), |f| (f.name.as_deref(), f.arguments));
            let arguments = match arguments {
                None => String::new(),
                Some(raw) if raw.get().starts_with('"') => serde_json::from_str(raw.get())?,
                Some(raw) => raw.get().to_owned(),
            };
            into.push(ToolCallFragment {
                index: call.number(n),
                id: call.id.as_deref().map(str::to_owned),
                name: name.map(str::to_owned),
                arguments,
            });
        }
        Ok(())
    }

    /// What a tool answered: data that somebody else wrote. `function` is what came before `tool`.
    pub(crate) fn is_of_tool(&self) -> bool {
        self.role.is_some_and(|role| match role.get() {
            "\"tool\"" | "\"function\"" => true,
            // Another spelling of the same word.
            escaped if escaped.contains('\\') => serde_json::from_str::<String>(escaped)
                .is_ok_and(|role| matches!(role.as_str(), "tool" | "function")),
            _ => false,
        })
    }

    fn calls(&self) -> impl Iterator<Item = &Call<'a>> {
        self.tool_calls.iter().flatten()
    }
}

impl Call<'_> {
    /// Its number; a server that sends whole calls may leave it out, so it is then the position in the list.
    fn number(&self, position: usize) -> u32 {
        self.index
            .unwrap_or(u32::try_from(position).unwrap_or(u32::MAX))
    }
}

/// Where a value that was borrowed from `body` stands in it.
pub(crate) fn place(body: &[u8], raw: &RawValue) -> Range<usize> {
    let start = (raw.get().as_ptr() as usize).wrapping_sub(body.as_ptr() as usize);
    debug_assert!(start + raw.get().len() <= body.len());
    start..start + raw.get().len()
}

/// `body` with the text at each place replaced. Places are apart from each other and in any order.
pub(crate) fn splice(body: &[u8], mut edits: Vec<(Range<usize>, String)>) -> Bytes {
    edits.sort_unstable_by_key(|(place, _)| place.start);
    let grown: usize = edits.iter().map(|(_, text)| text.len()).sum();
    let mut out = Vec::with_capacity(body.len() + grown);
    let mut from = 0;
    for (place, text) in edits {
        out.extend_from_slice(&body[from..place.start]);
        out.extend_from_slice(text.as_bytes());
        from = place.end;
    }
    out.extend_from_slice(&body[from..]);
    out.into()
}

/// Edits that put `replacements` in place of `texts`; None leaves a text as it is. A missing replacement leaves it too.
pub(crate) fn edits<'a>(
    texts: &[TextSpan],
    replacements: impl IntoIterator<Item = Option<&'a str>>,
) -> Vec<(Range<usize>, String)> {
    texts
        .iter()
        .zip(replacements)
        .filter_map(|(span, replacement)| Some((span.place.clone(), json_string(replacement?))))
        .collect()
}

/// A JSON string literal.
pub(crate) fn json_string(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Reading {
        super::read(&Bytes::copy_from_slice(text.as_bytes())).unwrap()
    }

    #[test]
    fn finds_every_text_where_it_stands() {
        let body = r#"{"x":1,"choices":[{"index":1,"delta":{"content":"a\u00e9\"","refusal":null,"reasoning_content":"hm"},"logprobs":null},
            {"index":0,"message":{"content":[{"type":"text","text":"part"},{"type":"image_url","image_url":{"url":"x"}}],
             "tool_calls":[{"id":"c","type":"function","function":{"name":"f","arguments":"{\"a\":1}"}}],
             "function_call":{"name":"g","arguments":"old"}},"finish_reason":"tool_calls"}]}"#;
        let reading = read(body);
        let found: Vec<_> = reading
            .texts
            .iter()
            .map(|t| (t.index, t.kind, t.text.as_str(), &body[t.place.clone()]))
            .collect();
        assert_eq!(
            found,
            [
                (1, TextKind::Content, "aé\"", r#""a\u00e9\"""#),
                (1, TextKind::Reasoning, "hm", r#""hm""#),
                (0, TextKind::Content, "part", r#""part""#),
                (
                    0,
                    TextKind::ToolArguments(0),
                    r#"{"a":1}"#,
                    r#""{\"a\":1}""#
                ),
                (0, TextKind::ToolArguments(u32::MAX), "old", "\"old\""),
            ]
        );
        assert_eq!(reading.finishes, [(0, FinishReason::ToolCalls)]);
        assert_eq!(reading.tool_calls[0].name.as_deref(), Some("f"));
        let replaced = splice(
            body.as_bytes(),
            edits(&reading.texts, [Some("\n"), None, Some("mask")]),
        );
        let expected = body
            .replace(r#""a\u00e9\"""#, r#""\n""#)
            .replace(r#""part""#, r#""mask""#);
        assert_eq!(std::str::from_utf8(&replaced).unwrap(), expected);
    }

    #[test]
    fn usage_counts_what_is_told() {
        let usage = read(
            r#"{"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":7,"total_tokens":12,
            "prompt_tokens_details":{"cached_tokens":3},"completion_tokens_details":{"reasoning_tokens":2}}}"#,
        )
        .usage;
        assert_eq!(
            usage,
            Some(Usage {
                input_tokens: 5,
                cached_tokens: 3,
                output_tokens: 7,
                reasoning_tokens: 2
            })
        );
        assert_eq!(
            read(r#"{"choices":[],"usage":{"prompt_tokens":5,"completion_tokens_details":null}}"#)
                .usage
                .unwrap()
                .input_tokens,
            5
        );
        assert_eq!(read(r#"{"choices":null,"usage":null}"#).usage, None);
        // Nobody used that many.
        let mad =
            r#"{"usage":{"prompt_tokens":18446744073709551615,"completion_tokens":4294967296}}"#;
        let mad = read(mad).usage.unwrap();
        assert_eq!(
            (mad.input_tokens, mad.output_tokens),
            (Usage::MOST, Usage::MOST)
        );
    }

    #[test]
    fn nonsense_is_an_error_not_a_panic() {
        for bad in [
            "",
            "{",
            "[]",
            "{\"choices\":[{\"delta\":{\"content\":\"\\ud800\"}}]}",
            "{\"choices\":{}}",
            "\u{0}",
        ] {
            assert!(
                super::read(&Bytes::copy_from_slice(bad.as_bytes())).is_err(),
                "{bad}"
            );
        }
    }
}
