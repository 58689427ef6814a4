//! Random walks: the rules in memory, which are model-checked, and the store do the same, step by step, whichever of two processes a step
//! goes through and whenever one of them is opened anew.

use super::{DAY, NOON, Spending, budget, concurrency::Dice, money, scope};
use crate::{
    Result, Store, StoreError,
    tests::{hand_over, on_both},
};
use ambit_ledger::{Books, BudgetScope, Period, Refusal, Reserve, ScopeKind, Spender, Usage};
use ambit_types::{ReservationId, SessionId};

const STEPS: i64 = 250;
const WALKS: u64 = 3;

/// What the rules and the store answer, in one word.
fn answer(rules: std::result::Result<(), Refusal>) -> String {
    match rules {
        Ok(()) => "done".to_owned(),
        Err(Refusal::OverBudget(over)) => format!("{over:?}"),
        Err(Refusal::Unknown) => "unknown".to_owned(),
        Err(Refusal::Conflict) => "conflict".to_owned(),
    }
}

fn answered<T>(store: Result<T>) -> String {
    match store {
        Ok(_) => "done".to_owned(),
        Err(StoreError::OverBudget(over)) => format!("{over:?}"),
        Err(StoreError::NotFound {
            what: "reservation",
        }) => "unknown".to_owned(),
        Err(StoreError::Conflict {
            what: "reservation",
        }) => "conflict".to_owned(),
        Err(other) => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_store_walks_as_the_rules_do() {
    on_both(async |test| {
        for walk in 1..=WALKS {
            walk_once(test, walk).await;
        }
    })
    .await;
}

async fn walk_once(test: &crate::testing::TestStore, walk: u64) {
    let (_, acme) = super::tenant(test, &format!("walk-{walk}")).await;
    let mut dice = Dice(walk.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let mut rules = Books::default();
    let scopes = [
        BudgetScope::tenant(),
        scope(ScopeKind::Key, "*"),
        scope(ScopeKind::Key, "k1"),
        scope(ScopeKind::Agent, "a"),
        scope(ScopeKind::Session, "*"),
    ];
    // A session stays with the process that opened it.
    let mut stores = [
        Store::open(&test.config).await.unwrap(),
        Store::open(&test.config).await.unwrap(),
    ];
    let sessions: Vec<_> = (0..4)
        .map(|_| Spending {
            acme: acme.clone(),
            session: SessionId::new(),
        })
        .collect();
    for (n, shop) in sessions.iter().enumerate() {
        let append = super::opening(&shop.acme, shop.session);
        stores[n % 2].journal().append(append).await.unwrap();
    }
    let mut known: Vec<(ReservationId, usize)> = Vec::new();
    let mut now = NOON;
    for step in 0..STEPS {
        let n = dice.roll(4) as usize;
        let (store, shop) = (&stores[n % 2], &sessions[n]);
        let (tenant, session) = (acme.id(), shop.session);
        // Mostly one of this session, sometimes another's, sometimes none's.
        let mine: Vec<_> = known
            .iter()
            .filter(|(_, of)| *of == n || dice.roll(9) == 0)
            .collect();
        let some = match mine.len() {
            0 => ReservationId::new(),
            len => mine[dice.roll(len as i64) as usize].0,
        };
        let append = match dice.roll(10) {
            0 => {
                let scope = scopes[dice.roll(5) as usize].clone();
                let period = Period::ALL[dice.roll(3) as usize];
                let limit = budget(scope, period, dice.roll(400));
                acme.set_budget(&limit).await.unwrap();
                rules.add_budget(tenant, limit);
                continue;
            }
            1 => {
                // Mostly on, at times back.
                now = (now + (dice.roll(6) - 2) * DAY / 2).max(0);
                continue;
            }
            2 if dice.roll(5) == 0 => {
                let which = dice.roll(2) as usize;
                let old = stores[which].clone();
                old.close().await;
                stores[which] = Store::open(&test.config).await.unwrap();
                for shop in sessions.iter().skip(which).step_by(2) {
                    hand_over(&shop.acme, shop.session, &old, &stores[which]).await;
                }
                continue;
            }
            2..=5 => {
                let [key, agent] =
                    [["k1", "k2"], ["a", "b"]].map(|names| names[dice.roll(2) as usize].into());
                let id = if dice.roll(20) == 0 {
                    some
                } else {
                    ReservationId::new()
                };
                let [provider, model] = ["p", "m"].map(Into::into);
                let reserve = Reserve {
                    id,
                    amount: money(dice.roll(120)),
                    at_ms: now,
                    spender: Spender {
                        agent,
                        key,
                        provider,
                        model,
                    },
                    tokens: Default::default(),
                    above: std::sync::Arc::default(),
                };
                known.push((id, n));
                shop.append().event(super::event("intent")).reserve(reserve)
            }
            6..=8 => {
                let cost = dice.roll(100);
                let append = shop.append().event(super::outcome(cost));
                append.settle(some, money(cost), Usage::default())
            }
            _ => shop.append().event(super::event("outcome")).release(some),
        };
        let expected = answer(rules.apply(tenant, session, &append.ledger));
        let seen = answered(store.journal().append(append.clone()).await);
        assert_eq!(
            seen, expected,
            "{} walk {walk} step {step}: {append:?}",
            test.database
        );
        for ((_, scope, period), account) in rules.changed_accounts() {
            let standing = acme.standing(scope, now).await.unwrap();
            let Some(standing) = standing.iter().find(|at| at.budget.period == *period) else {
                panic!("{scope} {period:?}")
            };
            let at = account.at(*period, now);
            assert_eq!(
                (standing.settled, standing.reserved),
                (at.settled, at.reserved),
                "{scope}"
            );
        }
    }
    let report = acme.verify_costs().await.unwrap();
    assert_eq!(report.faults, []);
    assert_eq!(report.sessions, 4);
    for store in stores {
        store.close().await;
    }
}
