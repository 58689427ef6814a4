//! Rows of the ledger, and the statements that read and write many of them at once.

use crate::{
    Result, StoreError,
    db::{Row, Statement, Value, json},
    journal::rows::multi_row,
};
use ambit_ledger::{
    Account, Budget, BudgetScope, Charge, Money, Period, Reservation, ReservationState, ScopeKind,
    Spender, Usage,
};
use ambit_types::{ReservationId, TenantId};
use std::{str::FromStr, sync::Arc};

/// How a state is stored.
struct State(ReservationState);

const STATES: [(ReservationState, &str); 3] = [
    (ReservationState::Reserved, "reserved"),
    (ReservationState::Settled, "settled"),
    (ReservationState::Released, "released"),
];

impl FromStr for State {
    type Err = crate::records::UnknownWord;

    fn from_str(text: &str) -> std::result::Result<Self, Self::Err> {
        let state = STATES.into_iter().find(|(_, word)| *word == text);
        state
            .map(|(state, _)| Self(state))
            .ok_or_else(|| crate::records::UnknownWord(text.chars().take(80).collect()))
    }
}

fn word(state: ReservationState) -> &'static str {
    STATES
        .into_iter()
        .find(|(known, _)| *known == state)
        .map_or("", |(_, word)| word)
}

/// Columns `scope, kind, period, cap`.
pub(crate) fn budget_from(row: &Row) -> Result<Budget> {
    Ok(Budget {
        scope: scope_from(row, 0)?,
        period: row.parsed(2)?,
        limit: row.money(3)?,
    })
}

/// Columns `scope, kind, period, window_ms, reserved, settled`.
pub(crate) fn account_from(row: &Row) -> Result<(BudgetScope, Period, Account)> {
    let account = Account {
        window_ms: row.int(3)?,
        reserved: row.money(4)?,
        settled: row.money(5)?,
    };
    Ok((scope_from(row, 0)?, row.parsed(2)?, account))
}

/// Columns `scope, kind`, from there.
fn scope_from(row: &Row, column: usize) -> Result<BudgetScope> {
    let kind = row.parsed(column + 1)?;
    BudgetScope::new(kind, row.text(column)?).ok_or_else(|| row.corrupt(column, "no scope's id"))
}

pub(super) fn account_row(
    tenant: &Arc<str>,
    scope: &BudgetScope,
    period: Period,
    account: &Account,
) -> Vec<Value> {
    vec![
        Value::from(Arc::clone(tenant)),
        Value::from(Arc::clone(scope.id())),
        Value::from(scope.kind().as_str()),
        Value::from(period.as_str()),
        Value::from(account.window_ms),
        Value::from(account.reserved.nanos()),
        Value::from(account.settled.nanos()),
    ]
}

type StoredCharge = (ScopeKind, String, Period, i64);

fn charges_from(row: &Row, column: usize) -> Result<Arc<[Charge]>> {
    let stored: Vec<StoredCharge> = row.json(column)?;
    let charge = |(kind, id, period, window_ms)| {
        let scope = BudgetScope::new(kind, id);
        let scope = scope.ok_or_else(|| row.corrupt(column, "no scope's id"))?;
        Ok(Charge {
            scope,
            period,
            window_ms,
        })
    };
    stored.into_iter().map(charge).collect()
}

/// Columns `amount, charges`.
pub(crate) fn reserved_charges(row: &Row) -> Result<(Money, Arc<[Charge]>)> {
    Ok((row.money(0)?, charges_from(row, 1)?))
}

pub(super) fn reservation_from(row: &Row) -> Result<(ReservationId, Reservation)> {
    let text = |column| row.text(column).map(Arc::from);
    let reservation = Reservation {
        session: row.parsed(1)?,
        amount: row.money(2)?,
        at_ms: row.int(3)?,
        spender: Spender {
            agent: text(4)?,
            key: text(5)?,
            provider: text(6)?,
            model: text(7)?,
        },
        charges: charges_from(row, 8)?,
        state: row.parsed::<State>(9)?.0,
        cost: row.money(10)?,
        usage: Usage {
            input_tokens: row.unsigned(11)?,
            cached_tokens: row.unsigned(12)?,
            output_tokens: row.unsigned(13)?,
            reasoning_tokens: row.unsigned(14)?,
        },
    };
    Ok((row.parsed(0)?, reservation))
}

pub(super) fn reservation_row(
    tenant: TenantId,
    id: ReservationId,
    row: &Reservation,
) -> Result<Vec<Value>> {
    let charges = row.charges.iter().map(|charge| {
        let Charge {
            scope,
            period,
            window_ms,
        } = charge;
        (scope.kind(), scope.id().to_string(), *period, *window_ms)
    });
    let charges: Vec<StoredCharge> = charges.collect();
    let mut values = vec![
        Value::from(tenant.to_string()),
        Value::from(id.to_string()),
        Value::from(row.session.to_string()),
        Value::from(row.amount.nanos()),
        Value::from(row.at_ms),
    ];
    values.extend(named(&row.spender));
    values.push(Value::from(json(&charges)?));
    values.push(Value::from(word(row.state)));
    values.push(Value::from(row.cost.nanos()));
    values.extend(counted(&row.usage));
    Ok(values)
}

fn named(spender: &Spender) -> [Value; 4] {
    let Spender {
        agent,
        key,
        provider,
        model,
    } = spender;
    [agent, key, provider, model].map(|text| Value::from(Arc::clone(text)))
}

/// Counts were checked when they came in.
fn counted(usage: &Usage) -> [Value; 4] {
    let Usage {
        input_tokens,
        cached_tokens,
        output_tokens,
        reasoning_tokens,
    } = *usage;
    [input_tokens, cached_tokens, output_tokens, reasoning_tokens]
        .map(|count| Value::from(i64::try_from(count).unwrap_or(i64::MAX)))
}

/// What one spender's calls of one day added.
#[derive(Default)]
pub(super) struct Spent {
    calls: i64,
    usage: Usage,
    cost: Money,
}

impl Spent {
    pub(super) fn add(&mut self, row: &Reservation) -> Result<()> {
        let Usage {
            input_tokens,
            cached_tokens,
            output_tokens,
            reasoning_tokens,
        } = &mut self.usage;
        *input_tokens = input_tokens.saturating_add(row.usage.input_tokens);
        *cached_tokens = cached_tokens.saturating_add(row.usage.cached_tokens);
        *output_tokens = output_tokens.saturating_add(row.usage.output_tokens);
        *reasoning_tokens = reasoning_tokens.saturating_add(row.usage.reasoning_tokens);
        self.calls += 1;
        self.cost = self.cost.checked_add(row.cost).ok_or(StoreError::Invalid {
            what: "cost",
            why: "is beyond what can be counted",
        })?;
        Ok(())
    }

    pub(super) fn row(&self, tenant: &Arc<str>, day: i64, spender: &Spender) -> Vec<Value> {
        let mut values = vec![Value::from(Arc::clone(tenant)), Value::from(day)];
        values.extend(named(spender));
        values.push(Value::from(self.calls));
        values.extend(counted(&self.usage));
        values.push(Value::from(self.cost.nanos()));
        values.push(Value::from(0_i64));
        values
    }
}

/// The tenant's number comes after those of a list.
macro_rules! budgets_of {
    ($tenant:literal) => {
        concat!(
            " AND kind IN ('tenant', 'key', 'agent', 'session', 'token') AND tenant = ",
            $tenant
        )
    };
}

macro_rules! locked_of {
    ($tenant:literal) => {
        concat!(
            " AND tenant = ",
            $tenant,
            " RETURNING reservation, session, amount, at_ms, agent, key_id, provider, model, charges, state, cost, \
             input_tokens, cached_tokens, output_tokens, reasoning_tokens"
        )
    };
}

const OF_SCOPES: &str = "SELECT scope, kind, period, cap FROM budgets WHERE scope IN ";
const BUDGETS_OF_16: &str = budgets_of!("$17");
const BUDGETS_OF_4: &str = budgets_of!("$5");
const BUDGETS_OF_1: &str = budgets_of!("$2");

/// By the scopes' ids, of any kind: one too many does no harm.
pub(super) const BUDGETS_WANTED: [(usize, Statement); 3] = [
    (
        16,
        multi_row!("BUDGETS_WANTED_16", OF_SCOPES, 16, 1, BUDGETS_OF_16).1,
    ),
    (
        4,
        multi_row!("BUDGETS_WANTED_4", OF_SCOPES, 4, 1, BUDGETS_OF_4).1,
    ),
    (
        1,
        multi_row!("BUDGETS_WANTED_1", OF_SCOPES, 1, 1, BUDGETS_OF_1).1,
    ),
];

/// Whether any session has a budget of its own: ids of sessions sort after `*`.
pub(super) const SESSION_BUDGET: Statement = Statement {
    name: "SESSION_BUDGET",
    sql: "SELECT scope FROM budgets WHERE tenant = $1 AND kind = 'session' AND scope > '*' LIMIT 1",
};

const LOCKED: &str = "UPDATE reservations SET state = state WHERE reservation IN ";
const LOCKED_OF_16: &str = locked_of!("$17");
const LOCKED_OF_4: &str = locked_of!("$5");
const LOCKED_OF_1: &str = locked_of!("$2");

/// A change of nothing locks a row on both databases; they are found, and locked, in the order of the index.
pub(super) const RESERVATION_LOCK: [(usize, Statement); 3] = [
    (
        16,
        multi_row!("RESERVATION_LOCK_16", LOCKED, 16, 1, LOCKED_OF_16).1,
    ),
    (
        4,
        multi_row!("RESERVATION_LOCK_4", LOCKED, 4, 1, LOCKED_OF_4).1,
    ),
    (
        1,
        multi_row!("RESERVATION_LOCK_1", LOCKED, 1, 1, LOCKED_OF_1).1,
    ),
];

const RESERVATIONS: &str = "INSERT INTO reservations (tenant, reservation, session, amount, at_ms, agent, key_id, provider, model, charges, \
    state, cost, input_tokens, cached_tokens, output_tokens, reasoning_tokens) VALUES ";
const NOTHING: &str = "";
const OVER: &str = " ON CONFLICT (tenant, reservation) DO UPDATE SET state = excluded.state, cost = excluded.cost, \
    input_tokens = excluded.input_tokens, cached_tokens = excluded.cached_tokens, output_tokens = excluded.output_tokens, \
    reasoning_tokens = excluded.reasoning_tokens";

pub(super) const RESERVATION_INSERT: [(usize, Statement); 3] = [
    multi_row!("RESERVATION_INSERT_16", RESERVATIONS, 16, 16, NOTHING),
    multi_row!("RESERVATION_INSERT_4", RESERVATIONS, 16, 4, NOTHING),
    multi_row!("RESERVATION_INSERT_1", RESERVATIONS, 16, 1, NOTHING),
];

pub(super) const RESERVATION_PUT: [(usize, Statement); 3] = [
    multi_row!("RESERVATION_PUT_16", RESERVATIONS, 16, 16, OVER),
    multi_row!("RESERVATION_PUT_4", RESERVATIONS, 16, 4, OVER),
    multi_row!("RESERVATION_PUT_1", RESERVATIONS, 16, 1, OVER),
];

const ACCOUNTS: &str =
    "INSERT INTO accounts (tenant, scope, kind, period, window_ms, reserved, settled) VALUES ";
const AS_IT_IS: &str = " ON CONFLICT (tenant, scope, kind, period) DO UPDATE SET reserved = accounts.reserved \
    RETURNING scope, kind, period, window_ms, reserved, settled";
const AS_SAID: &str = " ON CONFLICT (tenant, scope, kind, period) DO UPDATE SET window_ms = excluded.window_ms, \
    reserved = excluded.reserved, settled = excluded.settled";

/// Locks the rows in the order in which they are named; those that are not there are made.
pub(super) const ACCOUNT_LOCK: [(usize, Statement); 3] = [
    multi_row!("ACCOUNT_LOCK_16", ACCOUNTS, 7, 16, AS_IT_IS),
    multi_row!("ACCOUNT_LOCK_4", ACCOUNTS, 7, 4, AS_IT_IS),
    multi_row!("ACCOUNT_LOCK_1", ACCOUNTS, 7, 1, AS_IT_IS),
];

/// What is written was read under the lock: nobody's change is lost.
pub(super) const ACCOUNT_PUT: [(usize, Statement); 3] = [
    multi_row!("ACCOUNT_PUT_16", ACCOUNTS, 7, 16, AS_SAID),
    multi_row!("ACCOUNT_PUT_4", ACCOUNTS, 7, 4, AS_SAID),
    multi_row!("ACCOUNT_PUT_1", ACCOUNTS, 7, 1, AS_SAID),
];

const SPENDING: &str = "INSERT INTO spending (tenant, day, agent, key_id, provider, model, calls, input_tokens, cached_tokens, \
    output_tokens, reasoning_tokens, cost, carried) VALUES ";
const ADDED: &str = " ON CONFLICT (tenant, day, agent, key_id, provider, model) DO UPDATE SET calls = spending.calls + excluded.calls, \
    input_tokens = spending.input_tokens + excluded.input_tokens, cached_tokens = spending.cached_tokens + excluded.cached_tokens, \
    output_tokens = spending.output_tokens + excluded.output_tokens, \
    reasoning_tokens = spending.reasoning_tokens + excluded.reasoning_tokens, cost = spending.cost + excluded.cost";

pub(super) const SPENDING_ADD: [(usize, Statement); 3] = [
    multi_row!("SPENDING_ADD_16", SPENDING, 13, 16, ADDED),
    multi_row!("SPENDING_ADD_4", SPENDING, 13, 4, ADDED),
    multi_row!("SPENDING_ADD_1", SPENDING, 13, 1, ADDED),
];
