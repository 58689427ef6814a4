//! The data plane of one tenant: who calls, at what rate, and which route.

use crate::{
    approvals,
    error::OpenAiError,
    front::{self, Begun, nobody},
    gateway::{Gateway, Inner, infallible},
    openai::{chat, models, moderation, search},
    routes::{self, Route},
    sessions, tokens, trace,
};
use ambit_policy::token::{Mode, is_token};
use ambit_session::Tenant;
use ambit_types::{CallContext, Error, ErrorKind, Scope, TenantSlug};
use axum::{
    Router,
    body::Body,
    extract::FromRequestParts,
    response::IntoResponse as _,
    routing::{delete, get, post},
};
use http::{HeaderName, HeaderValue, Request, Response, header, request::Parts};
use std::{sync::Arc, time::Instant};
use tower::ServiceExt as _;

/// Every route of a tenant's host.
pub const ROUTES: &[Route<()>] = &[
    Route {
        method: "POST",
        path: "/v1/chat/completions",
        summary: "a request to an agent, or to `provider/model`",
        handler: || post(chat::create),
    },
    Route {
        method: "GET",
        path: "/v1/models",
        summary: "agents and models the caller may name",
        handler: || get(models::list),
    },
    Route {
        method: "GET",
        path: "/v1/models/{*id}",
        summary: "one of them",
        handler: || get(models::show),
    },
    Route {
        method: "POST",
        path: "/v1/moderations",
        summary: "the guardrail's verdict on texts",
        handler: || post(moderation::create),
    },
    Route {
        method: "POST",
        path: "/v1/vector_stores/{collection}/search",
        summary: "passages of a collection",
        handler: || post(search::create),
    },
    Route {
        method: "POST",
        path: "/v1/sessions",
        summary: "opens a durable session: `{agent, input, metadata?, budget?, idempotency_key?}`",
        handler: || post(sessions::create),
    },
    Route {
        method: "GET",
        path: "/v1/sessions",
        summary: "the caller's durable sessions, newest first: `?before=&limit=`",
        handler: || get(sessions::list),
    },
    Route {
        method: "GET",
        path: "/v1/sessions/{session}",
        summary: "one of the caller's sessions, with its last answer",
        handler: || get(sessions::show),
    },
    Route {
        method: "GET",
        path: "/v1/sessions/{session}/events",
        summary: "its journal as server-sent events, as it grows: `?kind=`, `Last-Event-ID`",
        handler: || get(sessions::events),
    },
    Route {
        method: "POST",
        path: "/v1/sessions/{session}/messages",
        summary: "the next message for a session that waits: `{input}`",
        handler: || post(sessions::message),
    },
    Route {
        method: "POST",
        path: "/v1/sessions/{session}/resume",
        summary: "goes on with a session whose turn failed, from its last event",
        handler: || post(sessions::resume),
    },
    Route {
        method: "POST",
        path: "/v1/sessions/{session}/cancel",
        summary: "ends a session",
        handler: || post(sessions::cancel),
    },
    Route {
        method: "GET",
        path: "/v1/approvals",
        summary: "what the tenant's agents wait for somebody to approve of, newest first; needs the scope `approve`: `?state=&before=&limit=`",
        handler: || get(approvals::list),
    },
    Route {
        method: "GET",
        path: "/v1/approvals/{approval}",
        summary: "one of them, decided ones too",
        handler: || get(approvals::show),
    },
    Route {
        method: "POST",
        path: "/v1/approvals/{approval}/approve",
        summary: "approves of one call: `{reason?}`; with the last decision its session goes on",
        handler: || post(approvals::approve),
    },
    Route {
        method: "POST",
        path: "/v1/approvals/{approval}/deny",
        summary: "refuses it: `{reason?}`, which the agent is told",
        handler: || post(approvals::deny),
    },
    Route {
        method: "POST",
        path: "/v1/tokens",
        summary: "a capability token that holds no more than the credential: `{scopes?, grants?, budget?, expires_in?, agent?, session?}`",
        handler: || post(tokens::create),
    },
    Route {
        method: "DELETE",
        path: "/v1/tokens/{token}",
        summary: "ends a token, and what was delegated from it",
        handler: || delete(tokens::revoke),
    },
];

/// Says that capability tokens are not enforced.
const TOKENS: HeaderName = HeaderName::from_static("x-ambit-tokens");

/// Under which names a request is counted.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) tenant: Option<TenantSlug>,
    pub(crate) agent: Option<Arc<str>>,
    pub(crate) route: &'static str,
}

/// The agent a request turned out to be for; handlers put it into their answer's extensions.
#[derive(Debug, Clone)]
pub(crate) struct AgentTally(pub(crate) Arc<str>);

/// An authenticated call with the tenant as it was when the call began.
#[derive(Clone)]
pub(crate) struct Call {
    pub(crate) gateway: Arc<Inner>,
    pub(crate) tenant: Arc<Tenant>,
    pub(crate) context: CallContext,
    pub(crate) at: Instant,
}

impl Call {
    pub(crate) fn require(&self, scope: Scope) -> Result<(), Error> {
        if self.context.principal.may(scope) {
            Ok(())
        } else {
            Err(Error::forbidden(format!(
                "the credential lacks the scope `{}`",
                scope.as_str()
            )))
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Call {
    type Rejection = OpenAiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, OpenAiError> {
        parts
            .extensions
            .remove()
            .ok_or_else(|| OpenAiError(Error::internal("a data route was reached without a call")))
    }
}

/// What to answer where no route fits.
pub(crate) fn finish(router: Router) -> Router {
    router
        .fallback(async || OpenAiError(nobody()))
        .method_not_allowed_fallback(async || OpenAiError(routes::wrong_method()))
}

/// Answers a request to a tenant.
pub(crate) async fn answer(
    gateway: &Gateway,
    tenant: Arc<Tenant>,
    begun: Begun,
    mut parts: Parts,
    body: Body,
) -> (Response<Body>, Tally) {
    let mut tally = Tally {
        tenant: Some(tenant.slug.clone()),
        agent: None,
        route: name_of(parts.uri.path()),
    };
    // Before any question of credentials: what is not of this plane does not exist here.
    if tally.route == "none" {
        return (OpenAiError(nobody()).into_response(), tally);
    }
    let call = match identify(gateway, tenant, begun, &parts).await {
        Ok(call) => call,
        Err(error) => return (OpenAiError(error).into_response(), tally),
    };
    let standing = gateway.0.rates.count(&call.context);
    let mut response = if let Some(error) = standing.and_then(|standing| standing.refusal()) {
        OpenAiError(error).into_response()
    } else {
        parts.extensions.insert(call);
        let request = Request::from_parts(parts, body);
        infallible(gateway.0.data.clone().oneshot(request).await)
    };
    if let Some(standing) = standing {
        standing.write(response.headers_mut());
    }
    // What is not enforced is said in every answer.
    if let Some(tokens) = &gateway.0.platform.tokens
        && tokens.mode() != Mode::Enforced
    {
        let mode = HeaderValue::from_static(tokens.mode().as_str());
        response.headers_mut().insert(TOKENS, mode);
    }
    tally.agent = response
        .extensions_mut()
        .remove()
        .map(|AgentTally(agent)| agent);
    (response, tally)
}

/// Who calls?
async fn identify(
    gateway: &Gateway,
    tenant: Arc<Tenant>,
    begun: Begun,
    request: &Parts,
) -> Result<Call, Error> {
    let credential = trace::one(&request.headers, header::AUTHORIZATION.as_str())
        .and_then(bearer)
        .ok_or_else(|| {
            Error::new(
                ErrorKind::Unauthenticated,
                "this needs a credential: `Authorization: Bearer …`",
            )
        })?;
    let tokens = gateway.0.platform.tokens.as_ref();
    let principal = if let Some(principal) = tenant.authenticator.cached(credential) {
        principal
    } else if let Some(tokens) = tokens.filter(|_| is_token(credential)) {
        tokens.principal(&tenant, credential)?
    } else {
        let facts = front::facts(request, &begun.host);
        let authenticator = &tenant.authenticator;
        authenticator.authenticate(credential, &facts).await?
    };
    let context = CallContext {
        tenant: tenant.id,
        tenant_slug: tenant.slug.clone(),
        principal,
        request: begun.id,
        session: None,
        agent: None,
        cpu: None,
        trace: begun.trace,
        deadline: begun.at + gateway.0.config.deadline,
    };
    let span = tracing::Span::current();
    span.record("tenant", tenant.slug.as_str());
    span.record("principal", context.principal.id.as_str());
    Ok(Call {
        gateway: gateway.0.clone(),
        tenant,
        context,
        at: begun.at,
    })
}

/// The credential after `Bearer `, whose letters may have any case (RFC 9110 §11.1).
pub(crate) fn bearer(header: &str) -> Option<&str> {
    let (scheme, credential) = header.split_once(' ')?;
    let credential = credential.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !credential.is_empty()).then_some(credential)
}

/// The name of the route a path belongs to, in metrics; `none` where there is none.
fn name_of(path: &str) -> &'static str {
    match path.strip_prefix("/v1/") {
        Some("chat/completions") => "chat",
        Some("moderations") => "moderations",
        Some(rest) if rest == "sessions" || rest.starts_with("sessions/") => "sessions",
        Some(rest) if rest == "approvals" || rest.starts_with("approvals/") => "approvals",
        Some(rest) if rest == "tokens" || rest.starts_with("tokens/") => "tokens",
        Some(rest) if rest == "models" || rest.starts_with("models/") => "models",
        Some(rest) if rest.starts_with("vector_stores/") && rest.ends_with("/search") => "search",
        _ => "none",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials() {
        for (header, expected) in [
            ("Bearer abc", Some("abc")),
            ("bearer  abc ", Some("abc")),
            ("Bearer ", None),
            ("Bearer", None),
            ("Basic abc", None),
            ("", None),
        ] {
            assert_eq!(bearer(header), expected, "{header}");
        }
    }

    #[test]
    fn every_route_has_its_name_and_nothing_else_has_one() {
        for route in ROUTES {
            let path = route
                .path
                .replace("{*id}", "a/b")
                .replace("{token}", "tok_1")
                .replace("{session}", "ses_1")
                .replace("{approval}", "apr_1")
                .replace("{collection}", "docs");
            assert_ne!(name_of(&path), "none", "{path}");
        }
        for path in [
            "/",
            "/healthz",
            "/readyz",
            "/metrics",
            "/admin/v1/tenants",
            "/t/acme/v1/models",
            "/v1",
            "/v1/files",
            "/V1/models",
        ] {
            assert_eq!(name_of(path), "none", "{path}");
        }
    }
}
