//! Says which edition of itself it is: as a tool in its answer, as an agent once in each of several steps.

#[cfg(target_family = "wasm")]
mod guest {
    use ambit_hostile::{
        bindings::exports::ambit::{agent::agent, tool::tool},
        edition,
    };

    /// Replies an agent asks for before it finishes, so that there is time to take its place between two steps.
    const REPLIES: u32 = 3;

    struct Component;

    impl tool::Guest for Component {
        fn describe() -> Vec<tool::ToolSpec> {
            vec![tool::ToolSpec {
                name: "edition".into(),
                description: "Says which edition it is.".into(),
                parameters: "{\"type\":\"object\"}".into(),
                reversible: true,
                idempotent: true,
            }]
        }

        fn invoke(_: tool::ToolCall) -> Result<tool::ToolOutput, tool::ToolError> {
            Ok(tool::ToolOutput { content: edition() })
        }
    }

    impl agent::Guest for Component {
        fn step(turn: agent::Turn) -> Result<agent::Decision, agent::AgentError> {
            let mut state = turn.state;
            state.extend_from_slice(edition().as_bytes());
            state.push(b' ');
            let move_ = if turn.step < REPLIES {
                agent::Move::AskModel(agent::ModelRequest {
                    model: None,
                    prompt: vec![agent::PromptPart::Instruction("Say something.".into())],
                    tools: Vec::new(),
                    audience: agent::Audience::Internal,
                })
            } else {
                let said = String::from_utf8_lossy(&state).into_owned();
                agent::Move::Finish(agent::Finish {
                    answer: agent::Answer::Text(said),
                    addendum: String::new(),
                    citations: Vec::new(),
                })
            };
            Ok(agent::Decision { move_, state })
        }
    }

    ambit_hostile::bindings::export!(Component);
}
