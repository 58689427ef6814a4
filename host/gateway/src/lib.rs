//! The only crate that knows HTTP: data plane, admin API, ops endpoints.
mod config;
mod error;
mod io;
mod metrics;
mod openai;
mod rate;
mod server;
#[cfg(test)]
mod test_support;
pub use config::{GatewayConfig, ServerConfig};
pub use metrics::Metrics;
pub use openai::chat_request::*;
pub use rate::RateConfig;
pub use server::{Ended, Role};
