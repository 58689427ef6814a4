//! Does not say what its tools are: waits for far longer than anybody else does. Called all the same, it answers.

#[cfg(target_family = "wasm")]
mod component {
    use ambit_hostile::bindings::exports::ambit::{agent::agent, tool::tool};

    struct Component;

    impl tool::Guest for Component {
        fn describe() -> Vec<tool::ToolSpec> {
            std::thread::sleep(std::time::Duration::from_secs(3_600));
            Vec::new()
        }

        fn invoke(call: tool::ToolCall) -> Result<tool::ToolOutput, tool::ToolError> {
            Ok(tool::ToolOutput {
                content: call.arguments,
            })
        }
    }

    impl agent::Guest for Component {
        fn step(_: agent::Turn) -> Result<agent::Decision, agent::AgentError> {
            Err(agent::AgentError::BadTurn("a tool".into()))
        }
    }

    ambit_hostile::bindings::export!(Component);
}
