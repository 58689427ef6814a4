//! Chains of delegations against the naive model: a token is the conjunction of what everybody before it was given, whoever asks for
//! however much.

mod common;

use ambit_policy::{
    Ambit,
    token::{Claims, Delegation, DelegationError, Place, Revocations, Signer, Token, Verifier},
};
use ambit_types::{AgentName, Scope, SessionId, TenantId, TokenId};
use common::{World, asked, grant, intersect, world};
use proptest::prelude::*;

const NOW: u64 = 1_795_000_000;
const ISSUER: &str = "https://ambit.example";

/// What one delegation asks for. Times are seconds after `NOW`, agents and sessions of a few.
#[derive(Debug, Clone)]
struct Step {
    /// Which of all scopes.
    scopes: Option<[bool; 4]>,
    grants: Option<World>,
    budget: Option<u64>,
    lifetime: Option<u64>,
    agent: Option<usize>,
    session: Option<usize>,
    /// Seconds that pass before it.
    wait: u64,
    /// From a session to one it starts, which may be bound anew.
    handed: bool,
}

fn step() -> impl Strategy<Value = Step> {
    use proptest::option::{of, weighted};
    (
        of(proptest::array::uniform4(proptest::bool::ANY)),
        weighted(0.8, world()),
        of(0_u64..100),
        of(1_u64..200),
        weighted(0.2, 0_usize..2),
        weighted(0.2, 0_usize..2),
        0_u64..10,
        proptest::bool::weighted(0.2),
    )
        .prop_map(
            |(scopes, grants, budget, lifetime, agent, session, wait, handed)| Step {
                scopes,
                grants,
                budget,
                lifetime,
                agent,
                session,
                wait,
                handed,
            },
        )
}

/// The model of a token: what each step was given, in a list, and the least numbers so far.
#[derive(Debug, Clone)]
struct Naive {
    scopes: [bool; 4],
    layers: Vec<World>,
    budget: Option<u64>,
    from: u64,
    until: u64,
    agent: Option<usize>,
    session: Option<usize>,
}

impl Naive {
    /// None: nothing of it can be.
    fn next(&self, step: &Step, now: u64) -> Option<Self> {
        let agree = |own: Option<usize>, asked: Option<usize>| match (own, asked) {
            (Some(own), Some(asked)) if own != asked => step.handed.then_some(Some(asked)),
            _ => Some(own.or(asked)),
        };
        let mut layers = self.layers.clone();
        layers.extend(step.grants.clone());
        let least = |own: Option<u64>, asked: Option<u64>| match (own, asked) {
            (Some(own), Some(asked)) => Some(if asked < own { asked } else { own }),
            (own, asked) => own.or(asked),
        };
        let until = least(
            Some(self.until),
            step.lifetime.map(|lifetime| NOW + lifetime),
        )?;
        let asked = step.scopes.unwrap_or([true; 4]);
        let child = Self {
            scopes: [0, 1, 2, 3].map(|n: usize| self.scopes[n] && asked[n]),
            layers,
            budget: least(self.budget, step.budget),
            from: now,
            until,
            agent: agree(self.agent, step.agent)?,
            session: agree(self.session, step.session)?,
        };
        (now < until).then_some(child)
    }
}

fn scopes(of: [bool; 4]) -> Vec<Scope> {
    let all = Scope::ALL.into_iter().zip(of);
    all.filter(|(_, held)| *held)
        .map(|(scope, _)| scope)
        .collect()
}

/// The fixed things of one run.
struct Rig {
    tenant: TenantId,
    agents: [AgentName; 2],
    sessions: [SessionId; 2],
    signer: Signer,
    verifier: Verifier,
}

impl Rig {
    fn new() -> Self {
        let signer = Signer::from_seed(&[7; 32]).unwrap();
        Self {
            tenant: TenantId::new(),
            agents: ["lead", "helper"].map(|name| name.parse().unwrap()),
            sessions: [SessionId::new(), SessionId::new()],
            verifier: Verifier::new(ISSUER, [signer.public_key().clone()]),
            signer,
        }
    }

    fn issue(&self, step: &Step) -> (Token, Naive) {
        let naive = Naive {
            scopes: step.scopes.unwrap_or([true; 4]),
            layers: step.grants.iter().cloned().collect(),
            budget: step.budget,
            from: NOW,
            until: NOW + step.lifetime.unwrap_or(200),
            agent: step.agent,
            session: step.session,
        };
        let id = TokenId::new();
        let mut claims = Claims::new(ISSUER, self.tenant, "key:1", id, NOW, naive.until);
        claims.scopes = scopes(naive.scopes);
        claims.layers = step.grants.iter().map(grant).collect();
        claims.budget_micros = step.budget;
        claims.agent = step.agent.map(|agent| self.agents[agent].clone());
        claims.session = step.session.map(|session| self.sessions[session]);
        (Token::issue(claims).unwrap(), naive)
    }

    fn request(&self, step: &Step) -> Delegation {
        Delegation {
            scopes: step.scopes.map(scopes),
            id: TokenId::new(),
            grants: step.grants.iter().map(grant).collect(),
            budget_micros: step.budget,
            expires_at: step.lifetime.map(|lifetime| NOW + lifetime),
            agent: step.agent.map(|agent| self.agents[agent].clone()),
            session: step.session.map(|session| self.sessions[session]),
        }
    }

    fn child(
        &self,
        token: &Token,
        step: &Step,
        from: &Naive,
        now: u64,
    ) -> Result<Token, DelegationError> {
        let request = self.request(step);
        if step.handed {
            let from = Place {
                tenant: self.tenant,
                agent: from.agent.map(|agent| self.agents[agent].as_str()),
                session: from.session.map(|session| self.sessions[session]),
            };
            token.hand_over(from, request, now)
        } else {
            token.delegate(request, now)
        }
    }

    /// As another node has it.
    fn carried(&self, token: &Token, now: u64) -> Token {
        let text = self.signer.sign(token).unwrap();
        self.verifier
            .verify(text, now, &Revocations::default())
            .unwrap()
    }

    /// Where and when the token is good, out of all there is.
    fn uses(&self, token: &Token, now: u64) -> Vec<(usize, usize)> {
        let none = Revocations::default();
        (0..9)
            .map(|n| (n / 3, n % 3))
            .filter(|(agent, session)| {
                let here = Place {
                    tenant: self.tenant,
                    agent: self.agents.get(*agent).map(AgentName::as_str),
                    session: self.sessions.get(*session).copied(),
                };
                token.check(now, here, &none).is_ok()
            })
            .collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_chain_of_delegations_is_a_conjunction(
        author in world(), root in step(), steps in proptest::collection::vec(step(), 1..6),
    ) {
        let rig = Rig::new();
        // One grant for both: the more that leaves, the more there is for tokens to narrow.
        let base = Ambit::new(grant(&author), grant(&author));
        let ambit = |token: &Token| base.clone().narrowed_by_token(token.layers.iter().cloned());
        let (mut token, mut naive) = rig.issue(&root);
        let mut now = NOW;
        for step in &steps {
            now += step.wait;
            if now >= naive.until {
                prop_assert!(rig.child(&token, step, &naive, now).is_err());
                break;
            }
            let child = match (rig.child(&token, step, &naive, now), naive.next(step, now)) {
                (Ok(child), Some(next)) => {
                    naive = next;
                    child
                }
                (Err(_), None) => continue,
                (child, next) => return Err(TestCaseError::fail(format!("{child:?} against {next:?}"))),
            };
            prop_assert_eq!(&rig.carried(&child, now), &child);

            // What the model says, no more and no less.
            let worlds: Vec<_> = std::iter::once(&author).chain(&naive.layers).collect();
            let allowed = asked(&ambit(&child));
            prop_assert_eq!(&allowed, &intersect(&worlds));
            prop_assert_eq!(&child.scopes, &scopes(naive.scopes));
            prop_assert_eq!(child.budget_micros, naive.budget);
            prop_assert_eq!((child.nbf, child.exp), (naive.from, naive.until));
            let uses: Vec<_> = (0..9).map(|n| (n / 3, n % 3))
                .filter(|(agent, session)| naive.agent.is_none_or(|own| own == *agent) && naive.session.is_none_or(|own| own == *session))
                .collect();
            prop_assert_eq!(rig.uses(&child, now), uses);

            // Never more than the parent.
            prop_assert!(allowed.is_subset(&asked(&ambit(&token))));
            prop_assert!(token.budget_micros.is_none_or(|most| child.budget_micros.is_some_and(|budget| budget <= most)));
            prop_assert!(child.exp <= token.exp && child.nbf >= token.nbf);
            let parents = rig.uses(&token, now);
            prop_assert!(step.handed || rig.uses(&child, now).iter().all(|place| parents.contains(place)));
            prop_assert_eq!((&child.sub, child.tenant, &child.iss), (&token.sub, token.tenant, &token.iss));
            prop_assert_eq!(child.lineage().skip(1).collect::<Vec<_>>(), token.lineage().collect::<Vec<_>>());
            token = child;
        }
    }

    #[test]
    fn no_bytes_are_a_token(text in proptest::collection::vec(any::<u8>(), 0..200), at in any::<usize>()) {
        let rig = Rig::new();
        let refused = |text: &[u8]| rig.verifier.verify(text, NOW, &Revocations::default()).is_err();
        prop_assert!(refused(&text));
        // Nor in place of some of one.
        let step = Step { scopes: None, grants: None, budget: None, lifetime: None, agent: None, session: None, wait: 0, handed: false };
        let mut good = rig.signer.sign(&rig.issue(&step).0).unwrap().into_bytes();
        let at = at % good.len();
        let end = good.len().min(at + text.len());
        let was = good.splice(at..end, text.iter().copied()).collect::<Vec<_>>();
        prop_assert!(was == text || refused(&good));
    }

    /// A rule that is told to be without hope has none.
    #[test]
    fn what_is_unmet_is_never_allowed(root in step(), step in step(), asks in world()) {
        let rig = Rig::new();
        let (token, _) = rig.issue(&Step { lifetime: None, ..root });
        let token = token.delegate(Delegation { agent: None, session: None, expires_at: None, ..rig.request(&step) }, NOW).unwrap();
        let unmet = token.unmet(&asks.permissions());
        for missing in unmet {
            let alone = World { http: vec![], models: vec![], collections: vec![], keys: vec![], optional: false };
            // The model's rules of these classes are their own texts.
            let rule = |rules: &[&'static str]| rules.iter().copied().filter(|rule| *rule == missing.request).collect::<Vec<_>>();
            let alone = match missing.class.as_str() {
                "models" => World { models: rule(&asks.models), ..alone },
                "collections" => World { collections: rule(&asks.collections), ..alone },
                "keyvalue" => World { keys: rule(&asks.keys), ..alone },
                _ => continue,
            };
            let ambit = Ambit::new(grant(&alone), grant(&alone)).narrowed_by_token(token.layers.iter().cloned());
            prop_assert!(!alone.allowed().is_empty() && asked(&ambit).is_empty(), "{missing}");
        }
    }
}
