//! Signing notes of C2SP, as [`ambit_audit`] checks them.

use ambit_audit::{Anchor, Verifier};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use std::fmt;

/// What signs notes under a name.
pub struct Signer {
    key: Ed25519KeyPair,
    verifier: Verifier,
}

impl Signer {
    /// From an Ed25519 seed (RFC 8032 §5.1.5). None: a note cannot have this name, which must hold no space and no `+`.
    #[must_use]
    pub fn new(name: &str, seed: &[u8; 32]) -> Option<Self> {
        let key = Ed25519KeyPair::from_seed_unchecked(seed).ok()?;
        let verifier = Verifier::new(name, key.public_key().as_ref()).ok()?;
        Some(Self { key, verifier })
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
        let signature = STANDARD.encode([&self.verifier.id[..], signature.as_ref()].concat());
        format!("{text}\n— {} {signature}\n", self.verifier.name)
    }

    /// The anchor as a note, with the signer's name as origin.
    #[must_use]
    pub fn anchor(&self, anchor: &Anchor) -> String {
        self.sign(&anchor.text(&self.verifier.name))
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer")
            .field("name", &self.verifier.name)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ambit_audit::{Digest, follow};

    fn signer(name: &str, seed: u8) -> Signer {
        Signer::new(name, &[seed; 32]).unwrap()
    }

    #[test]
    fn a_note_is_the_text_that_was_signed_or_nothing() {
        let ours = signer("ambit.example", 7);
        let key: Verifier = ours.verifier().to_string().parse().unwrap();
        assert_eq!(&key, ours.verifier());
        let note = ours.sign("one\n\ntwo\n");
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
        let other = signer("other.example", 8).sign("one\n\ntwo\n");
        let cosigned = format!("{note}{}", other.rsplit_once("\n\n").unwrap().1);
        assert_eq!(key.open(&cosigned), Ok("one\n\ntwo\n"));
        assert!(key.open(&other).is_err());
        assert!(key.open(&signer("ambit.example", 8).sign("one\n")).is_err());
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let good = signer("a", 1).verifier().to_string();
        assert!(good.parse::<Verifier>().is_ok());
        let (short, renamed) = (&good[..good.len() - 4], good.replace("a+", "b+"));
        for bad in ["", "a", "a+b", "a b+00000000+AQ==", short, &renamed] {
            assert!(bad.parse::<Verifier>().is_err(), "{bad}");
        }
        assert!(Signer::new("a b", &[1; 32]).is_none());
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
            notes.push(signer("ambit.example", 7).anchor(&anchor));
        }
        notes
    }

    fn followed(notes: &[String]) -> Result<Option<u64>, String> {
        let key = signer("ambit.example", 7);
        let last = follow(notes.iter().map(String::as_str), key.verifier());
        let last = last.map_err(|fault| fault.to_string())?;
        Ok(last.map(|anchor| anchor.number))
    }

    #[test]
    fn a_chain_is_followed_to_its_end_and_whatever_is_done_to_it_is_found() {
        let good = chain(&[1, 2, 3, 4]);
        assert_eq!(followed(&[]), Ok(None));
        assert_eq!(followed(&good), Ok(Some(4)));
        let fork = chain(&[1, 9, 3, 4]);
        let found = |notes: &[String], words: &str| {
            let fault = followed(notes).unwrap_err();
            assert!(fault.contains(words), "{fault}");
        };
        found(
            &[&good[..2], &fork[2..]].concat(),
            "anchor 3 does not follow",
        );
        found(&[&good[..1], &good[2..]].concat(), "anchor 2 is missing");
        let swapped = [good[0].clone(), good[2].clone(), good[1].clone()];
        found(&swapped, "anchor 2 is missing");
        found(&good[1..], "anchor 1 is missing");
        let mut forged = good.clone();
        forged[1] = forged[1].replace("tenants 2", "tenants 3");
        found(&forged, "anchor 2: the signature");
    }

    #[test]
    fn a_signed_text_that_is_no_anchor_is_none() {
        let (key, good) = (signer("ambit.example", 7), chain(&[1])[0].clone());
        let text = key.verifier().open(&good).unwrap().to_owned();
        for bad in [
            String::from("\n"),
            text.replace("/audit", "/other"),
            text.replace("\n1\n", "\n01\n"),
            text.replace("\n1\n", "\n+1\n"),
            text.replace("time 1", "time 01"),
            text.replace("previous A", "previous "),
            format!("{text}more\n"),
        ] {
            let opened = Anchor::open(&key.sign(&bad), key.verifier());
            assert!(opened.is_err(), "{bad}");
        }
    }
}
