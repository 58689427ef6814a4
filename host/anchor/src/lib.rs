//! Anchors of the journal: its trees, their signed roots, where those are kept, and exports that lead up to them.
//!
//! [`ambit_audit`] says what is hashed and how a root is signed; here it is done. [`Anchors`] is what a host runs.

mod anchorer;
mod anchors;
mod export;
mod place;
mod signer;
mod tree;

pub use anchors::{Anchors, PublishError, Status};
pub use export::Export;
pub use place::{Answer, Folder, Place, PlaceError, name};
pub use signer::Signer;
