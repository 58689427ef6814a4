//! Judging text: one shot, or a stream piece by piece.
//!
//! The component finds; this module makes sure that nothing is released that was not judged. It keeps the contract of
//! `ambit:guardrail` (release only forward and on character boundaries, masks in order, bounded state), caps the text that may
//! be held back, and answers an error, never text, where a component breaks any of it.

pub use crate::Severity;

/// Where a text stands in the life of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
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

impl Stage {
    pub const ALL: [Self; 5] = [Self::Input, Self::Retrieved, Self::ToolResult, Self::Output, Self::Ingest];
}

/// What is to be done about a finding, from mild to strict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    Allow,
    /// Report the finding, change nothing.
    Flag,
    Mask,
    Reject,
}

/// One line of a tenant's policy.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Rule {
    /// `prompt-injection`, `pii`, `pii/credit-card`, … A prefix up to a `/` matches all below it.
    pub category: String,
    pub action: Action,
}

/// Something found, whatever was done about it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Finding {
    /// UTF-8 byte offsets in the original text; `start < end`, on character boundaries.
    pub start: u64,
    pub end: u64,
    pub category: String,
    pub severity: Severity,
}

/// Bytes of the original text that were replaced.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Mask {
    pub start: u64,
    pub end: u64,
    pub replacement: String,
}

/// Why nothing more of a text may be released.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Rejection {
    pub category: String,
    pub severity: Severity,
}

/// The verdict on a whole text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// The text with its masks applied; empty when it was rejected.
    pub text: String,
    /// In order, not overlapping.
    pub masks: Vec<Mask>,
    pub findings: Vec<Finding>,
    pub rejection: Option<Rejection>,
}

/// What one more piece of a stream set free.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Released {
    /// May be sent now: judged, masks applied. Often shorter or longer than what was pushed.
    pub text: String,
    /// Reported for the first time.
    pub findings: Vec<Finding>,
    /// Nothing more will be released.
    pub rejection: Option<Rejection>,
}
