//! `ambit:types`, generated once; every kind's bindings refer to it.

wasmtime::component::bindgen!({
    path: "../../wit/types",
    inline: "
        package ambit:host-types;
        world shared { import ambit:types/types@0.1.0; }
    ",
    world: "ambit:host-types/shared",
    additional_derives: [PartialEq, serde::Serialize, serde::Deserialize],
});

#[allow(unreachable_pub, reason = "what `bindgen!` generates re-exports it")]
pub use ambit::types::types;
