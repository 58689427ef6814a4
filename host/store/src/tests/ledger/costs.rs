//! What was spent, told apart, and compared with the journal.

use super::{DAY, NOON, Spending, budget, event, money, outcome, spender, usage};
use crate::{CostBy, CostFault, Grown, Head, NewAnchor, SessionState, tests::on_both};
use ambit_ledger::{BudgetScope, Day, Period, Reserve, Spender};
use ambit_types::ReservationId;

/// A call that cost this, by this agent and key on this model, so many days after.
async fn call(
    test: &crate::testing::TestStore,
    shop: &Spending,
    [agent, key, model]: [&str; 3],
    day: i64,
    cost: i64,
) {
    let spender = Spender {
        agent: agent.into(),
        key: key.into(),
        model: model.into(),
        ..spender()
    };
    let reserve = Reserve {
        id: ReservationId::new(),
        amount: money(cost + 1),
        at_ms: NOON + day * DAY,
        spender,
        tokens: Default::default(),
        above: std::sync::Arc::default(),
    };
    let id = reserve.id;
    let append = shop.append().event(event("intent")).reserve(reserve);
    test.store.journal().append(append).await.unwrap();
    let append = shop.append().event(outcome(cost));
    let append = append.settle(id, money(cost), usage());
    test.store.journal().append(append).await.unwrap();
}

async fn calls(test: &crate::testing::TestStore, shop: &Spending) {
    for (names, day, cost) in [
        (["a", "k1", "m1"], 0, 1),
        (["a", "k1", "m1"], 0, 2),
        (["a", "k2", "m2"], 0, 4),
        (["b", "", "m1"], 1, 8),
        (["b", "k1", "m2"], 2, 16),
    ] {
        call(test, shop, names, day, cost).await;
    }
}

fn day(n: i64) -> Day {
    Day::from_ms(NOON + n * DAY)
}

#[tokio::test]
async fn costs_are_told_apart_by_what_is_asked() {
    on_both(async |test| {
        let shop = Spending::new(test).await;
        calls(test, &shop).await;
        shop.reserve(&test.store, 1000).await.unwrap();
        let told = async |from, to, by: &[CostBy]| {
            let costs = shop.acme.costs(day(from), day(to), by).await.unwrap();
            let told = costs.into_iter().map(|costs| {
                assert_eq!(costs.usage.input_tokens, costs.calls);
                let model = costs
                    .model
                    .map(|(provider, model)| [provider, model].join("/"));
                let day = costs.day.map(|day| day.to_string());
                let names = [costs.agent, costs.key, model, day].into_iter().flatten();
                (
                    names.collect::<Vec<_>>().join(" "),
                    costs.calls,
                    costs.cost.nanos(),
                )
            });
            told.collect::<Vec<_>>()
        };
        let row = |name: &str, calls, cost| (name.to_owned(), calls, cost);
        assert_eq!(told(0, 2, &[]).await, [row("", 5, 31)]);
        assert_eq!(
            told(0, 2, &[CostBy::Agent]).await,
            [row("a", 3, 7), row("b", 2, 24)]
        );
        assert_eq!(
            told(0, 2, &[CostBy::Key]).await,
            [row("", 1, 8), row("k1", 3, 19), row("k2", 1, 4)]
        );
        assert_eq!(
            told(0, 2, &[CostBy::Model]).await,
            [row("p/m1", 3, 11), row("p/m2", 2, 20)]
        );
        assert_eq!(
            told(0, 2, &[CostBy::Day]).await,
            [
                row("2026-11-21", 3, 7),
                row("2026-11-22", 1, 8),
                row("2026-11-23", 1, 16)
            ]
        );
        assert_eq!(
            told(1, 2, &[CostBy::Agent, CostBy::Day]).await,
            [row("b 2026-11-22", 1, 8), row("b 2026-11-23", 1, 16)]
        );
        assert_eq!(told(3, 9, &[]).await, []);
        assert_eq!(told(2, 0, &[CostBy::Day]).await, []);
        // Of all tenants, for the operator only.
        let (_, globex) = super::tenant(test, "globex").await;
        let session = ambit_types::SessionId::new();
        let append = super::opening(&globex, session);
        test.store.journal().append(append).await.unwrap();
        let other = Spending {
            acme: globex,
            session,
        };
        call(test, &other, ["a", "k1", "m1"], 0, 100).await;
        assert_eq!(told(0, 2, &[]).await, [row("", 5, 31)]);
        let operator = test.store.operator();
        let by = [CostBy::Tenant];
        let all = operator.costs(day(0), day(2), &by).await.unwrap();
        let all: Vec<_> = all.into_iter().map(|row| (row.tenant, row.cost)).collect();
        let mut expected = [
            (Some(shop.acme.id()), money(31)),
            (Some(other.acme.id()), money(100)),
        ];
        expected.sort();
        assert_eq!(all, expected);
        let sum = operator.costs(day(0), day(0), &[]).await.unwrap();
        assert_eq!((sum.len(), sum[0].cost), (1, money(107)));
    })
    .await;
}

#[tokio::test]
async fn the_ledger_and_the_journal_say_the_same_and_a_difference_is_found() {
    on_both(async |test| {
        let shop = Spending::limited(test, 1_000_000).await;
        calls(test, &shop).await;
        shop.reserve(&test.store, 5).await.unwrap();
        let report = shop.acme.verify_costs().await.unwrap();
        assert_eq!((report.sessions, report.cost, report.carried), (1, money(31), money(0)));
        assert_eq!(report.faults, []);
        let session = "UPDATE reservations SET cost = cost + 1 WHERE cost = 16";
        for (sql, undo, expected) in [
            (
                "UPDATE spending SET cost = cost + 3 WHERE day = 20779",
                "UPDATE spending SET cost = cost - 3 WHERE day = 20779",
                "spending of 2026-11-22 by agent `b`, key `` on p/m1 is 3 nano-units above what was settled",
            ),
            (
                "UPDATE spending SET agent = 'c' WHERE agent = 'b' AND day = 20779",
                "UPDATE spending SET agent = 'b' WHERE agent = 'c'",
                "spending of 2026-11-22 by agent `b`, key `` on p/m1 is -8 nano-units above what was settled",
            ),
            (
                session,
                "UPDATE reservations SET cost = 16 WHERE cost = 17",
                "cost 0.000000031 by its journal and 0.000000032 by its reservations",
            ),
            (
                "UPDATE events SET header = replace(header, '\"cost_nanos\":16', '\"cost_nanos\":6')",
                "UPDATE events SET header = replace(header, '\"cost_nanos\":6', '\"cost_nanos\":16')",
                "cost 0.000000021 by its journal and 0.000000031 by its reservations",
            ),
            (
                "UPDATE accounts SET reserved = 4",
                "UPDATE accounts SET reserved = 5",
                "the account of tenant holds 0.000000004 for calls under way, which have reserved 0.000000005",
            ),
        ] {
            test.tamper(sql).await.unwrap();
            let report = shop.acme.verify_costs().await.unwrap();
            let faults: Vec<_> = report.faults.iter().map(CostFault::to_string).collect();
            assert!(faults.iter().any(|fault| fault.contains(expected)), "{sql}: {faults:?}");
            test.tamper(undo).await.unwrap();
            shop.adds_up().await;
        }
        // A session that is gone from the journal and not from the ledger.
        test.tamper("DELETE FROM events; DELETE FROM sessions").await.unwrap();
        let report = shop.acme.verify_costs().await.unwrap();
        assert!(
            matches!(report.faults[..], [CostFault::Session { journal, ledger, .. }] if (journal, ledger) == (money(0), money(31))),
            "{report:?}"
        );
    })
    .await;
}

#[tokio::test]
async fn what_was_spent_stays_when_its_sessions_are_removed() {
    on_both(async |test| {
        let shop = Spending::limited(test, 1000).await;
        let each = budget(
            super::scope(super::ScopeKind::Session, "*"),
            Period::None,
            900,
        );
        shop.acme.set_budget(&each).await.unwrap();
        calls(test, &shop).await;
        let held = shop.reserve(&test.store, 5).await.unwrap();
        let released = shop.reserve(&test.store, 5).await.unwrap();
        shop.release(&test.store, released).await.unwrap();
        let before = shop
            .acme
            .costs(day(0), day(9), &[CostBy::Day])
            .await
            .unwrap();
        let end = shop.append().event(event("end"));
        let end = end.state(SessionState::Finished);
        let ended = test.store.journal().append(end).await.unwrap();
        // An anchor vouches for its day, and the second one's is another.
        let day_of_first = crate::day_of(shop.session).unwrap();
        let head = Head {
            seq: ended.last_seq,
            hash: ended.head,
        };
        let grown = Grown {
            tree: [ended.head].into_iter().collect(),
            leaves: vec![(shop.session, head)],
        };
        let anchor = NewAnchor {
            number: 1,
            time_ms: 0,
            note: String::new(),
            partitions: [((shop.acme.id(), day_of_first), grown)].into(),
            removed: Vec::new(),
        };
        test.store.operator().put_anchor(&anchor).await.unwrap();
        let mut bytes = ambit_types::SessionId::new().to_bytes();
        let later = crate::now_ms() + 5 * DAY;
        bytes[..6].copy_from_slice(&later.to_be_bytes()[2..]);
        let second = ambit_types::SessionId::from_bytes(bytes);
        let append = super::opening(&shop.acme, second);
        test.store.journal().append(append).await.unwrap();
        let kept = Spending {
            acme: shop.acme.clone(),
            session: second,
        };
        call(test, &kept, ["a", "k1", "m1"], 0, 64).await;
        let pruned = test
            .store
            .operator()
            .prune_sessions(crate::now_ms() + 2 * DAY)
            .await;
        assert_eq!(pruned.unwrap(), 1);
        let report = shop.acme.verify_costs().await.unwrap();
        assert_eq!(report.faults, []);
        assert_eq!(
            (report.sessions, report.cost, report.carried),
            (1, money(64), money(31))
        );
        let after = shop
            .acme
            .costs(day(0), day(9), &[CostBy::Day])
            .await
            .unwrap();
        assert_eq!(
            (after.len(), after[1..].to_vec()),
            (3, before[1..].to_vec())
        );
        assert_eq!(after[0].cost, money(7 + 64));
        // What was held was given back, and nothing of it remains.
        assert_eq!(shop.tenant_stands().await, [95, 0, 905]);
        super::unknown(kept.release(&test.store, held).await);
        let gone = super::scope(super::ScopeKind::Session, &shop.session.to_string());
        assert_eq!(shop.stands(&gone).await, [0, 0, 900]);
    })
    .await;
}

/// While calls are made, at any moment.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn verification_is_right_while_calls_are_under_way() {
    on_both(async |test| {
        let shop = Spending::limited(test, i64::MAX).await;
        let each = budget(BudgetScope::tenant(), Period::Day, i64::MAX);
        shop.acme.set_budget(&each).await.unwrap();
        let calling = async {
            for n in 0..150 {
                call(test, &shop, ["a", "k1", "m1"], n % 3, n).await;
            }
        };
        let verifying = async {
            for _ in 0..30 {
                shop.adds_up().await;
            }
        };
        futures::join!(calling, verifying);
        let report = shop.acme.verify_costs().await.unwrap();
        assert_eq!((report.faults, report.cost), (vec![], money(149 * 75)));
    })
    .await;
}
