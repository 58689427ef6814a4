//! The body of an answer: steps in time, and a note when nobody waited for the end.

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use std::{
    collections::VecDeque,
    future::Future as _,
    io,
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll, ready},
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::{script::Stamps, server::Counters};

/// One thing a body does.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    Data(Bytes),
    /// An event whose content is the time.
    Stamp(Stamps),
    Wait(Duration),
    Break,
    Hang,
}

/// Plays its steps.
pub(crate) struct Played {
    steps: VecDeque<Step>,
    /// The length, where the body is one piece known from the start.
    length: Option<u64>,
    timer: Option<Pin<Box<Sleep>>>,
    /// Waits add up from here, so that a pace is kept whatever writing costs.
    clock: Option<Instant>,
    counters: Arc<Counters>,
}

impl Played {
    pub(crate) fn whole(body: Bytes, counters: Arc<Counters>) -> Self {
        let length = Some(body.len() as u64);
        Self {
            steps: VecDeque::from([Step::Data(body)]),
            length,
            timer: None,
            clock: None,
            counters,
        }
    }

    pub(crate) fn steps(steps: VecDeque<Step>, counters: Arc<Counters>) -> Self {
        Self {
            steps,
            length: None,
            timer: None,
            clock: None,
            counters,
        }
    }
}

impl Body for Played {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        loop {
            if let Some(timer) = &mut self.timer {
                ready!(timer.as_mut().poll(cx));
                self.timer = None;
            }
            match self.steps.front() {
                None => return Poll::Ready(None),
                // Stays the front: a hanging body is unfinished for ever.
                Some(Step::Hang) => return Poll::Pending,
                Some(_) => {}
            }
            match self.steps.pop_front() {
                Some(Step::Data(bytes)) => return Poll::Ready(Some(Ok(Frame::data(bytes)))),
                Some(Step::Stamp(stamps)) => {
                    return Poll::Ready(Some(Ok(Frame::data(stamped(stamps)))));
                }
                Some(Step::Wait(wait)) => {
                    let until = self.clock.unwrap_or_else(Instant::now) + wait;
                    self.clock = Some(until);
                    self.timer = Some(Box::pin(sleep_until(until)));
                }
                Some(Step::Break) => {
                    self.steps.clear();
                    return Poll::Ready(Some(Err(io::Error::other("scripted break"))));
                }
                Some(Step::Hang) | None => {}
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.steps.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        self.length
            .map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl Drop for Played {
    fn drop(&mut self) {
        if !self.steps.is_empty() {
            self.counters.cancelled.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// An event whose content is the time.
fn stamped(stamps: Stamps) -> Bytes {
    let now = stamp('a');
    let content = match stamps {
        Stamps::Words => format!("{now} "),
        Stamps::Tokens => format!(" {now}"),
    };
    Bytes::from(format!(
        "data: {{\"id\":\"chatcmpl-mock\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\"model\":\"mock-1\",\
         \"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{content}\"}},\"finish_reason\":null}}]}}\n\n"
    ))
}

/// The time in hexadecimal digits of nanoseconds since the Unix epoch, written with sixteen letters from `first` on.
pub(crate) fn stamp(first: char) -> String {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_nanos());
    format!("{now:x}")
        .chars()
        .filter_map(|digit| char::from_u32(u32::from(first) + digit.to_digit(16)?))
        .collect()
}
