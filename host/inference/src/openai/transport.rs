//! HTTP to one server: a keep-alive pool, timeouts, caps, retries, and errors that show nothing of the inside.

use ambit_types::{CallContext, Secret};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::Full;
use hyper::body::{Body as _, Incoming};
use hyper_rustls::{ConfigBuilderExt as _, HttpsConnector};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use std::{
    error::Error as _,
    fmt,
    future::poll_fn,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time::{Instant, Sleep, sleep, sleep_until, timeout_at};
use url::Url;

use super::{Caps, OpenAiConfig, Retry, Timeouts};
use crate::{ProviderError, TimeoutPhase};

/// An idle connection is kept for less than the usual 75 s of servers, so that it is seldom they who close it.
const POOL_IDLE: Duration = Duration::from_secs(30);
/// Of an error's body: what is read of it, and how long.
const ERROR_CAP: usize = 16 << 10;
const ERROR_PATIENCE: Duration = Duration::from_secs(2);
/// Told to the caller where the provider says 429 and no time.
const DEFAULT_RETRY_AFTER: Duration = Duration::from_secs(1);

/// What kind of body an answer must have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expect {
    Json,
    Events,
}

pub(super) struct Transport {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    chat: Uri,
    models: Uri,
    headers: HeaderMap,
    timeouts: Timeouts,
    caps: Caps,
    retry: Retry,
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport")
            .field("chat", &self.chat)
            .finish_non_exhaustive()
    }
}

/// Where chats and models are, below the address of a server.
pub(super) fn endpoints(base_url: &Url) -> Result<[Uri; 2], String> {
    if !matches!(base_url.scheme(), "http" | "https") || base_url.host_str().is_none() {
        return Err(format!(
            "`{}` is no address of a model server: expected http:// or https://",
            base_url.scheme()
        ));
    }
    if !base_url.username().is_empty()
        || base_url.password().is_some()
        || base_url.query().is_some()
    {
        return Err(
            "the address of a model server holds no credentials and no query; the key is set apart"
                .to_owned(),
        );
    }
    let mut base = base_url.clone();
    base.set_fragment(None);
    let path = match base.path().trim_end_matches('/') {
        "" => "/v1".to_owned(),
        path => path.to_owned(),
    };
    let uri = |name: &str| {
        let mut url = base.clone();
        url.set_path(&format!("{path}/{name}"));
        url.as_str()
            .parse::<Uri>()
            .map_err(|error| format!("the address of the model server cannot be used: {error}"))
    };
    Ok([uri("chat/completions")?, uri("models")?])
}

pub(super) fn headers(api_key: Option<&Secret>) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    headers.insert(
        header::USER_AGENT,
        HeaderValue::from_static(concat!("ambit/", env!("CARGO_PKG_VERSION"))),
    );
    if let Some(key) = api_key {
        let mut value = HeaderValue::try_from(format!("Bearer {}", key.expose()))
            .map_err(|_| "the API key holds characters that cannot stand in a header".to_owned())?;
        value.set_sensitive(true);
        headers.insert(header::AUTHORIZATION, value);
    }
    Ok(headers)
}

impl Transport {
    pub(super) fn new(config: OpenAiConfig) -> Result<Self, String> {
        let OpenAiConfig {
            base_url,
            api_key,
            timeouts,
            caps,
            retry,
        } = config;
        let [chat, models] = endpoints(&base_url)?;
        Ok(Self {
            chat,
            models,
            client: client(&timeouts, &caps)?,
            headers: headers(api_key.as_ref())?,
            timeouts,
            caps,
            retry,
        })
    }

    pub(super) fn caps(&self) -> &Caps {
        &self.caps
    }

    /// Runs `attempt` until it succeeds, fails for good, or the policy or the deadline says to stop.
    pub(super) async fn retrying<T, F>(
        &self,
        deadline: Instant,
        mut attempt: impl FnMut() -> F,
    ) -> Result<T, ProviderError>
    where
        F: Future<Output = Result<T, ProviderError>>,
    {
        let mut wait = self.retry.backoff;
        for left in (0..self.retry.attempts.max(1)).rev() {
            let error = match attempt().await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let asked = match &error {
                ProviderError::RateLimited { retry_after } => *retry_after,
                _ => Duration::ZERO,
            };
            // Waiting longer than the policy would hold the caller's connection for the provider's sake.
            if left == 0
                || !error.is_transient()
                || asked > wait
                || Instant::now() + wait >= deadline
            {
                return Err(error);
            }
            tracing::debug!(
                code = error.code(),
                attempts_left = left,
                "provider call is tried again"
            );
            sleep(wait).await;
            wait *= 2;
        }
        Err(ProviderError::Timeout(TimeoutPhase::Deadline))
    }

    pub(super) async fn post_chat(
        &self,
        ctx: &CallContext,
        body: Bytes,
        expect: Expect,
    ) -> Result<Answer, ProviderError> {
        let mut request = self.request(Method::POST, &self.chat, body);
        if let Ok(trace) = HeaderValue::try_from(ctx.trace.to_string()) {
            request.headers_mut().insert("traceparent", trace);
        }
        let state = ctx.trace.state.as_deref().map(HeaderValue::try_from);
        if let Some(Ok(state)) = state {
            request.headers_mut().insert("tracestate", state);
        }
        let answer = self.send(request, Instant::from_std(ctx.deadline)).await?;
        let is_events = answer
            .content_type
            .as_ref()
            .is_some_and(|value| value.as_bytes().starts_with(b"text/event-stream"));
        if is_events != (expect == Expect::Events) {
            return Err(ProviderError::invalid_response("content type"));
        }
        Ok(answer)
    }

    pub(super) async fn get_models(&self, deadline: Instant) -> Result<Answer, ProviderError> {
        self.send(
            self.request(Method::GET, &self.models, Bytes::new()),
            deadline,
        )
        .await
    }

    fn request(&self, method: Method, uri: &Uri, body: Bytes) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = uri.clone();
        *request.headers_mut() = self.headers.clone();
        request
    }

    async fn send(
        &self,
        request: Request<Full<Bytes>>,
        deadline: Instant,
    ) -> Result<Answer, ProviderError> {
        let first_byte = Instant::now() + self.timeouts.first_byte;
        let patience = Patience::new(first_byte, self.timeouts.idle, deadline);
        let response = timeout_at(patience.until, self.client.request(request))
            .await
            .map_err(|_| ProviderError::Timeout(patience.phase()))?
            .map_err(connect_error)?;
        let (head, body) = response.into_parts();
        if head.status == StatusCode::OK {
            return Ok(Answer {
                content_type: head.headers.get(header::CONTENT_TYPE).cloned(),
                body,
                patience,
                left: self.caps.body,
            });
        }
        Err(refusal(head.status, &head.headers, body).await)
    }
}

fn client(
    timeouts: &Timeouts,
    caps: &Caps,
) -> Result<Client<HttpsConnector<HttpConnector>, Full<Bytes>>, String> {
    // Named and not the process-wide default, which whoever starts first would choose.
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("TLS cannot be set up: {error}"))?
        .with_webpki_roots()
        .with_no_client_auth();
    let mut http = HttpConnector::new();
    http.enforce_http(false);
    http.set_nodelay(true);
    http.set_connect_timeout(Some(timeouts.connect));
    http.set_keepalive(Some(Duration::from_secs(60)));
    let connector = hyper_rustls::HttpsConnectorBuilder::new()
        .with_tls_config(tls)
        .https_or_http()
        .enable_http1()
        .wrap_connector(http);
    Ok(Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(POOL_IDLE)
        .http1_max_buf_size(caps.head.max(8 << 10))
        .build(connector))
}

/// A body that is being read.
pub(super) struct Answer {
    content_type: Option<HeaderValue>,
    body: Incoming,
    patience: Patience,
    /// Bytes that may still come.
    left: usize,
}

impl Answer {
    /// The first event has come: from now on silence counts from the last bytes.
    pub(super) fn begun(&mut self) {
        self.patience.begun();
    }

    pub(super) fn poll_data(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, ProviderError>>> {
        loop {
            match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Pending => {
                    let phase = ready!(self.patience.poll_spent(cx));
                    return Poll::Ready(Some(Err(ProviderError::Timeout(phase))));
                }
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Ready(Some(Err(error))) => {
                    return Poll::Ready(Some(Err(ProviderError::Interrupted(Some(error.into())))));
                }
                Poll::Ready(Some(Ok(frame))) => {
                    self.patience.heard();
                    let Ok(data) = frame.into_data() else {
                        continue;
                    };
                    match self.left.checked_sub(data.len()) {
                        Some(left) => self.left = left,
                        None => {
                            return Poll::Ready(Some(Err(ProviderError::TooLarge {
                                what: "body",
                            })));
                        }
                    }
                    return Poll::Ready(Some(Ok(data)));
                }
            }
        }
    }

    /// The whole body.
    pub(super) async fn collect(mut self) -> Result<Bytes, ProviderError> {
        self.begun();
        let Some(first) = poll_fn(|cx| self.poll_data(cx)).await.transpose()? else {
            return Ok(Bytes::new());
        };
        if self.body.is_end_stream() {
            return Ok(first);
        }
        let mut whole = Vec::from(first);
        while let Some(data) = poll_fn(|cx| self.poll_data(cx)).await.transpose()? {
            whole.extend_from_slice(&data);
        }
        Ok(whole.into())
    }
}

/// When waiting ends. The timer is touched only while there is nothing to read, and is not moved by every chunk: it fires at the
/// earliest moment that was possible when it was set, and is set again if something came meanwhile.
struct Patience {
    idle: Duration,
    deadline: Instant,
    until: Instant,
    is_begun: bool,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Patience {
    fn new(first_byte: Instant, idle: Duration, deadline: Instant) -> Self {
        Self {
            idle,
            deadline,
            until: first_byte.min(deadline),
            is_begun: false,
            timer: None,
        }
    }

    fn begun(&mut self) {
        self.is_begun = true;
        self.heard();
    }

    fn heard(&mut self) {
        if self.is_begun {
            self.until = (Instant::now() + self.idle).min(self.deadline);
        }
    }

    fn phase(&self) -> TimeoutPhase {
        match (self.until == self.deadline, self.is_begun) {
            (true, _) => TimeoutPhase::Deadline,
            (false, true) => TimeoutPhase::Idle,
            (false, false) => TimeoutPhase::FirstByte,
        }
    }

    fn poll_spent(&mut self, cx: &mut Context<'_>) -> Poll<TimeoutPhase> {
        loop {
            // A timer that is too late (the wait for the first event may be longer than the idle one) is replaced, too.
            if self
                .timer
                .as_ref()
                .is_none_or(|timer| timer.deadline() > self.until)
            {
                self.timer = Some(Box::pin(sleep_until(self.until)));
            }
            let Some(timer) = &mut self.timer else {
                return Poll::Pending;
            };
            ready!(timer.as_mut().poll(cx));
            if timer.deadline() >= self.until {
                return Poll::Ready(self.phase());
            }
            timer.as_mut().reset(self.until);
        }
    }
}

fn connect_error(error: hyper_util::client::legacy::Error) -> ProviderError {
    match error
        .source()
        .and_then(|source| source.downcast_ref::<hyper::Error>())
    {
        Some(source) if source.is_parse_too_large() => ProviderError::TooLarge { what: "head" },
        Some(source) if source.is_parse() => ProviderError::InvalidResponse {
            what: "head",
            source: Some(error.into()),
        },
        _ => ProviderError::ConnectFailed(error.into()),
    }
}

/// The provider says no.
async fn refusal(status: StatusCode, headers: &HeaderMap, body: Incoming) -> ProviderError {
    if status == StatusCode::TOO_MANY_REQUESTS {
        return ProviderError::RateLimited {
            retry_after: retry_after(headers),
        };
    }
    if status.is_informational() || status.is_success() || status.is_redirection() {
        return ProviderError::invalid_response("status");
    }
    let soon = Instant::now() + ERROR_PATIENCE;
    let answer = Answer {
        content_type: None,
        body,
        patience: Patience::new(soon, ERROR_PATIENCE, soon),
        left: ERROR_CAP,
    };
    let text = answer.collect().await.unwrap_or_default();
    tracing::debug!(status = status.as_u16(), "provider refused");
    // Of a bad key or a server's own failure the text is about our side, not about the request.
    let about_request = matches!(status.as_u16(), 400 | 404 | 409 | 413 | 422);
    ProviderError::Upstream {
        status: status.as_u16(),
        message: about_request.then(|| shown_message(&text)).flatten(),
    }
}

fn retry_after(headers: &HeaderMap) -> Duration {
    let number = |name: &str| headers.get(name)?.to_str().ok()?.trim().parse::<u64>().ok();
    number("retry-after-ms")
        .map(Duration::from_millis)
        .or_else(|| number("retry-after").map(Duration::from_secs))
        .map_or(DEFAULT_RETRY_AFTER, |wait| {
            wait.clamp(Duration::from_millis(1), Duration::from_secs(3600))
        })
}

/// The provider's own sentence, where nothing in it can be an address, a path or a key.
fn shown_message(body: &[u8]) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Body {
        error: Fault,
    }
    #[derive(serde::Deserialize)]
    #[serde(untagged)]
    enum Fault {
        Object { message: String },
        Text(String),
    }
    let message = match serde_json::from_slice::<Body>(body).ok()?.error {
        Fault::Object { message } | Fault::Text(message) => message,
    };
    let fits = !message.is_empty()
        && message.chars().count() <= 300
        && !message.chars().any(char::is_control);
    (fits && message.split_whitespace().all(is_harmless)).then_some(message)
}

/// A word that is no URL, path, host, address or key. Errs on the side of saying no: the caller then reads a general sentence.
fn is_harmless(word: &str) -> bool {
    let word = word.trim_matches(|c: char| {
        !c.is_alphanumeric() && !matches!(c, '/' | '\\' | ':' | '[' | ']' | '.')
    });
    let core = word.trim_end_matches(['.', ':', ',']);
    let letters_and_digits =
        core.chars().any(|c| c.is_ascii_digit()) && core.chars().any(|c| c.is_ascii_alphabetic());
    let chars: Vec<char> = core.chars().collect();
    let dotted = chars
        .windows(3)
        .any(|w| w[0].is_alphabetic() && w[1] == '.' && w[2].is_alphabetic());
    let with_port = core
        .rsplit_once(':')
        .is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    !(core.contains("://")
        || core.contains("localhost")
        || core.contains('@')
        || core.contains('\\')
        || core.starts_with('/')
        || core.matches('/').count() > 1
        || core.starts_with("sk-")
        || (letters_and_digits && core.len() >= 24)
        || core.len() > 60
        || dotted
        || with_port
        || core.parse::<SocketAddr>().is_ok()
        || core.trim_matches(['[', ']']).parse::<IpAddr>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_harmless_sentences_are_shown() {
        let shown = |text: &str| {
            shown_message(
                serde_json::json!({"error": {"message": text}})
                    .to_string()
                    .as_bytes(),
            )
        };
        for good in [
            "max_tokens is too large: 5000. This model supports at most 4096.",
            "Invalid value for 'messages[0].content'.",
            "The model `gpt-4.1-mini` does not exist",
        ] {
            assert_eq!(shown(good).as_deref(), Some(good));
        }
        for bad in [
            "cannot reach http://10.0.0.7:8000/v1",
            "upstream 10.0.0.7 failed",
            "upstream 10.0.0.7:80 failed",
            "no route to vllm-0.models.svc.cluster.local",
            "worker:8000 is gone",
            "[fe80::1] is gone",
            "file /srv/models/x.gguf",
            "Incorrect API key provided: sk-proj-abc",
            "key Ab12Ab12Ab12Ab12Ab12Ab12Ab12",
            "C:\\models\\x",
            "a\nb",
            "",
        ] {
            assert_eq!(shown(bad), None, "{bad}");
        }
        assert_eq!(shown_message(b"<html>nginx</html>"), None);
    }

    #[test]
    fn the_address_is_checked_once() {
        let new = |url: &str| Transport::new(OpenAiConfig::new(url.parse().unwrap()));
        for (url, chat) in [
            (
                "http://127.0.0.1:8000",
                "http://127.0.0.1:8000/v1/chat/completions",
            ),
            (
                "https://api.example.com/v1/",
                "https://api.example.com/v1/chat/completions",
            ),
            (
                "https://api.example.com/proxy/openai",
                "https://api.example.com/proxy/openai/chat/completions",
            ),
        ] {
            assert_eq!(new(url).unwrap().chat, chat);
        }
        for bad in [
            "ftp://x/",
            "http://user:secret@x/",
            "http://x/v1?key=secret",
            "file:///x",
        ] {
            let error = new(bad).unwrap_err();
            assert!(!error.contains("secret"), "{error}");
        }
        let mut config = OpenAiConfig::new("http://x/".parse().unwrap());
        config.api_key = Some(ambit_types::Secret::new("sk-secret\n"));
        assert!(
            !Transport::new(config.clone())
                .unwrap_err()
                .contains("sk-secret")
        );
        config.api_key = Some(ambit_types::Secret::new("sk-secret"));
        assert!(!format!("{:?}", Transport::new(config).unwrap()).contains("sk-secret"));
    }
}
