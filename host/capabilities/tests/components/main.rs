//! Every component of the project through the host's own handles: the real wasm, snapshotted as the build does it.
#![expect(
    clippy::disallowed_methods,
    reason = "tests read where components lie, and their tasks end with them"
)]

mod agent_assistant;
mod auth_api_key;
mod auth_jwt;
mod guardrail_baseline;
mod hostile_http;
mod retrieval_hybrid;
mod routing_subdomain;
mod server;
mod support;
mod tool_datetime;
mod tool_web_fetch;
