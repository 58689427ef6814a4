//! Bindings of `ambit:agent`. An agent imports nothing beyond base.

wasmtime::component::bindgen!({
    path: ["../../wit/types", "../../wit/agent"],
    world: "ambit:agent/guest",
    with: { "ambit:types/types": crate::bindings::types },
    additional_derives: [PartialEq, serde::Serialize, serde::Deserialize],
});
