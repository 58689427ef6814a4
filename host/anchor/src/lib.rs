//! Anchors of the journal: its trees, their signed roots, and where those are kept.

mod signer;
mod tree;

pub use signer::Signer;
pub use tree::Tree;
