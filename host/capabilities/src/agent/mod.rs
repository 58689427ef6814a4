//! The agent's step: a pure function from what is new to what to do next.
//!
//! The records are those of `ambit:agent` and `ambit:types`, generated from the contract: an agent's move is journalled as it is,
//! and a second set of the same records would only add a place to forget a field.

mod host;

pub use crate::bindings::types::{Role, ToolCall, ToolSpec, Usage};
pub use host::exports::ambit::agent::agent::{
    Answer, Audience, Decision, Definition, Event, Failure, Finish, FinishReason, Message, MessageId, ModelRequest, Move,
    Passage, PromptPart, Query, Reply, Retrieval, RetrieveRequest, ToolResult, Turn,
};

/// Most bytes of state an agent may carry from one step to the next.
pub const STATE_CAP: usize = 64 * 1024;

/// The time and the randomness of a turn: journalled with it, so that a replay sees the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TurnClock {
    /// Nanoseconds since the Unix epoch: what the guest's wall clock says throughout the step.
    pub unix_nanos: u64,
    /// Seed of the guest's random numbers.
    pub seed: [u8; 32],
}
