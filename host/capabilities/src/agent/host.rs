//! Bindings of `ambit:agent`. An agent imports nothing beyond base.

wasmtime::component::bindgen!({
    path: ["../../wit/types", "../../wit/agent"],
    world: "ambit:agent/guest",
    with: { "ambit:types/types": crate::bindings::types },
    additional_derives: [PartialEq, serde::Serialize, serde::Deserialize],
});

ambit_runtime::bindings!(Guest, GuestPre);

pub(super) use exports::ambit::agent::agent::AgentError;
