//! What all rules share, and the rules that are one text. Each rule can say whether it covers one concrete action, and whether it and
//! another rule could ever cover the same one.

use ambit_types::{CollectionName, ProviderName};
use serde::{Deserialize, Serialize, Serializer};
use std::{fmt, str::FromStr};

use crate::{PatternError, kind::words, problem::Item};

/// A rule and whether the component can do without it.
///
/// `optional` means something in a manifest only: the request is then linked to a denial where the operator grants nothing for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule<P> {
    pub pattern: P,
    pub optional: bool,
}

impl<P> From<P> for Rule<P> {
    fn from(pattern: P) -> Self {
        Self {
            pattern,
            optional: false,
        }
    }
}

/// A text with an optional trailing `*` that stands for any rest.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Prefix {
    text: String,
    open: bool,
}

impl Prefix {
    fn parse(text: &str) -> Option<Self> {
        let (stem, open) = text
            .strip_suffix('*')
            .map_or((text, false), |stem| (stem, true));
        let plain = !stem.contains(|c: char| c == '*' || c.is_control() || c.is_whitespace());
        (plain && !text.is_empty() && text.len() <= 256).then(|| Self {
            text: stem.to_owned(),
            open,
        })
    }

    fn matches(&self, value: &str) -> bool {
        if self.open {
            value.starts_with(&self.text)
        } else {
            value == self.text
        }
    }

    fn overlaps(&self, other: &Self) -> bool {
        match (self.open, other.open) {
            (false, _) => other.matches(&self.text),
            (_, false) => self.matches(&other.text),
            (true, true) => {
                self.text.starts_with(&other.text) || other.text.starts_with(&self.text)
            }
        }
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        f.write_str(if self.open { "*" } else { "" })
    }
}

words! {
    /// What may be done with a collection. Writing does not include reading.
    Access {
        Read = "read",
        Write = "write",
    }
}

/// Models that may be called: `provider/model`, `provider/prefix*`, `provider/*` or `*`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ModelRule {
    /// None: any.
    provider: Option<ProviderName>,
    model: Prefix,
}

impl ModelRule {
    pub(crate) fn matches(&self, provider: &str, model: &str) -> bool {
        self.provider.as_deref().is_none_or(|own| own == provider) && self.model.matches(model)
    }

    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        let providers = match (&self.provider, &other.provider) {
            (Some(own), Some(other)) => own == other,
            _ => true,
        };
        providers && self.model.overlaps(&other.model)
    }
}

impl FromStr for ModelRule {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let (provider, model) = match text.split_once('/') {
            Some((provider, model)) => (provider.parse().ok().map(Some), model),
            None => ((text == "*").then_some(None), text),
        };
        provider
            .zip(Prefix::parse(model))
            .map(|(provider, model)| Self { provider, model })
            .ok_or_else(|| {
                PatternError("`provider/model`, `provider/prefix*`, `provider/*` or `*`".to_owned())
            })
    }
}

impl fmt::Display for ModelRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.provider {
            Some(provider) => write!(f, "{provider}/{}", self.model),
            None => fmt::Display::fmt(&self.model, f),
        }
    }
}

/// Collections that may be read or written: `read:NAME` or `write:NAME`, where NAME may end in `*`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CollectionRule {
    access: Access,
    name: Prefix,
}

impl CollectionRule {
    pub(crate) fn matches(&self, access: Access, name: &str) -> bool {
        self.access == access && self.name.matches(name)
    }

    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        self.access == other.access && self.name.overlaps(&other.name)
    }
}

impl FromStr for CollectionRule {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        text.split_once(':')
            .and_then(|(access, name)| {
                let label = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
                let name = Prefix::parse(name).filter(|name| match name.open {
                    true => {
                        name.text.len() < 64
                            && !name.text.starts_with('-')
                            && name.text.bytes().all(label)
                    }
                    false => name.text.parse::<CollectionName>().is_ok(),
                })?;
                Some(Self {
                    access: access.parse().ok()?,
                    name,
                })
            })
            .ok_or_else(|| {
                PatternError(
                    "`read:NAME` or `write:NAME`, where NAME is a collection or a prefix and `*`"
                        .to_owned(),
                )
            })
    }
}

impl fmt::Display for CollectionRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.access, self.name)
    }
}

macro_rules! key_rules {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash)]
        pub struct $name(Prefix);

        impl $name {
            pub(crate) fn matches(&self, key: &str) -> bool {
                self.0.matches(key)
            }

            pub(crate) fn overlaps(&self, other: &Self) -> bool {
                self.0.overlaps(&other.0)
            }
        }

        impl FromStr for $name {
            type Err = PatternError;

            fn from_str(text: &str) -> Result<Self, PatternError> {
                Prefix::parse(text).map(Self).ok_or_else(|| PatternError("a key, or a prefix and `*`, of at most 256 bytes without spaces".to_owned()))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    )*};
}

key_rules! {
    /// Keys of the tenant's key-value store: `KEY` or `PREFIX*`.
    KeyRule;
    /// Configuration values that may be read: `KEY` or `PREFIX*`.
    ConfigRule;
}

impl KeyRule {
    /// Every key that starts so.
    pub(crate) fn under(prefix: &str) -> Self {
        Self(Prefix {
            text: prefix.to_owned(),
            open: true,
        })
    }
}

/// An item of a list of texts: the text, or `{ allow = "…", optional = true }`.
pub(crate) fn read_text_rule<P: FromStr<Err = PatternError>>(item: Item<'_>) -> Option<Rule<P>> {
    const EXPECTED: &str = "a text, or a table with `allow` and `optional`";
    if item.as_str().is_some() {
        return parse_item(item, EXPECTED, str::parse::<P>).map(Rule::from);
    }
    let mut table = item.into_table(EXPECTED)?;
    let pattern = table.required("allow", "what the rule allows", str::parse::<P>);
    let optional = table.flag("optional");
    table.finish("allow, optional");
    Some(Rule {
        pattern: pattern?,
        optional,
    })
}

pub(crate) fn parse_item<T>(
    item: Item<'_>,
    expected: &str,
    parse: impl FnOnce(&str) -> Result<T, PatternError>,
) -> Option<T> {
    match item.as_str().map(parse) {
        Some(Ok(value)) => Some(value),
        Some(Err(error)) => {
            item.wrong(error.to_string());
            None
        }
        None => {
            item.wrong(expected);
            None
        }
    }
}

// === Serialisation: the same shape that is read ===

fn serialize_text<P: fmt::Display, S: Serializer>(
    rule: &Rule<P>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Shape {
        allow: String,
        optional: bool,
    }
    if rule.optional {
        Shape {
            allow: rule.pattern.to_string(),
            optional: true,
        }
        .serialize(serializer)
    } else {
        serializer.collect_str(&rule.pattern)
    }
}

macro_rules! serialize_as_text {
    ($($name:ident)*) => {$(
        impl Serialize for Rule<$name> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serialize_text(self, serializer)
            }
        }
    )*};
}
serialize_as_text! { ModelRule CollectionRule KeyRule ConfigRule }

#[allow(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature serde asks for"
)]
pub(crate) fn is_false(flag: &bool) -> bool {
    !flag
}
