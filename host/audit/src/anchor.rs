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

use crate::{Digest, NoteError, Verifier};
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

/// Why a note is no anchor, or not the next one.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum AnchorError {
    #[error("anchor {number}: {source}")]
    Note { number: u64, source: NoteError },
    #[error("anchor {0} is signed, but it is no anchor of this installation")]
    Malformed(u64),
    #[error("anchor {expected} is missing: number {found} is in its place")]
    Number { expected: u64, found: u64 },
    #[error("anchor {0} does not follow the one before: one of them was replaced")]
    Fork(u64),
    #[error("anchor {0} is older than the one before")]
    Time(u64),
}

impl Anchor {
    /// The anchor that a note holds. `number` is the one it should be, for the error.
    ///
    /// # Errors
    /// When the signature does not fit or the text is no anchor of the key's name.
    pub fn open(note: &str, key: &Verifier, number: u64) -> Result<Self, AnchorError> {
        let text = key
            .open(note)
            .map_err(|source| AnchorError::Note { number, source })?;
        Self::parse(text, key.name()).ok_or(AnchorError::Malformed(number))
    }

    /// The text that is signed under `name`.
    #[must_use]
    pub fn text(&self, name: &str) -> String {
        let base64 = |digest: Digest| STANDARD.encode(digest.0);
        format!(
            "{name}/audit\n{}\n{}\ntime {}\ntenants {}\nprevious {}\n",
            self.number,
            base64(self.root),
            self.time_ms,
            self.tenants,
            base64(self.previous),
        )
    }

    fn parse(text: &str, name: &str) -> Option<Self> {
        let mut lines = text.strip_suffix('\n')?.split('\n');
        let mut line = || lines.next();
        if line()? != format!("{name}/audit") {
            return None;
        }
        let anchor = Self {
            number: decimal(line()?)?,
            root: digest(line()?)?,
            time_ms: i64::try_from(decimal(line()?.strip_prefix("time ")?)?).ok()?,
            tenants: decimal(line()?.strip_prefix("tenants ")?)?,
            previous: digest(line()?.strip_prefix("previous ")?)?,
        };
        lines.next().is_none().then_some(anchor)
    }

    /// What the next anchor calls this note.
    #[must_use]
    pub fn name(note: &str) -> Digest {
        Digest::of(&[note.as_bytes()])
    }
}

/// A number has one form.
fn decimal(text: &str) -> Option<u64> {
    let number: u64 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

fn digest(text: &str) -> Option<Digest> {
    STANDARD.decode(text).ok()?.try_into().ok().map(Digest)
}

/// Follows a chain of notes from the first one given: each signed, each the next of the one before. The last, with its note.
///
/// # Errors
/// The first that does not fit.
pub fn follow<'a>(
    notes: impl IntoIterator<Item = &'a str>,
    key: &Verifier,
) -> Result<Option<(Anchor, &'a str)>, AnchorError> {
    let mut last: Option<(Anchor, &str)> = None;
    for note in notes {
        let expected = last.as_ref().map_or(1, |(before, _)| before.number + 1);
        let anchor = Anchor::open(note, key, expected)?;
        if anchor.number != expected {
            return Err(AnchorError::Number {
                expected,
                found: anchor.number,
            });
        }
        let previous = last.as_ref().map(|(_, note)| Anchor::name(note));
        if anchor.previous != previous.unwrap_or_default() {
            return Err(AnchorError::Fork(anchor.number));
        }
        if last
            .as_ref()
            .is_some_and(|(before, _)| before.time_ms > anchor.time_ms)
        {
            return Err(AnchorError::Time(anchor.number));
        }
        last = Some((anchor, note));
    }
    Ok(last)
}
