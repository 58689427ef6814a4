//! A network in which the test decides what names mean and who answers, and servers that answer with given bytes.

use ambit_egress::{
    Budget, Connections, Egress, EgressError, Handles, Network, ResponseBody, Scope, SecretValue,
    Slot, Timeouts,
};
use ambit_policy::{Ambit, Limits, Permissions};
use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use std::{
    collections::VecDeque,
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

/// Answers look-ups from a list (the last answer stays) and leads every connection to one listener.
pub(crate) struct Stage {
    answers: Mutex<VecDeque<Vec<IpAddr>>>,
    listener: SocketAddr,
    pub(crate) lookups: Mutex<Vec<String>>,
    pub(crate) dialled: Mutex<Vec<SocketAddr>>,
}

impl Stage {
    pub(crate) fn new(answers: &[&[&str]], listener: SocketAddr) -> Arc<Self> {
        let parse = |answer: &&[&str]| answer.iter().map(|ip| ip.parse().unwrap()).collect();
        Arc::new(Self {
            answers: Mutex::new(answers.iter().map(parse).collect()),
            listener,
            lookups: Mutex::default(),
            dialled: Mutex::default(),
        })
    }

    pub(crate) fn lookups(&self) -> Vec<String> {
        self.lookups.lock().unwrap().clone()
    }

    pub(crate) fn dialled(&self) -> Vec<String> {
        self.dialled
            .lock()
            .unwrap()
            .iter()
            .map(ToString::to_string)
            .collect()
    }
}

impl Network for Stage {
    fn resolve(&self, host: String, _slot: Slot) -> BoxFuture<'_, io::Result<Vec<IpAddr>>> {
        self.lookups.lock().unwrap().push(host);
        let mut answers = self.answers.lock().unwrap();
        let answer = if answers.len() > 1 {
            answers.pop_front()
        } else {
            answers.front().cloned()
        };
        Box::pin(async move { answer.ok_or_else(|| io::ErrorKind::NotFound.into()) })
    }

    fn connect(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<TcpStream>> {
        self.dialled.lock().unwrap().push(address);
        Box::pin(TcpStream::connect(self.listener))
    }
}

/// A server that reads each request's head, keeps it, and writes the next script's pieces, pausing `pause` between them.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    pub(crate) async fn start(scripts: Vec<Vec<Bytes>>, pause: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (scripts, seen) = (
            Arc::new(Mutex::new(VecDeque::from(scripts))),
            Arc::clone(&requests),
        );
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(
                    stream,
                    Arc::clone(&scripts),
                    Arc::clone(&seen),
                    pause,
                ));
            }
        });
        Self { address, requests }
    }

    /// One answer for all requests.
    pub(crate) async fn answering(text: &str) -> Self {
        let answer = vec![Bytes::copy_from_slice(text.as_bytes())];
        Self::start(vec![answer; 8], Duration::ZERO).await
    }

    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

async fn serve(
    mut stream: TcpStream,
    scripts: Arc<Mutex<VecDeque<Vec<Bytes>>>>,
    seen: Arc<Mutex<Vec<String>>>,
    pause: Duration,
) {
    let mut head = Vec::new();
    let mut buffer = [0; 4096];
    // A TLS hello has no such end; it is answered all the same.
    while !head.windows(4).any(|end| end == b"\r\n\r\n") && head.first() != Some(&0x16) {
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(read) => head.extend_from_slice(&buffer[..read]),
        }
    }
    seen.lock()
        .unwrap()
        .push(String::from_utf8_lossy(&head).into_owned());
    let script = scripts.lock().unwrap().pop_front().unwrap_or_default();
    for piece in script {
        if stream.write_all(&piece).await.is_err() {
            return;
        }
        tokio::time::sleep(pause).await;
    }
}

pub(crate) const HELLO: &str = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";

pub(crate) fn grant(toml: &str) -> Arc<Ambit> {
    let grant = Arc::new(Permissions::parse(toml).unwrap());
    Arc::new(Ambit::new(Arc::clone(&grant), grant))
}

/// GET and POST on `origin`.
pub(crate) fn origin(origin: &str) -> Arc<Ambit> {
    grant(&format!(
        "http = [{{ origin = \"{origin}\", methods = [\"GET\", \"POST\"] }}]"
    ))
}

pub(crate) fn scope(ambit: Arc<Ambit>) -> Scope {
    scope_with(ambit, &Limits::default(), 1 << 20, Duration::from_secs(5))
}

pub(crate) fn scope_with(
    ambit: Arc<Ambit>,
    limits: &Limits,
    egress: u64,
    deadline: Duration,
) -> Scope {
    Scope::new(
        ambit,
        limits,
        Instant::now() + deadline,
        Connections::new(32),
        Arc::new(Budget::new(egress)),
    )
}

pub(crate) fn with_secret(scope: Scope, name: &str, value: &str) -> (Scope, String) {
    let value = SecretValue::new(ambit_types::Secret::new(value)).unwrap();
    let handles = Arc::new(Handles::new([(name.to_owned(), value)]).unwrap());
    let placeholder = handles.placeholder(name).unwrap().to_owned();
    (scope.with_secrets(handles), placeholder)
}

pub(crate) fn egress(network: Arc<Stage>) -> Egress {
    Egress::with(network, Egress::public_roots().unwrap())
}

pub(crate) fn get(uri: &str) -> Request<Full<Bytes>> {
    Request::get(uri).body(Full::default()).unwrap()
}

pub(crate) async fn send(
    egress: &Egress,
    scope: &Scope,
    uri: &str,
) -> Result<Response<ResponseBody>, EgressError> {
    egress.send(scope, get(uri), Timeouts::default()).await
}

pub(crate) async fn text(answer: Response<ResponseBody>) -> Result<String, EgressError> {
    let bytes = answer.into_body().collect().await?.to_bytes();
    Ok(String::from_utf8(bytes.to_vec()).unwrap())
}
