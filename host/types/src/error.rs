//! Errors as a caller sees them. What went wrong inside is the `source`: logged once, never sent.

use std::{fmt, sync::Arc, time::Duration};

/// What a program outside may act on. One HTTP status and one stable code each.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// 401: no credential, or a bad one. A key of another tenant is simply bad.
    Unauthenticated,
    /// 403: known but refused.
    Forbidden,
    /// 404: absent, or the caller may not know that it exists.
    NotFound,
    /// 405: the path is there, for other methods.
    MethodNotAllowed,
    /// 400: the request cannot be read; `param` names the field.
    Invalid { param: Option<String> },
    /// 400 `content_filter`: a guardrail rejected the text.
    ContentFiltered { category: String },
    /// 409: it is already there, or has changed meanwhile.
    Conflict,
    /// 413.
    TooLarge,
    /// 429 `rate_limit_exceeded`.
    RateLimited { retry_after: Duration },
    /// 429 `insufficient_quota`.
    InsufficientQuota { retry_after: Duration },
    /// 502: the provider failed or answered nonsense; the stable code says which.
    ProviderFailed { code: &'static str },
    /// 504: the provider did not answer in time.
    ProviderTimeout,
    /// 503: overloaded, draining or not ready.
    Unavailable { retry_after: Duration },
    /// 504 `deadline_exceeded`, or 500 `limit_exceeded`: a component spent one of its limits.
    LimitExceeded { limit: &'static str },
    /// 500. The message is always the same; the log has the cause under the request's id.
    Internal,
}

/// A failed operation: a kind to act on, one sentence for the caller, and the cause for the log.
#[derive(Debug, Clone)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    source: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// `message` goes to the caller: it names no internal address, path or other tenant.
    #[must_use]
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            source: None,
        }
    }

    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(Arc::from(source.into()));
        self
    }

    /// Something the caller can do nothing about.
    #[must_use]
    pub fn internal(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::new(
            ErrorKind::Internal,
            "something went wrong on our side; the request id helps to find it",
        )
        .because(source)
    }

    #[must_use]
    pub fn invalid(param: &str, message: impl Into<String>) -> Self {
        Self::new(
            ErrorKind::Invalid {
                param: Some(param.to_owned()),
            },
            message,
        )
    }

    #[must_use]
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::NotFound, message)
    }

    #[must_use]
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Forbidden, message)
    }

    #[must_use]
    pub fn kind(&self) -> &ErrorKind {
        &self.kind
    }

    /// What the caller reads.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// HTTP status.
    #[must_use]
    pub fn status(&self) -> u16 {
        match self.kind {
            ErrorKind::Unauthenticated => 401,
            ErrorKind::Forbidden => 403,
            ErrorKind::NotFound => 404,
            ErrorKind::MethodNotAllowed => 405,
            ErrorKind::Invalid { .. } | ErrorKind::ContentFiltered { .. } => 400,
            ErrorKind::Conflict => 409,
            ErrorKind::TooLarge => 413,
            ErrorKind::RateLimited { .. } | ErrorKind::InsufficientQuota { .. } => 429,
            ErrorKind::ProviderFailed { .. } => 502,
            ErrorKind::ProviderTimeout | ErrorKind::LimitExceeded { limit: "deadline" } => 504,
            ErrorKind::Unavailable { .. } => 503,
            ErrorKind::LimitExceeded { .. } | ErrorKind::Internal => 500,
        }
    }

    /// Stable code, the same in every dialect.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self.kind {
            ErrorKind::Unauthenticated => "invalid_api_key",
            ErrorKind::Forbidden => "permission_denied",
            ErrorKind::NotFound => "not_found",
            ErrorKind::MethodNotAllowed => "method_not_allowed",
            ErrorKind::Invalid { .. } => "invalid_request",
            ErrorKind::ContentFiltered { .. } => "content_filter",
            ErrorKind::Conflict => "conflict",
            ErrorKind::TooLarge => "request_too_large",
            ErrorKind::RateLimited { .. } => "rate_limit_exceeded",
            ErrorKind::InsufficientQuota { .. } => "insufficient_quota",
            ErrorKind::ProviderFailed { code } => code,
            ErrorKind::ProviderTimeout => "provider_timeout",
            ErrorKind::Unavailable { .. } => "unavailable",
            ErrorKind::LimitExceeded { limit: "deadline" } => "deadline_exceeded",
            ErrorKind::LimitExceeded { .. } => "limit_exceeded",
            ErrorKind::Internal => "internal_error",
        }
    }

    /// Seconds a client should wait, where waiting helps. Never 0.
    #[must_use]
    pub fn retry_after(&self) -> Option<u64> {
        match self.kind {
            ErrorKind::RateLimited { retry_after }
            | ErrorKind::InsufficientQuota { retry_after }
            | ErrorKind::Unavailable { retry_after } => {
                Some(retry_after.as_secs() + u64::from(retry_after.subsec_nanos() > 0))
                    .map(|s| s.max(1))
            }
            _ => None,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}
