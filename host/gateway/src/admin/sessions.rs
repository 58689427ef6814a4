//! A tenant's sessions, read from the journal.

use super::{Admin, Answer, Asked, At, one};
use crate::routes;
use ambit_session::{ModelName, Trial};
use ambit_store::{Event, Session, StoreError, TenantStore};
use ambit_types::{Error, ErrorKind, SessionId, TenantSlug};
use axum::body::Body;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;
use serde_json::{Value, json};

const MAX_PAGE: u32 = 1000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Older {
    before: Option<SessionId>,
    limit: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Later {
    after: Option<i64>,
    limit: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Replay {
    model: Option<String>,
    instructions: Option<String>,
}

pub(super) async fn list(
    admin: Admin,
    At(slug): At<TenantSlug>,
    Asked(asked): Asked<Older>,
) -> Answer {
    let (_, store) = admin.tenant(&slug).await?;
    let limit = page(asked.limit)?;
    let sessions = store.sessions(asked.before, limit).await?;
    let has_more = sessions.len() == limit as usize;
    one(json!({"data": sessions, "has_more": has_more}))
}

pub(super) async fn show(admin: Admin, At((slug, id)): At<(TenantSlug, SessionId)>) -> Answer {
    let (_, store) = admin.tenant(&slug).await?;
    let session = find(&store, id).await?;
    let chain = match store.verify_chain(id).await {
        Ok(chain) => json!({"holds": true, "events": chain.events, "head": chain.head}),
        Err(StoreError::BrokenChain { seq, why, .. }) => {
            json!({"holds": false, "event": seq, "why": why})
        }
        Err(error) => return Err(error.into()),
    };
    let mut answer = serde_json::to_value(&session).map_err(Error::internal)?;
    answer["chain"] = chain;
    one(answer)
}

pub(super) async fn events(
    admin: Admin,
    At((slug, id)): At<(TenantSlug, SessionId)>,
    Asked(asked): Asked<Later>,
) -> Answer {
    let (_, store) = admin.tenant(&slug).await?;
    find(&store, id).await?;
    let limit = page(asked.limit)?;
    let events = store.events(id, asked.after.unwrap_or(0), limit).await?;
    let has_more = events.len() == limit as usize;
    one(json!({"data": events.iter().map(view).collect::<Vec<_>>(), "has_more": has_more}))
}

pub(super) async fn replay(
    admin: Admin,
    At((slug, id)): At<(TenantSlug, SessionId)>,
    body: Body,
) -> Answer {
    let (tenant, store) = admin.tenant(&slug).await?;
    let Replay {
        model,
        instructions,
    } = admin.json(body).await?;
    let model = model.map(|model| model.parse::<ModelName>()).transpose();
    let model = model.map_err(|why| Error::invalid("model", why))?;
    let known = find(&store, id).await?;
    let live = admin.0.tenants.by_id(tenant.id);
    let live = live.ok_or_else(|| Error::not_found("this tenant is not served at present"))?;
    let (sessions, context) = (&admin.0.sessions, admin.context(&tenant));
    if model.is_none() && instructions.is_none() {
        return one(sessions.replay(context, &live, &known).await?);
    }
    let trial = Trial {
        model,
        instructions,
    };
    one(sessions.try_again(context, live, &known, trial).await?)
}

pub(super) async fn erase(admin: Admin, At((slug, id)): At<(TenantSlug, SessionId)>) -> Answer {
    let (tenant, _) = admin.tenant(&slug).await?;
    let erased = ambit_session::erase(&admin.0.platform.store, tenant.id, id).await;
    one(erased.map_err(|error| match error {
        StoreError::Conflict { .. } => Error::new(
            ErrorKind::Conflict,
            "the session is not over; its content is erased when it is",
        ),
        error => error.into(),
    })?)
}

pub(super) async fn erase_principal(
    admin: Admin,
    At((slug, principal)): At<(TenantSlug, String)>,
) -> Answer {
    let (tenant, _) = admin.tenant(&slug).await?;
    let store = &admin.0.platform.store;
    one(ambit_session::erase_principal(store, tenant.id, &principal).await?)
}

async fn find(store: &TenantStore, id: SessionId) -> Result<Session, Error> {
    store
        .session(id)
        .await?
        .ok_or_else(|| Error::not_found("there is no such session"))
}

pub(super) fn page(limit: Option<u32>) -> Result<u32, Error> {
    routes::page(limit, 100, MAX_PAGE)
}

/// A body that is JSON is shown as such, any other in base64; one whose key was erased is said to be.
fn view(event: &Event) -> Value {
    let mut view = json!({"seq": event.seq, "schema_version": event.schema_version, "kind": event.kind, "time_ms": event.time_ms,
        "header": event.header, "content_hash": event.content_hash, "previous_hash": event.previous_hash});
    let Some(content) = &event.body else {
        view["erased"] = true.into();
        return view;
    };
    match serde_json::from_slice::<Value>(content) {
        Ok(body) => view["body"] = body,
        Err(_) => view["body_base64"] = STANDARD.encode(content).into(),
    }
    view
}
