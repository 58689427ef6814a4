//! `ambit chat`: a client of the data plane, like any other.

use crate::{args::Chat, installation::Installation};
use anyhow::{Context as _, bail};
use futures::StreamExt as _;
use serde_json::{Value, json};
use std::{
    io::{BufRead as _, IsTerminal as _, Write as _},
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
    let mut session = open(&chat)?;
    if let Some(message) = chat.message {
        session.say(&message).await?;
        return Ok(ExitCode::SUCCESS);
    }
    let input = std::io::stdin();
    let interactive = input.is_terminal();
    loop {
        if interactive {
            print("> ")?;
        }
        let mut line = String::new();
        if input
            .lock()
            .read_line(&mut line)
            .context("cannot read standard input")?
            == 0
        {
            return Ok(ExitCode::SUCCESS);
        }
        if !line.trim().is_empty() {
            session.say(line.trim()).await?;
        }
    }
}

fn open(chat: &Chat) -> anyhow::Result<Session> {
    let client = reqwest::Client::builder()
        .no_proxy()
        .build()
        .context("cannot make an HTTP client")?;
    let (url, host, key) = match &chat.url {
        Some(url) => (
            url.as_str().trim_end_matches('/').to_owned(),
            None,
            chat.key
                .clone()
                .context("name an API key with --key or AMBIT_API_KEY")?,
        ),
        None => {
            let installation = Installation::find(&chat.data)?;
            let server = installation.server()?.with_context(|| {
                format!(
                    "no server runs on {}; start one with `ambit up`",
                    chat.data.display()
                )
            })?;
            let key = match &chat.key {
                Some(key) => key.clone(),
                None => installation
                    .keys()?
                    .and_then(|mut keys| keys.tenants.remove(&chat.tenant))
                    .with_context(|| {
                        format!(
                            "there is no bootstrap key of tenant `{}`; name a key with --key",
                            chat.tenant
                        )
                    })?,
            };
            // The name may not resolve here; the Host header is what counts.
            (server.url, Some(format!("{}.localhost", chat.tenant)), key)
        }
    };
    Ok(Session {
        client,
        url,
        host,
        key,
        agent: chat.agent.clone(),
        messages: Vec::new(),
    })
}

impl Session {
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

#[allow(clippy::print_stdout, reason = "the conversation")]
fn print(text: &str) -> anyhow::Result<()> {
    print!("{text}");
    std::io::stdout().flush().context("cannot write")
}
