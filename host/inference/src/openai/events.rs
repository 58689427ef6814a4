//! A streamed answer, event by event, with the rule that it ends in a finish reason or in an error.

use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use std::{
    collections::VecDeque,
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll, ready},
};

use super::transport::Answer;
use crate::{Delta, ProviderError, RawChunk, TextKind, sse, wire};

/// One event that was read.
pub(super) struct Event {
    body: Bytes,
    reading: wire::Reading,
}

impl Event {
    pub(super) fn into_raw(self, client_wants_usage: bool) -> RawChunk {
        RawChunk::new(self.body, self.reading, client_wants_usage)
    }
}

/// Ends after `[DONE]`, or with the connection when every choice was finished.
pub(super) struct Events {
    answer: Answer,
    parser: sse::Parser,
    first: Option<Event>,
    over: bool,
    /// Choices begun and ended, a bit each. Choices past 127 share the last bit.
    begun: u128,
    ended: u128,
}

impl Events {
    /// Waits for the first event, so that a provider that fails before it can be tried again.
    pub(super) async fn begin(answer: Answer, event_cap: usize) -> Result<Self, ProviderError> {
        let mut events = Self {
            answer,
            parser: sse::Parser::new(event_cap),
            first: None,
            over: false,
            begun: 0,
            ended: 0,
        };
        let first = poll_fn(|cx| events.poll_event(cx)).await;
        events.first = match first {
            Some(Ok(event)) => Some(event),
            Some(Err(ProviderError::Interrupted(source))) => {
                return Err(ProviderError::ConnectFailed(
                    source.unwrap_or_else(|| "no event before the end".into()),
                ));
            }
            Some(Err(error)) => return Err(error),
            None => return Err(ProviderError::invalid_response("stream without events")),
        };
        events.answer.begun();
        Ok(events)
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Event, ProviderError>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(first)));
        }
        if self.over {
            return Poll::Ready(None);
        }
        let next = ready!(self.poll_next_event(cx));
        self.over = !matches!(next, Some(Ok(_)));
        Poll::Ready(next)
    }

    fn poll_next_event(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Event, ProviderError>>> {
        loop {
            match self.parser.next() {
                Ok(Some(data)) if data.trim_ascii() == b"[DONE]" => {
                    return Poll::Ready(
                        (!self.finished()).then_some(Err(ProviderError::Interrupted(None))),
                    );
                }
                Ok(Some(data)) => return Poll::Ready(Some(self.read(data))),
                Ok(None) => {}
                Err(sse::TooLarge) => {
                    return Poll::Ready(Some(Err(ProviderError::TooLarge { what: "event" })));
                }
            }
            match ready!(self.answer.poll_data(cx)) {
                Some(Ok(bytes)) => self.parser.push(bytes),
                // Everything was said: what is missing is at most the usage.
                None | Some(Err(_)) if self.finished() => return Poll::Ready(None),
                None => return Poll::Ready(Some(Err(ProviderError::Interrupted(None)))),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
            }
        }
    }

    fn read(&mut self, body: Bytes) -> Result<Event, ProviderError> {
        let reading = wire::read(&body).map_err(|error| ProviderError::InvalidResponse {
            what: "event",
            source: Some(error.into()),
        })?;
        if reading.error {
            let text: String = String::from_utf8_lossy(&body).chars().take(500).collect();
            return Err(ProviderError::Interrupted(Some(text.into())));
        }
        for index in &reading.choices {
            self.begun |= 1 << (*index).min(127);
        }
        for (index, _) in &reading.finishes {
            self.ended |= 1 << (*index).min(127);
        }
        Ok(Event { body, reading })
    }

    fn finished(&self) -> bool {
        self.ended != 0 && self.begun & !self.ended == 0
    }
}

impl Stream for Events {
    type Item = Result<Event, ProviderError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_event(cx)
    }
}

/// The typed form: what choice 0 says.
pub(super) struct Deltas {
    events: Events,
    waiting: VecDeque<Delta>,
    /// Said its last word, or failed.
    finished: bool,
}

impl Deltas {
    pub(super) fn new(events: Events) -> Self {
        Self {
            events,
            waiting: VecDeque::new(),
            finished: false,
        }
    }

    fn absorb(&mut self, event: Event) {
        let Event { reading, .. } = event;
        if !self.finished {
            for span in reading
                .texts
                .into_iter()
                .filter(|span| span.index == 0 && !span.text.is_empty())
            {
                match span.kind {
                    TextKind::Content => self.waiting.push_back(Delta::Text(span.text)),
                    TextKind::Refusal => self.waiting.push_back(Delta::Refusal(span.text)),
                    TextKind::Reasoning | TextKind::ToolArguments(_) => {}
                }
            }
            self.waiting
                .extend(reading.tool_calls.into_iter().map(Delta::ToolCall));
            if let Some((_, reason)) = reading.finishes.iter().find(|(index, _)| *index == 0) {
                self.finished = true;
                self.waiting.push_back(Delta::Finish(*reason));
            }
        }
        // Some servers repeat a running count in every chunk: the one that counts comes with or after the finish.
        if let Some(usage) = reading.usage.filter(|_| self.finished) {
            self.waiting.push_back(Delta::Usage(usage));
        }
    }
}

impl Stream for Deltas {
    type Item = Result<Delta, ProviderError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(delta) = self.waiting.pop_front() {
                return Poll::Ready(Some(Ok(delta)));
            }
            match ready!(self.events.poll_next_unpin(cx)) {
                Some(Ok(event)) => self.absorb(event),
                Some(Err(error)) => {
                    self.finished = true;
                    return Poll::Ready(Some(Err(error)));
                }
                None if self.finished => return Poll::Ready(None),
                // Other choices ended, ours did not.
                None => {
                    self.finished = true;
                    return Poll::Ready(Some(Err(ProviderError::Interrupted(None))));
                }
            }
        }
    }
}
