//! The ledger's rows around [`ambit_ledger::Books`]: loaded and locked, changed in memory, written back, all in the transaction of the
//! appends that ask for it.
//!
//! Locks are taken in one order by whoever writes: tenant by tenant, a tenant's reservations before its accounts, each in order of their
//! keys; then, when everything else is known, its spending. So processes that share a database wait for each other and never in a
//! circle, and what one reads of an account nobody changes before it commits. A batch takes each account once, however many of its
//! appends reserve from it: that, and not a row per call to queue at, is what lets hundreds of callers share one budget.

mod abandoned;
mod costs;
mod rows;

pub use costs::{CostBy, CostFault, CostReport, Costs, Standing};

pub(crate) use abandoned::release as release_abandoned;
pub(crate) use costs::costs_from;
pub(crate) use rows::{account_from, budget_from, reserved_charges};

use crate::{
    Append, Result, StoreError,
    db::{Query, Row, Statement, Tx, Value},
    journal::rows::in_sizes,
};
use ambit_ledger::{
    AccountKey, Books, BudgetScope, LAST_MS, LedgerOp, Money, ReservationState, Reserve, Spender,
    Usage,
};
use ambit_types::{ReservationId, SessionId, TenantId};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// What an append asks of the ledger.
pub(crate) struct Wanted<'a> {
    pub(crate) tenant: TenantId,
    pub(crate) session: SessionId,
    pub(crate) ops: &'a [LedgerOp],
}

/// What of one tenant must be loaded.
#[derive(Default)]
struct OfTenant<'a> {
    /// All but the sessions, of which there are as many as calls and which hardly ever have budgets of their own.
    scopes: BTreeSet<Arc<str>>,
    calls: Vec<(SessionId, &'a Reserve)>,
    /// To be settled or released.
    reservations: BTreeSet<ReservationId>,
}

/// Refuses what cannot be stored before it is in a batch with others, and events whose cost is not what is settled with them: so the
/// journal and the ledger cannot say different sums.
pub(crate) fn check(append: &Append) -> Result<()> {
    let mut settled = Money::ZERO;
    for op in &append.ledger {
        match op {
            LedgerOp::Reserve(call) => check_call(call)?,
            LedgerOp::Spend { call, usage } => {
                check_call(call)?;
                check_usage(usage)?;
                settled = add(settled, call.amount)?;
            }
            LedgerOp::Settle { cost, usage, .. } => {
                check_usage(usage)?;
                settled = add(settled, *cost)?;
            }
            LedgerOp::Release { .. } => {}
        }
    }
    let costs = append.events.iter().filter_map(|event| event.header.cost);
    let told = costs.into_iter().try_fold(Money::ZERO, add)?;
    if told != settled {
        return Err(refused(
            "cost of the events",
            "must be that of the calls settled with them",
        ));
    }
    Ok(())
}

fn check_call(call: &Reserve) -> Result<()> {
    let Spender {
        agent,
        key,
        provider,
        model,
    } = &call.spender;
    if [agent, key, provider, model]
        .into_iter()
        .any(|text| text.len() > 256 || text.contains('\0'))
    {
        return Err(refused(
            "spender",
            "must have names of at most 256 bytes without a NUL character",
        ));
    }
    if !(0..=LAST_MS).contains(&call.at_ms) {
        return Err(refused(
            "time of a reservation",
            "must be in the years 1970 to 9999",
        ));
    }
    Ok(())
}

fn check_usage(usage: &Usage) -> Result<()> {
    let Usage {
        input_tokens,
        cached_tokens,
        output_tokens,
        reasoning_tokens,
    } = usage;
    let counts = [input_tokens, cached_tokens, output_tokens, reasoning_tokens];
    if counts.into_iter().any(|count| *count >= 1 << 53) {
        return Err(refused("usage", "must hold no number beyond 2^53 - 1"));
    }
    Ok(())
}

fn refused(what: &'static str, why: &'static str) -> StoreError {
    StoreError::Invalid { what, why }
}

fn add(a: Money, b: Money) -> Result<Money> {
    a.checked_add(b).ok_or(StoreError::Invalid {
        what: "cost",
        why: "is beyond what can be counted",
    })
}

/// Everything that the operations may touch, locked until the transaction ends.
pub(crate) async fn load(tx: &mut Tx, wanted: impl Iterator<Item = Wanted<'_>>) -> Result<Books> {
    let mut books = Books::default();
    for (tenant, of) in by_tenant(wanted) {
        let name: Arc<str> = tenant.to_string().into();
        tx.enter(&name).await?;
        let mut scopes = of.scopes;
        let query = rows::SESSION_BUDGET.query().bind(Arc::clone(&name));
        if !of.calls.is_empty() && query.optional(tx).await?.is_some() {
            let sessions = of.calls.iter();
            let sessions =
                sessions.flat_map(|(session, call)| [session].into_iter().chain(&*call.above));
            scopes.extend(sessions.map(|session| session.to_string().into()));
        }
        let scopes = scopes.into_iter().map(Value::from);
        for row in among(tx, &rows::BUDGETS_WANTED, &name, scopes).await? {
            books.add_budget(tenant, budget_from(&row)?);
        }
        let ids = of.reservations.into_iter();
        let ids = ids.map(|id| Value::from(id.to_string()));
        let mut accounts = BTreeSet::new();
        for row in among(tx, &rows::RESERVATION_LOCK, &name, ids).await? {
            let (id, reservation) = rows::reservation_from(&row)?;
            let charges = reservation.charges.iter();
            accounts.extend(charges.map(|charge| (charge.scope.clone(), charge.period)));
            books.add_reservation(tenant, id, reservation);
        }
        for (session, call) in of.calls {
            let keys = books.accounts_of(tenant, session, call).into_iter();
            accounts.extend(keys.map(|((_, scope, period), _)| (scope, period)));
        }
        let keys = accounts.into_iter().map(|(scope, period)| {
            rows::account_row(&name, &scope, period, &ambit_ledger::Account::NEW)
        });
        let keys: Vec<_> = keys.collect();
        for row in in_sizes(tx, &rows::ACCOUNT_LOCK, keys.into_iter()).await? {
            let (scope, period, account) = account_from(&row)?;
            let key: AccountKey = (tenant, scope, period);
            books.add_account(key, account);
        }
    }
    Ok(books)
}

/// Runs statements of descending sizes, the last of which is 1, with a list of that many and the tenant after it; what they return.
async fn among(
    tx: &mut Tx,
    sizes: &[(usize, Statement)],
    tenant: &Arc<str>,
    list: impl ExactSizeIterator<Item = Value>,
) -> Result<Vec<Row>> {
    let mut list = list;
    let mut returned = Vec::new();
    for (size, statement) in sizes {
        while list.len() >= *size {
            let values = list.by_ref().take(*size);
            let values = values.chain([Value::from(Arc::clone(tenant))]).collect();
            returned.extend(Query::with_values(*statement, values).all(tx).await?);
        }
    }
    Ok(returned)
}

fn by_tenant<'a>(wanted: impl Iterator<Item = Wanted<'a>>) -> BTreeMap<TenantId, OfTenant<'a>> {
    let mut tenants = BTreeMap::<TenantId, OfTenant<'a>>::new();
    for Wanted {
        tenant,
        session,
        ops,
    } in wanted
    {
        for op in ops {
            let of = tenants.entry(tenant).or_default();
            match op {
                LedgerOp::Reserve(call) | LedgerOp::Spend { call, .. } => {
                    let Spender { agent, key, .. } = &call.spender;
                    let each: Arc<str> = BudgetScope::EACH.into();
                    let ids = ["".into(), each, Arc::clone(agent), Arc::clone(key)];
                    of.scopes.extend(ids);
                    of.scopes
                        .extend(call.tokens.iter().map(|id| Arc::from(id.to_string())));
                    of.calls.push((session, call));
                }
                LedgerOp::Settle { id, .. } | LedgerOp::Release { id } => {
                    of.reservations.insert(*id);
                }
            }
        }
    }
    tenants
}

/// Writes what has changed.
pub(crate) async fn write(tx: &mut Tx, books: &Books) -> Result<()> {
    #[derive(Default)]
    struct Changes {
        accounts: Vec<Vec<Value>>,
        new: Vec<Vec<Value>>,
        over: Vec<Vec<Value>>,
        spent: BTreeMap<(i64, Spender), rows::Spent>,
    }
    let mut tenants = BTreeMap::<TenantId, Changes>::new();
    for ((tenant, scope, period), account) in books.changed_accounts() {
        let row = rows::account_row(&tenant.to_string().into(), scope, *period, account);
        tenants.entry(*tenant).or_default().accounts.push(row);
    }
    for (tenant, id, now, before) in books.changed_reservations() {
        let changes = tenants.entry(tenant).or_default();
        let row = rows::reservation_row(tenant, id, now)?;
        match before {
            None => changes.new.push(row),
            Some(_) => changes.over.push(row),
        }
        if now.state == ReservationState::Settled {
            let day = ambit_ledger::Day::from_ms(now.at_ms).number();
            let spent = changes.spent.entry((day, now.spender.clone())).or_default();
            spent.add(now)?;
        }
    }
    for (tenant, changes) in tenants {
        let name: Arc<str> = tenant.to_string().into();
        tx.enter(&name).await?;
        in_sizes(tx, &rows::RESERVATION_INSERT, changes.new.into_iter())
            .await
            .map_err(|e| crate::operator::conflict(e, "reservation"))?;
        in_sizes(tx, &rows::RESERVATION_PUT, changes.over.into_iter()).await?;
        in_sizes(tx, &rows::ACCOUNT_PUT, changes.accounts.into_iter()).await?;
        let spent = changes.spent.into_iter();
        let spent = spent.map(|((day, spender), spent)| spent.row(&name, day, &spender));
        in_sizes(tx, &rows::SPENDING_ADD, spent).await?;
    }
    Ok(())
}

/// The statements that stay prepared in several sizes.
#[cfg(test)]
pub(crate) fn in_batches() -> impl Iterator<Item = Statement> {
    let families = [
        rows::BUDGETS_WANTED,
        rows::RESERVATION_LOCK,
        rows::RESERVATION_INSERT,
        rows::RESERVATION_PUT,
        rows::ACCOUNT_LOCK,
        rows::ACCOUNT_PUT,
        rows::SPENDING_ADD,
    ];
    let families = families.into_iter().flatten();
    families
        .map(|(_, statement)| statement)
        .chain([rows::SESSION_BUDGET])
}

#[cfg(test)]
pub(crate) use abandoned::ALL;
