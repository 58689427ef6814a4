//! A scripted OpenAI-compatible model server.
//!
//! Tests and benchmarks start it in their own process ([`Mock::start`]) or as the binary. A [`Script`] says what it answers, how fast,
//! in what pieces, and what goes wrong; [`Stats`] says what it saw. It never looks at anything but the request and the script, so a
//! run can be repeated exactly.
//!
//! The *obedient* model ([`Reply::Obedient`]) stands for the worst model there can be: it does whatever any text of the prompt says,
//! and tries tools nobody offered. What still does not happen with it is prevented by the host.

mod answer;
mod body;
mod obedient;
mod script;
mod server;

pub use script::{Call, Fault, Reply, Script, Stamps, UsageCounts};
pub use server::{Mock, Stats};
