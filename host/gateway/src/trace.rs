//! A request's trace and span.

use ambit_types::{RequestId, TraceContext};
use http::{HeaderMap, Request};
use opentelemetry::{
    Context,
    trace::{SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState},
};
use std::{borrow::Cow, str::FromStr as _};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

/// A span below the caller's, where the caller sent a `traceparent` we can read; else a new trace, as W3C Trace Context asks. Where
/// spans are exported, the context names the exported one, so that what a provider records hangs below it.
pub(crate) fn begin<B>(request: &Request<B>, id: RequestId) -> (TraceContext, Span) {
    let parent = one(request.headers(), "traceparent")
        .and_then(|header| header.parse::<TraceContext>().ok())
        .map(|parent| match state(request.headers()) {
            Some(state) => parent.with_state(&state),
            None => parent,
        });
    let span = tracing::info_span!(
        "request",
        %id,
        trace = tracing::field::Empty,
        method = %request.method(),
        path = request.uri().path(),
        client_id = tracing::field::Empty,
        tenant = tracing::field::Empty,
        principal = tracing::field::Empty,
    );
    if let Some(client_id) = one(request.headers(), "x-request-id").filter(|id| sane(id)) {
        span.record("client_id", client_id);
    }
    let trace = exported(&span, parent.as_ref())
        .unwrap_or_else(|| parent.map_or_else(TraceContext::new, |parent| parent.child()));
    if !span.is_disabled() {
        span.record("trace", hex(&trace.trace));
    }
    (trace, span)
}

/// Begins the span's export below the caller's. None: no telemetry is configured, which is the normal case.
fn exported(span: &Span, parent: Option<&TraceContext>) -> Option<TraceContext> {
    if let Some(parent) = parent {
        let flags = if parent.sampled {
            TraceFlags::SAMPLED
        } else {
            TraceFlags::default()
        };
        let (trace, id) = (
            TraceId::from_bytes(parent.trace),
            SpanId::from_bytes(parent.span),
        );
        let state = parent.state.as_deref().unwrap_or_default();
        let state = TraceState::from_str(state).unwrap_or_default();
        let remote = SpanContext::new(trace, id, flags, true, state);
        span.set_parent(Context::new().with_remote_span_context(remote))
            .ok()?;
    }
    let context = span.context();
    let ours = context.span().span_context().clone();
    ours.is_valid().then(|| TraceContext {
        trace: ours.trace_id().to_bytes(),
        span: ours.span_id().to_bytes(),
        sampled: ours.is_sampled(),
        state: parent.and_then(|parent| parent.state.clone()),
    })
}

/// The caller's `tracestate`; several of them mean the same as one list.
fn state(headers: &HeaderMap) -> Option<Cow<'_, str>> {
    let mut values = headers.get_all("tracestate").iter();
    let first = Cow::Borrowed(values.next()?.to_str().ok()?);
    values.try_fold(first, |list, value| {
        Some(Cow::Owned(format!("{list},{}", value.to_str().ok()?)))
    })
}

/// The header's value where it stands exactly once and is text.
pub(crate) fn one<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}

/// Whether a client's own request id may stand in our log.
fn sane(id: &str) -> bool {
    (1..=128).contains(&id.len())
        && id
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b':'))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begin_with(headers: &[(&str, &str)]) -> TraceContext {
        let mut request = Request::builder();
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        begin(&request.body(()).unwrap(), RequestId::new()).0
    }

    #[test]
    fn continues_a_callers_trace() {
        let header = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let parent: TraceContext = header.parse().unwrap();
        let trace = begin_with(&[("traceparent", header)]);
        assert_eq!((trace.trace, trace.sampled), (parent.trace, true));
        assert_ne!(trace.span, parent.span);
    }

    #[test]
    fn a_callers_state_goes_on_with_its_trace() {
        let parent = (
            "traceparent",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        );
        let (one, two) = (("tracestate", "rojo=00f067"), ("tracestate", "congo=t61"));
        assert_eq!(
            begin_with(&[parent, one, two]).state.as_deref(),
            Some("rojo=00f067,congo=t61")
        );
        assert_eq!(begin_with(&[parent]).state, None);
        assert_eq!(begin_with(&[one]).state, None, "a new trace has none");
    }

    #[test]
    fn starts_anew_where_there_is_none_or_nonsense() {
        let header = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let parent: TraceContext = header.parse().unwrap();
        for headers in [
            &[][..],
            &[("traceparent", "x")],
            &[("traceparent", header), ("traceparent", header)],
        ] {
            assert_ne!(begin_with(headers).trace, parent.trace);
        }
    }

    #[test]
    fn foreign_ids_stay_out_of_the_log() {
        assert!(sane("req-1.a:b_C"));
        for bad in ["", "a b", "a\u{1b}[31m", "ä", &"a".repeat(129)] {
            assert!(!sane(bad), "{bad:?}");
        }
    }
}
