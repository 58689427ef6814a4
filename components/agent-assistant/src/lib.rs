//! The assistant agent: a pure step function over `ambit:agent`.
//!
//! [`step`] decides one move from what is new and the state of the last step. Its rules, in the order they are tried, are in
//! `decide.rs`; what it remembers is in `state.rs`. It reads no clock and no randomness, so the same turn gives the same move.

mod bindings;
mod citations;
mod decide;
mod state;

pub use bindings::exports::ambit::agent::agent as contract;
pub use decide::step;

#[cfg(target_family = "wasm")]
#[allow(unsafe_code, unreachable_pub, reason = "the generated export glue")]
mod glue {
    use crate::bindings::{Guest as Root, exports::ambit::agent::agent};

    struct Assistant;

    impl Root for Assistant {
        /// Nothing to prepare but the allocator, which one decision warms.
        fn wizer_initialize() {
            drop(crate::state::State::default().encode());
        }
    }

    impl agent::Guest for Assistant {
        fn step(turn: agent::Turn) -> Result<agent::Decision, agent::AgentError> {
            crate::step(&turn)
        }
    }

    crate::bindings::export!(Assistant with_types_in crate::bindings);
}
