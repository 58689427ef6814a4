//! The servers that are measured, and how each is started.

use ambit_mock_provider::{Call, Mock, Reply, Script, Stamps};
use anyhow::{Context as _, Result, bail};
use http::{HeaderName, HeaderValue, Method};
use serde::Deserialize;
use std::{
    net::{SocketAddr, TcpListener},
    path::Path,
    time::Duration,
};
use tokio::{process::Command, time::sleep};
use url::Url;

use crate::{RunArguments, ambit::Ambit, core, load::Shot, process::Server, report::Report};

/// Bytes of the prompt.
const PROMPT: usize = 600;

/// What a server is to the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// The provider everything is in front of.
    Provider,
    Ours,
    /// What ours is compared with.
    Peer,
}

pub(crate) struct Target {
    pub(crate) name: &'static str,
    pub(crate) standing: Standing,
    pub(crate) server: Server,
    pub(crate) shot: Shot,
}

/// What a server of ours says first.
#[derive(Deserialize)]
struct Announced {
    url: String,
}

/// The mock, until it is killed.
pub(crate) async fn serve_mock(
    pace_ms: u64,
    text_bytes: usize,
    stamped: Option<Stamps>,
    tool_arguments: String,
) -> Result<()> {
    let text = "All is well with the mock today, says the mock itself. "
        .chars()
        .cycle()
        .take(text_bytes)
        .collect();
    let script = Script {
        // A tool only of those who offer it: the hostile ones.
        reply: Reply::ToolsIfOffered {
            calls: vec![Call::new("misbehave", tool_arguments)],
            text,
        },
        record: false,
        pace_ms,
        stamped,
        ..Script::default()
    };
    let mock = Mock::start(script).await?;
    core::announce(&mock.url())?;
    std::future::pending().await
}

/// Starts everything that is there; what is missing is noted.
pub(crate) async fn start(run: &RunArguments, report: &mut Report) -> Result<Vec<Target>> {
    let (mock, url) = start_mock(&[]).await?;
    let mut targets = vec![Target {
        name: "mock provider, directly",
        standing: Standing::Provider,
        shot: chat_shot(&url, "mock-1", None, false)?,
        server: mock,
    }];
    let (server, core_url) = start_core(&url).await?;
    targets.push(Target {
        name: "pass-through core (nothing governed)",
        standing: Standing::Ours,
        shot: chat_shot(&core_url, "mock-1", None, false)?,
        server,
    });
    match Ambit::start(run, Some(&url)).await {
        Ok(Some(ambit)) => {
            targets.push(Target {
                name: "ambit, governed pass-through",
                standing: Standing::Ours,
                shot: ambit.chat(0, "openai/mock-1", false)?,
                server: ambit.server,
            });
        }
        Ok(None) => report.missing("ambit: no --ambit given"),
        Err(error) => report.missing(&format!("ambit: {error:#}")),
    }
    match start_tensorzero(run, &url).await {
        Ok(Some((server, shot))) => targets.push(Target {
            name: "TensorZero gateway",
            standing: Standing::Peer,
            server,
            shot,
        }),
        Ok(None) => report.missing("TensorZero: no --python given"),
        Err(error) => report.missing(&format!("TensorZero: {error:#}")),
    }
    match start_wasmtime(run).await {
        Ok(Some((server, shot))) => targets.push(Target {
            name: "wasmtime serve, hello world",
            standing: Standing::Peer,
            server,
            shot,
        }),
        Ok(None) => report.missing("wasmtime serve: no --wasmtime and --hello given"),
        Err(error) => report.missing(&format!("wasmtime serve: {error:#}")),
    }
    Ok(targets)
}

pub(crate) async fn start_mock(arguments: &[&str]) -> Result<(Server, Url)> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("mock").args(arguments);
    announced(command).await.context("mock provider")
}

pub(crate) async fn start_core(provider: &Url) -> Result<(Server, Url)> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["core", "--provider-url", provider.as_str()]);
    announced(command).await.context("pass-through core")
}

async fn announced(command: Command) -> Result<(Server, Url)> {
    let mut server = Server::start(command)?;
    let line = server
        .wait_for(|line| serde_json::from_str::<Announced>(line).ok())
        .await?;
    Ok((server, line.url.parse()?))
}

async fn start_tensorzero(run: &RunArguments, provider: &Url) -> Result<Option<(Server, Shot)>> {
    let Some(python) = &run.python else {
        return Ok(None);
    };
    let folder = temporary("tensorzero")?;
    let config = folder.join("tensorzero.toml");
    std::fs::write(
        &config,
        include_str!("tensorzero.toml").replace("PROVIDER", provider.as_str()),
    )?;
    let script = folder.join("start.py");
    std::fs::write(&script, include_str!("tensorzero.py"))?;
    let mut command = Command::new(python);
    command.arg(&script).arg(&config);
    let (server, url) = announced(command).await?;
    Ok(Some((
        server,
        chat_shot(&url, "tensorzero::model_name::mock", None, false)?,
    )))
}

async fn start_wasmtime(run: &RunArguments) -> Result<Option<(Server, Shot)>> {
    let (Some(binary), Some(hello)) = (&run.wasmtime, &run.hello) else {
        return Ok(None);
    };
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let mut command = Command::new(binary);
    command
        .args(["serve", "-Scli", "--addr", &address.to_string()])
        .arg(hello);
    let server = Server::start(command)?;
    let shot = Shot {
        address,
        method: Method::GET,
        uri: "/".parse()?,
        headers: vec![header("host", &address.to_string())?],
        body: bytes::Bytes::new(),
    };
    // It prints its address on standard error: ask until it answers.
    for _ in 0..200 {
        if shot.connect().await.is_ok() {
            return Ok(Some((server, shot)));
        }
        sleep(Duration::from_millis(50)).await;
    }
    bail!("does not listen")
}

/// A chat request of 600 bytes of prompt.
pub(crate) fn chat_shot(
    url: &Url,
    model: &str,
    tenant: Option<(&str, &str)>,
    stream: bool,
) -> Result<Shot> {
    let host = url.host_str().context("no host")?;
    let address = SocketAddr::new(
        host.parse()?,
        url.port_or_known_default().context("no port")?,
    );
    let mut headers = vec![header("content-type", "application/json")?];
    match tenant {
        Some((host, key)) => {
            headers.push(header("host", &format!("{host}:{}", address.port()))?);
            headers.push(header("authorization", &format!("Bearer {key}"))?);
        }
        None => headers.push(header("host", &address.to_string())?),
    }
    let prompt: String = "Please say in a few plain words how the work of this day has gone. "
        .chars()
        .cycle()
        .take(PROMPT)
        .collect();
    let body = serde_json::json!({"model": model, "messages": [{"role": "user", "content": prompt}], "stream": stream});
    Ok(Shot {
        address,
        method: Method::POST,
        uri: format!("{}/chat/completions", url.path().trim_end_matches('/')).parse()?,
        headers,
        body: body.to_string().into(),
    })
}

pub(crate) fn header(name: &'static str, value: &str) -> Result<(HeaderName, HeaderValue)> {
    Ok((HeaderName::from_static(name), HeaderValue::try_from(value)?))
}

/// A new folder of this run.
pub(crate) fn temporary(name: &str) -> Result<std::path::PathBuf> {
    let folder =
        Path::new(&std::env::temp_dir()).join(format!("ambit-bench-{}-{name}", std::process::id()));
    if folder.exists() {
        std::fs::remove_dir_all(&folder)?;
    }
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}
