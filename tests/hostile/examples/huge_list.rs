//! Describes a million tools: small in the guest, large once lifted. Its other answers are harmless.

#[cfg(target_family = "wasm")]
mod guest {
    use ambit_hostile::bindings::exports::ambit::{agent::agent, tool::tool};

    struct Component;

    impl tool::Guest for Component {
        fn describe() -> Vec<tool::ToolSpec> {
            let tool = || tool::ToolSpec {
                name: String::new(),
                description: String::new(),
                parameters: String::new(),
                reversible: true,
                idempotent: true,
            };
            std::iter::repeat_with(tool).take(300_000).collect()
        }

        fn invoke(call: tool::ToolCall) -> Result<tool::ToolOutput, tool::ToolError> {
            Ok(tool::ToolOutput {
                content: call.arguments,
            })
        }
    }

    impl agent::Guest for Component {
        /// The same in a move: a million calls of no tool.
        fn step(_: agent::Turn) -> Result<agent::Decision, agent::AgentError> {
            let call = || agent::ToolCall {
                id: String::new(),
                name: String::new(),
                arguments: String::new(),
            };
            let calls = std::iter::repeat_with(call).take(300_000).collect();
            Ok(agent::Decision {
                move_: agent::Move::CallTools(calls),
                state: Vec::new(),
            })
        }
    }

    ambit_hostile::bindings::export!(Component);
}
