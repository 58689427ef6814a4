//! The form of a key and the decision about one: parse, look up by public id, compare hashes in constant time, check the end.

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

const PREFIX: &str = "amb_";
const ID_DIGITS: usize = 16;
const SECRET_DIGITS: usize = 64;

/// The record of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    pub secret_hash: [u8; 32],
    pub principal: String,
    pub scopes: Vec<String>,
    /// Seconds since the Unix epoch; from then on the key is not valid.
    pub expires_at: Option<u64>,
    /// See `ambit:types/principal.permissions`.
    pub permissions: Option<String>,
}

/// The tenant's keys.
pub trait Keys {
    fn lookup(&self, public_id: &str) -> Option<Key>;
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    pub id: String,
    pub scopes: Vec<String>,
    pub expires_at: Option<u64>,
    pub permissions: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuthError {
    NotMine,
    Malformed(&'static str),
    /// The public id nobody has.
    Unknown(String),
    WrongSecret,
    Expired,
}

/// Decides about `credential` at `now`, seconds since the Unix epoch.
pub fn authenticate(credential: &str, now: u64, keys: &impl Keys) -> Result<Principal, AuthError> {
    let rest = credential.strip_prefix(PREFIX).ok_or(AuthError::NotMine)?;
    let (public_id, secret) = parse(rest)?;
    let presented: [u8; 32] = Sha256::digest(secret).into();

    // An unknown id is compared too, with a hash nothing is known to have, so that time does not tell ids from non-ids.
    let key = keys.lookup(public_id);
    let stored = key.as_ref().map_or([0; 32], |key| key.secret_hash);
    let equal: bool = presented.ct_eq(&stored).into();

    let key = key.ok_or_else(|| AuthError::Unknown(public_id.to_owned()))?;
    if !equal {
        return Err(AuthError::WrongSecret);
    }
    // After the secret: only who knows it learns that the key has expired.
    if key.expires_at.is_some_and(|end| now >= end) {
        return Err(AuthError::Expired);
    }
    Ok(Principal {
        id: key.principal,
        scopes: key.scopes,
        expires_at: key.expires_at,
        permissions: key.permissions,
    })
}

/// Public id and secret of `<16 digits>_<64 digits>`, lower case only: one key, one spelling.
fn parse(rest: &str) -> Result<(&str, [u8; 32]), AuthError> {
    let (public_id, secret) = rest
        .split_once('_')
        .ok_or(AuthError::Malformed("expected two parts after `amb_`"))?;
    let lower_hex = |part: &str| {
        part.bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    if public_id.len() != ID_DIGITS || !lower_hex(public_id) {
        return Err(AuthError::Malformed(
            "the public id is not 16 lower-case hexadecimal digits",
        ));
    }
    let malformed = AuthError::Malformed("the secret is not 64 lower-case hexadecimal digits");
    if secret.len() != SECRET_DIGITS || !lower_hex(secret) {
        return Err(malformed);
    }
    let mut bytes = [0; SECRET_DIGITS / 2];
    hex::decode_to_slice(secret, &mut bytes).map_err(|_| malformed)?;
    Ok((public_id, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ID: &str = "3f9a6c0d1b2e4f58";
    const SECRET: [u8; 32] = [7; 32];

    struct One(Key);

    impl Keys for One {
        fn lookup(&self, public_id: &str) -> Option<Key> {
            (public_id == ID).then(|| self.0.clone())
        }
    }

    fn one(expires_at: Option<u64>) -> One {
        One(Key {
            secret_hash: Sha256::digest(SECRET).into(),
            principal: format!("key:{ID}"),
            scopes: vec!["chat".to_owned()],
            expires_at,
            permissions: Some("{}".to_owned()),
        })
    }

    fn good() -> String {
        format!("amb_{ID}_{}", hex::encode(SECRET))
    }

    #[test]
    fn the_right_secret_proves_the_principal_of_the_record() {
        let principal = authenticate(&good(), 99, &one(Some(100))).unwrap();
        assert_eq!(principal.id, format!("key:{ID}"));
        assert_eq!(principal.scopes, ["chat"]);
        assert_eq!(principal.expires_at, Some(100));
        assert_eq!(principal.permissions.as_deref(), Some("{}"));
    }

    #[test]
    fn expires_at_its_second_and_only_who_knows_the_secret_learns_it() {
        assert_eq!(
            authenticate(&good(), 100, &one(Some(100))),
            Err(AuthError::Expired)
        );
        let wrong = format!("amb_{ID}_{}", hex::encode([8; 32]));
        assert_eq!(
            authenticate(&wrong, 100, &one(Some(100))),
            Err(AuthError::WrongSecret)
        );
    }

    #[test]
    fn every_other_spelling_is_refused() {
        let secret = hex::encode(SECRET);
        for (credential, expected) in [
            (String::new(), AuthError::NotMine),
            ("sk-abc".to_owned(), AuthError::NotMine),
            (good().to_uppercase(), AuthError::NotMine),
            (
                "amb_".to_owned(),
                AuthError::Malformed("expected two parts after `amb_`"),
            ),
            (
                format!("amb_{}_{secret}", ID.to_uppercase()),
                AuthError::Malformed("the public id is not 16 lower-case hexadecimal digits"),
            ),
            (
                format!("amb_{ID}0_{secret}"),
                AuthError::Malformed("the public id is not 16 lower-case hexadecimal digits"),
            ),
            (
                format!("amb_{ID}_{secret}0"),
                AuthError::Malformed("the secret is not 64 lower-case hexadecimal digits"),
            ),
            (
                format!("amb_{ID}_{secret}\n"),
                AuthError::Malformed("the secret is not 64 lower-case hexadecimal digits"),
            ),
            (
                format!("amb_{ID}_{}", "é".repeat(32)),
                AuthError::Malformed("the secret is not 64 lower-case hexadecimal digits"),
            ),
            (
                format!("amb_{}_{secret}", "0".repeat(16)),
                AuthError::Unknown("0".repeat(16)),
            ),
        ] {
            assert_eq!(
                authenticate(&credential, 0, &one(None)),
                Err(expected),
                "{credential}"
            );
        }
    }

    #[test]
    fn an_unknown_id_is_unknown_even_with_the_secret_that_hashes_to_the_stand_in() {
        struct Nobody;
        impl Keys for Nobody {
            fn lookup(&self, _public_id: &str) -> Option<Key> {
                None
            }
        }
        assert_eq!(
            authenticate(&good(), 0, &Nobody),
            Err(AuthError::Unknown(ID.to_owned()))
        );
    }

    proptest! {
        #[test]
        fn no_one_bit_change_of_a_good_key_is_accepted(at in 0_usize..good().len(), bit in 0_u8..7) {
            let mut bytes = good().into_bytes();
            bytes[at] ^= 1 << bit;
            if let Ok(changed) = String::from_utf8(bytes) {
                prop_assert!(authenticate(&changed, 0, &one(None)).is_err());
            }
        }

        #[test]
        fn no_text_panics(credential in ".{0,200}") {
            let _ = authenticate(&credential, 0, &one(None));
            let _ = authenticate(&format!("amb_{credential}"), 0, &one(None));
        }
    }
}
