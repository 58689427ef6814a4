//! What is hashed, byte by byte. Integers are big-endian, `bytes(x)` = length as u32, then `x`.

use crate::tree::leaf_hash;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::fmt;

/// A SHA-256, as 64 lower-case hexadecimal digits in text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Digest(#[serde(with = "hex::serde")] pub [u8; 32]);

impl Digest {
    /// Of these bytes, one part after the other.
    pub(crate) fn of(parts: &[&[u8]]) -> Self {
        let mut hash = Sha256::new();
        parts.iter().for_each(|part| hash.update(part));
        Self(hash.finalize().into())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

/// An event as it is hashed:
///
/// ```text
/// "ambit-event-1"  u32 schema version  bytes(tenant id)  bytes(session id)  i64 seq  bytes(kind)  i64 time in ms
/// bytes(header JSON exactly as stored)  32 bytes previous hash  u64 body length  32 bytes SHA-256 of the body as stored
/// ```
///
/// `previous hash` is the hash of the event before (32 zero bytes for the first), so one hash covers the session up to there. The body
/// enters by its own hash: that is computed by whoever appends, not by the one writer. From schema version 2 on a body is stored sealed and
/// a header is canonical JSON (RFC 8785): what the hash covers can be checked without any key, and when the key is gone.
#[derive(Debug, Clone, Copy)]
pub struct Envelope<'a> {
    pub schema_version: i64,
    pub tenant: &'a str,
    pub session: &'a str,
    /// 1 for the first of a session.
    pub seq: i64,
    pub kind: &'a str,
    /// Milliseconds since the Unix epoch.
    pub time_ms: i64,
    /// Exactly as stored.
    pub header: &'a str,
    pub previous_hash: Digest,
    pub body_length: u64,
    pub body_hash: Digest,
}

impl Envelope<'_> {
    #[must_use]
    pub fn hash(&self) -> Digest {
        let version = u32::try_from(self.schema_version).unwrap_or(u32::MAX);
        Digest::of(&[
            b"ambit-event-1",
            &version.to_be_bytes(),
            &length(self.tenant),
            self.tenant.as_bytes(),
            &length(self.session),
            self.session.as_bytes(),
            &self.seq.to_be_bytes(),
            &length(self.kind),
            self.kind.as_bytes(),
            &self.time_ms.to_be_bytes(),
            &length(self.header),
            self.header.as_bytes(),
            &self.previous_hash.0,
            &self.body_length.to_be_bytes(),
            &self.body_hash.0,
        ])
    }
}

fn length(text: &str) -> [u8; 4] {
    u32::try_from(text.len()).unwrap_or(u32::MAX).to_be_bytes()
}

/// SHA-256 of a body as it is stored.
#[must_use]
pub fn body_hash(body: &[u8]) -> Digest {
    Digest::of(&[body])
}

/// Where a session stood when an anchor was made: `"ambit-session-1" bytes(id) i64 seq hash`. The last one of a session counts.
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
        let (id, seq) = (&self.session, self.seq.to_be_bytes());
        leaf_hash(&[b"ambit-session-1", &length(id), id.as_bytes(), &seq, &self.hash.0])
    }
}

/// A tenant's sessions that began on one day: `"ambit-partition-1" bytes(day) u64 leaves root u8 removed`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Partition {
    /// UTC, as `2026-11-21`.
    pub day: String,
    /// Of its tree: one for each time that an anchor found a session to have gone on.
    pub leaves: u64,
    pub root: Digest,
    /// Its events are gone, at the end of their retention: what stays is this stub, which the next anchor signs.
    pub removed: bool,
}

impl Partition {
    #[must_use]
    pub fn hash(&self) -> Digest {
        let (day, leaves, removed) = (&self.day, self.leaves.to_be_bytes(), [self.removed.into()]);
        leaf_hash(&[b"ambit-partition-1", &length(day), day.as_bytes(), &leaves, &self.root.0, &removed])
    }
}

/// A tenant in the installation's tree: `"ambit-tenant-1" bytes(id) root`.
#[must_use]
pub fn tenant_leaf(id: &str, root: Digest) -> Digest {
    leaf_hash(&[b"ambit-tenant-1", &length(id), id.as_bytes(), &root.0])
}
