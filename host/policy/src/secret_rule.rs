//! Rules about secrets: which, into which header, to where.

use serde::{Serialize, Serializer};
use std::fmt;

use crate::{
    OriginPattern, PatternError,
    origin::Target,
    problem::Item,
    rule::{Rule, is_false},
};

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
    check_secret_name(text).map(|()| text.to_owned())
}

/// Whether a rule can name a secret so.
///
/// # Errors
/// Says what was expected.
pub fn check_secret_name(text: &str) -> Result<(), PatternError> {
    let valid = (1..=64).contains(&text.len())
        && text
            .bytes()
            .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'));
    if valid {
        Ok(())
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
