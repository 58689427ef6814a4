//! `ambit serve`, and the part of serving that `up` shares.

use crate::{
    compose::{self, Host},
    config::Config,
    installation::{Installation, Keys, Lock, Server},
    shipped, telemetry,
};
use ambit_gateway::{Ended, Role};
use ambit_types::Secret;
use anyhow::{Context as _, bail};
use std::{net::SocketAddr, path::Path, process::ExitCode};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub(crate) async fn run(path: &Path) -> anyhow::Result<ExitCode> {
    let environment = |name: &str| environment(name);
    let config = Config::read(path, &environment, None)?;
    let installation = Installation::open(&config.data)?;
    let _lock = take(&installation)?;
    let _telemetry = telemetry::start(&config.log, config.otlp.as_ref())?;
    let components = shipped::folder(config.components.as_deref())?;
    let host = compose::host(&config, Some(&components)).await?;
    let listening = Listening::bind(&config).await?;
    listening.announce(&installation, &config.gateway.admin_key)?;
    tracing::info!(data = %listening.url(), ops = %listening.ops_url(), "serving");
    serve(host, listening).await
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

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.data)
    }

    pub(crate) fn ops_url(&self) -> String {
        format!("http://{}", self.ops)
    }

    pub(crate) fn port(&self) -> u16 {
        self.data.port()
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

async fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| {
        format!("cannot listen on {address}; choose another address with --listen")
    })
}

/// Serves until a signal, drains, and says how it ended.
pub(crate) async fn serve(host: Host, listening: Listening) -> anyhow::Result<ExitCode> {
    let stop = CancellationToken::new();
    let serving = host.gateway.serve(listening.listeners, stop.clone());
    let ended = tokio::select! {
        ended = async {
            let (ended, ()) = futures::join!(serving, async {
                signal().await;
                tracing::info!("stopping: finishing what is in flight; a second signal ends at once");
                stop.cancel();
            });
            ended
        } => ended,
        () = host.background() => Ended::Cut(0),
        () = async { signal().await; signal().await } => return Ok(ExitCode::from(130)),
    };
    host.close().await;
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
    let (_, done) = futures::join!(serving, async {
        let done = task.await;
        stop.cancel();
        done
    });
    host.close().await;
    done
}

/// SIGINT or SIGTERM.
async fn signal() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut terminate) = signal(SignalKind::terminate()) {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = tokio::signal::ctrl_c() => {}
            }
            return;
        }
    }
    let _ = tokio::signal::ctrl_c().await;
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
