//! What proves the journal: anchors, and exports that lead up to them.

use super::{Admin, Answer, Asked, At, listing, one, sessions::page};
use ambit_store::{Note, StoreError};
use ambit_types::{Error, ErrorKind, SessionId, TenantSlug};
use axum::{body::Body, response::IntoResponse as _};
use bytes::Bytes;
use http::header;
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Later {
    after: Option<i64>,
    limit: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Which {
    session: Option<SessionId>,
}

pub(super) async fn list(admin: Admin, Asked(asked): Asked<Later>) -> Answer {
    let (after, limit) = (asked.after.unwrap_or(0), page(asked.limit)?);
    let operator = admin.0.platform.store.operator();
    let notes = operator.anchors(after, limit).await.map_err(Error::from)?;
    listing(notes.iter().map(view))
}

pub(super) async fn make(admin: Admin) -> Answer {
    let made = admin.0.anchors.anchor().await.map_err(Error::from)?;
    let published = admin.0.anchors.publish_soon().await;
    one(json!({"anchored": made.is_some(), "published": published}))
}

/// As of an anchor that is made for it, and published first where the anchor store answers.
pub(super) async fn export(
    admin: Admin,
    At(slug): At<TenantSlug>,
    Asked(asked): Asked<Which>,
) -> Answer {
    let (tenant, _) = admin.tenant(&slug).await?;
    let export = admin.0.anchors.export(tenant.id, asked.session).await;
    let export = export.map_err(|error| match error {
        StoreError::NotFound { .. } => Error::not_found(match asked.session {
            Some(_) => "there is no such session",
            None => "this tenant has no sessions yet",
        }),
        StoreError::Conflict { .. } => Error::new(
            ErrorKind::Conflict,
            "the journal's rows do not lead to its anchor: `ambit audit verify` with the anchors says where",
        ),
        error => error.into(),
    })?;
    // Where it does not answer, the backlog says so.
    admin.0.anchors.publish_soon().await;
    let lines = futures::stream::try_unfold(export, async |mut export| {
        let text = export.next().await?;
        Ok::<_, StoreError>(text.map(|text| (Bytes::from(text), export)))
    });
    let kind = [(header::CONTENT_TYPE, "application/jsonl")];
    Ok((kind, Body::from_stream(lines)).into_response())
}

fn view(note: &Note) -> Value {
    json!({"number": note.number, "note": note.note, "published_ms": note.published_ms})
}
