//! Spans as a collector receives them: one trace from the caller to the provider, one span per component call, no text and no key in
//! them or in the log; and a collector that is gone or hangs costs spans, not requests.

use ambit_mock_provider::{Call, Mock, Reply, Script};
use ambit_scenarios::{Tenant, Up, binary};
use axum::{Router, body::Bytes, extract::State, routing::post};
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest, common::v1::any_value, trace::v1::Span,
};
use prost::Message as _;
use reqwest::{
    Client, Response,
    header::{HOST, HeaderMap},
};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    net::TcpListener,
    process::{Child, Command},
    time::timeout,
};

const PATIENCE: Duration = Duration::from_secs(120);

/// What the caller's tracing system says to those behind us.
const STATE: &str = "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE";

/// Texts that must never be seen: each says in which of its places it was planted.
const PROMPT: &str = "heliotrope-canary-of-the-prompt";
const DOCUMENT: &str = "verdigris-canary-of-the-document";
const ANSWER: &str = "carmine-canary-of-the-answer";
const ARGUMENT: &str = "viridian-canary-of-an-argument";
const PROVIDER_KEY: &str = "cerulean-canary-of-the-key";

/// A collector that keeps what it is sent.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<Bytes>>>);

impl Collector {
    async fn start() -> (Self, String) {
        let collector = Self::default();
        let router = Router::new()
            .route(
                "/v1/traces",
                post(async |State(Self(batches)): State<Self>, body: Bytes| {
                    batches.lock().unwrap().push(body);
                }),
            )
            .with_state(collector.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        #[allow(clippy::disallowed_methods, reason = "ends with the test")]
        tokio::spawn(async move { axum::serve(listener, router).await });
        (collector, url)
    }

    fn spans(&self) -> Vec<Span> {
        let batches = self.0.lock().unwrap();
        let requests = batches
            .iter()
            .map(|batch| ExportTraceServiceRequest::decode(batch.clone()).unwrap());
        requests
            .flat_map(|request| request.resource_spans)
            .flat_map(|of_resource| of_resource.scope_spans)
            .flat_map(|of_scope| of_scope.spans)
            .collect()
    }

    fn contains(&self, text: &str) -> bool {
        let batches = self.0.lock().unwrap();
        batches.iter().any(|batch| find(batch, text))
    }
}

fn find(bytes: &[u8], text: &str) -> bool {
    bytes
        .windows(text.len())
        .any(|window| window == text.as_bytes())
}

/// The binary with its log in a file.
struct Server {
    up: Up,
    client: Client,
    child: Child,
    log: PathBuf,
    _data: TempDir,
}

impl Server {
    async fn start(binary: &Path, provider: &str, collector: &str) -> Self {
        let data = tempfile::tempdir().unwrap();
        let log = data.path().join("log");
        let mut command = Command::new(binary);
        command
            .arg("up")
            .arg("--data")
            .arg(data.path().join("data"))
            .args(["--listen", "127.0.0.1:0", "--format", "json"])
            .args(["--provider-url", provider]);
        #[allow(
            clippy::disallowed_methods,
            reason = "a test is told by its environment where things are"
        )]
        if let Some(folder) = std::env::var_os("AMBIT_COMPONENTS") {
            command.arg("--components").arg(folder);
        }
        command
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", collector)
            .env("OPENAI_API_KEY", PROVIDER_KEY)
            .env("AMBIT_LOG", "info,ambit=debug")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(&log).unwrap())
            .kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let first = timeout(PATIENCE, lines.next_line())
            .await
            .unwrap()
            .unwrap()
            .unwrap_or_else(|| panic!("{}", std::fs::read_to_string(&log).unwrap()));
        Self {
            up: serde_json::from_str(&first).unwrap(),
            client: Client::new(),
            child,
            log,
            _data: data,
        }
    }

    fn acme(&self) -> &Tenant {
        &self.up.tenants[0]
    }

    async fn ask(&self, model: &str, text: &str, headers: HeaderMap) -> Response {
        let body = json!({"model": model, "messages": [{"role": "user", "content": text}]});
        let request = self
            .client
            .post(format!("{}/v1/chat/completions", self.up.url))
            .header(HOST, &self.acme().host)
            .bearer_auth(&self.acme().api_key)
            .headers(headers);
        request.json(&body).send().await.unwrap()
    }

    async fn admin(&self, method: &str, path: &str, body: &Value) {
        let url = format!("{}/admin/v1/tenants/acme{path}", self.up.ops_url);
        let request = self
            .client
            .request(method.parse().unwrap(), url)
            .bearer_auth(&self.up.admin_key);
        let request = request.header("content-type", "application/json");
        let response = request.body(body.to_string()).send().await.unwrap();
        assert!(response.status().is_success(), "{path}: {response:?}");
    }

    /// Calls of each component, as the host counted them.
    async fn calls(&self) -> BTreeMap<String, usize> {
        let url = format!("{}/metrics", self.up.ops_url);
        let text = self.client.get(url).send().await.unwrap();
        let mut calls = BTreeMap::new();
        for line in text.text().await.unwrap().lines() {
            let Some(rest) = line.strip_prefix("ambit_component_calls_total{component=\"") else {
                continue;
            };
            let (component, rest) = rest.split_once('"').unwrap();
            let count: usize = rest.rsplit_once(' ').unwrap().1.parse().unwrap();
            *calls.entry(component.to_owned()).or_default() += count;
        }
        calls.retain(|_, count| *count > 0);
        calls
    }

    /// Asks the process to stop; how it ended, after which time, and its log.
    async fn stop(mut self) -> (ExitStatus, Duration, Vec<u8>) {
        let (at, pid) = (Instant::now(), self.child.id().unwrap().to_string());
        let told = Command::new("kill").args(["-TERM", &pid]).status().await;
        assert!(told.unwrap().success());
        let status = timeout(PATIENCE, self.child.wait()).await.unwrap().unwrap();
        (status, at.elapsed(), std::fs::read(&self.log).unwrap())
    }
}

fn attribute<'a>(span: &'a Span, name: &str) -> Option<&'a str> {
    let found = span.attributes.iter().find(|pair| pair.key == name)?;
    match found.value.as_ref()?.value.as_ref()? {
        any_value::Value::StringValue(text) => Some(text),
        _ => None,
    }
}

#[tokio::test]
async fn a_request_is_one_trace_from_its_caller_to_the_provider() {
    let Some(binary) = binary() else { return };
    let arguments = json!({"time_zone": [ARGUMENT], ARGUMENT: ARGUMENT});
    let clumsy = Reply::ToolsThenText {
        calls: vec![Call::new("current_time", arguments.to_string())],
        text: ANSWER.to_owned(),
    };
    let replies = [
        ("mock-1", Reply::Text(ANSWER.to_owned())),
        ("clumsy", clumsy),
    ];
    let mock = Mock::start(Script::models(replies)).await.unwrap();
    let (collector, url) = Collector::start().await;
    let server = Server::start(&binary, &mock.url(), &url).await;
    let document =
        json!({"_id": "secret-plan", "text": format!("The plan is {DOCUMENT}, of course.")});
    server.admin("PUT", "/collections/plans", &json!({})).await;
    server
        .admin("POST", "/collections/plans/documents", &document)
        .await;
    let agent = json!({"name": "planner", "instructions": "Help.", "model": "openai/mock-1", "collections": ["plans"]});
    server.admin("PUT", "/agents/planner", &agent).await;

    let caller = [
        (
            "planner",
            "0af7651916cd43dd8448eb211c80319c",
            "b7ad6b7169203331",
        ),
        (
            "openai/mock-1",
            "4bf92f3577b34da6a3ce929d0e0e4736",
            "00f067aa0ba902b7",
        ),
    ];
    for (model, trace, parent) in caller {
        let mut headers = HeaderMap::new();
        let header = format!("00-{trace}-{parent}-01");
        headers.insert("traceparent", header.parse().unwrap());
        headers.insert("tracestate", STATE.parse().unwrap());
        let question = format!("What is the plan of {PROMPT}?");
        let response = server.ask(model, &question, headers).await;
        assert_eq!(response.status(), 200);
        assert!(response.text().await.unwrap().contains(ANSWER));
    }
    // What fails is logged, and must not say more for it: a tool call, then the provider.
    let agent =
        json!({"name": "clumsy", "model": "openai/clumsy", "tools": ["ambit:tool-datetime"]});
    server.admin("PUT", "/agents/clumsy", &agent).await;
    let failed = server.ask("clumsy", "What time is it?", HeaderMap::new());
    assert_eq!(failed.await.status(), 200);
    let heads = mock.stats().heads;
    drop(mock);
    let question = format!("Is {PROMPT} still there?");
    let failed = server
        .ask("openai/mock-1", &question, HeaderMap::new())
        .await;
    assert_eq!(failed.status(), 502);
    let calls = server.calls().await;

    // A caller that records nothing asks for no record of ours.
    let mut unsampled = HeaderMap::new();
    let header = "00-11111111111111111111111111111111-2222222222222222-00";
    unsampled.insert("traceparent", header.parse().unwrap());
    let unsampled = server.ask("planner", "Hello", unsampled).await;
    assert_eq!(unsampled.status(), 502);
    let keys = [&server.acme().api_key, &server.up.admin_key].map(Clone::clone);
    let (status, _, log) = server.stop().await;
    assert!(status.success());

    let spans = collector.spans();
    let ids: BTreeSet<&[u8]> = spans.iter().map(|span| &span.span_id[..]).collect();
    for (model, trace, parent) in caller {
        let trace = hex::decode(trace).unwrap();
        let ours: Vec<&Span> = spans.iter().filter(|span| span.trace_id == trace).collect();
        let names: BTreeSet<&str> = ours
            .iter()
            .filter_map(|span| attribute(span, "component"))
            .collect();
        // The second request finds its key verified already.
        let expected: &[&str] = match model {
            "planner" => &[
                "ambit:auth-api-key",
                "ambit:guardrail-baseline",
                "ambit:agent-assistant",
                "ambit:retrieval-hybrid",
            ],
            _ => &["ambit:guardrail-baseline"],
        };
        for component in expected {
            assert!(
                names.contains(*component),
                "{model}: {component} in {names:?}"
            );
        }
        // One root, below the caller's span, and everything else below it.
        let (roots, rest): (Vec<&Span>, Vec<_>) =
            ours.into_iter().partition(|span| span.name == "request");
        assert_eq!(roots.len(), 1, "{model}");
        assert_eq!(hex::encode(&roots[0].parent_span_id), parent);
        for span in rest {
            assert!(ids.contains(&span.parent_span_id[..]), "{span:?}");
        }
        // The provider's own spans will hang below the request's.
        let below = format!(
            "00-{}-{}-01",
            hex::encode(&trace),
            hex::encode(&roots[0].span_id)
        );
        let sent = |head: &HeaderMap| {
            let sent = |name: &str, value: &str| head.get(name).is_some_and(|sent| sent == value);
            sent("traceparent", &below) && sent("tracestate", STATE)
        };
        assert!(heads.iter().any(sent), "{model}: {below} in {heads:?}");
    }
    assert!(spans.iter().all(|span| span.trace_id != [0x11; 16]));

    // As many spans of each component as calls of it, from the first to the scrape.
    let mut counted = BTreeMap::new();
    for component in spans.iter().filter_map(|span| attribute(span, "component")) {
        *counted.entry(component.to_owned()).or_insert(0) += 1;
    }
    assert_eq!(counted, calls);

    let log_says = |text: &str| find(&log, text);
    assert!(
        log_says("\"request\""),
        "a failure is logged with its request:\n{}",
        String::from_utf8_lossy(&log)
    );
    assert!(log_says("a tool call failed"));
    let canaries = [PROMPT, DOCUMENT, ANSWER, ARGUMENT, PROVIDER_KEY];
    for canary in canaries.into_iter().chain(keys.iter().map(String::as_str)) {
        assert!(!collector.contains(canary), "{canary} was exported");
        assert!(!log_says(canary), "{canary} was logged");
    }
}

#[tokio::test]
async fn a_collector_that_is_gone_or_hangs_costs_no_request() {
    let Some(binary) = binary() else { return };
    let mock = Mock::start(Script::text("Fine.")).await.unwrap();
    // One takes connections and never answers; of the other nothing is left but the address.
    let hangs = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addresses = [&hangs, &gone].map(|listener| listener.local_addr().unwrap());
    drop(gone);
    for address in addresses {
        let server = Server::start(&binary, &mock.url(), &format!("http://{address}")).await;
        let begun = Instant::now();
        // More spans than the queue to the collector holds.
        for _ in 0..400 {
            let response = server.ask("openai/mock-1", "Hello", HeaderMap::new()).await;
            assert_eq!(response.status(), 200);
        }
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(30), "{address}: {took:?}");
        let (status, took, log) = server.stop().await;
        let log = String::from_utf8_lossy(&log);
        assert!(status.success(), "{address}: {status} {log}");
        assert!(took < Duration::from_secs(8), "{address}: {took:?} to stop");
    }
}
