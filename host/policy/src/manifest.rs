//! What a component's author writes: `component.toml`, or the same table in a `spin.toml`. Unknown keys are mistakes, and all mistakes
//! are reported together.
//!
//! ```toml
//! [component]
//! name = "acme:everything"          # namespace:name
//! version = "0.1.0"                 # semantic version
//! kind = "tool"                     # auth, routing, guardrail, retrieval, tool, agent
//! reuse = "fresh"                   # the default; warm-serial, warm-concurrent
//! description = "One line."         # optional
//!
//! [[permissions.http]]              # origin, method and path must all match
//! origin = "https://*.example.com"  # scheme://host[:port]; host: a name, an IP address, `*.name` (not the name itself), `*` (any name);
//!                                   # a wildcard never stands for an IP address or localhost; port: the scheme's, a number, or `*`
//! methods = ["GET"]                 # upper case
//! path = "/v1"                      # optional: this path and everything below
//! optional = true                   # the component can do without; on every table below, too
//!
//! [permissions]                     # a text may also be written `{ allow = "...", optional = true }`
//! models = ["openai/gpt-*"]         # provider/model, provider/prefix*, provider/*, *
//! collections = ["read:handbook"]   # read:NAME, write:NAME; NAME may end in *
//! keyvalue = ["cache/*"]            # KEY or PREFIX*
//! config = ["units"]                # KEY or PREFIX*
//! secrets = [{ name = "api-token", header = "authorization", origin = "https://api.example.com" }]
//!
//! [limits]                          # each has a default, see `Limits`
//! memory = "32MiB"
//! cpu = "50ms"
//! ```
//!
//! A grant of operator or tenant is the `permissions` table without its heading, and `[limits]` where it narrows them: [`crate::Grant`],
//! in TOML or JSON. A token's is the permissions alone.

use ambit_types::ComponentName;
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use crate::{Class, Kind, Limits, Permissions, Problem, Reuse, problem::Reader};

/// A component's manifest, valid. It serialises to JSON of the same shape with every limit written out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    pub component: ComponentInfo,
    /// What the author asks for.
    #[serde(default)]
    pub permissions: Permissions,
    #[serde(default)]
    pub limits: Limits,
}

/// What a component is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ComponentInfo {
    pub name: ComponentName,
    /// Semantic version, checked for its form only.
    pub version: String,
    pub kind: Kind,
    #[serde(default = "fresh")]
    pub reuse: Reuse,
    /// One line for people.
    #[serde(default)]
    pub description: String,
}

fn fresh() -> Reuse {
    Reuse::Fresh
}

impl Manifest {
    /// Reads a `component.toml`.
    ///
    /// # Errors
    /// Every mistake together, unknown keys included.
    pub fn parse(text: &str) -> Result<Self, Vec<Problem>> {
        Self::from_table(parse_toml(text)?, "")
    }

    /// The text of a `component.toml` that stands in a `spin.toml` as `[component.<id>.tool.ambit]`: of the component whose `source` is
    /// `file`, else of the only one that has such a table. Whatever else stands in that file is Spin's.
    ///
    /// # Errors
    /// Every mistake together; one if there is no such table, or more than one to choose from.
    pub fn from_spin(text: &str, file: &str) -> Result<String, Vec<Problem>> {
        let mut root = parse_toml(text)?;
        let Some(Value::Table(components)) = root.remove("component") else {
            return Err(no_table("component.<id>.tool.ambit", ""));
        };
        let mut found: Vec<(String, bool, Table)> = Vec::new();
        for (id, component) in components {
            let source = component.get("source").and_then(Value::as_str);
            let is_source = source.is_some_and(|source| source.rsplit('/').next() == Some(file));
            let table = component.get("tool").and_then(|tool| tool.get("ambit"));
            if let Some(Value::Table(table)) = table {
                found.push((id, is_source, table.clone()));
            }
        }
        if found.len() > 1 {
            found.retain(|(_, is_source, _)| *is_source);
        }
        match found.pop() {
            Some((id, _, table)) if found.is_empty() => {
                let text = table.to_string();
                Self::from_table(table, &format!("component.{id}.tool.ambit")).map(|_| text)
            }
            _ => Err(no_table("component.<id>.tool.ambit", file)),
        }
    }

    fn from_table(table: Table, path: &str) -> Result<Self, Vec<Problem>> {
        let mut problems = Vec::new();
        let mut root = Reader::new(table, path, &mut problems);
        let component = read_component(root.table("component"));
        let permissions = Permissions::read(root.table("permissions"));
        let limits = Limits::read(root.table("limits"));
        if let Some(component) = &component {
            for class in Class::ALL
                .iter()
                .filter(|class| !permissions.is_empty(**class) && !component.kind.may_ask(**class))
            {
                root.unexpected(
                    &format!("permissions.{class}"),
                    "a list",
                    &format!(
                        "nothing: a component of kind `{}` cannot use it",
                        component.kind
                    ),
                );
            }
        }
        root.finish("component, permissions, limits");
        match component {
            Some(component) if problems.is_empty() => Ok(Self {
                component,
                permissions,
                limits,
            }),
            _ => Err(problems),
        }
    }
}

fn no_table(key: &str, file: &str) -> Vec<Problem> {
    vec![Problem {
        key: key.to_owned(),
        value: String::new(),
        expected: format!(
            "one table as in component.toml, of the component whose `source` is `{file}`"
        ),
    }]
}

fn read_component(mut table: Reader<'_>) -> Option<ComponentInfo> {
    let name = table.required("name", NAME, |text| {
        text.parse::<ComponentName>().map_err(|_| NAME)
    });
    let version = table.required("version", VERSION, |text| {
        if is_version(text) {
            Ok(text.to_owned())
        } else {
            Err(VERSION)
        }
    });
    let kind = table.required("kind", "what the component provides", str::parse::<Kind>);
    let reuse = table.parsed("reuse", "how instances are reused", str::parse::<Reuse>);
    let description = table.text("description", "a text");
    table.finish("name, version, kind, reuse, description");
    Some(ComponentInfo {
        name: name?,
        version: version?,
        kind: kind?,
        reuse: reuse.unwrap_or(Reuse::Fresh),
        description: description.unwrap_or_default(),
    })
}

const NAME: &str = "`namespace:name`, each of 1 to 64 lower-case letters, digits and inner hyphens";
const VERSION: &str = "a semantic version, such as `0.1.0`";

/// `MAJOR.MINOR.PATCH` with optional `-pre` and `+build` of the characters semver.org allows.
fn is_version(text: &str) -> bool {
    let (text, build) = text
        .split_once('+')
        .map_or((text, None), |(text, build)| (text, Some(build)));
    let (core, pre) = text
        .split_once('-')
        .map_or((text, None), |(core, pre)| (core, Some(pre)));
    let number = |part: &str| {
        part.parse::<u32>()
            .is_ok_and(|number| number.to_string() == part)
    };
    let tags = |tags: &str| {
        tags.split('.').all(|tag| {
            !tag.is_empty()
                && tag
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        })
    };
    core.split('.').count() == 3
        && core.split('.').all(number)
        && pre.is_none_or(tags)
        && build.is_none_or(tags)
        && text.len() <= 64
}

pub(crate) fn parse_toml(text: &str) -> Result<Table, Vec<Problem>> {
    toml::from_str(text).map_err(|error| {
        let line = error
            .span()
            .map(|span| text[..span.start.min(text.len())].matches('\n').count() + 1);
        let value = line.map_or_else(
            || "text".to_owned(),
            |line| format!("a mistake in line {line} ({})", error.message()),
        );
        vec![Problem {
            key: String::new(),
            value,
            expected: "TOML".to_owned(),
        }]
    })
}
