//! The real binary as a process.

use crate::{Answer, NewComponent, PATIENCE};
use anyhow::{Context as _, Result, bail};
use reqwest::{Client, Method, RequestBuilder, Response, header::HOST};
use serde::Deserialize;
use serde_json::{Value, json};
use std::{
    path::{Path, PathBuf},
    process::ExitStatus,
    time::Duration,
};
use tempfile::TempDir;
use tokio::{
    process::{Child, Command},
    time::timeout,
};

/// A running installation; dropping it kills it.
pub struct Ambit {
    pub up: Up,
    pub client: Client,
    pub(crate) child: Child,
    pub(crate) data: PathBuf,
    /// Removed with it, where the folder is its own.
    pub(crate) own: Option<TempDir>,
}

/// The first line of `ambit up --format json`.
#[derive(Debug, Deserialize)]
pub struct Up {
    pub url: String,
    pub ops_url: String,
    pub admin_key: String,
    pub tenants: Vec<Tenant>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Tenant {
    pub slug: String,
    pub host: String,
    pub api_key: String,
}

/// What a process is told from outside.
#[derive(Debug, Clone, Copy)]
pub enum Signal {
    Interrupt,
    Terminate,
    Kill,
}

impl Signal {
    /// Sends it, without waiting for what comes of it.
    ///
    /// # Errors
    /// The process is gone.
    pub async fn send(self, pid: u32) -> Result<()> {
        let name = match self {
            Self::Interrupt => "-INT",
            Self::Terminate => "-TERM",
            Self::Kill => "-KILL",
        };
        let status = Command::new("kill")
            .args([name, &pid.to_string()])
            .status()
            .await?;
        if !status.success() {
            bail!("kill: {status}");
        }
        Ok(())
    }
}

impl Ambit {
    pub(crate) fn new(up: Up, child: Child, data: &Path) -> Result<Self> {
        Ok(Self {
            up,
            // What has waited longer the server may close just when it is used again.
            client: Client::builder()
                .no_proxy()
                .pool_idle_timeout(Duration::from_secs(3))
                .build()?,
            child,
            data: data.to_owned(),
            own: None,
        })
    }

    #[must_use]
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// # Panics
    /// `up` makes no such tenant.
    #[must_use]
    pub fn tenant(&self, slug: &str) -> &Tenant {
        let tenant = self.up.tenants.iter().find(|tenant| tenant.slug == slug);
        tenant.unwrap_or_else(|| panic!("there is no tenant {slug}"))
    }

    /// A new tenant with a key.
    ///
    /// # Errors
    /// The admin API refuses.
    pub async fn new_tenant(&self, slug: &str) -> Result<Tenant> {
        self.put(&format!("/tenants/{slug}"), &json!({})).await?;
        let path = format!("/tenants/{slug}/keys");
        let key = self
            .admin(Method::POST, &path, r#"{"name":"scenario"}"#)
            .await?;
        Ok(Tenant {
            slug: slug.to_owned(),
            host: format!("{slug}.localhost"),
            api_key: key["key"].as_str().context("no key")?.to_owned(),
        })
    }

    /// Files of the installation that hold `text`.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn files_with(&self, text: &str) -> Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        let mut folders = vec![self.data.clone()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder)? {
                let path = entry?.path();
                if path.is_dir() {
                    folders.push(path);
                } else if std::fs::read(&path)?
                    .windows(text.len())
                    .any(|window| window == text.as_bytes())
                {
                    found.push(path);
                }
            }
        }
        Ok(found)
    }

    /// Bytes of memory the process holds now. None where that cannot be asked.
    #[must_use]
    pub fn memory(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()?)).ok()?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))?;
        let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some(kib * 1024)
    }

    /// Whether the process has ended.
    #[must_use]
    pub fn is_gone(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// Sends a signal, without waiting for what comes of it.
    ///
    /// # Errors
    /// The process is gone.
    pub async fn signal(&self, signal: Signal) -> Result<()> {
        let pid = self.child.id().context("it has ended")?;
        signal.send(pid).await
    }

    /// Waits for the process to end by itself.
    ///
    /// # Errors
    /// It does not.
    pub async fn ended(&mut self) -> Result<ExitStatus> {
        Ok(timeout(PATIENCE, self.child.wait())
            .await
            .context("it does not end")??)
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

    /// # Errors
    /// As [`Ambit::admin`].
    pub async fn put(&self, path: &str, body: &Value) -> Result<Value> {
        self.admin(Method::PUT, path, body.to_string()).await
    }

    /// # Errors
    /// As [`Ambit::admin`].
    pub async fn get(&self, path: &str) -> Result<Value> {
        self.admin(Method::GET, path, "").await
    }

    /// Installs a component, grants it what it asks for and answers its digest.
    ///
    /// # Errors
    /// It is refused.
    pub async fn install(&self, component: &NewComponent) -> Result<String> {
        let body = component.body().to_string();
        let installed = self.admin(Method::POST, "/components", body).await?;
        if let Some(grant) = &component.grant {
            self.put(&format!("/grants/{}", component.name), grant)
                .await?;
        }
        let digest = installed["digest"].as_str().context("no digest")?;
        Ok(digest.to_owned())
    }

    /// Puts an installed component into a tenant's slot.
    ///
    /// # Errors
    /// It is refused.
    pub async fn bind(&self, tenant: &Tenant, slot: &str, digest: &str) -> Result<()> {
        let path = format!("/tenants/{}/slots/{slot}", tenant.slug);
        self.put(&path, &json!({ "component": digest }))
            .await
            .map(drop)
    }

    /// Applies an agent, which must be bound then.
    ///
    /// # Errors
    /// It is refused or cannot be bound.
    pub async fn apply(&self, tenant: &Tenant, definition: &Value) -> Result<()> {
        let name = definition["name"].as_str().context("no name")?;
        let path = format!("/tenants/{}/agents/{name}", tenant.slug);
        let applied = self.put(&path, definition).await?;
        if applied["bound"] != true {
            bail!("{applied}");
        }
        Ok(())
    }

    /// The state of a session, the reason of its end, and the kinds of its events.
    ///
    /// # Errors
    /// There is no such session, or its chain does not hold.
    pub async fn session(&self, tenant: &Tenant, id: &str) -> Result<(String, Value, Vec<String>)> {
        let path = format!("/tenants/{}/sessions/{id}", tenant.slug);
        let session = self.get(&path).await?;
        if session["chain"]["holds"] != true {
            bail!("{session}");
        }
        let events = self.events(tenant, id).await?;
        let kinds = events
            .iter()
            .map(|event| event["kind"].as_str().unwrap_or_default().to_owned());
        let end = events.iter().find(|event| event["kind"] == "end");
        Ok((
            session["state"].as_str().unwrap_or_default().to_owned(),
            end.map_or(Value::Null, |end| end["header"]["facts"].clone()),
            kinds.collect(),
        ))
    }

    /// The events of a session.
    ///
    /// # Errors
    /// There is no such session.
    pub async fn events(&self, tenant: &Tenant, id: &str) -> Result<Vec<Value>> {
        let path = format!("/tenants/{}/sessions/{id}/events?limit=1000", tenant.slug);
        let events = self.get(&path).await?;
        Ok(events["data"].as_array().context("no events")?.clone())
    }

    /// The newest session of a tenant and its state, if it has any.
    ///
    /// # Errors
    /// As [`Ambit::admin`].
    pub async fn newest(&self, tenant: &Tenant) -> Result<Option<(String, String)>> {
        let path = format!("/tenants/{}/sessions?limit=1", tenant.slug);
        let listed = self.get(&path).await?;
        let word = |name: &str| listed["data"][0][name].as_str().map(str::to_owned);
        Ok(word("id").zip(word("state")))
    }

    /// A request to a tenant's data plane.
    ///
    /// # Errors
    /// No answer at all.
    pub async fn post(&self, tenant: &Tenant, path: &str, body: &Value) -> Result<Response> {
        let request = self.request(Method::POST, tenant, path).json(body);
        Ok(request.send().await?)
    }

    /// A request to a tenant's data plane, to be sent.
    pub fn request(&self, method: Method, tenant: &Tenant, path: &str) -> RequestBuilder {
        let request = self
            .client
            .request(method, format!("{}/v1{path}", self.up.url));
        request
            .header(HOST, &tenant.host)
            .bearer_auth(&tenant.api_key)
    }

    /// A chat request, read to its end.
    ///
    /// # Errors
    /// No answer, or one that breaks off.
    pub async fn ask(&self, tenant: &Tenant, body: &Value) -> Result<Answer> {
        Answer::read(self.post(tenant, "/chat/completions", body).await?).await
    }
}
