//! What must hold for any bytes, one function per reader of hostile input. Each panics where its property is broken.
//!
//! Two drivers call them: `tests/smoke.rs`, a few seconds over a checked-in corpus in every test run, and `libfuzzer/`, for as long
//! as somebody lets it run.

mod guardrail;
mod manifest;
mod names;
#[cfg(feature = "gateway")]
mod requests;

pub use guardrail::{guardrail, guardrail_state};
pub use manifest::manifest;
pub use names::host_name;
#[cfg(feature = "gateway")]
pub use requests::chat_request;

/// A target takes any bytes.
pub type Target = fn(&[u8]);

/// Every target by the name of its corpus.
pub const TARGETS: &[(&str, Target)] = &[
    ("guardrail", guardrail),
    ("guardrail_state", guardrail_state),
    ("host_name", host_name),
    ("manifest", manifest),
    #[cfg(feature = "gateway")]
    ("chat_request", chat_request),
];

/// Bytes as text, damaged where they are none.
fn text(data: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(data)
}
