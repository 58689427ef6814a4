//! What an auditor needs, and nothing else: how events, sessions and tenants are hashed, how anchors are signed, and the verifier of an
//! export. Small enough to be read in an hour, because whoever does not trust the operator has to trust this.
//!
//! From the bottom up, each level hashing the one below:
//!
//! 1. An **event**'s hash covers the hash of the event before ([`Envelope`]): one hash covers a session up to there.
//! 2. Each time an anchor is made, a session that went on since the last one gets a **leaf**: number and hash of its last event. The
//!    leaves of a tenant's sessions that began on one day (UTC) make a **partition**: a tree that leaves are only ever added to.
//! 3. A **tenant**'s tree has its partitions as leaves, ordered by day. A partition that was removed at the end of its retention keeps its
//!    leaf, marked, so that the others still verify and the anchors say when it went.
//! 4. The **installation**'s tree has the tenants as leaves, ordered by id. An **anchor** is its root, signed, with the hash of the
//!    anchor before ([`Anchor`]), kept where the operator of the database cannot change it.
//!
//! Trees are those of RFC 9162 §2.1 (Certificate Transparency): leaf and node hashes are apart, and a path of log n hashes proves a leaf.

mod anchor;
mod export;
mod hash;
mod note;
mod tree;

pub use anchor::{Anchor, follow};
pub use export::{Event, Exported, FORMAT, Line, Report, verify_export};
pub use hash::{Digest, Envelope, Partition, SessionLeaf, body_hash, tenant_leaf};
pub use note::Verifier;
pub use tree::{Frontier, Path, node_hash};

/// What does not hold, in words for a person.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Fault(pub(crate) String);

/// Makes a fault of what did not hold.
pub(crate) fn ensure(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), Fault> {
    if holds { Ok(()) } else { Err(Fault(otherwise())) }
}
