//! Answers as server-sent events.

use ambit_session::{Sessions, stopping};
use ambit_types::Error;
use axum::{
    body::Body,
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use futures::{Stream, StreamExt as _, stream};
use http::{HeaderName, HeaderValue, header};
use std::convert::Infallible;

/// The stream, which ends in an error when the server stops; what it comes from is let go of then.
pub(crate) fn until_stopped<T: Send + 'static>(
    sessions: &Sessions,
    stream: impl Stream<Item = Result<T, Error>> + Unpin + Send + 'static,
) -> impl Stream<Item = Result<T, Error>> + Send + 'static {
    let stream = stream.take_until(Box::pin(sessions.stopping()));
    stream::unfold(Some(stream), async |stream| {
        let mut stream = stream?;
        match stream.next().await {
            Some(piece) => Some((piece, Some(stream))),
            None => stream.take_result().map(|()| (Err(stopping()), None)),
        }
    })
}

pub(crate) fn sse(
    events: impl Stream<Item = Result<Bytes, Infallible>> + Send + 'static,
) -> Response {
    let headers = [
        (
            header::CONTENT_TYPE,
            HeaderValue::from_static("text/event-stream; charset=utf-8"),
        ),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        // For proxies of the nginx kind, which else gather the stream.
        (
            HeaderName::from_static("x-accel-buffering"),
            HeaderValue::from_static("no"),
        ),
    ];
    (headers, Body::from_stream(events)).into_response()
}
