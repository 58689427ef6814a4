//! Rules about outbound HTTP requests.

use serde::{Serialize, Serializer};
use std::fmt;
use url::Url;

use crate::{
    OriginPattern, PatternError,
    origin::Target,
    path,
    problem::Item,
    rule::{Rule, is_false, parse_item},
};

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
        let listed = table.lists("methods");
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
