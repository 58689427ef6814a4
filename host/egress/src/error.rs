//! Why an exchange failed. Every text is fit for the guest: no address, no cause. Causes go to the log where they occur.

use ambit_policy::Denied;
use std::error::Error;

pub type BoxError = Box<dyn Error + Send + Sync>;

/// A failed exchange.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EgressError {
    /// The ambit does not cover the request, or a secret in it.
    #[error("{0}")]
    Denied(Denied),
    /// The request cannot be sent as it is.
    #[error("{0}")]
    Invalid(&'static str),
    /// The name does not resolve, or to an address that is never reached. One text for both: whether a name exists in the host's own
    /// network is not the guest's business.
    #[error("the host cannot be reached")]
    Unreachable { blocked: bool },
    /// Nobody answers at the address.
    #[error("the connection failed")]
    Connect,
    /// The server's certificate or its TLS is not acceptable.
    #[error("the secure connection failed")]
    Tls,
    #[error("{0}")]
    Timeout(Phase),
    /// The server does not speak HTTP/1.1, breaks off, or sends headers above the limit.
    #[error("the server's answer cannot be read")]
    Protocol,
    /// The call's egress limit is spent.
    #[error("the call's limit for outbound HTTP is spent")]
    Spent,
    /// Too many exchanges at a time, of the call or of the tenant.
    #[error("too many outbound connections at a time")]
    Busy,
    /// The answer contained a secret's value, or is encoded so that it cannot be told.
    #[error("the answer was withheld: it may contain a secret")]
    SecretEchoed,
    /// The request's own body failed while it was sent.
    #[error("the request's body failed")]
    RequestBody,
}

/// What took too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Phase {
    #[error("the connection took too long")]
    Connect,
    #[error("the answer took too long")]
    FirstByte,
    #[error("the call's deadline passed")]
    Call,
}

impl EgressError {
    /// The failure of an exchange as hyper reports it; one of ours may be inside.
    pub(crate) fn from_hyper(error: hyper::Error) -> Self {
        let mut cause: Option<&(dyn Error + 'static)> = Some(&error);
        while let Some(error) = cause {
            if let Some(own) = error.downcast_ref::<Self>() {
                return own.clone();
            }
            cause = error.source();
        }
        tracing::debug!(error = &error as &dyn Error, "outbound exchange failed");
        Self::Protocol
    }

    /// A stable word for metrics.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Denied(_) => "denied",
            Self::Invalid(_) => "invalid",
            Self::Unreachable { blocked: true } => "blocked",
            Self::Unreachable { blocked: false } => "resolve",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Timeout(_) => "timeout",
            Self::Protocol => "protocol",
            Self::Spent => "spent",
            Self::Busy => "busy",
            Self::SecretEchoed => "secret_echoed",
            Self::RequestBody => "request_body",
        }
    }
}
