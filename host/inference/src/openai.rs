//! Any server that speaks OpenAI's chat format: vLLM, Ollama, llama.cpp's server, OpenAI itself.

mod encode;
mod events;
mod transport;

use ambit_types::{CallContext, Secret};
use futures::{StreamExt as _, future::BoxFuture};
use std::{sync::Arc, time::Duration};
use tokio::{sync::Mutex, time::Instant};
use url::Url;

use crate::{
    ChatRequest, ChatStream, Model, Provider, ProviderError, RawChat, RawCompletion, RawReply,
    RawStream,
};
use events::{Deltas, Events};
use transport::{Expect, Transport};

/// How long a list of models is believed.
const MODELS_TTL: Duration = Duration::from_secs(300);
/// A list of models comes from memory; a server that needs longer is not well.
const MODELS_TIMEOUT: Duration = Duration::from_secs(10);

/// Waits on the provider. The caller's deadline ends each of them too.
#[derive(Debug, Clone)]
pub struct Timeouts {
    /// Of TCP.
    pub connect: Duration,
    /// From sending the request to the first event of a stream, or to the head of a JSON answer: the whole prompt, and for JSON the
    /// whole answer, is computed meanwhile. Retries start it again.
    pub first_byte: Duration,
    /// Between two reads of an answer.
    pub idle: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            first_byte: Duration::from_secs(300),
            idle: Duration::from_secs(60),
        }
    }
}

/// Most bytes taken from the provider.
#[derive(Debug, Clone)]
pub struct Caps {
    /// Head of an answer. At least 8 KiB, which is hyper's smallest.
    pub head: usize,
    /// One event of a stream.
    pub event: usize,
    /// A whole answer.
    pub body: usize,
}

impl Default for Caps {
    fn default() -> Self {
        Self {
            head: 64 << 10,
            event: 1 << 20,
            body: 32 << 20,
        }
    }
}

/// What is tried again: no connection, 429 and 5xx, and only before the first token.
#[derive(Debug, Clone)]
pub struct Retry {
    /// Attempts in all, at least one.
    pub attempts: u32,
    /// Wait before the second attempt; doubles with each. A provider that asks for a longer wait is not tried again: the caller is
    /// told to come back.
    pub backoff: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            attempts: 3,
            backoff: Duration::from_millis(100),
        }
    }
}

/// Where the server is and how it is treated.
#[derive(Debug, Clone)]
pub struct OpenAiConfig {
    /// `http` or `https`. A bare origin gets the path `/v1`.
    pub base_url: Url,
    pub api_key: Option<Secret>,
    pub timeouts: Timeouts,
    pub caps: Caps,
    pub retry: Retry,
}

impl OpenAiConfig {
    #[must_use]
    pub fn new(base_url: Url) -> Self {
        Self {
            base_url,
            api_key: None,
            timeouts: Timeouts::default(),
            caps: Caps::default(),
            retry: Retry::default(),
        }
    }

    /// Whether the address and the key can be used, without asking the server.
    ///
    /// # Errors
    /// The sentence says why not.
    pub fn check(&self) -> Result<(), String> {
        transport::endpoints(&self.base_url)?;
        transport::headers(self.api_key.as_ref()).map(drop)
    }
}

/// A server that speaks OpenAI's chat format.
#[derive(Debug)]
pub struct OpenAi {
    transport: Transport,
    models: Mutex<Option<(Instant, Arc<[Model]>)>>,
}

impl OpenAi {
    /// Connects to nothing yet.
    ///
    /// # Errors
    /// The address or the key cannot be used; the sentence says why.
    pub fn new(config: OpenAiConfig) -> Result<Self, String> {
        Ok(Self {
            transport: Transport::new(config)?,
            models: Mutex::new(None),
        })
    }

    async fn list(&self) -> Result<Arc<[Model]>, ProviderError> {
        #[derive(serde::Deserialize)]
        struct List {
            data: Vec<Entry>,
        }
        #[derive(serde::Deserialize)]
        struct Entry {
            id: String,
        }
        // Held while asking: callers that come meanwhile wait for the same answer.
        let mut cached = self.models.lock().await;
        if let Some((at, models)) = &*cached
            && at.elapsed() < MODELS_TTL
        {
            return Ok(Arc::clone(models));
        }
        let deadline = Instant::now() + MODELS_TIMEOUT;
        let body = self.transport.get_models(deadline).await?.collect().await?;
        let list: List =
            serde_json::from_slice(&body).map_err(|error| ProviderError::InvalidResponse {
                what: "list of models",
                source: Some(error.into()),
            })?;
        let models: Arc<[Model]> = list
            .data
            .into_iter()
            .map(|entry| Model { id: entry.id })
            .collect();
        *cached = Some((Instant::now(), Arc::clone(&models)));
        Ok(models)
    }
}

impl Provider for OpenAi {
    fn complete<'a>(
        &'a self,
        ctx: &'a CallContext,
        model: &'a str,
        request: ChatRequest,
    ) -> BoxFuture<'a, Result<ChatStream, ProviderError>> {
        Box::pin(async move {
            let body = encode::encode(model, &request);
            let events = self.stream(ctx, body).await?;
            Ok(ChatStream::new(Deltas::new(events)))
        })
    }

    fn forward<'a>(
        &'a self,
        ctx: &'a CallContext,
        model: &'a str,
        request: RawChat,
    ) -> BoxFuture<'a, Result<RawReply, ProviderError>> {
        Box::pin(async move {
            let body = request.for_provider(model);
            if request.streams() {
                let wants_usage = request.wants_usage();
                let events = self.stream(ctx, body).await?;
                let chunks =
                    events.map(move |event| event.map(|event| event.into_raw(wants_usage)));
                Ok(RawReply::Stream(RawStream::new(chunks)))
            } else {
                let deadline = Instant::from_std(ctx.deadline);
                let answer = self
                    .transport
                    .retrying(deadline, || {
                        self.transport.post_chat(ctx, body.clone(), Expect::Json)
                    })
                    .await?;
                Ok(RawReply::Json(RawCompletion::read(
                    answer.collect().await?,
                )?))
            }
        })
    }

    fn models(&self) -> BoxFuture<'_, Result<Arc<[Model]>, ProviderError>> {
        Box::pin(self.list())
    }
}

impl OpenAi {
    /// A stream whose first event has arrived. Until then an attempt may be repeated.
    async fn stream(&self, ctx: &CallContext, body: bytes::Bytes) -> Result<Events, ProviderError> {
        let deadline = Instant::from_std(ctx.deadline);
        self.transport
            .retrying(deadline, || {
                let body = body.clone();
                async move {
                    let answer = self.transport.post_chat(ctx, body, Expect::Events).await?;
                    Events::begin(answer, self.transport.caps().event).await
                }
            })
            .await
    }
}
