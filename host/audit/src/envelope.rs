//! The hash of an event.
//!
//! It is SHA-256 over these bytes, integers big-endian, `bytes(x)` = length as u32, then `x`:
//!
//! ```text
//! "ambit-event-1"  u32 schema version  bytes(tenant id)  bytes(session id)  i64 seq  bytes(kind)  i64 time in ms
//! bytes(header JSON exactly as stored)  32 bytes previous hash  u64 body length  32 bytes SHA-256 of the body as stored
//! ```
//!
//! `previous hash` is the hash of the event before (32 zero bytes for the first), so one hash covers the session up to there. The body
//! enters by its own hash: that is computed by whoever appends, not by the one writer. From schema version 2 on a body is stored sealed and
//! a header is canonical JSON (RFC 8785): what the hash covers can be checked without any key, and when the key is gone.

use crate::Digest;
use sha2::{Digest as _, Sha256};

/// An event as it is hashed.
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
        let mut hash = Sha256::new();
        let text = |hash: &mut Sha256, text: &str| {
            hash.update(u32::try_from(text.len()).unwrap_or(u32::MAX).to_be_bytes());
            hash.update(text);
        };
        let version = u32::try_from(self.schema_version).unwrap_or(u32::MAX);
        hash.update(b"ambit-event-1");
        hash.update(version.to_be_bytes());
        text(&mut hash, self.tenant);
        text(&mut hash, self.session);
        hash.update(self.seq.to_be_bytes());
        text(&mut hash, self.kind);
        hash.update(self.time_ms.to_be_bytes());
        text(&mut hash, self.header);
        hash.update(self.previous_hash.0);
        hash.update(self.body_length.to_be_bytes());
        hash.update(self.body_hash.0);
        Digest(hash.finalize().into())
    }
}

/// SHA-256 of a body as it is stored.
#[must_use]
pub fn body_hash(body: &[u8]) -> Digest {
    Digest::of(&[body])
}
