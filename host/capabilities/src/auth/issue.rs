//! Making API keys, in the one form that `auth-api-key` reads.

use super::ApiKey;
use ambit_types::Secret;
use sha2::{Digest as _, Sha256};

/// A new key: the credential, to be shown once, and the record to be stored. The principal is `key:<public id>`.
///
/// # Errors
///
/// When the system has no random bytes.
pub fn new_api_key(
    scopes: Vec<String>,
    expires_at: Option<u64>,
) -> Result<(Secret, ApiKey), getrandom::Error> {
    let (mut id, mut secret) = ([0; 8], [0; 32]);
    getrandom::fill(&mut id)?;
    getrandom::fill(&mut secret)?;
    let public_id = hex::encode(id);
    let credential = Secret::new(format!("amb_{public_id}_{}", hex::encode(secret)));
    let principal = format!("key:{public_id}");
    let secret_hash = Sha256::digest(secret).into();
    Ok((
        credential,
        ApiKey {
            public_id,
            secret_hash,
            principal,
            scopes,
            expires_at,
            permissions: None,
        },
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_component_accepts_what_is_issued() {
        struct One(ApiKey);
        impl auth_api_key::Keys for One {
            fn lookup(&self, public_id: &str) -> Option<auth_api_key::Key> {
                let key = (public_id == self.0.public_id).then(|| self.0.clone())?;
                let ApiKey {
                    secret_hash,
                    principal,
                    scopes,
                    expires_at,
                    permissions,
                    ..
                } = key;
                Some(auth_api_key::Key {
                    secret_hash,
                    principal,
                    scopes,
                    expires_at,
                    permissions,
                })
            }
        }
        let (credential, record) = new_api_key(vec!["chat".to_owned()], Some(100)).unwrap();
        let (other, _) = new_api_key(Vec::new(), None).unwrap();
        assert_ne!(credential, other);
        let principal =
            auth_api_key::authenticate(credential.expose(), 99, &One(record.clone())).unwrap();
        assert_eq!(principal.id, format!("key:{}", record.public_id));
        assert!(auth_api_key::authenticate(other.expose(), 99, &One(record)).is_err());
    }
}
