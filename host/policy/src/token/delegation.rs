//! Handing on a part of a token.

use ambit_types::{AgentName, Scope, SessionId, TokenId};
use std::sync::Arc;

use super::{Claims, MAX_ANCESTORS, MAX_LAYERS, Place, Token, TokenError};
use crate::{Missing, Permissions, ambit::for_each_request};

/// What a child is to have. What the parent lacks it does not get; that is no error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delegation {
    /// The child's own.
    pub id: TokenId,
    /// None: those of the parent.
    pub scopes: Option<Vec<Scope>>,
    /// A layer each. None: whatever the parent may do.
    pub grants: Vec<Arc<Permissions>>,
    /// None: as much as the parent.
    pub budget_micros: Option<u64>,
    /// Seconds since the Unix epoch. None: as long as the parent.
    pub expires_at: Option<u64>,
    /// None: with whichever agents the parent may be used.
    pub agent: Option<AgentName>,
    /// None: in whichever sessions the parent may be used.
    pub session: Option<SessionId>,
}

/// Why there is no child.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DelegationError {
    /// The parent is not good itself: now, or at the place it is handed over from.
    #[error(transparent)]
    Parent(#[from] TokenError),
    #[error("the capability token is for one agent and cannot be delegated to another")]
    Agent,
    #[error("the capability token is for one session and cannot be delegated to another")]
    Session,
    #[error("the delegated token would have expired already")]
    Ended,
    #[error("the capability token is {MAX_ANCESTORS} delegations deep, and no deeper is allowed")]
    TooDeep,
    #[error("the capability token carries {MAX_LAYERS} grants, and no more are allowed")]
    TooManyLayers,
}

impl Delegation {
    /// Everything the parent has.
    #[must_use]
    pub fn new(id: TokenId) -> Self {
        Self {
            id,
            scopes: None,
            grants: Vec::new(),
            budget_micros: None,
            expires_at: None,
            agent: None,
            session: None,
        }
    }
}

impl Token {
    /// A child for whoever its holder likes. It is bound to an agent and a session where its parent is.
    ///
    /// Whether the parent is revoked is not asked here: its children are revoked with it.
    ///
    /// # Errors
    /// When the parent is not good now, the child would not be good at all, or the request is for another agent or session than the
    /// parent's.
    pub fn delegate(&self, request: Delegation, now: u64) -> Result<Self, DelegationError> {
        if differs(&self.agent, &request.agent) {
            return Err(DelegationError::Agent);
        }
        if differs(&self.session, &request.session) {
            return Err(DelegationError::Session);
        }
        self.child(request, now)
    }

    /// A child for a session that the session at `from` starts, and for that one's agent: it takes the binding that `request` names
    /// in place of its parent's. The host decides so, knowing both sessions; never do it on a caller's word, who could carry a token
    /// that is bound to one session into another.
    ///
    /// # Errors
    /// When the parent is not good at `from` now, or the child would not be good at all.
    pub fn hand_over(
        &self,
        from: Place<'_>,
        request: Delegation,
        now: u64,
    ) -> Result<Self, DelegationError> {
        self.check_place(from)?;
        self.child(request, now)
    }

    fn child(&self, request: Delegation, now: u64) -> Result<Self, DelegationError> {
        self.check_time(now)?;
        if self.ancestors.len() >= MAX_ANCESTORS {
            return Err(DelegationError::TooDeep);
        }
        if self.layers.len() + request.grants.len() > MAX_LAYERS {
            return Err(DelegationError::TooManyLayers);
        }
        let nbf = self.nbf.max(now);
        let exp = request.expires_at.unwrap_or(self.exp).min(self.exp);
        if nbf >= exp {
            return Err(DelegationError::Ended);
        }
        let budgets = [self.budget_micros, request.budget_micros];
        let claims = Claims {
            iss: self.iss.clone(),
            aud: self.aud.clone(),
            sub: self.sub.clone(),
            tenant: self.tenant,
            scopes: match request.scopes {
                None => self.scopes.clone(),
                Some(asked) => {
                    let has = |scope: &Scope| asked.contains(scope);
                    self.scopes.iter().copied().filter(has).collect()
                }
            },
            key: self.key.clone(),
            trusted: self.trusted.clone(),
            credential: self.credential.clone(),
            agent: request.agent.or_else(|| self.agent.clone()),
            session: request.session.or(self.session),
            jti: request.id,
            ancestors: self.lineage().collect(),
            layers: self.layers.iter().cloned().chain(request.grants).collect(),
            budget_micros: budgets.into_iter().flatten().min(),
            iat: now,
            nbf,
            exp,
        };
        Ok(Self::new(claims)?)
    }

    /// The rules of `grants` that would never allow a child anything, because some layer here has no rule that overlaps. There may be
    /// more: layers are asked one by one, and two may each leave something of a rule that they do not leave together.
    #[must_use]
    pub fn unmet(&self, grants: &Permissions) -> Vec<Missing> {
        let mut unmet = Vec::new();
        for layer in &self.layers {
            for_each_request(grants, layer, |class, request, _, granted| {
                let request = Missing {
                    class,
                    request: request.to_string(),
                };
                if !granted && !unmet.contains(&request) {
                    unmet.push(request);
                }
            });
        }
        unmet
    }
}

fn differs<T: PartialEq>(own: &Option<T>, asked: &Option<T>) -> bool {
    own.is_some() && asked.is_some() && own != asked
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::{
        Revocations,
        fixtures::{NOW, claims},
    };
    use ambit_types::TenantId;

    fn request() -> Delegation {
        Delegation::new(TokenId::new())
    }

    fn permissions(text: &str) -> Arc<Permissions> {
        Arc::new(Permissions::parse(text).unwrap())
    }

    #[test]
    fn a_child_has_the_least_of_both() {
        let grant = permissions("models = [\"openai/*\"]");
        let parent = Token::issue(Claims {
            budget_micros: Some(50),
            layers: vec![grant.clone()],
            ..claims()
        })
        .unwrap();
        let own = permissions("models = [\"*\"]");
        let wide = Delegation {
            grants: vec![own.clone()],
            budget_micros: Some(51),
            expires_at: Some(parent.exp + 1),
            ..request()
        };
        let child = parent.delegate(wide.clone(), NOW + 7).unwrap();
        let expected = Claims {
            jti: wide.id,
            ancestors: vec![parent.jti],
            layers: vec![grant.clone(), own],
            iat: NOW + 7,
            nbf: NOW + 7,
            ..Claims::clone(&parent)
        };
        assert_eq!(*child, expected);

        let narrow = Delegation {
            budget_micros: Some(49),
            expires_at: Some(parent.exp - 1),
            ..request()
        };
        let child = parent.delegate(narrow, NOW).unwrap();
        assert_eq!(
            (child.budget_micros, child.exp, &child.layers),
            (Some(49), parent.exp - 1, &parent.layers)
        );
        let open = Token::issue(claims()).unwrap();
        let budgets = [None, Some(3)].map(|budget_micros| {
            let request = Delegation {
                budget_micros,
                ..request()
            };
            open.delegate(request, NOW).unwrap().budget_micros
        });
        assert_eq!(budgets, [None, Some(3)]);
    }

    #[test]
    fn an_agent_and_a_session_are_set_once() {
        let [one, two] = [SessionId::new(), SessionId::new()];
        let ask = |session: Option<SessionId>, agent: Option<&str>| Delegation {
            session,
            agent: agent.map(|name| name.parse().unwrap()),
            ..request()
        };
        let open = Token::issue(claims()).unwrap();
        let bound = open.delegate(ask(Some(one), Some("a")), NOW).unwrap();
        assert_eq!(
            (bound.session, bound.agent.as_deref()),
            (Some(one), Some("a"))
        );
        for (asked, expected) in [
            (ask(None, None), Ok(())),
            (ask(Some(one), Some("a")), Ok(())),
            (ask(Some(two), None), Err(DelegationError::Session)),
            (ask(None, Some("b")), Err(DelegationError::Agent)),
        ] {
            let child = bound.delegate(asked, NOW);
            if let Ok(child) = &child {
                assert_eq!((child.session, &child.agent), (bound.session, &bound.agent));
            }
            assert_eq!(child.map(drop), expected);
        }
    }

    #[test]
    fn a_session_hands_over_to_one_it_starts() {
        let [parent, child] = [SessionId::new(), SessionId::new()];
        let token = Token::issue(Claims {
            session: Some(parent),
            agent: Some("lead".parse().unwrap()),
            layers: vec![permissions("models = [\"a/*\"]")],
            ..claims()
        })
        .unwrap();
        let from = |session| Place {
            tenant: token.tenant,
            session,
            agent: Some("lead"),
        };
        let ask = || Delegation {
            session: Some(child),
            agent: Some("helper".parse().unwrap()),
            ..request()
        };
        let handed = token.hand_over(from(Some(parent)), ask(), NOW).unwrap();
        let there = Place {
            agent: Some("helper"),
            ..from(Some(child))
        };
        let none = Revocations::default();
        assert_eq!(handed.check(NOW, there, &none), Ok(()));
        assert_eq!(
            handed.check(NOW, from(Some(parent)), &none),
            Err(TokenError::Session)
        );
        assert_eq!(
            handed.check(NOW, there, &none.and(&token)),
            Err(TokenError::Revoked)
        );
        assert_eq!(handed.layers, token.layers);
        for (from, error) in [
            (from(Some(child)), TokenError::Session),
            (from(None), TokenError::Session),
            (
                Place {
                    tenant: TenantId::new(),
                    ..from(Some(parent))
                },
                TokenError::Tenant,
            ),
        ] {
            let refused = token.hand_over(from, ask(), NOW);
            assert_eq!(refused, Err(DelegationError::Parent(error)));
        }
    }

    #[test]
    fn there_is_no_child_of_what_is_over_or_of_nothing() {
        let parent = Token::issue(claims()).unwrap();
        let until = |expires_at| Delegation {
            expires_at: Some(expires_at),
            ..request()
        };
        let expired = Err(DelegationError::Parent(TokenError::Expired));
        assert_eq!(parent.delegate(request(), parent.exp), expired);
        let early = parent.delegate(request(), NOW - 60);
        assert_eq!(early, Err(DelegationError::Parent(TokenError::NotYet)));
        let ended = parent.delegate(until(NOW), NOW);
        assert_eq!(ended, Err(DelegationError::Ended));
        let early = parent.delegate(until(NOW + 1), NOW - 1).unwrap();
        assert_eq!(early.nbf, parent.nbf, "not before the parent either");
        let itself = Delegation::new(parent.jti);
        let error = DelegationError::Parent(TokenError::Claim("ancestors"));
        assert_eq!(parent.delegate(itself, NOW), Err(error));
    }

    #[test]
    fn a_lineage_ends() {
        let child = |parent: &Token, grants| {
            let request = Delegation {
                grants,
                ..request()
            };
            parent.delegate(request, NOW)
        };
        let root = Token::issue(claims()).unwrap();
        let deep = (0..MAX_ANCESTORS).fold(root, |token, _| child(&token, vec![]).unwrap());
        assert_eq!(deep.ancestors.len(), MAX_ANCESTORS);
        assert_eq!(child(&deep, vec![]), Err(DelegationError::TooDeep));

        let full = Token::issue(Claims {
            layers: vec![Arc::default(); MAX_LAYERS],
            ..claims()
        })
        .unwrap();
        assert!(child(&full, vec![]).is_ok());
        let more = child(&full, vec![Arc::default()]);
        assert_eq!(more, Err(DelegationError::TooManyLayers));
    }

    #[test]
    fn what_can_never_be_is_told() {
        let token = Token::issue(Claims {
            layers: vec![
                permissions("models = [\"openai/*\", \"local/a\"]"),
                permissions("models = [\"local/*\"]\nkeyvalue = [\"*\"]"),
            ],
            ..claims()
        })
        .unwrap();
        let asked = permissions(
            "models = [\"local/*\", \"openai/x\", \"other/*\"]\nkeyvalue = [\"cache/*\"]",
        );
        let unmet: Vec<_> = token
            .unmet(&asked)
            .iter()
            .map(|missing| missing.request.clone())
            .collect();
        assert_eq!(unmet, ["other/*", "cache/*", "openai/x"]);
        assert!(Token::issue(claims()).unwrap().unmet(&asked).is_empty());
    }
}
