//! The pass-through core behind nothing: what HTTP in, the raw request, the provider and HTTP out cost before anything governs them.

use ambit_inference::{OpenAi, OpenAiConfig, Provider as _, RawChat, RawReply};
use ambit_types::{CallContext, Principal, RequestId, TenantId, TraceContext};
use anyhow::{Result, anyhow};
use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
    routing::post,
};
use bytes::{BufMut as _, BytesMut};
use futures::{StreamExt as _, stream};
use std::{
    io::Write as _,
    sync::Arc,
    time::{Duration, Instant},
};
use url::Url;

struct Shared {
    provider: OpenAi,
    context: CallContext,
}

/// Serves until it is killed; the first line of output says where.
pub(crate) async fn serve(provider_url: Url) -> Result<()> {
    let provider = OpenAi::new(OpenAiConfig::new(provider_url)).map_err(|error| anyhow!(error))?;
    let context = CallContext {
        tenant: TenantId::new(),
        tenant_slug: "bench".parse()?,
        principal: Arc::new(Principal {
            id: "bench".into(),
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
        deadline: Instant::now(),
    };
    let router = Router::new()
        .route("/v1/chat/completions", post(chat))
        .with_state(Arc::new(Shared { provider, context }));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    announce(&format!("http://{}/v1", listener.local_addr()?))?;
    let listener = axum::serve::ListenerExt::tap_io(listener, |socket| {
        let _ = socket.set_nodelay(true);
    });
    axum::serve(listener, router).await?;
    Ok(())
}

pub(crate) fn announce(url: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", serde_json::json!({ "url": url }))?;
    out.flush()?;
    Ok(())
}

async fn chat(State(shared): State<Arc<Shared>>, body: Bytes) -> Response {
    let context = CallContext {
        deadline: Instant::now() + Duration::from_secs(120),
        ..shared.context.clone()
    };
    let Ok(request) = RawChat::parse(body) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let (body, kind) = match shared.provider.forward(&context, "mock-1", request).await {
        Err(_) => return StatusCode::BAD_GATEWAY.into_response(),
        Ok(RawReply::Json(completion)) => {
            (Body::from(completion.body().clone()), "application/json")
        }
        Ok(RawReply::Stream(chunks)) => {
            let frames = chunks
                .filter_map(async |chunk| match chunk {
                    Ok(chunk) if !chunk.for_client => None,
                    Ok(chunk) => Some(Ok(frame(chunk.body()))),
                    Err(error) => Some(Err(error)),
                })
                .chain(stream::iter([Ok(Bytes::from_static(b"data: [DONE]\n\n"))]));
            (Body::from_stream(frames), "text/event-stream")
        }
    };
    let mut response = Response::new(body);
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

fn frame(data: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(data.len() + 8);
    frame.put_slice(b"data: ");
    frame.put_slice(data);
    frame.put_slice(b"\n\n");
    frame.freeze()
}
