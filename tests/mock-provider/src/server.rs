//! HTTP around the script.

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::BodyExt as _;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::{
    collections::VecDeque,
    future::pending,
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{net::TcpListener, task::JoinHandle};

use crate::{
    body::{Played, Step},
    obedient::{Obeyed, obey, text_of},
    script::{Call, Fault, Reply, Script},
};

/// Bodies kept while recording.
const RECORDED: usize = 10_000;

/// A running server; dropping it stops it.
pub struct Mock {
    address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

struct Shared {
    script: Script,
    counters: Arc<Counters>,
    /// The whole JSON answer of a script that says the same to everybody.
    ready: Option<Bytes>,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    requests: AtomicU64,
    pub(crate) cancelled: AtomicU64,
    connections: AtomicU64,
    faults: AtomicU64,
    calls: Mutex<Vec<Call>>,
    bodies: Mutex<Vec<Bytes>>,
    authorizations: Mutex<Vec<String>>,
}

/// What the server saw until now.
#[derive(Debug, Clone, Serialize)]
pub struct Stats {
    /// Chat requests.
    pub requests: u64,
    /// Answers nobody waited for.
    pub cancelled: u64,
    pub connections: u64,
    /// Every call the model asked for, in order.
    pub calls: Vec<Call>,
    /// Bodies of chat requests, while recording.
    #[serde(skip)]
    pub bodies: Vec<Bytes>,
    #[serde(skip)]
    pub authorizations: Vec<String>,
}

impl Mock {
    /// Listens on a free port of loopback.
    ///
    /// # Errors
    /// Cannot listen.
    pub async fn start(script: Script) -> io::Result<Self> {
        Self::listen(script, SocketAddr::from(([127, 0, 0, 1], 0))).await
    }

    /// Listens on `address`.
    ///
    /// # Errors
    /// Cannot listen.
    pub async fn listen(script: Script, address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let ready = match &script.reply {
            Reply::Text(text) => Some(completion(&script, Some(text), &[])),
            _ => None,
        };
        let shared = Arc::new(Shared {
            script,
            counters: Arc::default(),
            ready,
        });
        let task = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Ok(Self {
            address,
            shared,
            task,
        })
    }

    /// The base URL for a client: `http://127.0.0.1:PORT/v1`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    #[must_use]
    pub fn stats(&self) -> Stats {
        self.shared.counters.stats()
    }
}

impl Drop for Mock {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Counters {
    fn stats(&self) -> Stats {
        Stats {
            requests: self.requests.load(Ordering::SeqCst),
            cancelled: self.cancelled.load(Ordering::SeqCst),
            connections: self.connections.load(Ordering::SeqCst),
            calls: self.calls.lock().clone(),
            bodies: self.bodies.lock().clone(),
            authorizations: self.authorizations.lock().clone(),
        }
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    // Connections end with the server, so that a dropped mock is a dead one.
    let mut connections = tokio::task::JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok((socket, _)) = listener.accept().await else {
            continue;
        };
        let _ = socket.set_nodelay(true);
        shared.counters.connections.fetch_add(1, Ordering::SeqCst);
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            let service = service_fn(move |request| answer(Arc::clone(&shared), request));
            let mut http = hyper::server::conn::http1::Builder::new();
            http.timer(TokioTimer::new()).max_buf_size(64 << 20);
            let _ = http.serve_connection(TokioIo::new(socket), service).await;
        });
    }
}

async fn answer(
    shared: Arc<Shared>,
    request: Request<Incoming>,
) -> Result<Response<Played>, io::Error> {
    let response = match (request.method(), request.uri().path()) {
        (&Method::POST, "/v1/chat/completions") => return chat(&shared, request).await,
        (&Method::GET, "/v1/models") => {
            json_response(&shared, StatusCode::OK, models(&shared.script))
        }
        (&Method::GET, "/mock/stats") => {
            let stats = serde_json::to_vec(&shared.counters.stats()).unwrap_or_default();
            json_response(&shared, StatusCode::OK, stats.into())
        }
        _ => json_response(&shared, StatusCode::NOT_FOUND, error("no such route")),
    };
    Ok(response)
}

/// The part of a request that shapes its answer.
#[derive(Deserialize)]
struct Asked {
    #[serde(default)]
    stream: Option<bool>,
    #[serde(default)]
    stream_options: Option<StreamOptions>,
}

#[derive(Deserialize)]
struct StreamOptions {
    #[serde(default)]
    include_usage: bool,
}

async fn chat(
    shared: &Arc<Shared>,
    request: Request<Incoming>,
) -> Result<Response<Played>, io::Error> {
    let Shared {
        script,
        counters,
        ready,
    } = &**shared;
    counters.requests.fetch_add(1, Ordering::SeqCst);
    if script.record {
        let mut seen = counters.authorizations.lock();
        if let (true, Some(value)) = (
            seen.len() < RECORDED,
            request.headers().get(header::AUTHORIZATION),
        ) {
            seen.push(value.to_str().unwrap_or("").to_owned());
        }
    }
    let body = request
        .into_body()
        .collect()
        .await
        .map_err(io::Error::other)?
        .to_bytes();
    if script.record {
        let mut seen = counters.bodies.lock();
        if seen.len() < RECORDED {
            seen.push(body.clone());
        }
    }
    let Ok(asked) = serde_json::from_slice::<Asked>(&body) else {
        return Ok(json_response(
            shared,
            StatusCode::BAD_REQUEST,
            error("the body is not a chat request"),
        ));
    };
    let streams = asked.stream.unwrap_or(false);
    if script.latency_ms > 0 {
        Abandoned::watch(
            counters,
            tokio::time::sleep(Duration::from_millis(script.latency_ms)),
        )
        .await;
    }
    let fault = script.fault.as_ref().filter(|_| {
        let met = counters.faults.fetch_add(1, Ordering::SeqCst);
        script.fault_times.is_none_or(|times| met < times)
    });
    match fault {
        Some(Fault::Status {
            status,
            message,
            retry_after,
        }) => {
            let status = StatusCode::from_u16(*status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            let mut response = json_response(shared, status, error(message));
            if let Some(value) = retry_after
                .as_ref()
                .and_then(|value| HeaderValue::try_from(value).ok())
            {
                response.headers_mut().insert(header::RETRY_AFTER, value);
            }
            return Ok(response);
        }
        Some(Fault::HangBeforeHead) => Abandoned::watch(counters, pending::<()>()).await,
        Some(Fault::CloseBeforeHead) => return Err(io::Error::other("scripted close")),
        _ => {}
    }
    if let (false, None, Some(ready)) = (streams, fault, ready) {
        return Ok(json_response(shared, StatusCode::OK, ready.clone()));
    }
    let (text, calls) = say(script, &body);
    counters.calls.lock().extend(calls.iter().cloned());
    let as_events = streams != matches!(fault, Some(Fault::WrongContentType));
    let mut response = if as_events {
        let usage = asked
            .stream_options
            .is_some_and(|options| options.include_usage);
        let events = events(script, text.as_deref(), &calls, usage);
        let steps = spoil(script, fault, events);
        let mut response = Response::new(Played::steps(steps, Arc::clone(counters)));
        response.headers_mut().insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("text/event-stream; charset=utf-8"),
        );
        response
    } else {
        let body = match fault {
            Some(Fault::MalformedAfter(_)) => Bytes::from_static(b"{\"choices\": [{"),
            _ => completion(script, text.as_deref(), &calls),
        };
        json_response(shared, StatusCode::OK, body)
    };
    if let Some(Fault::HugeHead(size)) = fault
        && let Ok(value) = HeaderValue::try_from("x".repeat(*size))
    {
        response.headers_mut().insert("x-huge", value);
    }
    Ok(response)
}

/// Counts a wait that was given up.
struct Abandoned<'a>(Option<&'a Counters>);

impl<'a> Abandoned<'a> {
    async fn watch(counters: &'a Counters, wait: impl Future<Output = ()>) {
        let mut watch = Self(Some(counters));
        wait.await;
        watch.0 = None;
    }
}

impl Drop for Abandoned<'_> {
    fn drop(&mut self) {
        if let Some(counters) = self.0 {
            counters.cancelled.fetch_add(1, Ordering::SeqCst);
        }
    }
}

fn say(script: &Script, body: &[u8]) -> (Option<String>, Vec<Call>) {
    match &script.reply {
        Reply::Text(text) => (Some(text.clone()), Vec::new()),
        Reply::ToolsThenText { calls, text } => match last_message(body, None) {
            Some(message) if message["role"] == "tool" => (Some(text.clone()), Vec::new()),
            _ => (None, calls.clone()),
        },
        Reply::Echo => (
            Some(
                last_message(body, Some("user"))
                    .map(|m| text_of(&m["content"]))
                    .unwrap_or_default(),
            ),
            Vec::new(),
        ),
        Reply::Obedient => match obey(body) {
            Obeyed::Text(text) => (Some(text), Vec::new()),
            Obeyed::Calls(calls) => (None, calls),
        },
    }
}

fn last_message(body: &[u8], role: Option<&str>) -> Option<Value> {
    let body: Value = serde_json::from_slice(body).ok()?;
    body["messages"]
        .as_array()?
        .iter()
        .rfind(|message| role.is_none_or(|role| message["role"] == role))
        .cloned()
}

fn model(script: &Script) -> &str {
    script.models.first().map_or("mock-1", String::as_str)
}

fn completion(script: &Script, text: Option<&str>, calls: &[Call]) -> Bytes {
    let mut message = json!({"role": "assistant", "content": text, "refusal": null});
    if !calls.is_empty() {
        message["tool_calls"] = calls
            .iter()
            .enumerate()
            .map(|(n, call)| json!({"id": format!("call_{n}"), "type": "function", "function": call}))
            .collect();
    }
    let finish = if calls.is_empty() {
        "stop"
    } else {
        "tool_calls"
    };
    Bytes::from(
        json!({
            "id": "chatcmpl-mock", "object": "chat.completion", "created": 1_700_000_000, "model": model(script),
            "choices": [{"index": 0, "message": message, "logprobs": null, "finish_reason": finish}],
            "usage": usage(script), "system_fingerprint": "fp_mock", "x_unknown": {"kept": true},
        })
        .to_string(),
    )
}

fn usage(script: &Script) -> Value {
    let usage = script.usage;
    json!({
        "prompt_tokens": usage.input, "completion_tokens": usage.output, "total_tokens": usage.input + usage.output,
        "prompt_tokens_details": {"cached_tokens": usage.cached}, "completion_tokens_details": {"reasoning_tokens": usage.reasoning},
    })
}

fn chunk(script: &Script, choices: Value, usage: Value) -> Step {
    let chunk = json!({
        "id": "chatcmpl-mock", "object": "chat.completion.chunk", "created": 1_700_000_000, "model": model(script),
        "choices": choices, "usage": usage, "x_unknown": 1.50,
    });
    Step::Data(Bytes::from(format!("data: {chunk}\n\n")))
}

fn delta(script: &Script, delta: Value, finish: Option<&str>) -> Step {
    chunk(
        script,
        json!([{"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish}]),
        Value::Null,
    )
}

/// The events of a whole, healthy stream.
fn events(script: &Script, text: Option<&str>, calls: &[Call], wants_usage: bool) -> Vec<Step> {
    let mut events = vec![delta(
        script,
        json!({"role": "assistant", "content": if calls.is_empty() { json!("") } else { Value::Null }}),
        None,
    )];
    let chars: Vec<char> = text.unwrap_or("").chars().collect();
    for piece in chars.chunks(script.chars_per_event.max(1)) {
        events.push(if script.stamped {
            Step::Stamp
        } else {
            delta(
                script,
                json!({"content": piece.iter().collect::<String>()}),
                None,
            )
        });
    }
    for (n, call) in calls.iter().enumerate() {
        let head = json!({"index": n, "id": format!("call_{n}"), "type": "function", "function": {"name": call.name, "arguments": ""}});
        events.push(delta(script, json!({"tool_calls": [head]}), None));
    }
    // Fragments of parallel calls alternate, as they may.
    let mut rest: Vec<Vec<char>> = calls
        .iter()
        .map(|call| call.arguments.chars().collect())
        .collect();
    while rest.iter().any(|arguments| !arguments.is_empty()) {
        for (n, arguments) in rest
            .iter_mut()
            .enumerate()
            .filter(|(_, arguments)| !arguments.is_empty())
        {
            let piece: String = arguments
                .drain(..arguments.len().min(script.chars_per_event.max(1)))
                .collect();
            events.push(delta(
                script,
                json!({"tool_calls": [{"index": n, "function": {"arguments": piece}}]}),
                None,
            ));
        }
    }
    events.push(delta(
        script,
        json!({}),
        Some(if calls.is_empty() {
            "stop"
        } else {
            "tool_calls"
        }),
    ));
    if wants_usage {
        events.push(chunk(script, json!([]), usage(script)));
    }
    events.push(Step::Data(Bytes::from_static(b"data: [DONE]\n\n")));
    events
}

/// Paces, cuts and breaks a healthy stream as the script says.
fn spoil(script: &Script, fault: Option<&Fault>, mut events: Vec<Step>) -> VecDeque<Step> {
    let data = |text: &'static str| Step::Data(Bytes::from_static(text.as_bytes()));
    let mut cut = |after: usize, then: Vec<Step>| {
        events.truncate(after);
        events.extend(then);
    };
    match fault {
        Some(Fault::HangBeforeFirstEvent) => cut(0, vec![Step::Hang]),
        Some(Fault::HangAfter(n)) => cut(*n, vec![Step::Hang]),
        Some(Fault::BreakAfter(n)) => cut(*n, vec![Step::Break]),
        Some(Fault::EndAfter(n)) => cut(*n, vec![]),
        Some(Fault::DoneAfter(n)) => cut(*n, vec![data("data: [DONE]\n\n")]),
        Some(Fault::MalformedAfter(n)) => {
            cut(*n, vec![data("data: {\"choices\": [{]\n\n"), Step::Hang])
        }
        Some(Fault::ErrorAfter(n)) => {
            cut(
                *n,
                vec![
                    data(
                        "data: {\"error\":{\"message\":\"worker 10.0.0.7:8000 died\",\"type\":\"server_error\"}}\n\n",
                    ),
                    Step::Hang,
                ],
            );
        }
        Some(Fault::HugeLine(size)) => cut(
            1,
            vec![
                Step::Data(Bytes::from(format!("data: {}", "x".repeat(*size)))),
                Step::Hang,
            ],
        ),
        _ => {}
    }
    let pace = Duration::from_millis(script.pace_ms);
    let (size, wait) = match fault {
        Some(Fault::Drip(ms)) => (1, Duration::from_millis(*ms)),
        _ => (script.bytes_per_chunk, Duration::ZERO),
    };
    let mut steps = VecDeque::new();
    for (n, event) in events.into_iter().enumerate() {
        if n > 0 && !pace.is_zero() {
            steps.push_back(Step::Wait(pace));
        }
        match event {
            Step::Data(bytes) if size > 0 => {
                for start in (0..bytes.len()).step_by(size) {
                    if !wait.is_zero() {
                        steps.push_back(Step::Wait(wait));
                    }
                    steps.push_back(Step::Data(
                        bytes.slice(start..bytes.len().min(start + size)),
                    ));
                }
            }
            other => steps.push_back(other),
        }
    }
    steps
}

fn models(script: &Script) -> Bytes {
    let data: Vec<Value> = script
        .models
        .iter()
        .map(
            |id| json!({"id": id, "object": "model", "created": 1_700_000_000, "owned_by": "mock"}),
        )
        .collect();
    Bytes::from(json!({"object": "list", "data": data}).to_string())
}

fn error(message: &str) -> Bytes {
    Bytes::from(
        json!({"error": {"message": message, "type": "mock_error", "code": null, "param": null}})
            .to_string(),
    )
}

fn json_response(shared: &Shared, status: StatusCode, body: Bytes) -> Response<Played> {
    let mut response = Response::new(Played::whole(body, Arc::clone(&shared.counters)));
    *response.status_mut() = status;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    response
}
