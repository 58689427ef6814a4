//! Capability tokens: what is noted of them, and what may be spent with one and those that descend from it.

use super::{DAY, HOUR, NOON, Spending, money, outcome, over, spender, usage};
use crate::{
    EpochKind, StoreError, TokenRecord,
    tests::{on_both, tenant},
};
use ambit_ledger::{BudgetScope, Reserve, ScopeKind};
use ambit_types::{ReservationId, TokenId};
use std::sync::Arc;

fn record(parent: Option<TokenId>, expires_ms: i64) -> TokenRecord {
    TokenRecord {
        id: TokenId::new(),
        parent,
        principal: "key:1".into(),
        key: Some("1".into()),
        agent: None,
        session: None,
        created_ms: NOON,
        expires_ms,
        revoked_ms: None,
    }
}

#[tokio::test]
async fn what_is_spent_with_a_token_counts_for_all_it_descends_from() {
    on_both(async |store| {
        let shop = Spending::new(store).await;
        let store = &store.store;
        let parent = record(None, NOON + HOUR);
        let children = [
            record(Some(parent.id), NOON + HOUR),
            record(Some(parent.id), NOON + HOUR),
        ];
        shop.acme
            .create_token(&parent, Some(money(100)))
            .await
            .unwrap();
        shop.acme
            .create_token(&children[0], Some(money(60)))
            .await
            .unwrap();
        // This one asks for no less than its parent has.
        shop.acme.create_token(&children[1], None).await.unwrap();
        let reserve = async |child: usize, amount: i64| {
            let id = ReservationId::new();
            let reserve = Reserve {
                id,
                amount: money(amount),
                at_ms: NOON,
                spender: spender(),
                tokens: Arc::from([children[child].id, parent.id]),
                above: std::sync::Arc::default(),
            };
            let append = shop.append().event(super::event("intent")).reserve(reserve);
            store.journal().append(append).await.map(|_| id)
        };
        let of =
            |token: &TokenRecord| BudgetScope::new(ScopeKind::Token, token.id.to_string()).unwrap();
        assert_eq!(over(reserve(0, 61).await).scope, of(&children[0]));
        let first = reserve(0, 60).await.unwrap();
        assert_eq!(over(reserve(1, 41).await).scope, of(&parent));
        reserve(1, 40).await.unwrap();
        let settle = shop
            .append()
            .event(outcome(10))
            .settle(first, money(10), usage());
        store.journal().append(settle).await.unwrap();
        assert_eq!(shop.stands(&of(&parent)).await, [10, 40, 50]);
        assert_eq!(shop.stands(&of(&children[0])).await, [10, 0, 50]);
        shop.adds_up().await;
    })
    .await;
}

#[tokio::test]
async fn a_token_is_noted_once_listed_and_revoked_for_good() {
    on_both(async |store| {
        let (_, acme) = tenant(store, "acme").await;
        let (_, globex) = tenant(store, "globex").await;
        let first = record(None, NOON + HOUR);
        let second = record(Some(first.id), NOON + 2 * HOUR);
        for token in [&first, &second] {
            acme.create_token(token, None).await.unwrap();
        }
        assert!(matches!(
            acme.create_token(&first, None).await,
            Err(StoreError::Conflict { what: "token" })
        ));
        assert_eq!(
            acme.tokens(None, 9).await.unwrap(),
            [second.clone(), first.clone()]
        );
        assert_eq!(
            acme.tokens(Some(second.id), 9).await.unwrap(),
            std::slice::from_ref(&first)
        );
        assert_eq!(globex.tokens(None, 9).await.unwrap(), []);
        assert_eq!(globex.token(first.id).await.unwrap(), None);
        assert!(!globex.revoke_token(first.id, NOON).await.unwrap());
        let keys = async || {
            let epochs = acme.epochs().await.unwrap();
            epochs
                .iter()
                .find(|epoch| epoch.kind == EpochKind::Keys)
                .map(|epoch| epoch.value)
        };
        let before = keys().await;
        assert!(acme.revoke_token(first.id, NOON).await.unwrap());
        assert!(keys().await > before, "other nodes have to hear of it");
        assert!(!acme.revoke_token(first.id, NOON + 1).await.unwrap());
        let revoked = acme.token(first.id).await.unwrap().unwrap();
        assert_eq!(revoked.revoked_ms, Some(NOON));
        assert_eq!(
            acme.revoked_tokens(NOON).await.unwrap(),
            [(first.id, NOON + HOUR)]
        );
        assert_eq!(acme.revoked_tokens(NOON + HOUR).await.unwrap(), []);
        assert_eq!(globex.revoked_tokens(NOON).await.unwrap(), []);
    })
    .await;
}

#[tokio::test]
async fn expired_tokens_are_forgotten_with_their_budgets() {
    on_both(async |store| {
        let (_, acme) = tenant(store, "acme").await;
        let (gone, kept) = (record(None, NOON), record(None, NOON + 2 * DAY));
        for token in [&gone, &kept] {
            acme.create_token(token, Some(money(1))).await.unwrap();
        }
        store
            .store
            .operator()
            .prune_sessions(NOON + DAY)
            .await
            .unwrap();
        assert_eq!(
            acme.tokens(None, 9).await.unwrap(),
            std::slice::from_ref(&kept)
        );
        let budgets = acme.budgets().await.unwrap();
        let ids: Vec<_> = budgets
            .iter()
            .map(|budget| budget.scope.id().to_string())
            .collect();
        assert_eq!(ids, [kept.id.to_string()]);
    })
    .await;
}
