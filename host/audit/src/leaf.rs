//! What stands at the leaves of the trees. Integers big-endian, `bytes(x)` = length as u32, then `x`.

use crate::{Digest, tree::leaf_hash};
use serde::{Deserialize, Serialize};

/// Where a session stood at an anchor: `"ambit-session-1" bytes(id) i64 seq hash`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionLeaf {
    pub session: String,
    /// Of its last event then.
    pub seq: i64,
    pub hash: Digest,
}

impl SessionLeaf {
    #[must_use]
    pub fn hash(&self) -> Digest {
        let id = self.session.as_bytes();
        leaf_hash(&[
            b"ambit-session-1",
            &length(id),
            id,
            &self.seq.to_be_bytes(),
            &self.hash.0,
        ])
    }
}

/// A tenant's sessions that began on one day: `"ambit-partition-1" bytes(day) u64 sessions root`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Partition {
    /// UTC, as `2026-11-21`.
    pub day: String,
    pub sessions: u64,
    pub root: Digest,
    /// Its events are gone, at the end of their retention. The leaf is the same.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub removed: bool,
}

impl Partition {
    #[must_use]
    pub fn hash(&self) -> Digest {
        let day = self.day.as_bytes();
        leaf_hash(&[
            b"ambit-partition-1",
            &length(day),
            day,
            &self.sessions.to_be_bytes(),
            &self.root.0,
        ])
    }
}

/// A tenant in the installation's tree: `"ambit-tenant-1" bytes(id) root`.
#[must_use]
pub fn tenant_leaf(tenant: &str, root: Digest) -> Digest {
    let id = tenant.as_bytes();
    leaf_hash(&[b"ambit-tenant-1", &length(id), id, &root.0])
}

fn length(bytes: &[u8]) -> [u8; 4] {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes()
}
