//! Components that misbehave, one in each file of `examples/`, each a real one of the standard toolchain.
//!
//! Every guest exports both a tool and an agent, so that the same code can be set loose on either engine: the manifest it is loaded with
//! says which it is. What Rust cannot express (several memories, growing tables) is WebAssembly text in `text/`, of which the tests make
//! components.
//!
//! Some are harmless: `benign` is the neighbour of the others, `surroundings` tells what it finds around it, `start_up` has work for a
//! snapshot, and `edition`, `edition_guardrail` and `alias_routing` are there to be swapped while requests run.
//!
//! A guest is one function from the text it is called with (a tool's arguments, an agent's instructions) to its answer:
//!
//! ```text
//! fn misbehave(argument: String) -> String { … }
//! ambit_hostile::guest!(misbehave);
//! ```

#[cfg(target_family = "wasm")]
#[doc(hidden)]
pub mod bindings {
    wit_bindgen::generate!({
        inline: "
            package ambit:hostile;
            world component {
                include ambit:tool/guest@0.1.0;
                include ambit:agent/guest@0.1.0;
            }
        ",
        path: ["../../wit/types", "../../wit/tool", "../../wit/agent"],
        world: "ambit:hostile/component",
        generate_all,
        pub_export_macro: true,
        default_bindings_module: "ambit_hostile::bindings",
    });
}

/// What a tool is called with: a text, or `{"argument":"text"}` from a host that holds arguments to a schema.
#[must_use]
pub fn argument(arguments: String) -> String {
    let inner = arguments
        .strip_prefix("{\"argument\":\"")
        .and_then(|text| text.strip_suffix("\"}"));
    inner.map_or_else(|| arguments.clone(), str::to_owned)
}

/// Which edition this component is. Whoever wants another one writes other letters over the zeros in the built file.
#[must_use]
pub fn edition() -> String {
    static EDITION: [u8; 16] = *b"edition 00000000";
    // The optimiser must read it where the file has it, and not know what it says.
    String::from_utf8_lossy(std::hint::black_box(&EDITION)).into_owned()
}

/// Makes a component of a function `fn(String) -> String`.
#[cfg(target_family = "wasm")]
#[macro_export]
macro_rules! guest {
    ($misbehave:path) => {
        use $crate::bindings::exports::ambit::{agent::agent, tool::tool};

        struct Component;

        impl tool::Guest for Component {
            fn describe() -> Vec<tool::ToolSpec> {
                vec![tool::ToolSpec {
                    name: "misbehave".into(),
                    description: "Misbehaves.".into(),
                    parameters: "{\"type\":\"object\"}".into(),
                    reversible: true,
                    idempotent: true,
                }]
            }

            fn invoke(call: tool::ToolCall) -> Result<tool::ToolOutput, tool::ToolError> {
                Ok(tool::ToolOutput {
                    content: $misbehave($crate::argument(call.arguments)),
                })
            }
        }

        impl agent::Guest for Component {
            fn step(turn: agent::Turn) -> Result<agent::Decision, agent::AgentError> {
                let answer = agent::Answer::Text($misbehave(turn.definition.instructions));
                let finish = agent::Finish {
                    answer,
                    addendum: String::new(),
                    citations: Vec::new(),
                };
                Ok(agent::Decision {
                    move_: agent::Move::Finish(finish),
                    state: Vec::new(),
                })
            }
        }

        $crate::bindings::export!(Component);
    };
}

/// On the machine that builds, there is nothing to export: the examples compile to empty libraries.
#[cfg(not(target_family = "wasm"))]
#[macro_export]
macro_rules! guest {
    ($misbehave:path) => {
        const _: fn(String) -> String = $misbehave;
    };
}
