//! The ledger: budgets, concurrency, recovery, costs.

mod budgets;
mod concurrency;
mod costs;
mod hostile;
mod recovery;
mod tokens;
mod walk;

use super::{event, opening, tenant};
use crate::{Append, Header, NewEvent, Result, Store, StoreError, TenantStore, testing::TestStore};
use ambit_ledger::{
    Budget, BudgetScope, Money, OverBudget, Period, Reserve, ScopeKind, Spender, Usage,
};
use ambit_types::{ReservationId, SessionId};

const HOUR: i64 = 3600 * 1000;
const DAY: i64 = 24 * HOUR;
/// Noon of 2026-11-21.
const NOON: i64 = 20_778 * DAY + 12 * HOUR;

fn money(nanos: i64) -> Money {
    Money::from_nanos(nanos).unwrap()
}

fn spender() -> Spender {
    let [agent, key, provider, model] = ["assistant", "key_1", "p", "m"].map(Into::into);
    Spender {
        agent,
        key,
        provider,
        model,
    }
}

fn scope(kind: ScopeKind, id: &str) -> BudgetScope {
    BudgetScope::new(kind, id).unwrap()
}

fn budget(scope: BudgetScope, period: Period, limit: i64) -> Budget {
    Budget {
        scope,
        period,
        limit: money(limit),
    }
}

/// Of what a call of one token each way used.
fn usage() -> Usage {
    Usage {
        input_tokens: 1,
        output_tokens: 1,
        ..Usage::default()
    }
}

fn outcome(cost: i64) -> NewEvent {
    let header = Header {
        usage: Some(usage()),
        cost: Some(money(cost)),
        ..Header::default()
    };
    NewEvent::new("outcome", header, b"said".to_vec())
}

/// Tenant `acme` with an open session.
struct Spending {
    acme: TenantStore,
    session: SessionId,
}

impl Spending {
    async fn new(store: &TestStore) -> Self {
        let (_, acme) = tenant(store, "acme").await;
        let session = SessionId::new();
        let append = opening(&acme, session);
        store.store.journal().append(append).await.unwrap();
        Self { acme, session }
    }

    async fn limited(store: &TestStore, limit: i64) -> Self {
        let this = Self::new(store).await;
        let limit = budget(BudgetScope::tenant(), Period::None, limit);
        this.acme.set_budget(&limit).await.unwrap();
        this
    }

    fn append(&self) -> Append {
        Append::new(self.acme.id(), self.session)
    }

    fn intent(&self, amount: i64, at_ms: i64) -> (ReservationId, Append) {
        let id = ReservationId::new();
        let reserve = Reserve {
            id,
            amount: money(amount),
            at_ms,
            spender: spender(),
            tokens: Default::default(),
            above: std::sync::Arc::default(),
        };
        (id, self.append().event(event("intent")).reserve(reserve))
    }

    async fn reserve(&self, store: &Store, amount: i64) -> Result<ReservationId> {
        self.reserve_at(store, amount, NOON).await
    }

    async fn reserve_at(&self, store: &Store, amount: i64, at: i64) -> Result<ReservationId> {
        let (id, append) = self.intent(amount, at);
        store.journal().append(append).await.map(|_| id)
    }

    async fn settle(&self, store: &Store, id: ReservationId, cost: i64) -> Result<()> {
        let append = self.append().event(outcome(cost));
        let append = append.settle(id, money(cost), usage());
        store.journal().append(append).await.map(drop)
    }

    async fn release(&self, store: &Store, id: ReservationId) -> Result<()> {
        let append = self.append().event(event("outcome")).release(id);
        store.journal().append(append).await.map(drop)
    }

    /// Settled, reserved and left of the one budget of a scope.
    async fn stands(&self, scope: &BudgetScope) -> [i64; 3] {
        let standing = self.acme.standing(scope, NOON).await.unwrap();
        assert_eq!(standing.len(), 1, "{standing:?}");
        [standing[0].settled, standing[0].reserved, standing[0].left].map(Money::nanos)
    }

    async fn tenant_stands(&self) -> [i64; 3] {
        self.stands(&BudgetScope::tenant()).await
    }

    async fn adds_up(&self) {
        let report = self.acme.verify_costs().await.unwrap();
        assert_eq!(report.faults, [], "{report:?}");
    }
}

#[track_caller]
fn over<T: std::fmt::Debug>(outcome: Result<T>) -> OverBudget {
    match outcome {
        Err(StoreError::OverBudget(over)) => *over,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn conflicts<T: std::fmt::Debug>(outcome: Result<T>) {
    let conflict = StoreError::Conflict {
        what: "reservation",
    };
    assert_eq!(outcome.unwrap_err().to_string(), conflict.to_string());
}

#[track_caller]
fn unknown<T: std::fmt::Debug>(outcome: Result<T>) {
    let unknown = StoreError::NotFound {
        what: "reservation",
    };
    assert_eq!(outcome.unwrap_err().to_string(), unknown.to_string());
}
