//! What a check comes to, as in `ambit:guardrail/guardrail`.

use crate::policy::Severity;

/// Something found; offsets are UTF-8 bytes of the whole text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub start: u64,
    pub end: u64,
    pub category: &'static str,
    pub severity: Severity,
}

/// Bytes to replace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mask {
    pub start: u64,
    pub end: u64,
    pub replacement: String,
}

/// What may happen to the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Allow,
    /// In order of `start`, not overlapping, all between the last `release_through` and this one.
    Mask(Vec<Mask>),
    Reject {
        category: &'static str,
        severity: Severity,
    },
}

/// The answer to one piece of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub verdict: Verdict,
    pub findings: Vec<Finding>,
    /// Everything before this byte of the whole text may be sent.
    pub release_through: u64,
    pub state: Vec<u8>,
}

/// The state is not one this component made.
#[derive(Debug, PartialEq, Eq)]
pub struct BadState;
