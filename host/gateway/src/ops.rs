//! The ops plane: is it alive, is it ready, what does it count. The admin API stands beside these routes, see [`crate::admin`].

use crate::{
    data::bearer,
    error::Problem,
    gateway::Gateway,
    routes::{self, Route},
    trace,
};
use ambit_types::{Error, ErrorKind, Secret};
use axum::{
    Json, Router,
    extract::FromRequestParts,
    response::{IntoResponse as _, Response},
    routing::get,
};
use http::{HeaderValue, StatusCode, header, request::Parts};
use serde_json::{Map, Value, json};
use std::time::Duration;
use tokio::time::timeout;

/// Routes besides the admin API.
pub const ROUTES: &[Route<()>] = &[
    Route {
        method: "GET",
        path: "/healthz",
        summary: "200 while the process runs",
        handler: || get(alive),
    },
    Route {
        method: "GET",
        path: "/readyz",
        summary: "200 while requests are wanted: the store answers, tenants are bound, no drain has begun; else 503 and why",
        handler: || get(ready),
    },
    Route {
        method: "GET",
        path: "/metrics",
        summary: "OpenMetrics text; off loopback it needs the admin key",
        handler: || get(metrics),
    },
];

/// A store that does not answer for this long is not reachable.
const STORE_PATIENCE: Duration = Duration::from_secs(2);

/// What every handler of this plane starts from.
#[derive(Clone)]
pub(crate) struct Scene {
    pub(crate) gateway: Gateway,
    pub(crate) loopback: bool,
}

impl<S: Sync> FromRequestParts<S> for Scene {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let scene = parts.extensions.get::<Self>().cloned();
        scene.ok_or_else(|| Problem(Error::internal("an ops route was reached without a scene")))
    }
}

/// Whether the request has the operator's key.
pub(crate) fn check_key(parts: &Parts, key: &Secret) -> Result<(), Error> {
    let given = trace::one(&parts.headers, header::AUTHORIZATION.as_str()).and_then(bearer);
    // Compared in constant time.
    match given {
        Some(given) if Secret::new(given) == *key => Ok(()),
        _ => Err(Error::new(
            ErrorKind::Unauthenticated,
            "this needs the admin key: `Authorization: Bearer …`",
        )),
    }
}

/// What to answer where no route fits.
pub(crate) fn finish(router: Router) -> Router {
    router
        .fallback(async || Problem(Error::not_found("there is no such path")))
        .method_not_allowed_fallback(async || Problem(routes::wrong_method()))
}

/// The name of the route a path belongs to, in metrics.
pub(crate) fn name_of(path: &str) -> &'static str {
    match path {
        "/healthz" => "healthz",
        "/readyz" => "readyz",
        "/metrics" => "metrics",
        _ if path.starts_with("/admin/v1/") => "admin",
        _ => "none",
    }
}

async fn alive() -> &'static str {
    "ok\n"
}

async fn ready(scene: Scene) -> Response {
    let inner = &scene.gateway.0;
    let mut checks = Map::new();
    let mut check = |name: &str, why_not: Option<&str>| {
        checks.insert(name.to_owned(), why_not.unwrap_or("ok").into());
        why_not.is_none()
    };
    let store = timeout(STORE_PATIENCE, inner.platform.store.check()).await;
    let mut ready = check(
        "draining",
        inner.draining.begun().then_some("a drain has begun"),
    );
    ready &= check(
        "store",
        if matches!(store, Ok(Ok(()))) {
            None
        } else {
            Some("does not answer")
        },
    );
    ready &= check(
        "tenants",
        inner.tenants.all().is_empty().then_some("none is bound"),
    );
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (
        status,
        Json(json!({"ready": ready, "checks": Value::Object(checks)})),
    )
        .into_response()
}

async fn metrics(scene: Scene, parts: Parts) -> Result<Response, Problem> {
    if !scene.loopback {
        check_key(&parts, &scene.gateway.0.config.admin_key)?;
    }
    let inner = &scene.gateway.0;
    inner.metrics.anchors(inner.anchors.status());
    let content_type =
        HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
    Ok((
        [(header::CONTENT_TYPE, content_type)],
        scene.gateway.0.metrics.render(),
    )
        .into_response())
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    #[test]
    fn only_the_admin_key_opens() {
        let key = Secret::new("adm_secret");
        let given = |header: Option<&str>| {
            let mut request = Request::builder();
            if let Some(header) = header {
                request = request.header("authorization", header);
            }
            check_key(&request.body(()).unwrap().into_parts().0, &key)
                .map_err(|error| error.status())
        };
        assert_eq!(given(Some("Bearer adm_secret")), Ok(()));
        for bad in [
            None,
            Some("Bearer"),
            Some("Bearer "),
            Some("Bearer adm_secre"),
            Some("Bearer adm_secret2"),
            Some("Basic adm_secret"),
        ] {
            assert_eq!(given(bad), Err(401), "{bad:?}");
        }
    }
}
