//! The only crate that knows HTTP: the tenants' data plane, the operator's admin API, the ops endpoints.
//!
//! A request's way is one file each, in this order: `server` (connections, drain), `front` (id, span, which plane), `data` (who calls, at
//! what rate) or `ops` and `admin` (the operator's key), then the route. `openai` holds OpenAI's dialect: reading a body nobody vouches
//! for, and the shapes of answers.
//!
//! Rules kept here:
//!
//! - The host name alone says which tenant is meant, and a tenant's host serves nothing but `/v1`.
//! - Nothing behind a route runs without a [`CallContext`](ambit_types::CallContext) or the operator's key.
//! - Every body is bounded in bytes, values and time; every connection in how long it may leave an answer unread.
//! - An error's cause is logged under the request's id and never sent. Only what hyper refuses by itself, a head that cannot be read, is
//!   answered without an id: it gives no hook to add one.
//!
//! Why axum below and not hyper alone: routes are data (see [`DATA_ROUTES`], [`OPS_ROUTES`], [`ADMIN_ROUTES`]) that documents and tests
//! walk, and axum matches them in well under a microsecond. Why hyper above and not `axum::serve`: caps on heads, time limits and draining
//! are only there.

mod admin;
mod approvals;
mod body;
mod config;
mod data;
mod error;
mod front;
mod gateway;
mod host;
mod io;
mod metrics;
mod openai;
mod ops;
mod rate;
mod routes;
mod server;
mod sessions;
mod tokens;
mod trace;

#[cfg(test)]
mod test_support;

pub use admin::ROUTES as ADMIN_ROUTES;
pub use config::{GatewayConfig, ServerConfig};
pub use data::ROUTES as DATA_ROUTES;
pub use gateway::Gateway;
pub use metrics::Metrics;
pub use openai::chat_request::{AgentRequest, ChatBody, ChatRequest, Target, parse_chat_request};
pub use ops::ROUTES as OPS_ROUTES;
pub use rate::RateConfig;
pub use routes::{Route, table};
pub use server::{Ended, Role};
