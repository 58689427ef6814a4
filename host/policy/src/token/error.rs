//! Why a token is refused.

/// Why a token is refused. The texts are fit for the caller: they name what is wrong and show nothing of the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    #[error("the capability token is longer than 16 KiB")]
    TooLong,
    /// Not the form, the header or the JSON of one.
    #[error(
        "not a capability token: expected a signed JWT of type `ambit-cap+jwt` with algorithm EdDSA and the claims of one"
    )]
    Malformed,
    #[error("the capability token is signed with a key that this installation does not use")]
    UnknownKey,
    #[error("the signature of the capability token is wrong")]
    Signature,
    /// Which claim.
    #[error("the claim `{0}` of the capability token is wrong")]
    Claim(&'static str),
    #[error("the capability token is not valid yet")]
    NotYet,
    #[error("the capability token has expired")]
    Expired,
    #[error("the capability token is another tenant's")]
    Tenant,
    #[error("the capability token is for another session")]
    Session,
    #[error("the capability token is for another agent")]
    Agent,
    #[error("the capability token, or one it was delegated from, was revoked")]
    Revoked,
}

impl TokenError {
    /// One word that stays the same: for headers, logs and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TooLong => "too-long",
            Self::Malformed => "malformed",
            Self::UnknownKey => "unknown-key",
            Self::Signature => "signature",
            Self::Claim(_) => "claim",
            Self::NotYet => "not-yet",
            Self::Expired => "expired",
            Self::Tenant => "tenant",
            Self::Session => "session",
            Self::Agent => "agent",
            Self::Revoked => "revoked",
        }
    }

    /// Whether it is about what a genuine token of this tenant allows, and not about who is calling.
    pub(super) fn is_about_use(self) -> bool {
        matches!(
            self,
            Self::NotYet | Self::Expired | Self::Session | Self::Agent | Self::Revoked
        )
    }
}
