//! `ambit chat`: a client of the data plane, like any other.

use crate::{
    args::Chat,
    client::{Client, configuration, here, segment},
    installation::Installation,
    serve::{self, Listening, Signals},
};
use anyhow::{Context as _, bail};
use futures::StreamExt as _;
use serde_json::{Value, json};
use std::{
    io::{IsTerminal as _, Write as _},
    net::SocketAddr,
    process::ExitCode,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// A key made for one conversation outlives it by this at most, should the command not get to revoke it.
const KEY_LIVES: Duration = Duration::from_secs(8 * 3600);

struct Session {
    client: reqwest::Client,
    url: String,
    host: Option<String>,
    key: String,
    agent: String,
    messages: Vec<Value>,
}

pub(crate) async fn run(chat: Chat) -> anyhow::Result<ExitCode> {
    crate::telemetry::use_crypto();
    let api = chat.api.as_ref();
    let api = api.map(|api| api.as_str().trim_end_matches('/').to_owned());
    if let (Some(api), Some(key)) = (&api, &chat.key) {
        return talk(Session::new(&chat, api, None, key)?, &chat).await;
    }
    if let (Some(ops), Some(admin_key)) = (&chat.url, &chat.admin_key) {
        let admin = Client::http(ops.as_str(), admin_key)?;
        if let Some(api) = api {
            return with_key(&chat, &admin, &api, None, None).await;
        }
        // The key and the talk go where the admin key is trusted to go, and no less protected.
        if ops.scheme() != "http" {
            bail!(
                "{ops} is protected; name the tenant's API with --api, as in --api https://acme.example.com"
            );
        }
        let server = admin.get("/server").await?;
        let (machine, port) = ops
            .host_str()
            .zip(server["data_port"].as_u64())
            .context("the server does not say where its tenants' API is; name it with --api")?;
        return through(&chat, &admin, &format!("http://{machine}:{port}"), None).await;
    }
    if api.is_some() {
        bail!(
            "name an API key with --key or AMBIT_API_KEY, or --url and --admin-key to have one made"
        );
    }
    let installation = Installation::find(&chat.data)?;
    let bootstrap = installation
        .keys()?
        .and_then(|mut keys| keys.tenants.remove(&chat.tenant));
    // The lock tells a live server from one that left its file behind.
    let Some(_lock) = installation.lock()? else {
        let server = installation
            .server()?
            .context("another process works on this installation; wait until it is done")?;
        let client = Client::http(&server.ops_url, &server.admin_key)?;
        return through(&chat, &client, &server.url, bootstrap).await;
    };
    // Without a server this process is one, on a port nobody else is told of.
    let mut config = configuration(&installation)?;
    config.listen = SocketAddr::from(([127, 0, 0, 1], 0));
    config.ops_listen = None;
    let own = here(&config).await?;
    let client = Client::in_process(own.gateway.clone(), config.gateway.admin_key.expose());
    let listening = Listening::bind(&config).await?;
    let url = listening.url();
    let talk = through(&chat, &client, &url, bootstrap);
    serve::beside(own, listening, talk).await
}

/// Talks to a tenant of the server at `url`, by its host name. That may not resolve here; the `Host` header is what counts.
async fn through(
    chat: &Chat,
    admin: &Client,
    url: &str,
    bootstrap: Option<String>,
) -> anyhow::Result<ExitCode> {
    let tenant = segment(&chat.tenant);
    let tenant = admin.get(&format!("/tenants/{tenant}")).await?;
    let host = tenant["host"]
        .as_str()
        .context("this tenant has no host name")?;
    with_key(chat, admin, url, Some(host), bootstrap).await
}

/// Talks with the key that was named, else the tenant's bootstrap key, else one made for the occasion.
async fn with_key(
    chat: &Chat,
    admin: &Client,
    url: &str,
    host: Option<&str>,
    bootstrap: Option<String>,
) -> anyhow::Result<ExitCode> {
    if let Some(key) = chat.key.clone().or(bootstrap) {
        return talk(Session::new(chat, url, host, &key)?, chat).await;
    }
    let mut signals = Signals::take()?;
    let keys = format!("/tenants/{}/keys", segment(&chat.tenant));
    let expires = SystemTime::now().duration_since(UNIX_EPOCH)? + KEY_LIVES;
    let asked =
        json!({ "name": "ambit chat", "scopes": ["chat"], "expires_at": expires.as_secs() });
    let made = admin.post(&keys, asked.to_string().into_bytes()).await?;
    let (id, key) = made["id"]
        .as_str()
        .zip(made["key"].as_str())
        .context("the server made no key; is it another version?")?;
    let talk = async { talk(Session::new(chat, url, host, key)?, chat).await };
    let done = tokio::select! {
        done = talk => done,
        () = signals.next() => Ok(ExitCode::from(130)),
    };
    let revoked = admin.delete(&format!("{keys}/{}", segment(id))).await;
    let code = done?;
    revoked.context("the key made for this conversation was not revoked; it expires by itself")?;
    Ok(code)
}

/// One message, or every line of standard input as a conversation.
async fn talk(mut session: Session, chat: &Chat) -> anyhow::Result<ExitCode> {
    if let Some(message) = &chat.message {
        session.say(message).await?;
        return Ok(ExitCode::SUCCESS);
    }
    let interactive = std::io::stdin().is_terminal();
    loop {
        if interactive {
            print("> ")?;
        }
        let line = tokio::task::spawn_blocking(|| std::io::stdin().lines().next()).await?;
        let Some(line) = line.transpose().context("cannot read standard input")? else {
            return Ok(ExitCode::SUCCESS);
        };
        if !line.trim().is_empty() {
            session.say(line.trim()).await?;
        }
    }
}

impl Session {
    fn new(chat: &Chat, url: &str, host: Option<&str>, key: &str) -> anyhow::Result<Self> {
        let client = reqwest::Client::builder()
            .no_proxy()
            .build()
            .context("cannot make an HTTP client")?;
        Ok(Self {
            client,
            url: url.to_owned(),
            host: host.map(str::to_owned),
            key: key.to_owned(),
            agent: chat.agent.clone(),
            messages: Vec::new(),
        })
    }

    async fn say(&mut self, message: &str) -> anyhow::Result<()> {
        self.messages
            .push(json!({ "role": "user", "content": message }));
        let body = json!({ "model": self.agent, "stream": true, "messages": self.messages });
        let mut request = self
            .client
            .post(format!("{}/v1/chat/completions", self.url))
            .bearer_auth(&self.key)
            .json(&body);
        if let Some(host) = &self.host {
            request = request.header(reqwest::header::HOST, host);
        }
        let answer = request
            .send()
            .await
            .with_context(|| format!("{} does not answer", self.url))?;
        if !answer.status().is_success() {
            let told: Value = answer.json().await.unwrap_or_default();
            bail!(
                "{}",
                told["error"]["message"]
                    .as_str()
                    .unwrap_or("the server gave no reason")
            );
        }
        let mut events = sse_stream::SseStream::from_bytes_stream(answer.bytes_stream());
        let mut text = String::new();
        while let Some(event) = events.next().await {
            let Some(data) = event.context("the answer broke off")?.data else {
                continue;
            };
            if data == "[DONE]" {
                print("\n")?;
                self.messages
                    .push(json!({ "role": "assistant", "content": text }));
                return Ok(());
            }
            let chunk: Value = serde_json::from_str(&data).context("the answer cannot be read")?;
            if let Some(error) = chunk["error"]["message"].as_str() {
                print("\n")?;
                bail!("{error}");
            }
            if let Some(delta) = chunk["choices"][0]["delta"]["content"].as_str() {
                print(delta)?;
                text.push_str(delta);
            }
        }
        bail!("the answer broke off before it was complete")
    }
}

fn print(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    written.context("cannot write")
}
