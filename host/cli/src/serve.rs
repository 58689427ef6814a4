//! `ambit serve`, and the part of serving that `up` shares.

use crate::{
    compose::{self, Host},
    config::Config,
    installation::{Installation, Keys, Lock, Server},
    shipped, telemetry,
    welcome::url,
};
use ambit_gateway::{Ended, Role};
use ambit_types::Secret;
use anyhow::{Context as _, bail};
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};
#[cfg(unix)]
use tokio::signal::unix;
use tokio::{net::TcpListener, time::timeout};
use tokio_util::sync::CancellationToken;

/// What the database gets to take what was accepted, once nothing is served any more; a disk or a server that hangs keeps no process.
const CLOSING: Duration = Duration::from_secs(30);

/// `components`: in place of what the configuration says of them.
pub(crate) async fn run(path: &Path, components: Option<PathBuf>) -> anyhow::Result<ExitCode> {
    let environment = |name: &str| environment(name);
    let config = Config::read(path, &environment, None)?;
    let installation = Installation::open(&config.data)?;
    let _lock = take(&installation)?;
    let _telemetry = telemetry::start(&config.log, config.otlp.as_ref())?;
    let components = shipped::folder(components.as_deref().or(config.components.as_deref()))?;
    let host = compose::host(&config, Some(&components)).await?;
    let listening = Listening::bind(&config).await?;
    let signals = Signals::take()?;
    installation.keep_configuration(path)?;
    listening.announce(&installation, &config.gateway.admin_key)?;
    tracing::info!(data = %listening.url(), ops = %listening.ops_url(), "serving");
    serve(host, listening, signals).await
}

/// Reads one variable. Nothing else in the program reads the environment.
#[allow(
    clippy::disallowed_methods,
    reason = "the one place that reads the environment"
)]
pub(crate) fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The installation's lock, or who has it.
pub(crate) fn take(installation: &Installation) -> anyhow::Result<Lock> {
    let Some(lock) = installation.lock()? else {
        match installation.server()? {
            Some(server) => bail!(
                "this installation is served already, by process {} at {}",
                server.pid,
                server.url
            ),
            None => bail!("another process works on this installation; wait until it is done"),
        }
    };
    Ok(lock)
}

/// Bound listeners.
pub(crate) struct Listening {
    listeners: Vec<(TcpListener, Role)>,
    data: SocketAddr,
    ops: SocketAddr,
}

impl Listening {
    pub(crate) async fn bind(config: &Config) -> anyhow::Result<Self> {
        let data = listen(config.listen).await?;
        let address = data.local_addr()?;
        let mut listening = Self {
            listeners: Vec::new(),
            data: address,
            ops: address,
        };
        match config.ops_listen {
            None => listening.listeners.push((data, Role::Both)),
            Some(ops) => {
                let ops = listen(ops).await?;
                listening.ops = ops.local_addr()?;
                listening
                    .listeners
                    .extend([(data, Role::Data), (ops, Role::Ops)]);
            }
        }
        Ok(listening)
    }

    /// Where this machine reaches the tenants' listener.
    pub(crate) fn address(&self) -> SocketAddr {
        reached(self.data)
    }

    pub(crate) fn ops_address(&self) -> SocketAddr {
        reached(self.ops)
    }

    pub(crate) fn url(&self) -> String {
        url(self.address())
    }

    pub(crate) fn ops_url(&self) -> String {
        url(self.ops_address())
    }

    /// Tells commands on this machine where the server is.
    pub(crate) fn announce(
        &self,
        installation: &Installation,
        admin_key: &Secret,
    ) -> anyhow::Result<()> {
        installation.announce(&Server {
            url: self.url(),
            ops_url: self.ops_url(),
            admin_key: admin_key.expose().to_owned(),
            pid: std::process::id(),
        })
    }
}

/// "All addresses" is none that can be called; loopback is one of them.
fn reached(mut address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        IpAddr::V4(_) | IpAddr::V6(_) => {}
    }
    address
}

async fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| {
        format!("cannot listen on {address}; choose another address with --listen")
    })
}

/// Serves until a signal, drains, and says how it ended.
pub(crate) async fn serve(
    host: Host,
    listening: Listening,
    mut signals: Signals,
) -> anyhow::Result<ExitCode> {
    let stop = CancellationToken::new();
    let stopping = stop.clone();
    let life = async move {
        let ended = tokio::select! {
            ended = host.gateway.serve(listening.listeners, stop) => ended,
            () = host.background() => Ended::Cut(0),
        };
        if timeout(CLOSING, host.close()).await.is_err() {
            tracing::warn!(
                "the database did not take what was left in time; sessions may be left open"
            );
        }
        ended
    };
    let told = async {
        signals.next().await;
        tracing::info!("stopping: finishing what is in flight; a second signal ends at once");
        stopping.cancel();
        signals.next().await;
    };
    let ended = tokio::select! {
        ended = life => ended,
        () = told => {
            tracing::warn!("ended at once, by a second signal");
            return Ok(ExitCode::from(130));
        }
    };
    match ended {
        Ended::Drained => {
            tracing::info!("stopped");
            Ok(ExitCode::SUCCESS)
        }
        Ended::Cut(connections) => {
            tracing::warn!(
                connections,
                "stopped; connections were cut at the drain deadline"
            );
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Serves for one task of this process, and ends in order when the task has.
pub(crate) async fn beside<T>(
    host: Host,
    listening: Listening,
    task: impl Future<Output = T>,
) -> T {
    let stop = CancellationToken::new();
    let serving = host.gateway.serve(listening.listeners, stop.clone());
    let working = async {
        futures::join!(serving, async {
            let done = task.await;
            stop.cancel();
            done
        })
    };
    let alive = async {
        host.stay_alive().await;
        std::future::pending().await
    };
    let (_, done) = tokio::select! {
        ended = working => ended,
        ended = alive => ended,
    };
    host.close().await;
    done
}

/// SIGINT and SIGTERM, which do nothing by themselves once this is made: before anybody is told that the server is there.
pub(crate) struct Signals {
    #[cfg(unix)]
    interrupt: unix::Signal,
    #[cfg(unix)]
    terminate: unix::Signal,
}

impl Signals {
    pub(crate) fn take() -> anyhow::Result<Self> {
        Ok(Self {
            #[cfg(unix)]
            interrupt: unix::signal(unix::SignalKind::interrupt())?,
            #[cfg(unix)]
            terminate: unix::signal(unix::SignalKind::terminate())?,
        })
    }

    pub(crate) async fn next(&mut self) {
        #[cfg(unix)]
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
        #[cfg(not(unix))]
        let _ = tokio::signal::ctrl_c().await;
    }
}

/// Keys for a new installation.
pub(crate) fn new_keys() -> anyhow::Result<Keys> {
    let mut random = [0; 32];
    getrandom::fill(&mut random)
        .map_err(|error| anyhow::anyhow!("the system gives no random numbers: {error}"))?;
    Ok(Keys {
        admin_key: format!("adm_{}", hex::encode(random)),
        ..Keys::default()
    })
}
