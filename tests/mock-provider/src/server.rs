//! HTTP around the script.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::BodyExt as _;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::{Mutex, RwLock};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::{
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
    answer::{completion, events, say, spoil},
    body::Played,
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
    saying: RwLock<Arc<Saying>>,
    counters: Arc<Counters>,
}

struct Saying {
    script: Script,
    /// The whole JSON answer of a script that says the same to everybody.
    ready: Option<Bytes>,
}

impl Saying {
    fn new(script: Script) -> Arc<Self> {
        let ready = match &script.reply {
            Reply::Text(text) => Some(completion(&script, Some(text), &[], 0)),
            _ => None,
        };
        Arc::new(Self { script, ready })
    }
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    requests: AtomicU64,
    pub(crate) cancelled: AtomicU64,
    connections: AtomicU64,
    faults: AtomicU64,
    calls: Mutex<Vec<Call>>,
    bodies: Mutex<Vec<Bytes>>,
    heads: Mutex<Vec<HeaderMap>>,
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
    /// Headers of chat requests, while recording.
    #[serde(skip)]
    pub heads: Vec<HeaderMap>,
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
        let shared = Arc::new(Shared {
            saying: RwLock::new(Saying::new(script)),
            counters: Arc::default(),
        });
        #[allow(
            clippy::disallowed_methods,
            reason = "ends with the mock, which aborts it when dropped"
        )]
        let task = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Ok(Self {
            address,
            shared,
            task,
        })
    }

    /// Follows this script from the next request on.
    pub fn follow(&self, script: Script) {
        *self.shared.saying.write() = Saying::new(script);
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
            heads: self.heads.lock().clone(),
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
            let saying = Arc::clone(&shared.saying.read());
            json_response(&shared, StatusCode::OK, models(&saying.script))
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
    let counters = &shared.counters;
    let saying = Arc::clone(&shared.saying.read());
    let Saying { script, ready } = &*saying;
    counters.requests.fetch_add(1, Ordering::SeqCst);
    if script.record {
        let mut seen = counters.heads.lock();
        if seen.len() < RECORDED {
            seen.push(request.headers().clone());
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
    let (text, calls) = say(&script.reply, &body);
    // Ids are unique for the life of the mock, as they are with real models.
    let first_id = {
        let mut seen = counters.calls.lock();
        seen.extend(calls.iter().cloned());
        seen.len() - calls.len()
    };
    let as_events = streams != matches!(fault, Some(Fault::WrongContentType));
    let mut response = if as_events {
        let usage = asked
            .stream_options
            .is_some_and(|options| options.include_usage);
        let events = events(script, text.as_deref(), &calls, usage, first_id);
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
            _ => completion(script, text.as_deref(), &calls, first_id),
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
