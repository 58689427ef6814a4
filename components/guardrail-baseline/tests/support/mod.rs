//! What the tests and the `score` example share: labelled data, and the measures of the scorers that run over HTTP.

#![allow(dead_code, reason = "each test takes its part")]

use guardrail_baseline::{Action, Finding, Policy, Rule, Stage, check};
use serde_json::Value;
use std::path::Path;

/// A policy that reports everything and changes nothing.
pub(crate) fn flag_all(stage: Stage) -> Policy {
    Policy::new(
        stage,
        vec![Rule {
            category: "pii".into(),
            action: Action::Flag,
        }],
    )
}

/// The findings of a text given in one piece.
pub(crate) fn findings(stage: Stage, text: &str) -> Vec<Finding> {
    check(&flag_all(stage), stage, text, true, &[])
        .expect("an empty state is valid")
        .findings
}

pub(crate) fn is_attack(stage: Stage, text: &str) -> bool {
    findings(stage, text)
        .iter()
        .any(|finding| finding.category == "prompt-injection")
}

pub(crate) fn rows(path: &Path) -> Vec<Value> {
    let text =
        std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.lines()
        .filter(|line| !line.trim().is_empty())
        .map(|line| serde_json::from_str(line).expect("a JSON row"))
        .collect()
}

pub(crate) fn text(row: &Value) -> &str {
    row["text"].as_str().unwrap_or_default()
}

/// How many texts of each label (0, 1) there are and how many are found to be attacks, with those decided wrongly.
#[derive(Default)]
pub(crate) struct Injection {
    pub(crate) n: [usize; 2],
    pub(crate) flagged: [usize; 2],
    pub(crate) wrong: Vec<String>,
}

impl Injection {
    pub(crate) fn of(stage: Stage, rows: &[Value]) -> Injection {
        let mut score = Injection::default();
        for row in rows {
            let label = usize::from(row["label"].as_u64() == Some(1));
            let hit = is_attack(stage, text(row));
            score.n[label] += 1;
            score.flagged[label] += usize::from(hit);
            if hit != (label == 1) {
                score.wrong.push(format!(
                    "{label} {}",
                    text(row)
                        .chars()
                        .take(300)
                        .collect::<String>()
                        .replace('\n', " ")
                ));
            }
        }
        score
    }

    pub(crate) fn rate(&self, label: usize) -> f64 {
        self.flagged[label] as f64 / self.n[label].max(1) as f64
    }
}

/// Spans of the types that have a pattern: a true one is found when a reported one covers half of it; a reported one is
/// false when it touches no true one.
#[derive(Default)]
pub(crate) struct Pii {
    pub(crate) found: usize,
    pub(crate) wanted: usize,
    pub(crate) false_spans: usize,
    pub(crate) reported: usize,
    pub(crate) wrong: Vec<String>,
}

impl Pii {
    pub(crate) fn of(rows: &[Value]) -> Pii {
        const TYPES: [&str; 7] = [
            "CREDIT_CARD",
            "IBAN_CODE",
            "IBAN",
            "EMAIL_ADDRESS",
            "IP_ADDRESS",
            "US_SSN",
            "PHONE_NUMBER",
        ];
        let mut score = Pii::default();
        for row in rows {
            let text = text(row);
            let to_chars = |byte: u64| text[..byte as usize].chars().count() as i64;
            let got: Vec<(i64, i64)> = findings(Stage::Output, text)
                .iter()
                .filter(|finding| finding.category.starts_with("pii"))
                .map(|finding| (to_chars(finding.start), to_chars(finding.end)))
                .collect();
            let spans: Vec<(i64, i64, &str)> = row["spans"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|span| {
                    (
                        span[0].as_i64().unwrap_or(0),
                        span[1].as_i64().unwrap_or(0),
                        span[2].as_str().unwrap_or(""),
                    )
                })
                .collect();
            for (start, end, kind) in spans.iter().filter(|span| TYPES.contains(&span.2)) {
                score.wanted += 1;
                if got
                    .iter()
                    .any(|(s, e)| (end.min(e) - start.max(s)) * 2 >= end - start)
                {
                    score.found += 1;
                } else {
                    score.wrong.push(format!("missed {kind}: {text}"));
                }
            }
            score.reported += got.len();
            for (s, e) in &got {
                if !spans.iter().any(|span| *e.min(&span.1) > *s.max(&span.0)) {
                    score.false_spans += 1;
                    score.wrong.push(format!("false {s}..{e}: {text}"));
                }
            }
        }
        score
    }

    pub(crate) fn recall(&self) -> f64 {
        self.found as f64 / self.wanted.max(1) as f64
    }

    pub(crate) fn precision(&self) -> f64 {
        1.0 - self.false_spans as f64 / self.reported.max(1) as f64
    }
}

/// Secrets by lines of configuration files.
#[derive(Default)]
pub(crate) struct Secrets {
    pub(crate) files: usize,
    pub(crate) with_secret: usize,
    pub(crate) lines: usize,
    pub(crate) risk: usize,
    pub(crate) false_lines: usize,
    pub(crate) wrong: Vec<String>,
}

impl Secrets {
    pub(crate) fn of(rows: &[Value]) -> Secrets {
        let mut score = Secrets::default();
        for row in rows {
            let text = text(row);
            let mut lines: Vec<usize> = findings(Stage::Output, text)
                .iter()
                .filter(|finding| finding.category.starts_with("secret"))
                .map(|finding| text[..finding.start as usize].matches('\n').count())
                .collect();
            lines.dedup();
            let number = |key: &str| row[key].as_u64().unwrap_or(0) as usize;
            let (risk, informative) = (number("risk_lines"), number("informative_lines"));
            score.with_secret += usize::from(risk > 0);
            score.risk += risk;
            score.files += usize::from(!lines.is_empty() && risk > 0);
            score.lines += lines.len().min(risk);
            score.false_lines += lines.len().saturating_sub(risk + informative);
            if lines.len() != risk {
                score.wrong.push(format!(
                    "{}: {} of {risk} lines (+{informative}): {lines:?}",
                    row["path"],
                    lines.len()
                ));
            }
        }
        score
    }
}
