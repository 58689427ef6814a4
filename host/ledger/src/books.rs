//! The rules of reserving, settling and releasing, on what a transaction has loaded.

use crate::{Account, Budget, BudgetScope, Money, Period, ScopeKind, Usage};
use ambit_types::{ReservationId, SessionId, TenantId, TokenId};
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

/// Who spends on what: what costs are grouped by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Spender {
    pub agent: Arc<str>,
    /// The public id of the API key. Empty: without one, as with a token of an issuer.
    pub key: Arc<str>,
    pub provider: Arc<str>,
    pub model: Arc<str>,
}

/// What is held back for a call before it is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reserve {
    pub id: ReservationId,
    /// The most the call can cost.
    pub amount: Money,
    /// The time that decides the windows it falls into, and the day it is counted in.
    pub at_ms: i64,
    pub spender: Spender,
    /// The capability token it is made with, and those that was delegated from.
    pub tokens: Arc<[TokenId]>,
    /// The sessions above the one that it is made in: the one that started that, and so on.
    pub above: Arc<[SessionId]>,
}

/// One operation on the ledger, part of an append.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LedgerOp {
    Reserve(Reserve),
    /// A call that nothing was held back for, because no budget was known for it when it began, is over and cost `amount`. It is never
    /// refused: what was spent counts, in every budget there is by now.
    Spend {
        call: Reserve,
        usage: Usage,
    },
    /// The call is over and cost this, whether it came to its end or broke.
    Settle {
        id: ReservationId,
        cost: Money,
        usage: Usage,
    },
    /// The call was not made or cost nothing.
    Release {
        id: ReservationId,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReservationState {
    Reserved,
    Settled,
    Released,
}

/// An account that a reservation counts in, and the window it did so in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Charge {
    pub scope: BudgetScope,
    pub period: Period,
    pub window_ms: i64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reservation {
    pub session: SessionId,
    pub amount: Money,
    pub at_ms: i64,
    pub spender: Spender,
    pub charges: Arc<[Charge]>,
    pub state: ReservationState,
    /// Of a settled one.
    pub cost: Money,
    /// Of a settled one.
    pub usage: Usage,
}

/// A budget that has not enough left.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the budget of {scope} has {left} left")]
pub struct OverBudget {
    pub scope: BudgetScope,
    pub period: Period,
    pub limit: Money,
    /// What may still be reserved.
    pub left: Money,
    /// What calls under way hold; some of it may come back when they settle.
    pub held: Money,
    /// What was to be reserved.
    pub needed: Money,
    /// When its window ends, in milliseconds since 1970. None: it does not renew.
    pub renews_ms: Option<i64>,
}

/// Why an append's operations change nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error(transparent)]
    OverBudget(Box<OverBudget>),
    /// There is no such reservation in the session.
    #[error("there is no such reservation")]
    Unknown,
    /// A reservation with this id exists, or this one is settled already.
    #[error("the reservation is there or settled already")]
    Conflict,
}

pub type AccountKey = (TenantId, BudgetScope, Period);
type ReservationKey = (TenantId, ReservationId);

/// What a row is now and what it was when it was loaded. None: it was not there.
#[derive(Debug)]
struct Entry<T> {
    now: T,
    loaded: Option<T>,
}

/// Accounts and reservations as a transaction has loaded and locked them.
///
/// Whoever loads them brings every budget of a tenant that an operation may fall under ([`Books::add_budget`]), the accounts of those
/// ([`Books::accounts_of`]) and of the charges of reservations that are to be settled or released.
#[derive(Debug, Default)]
pub struct Books {
    budgets: HashMap<AccountKey, Money>,
    accounts: BTreeMap<AccountKey, Entry<Account>>,
    reservations: BTreeMap<ReservationKey, Entry<Reservation>>,
}

impl Books {
    pub fn add_budget(&mut self, tenant: TenantId, budget: Budget) {
        self.budgets
            .insert((tenant, budget.scope, budget.period), budget.limit);
    }

    pub fn add_account(&mut self, key: AccountKey, account: Account) {
        let loaded = Some(account);
        let now = account;
        self.accounts.insert(key, Entry { now, loaded });
    }

    pub fn add_reservation(&mut self, tenant: TenantId, id: ReservationId, row: Reservation) {
        let loaded = Some(row.clone());
        self.reservations
            .insert((tenant, id), Entry { now: row, loaded });
    }

    /// The accounts that a call counts in, with the limits they have.
    pub fn accounts_of(
        &self,
        tenant: TenantId,
        session: SessionId,
        call: &Reserve,
    ) -> Vec<(AccountKey, Money)> {
        let mut accounts = Vec::new();
        if self.budgets.is_empty() {
            return accounts;
        }
        for scope in scopes_of(session, call) {
            let each = scope.each();
            for period in Period::ALL {
                let own = (tenant, scope.clone(), period);
                let limit = self.budgets.get(&own);
                let limit = limit.or_else(|| self.budgets.get(&(tenant, each.clone()?, period)));
                if let Some(limit) = limit {
                    accounts.push((own, *limit));
                }
            }
        }
        accounts
    }

    /// Applies an append's operations in their order, or, when one is refused, none.
    ///
    /// # Errors
    /// Why nothing was changed. Of several budgets that have not enough, the one that renews last.
    pub fn apply(
        &mut self,
        tenant: TenantId,
        session: SessionId,
        ops: &[LedgerOp],
    ) -> Result<(), Refusal> {
        let mut undo = Undo::default();
        for op in ops {
            let done = match op {
                LedgerOp::Reserve(reserve) => self.reserve(tenant, session, reserve, &mut undo),
                LedgerOp::Spend { call, usage } => {
                    let accounts = self.accounts_of(tenant, session, call);
                    self.open(
                        (tenant, call.id),
                        session,
                        call,
                        accounts,
                        Some(*usage),
                        &mut undo,
                    )
                }
                LedgerOp::Settle { id, cost, usage } => {
                    self.settle((tenant, *id), session, *cost, *usage, &mut undo)
                }
                LedgerOp::Release { id } => self.release((tenant, *id), session, &mut undo),
            };
            if let Err(refusal) = done {
                self.undo(undo);
                return Err(refusal);
            }
        }
        Ok(())
    }

    /// Accounts that are no longer as they were loaded, in order.
    pub fn changed_accounts(&self) -> impl Iterator<Item = (&AccountKey, &Account)> {
        let changed = self.accounts.iter();
        changed.filter_map(|(key, entry)| {
            (entry.loaded != Some(entry.now)).then_some((key, &entry.now))
        })
    }

    /// Reservations that are no longer as they were loaded, in order, with what they were.
    pub fn changed_reservations(
        &self,
    ) -> impl Iterator<Item = (TenantId, ReservationId, &Reservation, Option<&Reservation>)> {
        let changed = self.reservations.iter();
        changed.filter_map(|((tenant, id), entry)| {
            let loaded = entry.loaded.as_ref();
            (loaded != Some(&entry.now)).then_some((*tenant, *id, &entry.now, loaded))
        })
    }

    fn reserve(
        &mut self,
        tenant: TenantId,
        session: SessionId,
        reserve: &Reserve,
        undo: &mut Undo,
    ) -> Result<(), Refusal> {
        let accounts = self.accounts_of(tenant, session, reserve);
        let mut over: Option<OverBudget> = None;
        for ((_, scope, period), limit) in &accounts {
            let account = self
                .account(tenant, scope, *period)
                .at(*period, reserve.at_ms);
            let left = account.left(*limit);
            if reserve.amount <= left {
                continue;
            }
            let refused = OverBudget {
                scope: scope.clone(),
                period: *period,
                limit: *limit,
                left,
                held: account.reserved,
                needed: reserve.amount,
                renews_ms: account.renews_ms(*period),
            };
            let end = |over: &OverBudget| over.renews_ms.unwrap_or(i64::MAX);
            if over
                .as_ref()
                .is_none_or(|before| end(before) < end(&refused))
            {
                over = Some(refused);
            }
        }
        if let Some(over) = over {
            return Err(Refusal::OverBudget(Box::new(over)));
        }
        self.open((tenant, reserve.id), session, reserve, accounts, None, undo)
    }

    /// Makes the row of a call, which counts in these accounts: as spent where it is over, else as held back.
    fn open(
        &mut self,
        key: ReservationKey,
        session: SessionId,
        call: &Reserve,
        accounts: Vec<(AccountKey, Money)>,
        over: Option<Usage>,
        undo: &mut Undo,
    ) -> Result<(), Refusal> {
        if self.reservations.contains_key(&key) {
            return Err(Refusal::Conflict);
        }
        let mut charges = Vec::with_capacity(accounts.len());
        for ((tenant, scope, period), _) in accounts {
            let mut account = self.account(tenant, &scope, period).at(period, call.at_ms);
            let counted = match over {
                Some(_) => &mut account.settled,
                None => &mut account.reserved,
            };
            *counted = counted.saturating_add(call.amount);
            charges.push(Charge {
                scope: scope.clone(),
                period,
                window_ms: account.window_ms,
            });
            self.put_account((tenant, scope, period), account, undo);
        }
        let (state, cost) = match over {
            Some(_) => (ReservationState::Settled, call.amount),
            None => (ReservationState::Reserved, Money::ZERO),
        };
        let row = Reservation {
            session,
            amount: call.amount,
            at_ms: call.at_ms,
            spender: call.spender.clone(),
            charges: charges.into(),
            state,
            cost,
            usage: over.unwrap_or_default(),
        };
        self.put_reservation(key, row, undo);
        Ok(())
    }

    /// One that was released counts all the same: it was spent.
    fn settle(
        &mut self,
        key: ReservationKey,
        session: SessionId,
        cost: Money,
        usage: Usage,
        undo: &mut Undo,
    ) -> Result<(), Refusal> {
        let row = self.reservation(key, session)?;
        if row.state == ReservationState::Settled {
            return Err(Refusal::Conflict);
        }
        self.charge(key.0, &row, cost, undo);
        let state = ReservationState::Settled;
        self.put_reservation(
            key,
            Reservation {
                state,
                cost,
                usage,
                ..row
            },
            undo,
        );
        Ok(())
    }

    /// One that is over already stays as it is.
    fn release(
        &mut self,
        key: ReservationKey,
        session: SessionId,
        undo: &mut Undo,
    ) -> Result<(), Refusal> {
        let row = self.reservation(key, session)?;
        if row.state == ReservationState::Reserved {
            self.charge(key.0, &row, Money::ZERO, undo);
            let state = ReservationState::Released;
            self.put_reservation(key, Reservation { state, ..row }, undo);
        }
        Ok(())
    }

    /// Puts what was spent in the place of what was reserved, where that counts still: a window that has ended counts no more.
    fn charge(&mut self, tenant: TenantId, row: &Reservation, cost: Money, undo: &mut Undo) {
        for charge in &*row.charges {
            let mut account = self.account(tenant, &charge.scope, charge.period);
            if account.window_ms != charge.window_ms {
                continue;
            }
            if row.state == ReservationState::Reserved {
                account.reserved = account.reserved.saturating_sub(row.amount);
            }
            account.settled = account.settled.saturating_add(cost);
            self.put_account((tenant, charge.scope.clone(), charge.period), account, undo);
        }
    }

    fn account(&self, tenant: TenantId, scope: &BudgetScope, period: Period) -> Account {
        let entry = self.accounts.get(&(tenant, scope.clone(), period));
        entry.map_or(Account::NEW, |entry| entry.now)
    }

    fn reservation(&self, key: ReservationKey, session: SessionId) -> Result<Reservation, Refusal> {
        let entry = self.reservations.get(&key);
        let row = entry.map(|entry| &entry.now);
        row.filter(|row| row.session == session)
            .cloned()
            .ok_or(Refusal::Unknown)
    }

    fn put_account(&mut self, key: AccountKey, account: Account, undo: &mut Undo) {
        let entry = self.accounts.entry(key.clone()).or_insert(Entry {
            now: Account::NEW,
            loaded: None,
        });
        undo.accounts.push((key, entry.now));
        entry.now = account;
    }

    fn put_reservation(&mut self, key: ReservationKey, row: Reservation, undo: &mut Undo) {
        let before = match self.reservations.get_mut(&key) {
            Some(entry) => Some(std::mem::replace(&mut entry.now, row)),
            None => {
                let (now, loaded) = (row, None);
                self.reservations.insert(key, Entry { now, loaded });
                None
            }
        };
        undo.reservations.push((key, before));
    }

    fn undo(&mut self, undo: Undo) {
        for (key, before) in undo.accounts.into_iter().rev() {
            if let Some(entry) = self.accounts.get_mut(&key) {
                entry.now = before;
            }
        }
        for (key, before) in undo.reservations.into_iter().rev() {
            match before {
                Some(before) => {
                    if let Some(entry) = self.reservations.get_mut(&key) {
                        entry.now = before;
                    }
                }
                None => drop(self.reservations.remove(&key)),
            }
        }
    }
}

/// What the operations of one append have replaced.
#[derive(Default)]
struct Undo {
    accounts: Vec<(AccountKey, Account)>,
    reservations: Vec<(ReservationKey, Option<Reservation>)>,
}

/// Whose budgets a call falls under. An id that no budget can name falls under none.
fn scopes_of(session: SessionId, call: &Reserve) -> impl Iterator<Item = BudgetScope> {
    let sessions = std::iter::once(session).chain(call.above.iter().copied());
    let sessions = sessions.filter_map(|id| BudgetScope::new(ScopeKind::Session, id.to_string()));
    let spender = &call.spender;
    let tokens = call.tokens.iter();
    let tokens = tokens.filter_map(|id| BudgetScope::new(ScopeKind::Token, id.to_string()));
    [
        Some(BudgetScope::tenant()),
        BudgetScope::new(ScopeKind::Key, Arc::clone(&spender.key)),
        BudgetScope::new(ScopeKind::Agent, Arc::clone(&spender.agent)),
    ]
    .into_iter()
    .flatten()
    .chain(sessions)
    .chain(tokens)
}
