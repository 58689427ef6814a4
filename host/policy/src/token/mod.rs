//! Capability tokens: what a caller may do, signed, and narrowed at each delegation.
//!
//! The rule of the crate holds for them too: a token only narrows, and a child's is never more than its parent's. Nothing is
//! intersected symbolically for it. A [`Token`] carries the grants of all its ancestors as a stack of layers, and
//! [`Ambit::narrowed_by_token`](crate::Ambit::narrowed_by_token) asks each of them; a delegation pushes one more. Budget and
//! lifetime are the least of what was asked for and what the parent has; tenant and principal cannot be asked for at all.
//!
//! The installation alone signs, so a holder who wants to hand on less asks for a delegation. The life of a token:
//! [`Claims`] → [`Token::issue`] → [`Token::delegate`] → [`Signer::sign`] → [`VerifiedTokens::verify`] at the door, once for a text
//! → [`Token::check`] before each operation → [`Revocations`] or its expiry.
//!
//! There is no type for a token nobody has verified: a [`Token`] was issued here, delegated from one that was, or read by a
//! [`Verifier`]. Times are seconds since the Unix epoch (RFC 7519's `NumericDate`, whole) and come in as arguments.
//!
//! ```
//! use ambit_policy::{Permissions, token::{Claims, Delegation, Place, Revocations, Signer, Token, Verifier}};
//! use ambit_types::{TenantId, TokenId};
//! use std::sync::Arc;
//!
//! let (now, tenant) = (1_795_000_000, TenantId::new());
//! let mut claims = Claims::new("https://ambit.example", tenant, "key:3f9a", TokenId::new(), now, now + 3600);
//! claims.layers.push(Arc::new(Permissions::parse("models = [\"openai/*\"]").unwrap()));
//! claims.budget_micros = Some(5_000_000);
//! let parent = Token::issue(claims).unwrap();
//!
//! let request = Delegation { budget_micros: Some(9_000_000), ..Delegation::new(TokenId::new()) };
//! let child = parent.delegate(request, now).unwrap();
//! assert_eq!(child.budget_micros, Some(5_000_000), "no more than the parent has");
//!
//! let signer = Signer::from_seed(&[7; 32]).unwrap();
//! let verifier = Verifier::new("https://ambit.example", [signer.public_key().clone()]);
//! let text = signer.sign(&child).unwrap();
//! let revoked = Revocations::default();
//! let read = verifier.verify(&text, now, &revoked).unwrap();
//! assert_eq!(read, child);
//!
//! let here = Place { tenant, session: None, agent: None };
//! assert!(read.check(now, here, &revoked).is_ok());
//! assert!(read.check(now, here, &revoked.and(&parent)).is_err(), "what ends the parent ends the child");
//! ```

mod bearer;
mod claims;
mod delegation;
mod error;
mod keys;
mod mode;
mod revocations;
mod verified;

#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod hostile_tests;

pub(crate) use bearer::Bearer;
pub use bearer::{Credential, Held, Overlooked, Revoked};
pub use claims::{AUDIENCE, Claims, MAX_ANCESTORS, MAX_LAYERS};
pub use delegation::{Delegation, DelegationError};
pub use error::TokenError;
pub use keys::{KeyError, MAX_TEXT, PublicKey, SignError, Signer, TYPE, Verifier, is_token};
pub use mode::{Decision, Mode};
pub use revocations::Revocations;
pub use verified::VerifiedTokens;

use ambit_types::{SessionId, TenantId, TokenId};
use std::ops::Deref;

/// How far the clocks of two nodes may be apart, in seconds: a token is good so long before its beginning. Its end is never later
/// than it says.
const SKEW: u64 = 5;

/// A capability token that this installation vouches for. Reads as its [`Claims`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token(Claims);

/// Where an operation takes place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place<'a> {
    pub tenant: TenantId,
    /// None: outside of sessions. A token bound to one is refused there.
    pub session: Option<SessionId>,
    /// The agent's whole name, never the label metrics have for it. None: no agent, as for plain model access.
    pub agent: Option<&'a str>,
}

impl Token {
    /// A token that has no parent.
    ///
    /// # Errors
    /// [`TokenError::Claim`] names what no token can have.
    pub fn issue(claims: Claims) -> Result<Self, TokenError> {
        if !claims.ancestors.is_empty() {
            return Err(TokenError::Claim("ancestors"));
        }
        Self::new(claims)
    }

    /// One that was verified before and kept by whoever did: its time and its revocation are asked for wherever it is used.
    ///
    /// # Errors
    /// [`TokenError::Claim`] names what no token can have.
    pub fn kept(claims: Claims) -> Result<Self, TokenError> {
        Self::new(claims)
    }

    /// Each token is made here, so none has claims that another node would refuse.
    fn new(claims: Claims) -> Result<Self, TokenError> {
        claims.check()?;
        Ok(Self(claims))
    }

    /// Whether the token is good now, here: to be asked before each operation. Costs no allocation and no cryptography.
    ///
    /// # Errors
    /// The first of: another tenant's, another session's, another agent's, not yet valid, expired, revoked.
    pub fn check(
        &self,
        now: u64,
        here: Place<'_>,
        revoked: &Revocations,
    ) -> Result<(), TokenError> {
        self.check_place(here)?;
        self.check_standing(now, revoked)
    }

    fn check_place(&self, here: Place<'_>) -> Result<(), TokenError> {
        if self.tenant != here.tenant {
            return Err(TokenError::Tenant);
        }
        if self.session.is_some() && self.session != here.session {
            return Err(TokenError::Session);
        }
        if self.agent.is_some() && self.agent.as_deref() != here.agent {
            return Err(TokenError::Agent);
        }
        Ok(())
    }

    /// Whether the token is good now, wherever it is used.
    ///
    /// # Errors
    /// It is not yet or no more good, or was revoked.
    pub fn check_standing(&self, now: u64, revoked: &Revocations) -> Result<(), TokenError> {
        self.check_time(now)?;
        if self.lineage().any(|id| revoked.contains(id)) {
            return Err(TokenError::Revoked);
        }
        Ok(())
    }

    fn check_time(&self, now: u64) -> Result<(), TokenError> {
        if now.saturating_add(SKEW) < self.nbf {
            return Err(TokenError::NotYet);
        }
        if now >= self.exp {
            return Err(TokenError::Expired);
        }
        Ok(())
    }

    /// Its own id, its parent's, its grandparent's and so on. What is spent with it counts against the budget of each.
    pub fn lineage(&self) -> impl Iterator<Item = TokenId> {
        std::iter::once(self.jti).chain(self.ancestors.iter().copied())
    }
}

impl Deref for Token {
    type Target = Claims;

    fn deref(&self) -> &Claims {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::fixtures::{NOW, claims};

    fn token() -> Token {
        Token::issue(Claims {
            session: Some(SessionId::new()),
            agent: Some("assistant".parse().unwrap()),
            ..claims()
        })
        .unwrap()
    }

    #[test]
    fn a_token_is_good_where_and_while_it_says() {
        let token = token();
        let home = Place {
            tenant: token.tenant,
            session: token.session,
            agent: Some("assistant"),
        };
        let none = Revocations::default();
        let other = Some(SessionId::new());
        for (now, here, expected) in [
            (NOW, home, Ok(())),
            (token.exp - 1, home, Ok(())),
            (token.exp, home, Err(TokenError::Expired)),
            (u64::MAX, home, Err(TokenError::Expired)),
            (NOW - SKEW, home, Ok(())),
            (NOW - SKEW - 1, home, Err(TokenError::NotYet)),
            (
                NOW,
                Place {
                    tenant: TenantId::new(),
                    ..home
                },
                Err(TokenError::Tenant),
            ),
            (
                NOW,
                Place {
                    session: other,
                    ..home
                },
                Err(TokenError::Session),
            ),
            (
                NOW,
                Place {
                    session: None,
                    ..home
                },
                Err(TokenError::Session),
            ),
            (
                NOW,
                Place {
                    agent: Some("assistant2"),
                    ..home
                },
                Err(TokenError::Agent),
            ),
            (
                NOW,
                Place {
                    agent: None,
                    ..home
                },
                Err(TokenError::Agent),
            ),
        ] {
            assert_eq!(token.check(now, here, &none), expected, "{now} {here:?}");
        }
        assert_eq!(
            token.check(NOW, home, &none.and(&token)),
            Err(TokenError::Revoked)
        );
    }

    #[test]
    fn one_that_is_bound_to_nothing_is_good_anywhere_in_its_tenant() {
        let token = Token::issue(claims()).unwrap();
        let none = Revocations::default();
        for session in [None, Some(SessionId::new())] {
            for agent in [None, Some("assistant")] {
                let here = Place {
                    tenant: token.tenant,
                    session,
                    agent,
                };
                assert_eq!(token.check(NOW, here, &none), Ok(()));
            }
        }
    }

    #[test]
    fn whoever_is_revoked_takes_the_descendants_along_and_nobody_else() {
        let root = Token::issue(claims()).unwrap();
        let next = |parent: &Token| {
            parent
                .delegate(Delegation::new(TokenId::new()), NOW)
                .unwrap()
        };
        let (parent, sibling) = (next(&root), next(&root));
        let child = next(&next(&parent));
        let here = Place {
            tenant: root.tenant,
            session: None,
            agent: None,
        };
        let revoked = Revocations::default().and(&parent);
        for (token, good) in [
            (&root, true),
            (&sibling, true),
            (&parent, false),
            (&child, false),
        ] {
            assert_eq!(token.check(NOW, here, &revoked).is_ok(), good);
        }
    }
}
