//! What an operator may set about listeners and caps.

use crate::rate::RateConfig;
use ambit_types::Secret;
use std::time::Duration;

/// Everything the gateway reads. The command line parses it from `ambit.toml`.
#[derive(Debug, Clone)]
pub struct GatewayConfig {
    pub server: ServerConfig,
    pub rate: RateConfig,
    /// Bytes of a data-plane request body. Larger: 413.
    pub max_body: usize,
    /// Bytes of an admin request body: documents come in batches, components whole.
    pub max_admin_body: usize,
    /// Bytes of request bodies held at once, all connections together. More: 503.
    pub body_budget: usize,
    /// Time a body may take to arrive.
    pub body_timeout: Duration,
    /// Time an answer may take as a whole; the deadline in every call context.
    pub deadline: Duration,
    /// A comment on a stream that was silent for this long, so that proxies between do not close it.
    pub heartbeat: Duration,
    /// Sessions begin for so long while anchors cannot be put where they are kept. None: however long.
    pub unanchored: Option<Duration>,
    /// The operator's key for `/admin/v1`, and for `/metrics` off loopback.
    pub admin_key: Secret,
}

impl GatewayConfig {
    #[must_use]
    pub fn new(admin_key: Secret) -> Self {
        Self {
            server: ServerConfig::default(),
            rate: RateConfig::default(),
            max_body: 8 << 20,
            max_admin_body: 64 << 20,
            body_budget: 256 << 20,
            body_timeout: Duration::from_secs(30),
            deadline: Duration::from_secs(300),
            heartbeat: Duration::from_secs(15),
            unanchored: None,
            admin_key,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerConfig {
    /// Time a request head may take, counted anew for each request of a connection.
    pub header_timeout: Duration,
    pub max_headers: usize,
    /// Bytes of a request head; at least 8 KiB.
    pub max_head: usize,
    /// Open connections of the data listeners together, and of the ops listeners together.
    pub max_connections: usize,
    /// How long a client may leave an answer unread.
    pub write_stall: Duration,
    /// Between not ready and no longer accepting, for load balancers that poll.
    pub drain_pause: Duration,
    /// What requests in flight get to finish.
    pub drain: Duration,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            header_timeout: Duration::from_secs(10),
            max_headers: 64,
            max_head: 32 << 10,
            max_connections: 8192,
            write_stall: Duration::from_secs(30),
            drain_pause: Duration::ZERO,
            drain: Duration::from_secs(25),
        }
    }
}
