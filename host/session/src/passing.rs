//! A streamed answer on its way through, chunk by chunk.

use crate::{guard::OutputGuard, pass_through::Call};
use ambit_inference::{RawChunk, RawStream, TextKind};
use ambit_types::{Error, ErrorKind};
use bytes::{BufMut as _, Bytes, BytesMut};
use futures::{
    StreamExt as _,
    stream::{self, BoxStream},
};
use serde_json::json;

/// A streamed answer on its way through.
pub(crate) struct Passing {
    call: Call,
    stream: RawStream,
    finish: Option<&'static str>,
    /// What must wait for the outcome: the finish reason and all after it.
    held: BytesMut,
    done: bool,
}

/// One text of the answer, for example the content of choice 0.
pub(crate) struct PassingText {
    of: (u32, TextKind),
    pub(crate) guard: OutputGuard,
    /// A chunk with this text alone, to carry what the guard sets free at the end.
    template: Option<RawChunk>,
    finished: bool,
}

impl Passing {
    pub(crate) fn new(call: Call, stream: RawStream) -> Self {
        Self {
            call,
            stream,
            finish: None,
            held: BytesMut::new(),
            done: false,
        }
    }

    pub(crate) fn into_stream(self) -> BoxStream<'static, Result<Bytes, Error>> {
        stream::unfold(self, |mut passing| async move {
            if passing.done {
                return None;
            }
            let item = passing.next().await;
            passing.done |= item.is_err();
            let item = match item {
                Err(error) if !passing.call.closed => Err(passing.call.fail(error).await),
                item => item,
            };
            Some((item, passing))
        })
        .boxed()
    }

    /// The next bytes to send.
    async fn next(&mut self) -> Result<Bytes, Error> {
        while let Some(chunk) = self.stream.next().await {
            let chunk = chunk?;
            if let Some(usage) = chunk.usage {
                self.call.usage = usage;
            }
            let mut released = self.judge(&chunk).await?;
            let mut before = BytesMut::new();
            for (choice, reason) in &chunk.finishes {
                self.finish.get_or_insert(reason.as_str());
                self.finish_texts(Some(*choice), Some((&chunk, &mut released)), &mut before)
                    .await?;
            }
            if chunk.for_client {
                let replaced = chunk
                    .texts()
                    .iter()
                    .zip(&released)
                    .map(|(span, text)| (span.text != *text).then_some(text.as_str()));
                put_frame(&mut before, &chunk.with_texts(replaced));
            }
            let waits = !chunk.finishes.is_empty() || !self.held.is_empty();
            self.remember(chunk);
            if waits {
                self.held.extend_from_slice(&before);
            } else if !before.is_empty() {
                return Ok(before.freeze());
            }
        }
        self.end().await
    }

    /// What of each text of this chunk may be sent.
    async fn judge(&mut self, chunk: &RawChunk) -> Result<Vec<String>, Error> {
        let mut released = Vec::with_capacity(chunk.texts().len());
        for span in chunk.texts() {
            let of = (span.index, span.kind);
            let call = &mut self.call;
            let place = match call.texts.iter().position(|text| text.of == of) {
                Some(place) => place,
                None => {
                    call.texts.push(PassingText {
                        of,
                        guard: call.guard.output(),
                        template: None,
                        finished: false,
                    });
                    call.texts.len() - 1
                }
            };
            let text = &mut call.texts[place];
            if text.finished {
                return Err(Error::new(
                    ErrorKind::ProviderFailed {
                        code: "invalid_response",
                    },
                    "the provider went on after its finish reason",
                ));
            }
            let free = text.guard.push(span.text.clone()).await?;
            call.said.push_str(&free);
            released.push(free);
        }
        Ok(released)
    }

    /// Ends the texts of one choice, or of all: what their guards still held goes into this chunk where it has that text, else into a
    /// frame of its own before it.
    async fn finish_texts(
        &mut self,
        choice: Option<u32>,
        mut chunk: Option<(&RawChunk, &mut Vec<String>)>,
        before: &mut BytesMut,
    ) -> Result<(), Error> {
        let call = &mut self.call;
        for text in call
            .texts
            .iter_mut()
            .filter(|text| !text.finished && choice.is_none_or(|choice| text.of.0 == choice))
        {
            text.finished = true;
            let rest = text.guard.finish().await?;
            if rest.is_empty() {
                continue;
            }
            call.said.push_str(&rest);
            let place = chunk.as_ref().and_then(|(chunk, _)| {
                chunk
                    .texts()
                    .iter()
                    .rposition(|span| (span.index, span.kind) == text.of)
            });
            match (&mut chunk, place, &text.template) {
                (Some((_, released)), Some(place), _) => released[place].push_str(&rest),
                (_, _, Some(template)) => {
                    put_frame(before, &template.with_texts([Some(rest.as_str())]))
                }
                _ => {
                    let message =
                        "the provider mixed texts in a way that cannot be judged in parts";
                    return Err(Error::new(
                        ErrorKind::ProviderFailed {
                            code: "invalid_response",
                        },
                        message,
                    ));
                }
            }
        }
        Ok(())
    }

    fn remember(&mut self, chunk: RawChunk) {
        if let ([span], true) = (chunk.texts(), chunk.finishes.is_empty())
            && let of = (span.index, span.kind)
            && let Some(text) = self.call.texts.iter_mut().find(|text| text.of == of)
        {
            text.template = Some(chunk);
        }
    }

    /// The provider is done: make the outcome durable, then let the finish go.
    async fn end(&mut self) -> Result<Bytes, Error> {
        let mut last = BytesMut::new();
        self.finish_texts(None, None, &mut last).await?;
        let call = &mut self.call;
        for text in &call.texts {
            text.guard.note(&mut call.recorder)?;
        }
        let body = json!({ "text": call.said }).to_string().into_bytes();
        call.succeed(json!(self.finish), body).await?;
        last.extend_from_slice(&self.held);
        last.put_slice(b"data: [DONE]\n\n");
        self.done = true;
        Ok(last.freeze())
    }
}

fn put_frame(frame: &mut BytesMut, body: &[u8]) {
    frame.put_slice(b"data: ");
    frame.put_slice(body);
    frame.put_slice(b"\n\n");
}
