//! Signed notes of C2SP (<https://c2sp.org/signed-note>), with Ed25519 keys: text, an empty line, and signature lines
//! `— name base64(4 bytes of key id ‖ signature)`. Others' tools read and check them.

use crate::{Digest, Fault};
use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use std::{fmt, str::FromStr};

/// The signature type of Ed25519.
const TYPE: u8 = 1;

/// A public key, as `NAME+id in hexadecimal+base64` in text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verifier {
    pub name: String,
    /// What a signature line names the key by.
    pub id: [u8; 4],
    pub public: Vec<u8>,
}

impl Verifier {
    /// From the 32 bytes of a public key.
    ///
    /// # Errors
    /// For a name that a note cannot have, or another number of bytes.
    pub fn new(name: &str, public: &[u8]) -> Result<Self, Fault> {
        let good = !name.is_empty() && !name.contains(|c: char| c == '+' || c.is_whitespace());
        if !good || public.len() != 32 {
            return Err(no_key());
        }
        let [a, b, c, d, ..] = Digest::of(&[name.as_bytes(), b"\n", &[TYPE], public]).0;
        let (name, public) = (name.to_owned(), public.to_vec());
        Ok(Self { name, id: [a, b, c, d], public })
    }

    /// The text of a note that this key signed. Signatures of others on it are ignored.
    ///
    /// # Errors
    /// When it is no note, has no signature of this key, or one that does not fit.
    pub fn open<'a>(&self, note: &'a str) -> Result<&'a str, Fault> {
        let no_note = || Fault("it is no signed note".to_owned());
        let (text, signatures) = note.rsplit_once("\n\n").ok_or_else(no_note)?;
        let (text, signatures) = (&note[..=text.len()], signatures.strip_suffix('\n'));
        if note.contains(|c| c < ' ' && c != '\n') {
            return Err(no_note());
        }
        for line in signatures.ok_or_else(no_note)?.split('\n') {
            let line = line.strip_prefix("— ").and_then(|line| line.split_once(' '));
            let (name, signature) = line.ok_or_else(no_note)?;
            let signature = STANDARD.decode(signature).map_err(|_| no_note())?;
            if name != self.name || signature.get(..4) != Some(&self.id[..]) {
                continue;
            }
            let key = UnparsedPublicKey::new(&ED25519, &self.public);
            let verified = key.verify(text.as_bytes(), &signature[4..]);
            return verified
                .map(|()| text)
                .map_err(|_| Fault(format!("the signature of `{name}` does not fit: text, signature or key is another")));
        }
        Err(Fault(format!("no signature of `{}` is on it", self.name)))
    }
}

fn no_key() -> Fault {
    Fault("it is no key of notes: expected NAME+8 hexadecimal digits+base64".to_owned())
}

impl fmt::Display for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = STANDARD.encode([&[TYPE][..], &self.public].concat());
        write!(f, "{}+{}+{key}", self.name, hex::encode(self.id))
    }
}

impl FromStr for Verifier {
    type Err = Fault;

    fn from_str(text: &str) -> Result<Self, Fault> {
        let (name, rest) = text.split_once('+').ok_or_else(no_key)?;
        let (_, key) = rest.split_once('+').ok_or_else(no_key)?;
        let key = STANDARD.decode(key).map_err(|_| no_key())?;
        let key = Self::new(name, key.get(1..).unwrap_or_default())?;
        // Type and id are what they have to be.
        (key.to_string() == text).then_some(key).ok_or_else(no_key)
    }
}
