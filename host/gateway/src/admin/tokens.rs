//! A tenant's capability tokens, without the tokens.

use super::{Admin, Answer, Asked, At, one, sessions::page};
use ambit_session::revoke_token;
use ambit_types::{Error, TenantSlug, TokenId};
use serde::Deserialize;
use serde_json::json;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Older {
    before: Option<TokenId>,
    limit: Option<u32>,
}

pub(super) async fn list(
    admin: Admin,
    At(slug): At<TenantSlug>,
    Asked(asked): Asked<Older>,
) -> Answer {
    let (_, store) = admin.tenant(&slug).await?;
    let limit = page(asked.limit)?;
    let tokens = store.tokens(asked.before, limit).await?;
    let has_more = tokens.len() == limit as usize;
    one(json!({"data": tokens, "has_more": has_more}))
}

pub(super) async fn revoke(admin: Admin, At((slug, id)): At<(TenantSlug, TokenId)>) -> Answer {
    let (tenant, store) = admin.tenant(&slug).await?;
    let live = admin.0.tenants.by_id(tenant.id);
    let revoked = revoke_token(&store, live.as_deref(), id).await?;
    let unknown = || Error::not_found("there is no such capability token");
    one(revoked.ok_or_else(unknown)?)
}
