//! Closed-loop load: so many connections, each with one request in flight.
#![allow(
    clippy::disallowed_methods,
    reason = "the driver's tasks are waited for, or end with their connection"
)]

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};
use tokio::net::TcpStream;

/// What is sent, and where.
#[derive(Debug, Clone)]
pub(crate) struct Shot {
    pub(crate) address: SocketAddr,
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    pub(crate) body: Bytes,
}

impl Shot {
    pub(crate) fn request(&self) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(self.body.clone()));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        request.headers_mut().extend(self.headers.iter().cloned());
        request
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
    /// Time of each answered request.
    pub(crate) times: Vec<Duration>,
    /// Requests without an answer of status 200.
    pub(crate) failed: usize,
}

/// Sends as fast as answers come, for `duration`.
pub(crate) async fn run(shot: &Shot, connections: usize, duration: Duration) -> Result<Outcome> {
    let until = Instant::now() + duration;
    let tasks: Vec<_> = (0..connections)
        .map(|_| tokio::spawn(one(shot.clone(), until)))
        .collect();
    let mut whole = Outcome::default();
    for task in tasks {
        let part = task.await?.context("no connection to the server")?;
        whole.times.extend(part.times);
        whole.failed += part.failed;
    }
    Ok(whole)
}

async fn one(shot: Shot, until: Instant) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let mut sender = shot.connect().await?;
    while Instant::now() < until {
        let before = Instant::now();
        let ok = async {
            sender.ready().await.ok()?;
            let response = sender.send_request(shot.request()).await.ok()?;
            let good = response.status() == http::StatusCode::OK;
            response.into_body().collect().await.ok()?;
            good.then_some(())
        }
        .await;
        match ok {
            Some(()) => outcome.times.push(before.elapsed()),
            None => {
                outcome.failed += 1;
                sender = shot.connect().await?;
            }
        }
    }
    Ok(outcome)
}
