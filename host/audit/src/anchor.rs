//! Anchors: what the installation's journal was at a moment, signed.
//!
//! The text is a checkpoint of C2SP (<https://c2sp.org/tlog-checkpoint>): origin, number, root, and lines of our own:
//!
//! ```text
//! ambit.example/audit
//! 17
//! zhK9…=                      root of the installation's tree, base64
//! time 1795274400000          milliseconds since the Unix epoch
//! tenants 2                   leaves of the tree
//! previous 8vQT…=             SHA-256 of the whole note before, base64; 32 zero bytes for number 1
//! ```
//!
//! A checkpoint's size is here the anchor's number: what grows by one each time is the chain of anchors.

use crate::{Digest, Fault, Verifier, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Anchor {
    /// 1 for the first of an installation.
    pub number: u64,
    pub root: Digest,
    pub time_ms: i64,
    pub tenants: u64,
    /// Of the note before.
    pub previous: Digest,
}

impl Anchor {
    /// The anchor that a note holds.
    ///
    /// # Errors
    /// When the signature does not fit, or the text is no anchor of the key's name.
    pub fn open(note: &str, key: &Verifier) -> Result<Self, Fault> {
        let text = key.open(note)?;
        let anchor = Self::parse(text);
        // A number, a digest has one form; whatever else is there is not ours.
        let anchor = anchor.filter(|anchor| anchor.text(&key.name) == text);
        anchor.ok_or_else(|| Fault("a signed text is no anchor of this installation".to_owned()))
    }

    /// The text that is signed under `name`.
    #[must_use]
    pub fn text(&self, name: &str) -> String {
        let (number, time, tenants) = (self.number, self.time_ms, self.tenants);
        let [root, previous] = [self.root, self.previous].map(|digest| STANDARD.encode(digest.0));
        format!("{name}/audit\n{number}\n{root}\ntime {time}\ntenants {tenants}\nprevious {previous}\n")
    }

    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines().skip(1);
        let mut value = |name| lines.next()?.strip_prefix(name);
        let digest = |text| STANDARD.decode(text).ok()?.try_into().ok().map(Digest);
        Some(Self {
            number: value("")?.parse().ok()?,
            root: digest(value("")?)?,
            time_ms: value("time ")?.parse().ok()?,
            tenants: value("tenants ")?.parse().ok()?,
            previous: digest(value("previous ")?)?,
        })
    }

    /// What the next anchor calls this note.
    #[must_use]
    pub fn name(note: &str) -> Digest {
        Digest::of(&[note.as_bytes()])
    }
}

/// Follows a chain of notes from the first one: each signed, each the next of the one before. The last.
///
/// # Errors
/// The first that does not fit.
pub fn follow<'a>(notes: impl IntoIterator<Item = &'a str>, key: &Verifier) -> Result<Option<Anchor>, Fault> {
    let (mut last, mut previous): (Option<Anchor>, _) = (None, Digest::default());
    for (number, note) in (1..).zip(notes) {
        let anchor = Anchor::open(note, key).map_err(|fault| Fault(format!("anchor {number}: {fault}")))?;
        let later = last.as_ref().is_none_or(|last| last.time_ms <= anchor.time_ms);
        ensure(anchor.number == number, || format!("anchor {number} is missing: another is in its place"))?;
        ensure(anchor.previous == previous, || format!("anchor {number} does not follow the one before: one was replaced"))?;
        ensure(later, || format!("anchor {number} is older than the one before"))?;
        (last, previous) = (Some(anchor), Anchor::name(note));
    }
    Ok(last)
}
