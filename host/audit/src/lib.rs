//! What an auditor needs, and nothing else: how events, sessions and tenants are hashed, how anchors are signed, and the verifier of an
//! export. Small enough to be read in an hour, because whoever does not trust the operator has to trust this.
//!
//! From the bottom up, each level hashing the one below:
//!
//! 1. An **event**'s hash covers the hash of the event before ([`Envelope`]): one hash covers a session up to there.
//! 2. A **session**'s leaf is where it stood at the anchor: number and hash of its last event. The sessions of a tenant that began on one
//!    day (UTC) make a **partition**: a tree over their leaves, ordered by id.
//! 3. A **tenant**'s tree has its partitions as leaves, ordered by day. A partition that was removed at the end of its retention keeps its
//!    leaf, so that the others still verify.
//! 4. The **installation**'s tree has the tenants as leaves, ordered by id. An **anchor** is its root, signed, with the hash of the
//!    anchor before ([`Anchor`]), kept where the operator of the database cannot change it.
//!
//! Trees are those of RFC 9162 §2.1 (Certificate Transparency): leaf and node hashes are apart, and a path of log n hashes proves a leaf.

mod anchor;
mod digest;
mod envelope;
mod export;
mod leaf;
mod note;
mod tree;

pub use anchor::{Anchor, AnchorError, follow};
pub use digest::{Digest, DigestError};
pub use envelope::{Envelope, body_hash};
pub use export::{ExportError, Exported, FORMAT, Fault, Line, Report, verify_export};
pub use leaf::{Partition, SessionLeaf, tenant_leaf};
pub use note::{NoteError, Verifier};
pub use tree::{Path, node_hash, root};
