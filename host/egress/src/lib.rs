//! Outbound HTTP of components and of the host itself (JWKS), for granted origins only.
//!
//! One exchange goes through these steps, in this order, and each may refuse:
//!
//! 1. *request*: the guest's URI is parsed by the one URL parser policy uses, the [`Ambit`](ambit_policy::Ambit) is asked, and what is
//!    sent is written from the checked URL, never from the guest's text; hop-by-hop, `Host` and proxy headers are ours.
//! 2. *secrets*: placeholders in header values become values where the ambit agrees on header and origin.
//! 3. *resolve*: we resolve the name, **every** address must be public, and the connection goes to a checked address: nobody resolves
//!    the name again (DNS rebinding). TLS and `Host` still use the name.
//! 4. *connect and send*: one connection per exchange. No pool: tenants must not meet in one, and a pinned address must not outlive
//!    its check.
//! 5. *answer*: header and body are bounded, charged to the call, cut at its deadline and scanned for the secrets' values.
//!
//! A redirect is an answer like any other: the guest asks again and is checked again. [`Egress::get`] does that for the host.
//!
//! Loopback is reached only by a URL that names it, which the ambit allows only where every layer wrote it out
//! ([`ambit_policy::names_loopback`]). No other blocked range can be reached at all.

mod address;
mod body;
mod closing;
mod connect;
mod error;
mod get;
mod network;
mod request;
mod scope;
mod secrets;

pub use address::is_public;
pub use body::ResponseBody;
pub use connect::Timeouts;
pub use error::{BoxError, EgressError, Phase};
pub use get::Document;
pub use network::{Network, SystemNetwork};
pub use scope::{Budget, Connections, Meter, Scope, Shares, Slot, Spent};
pub use secrets::{BadSecret, Handles, SecretValue};

use bytes::Bytes;
use http::{Request, Response};
use rustls::ClientConfig;
use std::sync::Arc;
use tokio::time::Instant;

/// The way out. Cheap to clone; one for the whole process.
#[derive(Clone)]
pub struct Egress {
    network: Arc<dyn Network>,
    tls: Arc<ClientConfig>,
}

impl Egress {
    /// Names from the operating system, certificates against Mozilla's roots (compiled in, so that they are the same everywhere).
    ///
    /// # Errors
    /// When the cryptography library cannot provide TLS 1.2 and 1.3.
    pub fn new() -> Result<Self, rustls::Error> {
        Ok(Self::with(
            Arc::new(SystemNetwork::default()),
            connect::tls_config()?,
        ))
    }

    /// TLS 1.2 and 1.3 against Mozilla's roots.
    ///
    /// # Errors
    /// As [`Egress::new`].
    pub fn public_roots() -> Result<Arc<ClientConfig>, rustls::Error> {
        connect::tls_config()
    }

    /// With another network or other roots: for tests and for installations with a certificate authority of their own.
    #[must_use]
    pub fn with(network: Arc<dyn Network>, tls: Arc<ClientConfig>) -> Self {
        Self { network, tls }
    }

    /// Carries out one exchange. `request` has an absolute URI. The answer's body holds the connection and its slots until dropped.
    ///
    /// # Errors
    /// See [`EgressError`]; its text is fit for the guest. Nothing was sent for `Denied`, `Invalid`, `Unreachable` and `Busy`.
    pub async fn send<B>(
        &self,
        scope: &Scope,
        request: Request<B>,
        timeouts: Timeouts,
    ) -> Result<Response<ResponseBody>, EgressError>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let deadline = Instant::from_std(scope.deadline);
        tokio::time::timeout_at(deadline, self.exchange(scope, request, timeouts))
            .await
            .unwrap_or(Err(EgressError::Timeout(Phase::Call)))
    }

    async fn exchange<B>(
        &self,
        scope: &Scope,
        request: Request<B>,
        timeouts: Timeouts,
    ) -> Result<Response<ResponseBody>, EgressError>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let prepared = request::prepare(scope, request)?;
        let slot = scope.connect()?;
        let connected = connect::timed(timeouts.connect, Phase::Connect, async {
            let addresses = network::checked(&*self.network, &prepared.url, &slot).await?;
            connect::open(
                &*self.network,
                &addresses,
                &prepared.url,
                Arc::clone(&self.tls),
            )
            .await
        });
        let (mut sender, driver) = connect::handshake(connected.await?).await?;
        let answer = connect::timed(timeouts.first_byte, Phase::FirstByte, async {
            sender
                .send_request(prepared.message)
                .await
                .map_err(EgressError::from_hyper)
        });
        body::receive(scope, answer.await?, driver, slot)
    }
}
