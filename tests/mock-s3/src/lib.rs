//! An S3 server on loopback: objects are put once (`If-None-Match: *`) and read, by path. [`Mood`] says what goes wrong.
//!
//! It knows who asks by the access key's id; signatures are the SDK's affair.

use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, Method, StatusCode, Uri, header},
    response::{IntoResponse as _, Response},
};
use std::{
    collections::BTreeMap,
    future::pending,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::{net::TcpListener, task::JoinHandle};

/// The access key that is known.
pub const KEY: &str = "AKIDANCHORS";

/// The one bucket.
pub const BUCKET: &str = "anchors";

/// A running server; ends when dropped.
#[derive(Debug)]
pub struct S3 {
    pub address: SocketAddr,
    shared: Arc<Mutex<Shared>>,
    serving: JoinHandle<()>,
}

/// How requests are answered.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Mood {
    #[default]
    Good,
    /// So many of the next requests are refused: status, code.
    Refuses(usize, u16, &'static str),
    /// Done, and answered so nevertheless, so often.
    Loses(usize, u16, &'static str),
    Hangs,
    /// A store that does not know `If-None-Match`.
    Replaces,
    /// This, as it is.
    Says(u16, &'static str),
    /// To another place.
    Redirects,
    /// After the head of an answer.
    HangsLater,
}

/// What was put.
#[derive(Debug, Clone)]
pub struct Object {
    pub body: Vec<u8>,
    pub headers: HeaderMap,
}

#[derive(Debug, Default)]
struct Shared {
    mood: Mood,
    objects: BTreeMap<String, Object>,
    asked: Vec<String>,
}

impl S3 {
    /// # Errors
    /// There is no port.
    pub async fn start() -> io::Result<Self> {
        let listener = TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Mutex::new(Shared::default()));
        let service = Router::new().fallback(answer).with_state(shared.clone());
        #[allow(clippy::disallowed_methods, reason = "ends with the server")]
        let serving = tokio::spawn(async move {
            let _ = axum::serve(listener, service).await;
        });
        Ok(Self {
            address,
            shared,
            serving,
        })
    }

    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn be(&self, mood: Mood) {
        lock(&self.shared).mood = mood;
    }

    /// What lies under a key.
    #[must_use]
    pub fn object(&self, key: &str) -> Option<Object> {
        lock(&self.shared).objects.get(key).cloned()
    }

    /// Lays something under a key, whatever was there.
    pub fn lay(&self, key: &str, body: &[u8]) {
        let object = Object {
            body: body.to_vec(),
            headers: HeaderMap::new(),
        };
        lock(&self.shared).objects.insert(key.to_owned(), object);
    }

    #[must_use]
    pub fn keys(&self) -> Vec<String> {
        lock(&self.shared).objects.keys().cloned().collect()
    }

    /// Method and key of the requests since this was asked last.
    #[must_use]
    pub fn asked(&self) -> Vec<String> {
        std::mem::take(&mut lock(&self.shared).asked)
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn answer(
    State(shared): State<Arc<Mutex<Shared>>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let path = uri.path().trim_start_matches('/');
    let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
    let mood = {
        let mut shared = lock(&shared);
        shared.asked.push(format!("{method} {key}"));
        let mood = shared.mood.clone();
        if let Mood::Refuses(left, ..) | Mood::Loses(left, ..) = &mut shared.mood {
            *left -= 1;
            if *left == 0 {
                shared.mood = Mood::Good;
            }
        }
        mood
    };
    let done = |replaces| {
        if !by(&headers, KEY) {
            return refused(403, "InvalidAccessKeyId");
        }
        if bucket != BUCKET {
            return refused(404, "NoSuchBucket");
        }
        let object = Object {
            body: body.to_vec(),
            headers: headers.clone(),
        };
        kept(&shared, &method, key, object, replaces)
    };
    match mood {
        Mood::Good => done(false),
        Mood::Replaces => done(true),
        Mood::Refuses(_, status, code) => refused(status, code),
        Mood::Loses(_, status, code) => {
            done(false);
            refused(status, code)
        }
        Mood::Hangs => pending().await,
        Mood::Says(status, text) => (code(status), text).into_response(),
        Mood::Redirects => {
            let elsewhere = [(header::LOCATION, "http://127.0.0.1:9/elsewhere")];
            (StatusCode::TEMPORARY_REDIRECT, elsewhere).into_response()
        }
        Mood::HangsLater => {
            let length = [(header::CONTENT_LENGTH, "100")];
            let nothing = futures::stream::pending::<io::Result<Bytes>>();
            (length, Body::from_stream(nothing)).into_response()
        }
    }
}

fn kept(
    shared: &Mutex<Shared>,
    method: &Method,
    key: &str,
    object: Object,
    replaces: bool,
) -> Response {
    let mut shared = lock(shared);
    let there = shared.objects.get(key);
    let once = object.headers.get(header::IF_NONE_MATCH);
    match (method.as_str(), there) {
        ("GET", Some(there)) => there.body.clone().into_response(),
        ("GET", None) => refused(404, "NoSuchKey"),
        ("PUT", Some(_)) if once.is_some_and(|once| once == "*") && !replaces => {
            refused(412, "PreconditionFailed")
        }
        ("PUT", _) => {
            shared.objects.insert(key.to_owned(), object);
            StatusCode::OK.into_response()
        }
        _ => refused(501, "NotImplemented"),
    }
}

/// Whether this access key signed the request.
fn by(headers: &HeaderMap, key: &str) -> bool {
    let signed = headers.get(header::AUTHORIZATION);
    let signed = signed.and_then(|signed| signed.to_str().ok());
    signed.is_some_and(|signed| signed.contains(&format!("Credential={key}/")))
}

fn refused(status: u16, name: &str) -> Response {
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{name}</Code><Message>no</Message></Error>"
    );
    let kind = [(header::CONTENT_TYPE, "application/xml")];
    (code(status), kind, body).into_response()
}

fn code(status: u16) -> StatusCode {
    StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}
