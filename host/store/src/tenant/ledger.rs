//! What a tenant may spend and has spent. Reserving and settling are the journal's: [`crate::Append::reserve`].

use super::TenantStore;
use crate::{
    CostBy, CostFault, CostReport, Costs, EpochKind, Header, Result, Standing,
    db::{Tx, statements},
    ledger::{account_from, budget_from, costs_from, reserved_charges},
};
use ambit_ledger::{Account, Budget, BudgetScope, Day, Money, Period};
use ambit_types::SessionId;
use std::collections::BTreeMap;

/// Sessions that are verified in one snapshot.
const SESSIONS: i64 = 64;
/// Events read at once.
const EVENTS: i64 = 1024;

impl TenantStore {
    /// Puts a budget in place of an earlier one for the same scope and period. What was counted in its window goes on to count; a new one
    /// counts from here on.
    ///
    /// # Errors
    /// [`crate::StoreError::NotFound`] when the tenant is gone.
    pub async fn set_budget(&self, budget: &Budget) -> Result<()> {
        let query = self
            .query(BUDGET_PUT)
            .bind(budget.scope.id().to_string())
            .bind(budget.scope.kind().as_str())
            .bind(budget.period.as_str())
            .bind(budget.limit.nanos());
        self.change(query, EpochKind::Budgets).await.map(drop)
    }

    /// False when there is none.
    pub async fn remove_budget(&self, scope: &BudgetScope, period: Period) -> Result<bool> {
        let query = self
            .query(BUDGET_DELETE)
            .bind(scope.id().to_string())
            .bind(scope.kind().as_str())
            .bind(period.as_str());
        self.change(query, EpochKind::Budgets).await
    }

    /// All, the tenant's own first.
    pub async fn budgets(&self) -> Result<Vec<Budget>> {
        let rows = self.query(BUDGET_LIST).all(&mut self.read().await?).await?;
        rows.iter().map(budget_from).collect()
    }

    /// Where the budgets that a scope falls under stand at a time: its own, and those for each of its kind that it has none of its own instead of.
    pub async fn standing(&self, scope: &BudgetScope, at_ms: i64) -> Result<Vec<Standing>> {
        let mut tx = self.read().await?;
        let (id, kind) = (scope.id().to_string(), scope.kind().as_str());
        let query = self.query(BUDGETS_OF).bind(id.clone());
        let query = query.bind(BudgetScope::EACH).bind(kind);
        // Its own last, so that they take the place of those for each.
        let mut budgets: Vec<_> = {
            let rows = query.all(&mut tx).await?;
            rows.iter().map(budget_from).collect::<Result<_>>()?
        };
        budgets.sort_by_key(|budget| budget.scope == *scope);
        let limits: BTreeMap<_, _> = budgets
            .into_iter()
            .map(|budget| (budget.period, budget))
            .collect();
        let query = self.query(ACCOUNTS_OF).bind(id).bind(kind);
        let mut accounts = BTreeMap::new();
        for row in query.all(&mut tx).await? {
            let (_, period, account) = account_from(&row)?;
            accounts.insert(period, account);
        }
        let standing = |(period, budget): (Period, Budget)| {
            let account = accounts.get(&period).copied().unwrap_or(Account::NEW);
            let account = account.at(period, at_ms);
            Standing {
                settled: account.settled,
                reserved: account.reserved,
                left: account.left(budget.limit),
                renews_ms: account.renews_ms(period),
                budget,
            }
        };
        Ok(limits.into_iter().map(standing).collect())
    }

    /// What was spent from one day to another, both included, told apart by `by`; in order of those, the day last.
    pub async fn costs(&self, from: Day, to: Day, by: &[CostBy]) -> Result<Vec<Costs>> {
        let mut query = self.query(COSTS).bind(from.number()).bind(to.number());
        for column in [CostBy::Agent, CostBy::Key, CostBy::Model, CostBy::Day] {
            query = query.bind(i64::from(by.contains(&column)));
        }
        let rows = query.all(&mut self.read().await?).await?;
        rows.iter().map(|row| costs_from(row, by)).collect()
    }

    /// Compares the ledger with the journal: what each session's events say it cost with what its reservations were settled at, the sums
    /// of spending with the reservations, and what accounts hold with what is reserved. Right while calls are under way: each part is
    /// read at one time, and is written in one transaction.
    ///
    /// # Errors
    /// Those of the database, and [`crate::StoreError::Corrupt`] for what cannot be read at all.
    pub async fn verify_costs(&self) -> Result<CostReport> {
        let mut report = CostReport::default();
        let mut after = String::new();
        while let Some(last) = self.verify_sessions(&after, &mut report).await? {
            after = last;
        }
        let mut tx = self.read().await?;
        for row in self.query(SETTLED_ORPHANS).all(&mut tx).await? {
            report.faults.push(CostFault::Session {
                session: row.parsed(0)?,
                journal: Money::ZERO,
                ledger: row.money(1)?,
            });
        }
        drop(tx);
        let mut tx = self.read().await?;
        for row in self.query(SPENDING_DIFFERS).all(&mut tx).await? {
            let day = row.int(0)?;
            report.faults.push(CostFault::Spending {
                day: Day::from_number(day).ok_or_else(|| row.corrupt(0, "no day"))?,
                agent: row.text(1)?,
                key: row.text(2)?,
                provider: row.text(3)?,
                model: row.text(4)?,
                nanos: row.int(5)?,
            });
        }
        if let Some(row) = self.query(CARRIED).optional(&mut tx).await? {
            report.carried = row.money(0)?;
        }
        drop(tx);
        self.verify_accounts(&mut report).await?;
        Ok(report)
    }

    /// The next sessions after one, and the last of them.
    async fn verify_sessions(
        &self,
        after: &str,
        report: &mut CostReport,
    ) -> Result<Option<String>> {
        let mut tx = self.read().await?;
        let query = self.query(SESSIONS_AFTER).bind(after).bind(SESSIONS);
        let sessions = query.all(&mut tx).await?;
        let Some(last) = sessions.last().map(|row| row.text(0)).transpose()? else {
            return Ok(None);
        };
        report.sessions += sessions.len() as u64;
        // By the journal, and by the ledger.
        let mut costs = BTreeMap::<SessionId, [Money; 2]>::new();
        self.costs_of_events(&mut tx, after, &last, &mut costs)
            .await?;
        let query = self.query(SETTLED_OF_SESSIONS).bind(after).bind(&last);
        for row in query.all(&mut tx).await? {
            costs.entry(row.parsed(0)?).or_default()[1] = row.money(1)?;
        }
        for (session, [journal, ledger]) in costs {
            report.cost = report.cost.saturating_add(journal);
            if journal != ledger {
                report.faults.push(CostFault::Session {
                    session,
                    journal,
                    ledger,
                });
            }
        }
        Ok(Some(last))
    }

    async fn costs_of_events(
        &self,
        tx: &mut Tx,
        after: &str,
        last: &str,
        costs: &mut BTreeMap<SessionId, [Money; 2]>,
    ) -> Result<()> {
        let mut place = (after.to_owned(), i64::MAX);
        loop {
            let query = self.query(COST_EVENTS).bind(&place.0).bind(place.1);
            let rows = query.bind(last).bind(EVENTS).all(tx).await?;
            for row in &rows {
                let header: Header = row.json(2)?;
                if let Some(cost) = header.cost {
                    let [journal, _] = costs.entry(row.parsed(0)?).or_default();
                    *journal = journal.saturating_add(cost);
                }
                place = (row.text(0)?, row.int(1)?);
            }
            if (rows.len() as i64) < EVENTS {
                return Ok(());
            }
        }
    }

    async fn verify_accounts(&self, report: &mut CostReport) -> Result<()> {
        let mut tx = self.read().await?;
        let mut accounts = BTreeMap::new();
        for row in self.query(ACCOUNT_LIST).all(&mut tx).await? {
            let (scope, period, account) = account_from(&row)?;
            accounts.insert((scope, period), (account, Money::ZERO));
        }
        for row in self.query(RESERVATIONS_OUTSTANDING).all(&mut tx).await? {
            let (amount, charges) = reserved_charges(&row)?;
            for charge in &*charges {
                let key = (charge.scope.clone(), charge.period);
                let (account, reserved) =
                    accounts.entry(key).or_insert((Account::NEW, Money::ZERO));
                if account.window_ms == charge.window_ms {
                    *reserved = reserved.saturating_add(amount);
                }
            }
        }
        for ((scope, period), (account, reservations)) in accounts {
            if account.reserved != reservations {
                report.faults.push(CostFault::Reserved {
                    scope,
                    period,
                    account: account.reserved,
                    reservations,
                });
            }
        }
        Ok(())
    }
}

statements! {
    BUDGET_PUT = "INSERT INTO budgets (tenant, scope, kind, period, cap) VALUES ($1, $2, $3, $4, $5) \
        ON CONFLICT (tenant, scope, kind, period) DO UPDATE SET cap = excluded.cap";
    BUDGET_DELETE = "DELETE FROM budgets WHERE tenant = $1 AND scope = $2 AND kind = $3 AND period = $4";
    BUDGET_LIST = "SELECT scope, kind, period, cap FROM budgets WHERE tenant = $1 ORDER BY scope, kind, period";
    BUDGETS_OF = "SELECT scope, kind, period, cap FROM budgets WHERE tenant = $1 AND scope IN ($2, $3) AND kind = $4";
    ACCOUNTS_OF = "SELECT scope, kind, period, window_ms, reserved, settled FROM accounts WHERE tenant = $1 AND scope = $2 AND kind = $3";
    ACCOUNT_LIST = "SELECT scope, kind, period, window_ms, reserved, settled FROM accounts WHERE tenant = $1";
    RESERVATIONS_OUTSTANDING = "SELECT amount, charges FROM reservations WHERE tenant = $1 AND state = 'reserved'";
    SESSIONS_AFTER = "SELECT session FROM sessions WHERE tenant = $1 AND session > $2 ORDER BY session LIMIT $3";
    COST_EVENTS = "SELECT session, seq, header FROM events WHERE tenant = $1 AND (session, seq) > ($2, $3) AND session <= $4 \
        AND header LIKE '%\"cost_nanos\"%' ORDER BY session, seq LIMIT $5";
    SETTLED_OF_SESSIONS = "SELECT session, CAST(SUM(cost) AS BIGINT) FROM reservations \
        WHERE tenant = $1 AND session > $2 AND session <= $3 AND state = 'settled' GROUP BY session";
    SETTLED_ORPHANS = "SELECT r.session, CAST(SUM(r.cost) AS BIGINT) FROM reservations r WHERE r.tenant = $1 AND r.state = 'settled' \
        AND NOT EXISTS (SELECT 1 FROM sessions s WHERE s.tenant = r.tenant AND s.session = r.session) GROUP BY r.session";
    SPENDING_DIFFERS = "SELECT day, agent, key_id, provider, model, CAST(SUM(cost) AS BIGINT) FROM ( \
            SELECT day, agent, key_id, provider, model, cost - carried AS cost FROM spending WHERE tenant = $1 \
            UNION ALL SELECT at_ms / 86400000, agent, key_id, provider, model, -cost FROM reservations WHERE tenant = $1 AND state = 'settled' \
        ) AS both_sides GROUP BY day, agent, key_id, provider, model HAVING SUM(cost) <> 0 ORDER BY day, agent, key_id, provider, model";
    CARRIED = "SELECT CAST(COALESCE(SUM(carried), 0) AS BIGINT) FROM spending WHERE tenant = $1";
    COSTS = "SELECT tenant, CASE WHEN CAST($4 AS BIGINT) = 1 THEN agent ELSE '' END, \
            CASE WHEN CAST($5 AS BIGINT) = 1 THEN key_id ELSE '' END, \
            CASE WHEN CAST($6 AS BIGINT) = 1 THEN provider ELSE '' END, CASE WHEN CAST($6 AS BIGINT) = 1 THEN model ELSE '' END, \
            CASE WHEN CAST($7 AS BIGINT) = 1 THEN day ELSE 0 END, CAST(SUM(calls) AS BIGINT), \
            CAST(SUM(input_tokens) AS BIGINT), CAST(SUM(cached_tokens) AS BIGINT), CAST(SUM(output_tokens) AS BIGINT), \
            CAST(SUM(reasoning_tokens) AS BIGINT), CAST(SUM(cost) AS BIGINT) \
        FROM spending WHERE tenant = $1 AND day >= $2 AND day <= $3 \
        GROUP BY 1, 2, 3, 4, 5, 6 ORDER BY 1, 2, 3, 4, 5, 6";
}
