//! What is done about a finding: the rules in force at a stage, and the built-in ones used where the host gives none.
//!
//! The longest category prefix wins; a category without a rule is flagged. Rules of the host replace the built-in ones
//! whole, so that an operator who writes two rules is not surprised by a third.

/// Where a text stands in the life of a request. The order is that of the WIT enum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    Input,
    Retrieved,
    ToolResult,
    Output,
    Ingest,
}

impl Stage {
    /// True where the text is data: an instruction in it, addressed to the model, has no business there.
    pub fn is_data(self) -> bool {
        matches!(self, Stage::Retrieved | Stage::ToolResult | Stage::Ingest)
    }
}

/// Ordered from mild to strict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    Allow,
    Flag,
    Mask,
    Reject,
}

/// Ordered from mild to severe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    Low,
    Medium,
    High,
    Critical,
}

/// A category, or a prefix of one that ends at a `/`, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    pub category: String,
    pub action: Action,
}

/// The rules of one call.
#[derive(Clone, Debug)]
pub struct Policy {
    rules: Vec<Rule>,
    stage: Stage,
}

impl Policy {
    /// `rules` as the host gave them for `stage`; none means the built-in ones.
    pub fn new(stage: Stage, rules: Vec<Rule>) -> Policy {
        Policy { rules, stage }
    }

    /// What to do about a finding of `category`.
    pub fn action(&self, category: &str) -> Action {
        let own = self
            .rules
            .iter()
            .map(|rule| (rule.category.as_str(), rule.action));
        let found = if self.rules.is_empty() {
            longest(built_in(self.stage).iter().copied(), category)
        } else {
            longest(own, category)
        };
        found.unwrap_or(Action::Flag)
    }
}

/// The rules used where the host gives none: attacks and secrets are kept out of a model's context, and what identifies a
/// person beyond doubt is masked on its way to a caller.
fn built_in(stage: Stage) -> &'static [(&'static str, Action)] {
    use Action::{Mask, Reject};
    match stage {
        Stage::Input => &[("prompt-injection", Reject), ("secret", Mask)],
        Stage::Retrieved | Stage::ToolResult => &[("prompt-injection", Mask), ("secret", Mask)],
        Stage::Output => &[
            ("secret", Mask),
            ("pii/credit-card", Mask),
            ("pii/us-ssn", Mask),
            ("pii/iban", Mask),
        ],
        Stage::Ingest => &[("secret", Mask)],
    }
}

fn longest<'a>(rules: impl Iterator<Item = (&'a str, Action)>, category: &str) -> Option<Action> {
    rules
        .filter(|(prefix, _)| covers(prefix, category))
        .max_by_key(|(prefix, _)| prefix.len())
        .map(|(_, action)| action)
}

fn covers(prefix: &str, category: &str) -> bool {
    let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
    category
        .strip_prefix(prefix)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// How bad a finding of `category` is.
pub(crate) fn severity(category: &str) -> Severity {
    match category {
        "secret/private-key" => Severity::Critical,
        "prompt-injection" | "pii/credit-card" | "pii/us-ssn" => Severity::High,
        "pii/ip-address" => Severity::Low,
        _ if category.starts_with("secret/") => Severity::High,
        _ => Severity::Medium,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(rules: &[(&str, Action)], category: &str, expected: Action) {
        let rules = rules
            .iter()
            .map(|(category, action)| Rule {
                category: (*category).into(),
                action: *action,
            })
            .collect();
        assert_eq!(
            Policy::new(Stage::Input, rules).action(category),
            expected,
            "{category}"
        );
    }

    #[test]
    fn the_longest_prefix_wins() {
        let rules = [
            ("pii", Action::Mask),
            ("pii/email", Action::Allow),
            ("secret/", Action::Reject),
        ];
        check(&rules, "pii/email", Action::Allow);
        check(&rules, "pii/phone", Action::Mask);
        check(&rules, "secret/jwt", Action::Reject);
        check(&rules, "prompt-injection", Action::Flag);
        check(&[("pi", Action::Reject)], "pii/phone", Action::Flag);
        check(
            &[("pii/phone/mobile", Action::Reject)],
            "pii/phone",
            Action::Flag,
        );
    }

    #[test]
    fn without_rules_of_the_host_the_built_in_ones_hold() {
        check(&[], "prompt-injection", Action::Reject);
        check(&[], "secret/jwt", Action::Mask);
        check(&[], "pii/email", Action::Flag);
    }
}
