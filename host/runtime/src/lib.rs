//! Runs components and holds them to their limits.
//!
//! In the order of a component's life: [`Runtime::load`] checks and compiles it; [`admit`] compares what it imports with what is asked
//! and granted; [`Pure::link`] or [`Effectful::link`] gives it exactly that; `call` runs it, on a fresh instance unless its
//! manifest says otherwise, under a [`Meter`] that nothing escapes. [`snapshot`] is for the build: it moves a component's start-up work
//! from every call into its bytes.
//!
//! Rules this crate keeps:
//! - What is not granted is not linked. Values are checked by the [`Ambit`](ambit_policy::Ambit) in the host functions.
//! - A guest that spends a limit ends its own call with a typed error; no other call notices, and no thread is lost.
//! - Memory never crosses tenants.
//! - No guest runs on a thread that does I/O; no pure guest waits.

mod admission;
mod base;
mod cache;
mod call;
mod code;
mod digest;
mod engine;
mod executor;
mod inspect;
mod interface;
mod limiter;
mod linked;
mod links;
mod meter;
mod metrics;
mod pace;
mod places;
mod runtime;
mod snapshot;
mod ticker;
mod turnstile;
mod warm;

pub use admission::{AdmissionError, Admitted, Refusal, admit};
pub use call::{Busy, Call, CallError, CallScope, Clock};
pub use code::{Code, LoadError, MAX_COMPONENT};
pub use digest::{Digest, DigestError};
pub use engine::{Allocation, EngineClass};
pub use executor::{Executor, ExecutorError};
pub use inspect::{Granted, Import, Inspection, inspect};
pub use interface::Interface;
pub use linked::{Bindings, Effectful, LinkError, Pure};
pub use meter::{Limit, Meter, Spent, Tenant, TenantLimits};
pub use metrics::Metrics;
pub use runtime::{Runtime, RuntimeConfig, StartError};
pub use snapshot::{INITIALIZE, SnapshotError, snapshot};
/// For [`bindings!`].
pub use wasmtime;
