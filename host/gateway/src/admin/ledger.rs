//! Budgets, and what was spent. Amounts are decimal texts: no reader takes them for floats.

use super::{Admin, Answer, Asked, At, listing, now_ms, one, removed};
use ambit_ledger::{Budget, BudgetScope, Day, Money, Period, ScopeKind};
use ambit_store::{CostBy, CostReport, Costs, Standing};
use ambit_types::{Error, ErrorKind, TenantId, TenantSlug};
use axum::body::Body;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::collections::HashMap;

/// Days that costs are told of where nobody says which.
const DAYS: i64 = 30;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewBudget {
    scope: ScopeKind,
    id: Option<String>,
    period: Period,
    limit: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Which {
    scope: ScopeKind,
    id: Option<String>,
    period: Period,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Span {
    from: Option<String>,
    to: Option<String>,
    by: Option<String>,
}

pub(super) async fn budgets(admin: Admin, At(slug): At<TenantSlug>) -> Answer {
    let (_, store) = admin.tenant(&slug).await?;
    let mut views = Vec::new();
    for budget in store.budgets().await? {
        // One that stands for each key, agent or session has no account of its own.
        let standing = if &**budget.scope.id() == BudgetScope::EACH {
            None
        } else {
            let all = store.standing(&budget.scope, now_ms()).await?;
            all.into_iter().find(|one| one.budget == budget)
        };
        views.push(view(&budget, standing.as_ref()));
    }
    listing(views)
}

pub(super) async fn set_budget(admin: Admin, At(slug): At<TenantSlug>, body: Body) -> Answer {
    let (tenant, store) = admin.tenant(&slug).await?;
    let new: NewBudget = admin.json(body).await?;
    if new.scope == ScopeKind::Token {
        let message = "a capability token's budget is set when it is made";
        return Err(Error::invalid("scope", message).into());
    }
    let budget = Budget {
        scope: scope(new.scope, new.id)?,
        period: new.period,
        limit: new
            .limit
            .parse::<Money>()
            .map_err(|error| Error::invalid("limit", error.to_string()))?,
    };
    store.set_budget(&budget).await?;
    // Whatever else of the tenant may be out of order.
    admin.0.tenants.renew_budgets(tenant.id).await?;
    let all = store.standing(&budget.scope, now_ms()).await?;
    let standing = all.into_iter().find(|one| one.budget == budget);
    one(view(&budget, standing.as_ref()))
}

pub(super) async fn remove_budget(
    admin: Admin,
    At(slug): At<TenantSlug>,
    Asked(which): Asked<Which>,
) -> Answer {
    let (tenant, store) = admin.tenant(&slug).await?;
    let scope = scope(which.scope, which.id)?;
    let was_there = store.remove_budget(&scope, which.period).await?;
    admin.0.tenants.renew_budgets(tenant.id).await?;
    removed(was_there)
}

pub(super) async fn tenant_costs(
    admin: Admin,
    At(slug): At<TenantSlug>,
    Asked(span): Asked<Span>,
) -> Answer {
    let (_, store) = admin.tenant(&slug).await?;
    let (from, to, by) = span.read(&[CostBy::Agent, CostBy::Key, CostBy::Model, CostBy::Day])?;
    let costs = store.costs(from, to, &by).await?;
    listing(costs.iter().map(|costs| spent(costs, &HashMap::new())))
}

pub(super) async fn costs(admin: Admin, Asked(span): Asked<Span>) -> Answer {
    let (from, to, by) = span.read(&ALL)?;
    let operator = admin.0.platform.store.operator();
    let costs = operator.costs(from, to, &by).await.map_err(Error::from)?;
    let tenants = operator.tenants().await.map_err(Error::from)?;
    let names: HashMap<TenantId, TenantSlug> = tenants
        .into_iter()
        .map(|tenant| (tenant.id, tenant.slug))
        .collect();
    listing(costs.iter().map(|costs| spent(costs, &names)))
}

pub(super) async fn check(admin: Admin, At(slug): At<TenantSlug>) -> Answer {
    let (_, store) = admin.tenant(&slug).await?;
    let CostReport {
        sessions,
        cost,
        carried,
        faults,
    } = store.verify_costs().await?;
    let faults: Vec<_> = faults.iter().map(ToString::to_string).collect();
    one(json!({
        "holds": faults.is_empty(), "sessions": sessions, "cost": cost.to_string(), "removed": carried.to_string(), "faults": faults,
    }))
}

const ALL: [CostBy; 5] = [
    CostBy::Tenant,
    CostBy::Agent,
    CostBy::Key,
    CostBy::Model,
    CostBy::Day,
];

fn word(by: CostBy) -> &'static str {
    match by {
        CostBy::Tenant => "tenant",
        CostBy::Agent => "agent",
        CostBy::Key => "key",
        CostBy::Model => "model",
        CostBy::Day => "day",
    }
}

impl Span {
    fn read(self, allowed: &[CostBy]) -> Result<(Day, Day, Vec<CostBy>), Error> {
        let day = |param, text: Option<String>| {
            let parsed = text.map(|text| text.parse::<Day>()).transpose();
            parsed.map_err(|error| Error::invalid(param, error.to_string()))
        };
        let to = day("to", self.to)?.unwrap_or(Day::from_ms(now_ms()));
        let from = day("from", self.from)?;
        let first = Day::from_number((to.number() - DAYS + 1).max(0)).unwrap_or(to);
        let mut by = Vec::new();
        for name in self.by.iter().flat_map(|by| by.split(',')) {
            let found = allowed.iter().find(|by| word(**by) == name);
            let found = found.ok_or_else(|| {
                let words: Vec<_> = allowed.iter().map(|by| word(*by)).collect();
                Error::invalid("by", format!("`{name}` is none of {}", words.join(", ")))
            })?;
            by.push(*found);
        }
        Ok((from.unwrap_or(first), to, by))
    }
}

fn scope(kind: ScopeKind, id: Option<String>) -> Result<BudgetScope, Error> {
    let id = id.unwrap_or_default();
    BudgetScope::new(kind, id).ok_or_else(|| {
        let message = match kind {
            ScopeKind::Tenant => "the tenant's own budget has no `id`".to_owned(),
            _ => format!(
                "`id` must name the {}, in 1 to 256 bytes, or be `*` for each",
                kind.as_str()
            ),
        };
        let param = Some("id".to_owned());
        Error::new(ErrorKind::Invalid { param }, message)
    })
}

fn view(budget: &Budget, standing: Option<&Standing>) -> Value {
    let mut view = json!({
        "scope": budget.scope.kind(), "id": &**budget.scope.id(), "period": budget.period, "limit": budget.limit.to_string(),
    });
    if let Some(standing) = standing {
        view["spent"] = standing.settled.to_string().into();
        view["held"] = standing.reserved.to_string().into();
        view["left"] = standing.left.to_string().into();
        view["renews"] = standing
            .renews_ms
            .map(|at| Day::from_ms(at).to_string())
            .into();
    }
    view
}

fn spent(costs: &Costs, names: &HashMap<TenantId, TenantSlug>) -> Value {
    let mut view = Map::new();
    if let Some(tenant) = &costs.tenant {
        let name = names.get(tenant).map(ToString::to_string);
        // One that is gone is still told apart.
        view.insert(
            "tenant".into(),
            name.unwrap_or_else(|| tenant.to_string()).into(),
        );
    }
    if let Some(agent) = &costs.agent {
        view.insert("agent".into(), agent.as_str().into());
    }
    if let Some(key) = &costs.key {
        view.insert("key".into(), key.as_str().into());
    }
    if let Some((provider, model)) = &costs.model {
        view.insert("model".into(), format!("{provider}/{model}").into());
    }
    if let Some(day) = costs.day {
        view.insert("day".into(), day.to_string().into());
    }
    let usage = &costs.usage;
    let counts = [
        ("calls", costs.calls),
        ("input_tokens", usage.input_tokens),
        ("cached_tokens", usage.cached_tokens),
        ("output_tokens", usage.output_tokens),
        ("reasoning_tokens", usage.reasoning_tokens),
    ];
    view.extend(counts.map(|(name, count)| (name.to_owned(), count.into())));
    view.insert("cost".into(), costs.cost.to_string().into());
    view.into()
}
