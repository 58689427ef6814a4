//! What an operator or a tenant allows a component: permissions, and ceilings of its limits.

use serde::{Deserialize, Deserializer, Serialize};
use toml::Table;

use crate::{
    Ceiling, Permissions,
    problem::{Problem, Problems, Reader},
};

/// One layer of an ambit as people write it: the `permissions` table of a manifest without its heading, and `limits` beside it.
///
/// ```
/// let grant = ambit_policy::Grant::parse(r#"
///     config = ["region"]
///     [limits]
///     cpu = "20ms"
/// "#).unwrap();
/// assert_eq!(grant.limits.memory, None);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Grant {
    #[serde(flatten)]
    pub permissions: Permissions,
    /// Only narrows: what is above the author's limit changes nothing.
    #[serde(skip_serializing_if = "Ceiling::is_empty")]
    pub limits: Ceiling,
}

impl Grant {
    /// Reads a grant written as TOML.
    ///
    /// # Errors
    /// All mistakes together.
    pub fn parse(text: &str) -> Result<Self, Vec<Problem>> {
        Self::from_table(crate::manifest::parse_toml(text)?)
    }

    fn from_table(table: Table) -> Result<Self, Vec<Problem>> {
        let mut problems = Vec::new();
        let mut root = Reader::new(table, "", &mut problems);
        let limits = Ceiling::read(root.table("limits"));
        let permissions = Permissions::take(&mut root);
        root.finish(&format!("{}, limits", Permissions::KNOWN));
        if problems.is_empty() {
            Ok(Self {
                permissions,
                limits,
            })
        } else {
            Err(problems)
        }
    }
}

impl From<Permissions> for Grant {
    /// A grant that leaves every limit as the author has it.
    fn from(permissions: Permissions) -> Self {
        Self {
            permissions,
            limits: Ceiling::default(),
        }
    }
}

impl<'de> Deserialize<'de> for Grant {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::from_table(Table::deserialize(deserializer)?)
            .map_err(|problems| serde::de::Error::custom(Problems(problems)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn only_what_is_written_is_a_ceiling() {
        let grant =
            Grant::parse("models = [\"a/*\"]\n[limits]\ncpu = \"20ms\"\nconcurrency = 2").unwrap();
        let expected = Ceiling {
            cpu: Some(Duration::from_millis(20)),
            concurrency: Some(2),
            ..Ceiling::default()
        };
        assert_eq!(grant.limits, expected);
        let json = serde_json::to_string(&grant).unwrap();
        assert_eq!(
            json,
            r#"{"models":["a/*"],"limits":{"cpu":"20ms","concurrency":2}}"#
        );
        assert_eq!(serde_json::from_str::<Grant>(&json).unwrap(), grant);
        let plain = Grant::parse("").unwrap();
        assert!(plain.limits.is_empty());
        assert_eq!(serde_json::to_string(&plain).unwrap(), "{}");
    }

    #[test]
    fn mistakes_of_both_parts_are_told_together() {
        let problems =
            Grant::parse("modles = []\n[limits]\ncpu = 5\nmemroy = \"1MiB\"").unwrap_err();
        let text = Problems(problems).to_string();
        for part in [
            "limits.cpu: found `5`",
            "limits.memroy",
            "modles",
            "secrets, limits",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }
}
