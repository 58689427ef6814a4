//! A tenant's agents.

use super::{Admin, Answer, At, listing, one, removed};
use ambit_session::AgentDefinition;
use ambit_store::{Agent, Tenant};
use ambit_types::{AgentName, Error, TenantSlug};
use axum::body::Body;
use serde_json::{Value, json};

pub(super) async fn list(admin: Admin, At(slug): At<TenantSlug>) -> Answer {
    let (tenant, store) = admin.tenant(&slug).await?;
    listing(
        store
            .agents()
            .await?
            .iter()
            .map(|agent| view(&admin, &tenant, agent)),
    )
}

pub(super) async fn show(admin: Admin, At((slug, name)): At<(TenantSlug, AgentName)>) -> Answer {
    let (tenant, store) = admin.tenant(&slug).await?;
    let agent = store
        .agent(&name)
        .await?
        .ok_or_else(|| Error::not_found(format!("there is no agent `{name}`")))?;
    one(view(&admin, &tenant, &agent))
}

/// A definition whose parts cannot be bound yet (a component not installed) is kept all the same: the answer says what is missing.
pub(super) async fn apply(
    admin: Admin,
    At((slug, name)): At<(TenantSlug, AgentName)>,
    body: Body,
) -> Answer {
    let (tenant, store) = admin.tenant(&slug).await?;
    let mut sent: Value = admin.json(body).await?;
    // The path names the agent; repeating it in the definition is allowed, contradicting it is not.
    if sent.get("name").is_none() {
        sent["name"] = name.as_str().into();
    }
    let definition = AgentDefinition::from_json(&sent)?;
    if definition.name != name {
        return Err(Error::invalid("name", "differs from the name in the path").into());
    }
    let stored = serde_json::to_value(&definition).map_err(Error::internal)?;
    let before = store.agent(&name).await?;
    let agent = store.apply_agent(&name, &stored).await?;
    let same = before.is_some_and(|before| before.version == agent.version);
    let bound = admin
        .0
        .tenants
        .by_id(tenant.id)
        .is_some_and(|live| live.agents.contains_key(&name));
    if !(same && bound) {
        admin.reload(tenant.id).await?;
    }
    one(view(&admin, &tenant, &agent))
}

pub(super) async fn remove(admin: Admin, At((slug, name)): At<(TenantSlug, AgentName)>) -> Answer {
    let (tenant, store) = admin.tenant(&slug).await?;
    let was_there = store.remove_agent(&name).await?;
    admin.reload(tenant.id).await?;
    removed(was_there)
}

fn view(admin: &Admin, tenant: &Tenant, agent: &Agent) -> Value {
    let live = admin.0.tenants.by_id(tenant.id);
    let bound = live
        .as_ref()
        .is_some_and(|live| live.agents.contains_key(&agent.name));
    let what = format!("agent {}", agent.name);
    let problem = live
        .as_ref()
        .and_then(|live| live.problems.iter().find(|problem| problem.what == what));
    json!({"name": agent.name, "version": agent.version, "updated_ms": agent.updated_ms, "definition": agent.definition,
        "bound": bound, "problem": problem.map(|problem| &problem.why)})
}
