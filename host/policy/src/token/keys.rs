//! Signing tokens, and reading signed ones.
//!
//! A token is a JWS in compact form (RFC 7515 §7.1) with one algorithm and one kind of header: `alg`, `typ` and `kid`, nothing else.
//! The header chooses nothing but the key, and the signature is checked before the claims are looked at.

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, errors::ErrorKind};
use sha2::{Digest as _, Sha256};
use std::{collections::HashMap, fmt};
use zeroize::Zeroizing;

use super::{Claims, Revocations, Token, TokenError};

/// The header's `typ` (RFC 8725 §3.11): no token made for something else passes for one of these, nor the other way round.
pub const TYPE: &str = "ambit-cap+jwt";
/// Longest token, in bytes: what the authenticator takes as a credential.
pub const MAX_TEXT: usize = 16 * 1024;

/// Whether a credential says that it is a capability token: then it is nothing else, whether it is good or not.
#[must_use]
pub fn is_token(credential: &str) -> bool {
    let header = jsonwebtoken::decode_header(credential);
    header.is_ok_and(|header| header.typ.as_deref() == Some(TYPE))
}

/// Not an Ed25519 key of the form asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error("expected an Ed25519 private key: a seed of 32 bytes (RFC 8032 §5.1.5), or PKCS #8")]
    Private,
    #[error("expected an Ed25519 public key: 32 bytes (RFC 8032 §5.1.5)")]
    Public,
}

/// Why a token cannot be put into a text.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    #[error(
        "the capability token would be longer than 16 KiB: its grants and its ancestors' have too many rules"
    )]
    TooLong,
    #[error("the capability token cannot be signed")]
    Failed(#[source] jsonwebtoken::errors::Error),
}

/// A key that checks signatures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    id: String,
    bytes: [u8; 32],
}

impl PublicKey {
    /// Of the 32 bytes of RFC 8032 §5.1.5: a JWK's `x`, decoded. Whether they are a point of the curve shows when a signature is checked.
    ///
    /// # Errors
    /// [`KeyError::Public`] for another number of bytes.
    pub fn new(bytes: &[u8]) -> Result<Self, KeyError> {
        let bytes: [u8; 32] = bytes.try_into().map_err(|_| KeyError::Public)?;
        let x = URL_SAFE_NO_PAD.encode(bytes);
        let jwk = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#);
        let id = URL_SAFE_NO_PAD.encode(Sha256::digest(jwk));
        Ok(Self { id, bytes })
    }

    /// The `kid` of tokens it checks: the key's SHA-256 thumbprint (RFC 7638, RFC 8037 §2).
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.bytes
    }
}

/// Puts tokens into texts.
pub struct Signer {
    key: EncodingKey,
    header: Header,
    public: PublicKey,
}

impl Signer {
    /// From the 32 bytes of an Ed25519 seed (RFC 8032 §5.1.5).
    ///
    /// # Errors
    /// [`KeyError::Private`].
    pub fn from_seed(seed: &[u8]) -> Result<Self, KeyError> {
        /// What stands before the seed in PKCS #8 (RFC 8410 §7, without the public key).
        const PREFIX: [u8; 16] = [
            0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22,
            0x04, 0x20,
        ];
        let mut der = Zeroizing::new([0; 48]);
        if seed.len() != 32 {
            return Err(KeyError::Private);
        }
        der[..16].copy_from_slice(&PREFIX);
        der[16..].copy_from_slice(seed);
        Self::from_pkcs8(&*der)
    }

    /// From an Ed25519 key in PKCS #8 (RFC 8410 §7), DER.
    ///
    /// # Errors
    /// [`KeyError::Private`].
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, KeyError> {
        let pair = Ed25519KeyPair::from_pkcs8(der).map_err(|_| KeyError::Private)?;
        let public = PublicKey::new(pair.public_key().as_ref())?;
        Ok(Self {
            key: EncodingKey::from_ed_der(der),
            header: header(&public.id),
            public,
        })
    }

    /// What checks this signer's tokens.
    #[must_use]
    pub fn public_key(&self) -> &PublicKey {
        &self.public
    }

    /// The token as a text.
    ///
    /// # Errors
    /// [`SignError::TooLong`] where a [`Verifier`] would refuse the text for its length.
    pub fn sign(&self, token: &Token) -> Result<String, SignError> {
        let claims: &Claims = token;
        let text =
            jsonwebtoken::encode(&self.header, claims, &self.key).map_err(SignError::Failed)?;
        if text.len() > MAX_TEXT {
            return Err(SignError::TooLong);
        }
        Ok(text)
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer")
            .field("id", &self.public.id)
            .finish_non_exhaustive()
    }
}

/// Reads the tokens of one installation. Several keys, so that one takes another's place without a gap: add the new one everywhere,
/// sign with it, and drop the old one when the last token it signed has expired, or at once to end them all.
#[derive(Debug)]
pub struct Verifier {
    issuer: String,
    keys: HashMap<String, DecodingKey>,
    validation: Validation,
}

impl Verifier {
    /// For tokens whose `iss` is `issuer`.
    #[must_use]
    pub fn new(issuer: &str, keys: impl IntoIterator<Item = PublicKey>) -> Self {
        // Of the library's checks the signature's alone: its others read the clock, or take what is not there for right.
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        validation.validate_aud = false;
        let keys = keys
            .into_iter()
            .map(|key| (key.id, DecodingKey::from_ed_der(&key.bytes)))
            .collect();
        Self {
            issuer: issuer.to_owned(),
            keys,
            validation,
        }
    }

    /// The token that `text` is, if it is good at `now` and not revoked. Where it may be used is for [`Token::check`] to say.
    ///
    /// # Errors
    /// The first of: its length, form and header, key, signature, claims, time, revocation.
    pub fn verify(
        &self,
        text: impl AsRef<[u8]>,
        now: u64,
        revoked: &Revocations,
    ) -> Result<Token, TokenError> {
        let text = text.as_ref();
        if text.len() > MAX_TEXT {
            return Err(TokenError::TooLong);
        }
        let found = jsonwebtoken::decode_header(text).map_err(|_| TokenError::Malformed)?;
        let id = found.kid.as_deref().ok_or(TokenError::Malformed)?;
        // Equal as a whole: a header that says anything more was not made here.
        if found != header(id) {
            return Err(TokenError::Malformed);
        }
        let key = self.keys.get(id).ok_or(TokenError::UnknownKey)?;
        let claims = jsonwebtoken::decode::<Claims>(text, key, &self.validation)
            .map_err(|error| match error.kind() {
                ErrorKind::InvalidSignature => TokenError::Signature,
                _ => TokenError::Malformed,
            })?
            .claims;
        if claims.iss != self.issuer {
            return Err(TokenError::Claim("iss"));
        }
        let token = Token::new(claims)?;
        token.check_standing(now, revoked)?;
        Ok(token)
    }
}

fn header(key_id: &str) -> Header {
    Header {
        typ: Some(TYPE.to_owned()),
        kid: Some(key_id.to_owned()),
        ..Header::new(Algorithm::EdDSA)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8037, appendix A.
    const D: &str = "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A";
    const X: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";

    #[test]
    fn signatures_and_key_ids_are_those_of_rfc_8037() {
        let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).unwrap();
        let signer = Signer::from_seed(&decode(D)).unwrap();
        assert_eq!(signer.public.as_bytes()[..], decode(X));
        let thumbprint = "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k";
        assert_eq!(signer.public_key().id(), thumbprint);

        let message = b"eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc";
        let expected = "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
        let signed = jsonwebtoken::crypto::sign(message, &signer.key, Algorithm::EdDSA);
        assert_eq!(signed.unwrap(), expected);
        let verifier = Verifier::new("", [signer.public.clone()]);
        let key = &verifier.keys[thumbprint];
        let good = |message: &[u8]| {
            jsonwebtoken::crypto::verify(expected, message, key, Algorithm::EdDSA).unwrap()
        };
        assert!(good(message) && !good(&message[1..]));
    }

    #[test]
    fn a_key_has_one_form_or_the_other() {
        let pair = Ed25519KeyPair::generate().unwrap();
        for der in [pair.to_pkcs8().unwrap(), pair.to_pkcs8v1().unwrap()] {
            let signer = Signer::from_pkcs8(der.as_ref()).unwrap();
            let public = pair.public_key().as_ref();
            assert_eq!(signer.public_key(), &PublicKey::new(public).unwrap());
            let short = &der.as_ref()[1..];
            assert_eq!(Signer::from_pkcs8(short).err(), Some(KeyError::Private));
        }
        for length in [0, 31, 33, 64] {
            let seed = vec![7; length];
            assert_eq!(Signer::from_seed(&seed).err(), Some(KeyError::Private));
            assert_eq!(PublicKey::new(&seed), Err(KeyError::Public));
        }
    }

    #[test]
    fn a_signing_key_is_not_shown() {
        let seed: Vec<u8> = (1..=32).collect();
        let signer = Signer::from_seed(&seed).unwrap();
        let shown = format!("{signer:?} {signer:#?}");
        assert!(shown.contains(signer.public_key().id()));
        for secret in [
            format!("{seed:?}"),
            "1, 2, 3".to_owned(),
            URL_SAFE_NO_PAD.encode(&seed),
        ] {
            assert!(!shown.contains(&secret), "{shown}");
        }
    }
}
