//! What agents of any tenant wait for.

use super::{Admin, Answer, Asked, At, now_ms, one, sessions::page};
use crate::approvals::{self, Which, reason};
use ambit_session::Decision;
use ambit_store::Asked as Wanted;
use ambit_types::{ApprovalId, Error, ErrorKind, TenantId, TenantSlug};
use axum::body::Body;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::HashMap;

/// By whom the admin key decides.
const OPERATOR: &str = "operator";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Listed {
    tenant: Option<TenantSlug>,
    #[serde(default)]
    state: Which,
    /// Seconds since the Unix epoch.
    from: Option<i64>,
    to: Option<i64>,
    before: Option<ApprovalId>,
    limit: Option<u32>,
}

pub(super) async fn list(admin: Admin, Asked(asked): Asked<Listed>) -> Answer {
    let limit = page(asked.limit)?;
    let wanted = Wanted {
        pending: asked.state == Which::Pending,
        from_ms: asked.from.unwrap_or(0).saturating_mul(1000),
        to_ms: asked.to.map_or(i64::MAX, |to| to.saturating_mul(1000)),
        before: asked.before,
        limit,
    };
    let store = &admin.0.platform.store;
    let rows = match &asked.tenant {
        Some(slug) => {
            let (_, store) = admin.tenant(slug).await?;
            store.approvals(&wanted, now_ms()).await?
        }
        None => store.operator().approvals(&wanted, now_ms()).await?,
    };
    let has_more = rows.len() == limit as usize;
    let mut slugs = HashMap::<TenantId, TenantSlug>::new();
    for tenant in store.operator().tenants().await? {
        slugs.insert(tenant.id, tenant.slug);
    }
    let views = admin.0.sessions.approvals(rows).await?;
    let views = views.into_iter().map(|view| {
        let slug = slugs.get(&view.tenant);
        let mut shown = serde_json::to_value(&view).map_err(Error::internal)?;
        shown["tenant"] = json!(slug);
        Ok(shown)
    });
    let data: Vec<Value> = views.collect::<Result<_, Error>>()?;
    one(json!({"data": data, "has_more": has_more}))
}

pub(super) async fn approve(admin: Admin, At(id): At<ApprovalId>, body: Body) -> Answer {
    decide(admin, id, body, true).await
}

pub(super) async fn deny(admin: Admin, At(id): At<ApprovalId>, body: Body) -> Answer {
    decide(admin, id, body, false).await
}

async fn decide(admin: Admin, id: ApprovalId, body: Body, approved: bool) -> Answer {
    let read = admin.0.admin_body(body).await?;
    let decision = Decision {
        approved,
        by: OPERATOR.to_owned(),
        reason: reason(&read.bytes)?,
    };
    let operator = admin.0.platform.store.operator();
    let tenant = operator.tenant_of_approval(id).await?;
    let tenant = tenant.ok_or_else(|| Error::not_found("there is no such approval"))?;
    let live = admin.0.tenants.by_id(tenant).ok_or_else(|| {
        let why = "its tenant is not served at present: its components cannot be bound";
        Error::new(ErrorKind::Conflict, why)
    })?;
    let slug = live.slug.clone();
    let sessions = &admin.0.sessions;
    let decided = sessions.decide(live, id, decision).await?;
    let view = approvals::one(sessions.approvals(vec![decided]).await?)?;
    let mut shown = serde_json::to_value(&view).map_err(Error::internal)?;
    shown["tenant"] = json!(slug);
    one(shown)
}
