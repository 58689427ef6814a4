//! The gateway as a whole: what it is made of, and serving it.

use crate::{
    admin,
    body::{Bodies, Read},
    config::GatewayConfig,
    data,
    metrics::Metrics,
    ops,
    rate::Rates,
    routes,
    server::{self, Draining, Ended, Role},
};
use ambit_anchor::Anchors;
use ambit_session::{Platform, Sessions, Tenants};
use ambit_types::{Error, ErrorKind};
use axum::{Router, body::Body};
use http::{Request, Response};
use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

/// Data plane, admin API and ops endpoints over one platform. Cheap to clone.
#[derive(Clone)]
pub struct Gateway(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) config: GatewayConfig,
    pub(crate) platform: Platform,
    pub(crate) anchors: Anchors,
    pub(crate) tenants: Tenants,
    pub(crate) sessions: Sessions,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) rates: Rates,
    pub(crate) bodies: Bodies,
    pub(crate) draining: Draining,
    /// Where the first listener of the data plane listens, once it does.
    pub(crate) data_port: OnceLock<u16>,
    /// Both take their state from the request's extensions, see [`crate::call::Scene`].
    pub(crate) data: Router,
    pub(crate) ops: Router,
}

impl Gateway {
    /// `metrics` may hold families of other parts already; the sessions' counts go there too.
    #[must_use]
    pub fn new(
        config: GatewayConfig,
        platform: Platform,
        anchors: Anchors,
        tenants: Tenants,
        metrics: Arc<Metrics>,
    ) -> Self {
        let sessions = Sessions::new(platform.clone(), metrics.clone());
        Self(Arc::new(Inner {
            rates: Rates::new(config.rate.clone()),
            bodies: Bodies::new(config.body_budget, config.body_timeout),
            draining: Draining::default(),
            data_port: OnceLock::new(),
            data: data::finish(routes::router(data::ROUTES)),
            ops: ops::finish(routes::router(ops::ROUTES).merge(routes::router(admin::ROUTES))),
            config,
            platform,
            anchors,
            tenants,
            sessions,
            metrics,
        }))
    }

    /// Serves these listeners until `stop`, then drains as [`crate::ServerConfig`] says.
    pub async fn serve(
        &self,
        listeners: Vec<(TcpListener, Role)>,
        stop: CancellationToken,
    ) -> Ended {
        let data = listeners.iter().find(|(_, role)| *role != Role::Ops);
        if let Some(address) = data.and_then(|(data, _)| data.local_addr().ok()) {
            self.0.data_port.get_or_init(|| address.port());
        }
        let config = self.0.config.server.clone();
        server::serve(
            listeners,
            Arc::new(self.clone()),
            &self.0.draining,
            config,
            stop,
        )
        .await
    }

    /// Waits, once serving has ended, until the end of every session is in the journal, but no longer than `patience`. The number of
    /// sessions whose end is not.
    pub async fn ended(&self, patience: Duration) -> usize {
        // Those that nobody listens to have not heard of it.
        self.0.sessions.stop();
        self.0.sessions.ended(patience).await
    }

    /// Waits until no session is worked on. Nothing is stopped; what comes meanwhile is waited for too.
    pub async fn at_rest(&self) {
        self.0.sessions.ended(Duration::MAX).await;
    }

    /// Looks after sessions that nobody works on any more, for ever: ends when dropped. `alone`: no other process works on the data.
    pub async fn look_after_sessions(&self, alone: bool) {
        self.0.sessions.look_after(&self.0.tenants, alone).await;
    }

    /// Goes on saying to other processes on the same data that this one lives, for ever: ends when dropped.
    pub async fn stay_alive(&self) {
        self.0.sessions.stay_alive().await;
    }

    /// Says to other processes on the same data that this one lives.
    ///
    /// # Errors
    /// The store's.
    pub async fn say_alive(&self) -> Result<(), Error> {
        Ok(self.0.sessions.say_alive().await?)
    }

    /// Answers one request to `/admin/v1` without a network: for a command that runs the server's code in its own process. The
    /// request needs the admin key like any other.
    pub async fn admin(&self, mut request: Request<Body>) -> Response<Body> {
        request.extensions_mut().insert(ops::Scene {
            gateway: self.clone(),
            loopback: true,
        });
        infallible(self.0.ops.clone().oneshot(request).await)
    }
}

impl Inner {
    /// A data-plane body.
    pub(crate) async fn body(&self, body: Body) -> Result<Read, Error> {
        self.bodies.read(body, self.config.max_body).await
    }

    /// Whether a session may begin: where the operator bounds it, not once its anchors wait for too long.
    pub(crate) fn accountable(&self) -> Result<(), Error> {
        let since = self.anchors.status().waiting_since_ms;
        let waiting = since.map(|since| Duration::from_secs(admin::seconds_since(since)));
        match (waiting, self.config.unanchored) {
            (Some(waiting), Some(most)) if waiting > most => Err(Error::new(
                ErrorKind::Unavailable {
                    retry_after: Duration::from_secs(60),
                },
                "what is done here cannot be proven at present, so nothing new begins; try again later",
            )),
            _ => Ok(()),
        }
    }

    /// An admin body.
    pub(crate) async fn admin_body(&self, body: Body) -> Result<Read, Error> {
        self.bodies.read(body, self.config.max_admin_body).await
    }
}

pub(crate) fn infallible<T>(result: Result<T, std::convert::Infallible>) -> T {
    match result {
        Ok(value) => value,
        Err(never) => match never {},
    }
}
