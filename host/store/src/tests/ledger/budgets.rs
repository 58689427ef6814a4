//! What is counted against which budget, when, and when it begins anew.

use super::{
    DAY, HOUR, NOON, Spending, budget, conflicts, money, outcome, over, scope, spender, unknown,
    usage,
};
use crate::{
    SessionState, StoreError,
    tests::{event, on_both, opening, tenant},
};
use ambit_ledger::{BudgetScope, Day, LedgerOp, Period, Reserve, ScopeKind};
use ambit_types::{Error, ErrorKind, ReservationId, SessionId};

#[tokio::test]
async fn what_is_reserved_is_held_and_what_is_settled_is_spent() {
    on_both(async |store| {
        let shop = Spending::limited(store, 100).await;
        let store = &store.store;
        let first = shop.reserve(store, 60).await.unwrap();
        assert_eq!(shop.tenant_stands().await, [0, 60, 40]);
        let refused = over(shop.reserve(store, 41).await);
        assert_eq!(
            [refused.limit, refused.left, refused.held, refused.needed],
            [100, 40, 60, 41].map(money)
        );
        assert_eq!(
            (refused.scope, refused.period, refused.renews_ms),
            (BudgetScope::tenant(), Period::None, None)
        );
        let second = shop.reserve(store, 40).await.unwrap();
        over(shop.reserve(store, 1).await);
        shop.reserve(store, 0).await.unwrap();
        shop.settle(store, first, 10).await.unwrap();
        assert_eq!(shop.tenant_stands().await, [10, 40, 50]);
        shop.release(store, second).await.unwrap();
        assert_eq!(shop.tenant_stands().await, [10, 0, 90]);
        // More than was reserved is spent all the same.
        let third = shop.reserve(store, 90).await.unwrap();
        shop.settle(store, third, 95).await.unwrap();
        assert_eq!(shop.tenant_stands().await, [105, 0, 0]);
        over(shop.reserve(store, 1).await);
        shop.reserve(store, 0).await.unwrap();
        shop.adds_up().await;
    })
    .await;
}

/// A call that began before there was a budget: it is counted all the same, once.
#[tokio::test]
async fn what_was_spent_without_a_reservation_is_counted_and_never_refused() {
    on_both(async |store| {
        let shop = Spending::limited(store, 100).await;
        let store = &store.store;
        let id = ReservationId::new();
        let spend = |amount: i64| {
            let call = Reserve {
                id,
                amount: money(amount),
                at_ms: NOON,
                spender: spender(),
                tokens: Default::default(),
                above: std::sync::Arc::default(),
            };
            let usage = usage();
            shop.append().ledger([LedgerOp::Spend { call, usage }])
        };
        let journal = store.journal();
        assert!(matches!(
            journal.append(spend(120).event(outcome(119))).await,
            Err(StoreError::Invalid {
                what: "cost of the events",
                ..
            })
        ));
        journal
            .append(spend(120).event(outcome(120)))
            .await
            .unwrap();
        assert_eq!(shop.tenant_stands().await, [120, 0, 0]);
        conflicts(journal.append(spend(1).event(outcome(1))).await);
        conflicts(shop.settle(store, id, 1).await);
        shop.release(store, id).await.unwrap();
        over(shop.reserve(store, 1).await);
        assert_eq!(shop.tenant_stands().await, [120, 0, 0]);
        let costs = shop
            .acme
            .costs(Day::from_ms(NOON), Day::from_ms(NOON), &[])
            .await
            .unwrap();
        assert_eq!((costs[0].calls, costs[0].cost), (1, money(120)));
        shop.adds_up().await;
    })
    .await;
}

#[tokio::test]
async fn what_is_over_budget_is_refused_alone_and_writes_nothing() {
    on_both(async |store| {
        let shop = Spending::limited(store, 100).await;
        let journal = store.store.journal();
        let opened = |amount| {
            let session = SessionId::new();
            let reserve = Reserve {
                id: ReservationId::new(),
                amount: money(amount),
                at_ms: NOON,
                spender: spender(),
                tokens: Default::default(),
                above: std::sync::Arc::default(),
            };
            let append = opening(&shop.acme, session).event(event("intent"));
            (session, append.reserve(reserve).state(SessionState::Open))
        };
        let [(a, small), (b, big), (c, rest)] = [opened(30), opened(71), opened(70)];
        let (_, more) = shop.intent(1, NOON);
        let plain = shop.append().event(event("x"));
        // All of these wait together and share a transaction.
        let (small, big, rest, more, plain) = futures::join!(
            journal.append(small),
            journal.append(big),
            journal.append(rest),
            journal.append(more),
            journal.append(plain),
        );
        assert!(small.is_ok() && rest.is_ok() && plain.is_ok());
        assert_eq!(over(big).left, money(70));
        assert_eq!(over(more).left, money(0));
        assert!(shop.acme.session(a).await.unwrap().is_some());
        assert!(shop.acme.session(c).await.unwrap().is_some());
        assert_eq!(shop.acme.session(b).await.unwrap(), None);
        assert_eq!(shop.acme.events(b, 0, 9).await.unwrap(), []);
        // The session that was not opened can be.
        journal.append(opening(&shop.acme, b)).await.unwrap();
        let events = shop.acme.event_facts(shop.session, 0, 9).await.unwrap();
        assert_eq!(events.len(), 2, "{events:?}");
        assert_eq!(
            shop.acme.verify_chain(shop.session).await.unwrap().events,
            2
        );
        assert_eq!(shop.tenant_stands().await, [0, 100, 0]);
        // Several operations are all done or none.
        let (held, append) = shop.intent(0, NOON);
        journal.append(append).await.unwrap();
        let (_, append) = shop.intent(1, NOON);
        let append = append.settle(held, money(7), usage()).event(outcome(7));
        over(journal.append(append).await);
        shop.settle(&store.store, held, 0).await.unwrap();
        assert_eq!(shop.tenant_stands().await, [0, 100, 0]);
        shop.adds_up().await;
    })
    .await;
}

/// A settlement in the same append makes room first.
#[tokio::test]
async fn operations_of_an_append_follow_their_order() {
    on_both(async |store| {
        let shop = Spending::limited(store, 10).await;
        let held = shop.reserve(&store.store, 10).await.unwrap();
        let (next, append) = shop.intent(8, NOON);
        over(store.store.journal().append(append.clone()).await);
        let mut append = append.settle(held, money(2), usage()).event(outcome(2));
        append.ledger.reverse();
        store.store.journal().append(append).await.unwrap();
        assert_eq!(shop.tenant_stands().await, [2, 8, 0]);
        // One that is reserved and settled at once, as what was computed is.
        let (_, append) = shop.intent(0, NOON);
        let both = Reserve {
            id: ReservationId::new(),
            amount: money(0),
            at_ms: NOON,
            spender: spender(),
            tokens: Default::default(),
            above: std::sync::Arc::default(),
        };
        let id = both.id;
        let append = append.reserve(both).settle(id, money(1), usage());
        let append = append.event(outcome(1));
        store.store.journal().append(append).await.unwrap();
        shop.release(&store.store, next).await.unwrap();
        assert_eq!(shop.tenant_stands().await, [3, 0, 7]);
        shop.adds_up().await;
    })
    .await;
}

#[tokio::test]
async fn every_budget_of_a_call_must_have_enough() {
    on_both(async |store| {
        let shop = Spending::new(store).await;
        let session = shop.session.to_string();
        let scopes = [
            BudgetScope::tenant(),
            scope(ScopeKind::Key, "key_1"),
            scope(ScopeKind::Agent, "assistant"),
            scope(ScopeKind::Session, &session),
        ];
        for scope in &scopes {
            let wide = budget(scope.clone(), Period::Day, 100);
            shop.acme.set_budget(&wide).await.unwrap();
        }
        // Of other keys, agents, sessions, and of a name that is another kind's.
        for other in [
            scope(ScopeKind::Key, "key_2"),
            scope(ScopeKind::Key, "assistant"),
            scope(ScopeKind::Agent, "key_1"),
            scope(ScopeKind::Session, &SessionId::new().to_string()),
        ] {
            let none = budget(other, Period::Day, 0);
            shop.acme.set_budget(&none).await.unwrap();
        }
        for narrow in &scopes {
            let narrowed = budget(narrow.clone(), Period::Month, 5);
            shop.acme.set_budget(&narrowed).await.unwrap();
            let refused = over(shop.reserve(&store.store, 6).await);
            assert_eq!((&refused.scope, refused.period), (narrow, Period::Month));
            assert!(
                shop.acme
                    .remove_budget(narrow, Period::Month)
                    .await
                    .unwrap()
            );
            assert!(
                !shop
                    .acme
                    .remove_budget(narrow, Period::Month)
                    .await
                    .unwrap()
            );
        }
        let id = shop.reserve(&store.store, 6).await.unwrap();
        for scope in &scopes {
            assert_eq!(shop.stands(scope).await, [0, 6, 94]);
        }
        shop.settle(&store.store, id, 4).await.unwrap();
        for scope in &scopes {
            assert_eq!(shop.stands(scope).await, [4, 0, 96]);
        }
        // Of two that have not enough, the one that stays so longer is told.
        for (period, limit) in [(Period::Month, 8), (Period::Day, 7)] {
            let both = budget(BudgetScope::tenant(), period, limit);
            shop.acme.set_budget(&both).await.unwrap();
        }
        let refused = over(shop.reserve(&store.store, 9).await);
        assert_eq!((refused.period, refused.left), (Period::Month, money(8)));
        assert_eq!(shop.acme.budgets().await.unwrap().len(), 9);
        shop.adds_up().await;
    })
    .await;
}

#[tokio::test]
async fn a_budget_for_each_is_everyones_own_unless_he_has_another() {
    on_both(async |store| {
        let shop = Spending::new(store).await;
        let each = budget(scope(ScopeKind::Session, "*"), Period::None, 10);
        shop.acme.set_budget(&each).await.unwrap();
        let own = scope(ScopeKind::Session, &shop.session.to_string());
        shop.reserve(&store.store, 10).await.unwrap();
        assert_eq!(over(shop.reserve(&store.store, 1).await).scope, own);
        let (_, acme) = (0, &shop.acme);
        let second = SessionId::new();
        let journal = store.store.journal();
        journal.append(opening(acme, second)).await.unwrap();
        let other = Spending {
            acme: acme.clone(),
            session: second,
        };
        other.reserve(&store.store, 10).await.unwrap();
        over(other.reserve(&store.store, 1).await);
        // His own takes its place, and what was counted goes on to count.
        let wider = budget(own.clone(), Period::None, 15);
        shop.acme.set_budget(&wider).await.unwrap();
        shop.reserve(&store.store, 5).await.unwrap();
        over(shop.reserve(&store.store, 1).await);
        over(other.reserve(&store.store, 1).await);
        assert_eq!(shop.stands(&own).await, [0, 15, 0]);
        shop.acme.remove_budget(&own, Period::None).await.unwrap();
        over(
            shop.reserve(&store.store, 0)
                .await
                .map(drop)
                .and(shop.reserve(&store.store, 1).await),
        );
        shop.adds_up().await;
    })
    .await;
}

#[tokio::test]
async fn another_tenants_budgets_and_reservations_are_not_there() {
    on_both(async |store| {
        let shop = Spending::limited(store, 10).await;
        let (_, globex) = tenant(store, "globex").await;
        // The same session id, of another tenant.
        let journal = store.store.journal();
        journal
            .append(opening(&globex, shop.session))
            .await
            .unwrap();
        let other = Spending {
            acme: globex,
            session: shop.session,
        };
        let held = shop.reserve(&store.store, 10).await.unwrap();
        unknown(other.settle(&store.store, held, 1).await);
        unknown(other.release(&store.store, held).await);
        other.reserve(&store.store, i64::MAX).await.unwrap();
        assert_eq!(other.acme.budgets().await.unwrap(), []);
        assert_eq!(
            other
                .acme
                .standing(&BudgetScope::tenant(), NOON)
                .await
                .unwrap(),
            []
        );
        assert_eq!(shop.tenant_stands().await, [0, 10, 0]);
        shop.adds_up().await;
        other.adds_up().await;
    })
    .await;
}

#[tokio::test]
async fn a_window_renews_and_a_clock_that_jumps_back_reopens_nothing() {
    on_both(async |store| {
        for (period, length) in [(Period::Day, DAY), (Period::Month, 10 * DAY)] {
            let (_, acme) = tenant(store, &format!("t-{}", period.as_str())).await;
            let session = SessionId::new();
            let journal = store.store.journal();
            journal.append(opening(&acme, session)).await.unwrap();
            let shop = Spending { acme, session };
            let tenant = BudgetScope::tenant();
            let limit = budget(tenant.clone(), period, 10);
            shop.acme.set_budget(&limit).await.unwrap();
            let store = &store.store;
            let spent = shop.reserve_at(store, 6, NOON).await.unwrap();
            shop.settle(store, spent, 6).await.unwrap();
            let late = shop.reserve_at(store, 4, NOON).await.unwrap();
            let refused = over(shop.reserve_at(store, 1, NOON).await);
            let renews = refused.renews_ms.unwrap();
            assert_eq!(renews, period.window(NOON).renews_ms.unwrap());
            over(shop.reserve_at(store, 1, renews - 1).await);
            over(shop.reserve_at(store, 1, NOON - 100 * DAY).await);
            over(shop.reserve_at(store, 1, 0).await);
            // Anew, whole, with what was held before still held there.
            let next = shop.reserve_at(store, 10, renews).await.unwrap();
            over(shop.reserve_at(store, 1, renews + length - 1).await);
            over(shop.reserve_at(store, 1, NOON).await);
            shop.settle(store, late, 4).await.unwrap();
            over(shop.reserve_at(store, 1, renews).await);
            shop.settle(store, next, 9).await.unwrap();
            over(shop.reserve_at(store, 2, NOON).await);
            let last = shop.reserve_at(store, 1, NOON).await.unwrap();
            shop.release(store, last).await.unwrap();
            shop.adds_up().await;
        }
    })
    .await;
}

/// What a budget says of a time, where nothing has been reserved since its window ended.
#[tokio::test]
async fn a_standing_is_that_of_its_time() {
    on_both(async |store| {
        let shop = Spending::new(store).await;
        let limit = budget(BudgetScope::tenant(), Period::Day, 10);
        shop.acme.set_budget(&limit).await.unwrap();
        let before = NOON - 2 * DAY;
        shop.reserve_at(&store.store, 7, before).await.unwrap();
        let stands = async |at_ms| {
            let standing = shop.acme.standing(&BudgetScope::tenant(), at_ms).await;
            let standing = standing.unwrap().remove(0);
            assert_eq!(standing.budget, limit);
            (standing.left.nanos(), standing.renews_ms.unwrap())
        };
        let renews = |at| Period::Day.window(at).renews_ms.unwrap();
        assert_eq!(stands(before).await, (3, renews(before)));
        assert_eq!(stands(NOON).await, (10, renews(NOON)));
        shop.reserve_at(&store.store, 8, NOON).await.unwrap();
        assert_eq!(stands(NOON).await, (2, renews(NOON)));
        assert_eq!(stands(before).await, (2, renews(NOON)));
    })
    .await;
}

#[tokio::test]
async fn nothing_is_settled_or_released_twice() {
    on_both(async |store| {
        let shop = Spending::limited(store, 100).await;
        let store = &store.store;
        let [settled, released] = [
            shop.reserve(store, 10).await.unwrap(),
            shop.reserve(store, 10).await.unwrap(),
        ];
        shop.settle(store, settled, 5).await.unwrap();
        for cost in [5, 9] {
            conflicts(shop.settle(store, settled, cost).await);
        }
        shop.release(store, settled).await.unwrap();
        shop.release(store, released).await.unwrap();
        shop.release(store, released).await.unwrap();
        assert_eq!(shop.tenant_stands().await, [5, 0, 95]);
        // Together in one batch, and in one append.
        let twice = shop.reserve(store, 10).await.unwrap();
        let (a, b) = futures::join!(shop.settle(store, twice, 3), shop.settle(store, twice, 3));
        a.unwrap();
        conflicts(b);
        let thrice = shop.reserve(store, 10).await.unwrap();
        let append = shop.append().events([outcome(1), outcome(1)]);
        let append = append.settle(thrice, money(1), usage());
        conflicts(
            store
                .journal()
                .append(append.settle(thrice, money(1), usage()))
                .await,
        );
        assert_eq!(shop.tenant_stands().await, [8, 10, 82]);
        // Who was given up and spent all the same has spent.
        shop.settle(store, released, 2).await.unwrap();
        conflicts(shop.settle(store, released, 2).await);
        assert_eq!(shop.tenant_stands().await, [10, 10, 80]);
        // The same reservation again; one that never was; one of another session.
        let (_, append) = shop.intent(1, NOON);
        let again = Reserve {
            id: thrice,
            amount: money(1),
            at_ms: NOON,
            spender: spender(),
            tokens: Default::default(),
            above: std::sync::Arc::default(),
        };
        conflicts(store.journal().append(append.reserve(again)).await);
        unknown(shop.settle(store, ReservationId::new(), 1).await);
        unknown(shop.release(store, ReservationId::new()).await);
        let second = SessionId::new();
        let journal = store.journal();
        journal.append(opening(&shop.acme, second)).await.unwrap();
        let other = Spending {
            acme: shop.acme.clone(),
            session: second,
        };
        unknown(other.settle(store, thrice, 1).await);
        unknown(other.release(store, thrice).await);
        assert_eq!(shop.tenant_stands().await, [10, 10, 80]);
        shop.adds_up().await;
    })
    .await;
}

#[tokio::test]
async fn a_client_reads_what_is_left_and_when_it_renews() {
    on_both(async |store| {
        let shop = Spending::new(store).await;
        let now = crate::now_ms();
        let told = async |needed| {
            let refused = shop.reserve_at(&store.store, needed, now).await;
            let error = Error::from(refused.unwrap_err());
            let ErrorKind::InsufficientQuota { retry_after } = *error.kind() else {
                panic!("{error:?}")
            };
            assert_eq!((error.status(), error.code()), (429, "insufficient_quota"));
            (error.message().to_owned(), retry_after.as_secs())
        };
        let endless = budget(BudgetScope::tenant(), Period::None, 1_500_000_000);
        shop.acme.set_budget(&endless).await.unwrap();
        let (message, wait) = told(2_000_000_000).await;
        assert_eq!(
            message,
            "the budget of tenant has 1.5 left of 1.5, calls under way hold 0, and this one may cost 2; it does not renew"
        );
        assert_eq!(wait, 24 * 3600);
        let daily = budget(scope(ScopeKind::Key, "key_1"), Period::Day, 1_000_000_000);
        shop.acme.set_budget(&daily).await.unwrap();
        shop.acme
            .remove_budget(&BudgetScope::tenant(), Period::None)
            .await
            .unwrap();
        let held = shop.reserve_at(&store.store, 600_000_000, now).await.unwrap();
        let (message, wait) = told(500_000_000).await;
        let renews = ambit_ledger::Day::from_ms(now + DAY);
        assert_eq!(
            message,
            format!(
                "the budget of key key_1 has 0.4 left of 1, calls under way hold 0.6, and this one may cost 0.5; it renews at {renews}T00:00:00Z"
            )
        );
        assert_eq!(wait, 1, "what is held may come back");
        shop.settle(&store.store, held, 600_000_000).await.unwrap();
        let (_, wait) = told(500_000_000).await;
        let until = Period::Day.window(now).renews_ms.unwrap() - now;
        assert!(wait.abs_diff(until.unsigned_abs() / 1000) < 60, "{wait} s, {} h", until / HOUR);
    })
    .await;
}
