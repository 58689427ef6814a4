//! What scenarios need: the real binary, started on an empty folder, and the two planes it serves.
//!
//! The binary is the one `cargo xtask build` leaves beside the tests; the components are found as it finds them, or by
//! `AMBIT_COMPONENTS`. Where it is missing a scenario is skipped and says so.

use anyhow::{Context as _, Result, bail};
use reqwest::{Client, Method, Response, header::HOST};
use serde::Deserialize;
use serde_json::Value;
use std::{path::PathBuf, process::Stdio, time::Duration};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
    time::timeout,
};

/// Compiling every component takes its time on a machine that runs other tests.
const START: Duration = Duration::from_secs(180);

/// A running installation; dropping it kills it and removes its data.
pub struct Ambit {
    pub up: Up,
    pub client: Client,
    _child: Child,
    _data: TempDir,
}

/// The first line of `ambit up --format json`.
#[derive(Debug, Deserialize)]
pub struct Up {
    pub url: String,
    pub ops_url: String,
    pub admin_key: String,
    pub tenants: Vec<Tenant>,
}

#[derive(Debug, Deserialize)]
pub struct Tenant {
    pub slug: String,
    pub host: String,
    pub api_key: String,
}

/// The binary, if it was built. Says so when it was not.
#[must_use]
pub fn binary() -> Option<PathBuf> {
    let beside = std::env::current_exe()
        .ok()?
        .ancestors()
        .nth(2)?
        .join("ambit");
    // A binary without its components cannot serve; cargo alone does not build those.
    let built = beside.is_file()
        && (components().is_some() || beside.with_file_name("components").is_dir());
    if !built {
        say(&format!(
            "SKIPPED: no binary and components at {}; `cargo xtask build` makes them",
            beside.display()
        ));
    }
    built.then_some(beside)
}

/// Prints although the test harness captures output.
pub fn say(text: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

#[allow(
    clippy::disallowed_methods,
    reason = "a test harness is told by its environment where things are"
)]
fn components() -> Option<std::ffi::OsString> {
    std::env::var_os("AMBIT_COMPONENTS")
}

impl Ambit {
    /// `ambit up` with a model server, or without one.
    ///
    /// # Errors
    /// It did not come up.
    pub async fn up(binary: &PathBuf, provider: Option<&str>) -> Result<Self> {
        let data = tempfile::tempdir()?;
        let mut command = Command::new(binary);
        command
            .arg("up")
            .arg("--data")
            .arg(data.path().join("data"))
            .args(["--listen", "127.0.0.1:0", "--format", "json"]);
        if let Some(url) = provider {
            command.args(["--provider-url", url]);
        }
        if let Some(folder) = components() {
            command.arg("--components").arg(folder);
        }
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        let mut child = command.spawn().context("cannot start ambit")?;
        let mut lines = BufReader::new(child.stdout.take().context("no output")?).lines();
        let first = timeout(START, lines.next_line())
            .await
            .context("not ready in time")??
            .context("it ended before it was ready")?;
        let up = serde_json::from_str(&first)
            .with_context(|| format!("not the line that was promised: {first}"))?;
        Ok(Self {
            up,
            client: Client::new(),
            _child: child,
            _data: data,
        })
    }

    /// A request to the admin API; its answer's body.
    ///
    /// # Errors
    /// Any status that is no success, with the body.
    pub async fn admin(
        &self,
        method: Method,
        path: &str,
        body: impl Into<reqwest::Body>,
    ) -> Result<Value> {
        let url = format!("{}/admin/v1{path}", self.up.ops_url);
        let request = self
            .client
            .request(method, &url)
            .bearer_auth(&self.up.admin_key)
            .header("content-type", "application/json");
        let response = request.body(body).send().await?;
        let status = response.status();
        let text = response.text().await?;
        if !status.is_success() {
            bail!("{path}: {status}: {text}");
        }
        Ok(serde_json::from_str(&text).unwrap_or_default())
    }

    /// A request to a tenant's data plane.
    ///
    /// # Errors
    /// No answer at all.
    pub async fn post(&self, tenant: &Tenant, path: &str, body: &Value) -> Result<Response> {
        let request = self
            .client
            .post(format!("{}/v1{path}", self.up.url))
            .header(HOST, &tenant.host)
            .bearer_auth(&tenant.api_key);
        Ok(request.json(body).send().await?)
    }
}
