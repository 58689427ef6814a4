//! What agents of any tenant wait for.

use super::{Admin, Answer, Asked, At, Live, now_ms, one};
use crate::{
    approvals::{self, Which, reason},
    routes::page,
};
use ambit_session::{ApprovalView, Decision};
use ambit_store::{Approval, Asked as Wanted};
use ambit_types::{ApprovalId, Error, ErrorKind, OPERATOR, TenantId, TenantSlug};
use axum::body::Body;
use serde::{Deserialize, Serialize};
use std::{collections::HashMap, sync::Arc};

/// Approvals of one page at most.
const MAX_PAGE: u32 = 100;

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
    // What is asked for may be long: no more of it at a time.
    let limit = page(asked.limit, MAX_PAGE, MAX_PAGE)?;
    let ms = |seconds: i64| seconds.saturating_mul(1000);
    let within = match (asked.from, asked.to) {
        (None, None) => None,
        (from, to) => Some((from.map_or(0, ms), to.map_or(i64::MAX, ms))),
    };
    let wanted = Wanted {
        pending: asked.state == Which::Pending,
        within,
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
    let data = views.into_iter().map(|view| OfTenant {
        tenant: slugs.get(&view.tenant).cloned(),
        view,
    });
    let data = data.collect();
    one(Page { data, has_more })
}

pub(super) async fn show(admin: Admin, At(id): At<ApprovalId>) -> Answer {
    let live = tenant_of(&admin, id).await?;
    let row = admin.0.platform.store.tenant(live.id).approval(id).await?;
    let row = row.ok_or_else(unknown)?;
    shown(&admin, &live, row).await
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
    let live = tenant_of(&admin, id).await?;
    let sessions = &admin.0.sessions;
    let decided = sessions.decide(live.clone(), id, decision).await?;
    shown(&admin, &live, decided).await
}

async fn tenant_of(admin: &Admin, id: ApprovalId) -> Result<Arc<Live>, Error> {
    let operator = admin.0.platform.store.operator();
    let tenant = operator.tenant_of_approval(id).await?;
    let tenant = tenant.ok_or_else(unknown)?;
    admin.0.tenants.by_id(tenant).ok_or_else(|| {
        let why = "its tenant is not served at present: its components cannot be bound";
        Error::new(ErrorKind::Conflict, why)
    })
}

async fn shown(admin: &Admin, live: &Live, row: Approval) -> Answer {
    let views = admin.0.sessions.approvals(vec![row]).await?;
    let (tenant, view) = (Some(live.slug.clone()), approvals::one(views)?);
    one(OfTenant { tenant, view })
}

fn unknown() -> Error {
    Error::not_found("there is no such approval")
}

#[derive(Serialize)]
struct Page {
    data: Vec<OfTenant>,
    has_more: bool,
}

#[derive(Serialize)]
struct OfTenant {
    /// None: it was removed just now.
    tenant: Option<TenantSlug>,
    #[serde(flatten)]
    view: ApprovalView,
}
