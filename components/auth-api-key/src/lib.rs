//! Proves a caller by an API key.
//!
//! The decision is [`authenticate`], plain Rust that a native test can drive; this file only ties it to the contract.

mod credential;

pub use credential::{AuthError, Key, Keys, Principal, authenticate};

#[cfg(target_family = "wasm")]
mod guest {
    use crate::credential::{self, Key, Keys};
    use exports::ambit::auth::authenticator::{AuthError, Guest as Authenticator, Principal, RequestFacts};
    use std::time::{SystemTime, UNIX_EPOCH};

    wit_bindgen::generate!({
        inline: "
            package ambit:auth-api-key;
            world component {
                include ambit:auth/guest@0.1.0;
                export wizer-initialize: func();
            }
        ",
        path: ["../../wit/types", "../../wit/auth"],
        world: "ambit:auth-api-key/component",
        generate_all,
    });

    struct Component;

    impl Guest for Component {
        /// One refused call: what the allocator and the first use of anything cost is in the snapshot.
        fn wizer_initialize() {
            struct Nobody;
            impl Keys for Nobody {
                fn lookup(&self, _public_id: &str) -> Option<Key> {
                    None
                }
            }
            let sample = format!("amb_{}_{}", "0".repeat(16), "0".repeat(64));
            drop(credential::authenticate(&sample, 0, &Nobody));
        }
    }

    struct Snapshot;

    impl Keys for Snapshot {
        fn lookup(&self, public_id: &str) -> Option<Key> {
            let key = ambit::auth::keys::lookup(public_id)?;
            Some(Key {
                // A hash of another length is equal to none.
                secret_hash: key.secret_hash.try_into().ok()?,
                principal: key.principal,
                scopes: key.scopes,
                expires_at: key.expires_at,
            })
        }
    }

    impl Authenticator for Component {
        fn authenticate(credential: String, _facts: RequestFacts) -> Result<Principal, AuthError> {
            let now = SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_err(|_| AuthError::Other("the clock is before 1970".to_owned()))?
                .as_secs();
            match credential::authenticate(&credential, now, &Snapshot) {
                Ok(principal) => Ok(Principal {
                    id: principal.id,
                    scopes: principal.scopes,
                    attributes: Vec::new(),
                    expires_at: principal.expires_at,
                }),
                Err(credential::AuthError::NotMine) => Err(AuthError::NotMine),
                Err(credential::AuthError::Malformed(what)) => Err(AuthError::Malformed(what.to_owned())),
                Err(credential::AuthError::Unknown(id)) => Err(AuthError::Unknown(id)),
                Err(credential::AuthError::WrongSecret) => Err(AuthError::Refused("wrong secret".to_owned())),
                Err(credential::AuthError::Expired) => Err(AuthError::Expired),
            }
        }
    }

    export!(Component);
}
