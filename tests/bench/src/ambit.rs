//! `ambit` as it is installed, on a data folder of its own.

use anyhow::{Context as _, Result, bail};
use http::Method;
use serde::Deserialize;
use serde_json::Value;
use std::{
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::{process::Command, time::sleep};
use url::Url;

use crate::{
    RunArguments,
    load::Shot,
    process::Server,
    targets::{chat_shot, header, temporary},
};

/// Polling the answer of a server that starts.
const POLL: Duration = Duration::from_millis(1);
const PATIENCE: u32 = 20_000;

pub(crate) struct Ambit {
    pub(crate) server: Server,
    pub(crate) data: PathBuf,
    up: Up,
}

/// The first line of `ambit up --format json`.
#[derive(Deserialize)]
struct Up {
    url: String,
    ops_url: String,
    admin_key: String,
    tenants: Vec<Tenant>,
}

#[derive(Deserialize)]
struct Tenant {
    host: String,
    api_key: String,
}

impl Ambit {
    /// `ambit up`, with a model server or without one. None: no binary was named.
    pub(crate) async fn start(run: &RunArguments, provider: Option<&Url>) -> Result<Option<Self>> {
        let Some(binary) = &run.ambit else {
            return Ok(None);
        };
        let data = temporary("ambit-data")?;
        let mut command = Command::new(binary);
        command.arg("up").arg("--data").arg(&data);
        command.args(["--listen", "127.0.0.1:0", "--format", "json"]);
        if let Some(provider) = provider {
            command.args(["--provider-url", provider.as_str(), "--model", "mock-1"]);
        }
        if let Some(components) = &run.components {
            command.arg("--components").arg(components);
        }
        let mut server = Server::start(command)?;
        let up = server
            .wait_for(|line| serde_json::from_str(line).ok())
            .await?;
        Ok(Some(Self { server, data, up }))
    }

    /// A chat request of the tenant with this number.
    pub(crate) fn chat(&self, tenant: usize, model: &str, stream: bool) -> Result<Shot> {
        let tenant = self.up.tenants.get(tenant).context("no such tenant")?;
        let url: Url = format!("{}/v1", self.up.url).parse()?;
        chat_shot(&url, model, Some((&tenant.host, &tenant.api_key)), stream)
    }

    /// The cheapest request that is routed and authenticated.
    pub(crate) fn models(&self) -> Result<Shot> {
        let mut shot = self.chat(0, "", false)?;
        shot.method = Method::GET;
        shot.uri = "/v1/models".parse()?;
        shot.body = bytes::Bytes::new();
        Ok(shot)
    }

    /// What it counts.
    pub(crate) async fn metrics(&self) -> Result<String> {
        let url: Url = self.up.ops_url.parse()?;
        let address = url.socket_addrs(|| None)?[0];
        let shot = Shot {
            address,
            method: Method::GET,
            uri: "/metrics".parse()?,
            headers: vec![
                header("host", &address.to_string())?,
                header("authorization", &format!("Bearer {}", self.up.admin_key))?,
            ],
            body: bytes::Bytes::new(),
        };
        let (status, answer) = shot.once().await?;
        anyhow::ensure!(status.is_success(), "/metrics: {status}");
        Ok(String::from_utf8(answer.into())?)
    }

    /// A request to the admin API.
    pub(crate) async fn admin(&self, method: Method, path: &str, body: Value) -> Result<Value> {
        let url: Url = self.up.ops_url.parse()?;
        let address = url.socket_addrs(|| None)?[0];
        let shot = Shot {
            address,
            method,
            uri: format!("/admin/v1{path}").parse()?,
            headers: vec![
                header("host", &address.to_string())?,
                header("authorization", &format!("Bearer {}", self.up.admin_key))?,
                header("content-type", "application/json")?,
            ],
            body: body.to_string().into(),
        };
        let (status, answer) = shot.once().await?;
        if !status.is_success() {
            bail!("{path}: {status}: {}", String::from_utf8_lossy(&answer));
        }
        Ok(serde_json::from_slice(&answer).unwrap_or_default())
    }

    /// Writes a configuration for `ambit serve` on this folder at this address.
    pub(crate) fn configuration(&self, run: &RunArguments, address: &str) -> Result<PathBuf> {
        let components = match &run.components {
            Some(folder) => format!("components = {:?}\n", folder.canonicalize()?),
            None => String::new(),
        };
        let text = format!(
            "{components}data = \".\"\nlog = \"warn\"\nbase_domains = [\"localhost\"]\nadmin.key = {{ file = \"admin-key\" }}\n\n[listen]\ndata = \"{address}\"\n"
        );
        std::fs::write(self.data.join("admin-key"), &self.up.admin_key)?;
        let path = self.data.join("serve.toml");
        std::fs::write(&path, text)?;
        Ok(path)
    }
}

/// `ambit serve`, until its first answer to this request.
pub(crate) async fn serve_until_answered(
    run: &RunArguments,
    config: &Path,
    shot: &Shot,
) -> Result<Server> {
    let mut command = Command::new(run.ambit.as_ref().context("no --ambit given")?);
    command.arg("serve").arg("--config").arg(config);
    let server = Server::start(command)?;
    for _ in 0..PATIENCE {
        if let Ok((status, body)) = shot.once().await {
            if status.is_success() {
                return Ok(server);
            }
            bail!("{status}: {}", String::from_utf8_lossy(&body));
        }
        sleep(POLL).await;
    }
    bail!("it does not answer")
}
