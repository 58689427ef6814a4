//! The runtime against real components: what it runs, what it refuses, and what it holds.

mod admission;
mod base;
mod hostile;
mod limits;
mod reuse;
mod snapshot;
mod support;
