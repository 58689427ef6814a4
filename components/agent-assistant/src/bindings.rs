//! Generated from `wit/agent`; also used natively, so that the tests speak the contract's own types.
#![allow(
    unsafe_code,
    unreachable_pub,
    dead_code,
    clippy::all,
    clippy::allow_attributes_without_reason,
    reason = "generated code"
)]

wit_bindgen::generate!({
    inline: r"
        package ambit:assistant;
        world component {
            include ambit:agent/guest@0.1.0;
            export wizer-initialize: func();
        }
    ",
    path: ["../../wit/types", "../../wit/agent"],
    world: "ambit:assistant/component",
    generate_all,
    pub_export_macro: true,
    additional_derives: [PartialEq, Clone],
});
