//! Many callers at one nearly empty budget, through two processes' worth of writers.
//!
//! The exact condition: at its place in the order of commits, a reservation is refused if and only if what is settled and reserved then
//! and its own amount exceed the limit. Seen from outside: while the amounts of all callers fit, none is refused, whatever the order;
//! when nobody settles, as many are accepted as fit; and at the end exactly what is left can be reserved.

use super::{NOON, Spending, budget, money};
use crate::{Store, StoreError, tests::on_both};
use ambit_ledger::{BudgetScope, Period};
use futures::future::join_all;

const CALLERS: usize = 64;
const ROUNDS: i64 = 12;

/// Deterministic, so that a failure can be repeated.
pub(super) struct Dice(pub(super) u64);

impl Dice {
    /// 0 to `sides` - 1 (xorshift64).
    pub(super) fn roll(&mut self, sides: i64) -> i64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % sides.unsigned_abs()).cast_signed()
    }
}

/// Puts the limit so that so much is left.
async fn leave(shop: &Spending, left: i64) {
    let [settled, reserved, _] = shop.tenant_stands().await;
    let limit = budget(
        BudgetScope::tenant(),
        Period::None,
        settled + reserved + left,
    );
    shop.acme.set_budget(&limit).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sixty_four_callers_neither_overspend_nor_are_refused_wrongly() {
    on_both(async |test| {
        let shop = Spending::limited(test, 0).await;
        let elsewhere = Store::open(&test.config).await.unwrap();
        let stores = [&test.store, &elsewhere];
        let sessions: Vec<_> = join_all((0..CALLERS).map(async |n| {
            let session = ambit_types::SessionId::new();
            let append = super::opening(&shop.acme, session);
            stores[n % 2].journal().append(append).await.unwrap();
            Spending {
                acme: shop.acme.clone(),
                session,
            }
        }))
        .await;
        // A caller stays with its process: a session is one process's.
        let of = |n: usize| (stores[n % 2], &sessions[n]);
        let mut dice = Dice(0x2545_f491_4f6c_dd1d);
        for round in 0..ROUNDS {
            let amounts: Vec<i64> = (0..CALLERS).map(|_| 1 + dice.roll(1000)).collect();

            // They just fit: none is refused.
            leave(&shop, amounts.iter().sum()).await;
            let all = join_all(amounts.iter().enumerate().map(|(n, amount)| {
                let (store, caller) = of(n);
                caller.reserve(store, *amount)
            }))
            .await;
            let held: Vec<_> = all.into_iter().map(|id| id.unwrap()).collect();
            assert_eq!(shop.tenant_stands().await[2], 0, "round {round}");
            join_all(held.iter().enumerate().map(async |(n, id)| {
                let (store, caller) = of(n);
                match n % 3 {
                    0 => caller.release(store, *id).await.unwrap(),
                    _ => caller.settle(store, *id, amounts[n]).await.unwrap(),
                }
            }))
            .await;

            // As many of the same amount are accepted as fit, and not one more.
            let fit = 1 + dice.roll(CALLERS as i64 - 1);
            leave(&shop, 10 * fit + 9).await;
            let all = join_all((0..CALLERS).map(|n| of(n).1.reserve(of(n).0, 10))).await;
            let mut accepted = 0;
            for (n, outcome) in all.into_iter().enumerate() {
                let (store, caller) = of(n);
                match outcome {
                    Ok(id) => {
                        accepted += 1;
                        caller.settle(store, id, 10).await.unwrap();
                    }
                    Err(StoreError::OverBudget(over)) => {
                        assert_eq!((over.left, over.needed), (money(9), money(10)));
                    }
                    Err(other) => panic!("{other:?}"),
                }
            }
            assert_eq!(accepted, fit, "round {round}");

            // Each reserves, spends some of it or none, and again.
            leave(&shop, 2000).await;
            let limit = shop.acme.budgets().await.unwrap()[0].limit;
            let seeds: Vec<u64> = (0..CALLERS)
                .map(|n| (n as u64 + 1).wrapping_mul(dice.0 | 1))
                .collect();
            join_all(seeds.into_iter().enumerate().map(async |(n, seed)| {
                let (store, caller) = of(n);
                let mut dice = Dice(seed);
                for _ in 0..4 {
                    let amount = 1 + dice.roll(300);
                    match caller.reserve(store, amount).await {
                        Ok(id) if dice.roll(4) == 0 => caller.release(store, id).await.unwrap(),
                        Ok(id) => {
                            let cost = dice.roll(amount + 1);
                            caller.settle(store, id, cost).await.unwrap();
                        }
                        Err(StoreError::OverBudget(over)) => assert!(over.left < money(amount)),
                        Err(other) => panic!("{other:?}"),
                    }
                }
            }))
            .await;
            let [settled, reserved, left] = shop.tenant_stands().await;
            assert!(
                settled <= limit.nanos() && reserved == 0,
                "round {round}: {settled}"
            );
            super::over(shop.reserve_at(&test.store, left + 1, NOON).await);
            let last = shop.reserve_at(&test.store, left, NOON).await;
            shop.release(&test.store, last.unwrap()).await.unwrap();
        }
        shop.adds_up().await;
        elsewhere.close().await;
    })
    .await;
}

/// Two processes that settle and release the same calls at once: each is done once.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_processes_settle_the_same_calls_once() {
    on_both(async |test| {
        let shop = Spending::limited(test, i64::MAX).await;
        let elsewhere = Store::open(&test.config).await.unwrap();
        for _ in 0..4 {
            let mut held = Vec::new();
            for _ in 0..40 {
                held.push(shop.reserve(&test.store, 10).await.unwrap());
            }
            // The second is recovery, which goes by what is in the database.
            let settling = join_all(held.iter().map(|id| shop.settle(&test.store, *id, 3)));
            let releasing = elsewhere.release_abandoned(i64::MAX);
            let (settled, released) = futures::join!(settling, releasing);
            for outcome in settled {
                outcome.unwrap();
            }
            assert!(released.unwrap() <= 40);
        }
        assert_eq!(shop.tenant_stands().await[..2], [4 * 40 * 3, 0]);
        shop.adds_up().await;
        elsewhere.close().await;
    })
    .await;
}
