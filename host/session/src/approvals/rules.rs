//! Which calls of an agent need an approval, as its definition says it. Calls that cannot be undone need one in any case.
//!
//! ```toml
//! [approvals]
//! expires = 3600                   # seconds in which somebody has to decide; a day unless said otherwise
//! by_another = true                # not by the principal whom the session acts for
//!
//! [[approvals.rules]]
//! tool = "transfer"                # or `transfer*`; without one: any
//! argument = "/amount"             # JSON Pointer (RFC 6901)
//! above = 100.0
//!
//! [[approvals.rules]]
//! tool = "send_*"
//! argument = "/to"
//! matches = "@example\\.org$"       # a regular expression, searched for
//! ```

use regex::{Regex, RegexBuilder};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use std::fmt;

const A_DAY: u64 = 24 * 3600;

/// A month: who has not decided by then will not.
const LONGEST: u64 = 31 * A_DAY;

const MOST_RULES: usize = 64;

/// Of a compiled expression, in bytes.
const PATTERN_CAP: usize = 1 << 20;

/// The `[approvals]` of a definition.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Approvals {
    /// Seconds from the question to its end.
    pub expires: u64,
    /// Whether the principal whom a session acts for may not decide itself.
    pub by_another: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<ApprovalRule>,
}

impl Default for Approvals {
    fn default() -> Self {
        Self {
            expires: A_DAY,
            by_another: true,
            rules: Vec::new(),
        }
    }
}

/// Calls that need an approval.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApprovalRule {
    /// A tool's name, or how names begin, with `*` at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool: Option<String>,
    /// Where in the arguments to look: a JSON Pointer (RFC 6901). A call that has nothing there is none of these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub argument: Option<String>,
    /// What a text there, or the JSON of anything else, matches in part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub matches: Option<Pattern>,
    /// What a number there, or a text that is one, is above. What is no number counts as above.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub above: Option<f64>,
}

impl Approvals {
    /// Says of each problem its key, its value and what was expected.
    pub(crate) fn check(&self, mut problem: impl FnMut(String)) {
        if !(1..=LONGEST).contains(&self.expires) {
            let given = self.expires;
            problem(format!(
                "approvals.expires = {given}: expected 1 to {LONGEST} seconds"
            ));
        }
        if self.rules.len() > MOST_RULES {
            let given = self.rules.len();
            problem(format!(
                "approvals.rules = {given} entries: expected at most {MOST_RULES}"
            ));
        }
        for (n, rule) in self.rules.iter().enumerate() {
            if let Some(why) = rule.problem() {
                problem(format!("approvals.rules[{n}]{why}"));
            }
        }
    }

    /// Whether some rule is about a tool.
    pub(crate) fn concern(&self, tool: &str) -> bool {
        self.rules.iter().any(|rule| rule.is_about(tool))
    }

    /// The number of the first rule, from 1, that wants a call approved of.
    pub(crate) fn of(&self, tool: &str, arguments: &Value) -> Option<usize> {
        let wants = |rule: &ApprovalRule| rule.is_about(tool) && rule.wants(arguments);
        self.rules.iter().position(wants).map(|place| place + 1)
    }
}

impl ApprovalRule {
    fn problem(&self) -> Option<String> {
        let is_name = |name: &str| {
            let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
            name.len() <= 64 && name.chars().all(plain)
        };
        if let Some(tool) = &self.tool
            && (tool.is_empty() || !is_name(tool.strip_suffix('*').unwrap_or(tool)))
        {
            return Some(format!(
                ".tool = \"{}\": expected a tool's name, or its beginning and `*`",
                tool.chars().take(80).collect::<String>()
            ));
        }
        if let Some(argument) = &self.argument
            && !(argument.is_empty() || argument.starts_with('/'))
        {
            return Some(format!(
                ".argument = \"{}\": expected a JSON Pointer, for example `/amount`",
                argument.chars().take(80).collect::<String>()
            ));
        }
        if self.above.is_some_and(|above| !above.is_finite()) {
            return Some(".above: expected a number".to_owned());
        }
        let says = self.matches.is_some() || self.above.is_some();
        if says && self.argument.is_none() {
            return Some(": expected `argument` beside `matches` and `above`".to_owned());
        }
        if self.matches.is_some() && self.above.is_some() {
            return Some(": expected one of `matches` and `above`; write two rules".to_owned());
        }
        (self.tool.is_none() && self.argument.is_none())
            .then(|| ": expected `tool` or `argument`; `tool = \"*\"` is every call".to_owned())
    }

    fn is_about(&self, tool: &str) -> bool {
        self.tool
            .as_deref()
            .is_none_or(|name| match name.strip_suffix('*') {
                Some(beginning) => tool.starts_with(beginning),
                None => tool == name,
            })
    }

    fn wants(&self, arguments: &Value) -> bool {
        let Some(pointer) = &self.argument else {
            return true;
        };
        let Some(there) = arguments.pointer(pointer) else {
            return false;
        };
        if let Some(pattern) = &self.matches {
            return match there {
                Value::String(text) => pattern.0.is_match(text),
                other => pattern.0.is_match(&other.to_string()),
            };
        }
        let Some(above) = self.above else {
            return true;
        };
        let number = match there {
            Value::Number(number) => number.as_f64(),
            Value::String(text) => text.trim().parse().ok(),
            _ => None,
        };
        // What nobody can compare is not below.
        number.is_none_or(|number: f64| number.is_nan() || number > above)
    }
}

/// A regular expression, in the syntax of the `regex` crate: linear in the text's length.
#[derive(Clone)]
pub struct Pattern(Regex);

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_str().fmt(f)
    }
}

impl Serialize for Pattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.as_str())
    }
}

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let pattern = RegexBuilder::new(&text).size_limit(PATTERN_CAP).build();
        pattern.map(Self).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn rules(text: &str) -> Approvals {
        toml::from_str(text).unwrap()
    }

    #[track_caller]
    fn check(text: &str, tool: &str, arguments: Value, expected: Option<usize>) {
        assert_eq!(rules(text).of(tool, &arguments), expected, "{arguments}");
    }

    #[test]
    fn a_rule_is_about_a_tool_and_what_it_is_called_with() {
        let amount = "[[rules]]\ntool = 'pay*'\nargument = '/order/amount'\nabove = 100";
        for (given, expected) in [
            (json!(100), None),
            (json!(100.01), Some(1)),
            (json!("100"), None),
            (json!(" 1e3 "), Some(1)),
            // What cannot be compared is looked at by somebody.
            (json!("a lot"), Some(1)),
            (json!("NaN"), Some(1)),
            (json!(null), Some(1)),
            (json!([1]), Some(1)),
            (json!(true), Some(1)),
            (json!(-1), None),
        ] {
            check(
                amount,
                "pay_now",
                json!({"order": {"amount": given}}),
                expected,
            );
        }
        check(amount, "pay", json!({"order": {}}), None);
        check(amount, "repay", json!({"order": {"amount": 1000}}), None);
        let to = "[[rules]]\nargument = '/to'\nmatches = '@evil\\.example$'";
        check(to, "send", json!({"to": "a@evil.example"}), Some(1));
        check(to, "send", json!({"to": "a@evil.example.org"}), None);
        check(to, "send", json!({"to": ["a@evil.example"]}), None);
        let within = "[[rules]]\nargument = '/to'\nmatches = '@evil'";
        check(
            within,
            "send",
            json!({"to": ["b", "a@evil.example"]}),
            Some(1),
        );
        let present = "[[rules]]\ntool = 'other'\n[[rules]]\nargument = '/force'";
        check(present, "delete", json!({"force": false}), Some(2));
        check(present, "delete", json!({}), None);
        check("[[rules]]\ntool = '*'", "anything", json!({}), Some(1));
        check("", "anything", json!({}), None);
        assert!(rules(amount).concern("payment") && !rules(amount).concern("repay"));
    }

    #[test]
    fn mistakes_name_key_value_and_expectation() {
        for (text, words) in [
            ("expires = 0", ["approvals.expires = 0", "1 to"]),
            ("[[rules]]", ["approvals.rules[0]", "`tool`"]),
            ("[[rules]]\ntool = 'a b'", ["a b", "tool's name"]),
            ("[[rules]]\ntool = 'a*b'", ["a*b", "`*`"]),
            ("[[rules]]\ntool = ''", ["\"\"", "tool's name"]),
            ("[[rules]]\nargument = 'amount'", ["amount", "JSON Pointer"]),
            (
                "[[rules]]\ntool = 'a'\nabove = 1",
                ["rules[0]", "`argument`"],
            ),
            (
                "[[rules]]\nargument = '/a'\nabove = inf",
                ["above", "number"],
            ),
            (
                "[[rules]]\nargument = '/a'\nabove = 1\nmatches = 'x'",
                ["`above`", "two rules"],
            ),
        ] {
            let mut problems = Vec::new();
            rules(text).check(|problem| problems.push(problem));
            let [problem] = &problems[..] else {
                panic!("{text}: {problems:?}")
            };
            assert!(words.iter().all(|word| problem.contains(word)), "{problem}");
        }
        for bad in [
            "[[rules]]\nargument = '/a'\nmatches = '('",
            "[[rules]]\nargument = '/a'\nmatches = 'a{1000}{1000}{1000}'",
            "[[rules]]\nargument = '/a'\nmatches = '(?!a)'",
            "[[rules]]\ncolour = 1",
            "expires = -1",
        ] {
            assert!(toml::from_str::<Approvals>(bad).is_err(), "{bad}");
        }
        let good = rules("[[rules]]\nargument = '/a'\nmatches = 'x'");
        let stored = serde_json::to_value(&good).unwrap();
        assert_eq!(serde_json::from_value::<Approvals>(stored).unwrap(), good);
    }
}
