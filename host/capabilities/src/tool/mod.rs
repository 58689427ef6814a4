//! Something an agent can do in the world.

pub use crate::bindings::types::{ToolCall, ToolSpec};

/// What a model reads of a tool's answer: plain text or JSON. Untrusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolOutput {
    pub content: String,
}
