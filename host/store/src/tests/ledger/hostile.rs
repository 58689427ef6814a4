//! Values that somebody hostile chose, and rows that somebody else wrote.

use super::{NOON, Spending, budget, event, money, outcome, over, scope, spender, usage};
use crate::{Header, NewEvent, StoreError, tests::on_both};
use ambit_ledger::{
    BudgetScope, LAST_MS, LedgerOp, Money, Period, Reserve, ScopeKind, Spender, Usage,
};
use ambit_types::ReservationId;

#[tokio::test]
async fn what_cannot_be_stored_is_refused_before_the_queue() {
    on_both(async |test| {
        let shop = Spending::limited(test, 100).await;
        let journal = test.store.journal();
        let refused = async |append, expected: &str| {
            match journal.append(append).await {
                Err(StoreError::Invalid { what, .. }) => assert_eq!(what, expected),
                other => panic!("{other:?}"),
            };
        };
        let long = "x".repeat(257);
        for name in ["a\0", &long] {
            for n in 0..4 {
                let mut bad = spender();
                let Spender {
                    agent,
                    key,
                    provider,
                    model,
                } = &mut bad;
                *[agent, key, provider, model][n] = name.into();
                let (id, at_ms) = (ReservationId::new(), NOON);
                let reserve = Reserve {
                    id,
                    amount: money(1),
                    at_ms,
                    spender: bad,
                    tokens: Default::default(),
                    above: std::sync::Arc::default(),
                };
                refused(shop.append().event(event("x")).reserve(reserve), "spender").await;
            }
        }
        for at_ms in [-1, i64::MIN, LAST_MS + 1, i64::MAX] {
            refused(shop.intent(1, at_ms).1, "time of a reservation").await;
        }
        let held = shop.reserve(&test.store, 10).await.unwrap();
        let settle = |cost: i64| shop.append().settle(held, money(cost), usage());
        for append in [
            settle(1).event(event("x")),
            settle(1).event(outcome(2)),
            settle(1).events([outcome(1), outcome(1)]),
            shop.append().event(outcome(1)),
            shop.append().event(outcome(1)).release(held),
        ] {
            refused(append, "cost of the events").await;
        }
        for append in [
            settle(i64::MAX).settle(held, money(1), usage()),
            shop.append().events([outcome(i64::MAX), outcome(1)]),
        ] {
            refused(append.event(event("x")), "cost").await;
        }
        for (spender, usage, expected) in [
            (
                Spender {
                    agent: "a\0".into(),
                    ..spender()
                },
                usage(),
                "spender",
            ),
            (
                spender(),
                Usage {
                    input_tokens: 1 << 53,
                    ..usage()
                },
                "usage",
            ),
        ] {
            let call = Reserve {
                id: ReservationId::new(),
                amount: money(1),
                at_ms: NOON,
                spender,
                tokens: Default::default(),
                above: std::sync::Arc::default(),
            };
            let append = shop.append().ledger([LedgerOp::Spend { call, usage }]);
            refused(append.event(outcome(1)), expected).await;
        }
        // JSON would not carry it exactly.
        refused(settle(1 << 53).event(outcome(1 << 53)), "header").await;
        for n in 0..4 {
            let mut usage = Usage::default();
            let Usage {
                input_tokens,
                cached_tokens,
                output_tokens,
                reasoning_tokens,
            } = &mut usage;
            *[input_tokens, cached_tokens, output_tokens, reasoning_tokens][n] = 1 << 53;
            let append = shop.append().settle(held, money(1), usage);
            refused(append.event(outcome(1)), "usage").await;
        }
        assert_eq!(shop.tenant_stands().await, [0, 10, 90]);
        // The largest that can be.
        let largest = (1 << 53) - 1;
        let all = Usage {
            input_tokens: largest,
            cached_tokens: largest,
            output_tokens: largest,
            reasoning_tokens: largest,
        };
        let cost = money(largest.cast_signed());
        let header = Header {
            usage: Some(all),
            cost: Some(cost),
            ..Header::default()
        };
        let append = shop
            .append()
            .event(NewEvent::new("outcome", header, vec![]));
        journal
            .append(append.settle(held, cost, all))
            .await
            .unwrap();
        shop.adds_up().await;
    })
    .await;
}

#[tokio::test]
async fn the_largest_amounts_neither_wrap_nor_pass() {
    on_both(async |test| {
        let shop = Spending::limited(test, i64::MAX).await;
        let store = &test.store;
        let all = shop.reserve(store, i64::MAX).await.unwrap();
        for amount in [1, i64::MAX] {
            assert_eq!(over(shop.reserve(store, amount).await).left, Money::ZERO);
        }
        shop.release(store, all).await.unwrap();
        shop.reserve(store, i64::MAX - 1).await.unwrap();
        assert_eq!(over(shop.reserve(store, i64::MAX).await).left, money(1));
        shop.reserve(store, 1).await.unwrap();
        over(shop.reserve(store, 1).await);
        // Without a budget nothing is counted, so nothing can overflow.
        shop.acme
            .remove_budget(&BudgetScope::tenant(), Period::None)
            .await
            .unwrap();
        for _ in 0..3 {
            shop.reserve(store, i64::MAX).await.unwrap();
        }
        // Sums of costs that no number holds fail alone.
        let cost = (1 << 53) - 1;
        for _ in 0..3 {
            let id = shop.reserve(store, 1).await.unwrap();
            shop.settle(store, id, cost).await.unwrap();
        }
        test.tamper("UPDATE spending SET cost = 9223372036854775807")
            .await
            .unwrap();
        let id = shop.reserve(store, 1).await.unwrap();
        let innocent = shop.append().event(event("x"));
        let (settled, innocent) = futures::join!(
            shop.settle(store, id, cost),
            store.journal().append(innocent)
        );
        assert!(
            settled.is_err() && innocent.is_ok(),
            "{settled:?} {innocent:?}"
        );
    })
    .await;
}

#[tokio::test]
async fn a_budget_of_nothing_lets_only_what_is_free_pass() {
    on_both(async |test| {
        let shop = Spending::limited(test, 0).await;
        let free = shop.reserve(&test.store, 0).await.unwrap();
        over(shop.reserve(&test.store, 1).await);
        shop.settle(&test.store, free, 0).await.unwrap();
        assert_eq!(shop.tenant_stands().await, [0, 0, 0]);
        shop.adds_up().await;
    })
    .await;
}

#[tokio::test]
async fn names_are_values_and_unknown_ones_count_nothing() {
    on_both(async |test| {
        let shop = Spending::new(test).await;
        let names = [
            "'; DROP TABLE budgets; --",
            "$1",
            "?",
            "%_",
            "*",
            "\u{10ffff}",
            "[]",
        ];
        for name in names {
            let none = budget(scope(ScopeKind::Key, name), Period::Month, 0);
            if name != "*" {
                shop.acme.set_budget(&none).await.unwrap();
            }
            let mut spender = spender();
            spender.key = name.into();
            spender.model = name.into();
            let (id, at_ms) = (ReservationId::new(), NOON);
            let reserve = Reserve {
                id,
                amount: money(1),
                at_ms,
                spender,
                tokens: Default::default(),
                above: std::sync::Arc::default(),
            };
            let append = shop.append().event(event("x")).reserve(reserve);
            let outcome = test.store.journal().append(append).await;
            assert_eq!(outcome.is_err(), name != "*", "{name}");
        }
        shop.reserve(&test.store, 1).await.unwrap();
        assert_eq!(shop.acme.budgets().await.unwrap().len(), names.len() - 1);
        // A tenant that is not there.
        let nobody = test.store.tenant(ambit_types::TenantId::new());
        let limit = budget(BudgetScope::tenant(), Period::Day, 1);
        let outcome = nobody.set_budget(&limit).await;
        assert!(
            matches!(outcome, Err(StoreError::NotFound { .. })),
            "{outcome:?}"
        );
        shop.adds_up().await;
    })
    .await;
}

#[tokio::test]
async fn unreadable_rows_are_typed_errors_and_spend_nothing() {
    on_both(async |test| {
        let shop = Spending::limited(test, 100).await;
        let held = shop.reserve(&test.store, 10).await.unwrap();
        for (sql, undo) in [
            (
                "UPDATE budgets SET cap = -1",
                "UPDATE budgets SET cap = 100",
            ),
            (
                "UPDATE budgets SET period = 'week'",
                "UPDATE budgets SET period = 'none'",
            ),
            (
                "UPDATE accounts SET settled = -1",
                "UPDATE accounts SET settled = 0",
            ),
            (
                "UPDATE accounts SET reserved = -5",
                "UPDATE accounts SET reserved = 10",
            ),
        ] {
            test.tamper(sql).await.unwrap();
            let outcome = shop.reserve(&test.store, 1).await;
            assert!(
                matches!(outcome, Err(StoreError::Corrupt { .. })),
                "{sql}: {outcome:?}"
            );
            let seen = ambit_types::Error::from(outcome.unwrap_err());
            assert_eq!(seen.status(), 500);
            let read = shop.acme.standing(&BudgetScope::tenant(), NOON).await;
            assert!(read.is_err(), "{sql}");
            test.tamper(undo).await.unwrap();
        }
        for (sql, undo) in [
            (
                "UPDATE reservations SET state = 'lost'",
                "UPDATE reservations SET state = 'reserved'",
            ),
            (
                "UPDATE reservations SET amount = -1",
                "UPDATE reservations SET amount = 10",
            ),
            ("UPDATE reservations SET session = 'x'", ""),
        ] {
            test.tamper(sql).await.unwrap();
            let outcome = shop.settle(&test.store, held, 1).await;
            assert!(
                matches!(outcome, Err(StoreError::Corrupt { .. })),
                "{sql}: {outcome:?}"
            );
            test.tamper(undo).await.unwrap();
        }
        let held = shop.reserve(&test.store, 10).await.unwrap();
        for charges in [
            "UPDATE reservations SET charges = '{'",
            "UPDATE reservations SET charges = '[[\"tenant\",\"x\",\"none\",0]]'",
            "UPDATE reservations SET charges = '[[\"tenant\",\"\",\"none\",0.5]]'",
        ] {
            test.tamper(charges).await.unwrap();
            let outcome = shop.release(&test.store, held).await;
            assert!(
                matches!(outcome, Err(StoreError::Corrupt { .. })),
                "{charges}: {outcome:?}"
            );
        }
        assert_eq!(shop.tenant_stands().await, [0, 20, 80]);
    })
    .await;
}
