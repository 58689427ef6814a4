//! The runtime against real components: what it runs, what it refuses, and what it holds.
#![expect(
    clippy::disallowed_methods,
    reason = "tests read where components lie, and their tasks end with them"
)]

mod admission;
mod base;
mod fresh;
mod hostile;
mod limits;
mod reuse;
mod samples;
mod siege;
mod snapshot;
mod support;
