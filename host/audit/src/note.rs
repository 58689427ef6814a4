//! Signed notes of C2SP (<https://c2sp.org/signed-note>), with Ed25519 keys: text, an empty line, and signature lines
//! `— name base64(4 bytes of key id ‖ signature)`. Others' tools read and check them.

use crate::Digest;
use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use std::{fmt, str::FromStr};

/// The signature type of Ed25519.
const TYPE: u8 = 1;

/// Why a note, or a key of one, is refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum NoteError {
    #[error("it is no signed note: {0}")]
    Malformed(&'static str),
    #[error("no signature of `{0}` is on it")]
    Unsigned(String),
    #[error(
        "the signature of `{0}` does not fit: text, signature or key is not the one that was signed with"
    )]
    Forged(String),
    #[error("it is no key of notes: expected NAME+8 hexadecimal digits+base64")]
    Key,
}

/// A public key, as `NAME+id in hexadecimal+base64` in text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verifier {
    name: String,
    id: [u8; 4],
    public: Vec<u8>,
}

impl Verifier {
    /// From the 32 bytes of a public key.
    ///
    /// # Errors
    /// [`NoteError::Key`] for a name that a note cannot have, or another number of bytes.
    pub fn new(name: &str, public: &[u8]) -> Result<Self, NoteError> {
        let good = !name.is_empty() && !name.contains('+') && !name.contains(char::is_whitespace);
        if !good || public.len() != 32 {
            return Err(NoteError::Key);
        }
        let id = Digest::of(&[name.as_bytes(), b"\n", &[TYPE], public]).0;
        Ok(Self {
            name: name.to_owned(),
            id: [id[0], id[1], id[2], id[3]],
            public: public.to_vec(),
        })
    }

    /// What a signature line names the key by.
    #[must_use]
    pub fn id(&self) -> [u8; 4] {
        self.id
    }

    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The text of a note that this key signed. Signatures of others on it are ignored.
    ///
    /// # Errors
    /// When it is no note, has no signature of this key, or one that does not fit.
    pub fn open<'a>(&self, note: &'a str) -> Result<&'a str, NoteError> {
        let malformed = NoteError::Malformed;
        if note.chars().any(|c| c < ' ' && c != '\n') {
            return Err(malformed("it holds control characters"));
        }
        let (text, signatures) = note
            .rsplit_once("\n\n")
            .ok_or(malformed("there is no empty line before signatures"))?;
        let text = &note[..=text.len()];
        let signatures = signatures
            .strip_suffix('\n')
            .ok_or(malformed("the last line does not end"))?;
        for line in signatures.split('\n') {
            let signature = line
                .strip_prefix("— ")
                .and_then(|line| line.split_once(' '));
            let (name, signature) = signature.ok_or(malformed("a line is no signature"))?;
            let signature = STANDARD
                .decode(signature)
                .map_err(|_| malformed("a signature is not base64"))?;
            if name != self.name || signature.get(..4) != Some(&self.id[..]) {
                continue;
            }
            let key = UnparsedPublicKey::new(&ED25519, &self.public);
            return match key.verify(text.as_bytes(), &signature[4..]) {
                Ok(()) => Ok(text),
                Err(_) => Err(NoteError::Forged(self.name.clone())),
            };
        }
        Err(NoteError::Unsigned(self.name.clone()))
    }
}

impl fmt::Display for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = STANDARD.encode([&[TYPE][..], &self.public].concat());
        write!(f, "{}+{}+{key}", self.name, hex::encode(self.id))
    }
}

impl FromStr for Verifier {
    type Err = NoteError;

    fn from_str(text: &str) -> Result<Self, NoteError> {
        let mut parts = text.splitn(3, '+');
        let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(NoteError::Key);
        };
        let key = STANDARD.decode(key).map_err(|_| NoteError::Key)?;
        let Some((&TYPE, public)) = key.split_first() else {
            return Err(NoteError::Key);
        };
        let key = Self::new(name, public)?;
        (hex::encode(key.id) == id)
            .then_some(key)
            .ok_or(NoteError::Key)
    }
}
