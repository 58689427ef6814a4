//! The commands' way to `/admin/v1`: over HTTP when a server runs, else the same routes in this process.

use crate::{
    args::Target,
    compose::{self, Host},
    config::Config,
    installation::{Installation, Lock},
    serve, shipped,
};
use ambit_gateway::Gateway;
use ambit_types::Secret;
use anyhow::{Context as _, bail};
use axum::body::Body;
use futures::StreamExt as _;
use http::{Method, Request, StatusCode, header};
use serde_json::Value;
use std::io::Write;

/// Speaks to one installation.
pub(crate) struct Client {
    way: Way,
    admin_key: String,
}

enum Way {
    Http {
        client: reqwest::Client,
        base: String,
    },
    InProcess {
        gateway: Gateway,
        held: Option<Box<(Host, Lock)>>,
    },
}

impl Client {
    /// A server elsewhere, the running server of a folder, or the folder itself.
    pub(crate) async fn open(target: &Target) -> anyhow::Result<Self> {
        if let (Some(url), Some(key)) = (&target.url, &target.admin_key) {
            return Self::http(url.as_str(), key);
        }
        let installation = Installation::find(&target.data)?;
        // The lock tells a live server from one that left its file behind.
        let Some(lock) = installation.lock()? else {
            let server = installation
                .server()?
                .context("another process works on this installation; wait until it is done")?;
            return Self::http(&server.ops_url, &server.admin_key);
        };
        let config = configuration(&installation)?;
        let host = here(&config).await?;
        let admin_key = config.gateway.admin_key.expose().to_owned();
        Ok(Self {
            way: Way::InProcess {
                gateway: host.gateway.clone(),
                held: Some(Box::new((host, lock))),
            },
            admin_key,
        })
    }

    /// Lets sessions that a command set going come to rest, where this process works on them; interrupted, it leaves them to the next server.
    pub(crate) async fn at_rest(self) {
        let Way::InProcess {
            gateway,
            held: Some(held),
        } = self.way
        else {
            return;
        };
        tokio::select! {
            () = gateway.at_rest() => {}
            // Others on the same data would take it over.
            () = held.0.stay_alive() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
        let (host, _lock) = *held;
        host.close().await;
    }

    pub(crate) fn in_process(gateway: Gateway, admin_key: &str) -> Self {
        Self {
            way: Way::InProcess {
                gateway,
                held: None,
            },
            admin_key: admin_key.to_owned(),
        }
    }

    pub(crate) fn http(base: &str, key: &str) -> anyhow::Result<Self> {
        crate::telemetry::use_crypto();
        let client = reqwest::Client::builder()
            .no_proxy()
            .build()
            .context("cannot make an HTTP client")?;
        Ok(Self {
            way: Way::Http {
                client,
                base: base.trim_end_matches('/').to_owned(),
            },
            admin_key: key.to_owned(),
        })
    }

    pub(crate) async fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.call(Method::GET, path, Vec::new()).await
    }

    pub(crate) async fn put(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        self.call(Method::PUT, path, body.to_string().into_bytes())
            .await
    }

    pub(crate) async fn post(&self, path: &str, body: Vec<u8>) -> anyhow::Result<Value> {
        self.call(Method::POST, path, body).await
    }

    pub(crate) async fn delete(&self, path: &str) -> anyhow::Result<Value> {
        self.call(Method::DELETE, path, Vec::new()).await
    }

    /// The entries of a listing.
    pub(crate) async fn list(&self, path: &str) -> anyhow::Result<Vec<Value>> {
        let mut answer = self.get(path).await?;
        match answer["data"].take() {
            Value::Array(entries) => Ok(entries),
            _ => bail!("the server's answer is no listing; is it another version?"),
        }
    }

    async fn call(&self, method: Method, path: &str, body: Vec<u8>) -> anyhow::Result<Value> {
        let mut bytes = Vec::new();
        self.send(method, path, body, &mut bytes).await?;
        serde_json::from_slice(&bytes)
            .context("the server's answer cannot be read; is it another version?")
    }

    /// Writes an answer as it comes.
    pub(crate) async fn download(&self, path: &str, out: &mut impl Write) -> anyhow::Result<()> {
        self.send(Method::GET, path, Vec::new(), out).await
    }

    /// Writes a good answer to `out`; any other is an error in the server's words.
    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Vec<u8>,
        out: &mut impl Write,
    ) -> anyhow::Result<()> {
        let path = format!("/admin/v1{path}");
        let authorization = format!("Bearer {}", self.admin_key);
        let (status, body) = match &self.way {
            Way::Http { client, base } => {
                let request = client
                    .request(method, format!("{base}{path}"))
                    .header(header::AUTHORIZATION, authorization)
                    .header(header::CONTENT_TYPE, "application/json");
                let answer = request
                    .body(body)
                    .send()
                    .await
                    .with_context(|| format!("the server at {base} does not answer"))?;
                (answer.status(), Body::from_stream(answer.bytes_stream()))
            }
            Way::InProcess { gateway, .. } => {
                let request = Request::builder()
                    .method(method)
                    .uri(&path)
                    .header(header::AUTHORIZATION, authorization)
                    .header(header::HOST, "localhost");
                let request = request
                    .body(Body::from(body))
                    .with_context(|| format!("`{path}` is not a path"))?;
                let answer = gateway.admin(request).await;
                (answer.status(), answer.into_body())
            }
        };
        let mut pieces = body.into_data_stream();
        let mut refusal = Vec::new();
        while let Some(piece) = pieces.next().await {
            let piece = piece.context("the server's answer broke off")?;
            if status.is_success() {
                out.write_all(&piece)
                    .context("cannot write what the server answers")?;
            } else {
                refusal.extend_from_slice(&piece);
            }
        }
        let refusal: Value = match status {
            _ if status.is_success() => return Ok(()),
            StatusCode::UNAUTHORIZED => bail!("the admin key is not this installation's"),
            _ => serde_json::from_slice(&refusal).unwrap_or(Value::Null),
        };
        let told = refusal["detail"]
            .as_str()
            .or_else(|| refusal["title"].as_str());
        bail!("{}", told.unwrap_or("the server gave no reason"))
    }
}

/// The configuration an installation was served with last.
pub(crate) fn configuration(installation: &Installation) -> anyhow::Result<Config> {
    let path = installation.configuration()?;
    let keys = installation.keys()?;
    let config = Config::read(
        &path,
        &serve::environment,
        keys.map(|keys| Secret::new(keys.admin_key)),
    )?;
    // The lock that is held is this folder's.
    if config.data.canonicalize().ok().as_deref() != Some(installation.folder()) {
        bail!(
            "{}, which served {} last, is now a configuration of {}",
            path.display(),
            installation.folder().display(),
            config.data.display()
        );
    }
    Ok(config)
}

/// The host over an installation's data, in this process, which must hold its lock. Components need not be beside the program: those
/// installed are enough.
pub(crate) async fn here(config: &Config) -> anyhow::Result<Host> {
    let components = shipped::folder(config.components.as_deref()).ok();
    let components = components.filter(|folder| folder.is_dir());
    compose::host(config, components.as_deref()).await
}

/// A path segment of any text.
pub(crate) fn segment(text: &str) -> String {
    text.bytes()
        .map(|b| {
            if b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b':' | b'@') {
                char::from(b).to_string()
            } else {
                format!("%{b:02X}")
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn no_text_leaves_its_segment() {
        assert_eq!(super::segment("ambit:x@1.0"), "ambit:x@1.0");
        assert_eq!(super::segment("../a b?c"), "..%2Fa%20b%3Fc");
    }
}
