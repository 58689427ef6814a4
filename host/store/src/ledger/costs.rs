//! What was spent, as it is asked for, and what does not add up.

use crate::{Result, db::Row};
use ambit_ledger::{Budget, BudgetScope, Day, Money, Period, Usage};
use ambit_types::{SessionId, TenantId};

/// What costs are told apart by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CostBy {
    Tenant,
    Agent,
    Key,
    /// Of a provider.
    Model,
    Day,
}

/// What some calls cost together. What they were not told apart by is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Costs {
    pub tenant: Option<TenantId>,
    pub agent: Option<String>,
    /// The public id of the API key; empty for calls without one.
    pub key: Option<String>,
    /// Provider and model.
    pub model: Option<(String, String)>,
    /// On which they were reserved.
    pub day: Option<Day>,
    pub calls: u64,
    pub usage: Usage,
    pub cost: Money,
}

/// Columns `tenant, agent, key_id, provider, model, day, calls, input_tokens, cached_tokens, output_tokens, reasoning_tokens, cost`,
/// grouped by those that `by` names.
pub(crate) fn costs_from(row: &Row, by: &[CostBy]) -> Result<Costs> {
    let is_by = |what| by.contains(&what);
    let day = row.int(5)?;
    let day = Day::from_number(day).ok_or_else(|| row.corrupt(5, "no day"))?;
    Ok(Costs {
        tenant: is_by(CostBy::Tenant).then(|| row.parsed(0)).transpose()?,
        agent: is_by(CostBy::Agent).then(|| row.text(1)).transpose()?,
        key: is_by(CostBy::Key).then(|| row.text(2)).transpose()?,
        model: match is_by(CostBy::Model) {
            true => Some((row.text(3)?, row.text(4)?)),
            false => None,
        },
        day: is_by(CostBy::Day).then_some(day),
        calls: row.unsigned(6)?,
        usage: Usage {
            input_tokens: row.unsigned(7)?,
            cached_tokens: row.unsigned(8)?,
            output_tokens: row.unsigned(9)?,
            reasoning_tokens: row.unsigned(10)?,
        },
        cost: row.money(11)?,
    })
}

/// Where a budget stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    pub budget: Budget,
    /// Spent in the current window.
    pub settled: Money,
    /// Held by calls under way.
    pub reserved: Money,
    pub left: Money,
    /// When the window ends, in milliseconds since 1970. None: it does not renew.
    pub renews_ms: Option<i64>,
}

/// A tenant's ledger compared with its journal.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CostReport {
    /// Sessions in the journal.
    pub sessions: u64,
    /// What their events say they cost.
    pub cost: Money,
    /// What the ledger has of sessions that are removed from the journal.
    pub carried: Money,
    /// Nothing, when everything adds up.
    pub faults: Vec<CostFault>,
}

/// Two readings that should agree and do not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CostFault {
    #[error("session {session} cost {journal} by its journal and {ledger} by its reservations")]
    Session {
        session: SessionId,
        journal: Money,
        ledger: Money,
    },
    #[error(
        "spending of {day} by agent `{agent}`, key `{key}` on {provider}/{model} is {nanos} nano-units above what was settled"
    )]
    Spending {
        day: Day,
        agent: String,
        key: String,
        provider: String,
        model: String,
        /// Negative: below it.
        nanos: i64,
    },
    #[error(
        "the account of {scope} holds {account} for calls under way, which have reserved {reservations}"
    )]
    Reserved {
        scope: BudgetScope,
        period: Period,
        account: Money,
        reservations: Money,
    },
}
