//! What every test of this crate needs.
#![allow(dead_code, reason = "not every test needs all of it")]

use ambit_types::{CallContext, Principal, RequestId, TenantId, TraceContext};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

pub(crate) fn context() -> CallContext {
    context_for(Duration::from_secs(20))
}

pub(crate) fn context_for(patience: Duration) -> CallContext {
    CallContext {
        tenant: TenantId::new(),
        tenant_slug: "acme".parse().unwrap(),
        principal: Arc::new(Principal {
            id: "test".into(),
            scopes: Vec::new(),
            key: None,
            issuer: None,
            expires_at: None,
            credential: None,
        }),
        request: RequestId::new(),
        session: None,
        agent: None,
        cpu: None,
        trace: TraceContext::new(),
        deadline: Instant::now() + patience,
    }
}

/// A server that says exactly this to every request, well-formed or not; its address.
pub(crate) async fn says(content_type: &str, body: &str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    let length = body.len();
    let answer = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    );
    #[allow(clippy::disallowed_methods, reason = "ends with the test")]
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut request = [0; 4096];
            let _ = socket.read(&mut request).await;
            let _ = socket.write_all(answer.as_bytes()).await;
        }
    });
    url
}
