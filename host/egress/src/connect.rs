//! One connection to a checked address, for one exchange.

use hyper::{
    Uri,
    client::conn::http1,
    rt::{Read, Write},
};
use hyper_rustls::{ConfigBuilderExt as _, HttpsConnector};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use std::{io, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{net::TcpStream, task::JoinHandle};
use tower::Service as _;
use url::Url;

use crate::{EgressError, Network, Phase, body::OutgoingBody, closing::Closing};

/// How long the parts of an exchange may take. The call's deadline cuts all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// Look-up, connection and TLS together.
    pub connect: Duration,
    /// From the connection to the end of the answer's headers.
    pub first_byte: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            first_byte: Duration::from_secs(30),
        }
    }
}

impl Timeouts {
    /// The shorter of what a guest asks for and the defaults.
    #[must_use]
    pub fn asked(connect: Option<Duration>, first_byte: Option<Duration>) -> Self {
        let most = Self::default();
        Self {
            connect: connect.map_or(most.connect, |asked| asked.min(most.connect)),
            first_byte: first_byte.map_or(most.first_byte, |asked| asked.min(most.first_byte)),
        }
    }
}

/// Largest header block of an answer, in bytes.
const MAX_HEADER_BYTES: usize = 32 << 10;
/// How much is read ahead of the guest.
const MAX_BUFFER_BYTES: usize = 64 << 10;
const MAX_HEADERS: usize = 100;

pub(crate) trait Stream: Read + Write + Send + Unpin {}
impl<S: Read + Write + Send + Unpin> Stream for S {}

pub(crate) async fn timed<T>(
    most: Duration,
    phase: Phase,
    work: impl Future<Output = Result<T, EgressError>>,
) -> Result<T, EgressError> {
    tokio::time::timeout(most, work)
        .await
        .unwrap_or(Err(EgressError::Timeout(phase)))
}

pub(crate) fn tls_config() -> Result<Arc<ClientConfig>, rustls::Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_webpki_roots()
        .with_no_client_auth();
    // A resumed session would tell a server that two tenants share a host, and is of no use without a pool.
    config.resumption = rustls::client::Resumption::disabled();
    Ok(Arc::new(config))
}

/// Connects to the first address that answers. TLS, where the URL asks for it, is with the URL's name.
pub(crate) async fn open(
    network: &dyn Network,
    addresses: &[SocketAddr],
    url: &Url,
    tls: Arc<ClientConfig>,
) -> Result<Box<dyn Stream>, EgressError> {
    let stream = TokioIo::new(dial(network, addresses).await.map_err(|error| {
        tracing::debug!(
            host = url.host_str(),
            error = &error as &dyn std::error::Error,
            "connection failed"
        );
        EgressError::Connect
    })?);
    if url.scheme() != "https" {
        return Ok(Box::new(stream));
    }
    // The connector asks for a service that connects; ours hands over the connection that is there already.
    let mut stream = Some(stream);
    let pinned = tower::service_fn(move |_: Uri| {
        let stream = stream.take();
        async move { stream.ok_or_else(|| io::Error::other("one connection, one use")) }
    });
    let host = url.host_str().unwrap_or_default();
    let uri = format!("https://{}/", host.strip_suffix('.').unwrap_or(host)).parse::<Uri>();
    let uri = uri.map_err(|_| EgressError::Invalid("the host cannot be named in TLS"))?;
    match HttpsConnector::from((pinned, tls)).call(uri).await {
        Ok(stream) => Ok(Box::new(stream)),
        Err(error) => {
            tracing::debug!(
                host,
                error = &*error as &dyn std::error::Error,
                "TLS failed"
            );
            Err(EgressError::Tls)
        }
    }
}

async fn dial(network: &dyn Network, addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    /// Before the next address gets its turn.
    const PATIENCE: Duration = Duration::from_secs(2);
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in addresses {
        match tokio::time::timeout(PATIENCE, network.connect(*address)).await {
            Ok(Ok(stream)) => {
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Ok(Err(error)) => last = error,
            Err(_) => last = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(last)
}

/// The task that moves bytes for one connection. Dropped, it ends, and its connection is closed: a call that ends takes its connections
/// along.
pub(crate) struct Driver {
    task: JoinHandle<()>,
    connection: Closing,
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.task.abort();
        self.connection.close();
    }
}

pub(crate) async fn handshake(
    stream: Box<dyn Stream>,
) -> Result<(http1::SendRequest<OutgoingBody>, Driver), EgressError> {
    let stream = Closing::new(stream);
    let (sender, connection) = http1::Builder::new()
        .max_buf_size(MAX_BUFFER_BYTES)
        .max_header_size(MAX_HEADER_BYTES)
        .max_headers(MAX_HEADERS)
        .handshake(stream.clone())
        .await
        .map_err(EgressError::from_hyper)?;
    #[allow(clippy::disallowed_methods, reason = "the task ends with its `Driver`")]
    let task = tokio::spawn(async move {
        // The same failure reaches whoever waits for the answer or reads its body.
        if let Err(error) = connection.await {
            tracing::debug!(
                error = &error as &dyn std::error::Error,
                "outbound connection ended"
            );
        }
    });
    let connection = stream;
    Ok((sender, Driver { task, connection }))
}
