//! From a name to addresses that may be connected to.
//!
//! What touches the network is behind [`Network`], so that tests decide what a name means and who answers at an address.

use ambit_policy::names_loopback;
use futures::future::BoxFuture;
use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs as _},
    sync::Arc,
};
use tokio::{net::TcpStream, sync::Semaphore};
use url::{Host, Url};

use crate::{EgressError, Slot, is_public};

/// Looks names up and opens connections. It decides nothing: addresses are checked between the two.
pub trait Network: Send + Sync + 'static {
    /// The addresses of `host`, a lower-case name without a trailing dot. `slot` is held for as long as the look-up takes, also when
    /// nobody waits for it any more.
    fn resolve(&self, host: String, slot: Slot) -> BoxFuture<'_, io::Result<Vec<IpAddr>>>;

    /// A connection to a checked address.
    fn connect(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<TcpStream>> {
        Box::pin(TcpStream::connect(address))
    }
}

/// The operating system's: `getaddrinfo` on the blocking threads, and TCP.
pub struct SystemNetwork {
    threads: Arc<Semaphore>,
}

impl Default for SystemNetwork {
    fn default() -> Self {
        // Well below tokio's 512 blocking threads, which serve files too.
        Self {
            threads: Arc::new(Semaphore::new(128)),
        }
    }
}

impl Network for SystemNetwork {
    fn resolve(&self, host: String, slot: Slot) -> BoxFuture<'_, io::Result<Vec<IpAddr>>> {
        Box::pin(async move {
            let thread = Arc::clone(&self.threads)
                .acquire_owned()
                .await
                .map_err(io::Error::other)?;
            tokio::task::spawn_blocking(move || {
                let _held = (slot, thread);
                (host.as_str(), 0)
                    .to_socket_addrs()
                    .map(|addresses| addresses.map(|address| address.ip()).collect())
            })
            .await
            .map_err(io::Error::other)?
        })
    }
}

/// How many addresses of a name are tried.
const MOST_ADDRESSES: usize = 4;

/// Addresses for `url`, every one of them checked. One address that is not public refuses them all: a public name with a private
/// address is an attack or a mistake.
pub(crate) async fn checked(
    network: &dyn Network,
    url: &Url,
    slot: &Slot,
) -> Result<Vec<SocketAddr>, EgressError> {
    let port = url
        .port_or_known_default()
        .ok_or(EgressError::Invalid("the URL has no port"))?;
    let mut addresses = match url.host() {
        // The permit for such a URL proves that every layer names loopback. Not resolved (RFC 6761 §6.3), so it is loopback.
        Some(Host::Domain(_)) if names_loopback(url) => {
            return Ok(vec![
                (Ipv4Addr::LOCALHOST, port).into(),
                (Ipv6Addr::LOCALHOST, port).into(),
            ]);
        }
        Some(Host::Ipv4(ip)) if names_loopback(url) => return Ok(vec![(ip, port).into()]),
        Some(Host::Ipv6(ip)) if names_loopback(url) => return Ok(vec![(ip, port).into()]),
        Some(Host::Domain(name)) => {
            let name = name.strip_suffix('.').unwrap_or(name);
            network
                .resolve(name.to_owned(), slot.looking_up().await?)
                .await
                .map_err(|error| {
                    tracing::debug!(
                        host = name,
                        error = &error as &dyn std::error::Error,
                        "name does not resolve"
                    );
                    EgressError::Unreachable { blocked: false }
                })?
        }
        Some(Host::Ipv4(ip)) => vec![ip.into()],
        Some(Host::Ipv6(ip)) => vec![ip.into()],
        None => return Err(EgressError::Invalid("the URL has no host")),
    };
    if let Some(address) = addresses.iter().find(|address| !is_public(**address)) {
        // Not louder: a guest may ask as often as it likes, and is not charged for what the host logs.
        tracing::debug!(host = url.host_str(), %address, "name resolves to an address that is never reached");
        return Err(EgressError::Unreachable { blocked: true });
    }
    if addresses.is_empty() {
        return Err(EgressError::Unreachable { blocked: false });
    }
    addresses.truncate(MOST_ADDRESSES);
    Ok(addresses
        .into_iter()
        .map(|address| SocketAddr::new(address, port))
        .collect())
}
