//! The rules of each class of permission. Each can say whether it covers one concrete action, and whether it and another rule could
//! ever cover the same one.

use ambit_types::CollectionName;
use serde::{Deserialize, Serialize, Serializer};
use std::{fmt, str::FromStr};
use url::Url;

use crate::{OriginPattern, PatternError, kind::words, origin::Target, path, problem::Item};

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

// === HTTP ===

/// Requests that may be sent: origin, method and path prefix must all match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpRule {
    origin: OriginPattern,
    /// Upper case, not empty.
    methods: Vec<String>,
    /// Without a trailing `/`; the root is empty.
    path: String,
}

impl HttpRule {
    /// `path` starts with `/`; a trailing `/` makes no difference.
    ///
    /// # Errors
    /// Says what was expected of the first part that is wrong.
    pub fn new(origin: OriginPattern, methods: &[&str], path: &str) -> Result<Self, PatternError> {
        if methods.is_empty() {
            return Err(PatternError(METHODS.to_owned()));
        }
        let methods = methods
            .iter()
            .map(|method| parse_method(method))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            origin,
            methods,
            path: parse_path(path)?,
        })
    }

    #[must_use]
    pub fn origin(&self) -> &OriginPattern {
        &self.origin
    }

    pub(crate) fn matches(&self, method: &str, target: &Target<'_>, path: &str) -> bool {
        self.origin.matches(target)
            && self.methods.iter().any(|own| own == method)
            && path::is_under(path, &self.path)
    }

    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        self.origin.overlaps(&other.origin)
            && self
                .methods
                .iter()
                .any(|method| other.methods.contains(method))
            && (path::is_under(&self.path, &other.path) || path::is_under(&other.path, &self.path))
    }

    pub(crate) fn read(item: Item<'_>) -> Option<Rule<Self>> {
        let mut table = item.into_table(
            "a table with `origin`, `methods` and, where wanted, `path` and `optional`",
        )?;
        let origin = table.required(
            "origin",
            "an origin such as `https://api.example.com`",
            str::parse::<OriginPattern>,
        );
        let listed = table.contains("methods");
        let methods: Vec<_> = table.list("methods", METHODS, |item| {
            parse_item(item, METHODS, parse_method)
        });
        if !listed {
            table.missing("methods", METHODS);
        }
        let path = table.parsed("path", "a path prefix", parse_path);
        let optional = table.flag("optional");
        table.finish("origin, methods, path, optional");
        let pattern = Self {
            origin: origin?,
            methods,
            path: path.unwrap_or_default(),
        };
        Some(Rule { pattern, optional })
    }
}

const METHODS: &str = "a list of upper-case HTTP methods, such as `[\"GET\"]`";

fn parse_method(text: &str) -> Result<String, PatternError> {
    let valid = (1..=32).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_uppercase() || byte == b'-');
    // CONNECT would make a tunnel nobody can look into.
    if valid && text != "CONNECT" {
        Ok(text.to_owned())
    } else {
        Err(PatternError(
            "an upper-case HTTP method other than `CONNECT`".to_owned(),
        ))
    }
}

fn parse_path(text: &str) -> Result<String, PatternError> {
    let trimmed = text.strip_suffix('/').unwrap_or(text);
    let canonical = Url::parse(&format!("https://host{text}"))
        .is_ok_and(|url| url.path() == text && url.query().is_none());
    if text.starts_with('/') && canonical && !path::is_ambiguous(trimmed) {
        Ok(trimmed.to_owned())
    } else {
        Err(PatternError("a path prefix that starts with `/`, without query, wildcard, `..`, `//` or hidden separators".to_owned()))
    }
}

impl fmt::Display for HttpRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {}{}",
            self.methods.join(", "),
            self.origin,
            if self.path.is_empty() {
                "/"
            } else {
                &self.path
            }
        )
    }
}

// === Lists of texts ===

words! {
    /// What may be done with a collection. Writing does not include reading.
    Access {
        Read = "read",
        Write = "write",
    }
}

/// Models that may be called: `provider/model`, `provider/prefix*`, `provider/*` or `*`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ModelRule(Prefix);

impl ModelRule {
    pub(crate) fn matches(&self, provider: &str, model: &str) -> bool {
        let Prefix { text, open } = &self.0;
        match text.split_once('/') {
            Some((own, stem)) => {
                own == provider
                    && if *open {
                        model.starts_with(stem)
                    } else {
                        model == stem
                    }
            }
            None => *open && text.is_empty(),
        }
    }

    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        self.0.overlaps(&other.0)
    }
}

impl FromStr for ModelRule {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        Prefix::parse(text)
            .filter(|prefix| match prefix.text.split_once('/') {
                Some((provider, model)) => {
                    !provider.is_empty() && (prefix.open || !model.is_empty())
                }
                None => prefix.text.is_empty(),
            })
            .map(Self)
            .ok_or_else(|| {
                PatternError("`provider/model`, `provider/prefix*`, `provider/*` or `*`".to_owned())
            })
    }
}

impl fmt::Display for ModelRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
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

fn parse_item<T>(
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

// === Secrets ===

/// A secret that may be put into one header of requests to one set of origins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretRule {
    name: String,
    /// Lower case.
    header: String,
    origin: OriginPattern,
}

impl SecretRule {
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Lower case.
    #[must_use]
    pub fn header(&self) -> &str {
        &self.header
    }

    #[must_use]
    pub fn origin(&self) -> &OriginPattern {
        &self.origin
    }

    pub(crate) fn matches(&self, name: &str, header: &str, target: &Target<'_>) -> bool {
        self.name == name && self.header.eq_ignore_ascii_case(header) && self.origin.matches(target)
    }

    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        self.name == other.name
            && self.header == other.header
            && self.origin.overlaps(&other.origin)
    }

    pub(crate) fn read(item: Item<'_>) -> Option<Rule<Self>> {
        let mut table = item.into_table("a table with `name`, `header` and `origin`")?;
        let name = table.required("name", "the secret's name", parse_secret_name);
        let header = table.required("header", "the header the secret goes into", parse_header);
        let origin = table.required("origin", "the origin the secret may be sent to", |text| {
            text.parse::<OriginPattern>()
                .and_then(|origin| match origin.is_confidential() {
                    true => Ok(origin),
                    false => Err(PatternError(
                        "an https origin, since a secret travels in it".to_owned(),
                    )),
                })
        });
        let optional = table.flag("optional");
        table.finish("name, header, origin, optional");
        Some(Rule {
            pattern: Self {
                name: name?,
                header: header?,
                origin: origin?,
            },
            optional,
        })
    }
}

fn parse_secret_name(text: &str) -> Result<String, PatternError> {
    let valid = (1..=64).contains(&text.len())
        && text
            .bytes()
            .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'));
    if valid {
        Ok(text.to_owned())
    } else {
        Err(PatternError(
            "1 to 64 lower-case letters, digits and hyphens".to_owned(),
        ))
    }
}

fn parse_header(text: &str) -> Result<String, PatternError> {
    const FRAMING: [&str; 9] = [
        "connection",
        "content-length",
        "host",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "expect",
    ];
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let header = text.to_ascii_lowercase();
    if (1..=64).contains(&header.len())
        && header.bytes().all(token)
        && !FRAMING.contains(&header.as_str())
    {
        Ok(header)
    } else {
        Err(PatternError(
            "a header name, such as `authorization`, that does not frame the message".to_owned(),
        ))
    }
}

impl fmt::Display for SecretRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "`{}` in header `{}` to {}",
            self.name, self.header, self.origin
        )
    }
}

// === Serialisation: the same shape that is read ===

impl Serialize for Rule<HttpRule> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Shape<'a> {
            origin: String,
            methods: &'a [String],
            #[serde(skip_serializing_if = "Option::is_none")]
            path: Option<&'a str>,
            #[serde(skip_serializing_if = "is_false")]
            optional: bool,
        }
        let HttpRule {
            origin,
            methods,
            path,
        } = &self.pattern;
        let path = Some(path.as_str()).filter(|path| !path.is_empty());
        Shape {
            origin: origin.to_string(),
            methods,
            path,
            optional: self.optional,
        }
        .serialize(serializer)
    }
}

impl Serialize for Rule<SecretRule> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Shape<'a> {
            name: &'a str,
            header: &'a str,
            origin: String,
            #[serde(skip_serializing_if = "is_false")]
            optional: bool,
        }
        let SecretRule {
            name,
            header,
            origin,
        } = &self.pattern;
        Shape {
            name,
            header,
            origin: origin.to_string(),
            optional: self.optional,
        }
        .serialize(serializer)
    }
}

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
fn is_false(flag: &bool) -> bool {
    !flag
}
