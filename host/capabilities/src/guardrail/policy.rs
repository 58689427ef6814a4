//! What a tenant wants done about findings: immutable, handed to the component call by call.

use serde::{Deserialize, Serialize};
use std::str::FromStr;

/// Where a text stands in the life of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// What the caller wrote.
    Input,
    /// A retrieved passage: data, never instructions.
    Retrieved,
    /// What a tool answered: data, never instructions.
    ToolResult,
    /// What goes to the caller.
    Output,
    /// A document on its way into a collection.
    Ingest,
}

/// What is to be done about a finding, from mild to strict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    Allow,
    /// Report the finding, change nothing.
    Flag,
    Mask,
    Reject,
}

/// A text that names no stage or action.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not one of: {1}")]
pub struct UnknownWord(String, &'static str);

impl Stage {
    pub const ALL: [Self; 5] = [
        Self::Input,
        Self::Retrieved,
        Self::ToolResult,
        Self::Output,
        Self::Ingest,
    ];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::Retrieved => "retrieved",
            Self::ToolResult => "tool-result",
            Self::Output => "output",
            Self::Ingest => "ingest",
        }
    }
}

impl Action {
    pub const ALL: [Self; 4] = [Self::Allow, Self::Flag, Self::Mask, Self::Reject];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Flag => "flag",
            Self::Mask => "mask",
            Self::Reject => "reject",
        }
    }
}

impl FromStr for Stage {
    type Err = UnknownWord;

    fn from_str(name: &str) -> Result<Self, UnknownWord> {
        let found = Self::ALL.into_iter().find(|stage| stage.as_str() == name);
        found.ok_or_else(|| {
            UnknownWord(
                name.chars().take(80).collect(),
                "input, retrieved, tool-result, output, ingest",
            )
        })
    }
}

impl FromStr for Action {
    type Err = UnknownWord;

    fn from_str(name: &str) -> Result<Self, UnknownWord> {
        let found = Self::ALL.into_iter().find(|action| action.as_str() == name);
        found.ok_or_else(|| {
            UnknownWord(name.chars().take(80).collect(), "allow, flag, mask, reject")
        })
    }
}

/// One line of a tenant's policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// `prompt-injection`, `pii`, `pii/credit-card`, … A prefix up to a `/` matches all below it.
    pub category: String,
    pub action: Action,
}

/// The rules of every stage. A category without a rule is flagged.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    stages: [Vec<Rule>; Stage::ALL.len()],
}

impl Rules {
    /// The rules in force at `stage`, in the order they were given.
    #[must_use]
    pub fn at(&self, stage: Stage) -> &[Rule] {
        &self.stages[stage as usize]
    }
}

impl FromIterator<(Stage, Rule)> for Rules {
    fn from_iter<I: IntoIterator<Item = (Stage, Rule)>>(rules: I) -> Self {
        let mut all = Self::default();
        for (stage, rule) in rules {
            all.stages[stage as usize].push(rule);
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_as_they_are_written() {
        for stage in Stage::ALL {
            assert_eq!(stage.as_str().parse(), Ok(stage));
            assert_eq!(serde_json::to_value(stage).unwrap(), stage.as_str());
        }
        for action in Action::ALL {
            assert_eq!(action.as_str().parse(), Ok(action));
            assert_eq!(serde_json::to_value(action).unwrap(), action.as_str());
        }
        assert!("Input".parse::<Stage>().is_err() && "drop".parse::<Action>().is_err());
    }

    #[test]
    fn each_stage_has_its_own_rules_in_their_order() {
        let rule = |category: &str, action| Rule {
            category: category.to_owned(),
            action,
        };
        let rules: Rules = [
            (Stage::Input, rule("pii", Action::Mask)),
            (Stage::Output, rule("secret", Action::Reject)),
            (Stage::Input, rule("pii/email", Action::Allow)),
        ]
        .into_iter()
        .collect();
        assert_eq!(
            rules.at(Stage::Input),
            [rule("pii", Action::Mask), rule("pii/email", Action::Allow)]
        );
        assert_eq!(rules.at(Stage::Ingest), []);
    }
}
