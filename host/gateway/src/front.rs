//! The way of every request, in order: an id and a span, then the plane its host name belongs to, then that plane's checks, then its
//! route; and of every answer: the id, and a count once its last byte is gone.

use crate::{
    data::{self, Tally},
    error::OpenAiError,
    gateway::{Gateway, infallible},
    host,
    metrics::{Counted, Metrics},
    ops,
    server::{Entry, Front, Role},
    trace,
};
use ambit_capabilities::RequestFacts;
use ambit_session::Tenant;
use ambit_types::{Error, RequestId, TraceContext};
use axum::{
    body::{Body, HttpBody},
    response::IntoResponse as _,
};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response, Uri, request::Parts};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};
use tower::ServiceExt as _;
use tracing::{Instrument as _, Span};

/// What a request is for.
enum Plane {
    Ops,
    Tenant(Arc<Tenant>),
}

/// What is known of a request from its first line on.
pub(crate) struct Begun {
    pub(crate) id: RequestId,
    pub(crate) trace: TraceContext,
    pub(crate) at: Instant,
    /// The host as the client sent it.
    pub(crate) host: String,
}

impl Front for Gateway {
    async fn answer(&self, entry: Entry, request: Request<Incoming>) -> Response<Body> {
        let (at, id) = (Instant::now(), RequestId::new());
        let (trace, span) = trace::begin(&request, id);
        let in_flight = self.0.metrics.in_flight();
        let request = request.map(Body::new);
        let (mut response, tally) = self
            .dispatch(entry, request, id, trace, at)
            .instrument(span.clone())
            .await;
        if let Ok(id) = HeaderValue::from_str(&id.to_string()) {
            response
                .headers_mut()
                .insert(HeaderName::from_static("x-request-id"), id);
        }
        let record = Record {
            metrics: self.0.metrics.clone(),
            status: response.status().as_u16(),
            tally,
            at,
            _in_flight: in_flight,
        };
        response.map(|body| {
            Body::new(Watched {
                body,
                span,
                _record: record,
            })
        })
    }

    fn connected(&self) -> Counted {
        self.0.metrics.connection()
    }

    fn stop(&self) {
        self.0.sessions.stop();
    }
}

impl Gateway {
    async fn dispatch(
        &self,
        entry: Entry,
        request: Request<Body>,
        id: RequestId,
        trace: TraceContext,
        at: Instant,
    ) -> (Response<Body>, Tally) {
        let (mut parts, body) = request.into_parts();
        let host = match host::of(&parts) {
            Ok(host) => host,
            Err(error) => return (OpenAiError(error).into_response(), Tally::default()),
        };
        match self.plane(entry, &host, &mut parts).await {
            Ok(Plane::Ops) => {
                let tally = Tally {
                    route: ops::name_of(parts.uri.path()),
                    ..Tally::default()
                };
                parts.extensions.insert(ops::Scene {
                    gateway: self.clone(),
                    loopback: entry.loopback,
                });
                let request = Request::from_parts(parts, body);
                (infallible(self.0.ops.clone().oneshot(request).await), tally)
            }
            Ok(Plane::Tenant(tenant)) => {
                data::answer(
                    self,
                    tenant,
                    Begun {
                        id,
                        trace,
                        at,
                        host,
                    },
                    parts,
                    body,
                )
                .await
            }
            Err(error) => (OpenAiError(error).into_response(), Tally::default()),
        }
    }

    /// Which plane a request is for; takes `/t/{tenant}` off its path.
    async fn plane(&self, entry: Entry, host: &str, parts: &mut Parts) -> Result<Plane, Error> {
        let ours = entry.loopback && host::is_loopback(host);
        match entry.role {
            // A listener of its own may have any address or name, only not a tenant's.
            Role::Ops if host::is_loopback(host) || host::is_address(host) => Ok(Plane::Ops),
            Role::Ops => match self.tenant_of(host, parts).await {
                Ok(_) => Err(nobody()),
                Err(_) => Ok(Plane::Ops),
            },
            Role::Data | Role::Both if ours => {
                if let Some((slug, rest)) = host::tenant_path(parts.uri.path()) {
                    let tenant = self.0.tenants.by_slug(slug).ok_or_else(nobody)?;
                    parts.uri = below(&parts.uri, rest)?;
                    return Ok(Plane::Tenant(tenant));
                }
                if entry.role == Role::Both {
                    Ok(Plane::Ops)
                } else {
                    Err(nobody())
                }
            }
            Role::Data | Role::Both => self.tenant_of(host, parts).await.map(Plane::Tenant),
        }
    }

    async fn tenant_of(&self, host: &str, parts: &Parts) -> Result<Arc<Tenant>, Error> {
        let router = self.0.tenants.router();
        let route = match router.cached(host) {
            Some(route) => route?,
            None => router.route(&facts(parts, host)).await?,
        };
        self.0.tenants.by_id(route.tenant).ok_or_else(nobody)
    }
}

/// What components may know of a request.
pub(crate) fn facts(parts: &Parts, host: &str) -> RequestFacts {
    RequestFacts {
        method: parts.method.as_str().to_owned(),
        host: host.to_owned(),
        path: parts.uri.path().to_owned(),
    }
}

/// The same words for an unknown host, an unknown tenant and an ops path on a tenant's host.
pub(crate) fn nobody() -> Error {
    Error::not_found("there is nothing here under this name")
}

/// `uri` with another path and its own query.
fn below(uri: &Uri, path: &str) -> Result<Uri, Error> {
    let query = uri
        .query()
        .map(|query| format!("?{query}"))
        .unwrap_or_default();
    format!("{path}{query}").parse().map_err(Error::internal)
}

/// Counts a request when its answer is gone, however it ended.
struct Record {
    metrics: Arc<Metrics>,
    status: u16,
    tally: Tally,
    at: Instant,
    _in_flight: Counted,
}

impl Drop for Record {
    fn drop(&mut self) {
        let Tally {
            tenant,
            agent,
            route,
        } = &self.tally;
        self.metrics.request(
            tenant.as_deref(),
            agent.as_deref(),
            route,
            self.status,
            self.at.elapsed(),
        );
    }
}

/// An answer's body inside its request's span, with what has to happen after its last byte.
struct Watched {
    body: Body,
    span: Span,
    _record: Record,
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = &mut *self;
        let _entered = this.span.enter();
        Pin::new(&mut this.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
