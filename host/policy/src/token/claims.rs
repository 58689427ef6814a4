//! What a token says.

use ambit_types::{AgentName, Scope, SessionId, TenantId, TokenId};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

use super::TokenError;
use crate::Permissions;

/// The one audience (RFC 7519 §4.1.3): our API. So no other JWT of the same issuer passes for a capability token.
pub const AUDIENCE: &str = "ambit-api";
/// Most delegations between a token and the one without a parent.
pub const MAX_ANCESTORS: usize = 8;
/// Most grants a token carries: each is asked in every decision.
pub const MAX_LAYERS: usize = 16;
/// Longest issuer and principal, in bytes.
const MAX_NAME: usize = 1024;

/// The claims of a capability token: registered ones by their names in RFC 7519, and ours. Others are refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claims {
    /// The installation that signs it and for which it is good.
    pub iss: String,
    /// [`AUDIENCE`].
    pub aud: String,
    /// The principal it acts for. Every descendant acts for the same.
    pub sub: String,
    pub tenant: TenantId,
    /// What its holder may do through the API.
    pub scopes: Vec<Scope>,
    /// The public id of the API key it was issued to, with which it ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The trusted issuer on whose word it was issued, with which it ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trusted: Option<String>,
    /// What the credential it was issued to narrows to. None: it did not narrow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credential: Option<Arc<Permissions>>,
    /// The one agent it may be used with. None: any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentName>,
    /// The one session it may be used in: in another it would be a replay. None: any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionId>,
    pub jti: TokenId,
    /// The ids of its parent, its grandparent and so on, [`MAX_ANCESTORS`] at most: who revokes one of them revokes it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ancestors: Vec<TokenId>,
    /// Grants, oldest first, [`MAX_LAYERS`] at most: what each of them allows is allowed. None at all do not narrow.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<Arc<Permissions>>,
    /// The most that may be spent with it and its descendants together, in millionths of the accounting currency. None: the token
    /// sets no bound.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget_micros: Option<u64>,
    /// When it was issued, in seconds since the Unix epoch.
    pub iat: u64,
    /// The first second it is good.
    pub nbf: u64,
    /// The first second it is good no more.
    pub exp: u64,
}

impl Claims {
    /// For a token without parent that does not narrow: what is `None` or empty here may be filled in before it is issued.
    #[must_use]
    pub fn new(
        issuer: &str,
        tenant: TenantId,
        principal: &str,
        id: TokenId,
        now: u64,
        expires_at: u64,
    ) -> Self {
        Self {
            iss: issuer.to_owned(),
            aud: AUDIENCE.to_owned(),
            sub: principal.to_owned(),
            tenant,
            scopes: Scope::ALL.to_vec(),
            key: None,
            trusted: None,
            credential: None,
            agent: None,
            session: None,
            jti: id,
            ancestors: Vec::new(),
            layers: Vec::new(),
            budget_micros: None,
            iat: now,
            nbf: now,
            exp: expires_at,
        }
    }

    /// What holds of every token, whoever made it.
    pub(super) fn check(&self) -> Result<(), TokenError> {
        let is_line = |text: &str| {
            (1..=MAX_NAME).contains(&text.len()) && !text.chars().any(char::is_control)
        };
        // A token that is its own ancestor could be revoked by nothing that comes before it.
        let repeats = |(position, id): (usize, &TokenId)| {
            *id == self.jti || self.ancestors[..position].contains(id)
        };
        let wrong = [
            ("iss", !is_line(&self.iss)),
            (
                "key",
                self.key.as_ref().is_some_and(|key| key.len() > MAX_NAME),
            ),
            ("aud", self.aud != AUDIENCE),
            ("sub", !is_line(&self.sub)),
            (
                "ancestors",
                self.ancestors.len() > MAX_ANCESTORS
                    || self.ancestors.iter().enumerate().any(repeats),
            ),
            ("layers", self.layers.len() > MAX_LAYERS),
            ("exp", self.nbf >= self.exp),
        ];
        match wrong.into_iter().find(|(_, wrong)| *wrong) {
            Some((name, _)) => Err(TokenError::Claim(name)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::{
        Token,
        fixtures::{NOW, claims},
    };

    #[test]
    fn what_no_token_can_have_is_named() {
        type Change = fn(&mut Claims);
        let refused = |change: Change| {
            let mut claims = claims();
            change(&mut claims);
            Token::issue(claims).map(drop)
        };
        assert_eq!(refused(|_| ()), Ok(()));
        let cases: [(&str, Change); 10] = [
            ("iss", |claims| claims.iss.clear()),
            ("iss", |claims| claims.iss = "a\nb".into()),
            ("aud", |claims| claims.aud = "ambit-ops".into()),
            ("sub", |claims| claims.sub.clear()),
            ("sub", |claims| claims.sub = "x".repeat(MAX_NAME + 1)),
            ("sub", |claims| claims.sub = "a\0".into()),
            ("ancestors", |claims| {
                claims.ancestors = vec![TokenId::new()]
            }),
            ("layers", |claims| {
                claims.layers = vec![Arc::default(); MAX_LAYERS + 1];
            }),
            ("exp", |claims| claims.exp = NOW),
            ("exp", |claims| claims.nbf = claims.exp + 1),
        ];
        for (name, change) in cases {
            assert_eq!(refused(change), Err(TokenError::Claim(name)));
        }
    }

    #[test]
    fn a_lineage_neither_repeats_nor_is_long() {
        let lineage = |ancestors: &[TokenId]| {
            let ancestors = ancestors.to_vec();
            Claims {
                ancestors,
                ..claims()
            }
        };
        let ids: Vec<_> = std::iter::repeat_with(TokenId::new)
            .take(MAX_ANCESTORS + 1)
            .collect();
        assert_eq!(lineage(&ids[1..]).check(), Ok(()));
        let mut itself = lineage(&ids[1..3]);
        itself.jti = ids[2];
        for bad in [lineage(&ids), lineage(&[ids[0], ids[1], ids[0]]), itself] {
            assert_eq!(bad.check(), Err(TokenError::Claim("ancestors")));
        }
    }
}
