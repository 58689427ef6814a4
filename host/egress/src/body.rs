//! Bodies on their way out and in: every byte charged, nothing past the deadline, no secret's value delivered.

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode, header};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt as _, combinators::UnsyncBoxBody};
use hyper::body::Incoming;
use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::time::{Instant, Sleep};

use crate::{
    BoxError, EgressError, Phase, Scope, Slot,
    connect::Driver,
    request::{header_bytes, strip_hop_by_hop},
    secrets::Scan,
};

/// The body of a request. Trailers are dropped: they could hold anything a header may not.
pub(crate) struct OutgoingBody {
    inner: UnsyncBoxBody<Bytes, EgressError>,
    scope: Scope,
}

impl OutgoingBody {
    pub(crate) fn new<B>(scope: Scope, body: B) -> Self
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let inner = body.map_err(|error| {
            tracing::debug!(
                error = &*error.into() as &dyn std::error::Error,
                "request body failed"
            );
            EgressError::RequestBody
        });
        Self {
            inner: inner.boxed_unsync(),
            scope,
        }
    }
}

impl Body for OutgoingBody {
    type Data = Bytes;
    type Error = EgressError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, EgressError>>> {
        let Some(frame) = ready!(Pin::new(&mut self.inner).poll_frame(cx)).transpose()? else {
            return Poll::Ready(None);
        };
        let Ok(data) = frame.into_data() else {
            return Poll::Ready(None);
        };
        self.scope.charge(data.len())?;
        Poll::Ready(Some(Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// The body of an answer. Holds the connection and its slot until dropped.
pub struct ResponseBody {
    inner: Incoming,
    /// None when the call has no secrets, or everything is delivered.
    scan: Option<Scan>,
    scope: Scope,
    deadline: Pin<Box<Sleep>>,
    state: State,
    /// Before the slot: its connection is closed when the slot is free.
    _driver: Driver,
    _slot: Slot,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    Done,
}

/// Checks the answer's head and wraps its body.
pub(crate) fn receive(
    scope: &Scope,
    answer: Response<Incoming>,
    driver: Driver,
    slot: Slot,
) -> Result<Response<ResponseBody>, EgressError> {
    let (mut parts, inner) = answer.into_parts();
    if parts.status == StatusCode::SWITCHING_PROTOCOLS {
        return Err(EgressError::Protocol);
    }
    scope.charge(header_bytes(&parts.headers))?;
    strip_hop_by_hop(&mut parts.headers);
    let scan = scope.secrets.scan();
    if let Some(scan) = &scan {
        check_head(scan, parts.status, &parts.headers)?;
    }
    let deadline = Box::pin(tokio::time::sleep_until(Instant::from_std(scope.deadline)));
    let body = ResponseBody {
        inner,
        scan,
        scope: scope.clone(),
        deadline,
        state: State::Open,
        _driver: driver,
        _slot: slot,
    };
    Ok(Response::from_parts(parts, body))
}

fn check_head(scan: &Scan, status: StatusCode, headers: &HeaderMap) -> Result<(), EgressError> {
    // We asked for no part; one all the same could be a part of the value.
    if status == StatusCode::PARTIAL_CONTENT {
        return Err(EgressError::SecretEchoed);
    }
    // We asked for no encoding; one all the same could hide the value from the scan.
    let plain = headers
        .get_all(header::CONTENT_ENCODING)
        .iter()
        .all(|value| value.as_bytes().eq_ignore_ascii_case(b"identity"));
    let clean = headers.iter().all(|(name, value)| {
        !scan.finds(name.as_str().as_bytes()) && !scan.finds(value.as_bytes())
    });
    if plain && clean {
        Ok(())
    } else {
        Err(EgressError::SecretEchoed)
    }
}

impl fmt::Debug for ResponseBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Nothing of the content.
        f.debug_struct("ResponseBody")
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

impl ResponseBody {
    fn next_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, EgressError>>> {
        if self.deadline.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Some(Err(EgressError::Timeout(Phase::Call))));
        }
        loop {
            let Some(frame) = ready!(Pin::new(&mut self.inner).poll_frame(cx)) else {
                let rest = self
                    .scan
                    .take()
                    .map(Scan::finish)
                    .filter(|rest| !rest.is_empty());
                return Poll::Ready(rest.map(Ok));
            };
            // Trailers are dropped, as on the way out.
            let Ok(data) = frame.map_err(EgressError::from_hyper)?.into_data() else {
                continue;
            };
            self.scope.charge(data.len())?;
            let released = match &mut self.scan {
                Some(scan) => scan.push(data)?,
                None => data,
            };
            if !released.is_empty() {
                return Poll::Ready(Some(Ok(released)));
            }
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = EgressError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, EgressError>>> {
        if self.state == State::Done {
            return Poll::Ready(None);
        }
        let next = ready!(self.next_data(cx));
        if !matches!(next, Some(Ok(_))) {
            self.state = State::Done;
        }
        Poll::Ready(next.map(|data| data.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.state == State::Done || (self.scan.is_none() && self.inner.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        // Bytes held back by the scan are not in `inner` any more.
        if self.scan.is_none() {
            self.inner.size_hint()
        } else {
            SizeHint::default()
        }
    }
}
