//! Signing notes of C2SP, as [`ambit_audit`] checks them.

use ambit_audit::{Anchor, NoteError, Verifier};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use std::fmt;

/// What signs notes under a name.
pub struct Signer {
    key: Ed25519KeyPair,
    verifier: Verifier,
}

impl Signer {
    /// From the 32 bytes of an Ed25519 seed (RFC 8032 §5.1.5).
    ///
    /// # Errors
    /// [`NoteError::Key`] for a name that a note cannot have, or another number of bytes.
    pub fn new(name: &str, seed: &[u8]) -> Result<Self, NoteError> {
        let key = Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| NoteError::Key)?;
        let verifier = Verifier::new(name, key.public_key().as_ref())?;
        Ok(Self { key, verifier })
    }

    /// The key that checks what this one signs; its text is what an auditor is given.
    #[must_use]
    pub fn verifier(&self) -> &Verifier {
        &self.verifier
    }

    /// Signs `text`, which ends in a newline.
    #[must_use]
    pub fn sign(&self, text: &str) -> String {
        let signature = self.key.sign(text.as_bytes());
        let signature = STANDARD.encode([&self.verifier.id()[..], signature.as_ref()].concat());
        format!("{text}\n— {} {signature}\n", self.verifier.name())
    }

    /// The anchor as a note, with the signer's name as origin.
    #[must_use]
    pub fn anchor(&self, anchor: &Anchor) -> String {
        self.sign(&anchor.text(self.verifier.name()))
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer")
            .field("name", &self.verifier.name())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_the_text_that_was_signed_or_nothing() {
        let signer = Signer::new("ambit.example", &[7; 32]).unwrap();
        let key: Verifier = signer.verifier().to_string().parse().unwrap();
        assert_eq!(&key, signer.verifier());
        let note = signer.sign("one\n\ntwo\n");
        assert_eq!(key.open(&note), Ok("one\n\ntwo\n"));

        // Any byte that changes is found; so is any that goes.
        for at in 0..note.len() {
            let mut bytes = note.clone().into_bytes();
            bytes[at] ^= 1;
            if let Ok(changed) = String::from_utf8(bytes.clone()) {
                assert!(key.open(&changed).is_err(), "{at}: {changed}");
            }
            bytes.remove(at);
            if let Ok(shorter) = String::from_utf8(bytes) {
                assert!(key.open(&shorter).is_err(), "{at}: {shorter}");
            }
        }
        // Somebody else's signature on it does no harm, and is no substitute.
        let other = Signer::new("other.example", &[8; 32]).unwrap();
        let cosigned = format!(
            "{note}{}",
            other.sign("one\n\ntwo\n").rsplit_once("\n\n").unwrap().1
        );
        assert_eq!(key.open(&cosigned), Ok("one\n\ntwo\n"));
        assert_eq!(
            key.open(&other.sign("one\n")),
            Err(NoteError::Unsigned("ambit.example".into()))
        );
        let impostor = Signer::new("ambit.example", &[8; 32]).unwrap();
        assert!(key.open(&impostor.sign("one\n")).is_err());
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let good = Signer::new("a", &[1; 32]).unwrap().verifier().to_string();
        assert!(good.parse::<Verifier>().is_ok());
        for bad in [
            "",
            "a",
            "a+b",
            "a b+00000000+AQ==",
            &good[..good.len() - 4],
            &good.replace("a+", "b+"),
        ] {
            assert_eq!(bad.parse::<Verifier>(), Err(NoteError::Key), "{bad}");
        }
        assert!(Signer::new("a b", &[1; 32]).is_err() && Signer::new("a", &[1; 31]).is_err());
    }
}

#[cfg(test)]
mod chain_tests {
    use super::*;
    use ambit_audit::{AnchorError, Digest, follow};

    fn signer() -> Signer {
        Signer::new("ambit.example", &[7; 32]).unwrap()
    }

    fn chain(roots: &[u8]) -> Vec<String> {
        let mut notes: Vec<String> = Vec::new();
        for (n, root) in roots.iter().enumerate() {
            let previous = notes.last().map(|note| Anchor::name(note));
            let anchor = Anchor {
                number: n as u64 + 1,
                root: Digest([*root; 32]),
                time_ms: 1_795_274_400_000 + n as i64,
                tenants: 2,
                previous: previous.unwrap_or_default(),
            };
            notes.push(signer().anchor(&anchor));
        }
        notes
    }

    fn followed(notes: &[String]) -> Result<Option<u64>, AnchorError> {
        let last = follow(notes.iter().map(String::as_str), signer().verifier())?;
        Ok(last.map(|(anchor, _)| anchor.number))
    }

    #[test]
    fn a_chain_is_followed_to_its_end() {
        assert_eq!(followed(&[]), Ok(None));
        assert_eq!(followed(&chain(&[1, 2, 3])), Ok(Some(3)));
    }

    #[test]
    fn whatever_is_done_to_a_chain_is_found() {
        let good = chain(&[1, 2, 3, 4]);
        let fork = chain(&[1, 9, 3, 4]);
        let spliced = [&good[..2], &fork[2..]].concat();
        assert_eq!(followed(&spliced), Err(AnchorError::Fork(3)));
        let missing = [&good[..1], &good[2..]].concat();
        let number = |expected, found| Err(AnchorError::Number { expected, found });
        assert_eq!(followed(&missing), number(2, 3));
        let swapped = [good[0].clone(), good[2].clone(), good[1].clone()];
        assert_eq!(followed(&swapped), number(2, 3));
        assert_eq!(followed(&good[1..]), number(1, 2));
        let mut forged = good.clone();
        forged[1] = forged[1].replace("tenants 2", "tenants 3");
        assert!(matches!(
            followed(&forged),
            Err(AnchorError::Note { number: 2, .. })
        ));
    }

    #[test]
    fn a_signed_text_that_is_no_anchor_is_none() {
        let good = chain(&[1])[0].clone();
        let text = signer().verifier().open(&good).unwrap().to_owned();
        for bad in [
            String::from("\n"),
            text.replace("/audit", "/other"),
            text.replace("\n1\n", "\n01\n"),
            text.replace("\n1\n", "\n+1\n"),
            text.replace("time 1", "time -1"),
            text.replace("previous A", "previous "),
            format!("{text}more\n"),
        ] {
            let note = signer().sign(&bad);
            let opened = Anchor::open(&note, signer().verifier(), 1);
            assert_eq!(opened, Err(AnchorError::Malformed(1)), "{bad}");
        }
    }
}
