//! Accepting connections, and letting go of them.
//!
//! Ends in order: readiness is withdrawn, after a pause the data listeners close, what is in flight may finish until a deadline, what is
//! left is told to say its last words (which cancels its calls upstream) and then cut, and only then the ops listener closes, so that it
//! can be asked how far things are.

use crate::{config::ServerConfig, io::Progressing, metrics::Counted};
use axum::body::Body;
use http::{Request, Response};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
};
use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// What a client gets to take in the error that ends its answer at the drain deadline.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// What a listener is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Data,
    Ops,
    /// One loopback listener for both: tenants by their host names, ops by `localhost` or a loopback address.
    Both,
}

/// Where a request came in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry {
    pub(crate) role: Role,
    /// The listener is bound to a loopback address.
    pub(crate) loopback: bool,
}

/// Answers requests; the front of everything.
pub(crate) trait Front: Send + Sync + 'static {
    fn answer(
        &self,
        entry: Entry,
        request: Request<Incoming>,
    ) -> impl Future<Output = Response<Body>> + Send;
    /// Counts a connection while the value lives.
    fn connected(&self) -> Counted;
    /// The drain deadline has passed: answers under way end now, each with an error.
    fn stop(&self);
}

/// Whether the process still wants requests.
#[derive(Debug, Default)]
pub(crate) struct Draining(AtomicBool);

impl Draining {
    pub(crate) fn begun(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    fn begin(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// How serving ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Everything in flight was answered.
    Drained,
    /// The deadline passed; this many connections were cut.
    Cut(usize),
}

/// Serves until `stop`, then drains.
pub(crate) async fn serve<F: Front>(
    listeners: Vec<(TcpListener, Role)>,
    front: Arc<F>,
    draining: &Draining,
    config: ServerConfig,
    stop: CancellationToken,
) -> Ended {
    let (ops, data): (Vec<_>, Vec<_>) = listeners
        .into_iter()
        .partition(|(_, role)| *role == Role::Ops);
    // Ops has connections of its own, so that a flood of data connections cannot hide it.
    let data = Group::start(data, &front, &config);
    let ops = Group::start(ops, &front, &config);
    stop.cancelled().await;
    draining.begin();
    sleep(config.drain_pause).await;
    let ended = data.drain(config.drain, || front.stop()).await;
    ops.drain(Duration::from_secs(1), || {}).await;
    ended
}

/// Listeners that end together, and their connections.
struct Group {
    accepting: CancellationToken,
    cut: CancellationToken,
    acceptors: TaskTracker,
    connections: TaskTracker,
}

impl Group {
    fn start<F: Front>(
        listeners: Vec<(TcpListener, Role)>,
        front: &Arc<F>,
        config: &ServerConfig,
    ) -> Self {
        let group = Self {
            accepting: CancellationToken::new(),
            cut: CancellationToken::new(),
            acceptors: TaskTracker::new(),
            connections: TaskTracker::new(),
        };
        let slots = Arc::new(Semaphore::new(config.max_connections));
        for (listener, role) in listeners {
            let loopback = listener
                .local_addr()
                .is_ok_and(|address| address.ip().is_loopback());
            let acceptor = Acceptor {
                entry: Entry { role, loopback },
                front: front.clone(),
                config: config.clone(),
                slots: slots.clone(),
                cut: group.cut.clone(),
                connections: group.connections.clone(),
            };
            let accepting = group.accepting.clone();
            group
                .acceptors
                .spawn(async move { acceptor.run(listener, accepting).await });
        }
        group
    }

    async fn drain(self, patience: Duration, stop: impl FnOnce()) -> Ended {
        self.accepting.cancel();
        self.acceptors.close();
        self.connections.close();
        if timeout(patience, self.finished()).await.is_ok() {
            return Ended::Drained;
        }
        let left = self.connections.len();
        stop();
        if timeout(LAST_WORDS, self.finished()).await.is_err() {
            self.cut.cancel();
            self.finished().await;
        }
        Ended::Cut(left)
    }

    async fn finished(&self) {
        // An acceptor ends when its last connection did.
        self.acceptors.wait().await;
        self.connections.wait().await;
    }
}

struct Acceptor<F> {
    entry: Entry,
    front: Arc<F>,
    config: ServerConfig,
    slots: Arc<Semaphore>,
    cut: CancellationToken,
    connections: TaskTracker,
}

impl<F: Front> Acceptor<F> {
    async fn run(self, listener: TcpListener, accepting: CancellationToken) {
        let graceful = GracefulShutdown::new();
        loop {
            // The slot first: with none free, the next connection waits in the kernel's bounded backlog.
            let accept = async {
                let slot = self.slots.clone().acquire_owned().await;
                (slot, listener.accept().await)
            };
            let (slot, accepted) = tokio::select! {
                () = accepting.cancelled() => break,
                accepted = accept => accepted,
            };
            let Ok(slot) = slot else { break };
            match accepted {
                Ok((stream, peer)) => {
                    let connection = self.connection(stream, peer, &graceful);
                    let cut = self.cut.clone();
                    self.connections.spawn(async move {
                        tokio::select! {
                            () = cut.cancelled() => {}
                            () = connection => {}
                        }
                        drop(slot);
                    });
                }
                Err(error) => {
                    // Out of file descriptors, mostly: others have to close first.
                    tracing::warn!(%error, "cannot accept a connection");
                    sleep(Duration::from_millis(50)).await;
                }
            }
        }
        drop(listener);
        graceful.shutdown().await;
    }

    fn connection(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
        graceful: &GracefulShutdown,
    ) -> impl Future<Output = ()> + use<F> {
        // Small writes of a stream must leave at once.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, %peer, "cannot set TCP_NODELAY");
        }
        let (entry, front) = (self.entry, self.front.clone());
        let connected = front.connected();
        let service = service_fn(move |request| {
            let front = front.clone();
            async move { Ok::<_, Infallible>(front.answer(entry, request).await) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.config.header_timeout)
            .max_headers(self.config.max_headers)
            .max_buf_size(self.config.max_head.max(8192))
            .serve_connection(
                TokioIo::new(Progressing::new(stream, self.config.write_stall)),
                service,
            );
        let watched = graceful.watch(connection);
        async move {
            if let Err(error) = watched.await {
                // A client that goes away or talks nonsense: its business, not ours.
                tracing::debug!(%error, %peer, "connection ended");
            }
            drop(connected);
        }
    }
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
