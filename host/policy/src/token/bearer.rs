//! A token at work: what every permit is asked of before it is given.

use ambit_types::{CallContext, Opaque, Principal, SessionId, TenantId};
use arc_swap::ArcSwap;
use std::{
    fmt,
    sync::{Arc, LazyLock},
    time::{SystemTime, UNIX_EPOCH},
};

use super::{Decision, Mode, Place, Revocations, Token, TokenError};
use crate::{Layer, Permissions, Refusal};

/// The revocations of one tenant as they are now: whoever holds it sees each as soon as this process knows of it.
pub type Revoked = Arc<ArcSwap<Revocations>>;

/// Hears of what would have been refused had tokens been enforced.
pub trait Overlooked: fmt::Debug + Send + Sync {
    fn overlooked(&self, token: &Token, asked: &str, refusal: Refusal);
}

/// What a verified credential narrows every component to. A principal carries it as its [`Opaque`].
#[derive(Debug, Clone, Default)]
pub struct Credential {
    /// Of an API key or of an issuer's token. None: it does not narrow. Holds in every mode.
    pub permissions: Option<Arc<Permissions>>,
    pub token: Option<Held>,
}

/// A capability token that was presented, and what must be asked of it again before each operation.
#[derive(Debug, Clone)]
pub struct Held {
    pub token: Arc<Token>,
    pub revoked: Revoked,
    pub mode: Mode,
    pub overlooked: Arc<dyn Overlooked>,
}

/// A [`Held`] token where it is used.
#[derive(Debug, Clone)]
pub(crate) struct Bearer {
    held: Held,
    tenant: TenantId,
    session: Option<SessionId>,
    agent: Option<Arc<str>>,
}

impl Credential {
    #[must_use]
    pub fn into_opaque(self) -> Opaque {
        Opaque::new(self)
    }

    /// None: the principal's credential does not narrow. What cannot be read allows nothing.
    #[must_use]
    pub fn of(principal: &Principal) -> Option<&Self> {
        static NOTHING: LazyLock<Credential> = LazyLock::new(|| Credential {
            permissions: Some(Arc::default()),
            token: None,
        });
        let opaque = principal.credential.as_ref()?;
        Some(opaque.get().unwrap_or(&NOTHING))
    }

    /// The capability token behind a principal, if it came with one.
    #[must_use]
    pub fn token_of(principal: &Principal) -> Option<&Arc<Token>> {
        let held = Self::of(principal)?.token.as_ref()?;
        Some(&held.token)
    }
}

impl Bearer {
    pub(crate) fn new(held: &Held, context: &CallContext) -> Self {
        // What stands for a plain model call in metrics is no agent.
        let agent = context.agent.clone().filter(|agent| !agent.contains('/'));
        Self {
            held: held.clone(),
            tenant: context.tenant,
            session: context.session,
            agent,
        }
    }

    /// The layers of the token that narrow.
    pub(crate) fn layers(&self) -> &[Arc<Permissions>] {
        match self.held.mode {
            Mode::Enforced => &self.held.token.layers,
            Mode::Warn | Mode::Disabled => &[],
        }
    }

    /// Whether the token is good here and now.
    pub(crate) fn stands(&self) -> Result<(), TokenError> {
        if let Some(error) = self.standing()? {
            let Held {
                token, overlooked, ..
            } = &self.held;
            overlooked.overlooked(token, "acting", Refusal::Token(error));
        }
        Ok(())
    }

    /// What is overlooked, as tokens are not enforced.
    fn standing(&self) -> Result<Option<TokenError>, TokenError> {
        let Held {
            token,
            revoked,
            mode,
            ..
        } = &self.held;
        let here = Place {
            tenant: self.tenant,
            session: self.session,
            agent: self.agent.as_deref(),
        };
        match mode.decide(token.check(now(), here, &revoked.load())) {
            Decision::Refuse(error) => Err(error),
            Decision::ProceedLoudly { overlooked, .. } => Ok(overlooked),
            Decision::Proceed => Ok(None),
        }
    }

    /// Whether the token allows what `allows` asks of each of its layers, here and now.
    pub(crate) fn check(
        &self,
        asked: &dyn Fn() -> String,
        allows: &mut dyn FnMut(&Permissions) -> bool,
    ) -> Result<(), Refusal> {
        let Held {
            token,
            mode,
            overlooked,
            ..
        } = &self.held;
        let standing = self.standing().map_err(Refusal::Token)?;
        let refusal = standing.map(Refusal::Token).or_else(|| {
            let covered = *mode == Mode::Disabled || token.layers.iter().all(|layer| allows(layer));
            (!covered).then_some(Refusal::NotCovered(Layer::Token))
        });
        match refusal {
            None => Ok(()),
            Some(refusal) if *mode == Mode::Enforced => Err(refusal),
            Some(refusal) => {
                overlooked.overlooked(token, &asked(), refusal);
                Ok(())
            }
        }
    }
}

/// Seconds since the Unix epoch.
fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Ambit,
        token::{Claims, fixtures::claims},
    };
    use ambit_types::{RequestId, TraceContext};
    use std::{
        sync::Mutex,
        time::{Duration, Instant},
    };

    #[derive(Debug, Default)]
    struct Heard(Mutex<Vec<(String, Refusal)>>);

    impl Overlooked for Heard {
        fn overlooked(&self, _: &Token, asked: &str, refusal: Refusal) {
            self.0.lock().unwrap().push((asked.to_owned(), refusal));
        }
    }

    struct Rig {
        token: Arc<Token>,
        revoked: Revoked,
        heard: Arc<Heard>,
    }

    impl Rig {
        fn new(change: impl FnOnce(&mut Claims)) -> Self {
            let mut claims = claims();
            claims.nbf = 0;
            claims.exp = u64::MAX;
            let small = Permissions::parse("models = [\"p/small\"]").unwrap();
            claims.layers = vec![Arc::new(small)];
            change(&mut claims);
            Self {
                token: Arc::new(Token::issue(claims).unwrap()),
                revoked: Revoked::default(),
                heard: Arc::default(),
            }
        }

        fn context(&self, mode: Mode) -> CallContext {
            let permissions = Permissions::parse("models = [\"p/*\"]").unwrap();
            let credential = Credential {
                permissions: Some(Arc::new(permissions)),
                token: Some(Held {
                    token: self.token.clone(),
                    revoked: self.revoked.clone(),
                    mode,
                    overlooked: self.heard.clone(),
                }),
            };
            CallContext {
                tenant: self.token.tenant,
                tenant_slug: "acme".parse().unwrap(),
                principal: Arc::new(Principal {
                    id: "key:1".into(),
                    scopes: Vec::new(),
                    key: None,
                    issuer: None,
                    expires_at: None,
                    credential: Some(credential.into_opaque()),
                }),
                request: RequestId::new(),
                session: None,
                agent: None,
                cpu: None,
                trace: TraceContext::new(),
                deadline: Instant::now() + Duration::from_secs(1),
            }
        }

        fn refusal(&self, context: &CallContext, model: &str) -> Option<Refusal> {
            let all = Arc::new(Permissions::parse("models = [\"*\"]").unwrap());
            let ambit = Ambit::new(all.clone(), all).narrowed_by_caller(context);
            let (provider, model) = model.split_once('/').unwrap();
            ambit
                .model(provider, model)
                .err()
                .map(|denied| denied.refusal)
        }
    }

    #[test]
    fn a_permit_is_given_only_where_the_token_is_good_and_covers_it() {
        const NOT_COVERED: Option<Refusal> = Some(Refusal::NotCovered(Layer::Token));
        let rig = Rig::new(|_| ());
        let context = rig.context(Mode::Enforced);
        assert_eq!(rig.refusal(&context, "p/small"), None);
        assert_eq!(rig.refusal(&context, "p/large"), NOT_COVERED);
        assert_eq!(
            rig.refusal(&context, "q/small"),
            NOT_COVERED,
            "nor what the credential leaves out"
        );
        // Whoever holds the ambit already is told too.
        rig.revoked
            .store(Arc::new(Revocations::default().and(&rig.token)));
        assert_eq!(
            rig.refusal(&context, "p/small"),
            Some(Refusal::Token(TokenError::Revoked))
        );

        let session = SessionId::new();
        for (rig, error) in [
            (Rig::new(|claims| claims.exp = 1), TokenError::Expired),
            (
                Rig::new(|claims| claims.nbf = u64::MAX - 1),
                TokenError::NotYet,
            ),
            (
                Rig::new(|claims| claims.agent = Some("a".parse().unwrap())),
                TokenError::Agent,
            ),
            (
                Rig::new(|claims| claims.session = Some(session)),
                TokenError::Session,
            ),
        ] {
            let context = rig.context(Mode::Enforced);
            assert_eq!(
                rig.refusal(&context, "p/small"),
                Some(Refusal::Token(error))
            );
        }
        let bound = Rig::new(|claims| {
            claims.agent = Some("a".parse().unwrap());
            claims.session = Some(session);
        });
        let mut context = bound.context(Mode::Enforced);
        context.session = Some(session);
        context.agent = Some("a".into());
        assert_eq!(bound.refusal(&context, "p/small"), None);
        // The label of a plain model call is nobody's name.
        context.agent = Some("a/*".into());
        assert_eq!(
            bound.refusal(&context, "p/small"),
            Some(Refusal::Token(TokenError::Agent))
        );
        let mut context = rig.context(Mode::Disabled);
        context.tenant = TenantId::new();
        assert_eq!(
            rig.refusal(&context, "p/small"),
            Some(Refusal::Token(TokenError::Tenant))
        );
    }

    #[test]
    fn a_tool_is_called_while_the_token_is_good() {
        let rig = Rig::new(|_| ());
        let context = rig.context(Mode::Enforced);
        let none = Arc::new(Permissions::default());
        let ambit = Ambit::new(none.clone(), none).narrowed_by_caller(&context);
        assert_eq!(ambit.tool("weather").unwrap().name, "weather");
        rig.revoked
            .store(Arc::new(Revocations::default().and(&rig.token)));
        assert_eq!(ambit.tool("weather"), Err(TokenError::Revoked));
    }

    #[test]
    fn what_is_not_enforced_is_done_and_heard_of_and_the_credential_holds_all_the_same() {
        for (mode, heard) in [(Mode::Warn, 2), (Mode::Disabled, 0)] {
            let rig = Rig::new(|_| ());
            let context = rig.context(mode);
            assert_eq!(rig.refusal(&context, "p/small"), None);
            assert_eq!(rig.refusal(&context, "p/large"), None);
            assert!(rig.refusal(&context, "q/small").is_some());
            rig.revoked
                .store(Arc::new(Revocations::default().and(&rig.token)));
            assert_eq!(rig.refusal(&context, "p/small"), None);
            let told = rig.heard.0.lock().unwrap();
            assert_eq!(told.len(), heard, "{mode}: {told:?}");
            if heard > 0 {
                assert_eq!(
                    told[0],
                    ("model p/large".into(), Refusal::NotCovered(Layer::Token))
                );
                assert_eq!(told[1].1, Refusal::Token(TokenError::Revoked));
            }
        }
    }

    #[test]
    fn what_cannot_be_read_allows_nothing() {
        let rig = Rig::new(|_| ());
        let mut context = rig.context(Mode::Enforced);
        let mut principal = (*context.principal).clone();
        principal.credential = Some(Opaque::new("something else"));
        context.principal = Arc::new(principal);
        assert!(rig.refusal(&context, "p/small").is_some());
    }
}
