//! A client's own request and the provider's own answer, passed through.
//!
//! What must be known is read, what must change is spliced into the bytes, and nothing else is touched: fields nobody here has heard
//! of, number spellings and key order arrive as they were sent.

use bytes::Bytes;
use futures::{Stream, stream::BoxStream};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::{
    ops::Range,
    pin::Pin,
    task::{Context, Poll},
};

use crate::{
    FinishReason, ProviderError, TextSpan, Usage,
    object::object,
    wire::{self, Said},
};

/// A request that cannot be used. Fit for the caller.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct RequestError {
    /// The field at fault, where one is.
    pub param: Option<&'static str>,
    pub message: String,
}

impl From<RequestError> for ambit_types::Error {
    fn from(error: RequestError) -> Self {
        match error.param {
            Some(param) => Self::invalid(param, error.message),
            None => Self::new(
                ambit_types::ErrorKind::Invalid { param: None },
                error.message,
            ),
        }
    }
}

/// The body of `POST /v1/chat/completions`, as the client sent it.
#[derive(Debug, Clone)]
pub struct RawChat {
    body: Bytes,
    model: String,
    model_place: Range<usize>,
    stream: bool,
    include_usage: bool,
    options_place: Option<Range<usize>>,
    max_tokens: Option<u64>,
    choices: u32,
    media: usize,
    logprobs: bool,
    texts: Vec<TextSpan>,
    /// Messages that hold a tool's answer, in order.
    of_tools: Vec<u32>,
}

object! {
    struct Body<'a> {
        model: Option<&'a RawValue>,
        messages: Option<Vec<Said<'a>>>,
        stream: Option<bool>,
        stream_options: Present<'a>,
        max_tokens: Option<u64>,
        max_completion_tokens: Option<u64>,
        n: Option<u32>,
        logprobs: Option<bool>,
        models: Option<&'a RawValue>,
    }
}

/// None only where the key is absent: `null` stands in the body too and has a place.
#[derive(Default)]
struct Present<'a>(Option<&'a RawValue>);

impl<'de: 'a, 'a> Deserialize<'de> for Present<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <&RawValue>::deserialize(deserializer).map(|raw| Self(Some(raw)))
    }
}

#[derive(Deserialize)]
struct StreamOptions {
    #[serde(default)]
    include_usage: Option<bool>,
}

impl RawChat {
    /// Reads what must be known. A key that two readers could understand differently is refused, see [`crate::object`].
    ///
    /// # Errors
    /// The body is no chat request; the message says why, naming the field where it can.
    pub fn parse(body: Bytes) -> Result<Self, RequestError> {
        let fault = |param, message: &str| RequestError {
            param: Some(param),
            message: message.to_owned(),
        };
        let read: Body<'_> = serde_json::from_slice(&body).map_err(|error| RequestError {
            param: None,
            message: format!("the body is not a chat request: {error}"),
        })?;
        let model_raw = read
            .model
            .ok_or_else(|| fault("model", "`model` is missing"))?;
        let options = read.stream_options.0;
        let model: String = serde_json::from_str(model_raw.get())
            .map_err(|_| fault("model", "`model` must be a string"))?;
        if read.models.is_some() {
            // Some servers take it for models to answer with instead: nobody would have granted or priced those.
            return Err(fault(
                "models",
                "`models` cannot be passed through: name the one model in `model`",
            ));
        }
        let messages = read
            .messages
            .ok_or_else(|| fault("messages", "`messages` is missing"))?;
        if messages.is_empty() {
            return Err(fault("messages", "`messages` must not be empty"));
        }
        let include_usage = match options {
            None => false,
            Some(options) => serde_json::from_str::<Option<StreamOptions>>(options.get())
                .map_err(|_| {
                    fault(
                        "stream_options",
                        "`stream_options` must be an object with a boolean `include_usage`",
                    )
                })?
                .and_then(|options| options.include_usage)
                .unwrap_or(false),
        };
        let mut texts = Vec::with_capacity(messages.len());
        let mut of_tools = Vec::new();
        let mut media = 0;
        for (index, message) in messages.iter().enumerate() {
            let number = u32::try_from(index).unwrap_or(u32::MAX);
            if message.is_of_tool() {
                of_tools.push(number);
            }
            media += message.texts(&body, number, &mut texts).map_err(|error| {
                fault(
                    "messages",
                    &format!("message {index} cannot be read: {error}"),
                )
            })?;
        }
        Ok(Self {
            model,
            model_place: wire::place(&body, model_raw),
            stream: read.stream.unwrap_or(false),
            include_usage,
            options_place: options.map(|options| wire::place(&body, options)),
            max_tokens: read.max_completion_tokens.max(read.max_tokens),
            media,
            choices: read.n.unwrap_or(1),
            logprobs: read.logprobs.unwrap_or(false),
            texts,
            of_tools,
            body,
        })
    }

    /// As the client named it.
    #[must_use]
    pub fn model(&self) -> &str {
        &self.model
    }

    /// The client wants server-sent events.
    #[must_use]
    pub fn streams(&self) -> bool {
        self.stream
    }

    /// The client wants a usage chunk at the end of the stream.
    #[must_use]
    pub fn wants_usage(&self) -> bool {
        self.include_usage
    }

    /// Upper bound of tokens per choice, where the client gave one.
    #[must_use]
    pub fn max_tokens(&self) -> Option<u64> {
        self.max_tokens
    }

    /// How many answers are asked for.
    #[must_use]
    pub fn choices(&self) -> u32 {
        self.choices
    }

    /// Parts of the messages that are no text: pictures, recordings, files.
    #[must_use]
    pub fn media(&self) -> usize {
        self.media
    }

    /// The answer will repeat its text token by token, beside the texts a guardrail sees.
    #[must_use]
    pub fn wants_logprobs(&self) -> bool {
        self.logprobs
    }

    /// Every text of the messages, in order: contents, text parts, refusals, arguments of tool calls.
    #[must_use]
    pub fn texts(&self) -> &[TextSpan] {
        &self.texts
    }

    /// Whether one of [`texts`](Self::texts) is what a tool answered.
    #[must_use]
    pub fn is_of_tool(&self, text: &TextSpan) -> bool {
        self.of_tools.binary_search(&text.index).is_ok()
    }

    /// The body as it is.
    #[must_use]
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// Puts other texts in place of [`texts`](Self::texts), one for one; None leaves one as it is.
    ///
    /// # Errors
    /// Never for a body that was read once; the type says so because the new body is read again.
    pub fn with_texts<'a>(
        &self,
        replacements: impl IntoIterator<Item = Option<&'a str>>,
    ) -> Result<Self, RequestError> {
        let edits = wire::edits(&self.texts, replacements);
        if edits.is_empty() {
            return Ok(self.clone());
        }
        Self::parse(wire::splice(&self.body, edits))
    }

    /// The body for a provider: its own name of the model and, for a stream, a usage chunk at the end, which every call needs that
    /// is to be accounted for.
    pub(crate) fn for_provider(&self, model: &str) -> Bytes {
        let name = wire::json_string(model);
        let mut edits = Vec::with_capacity(2);
        if self.stream && !self.include_usage {
            match &self.options_place {
                None => {
                    let place = self.model_place.end..self.model_place.end;
                    edits.push((self.model_place.clone(), name));
                    edits.push((
                        place,
                        r#","stream_options":{"include_usage":true}"#.to_owned(),
                    ));
                    return wire::splice(&self.body, edits);
                }
                // Other stream options stay.
                Some(place) => edits.push((place.clone(), with_usage(&self.body[place.clone()]))),
            }
        }
        edits.push((self.model_place.clone(), name));
        wire::splice(&self.body, edits)
    }
}

/// `stream_options` with `include_usage`, the rest as it is.
fn with_usage(options: &[u8]) -> String {
    let mut options: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(options).unwrap_or_default();
    options.insert("include_usage".to_owned(), true.into());
    serde_json::Value::Object(options).to_string()
}

/// A provider's answer.
#[derive(Debug)]
pub enum RawReply {
    /// One JSON body.
    Json(RawCompletion),
    /// Server-sent events.
    Stream(RawStream),
}

/// A whole answer.
#[derive(Debug)]
pub struct RawCompletion {
    body: Bytes,
    texts: Vec<TextSpan>,
    /// Of the first choice.
    pub finish: FinishReason,
    pub usage: Usage,
}

impl RawCompletion {
    pub(crate) fn read(body: Bytes) -> Result<Self, ProviderError> {
        let reading = wire::read(&body).map_err(|error| ProviderError::InvalidResponse {
            what: "completion",
            source: Some(error.into()),
        })?;
        if reading.error || reading.choices.is_empty() {
            return Err(ProviderError::invalid_response(
                "completion without choices",
            ));
        }
        Ok(Self {
            finish: reading
                .finishes
                .first()
                .map_or(FinishReason::Stop, |(_, reason)| *reason),
            usage: reading.usage.unwrap_or_default(),
            texts: reading.texts,
            body,
        })
    }

    /// Every text of the answer.
    #[must_use]
    pub fn texts(&self) -> &[TextSpan] {
        &self.texts
    }

    #[must_use]
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// The body with other texts in place of [`texts`](Self::texts), one for one; None leaves one as it is.
    #[must_use]
    pub fn with_texts<'a>(&self, replacements: impl IntoIterator<Item = Option<&'a str>>) -> Bytes {
        replaced(&self.body, &self.texts, replacements)
    }
}

/// One event of a streamed answer.
#[derive(Debug)]
pub struct RawChunk {
    body: Bytes,
    texts: Vec<TextSpan>,
    /// Why a choice ended: (choice, reason).
    pub finishes: Vec<(u32, FinishReason)>,
    pub usage: Option<Usage>,
    /// False for the usage chunk the client did not ask for.
    pub for_client: bool,
}

impl RawChunk {
    pub(crate) fn new(body: Bytes, reading: wire::Reading, client_wants_usage: bool) -> Self {
        Self {
            for_client: client_wants_usage
                || !reading.choices.is_empty()
                || reading.usage.is_none(),
            texts: reading.texts,
            finishes: reading.finishes,
            usage: reading.usage,
            body,
        }
    }

    /// Every text of this chunk. Those of one (`index`, `kind`) follow each other through the stream.
    #[must_use]
    pub fn texts(&self) -> &[TextSpan] {
        &self.texts
    }

    /// The JSON payload of the event, without `data:`.
    #[must_use]
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// The payload with other texts in place of [`texts`](Self::texts), one for one; None leaves one as it is. Also usable to make a
    /// further chunk like this one.
    #[must_use]
    pub fn with_texts<'a>(&self, replacements: impl IntoIterator<Item = Option<&'a str>>) -> Bytes {
        replaced(&self.body, &self.texts, replacements)
    }
}

fn replaced<'a>(
    body: &Bytes,
    texts: &[TextSpan],
    replacements: impl IntoIterator<Item = Option<&'a str>>,
) -> Bytes {
    let edits = wire::edits(texts, replacements);
    if edits.is_empty() {
        body.clone()
    } else {
        wire::splice(body, edits)
    }
}

/// A streamed answer. Ends after the provider's `[DONE]`, which is not an item; an error is the last item. A chunk with a finish
/// reason has come before the end. Dropping it cancels the call.
pub struct RawStream(BoxStream<'static, Result<RawChunk, ProviderError>>);

impl RawStream {
    pub(crate) fn new(
        chunks: impl Stream<Item = Result<RawChunk, ProviderError>> + Send + 'static,
    ) -> Self {
        Self(Box::pin(chunks))
    }
}

impl Stream for RawStream {
    type Item = Result<RawChunk, ProviderError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.as_mut().poll_next(cx)
    }
}

impl std::fmt::Debug for RawStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RawStream")
    }
}
