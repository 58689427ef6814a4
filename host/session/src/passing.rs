//! A streamed answer on its way through.

use crate::{
    ahead::{Ahead, Weight},
    guard::{Guard, OutputGuard},
    pass_through::Call,
};
use ambit_capabilities::guardrail::Room;
use ambit_inference::{RawChunk, RawStream, TextKind};
use ambit_types::{Error, ErrorKind};
use bytes::{BufMut as _, Bytes, BytesMut};
use futures::{
    StreamExt as _,
    stream::{self, BoxStream},
};
use serde_json::json;
use std::collections::{BTreeMap, HashMap, hash_map};

/// Most texts of one answer: of each choice the content and the arguments of its calls.
const TEXTS_AT_MOST: usize = 1024;

/// A streamed answer on its way through.
pub(crate) struct Passing {
    call: Call,
    chunks: Ahead<RawStream>,
    finish: Option<&'static str>,
    /// What must wait for the outcome: the finish reason and all after it.
    held: BytesMut,
    /// Why it goes no further, once what was set free before it is gone.
    failed: Option<Error>,
    done: bool,
}

/// The texts of an answer, in the order in which they began.
#[derive(Default)]
pub(crate) struct PassingTexts {
    all: Vec<PassingText>,
    places: HashMap<(u32, TextKind), usize>,
    room: Room,
}

/// One text of the answer, for example the content of choice 0.
pub(crate) struct PassingText {
    of: (u32, TextKind),
    pub(crate) guard: OutputGuard,
    /// A chunk with this text alone, to carry what the guard sets free at the end.
    template: Option<RawChunk>,
    finished: bool,
}

impl Weight for RawChunk {
    fn bytes(&self) -> usize {
        self.body().len()
    }
}

impl Passing {
    pub(crate) fn new(call: Call, stream: RawStream) -> Self {
        Self {
            call,
            chunks: Ahead::new(stream),
            finish: None,
            held: BytesMut::new(),
            failed: None,
            done: false,
        }
    }

    pub(crate) fn into_stream(self) -> BoxStream<'static, Result<Bytes, Error>> {
        // Boxed, since it is moved in and out for every item.
        stream::unfold(Box::new(self), |mut passing| async move {
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
        loop {
            if let Some(error) = self.failed.take() {
                return Err(error);
            }
            // What is held back of a text goes with its finish reason: nothing after that is judged together with it.
            let chunks = self
                .chunks
                .take(|chunk: &RawChunk| !chunk.finishes.is_empty())
                .await?;
            if chunks.is_empty() {
                return self.end().await;
            }
            let frames = self.frames(chunks).await?;
            if !frames.is_empty() {
                return Ok(frames.freeze());
            }
        }
    }

    /// What may be sent of chunks that came together; of them at most the last has finish reasons.
    async fn frames(&mut self, chunks: Vec<RawChunk>) -> Result<BytesMut, Error> {
        for usage in chunks.iter().filter_map(|chunk| chunk.usage) {
            self.call.usage = usage;
        }
        let released = self.chunks.during(self.call.judge_chunks(&chunks)).await?;
        let mut frames = BytesMut::new();
        for (chunk, mut released) in chunks.into_iter().zip(released) {
            let mut before = BytesMut::new();
            for (choice, reason) in &chunk.finishes {
                self.finish.get_or_insert(reason.as_str());
                let with = Some((&chunk, &mut released));
                let call = &mut self.call;
                if let Err(error) = call.finish_texts(Some(*choice), with, &mut before).await {
                    self.failed = Some(error);
                    return Ok(frames);
                }
            }
            if chunk.for_client {
                let replaced = chunk
                    .texts()
                    .iter()
                    .zip(&released)
                    .map(|(span, text)| (span.text != *text).then_some(text.as_str()));
                put_frame(&mut before, &chunk.with_texts(replaced));
            }
            if chunk.finishes.is_empty() && self.held.is_empty() {
                frames.unsplit(before);
            } else {
                self.held.unsplit(before);
            }
            self.call.remember(chunk);
        }
        Ok(frames)
    }

    /// The provider is done: make the outcome durable, then let the finish go.
    async fn end(&mut self) -> Result<Bytes, Error> {
        let mut last = BytesMut::new();
        let call = &mut self.call;
        call.finish_texts(None, None, &mut last).await?;
        for text in call.texts.iter() {
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

impl Call {
    /// What of each text of these chunks may be sent. The pieces of one text are judged in one call.
    async fn judge_chunks(&mut self, chunks: &[RawChunk]) -> Result<Vec<Vec<String>>, Error> {
        let mut released: Vec<Vec<String>> = chunks
            .iter()
            .map(|chunk| vec![String::new(); chunk.texts().len()])
            .collect();
        let mut pieces: BTreeMap<usize, Pieces> = BTreeMap::new();
        for (at, chunk) in chunks.iter().enumerate() {
            for (nth, span) in chunk.texts().iter().enumerate() {
                let text = self.texts.place((span.index, span.kind), &self.guard)?;
                self.heard += span.text.len();
                let pieces = pieces.entry(text).or_default();
                pieces.whole.push_str(&span.text);
                pieces.places.push((at, nth, span.text.len()));
            }
        }
        for (text, Pieces { whole, places }) in pieces {
            let PassingTexts { all, room, .. } = &mut self.texts;
            let free = all[text].guard.push(whole, room).await?;
            let sizes = places.iter().map(|(_, _, bytes)| *bytes);
            for ((at, span, _), part) in places.iter().zip(spread(&free, sizes)) {
                released[*at][*span] = part.to_owned();
            }
        }
        // Only now all of it leaves.
        self.said
            .extend(released.iter().flatten().map(String::as_str));
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
        let PassingTexts { all, room, .. } = &mut self.texts;
        for text in all
            .iter_mut()
            .filter(|text| !text.finished && choice.is_none_or(|choice| text.of.0 == choice))
        {
            text.finished = true;
            let rest = text.guard.finish(room).await?;
            if rest.is_empty() {
                continue;
            }
            self.said.push_str(&rest);
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
                    return Err(invalid(
                        "the provider mixed texts in a way that cannot be judged in parts",
                    ));
                }
            }
        }
        Ok(())
    }

    fn remember(&mut self, chunk: RawChunk) {
        if let ([span], true) = (chunk.texts(), chunk.finishes.is_empty())
            && let Some(place) = self.texts.places.get(&(span.index, span.kind))
            && let Some(text) = self.texts.all.get_mut(*place)
        {
            text.template = Some(chunk);
        }
    }
}

impl PassingTexts {
    pub(crate) fn iter(&self) -> impl Iterator<Item = &PassingText> {
        self.all.iter()
    }

    /// Which one it is, begun where it is new.
    fn place(&mut self, of: (u32, TextKind), guard: &Guard) -> Result<usize, Error> {
        let begun = self.all.len();
        match self.places.entry(of) {
            hash_map::Entry::Occupied(known) if self.all[*known.get()].finished => {
                Err(invalid("the provider went on after its finish reason"))
            }
            hash_map::Entry::Occupied(known) => Ok(*known.get()),
            hash_map::Entry::Vacant(_) if begun == TEXTS_AT_MOST => Err(invalid(
                "the provider answered with more texts than one answer has",
            )),
            hash_map::Entry::Vacant(new) => {
                new.insert(begun);
                self.all.push(PassingText {
                    of,
                    guard: guard.output(),
                    template: None,
                    finished: false,
                });
                Ok(begun)
            }
        }
    }
}

/// The pieces of one text in chunks that came together.
#[derive(Default)]
struct Pieces {
    whole: String,
    /// Chunk, span in it, bytes.
    places: Vec<(usize, usize, usize)>,
}

/// What was set free of a text, over pieces of these sizes: each as long as it was, the last the rest. No character is cut.
fn spread(free: &str, sizes: impl ExactSizeIterator<Item = usize>) -> impl Iterator<Item = &str> {
    let (mut rest, last) = (free, sizes.len().saturating_sub(1));
    sizes.enumerate().map(move |(nth, size)| {
        let end = if nth == last {
            rest.len()
        } else {
            rest.floor_char_boundary(size)
        };
        let (now, later) = rest.split_at(end);
        rest = later;
        now
    })
}

fn invalid(message: &'static str) -> Error {
    let kind = ErrorKind::ProviderFailed {
        code: "invalid_response",
    };
    Error::new(kind, message)
}

fn put_frame(frame: &mut BytesMut, body: &[u8]) {
    frame.put_slice(b"data: ");
    frame.put_slice(body);
    frame.put_slice(b"\n\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_free_is_spread_in_order_and_whole() {
        for (free, sizes, expected) in [
            ("", &[][..], &[][..]),
            ("ab cd", &[3, 2], &["ab ", "cd"]),
            // Held back before, held back after, masked into something longer.
            ("zab c", &[3, 2], &["zab", " c"]),
            ("ab", &[3, 2], &["ab", ""]),
            ("", &[3, 2, 1], &["", "", ""]),
            ("[email] x", &[1, 2, 1], &["[", "em", "ail] x"]),
            ("äöü", &[1, 3, 0], &["", "ä", "öü"]),
        ] {
            let parts: Vec<_> = spread(free, sizes.iter().copied()).collect();
            assert_eq!(parts, expected);
            assert!(sizes.is_empty() || parts.concat() == free);
        }
    }
}
