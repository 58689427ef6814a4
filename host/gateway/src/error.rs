//! One error, two dialects: OpenAI's on `/v1`, RFC 9457 on `/admin`.
//!
//! [`ambit_types::Error`] decides status, code and text; here they only get their shape. The cause is logged here, once, under the
//! request's span and never sent.

use ambit_types::{Error, ErrorKind};
use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, header};
use serde_json::{Map, Value, json};

/// Answers with `{"error": {message, type, code, param}}`, plus `category` where a guardrail rejected the text.
#[derive(Debug)]
pub(crate) struct OpenAiError(pub(crate) Error);

impl<E: Into<Error>> From<E> for OpenAiError {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for OpenAiError {
    fn into_response(self) -> Response {
        log(&self.0);
        answer(&self.0, "application/json", &openai_body(&self.0))
    }
}

/// Answers with RFC 9457 problem details: `type`, `title`, `status`, `detail`, plus our `code` and, where known, `param`.
#[derive(Debug)]
pub(crate) struct Problem(pub(crate) Error);

impl<E: Into<Error>> From<E> for Problem {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        log(&self.0);
        let error = &self.0;
        let status = status(error);
        let mut body = Map::new();
        // RFC 9457 §4.2.1: with `about:blank` the title is the status's own phrase; the code is what programs act on.
        body.insert("type".to_owned(), "about:blank".into());
        body.insert(
            "title".to_owned(),
            status.canonical_reason().unwrap_or("Error").into(),
        );
        body.insert("status".to_owned(), status.as_u16().into());
        body.insert("detail".to_owned(), error.message().into());
        body.insert("code".to_owned(), error.code().into());
        if let ErrorKind::Invalid { param: Some(param) } = error.kind() {
            body.insert("param".to_owned(), param.as_str().into());
        }
        answer(error, "application/problem+json", &Value::Object(body))
    }
}

/// The error object of OpenAI's API, also sent as the last event of a stream that failed.
pub(crate) fn openai_body(error: &Error) -> Value {
    let kind = match error.kind() {
        ErrorKind::Unauthenticated => "authentication_error",
        ErrorKind::Forbidden => "permission_error",
        ErrorKind::RateLimited { .. } => "rate_limit_error",
        ErrorKind::InsufficientQuota { .. } => "insufficient_quota",
        ErrorKind::ProviderFailed { .. } | ErrorKind::ProviderTimeout => "provider_error",
        _ if error.status() < 500 => "invalid_request_error",
        _ => "server_error",
    };
    let param = match error.kind() {
        ErrorKind::Invalid { param } => param.as_deref(),
        _ => None,
    };
    let mut body =
        json!({"message": error.message(), "type": kind, "param": param, "code": error.code()});
    if let ErrorKind::ContentFiltered { category } = error.kind() {
        body["category"] = category.as_str().into();
    }
    json!({ "error": body })
}

fn answer(error: &Error, content_type: &'static str, body: &Value) -> Response {
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = status(error);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    if *error.kind() == ErrorKind::Unauthenticated {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    if let Some(seconds) = error.retry_after() {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

fn status(error: &Error) -> StatusCode {
    StatusCode::from_u16(error.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// The whole chain of causes, once: as an error where we are at fault, for information where the caller is.
pub(crate) fn log(error: &Error) {
    let mut chain = String::new();
    let mut cause = std::error::Error::source(error);
    while let Some(source) = cause {
        chain.push_str(": ");
        chain.push_str(&source.to_string());
        cause = source.source();
    }
    if error.status() >= 500 {
        tracing::error!(
            code = error.code(),
            cause = chain.trim_start_matches(": "),
            "{error}"
        );
    } else if !chain.is_empty() {
        tracing::info!(
            code = error.code(),
            cause = chain.trim_start_matches(": "),
            "{error}"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    async fn read(response: Response) -> (u16, http::HeaderMap, Value) {
        let (parts, body) = response.into_parts();
        let bytes = axum::body::to_bytes(body, 1 << 20).await.unwrap();
        (
            parts.status.as_u16(),
            parts.headers,
            serde_json::from_slice(&bytes).unwrap(),
        )
    }

    #[tokio::test]
    async fn speaks_openai() {
        let (status, headers, body) =
            read(OpenAiError(Error::invalid("messages[0]", "is missing")).into_response()).await;
        assert_eq!(
            (status, &headers["content-type"]),
            (400, &HeaderValue::from_static("application/json"))
        );
        let expected = json!({"error": {"message": "is missing", "type": "invalid_request_error", "param": "messages[0]", "code": "invalid_request"}});
        assert_eq!(body, expected);
    }

    #[tokio::test]
    async fn hints_travel_as_headers() {
        let limited = ErrorKind::RateLimited {
            retry_after: Duration::from_millis(1500),
        };
        let (status, headers, _) =
            read(OpenAiError(Error::new(limited, "slow down")).into_response()).await;
        assert_eq!(
            (status, &headers["retry-after"]),
            (429, &HeaderValue::from_static("2"))
        );
        let (status, headers, _) =
            read(Problem(Error::new(ErrorKind::Unauthenticated, "no")).into_response()).await;
        assert_eq!(
            (status, &headers["www-authenticate"]),
            (401, &HeaderValue::from_static("Bearer"))
        );
        let rejected = ErrorKind::ContentFiltered {
            category: "pii/credit-card".to_owned(),
        };
        let (_, _, body) = read(OpenAiError(Error::new(rejected, "no")).into_response()).await;
        assert_eq!(body["error"]["category"], "pii/credit-card");
    }

    #[tokio::test]
    async fn never_sends_the_cause() {
        let error = Error::internal(std::io::Error::other(
            "connect 10.0.0.5:5432 as /var/lib/ambit",
        ));
        for response in [
            OpenAiError(error.clone()).into_response(),
            Problem(error).into_response(),
        ] {
            let (status, _, body) = read(response).await;
            assert_eq!(status, 500);
            assert!(
                !body.to_string().contains("10.0.0.5") && !body.to_string().contains("/var"),
                "{body}"
            );
        }
    }
}
