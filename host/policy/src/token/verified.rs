//! Tokens that were verified before.

use moka::sync::Cache;
use sha2::{Digest as _, Sha256};
use std::sync::Arc;

use super::{MAX_TEXT, Revocations, Token, TokenError, Verifier};

/// Length of all texts remembered, in bytes; what is made of them takes some times as much. At 1 KiB a token 8,192 of them.
const CAPACITY: u64 = 8 * 1024 * 1024;

/// A [`Verifier`] that verifies a text once. Another key is another value of this type, to be swapped in whole: what a key that is gone
/// signed is not remembered.
#[derive(Debug)]
pub struct VerifiedTokens {
    verifier: Verifier,
    /// By SHA-256 of the text, which is a credential and is kept nowhere. With its length.
    tokens: Cache<[u8; 32], (Arc<Token>, u32)>,
}

impl VerifiedTokens {
    #[must_use]
    pub fn new(verifier: Verifier) -> Self {
        let tokens = Cache::builder()
            .max_capacity(CAPACITY)
            .weigher(|_, (_, length)| *length)
            .build();
        Self { verifier, tokens }
    }

    /// As [`Verifier::verify`]. A text that is no longer good is forgotten.
    ///
    /// # Errors
    /// As [`Verifier::verify`].
    pub fn verify(
        &self,
        text: impl AsRef<[u8]>,
        now: u64,
        revoked: &Revocations,
    ) -> Result<Arc<Token>, TokenError> {
        let text = text.as_ref();
        // Before anything is done with it.
        let length = match u32::try_from(text.len()) {
            Ok(length) if text.len() <= MAX_TEXT => length,
            _ => return Err(TokenError::TooLong),
        };
        let digest = Sha256::digest(text).into();
        let Some((token, _)) = self.tokens.get(&digest) else {
            let token = Arc::new(self.verifier.verify(text, now, revoked)?);
            self.tokens.insert(digest, (token.clone(), length));
            return Ok(token);
        };
        if let Err(error) = token.check_standing(now, revoked) {
            self.tokens.invalidate(&digest);
            return Err(error);
        }
        Ok(token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::{
        Claims,
        fixtures::{ISSUER, NOW, claims, signer},
    };

    fn verified() -> VerifiedTokens {
        VerifiedTokens::new(Verifier::new(ISSUER, [signer().public_key().clone()]))
    }

    fn remembered(tokens: &VerifiedTokens) -> u64 {
        tokens.tokens.run_pending_tasks();
        tokens.tokens.entry_count()
    }

    #[test]
    fn a_text_is_verified_once() {
        let (tokens, none) = (verified(), Revocations::default());
        let text = signer().sign(&Token::issue(claims()).unwrap()).unwrap();
        let first = tokens.verify(&text, NOW, &none).unwrap();
        assert!(Arc::ptr_eq(
            &first,
            &tokens.verify(&text, NOW, &none).unwrap()
        ));
        let bad = tokens.verify(&text[1..], NOW, &none);
        assert_eq!(bad, Err(TokenError::Malformed));
        let long = tokens.verify(vec![b'a'; MAX_TEXT + 1], NOW, &none);
        assert_eq!(long, Err(TokenError::TooLong));
        assert_eq!(remembered(&tokens), 1);
    }

    #[test]
    fn what_is_no_longer_good_is_forgotten() {
        let none = Revocations::default();
        let token = Token::issue(claims()).unwrap();
        let text = signer().sign(&token).unwrap();
        for (now, revoked, error) in [
            (token.exp, none.clone(), TokenError::Expired),
            (NOW, none.and(&token), TokenError::Revoked),
        ] {
            let tokens = verified();
            assert!(tokens.verify(&text, NOW, &none).is_ok());
            for _ in 0..2 {
                assert_eq!(tokens.verify(&text, now, &revoked), Err(error));
                assert_eq!(remembered(&tokens), 0);
            }
        }
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let (tokens, none) = (verified(), Revocations::default());
        let signer = signer();
        let long = "x".repeat(900);
        let n_texts = 1 + CAPACITY / 1024;
        for n in 0..n_texts {
            let sub = format!("{n}{long}");
            let token = Token::issue(Claims { sub, ..claims() }).unwrap();
            assert!(
                tokens
                    .verify(signer.sign(&token).unwrap(), NOW, &none)
                    .is_ok()
            );
        }
        let n_remembered = remembered(&tokens);
        assert!(n_remembered > 0 && n_remembered < n_texts, "{n_remembered}");
        assert!(tokens.tokens.weighted_size() <= CAPACITY);
    }
}
