//! Names that operators and tenants choose.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::{borrow::Borrow, fmt, ops::Deref, str::FromStr, sync::Arc};

/// Why a text is not a name of its kind.
#[derive(Debug, thiserror::Error)]
#[error("`{value}` is not a {kind}: expected {expected}")]
pub struct NameError {
    value: String,
    kind: &'static str,
    expected: &'static str,
}

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident, $kind:literal, $expected:literal, $valid:expr;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(value: &str) -> Result<Self, NameError> {
                let valid: fn(&str) -> bool = $valid;
                if valid(value) {
                    Ok(Self(value.into()))
                } else {
                    Err(NameError { value: value.chars().take(80).collect(), kind: $kind, expected: $expected })
                }
            }
        }

        impl Deref for $name {
            type Target = str;
            fn deref(&self) -> &str {
                &self.0
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}

/// Lower-case letters, digits and inner hyphens, starting with a letter or digit.
fn is_label(value: &str, longest: usize) -> bool {
    let bytes = value.as_bytes();
    !bytes.is_empty()
        && bytes.len() <= longest
        && bytes
            .iter()
            .all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'))
        && bytes[0] != b'-'
        && bytes[bytes.len() - 1] != b'-'
}

/// A host name or domain as the router's directory holds it: lower-case A-labels (RFC 5890 §2.3.2.1) without a trailing dot. None where it is
/// no such name, or an address.
#[must_use]
pub fn canonical_domain(name: &str) -> Option<String> {
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    let fits = name.len() <= 253 && name.split('.').all(|label| is_label(label, 63));
    (fits && name.parse::<std::net::Ipv4Addr>().is_err()).then_some(name)
}

fn is_identifier(value: &str, longest: usize) -> bool {
    !value.is_empty()
        && value.len() <= longest
        && value
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

names! {
    /// A tenant's label under the base domain: an RFC 1123 label that is not an IDNA A-label (those belong to real names).
    TenantSlug, "tenant name", "1 to 63 lower-case letters, digits and inner hyphens, not starting with `xn--`",
        |v| is_label(v, 63) && !v.starts_with("xn--");
    /// An agent, as callers name it in `model`. Never holds a `/`: that is `provider/model`.
    AgentName, "agent name", "1 to 64 lower-case letters, digits and inner hyphens", |v| is_label(v, 64);
    /// A collection of documents.
    CollectionName, "collection name", "1 to 64 lower-case letters, digits and inner hyphens", |v| is_label(v, 64);
    /// Where a model is served.
    ProviderName, "provider name", "1 to 64 lower-case letters, digits and inner hyphens", |v| is_label(v, 64);
    /// A component: `namespace:name`.
    ComponentName, "component name", "`namespace:name`, each 1 to 64 lower-case letters, digits and inner hyphens",
        |v| v.split_once(':').is_some_and(|(namespace, name)| is_label(namespace, 64) && is_label(name, 64));
    /// A tool, as a model names it (OpenAI's function-name rule).
    ToolName, "tool name", "1 to 64 letters, digits, `_` and `-`", |v| is_identifier(v, 64);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked_once_at_the_border() {
        for good in ["acme", "a", "a-1", &"a".repeat(63)] {
            assert!(good.parse::<TenantSlug>().is_ok(), "{good}");
        }
        for bad in [
            "",
            "-a",
            "a-",
            "A",
            "a.b",
            "a/b",
            "xn--bcher-kva",
            "a\0",
            "ä",
            &"a".repeat(64),
        ] {
            assert!(bad.parse::<TenantSlug>().is_err(), "{bad}");
        }
        assert!("ambit:web-fetch".parse::<ComponentName>().is_ok());
        for bad in ["ambit", "ambit:", ":x", "a:b:c", "a:../b"] {
            assert!(bad.parse::<ComponentName>().is_err(), "{bad}");
        }
    }
}
