//! Load: so many connections, each with one request in flight.
#![allow(
    clippy::disallowed_methods,
    reason = "the driver's tasks are waited for, or end with their connection"
)]

use anyhow::{Context as _, Result};
use bytes::Bytes;
use clap::Args;
use http::{HeaderName, HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};
use tokio::{net::TcpStream, time::sleep};

/// What is sent, and where.
#[derive(Debug, Clone)]
pub(crate) struct Shot {
    pub(crate) address: SocketAddr,
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    pub(crate) body: Bytes,
}

impl Outcome {
    /// The time in milliseconds that so many percent of the answers kept.
    pub(crate) fn percentile(&self, percent: usize) -> f64 {
        percentile(&self.times, percent)
    }
}

/// Of sorted times, in milliseconds.
pub(crate) fn percentile(times: &[Duration], percent: usize) -> f64 {
    let place = times.len() * percent / 100;
    times
        .get(place.min(times.len().saturating_sub(1)))
        .map_or(f64::NAN, |time| time.as_secs_f64() * 1e3)
}

/// A POST as arguments of a command line, for a process that sends it in this one's place.
#[derive(Debug, Args)]
pub(crate) struct ShotArguments {
    #[arg(long)]
    address: SocketAddr,
    #[arg(long)]
    uri: Uri,
    /// `name: value`
    #[arg(long)]
    header: Vec<String>,
    #[arg(long)]
    body: String,
}

impl TryFrom<ShotArguments> for Shot {
    type Error = anyhow::Error;

    fn try_from(arguments: ShotArguments) -> Result<Self> {
        let header = |text: String| {
            let (name, value) = text.split_once(": ").context("a header without value")?;
            Ok((name.parse()?, value.parse()?))
        };
        Ok(Self {
            address: arguments.address,
            method: Method::POST,
            uri: arguments.uri,
            headers: arguments
                .header
                .into_iter()
                .map(header)
                .collect::<Result<_>>()?,
            body: arguments.body.into(),
        })
    }
}

impl Shot {
    pub(crate) fn arguments(&self) -> Result<Vec<String>> {
        let mut arguments = vec![
            format!("--address={}", self.address),
            format!("--uri={}", self.uri),
            format!("--body={}", std::str::from_utf8(&self.body)?),
        ];
        for (name, value) in &self.headers {
            arguments.push(format!("--header={name}: {}", value.to_str()?));
        }
        Ok(arguments)
    }

    pub(crate) fn request(&self) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(self.body.clone()));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        request.headers_mut().extend(self.headers.iter().cloned());
        request
    }

    /// Sends it once, on a connection of its own.
    pub(crate) async fn once(&self) -> Result<(StatusCode, Bytes)> {
        let mut sender = self.connect().await?;
        let response = sender.send_request(self.request()).await?;
        let status = response.status();
        Ok((status, response.into_body().collect().await?.to_bytes()))
    }

    pub(crate) async fn connect(&self) -> Result<SendRequest<Full<Bytes>>> {
        let socket = TcpStream::connect(self.address).await?;
        socket.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(socket)).await?;
        tokio::spawn(async move {
            let _ = connection.await;
        });
        Ok(sender)
    }
}

/// What came back.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// Time of each answered request, shortest first.
    pub(crate) times: Vec<Duration>,
    /// Requests without an answer of status 200.
    pub(crate) failed: usize,
}

/// How much at once, and how fast.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    pub(crate) connections: usize,
    /// After each answer.
    pub(crate) pause: Duration,
    pub(crate) duration: Duration,
}

impl Load {
    /// As fast as answers come.
    pub(crate) fn closed(connections: usize, duration: Duration) -> Self {
        Self {
            connections,
            pause: Duration::ZERO,
            duration,
        }
    }
}

/// Sends until the time is over.
pub(crate) async fn run(shot: &Shot, load: Load) -> Result<Outcome> {
    let until = Instant::now() + load.duration;
    let tasks: Vec<_> = (0..load.connections)
        .map(|_| tokio::spawn(one(shot.clone(), load.pause, until)))
        .collect();
    let mut whole = Outcome::default();
    for task in tasks {
        let part = task.await?.context("no connection to the server")?;
        whole.times.extend(part.times);
        whole.failed += part.failed;
    }
    whole.times.sort_unstable();
    Ok(whole)
}

async fn one(shot: Shot, pause: Duration, until: Instant) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let mut sender = shot.connect().await?;
    while Instant::now() < until {
        let before = Instant::now();
        let status = async {
            sender.ready().await.ok()?;
            let response = sender.send_request(shot.request()).await.ok()?;
            let status = response.status();
            response.into_body().collect().await.ok()?;
            Some(status)
        }
        .await;
        match status {
            Some(StatusCode::OK) => outcome.times.push(before.elapsed()),
            Some(_) => outcome.failed += 1,
            None => {
                outcome.failed += 1;
                sender = shot.connect().await?;
            }
        }
        if !pause.is_zero() {
            sleep(pause).await;
        }
    }
    Ok(outcome)
}
