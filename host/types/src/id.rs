//! Ids that users see carry a prefix, so that one pasted into the wrong place is recognised at once.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::{fmt, str::FromStr};
use uuid::Uuid;

/// Why a text is not an id.
#[derive(Debug, thiserror::Error)]
#[error("`{value}` is not a {kind}: expected `{prefix}_` and 32 hexadecimal digits")]
pub struct IdError {
    value: String,
    kind: &'static str,
    prefix: &'static str,
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident = $prefix:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Uuid);

        impl $name {
            /// A new id; ids made later sort later (UUID version 7).
            #[must_use]
            #[allow(clippy::new_without_default, reason = "a default id would be a hidden random value")]
            pub fn new() -> Self {
                Self(Uuid::now_v7())
            }

            #[must_use]
            pub fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(Uuid::from_bytes(bytes))
            }

            #[must_use]
            pub fn to_bytes(self) -> [u8; 16] {
                self.0.into_bytes()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "_{}"), self.0.simple())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(value: &str) -> Result<Self, IdError> {
                value
                    .strip_prefix(concat!($prefix, "_"))
                    .filter(|digits| digits.len() == 32 && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')))
                    .and_then(|digits| Uuid::try_parse(digits).ok())
                    .map(Self)
                    .ok_or_else(|| IdError { value: value.chars().take(80).collect(), kind: stringify!($name), prefix: $prefix })
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}

ids! {
    /// A tenant. Its slug may be shown and chosen; the id never changes and is never reused.
    TenantId = "ten";
    /// One conversation with an agent: the unit of the journal.
    SessionId = "ses";
    /// One HTTP request; echoed as `x-request-id`.
    RequestId = "req";
    /// The public half of an API key.
    KeyId = "key";
    /// A process that works on sessions.
    NodeId = "nod";
    /// What is held back of a budget for one call.
    ReservationId = "res";
    /// A stored document, where its own id is too long to repeat.
    DocumentId = "doc";
    /// A capability token: its `jti`.
    TokenId = "tok";
    /// A call that somebody has to approve of.
    ApprovalId = "apr";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips_and_refuses_look_alikes() {
        let id = TenantId::new();
        assert_eq!(id.to_string().parse::<TenantId>().unwrap(), id);
        for bad in [
            "",
            "ten_",
            "ses_0190f5f0d2d57c8c8a4e0f2d8a3b1c2d",
            "ten_0190F5F0D2D57C8C8A4E0F2D8A3B1C2D",
            "ten_0190f5f0-d2d5",
        ] {
            assert!(bad.parse::<TenantId>().is_err(), "{bad}");
        }
    }
}
