//! What can go wrong with a provider, and what of it a caller may read.

use ambit_types::{Error, ErrorKind};
use std::time::Duration;

type Source = Box<dyn std::error::Error + Send + Sync>;

/// Which wait ended a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeoutPhase {
    /// No byte of an answer.
    FirstByte,
    /// Nothing since the last bytes.
    Idle,
    /// The caller's own deadline.
    Deadline,
}

/// A call that did not end well. `Display` is fit for a caller; the `source` is for the log.
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    #[error("no provider `{0}` is configured")]
    UnknownProvider(String),
    #[error("the provider `{0}` serves agents only; it cannot answer a request passed through")]
    NoPassThrough(&'static str),
    /// What was asked for cannot be sent; the caller's fault.
    #[error("{message}")]
    Invalid {
        param: Option<String>,
        message: String,
    },
    #[error("the provider cannot be reached")]
    ConnectFailed(#[source] Source),
    #[error("the provider did not answer in time")]
    Timeout(TimeoutPhase),
    /// 429 from the provider.
    #[error("the provider limits the rate of requests")]
    RateLimited { retry_after: Duration },
    /// Any other status that is no success. `message` is the provider's own where it is safe to show.
    #[error("{}", message.as_deref().unwrap_or("the provider refused the request"))]
    Upstream {
        status: u16,
        message: Option<String>,
    },
    /// The answer is not what the protocol says.
    #[error("the provider's answer cannot be read")]
    InvalidResponse {
        what: &'static str,
        #[source]
        source: Option<Source>,
    },
    /// The answer ended before it was complete.
    #[error("the provider's answer broke off")]
    Interrupted(#[source] Option<Source>),
    /// The answer is over a cap.
    #[error("the provider's answer is too large")]
    TooLarge { what: &'static str },
}

impl ProviderError {
    /// Stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::UnknownProvider(_) | Self::NoPassThrough(_) => "not_found",
            Self::Invalid { .. } => "invalid_request",
            Self::ConnectFailed(_) => "connect_failed",
            Self::Timeout(_) => "provider_timeout",
            Self::RateLimited { .. } => "rate_limit_exceeded",
            Self::Upstream { status: 500.., .. } => "upstream_5xx",
            Self::Upstream { .. } => "upstream_4xx",
            Self::InvalidResponse { .. } | Self::TooLarge { .. } => "invalid_response",
            Self::Interrupted(_) => "stream_interrupted",
        }
    }

    pub(crate) fn invalid_response(what: &'static str) -> Self {
        Self::InvalidResponse { what, source: None }
    }

    /// Another attempt may end better. Only ever asked before the first byte of an answer.
    pub(crate) fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::ConnectFailed(_)
                | Self::RateLimited { .. }
                | Self::Upstream {
                    status: 500 | 502 | 503 | 504 | 529,
                    ..
                }
        )
    }
}

impl From<ProviderError> for Error {
    fn from(error: ProviderError) -> Self {
        let kind = match &error {
            ProviderError::UnknownProvider(_)
            | ProviderError::NoPassThrough(_)
            | ProviderError::Upstream { status: 404, .. } => ErrorKind::NotFound,
            ProviderError::Invalid { param, .. } => ErrorKind::Invalid {
                param: param.clone(),
            },
            // What the provider says about the request itself is the caller's to repair; retrying it would not help.
            ProviderError::Upstream {
                status: 400 | 409 | 413 | 422,
                ..
            } => ErrorKind::Invalid { param: None },
            ProviderError::RateLimited { retry_after } => ErrorKind::RateLimited {
                retry_after: *retry_after,
            },
            // The caller's own limit: the provider had no more time than that.
            ProviderError::Timeout(TimeoutPhase::Deadline) => {
                ErrorKind::LimitExceeded { limit: "deadline" }
            }
            ProviderError::Timeout(_) => ErrorKind::ProviderTimeout,
            other => ErrorKind::ProviderFailed { code: other.code() },
        };
        Self::new(kind, error.to_string()).because(error)
    }
}
