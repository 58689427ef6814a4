//! `ambit chat`: a client of the data plane, like any other.

use crate::{
    args::Chat,
    client::{Client, configuration, here, segment},
    installation::Installation,
    serve::{self, Listening},
};
use anyhow::{Context as _, bail};
use futures::StreamExt as _;
use serde_json::{Value, json};
use std::{
    io::{IsTerminal as _, Write as _},
    net::SocketAddr,
    process::ExitCode,
};

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
    if let Some(url) = &chat.url {
        let key = chat
            .key
            .as_deref()
            .context("name an API key with --key or AMBIT_API_KEY")?;
        let url = url.as_str().trim_end_matches('/');
        return talk(Session::new(&chat, url, None, key)?, chat.message).await;
    }
    let installation = Installation::find(&chat.data)?;
    let key = key(&chat, &installation)?;
    // The lock tells a live server from one that left its file behind.
    let Some(_lock) = installation.lock()? else {
        let server = installation
            .server()?
            .context("another process works on this installation; wait until it is done")?;
        let client = Client::http(&server.ops_url, &server.admin_key)?;
        let host = host(&client, &chat.tenant).await?;
        let session = Session::new(&chat, &server.url, Some(host), &key)?;
        return talk(session, chat.message).await;
    };
    // Without a server this process is one, on a port nobody else is told of.
    let mut config = configuration(&installation)?;
    config.listen = SocketAddr::from(([127, 0, 0, 1], 0));
    config.ops_listen = None;
    let own = here(&config).await?;
    let client = Client::in_process(own.gateway.clone(), config.gateway.admin_key.expose());
    let listening = Listening::bind(&config).await?;
    let host = host(&client, &chat.tenant).await?;
    let session = Session::new(&chat, &listening.url(), Some(host), &key)?;
    serve::beside(own, listening, talk(session, chat.message)).await
}

/// The named key, or the tenant's bootstrap key.
fn key(chat: &Chat, installation: &Installation) -> anyhow::Result<String> {
    if let Some(key) = &chat.key {
        return Ok(key.clone());
    }
    let keys = installation.keys()?;
    keys.and_then(|mut keys| keys.tenants.remove(&chat.tenant))
        .with_context(|| {
            format!(
                "there is no bootstrap key of tenant `{}`; name a key with --key",
                chat.tenant
            )
        })
}

/// The tenant's host name. It may not resolve here; the `Host` header is what counts.
async fn host(client: &Client, tenant: &str) -> anyhow::Result<String> {
    let tenant = client.get(&format!("/tenants/{}", segment(tenant))).await?;
    let host = tenant["host"].as_str();
    host.map(str::to_owned)
        .context("this tenant has no host name")
}

/// One message, or every line of standard input as a conversation.
async fn talk(mut session: Session, message: Option<String>) -> anyhow::Result<ExitCode> {
    if let Some(message) = message {
        session.say(&message).await?;
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
    fn new(chat: &Chat, url: &str, host: Option<String>, key: &str) -> anyhow::Result<Self> {
        let client = reqwest::Client::builder()
            .no_proxy()
            .build()
            .context("cannot make an HTTP client")?;
        Ok(Self {
            client,
            url: url.to_owned(),
            host,
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
