//! A tenant's API keys.

use super::{Admin, Answer, At, listing, now_ms, one};
use ambit_capabilities::auth::{AuthSource as _, new_api_key};
use ambit_policy::Permissions;
use ambit_store::{ApiKey, Digest, Tenant, TenantStore};
use ambit_types::{Error, OPERATOR, Scope, TenantSlug};
use axum::body::Body;
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewKey {
    name: String,
    /// None: all.
    scopes: Option<Vec<Scope>>,
    /// Whom it proves; by default a principal of the key's own. Several keys may prove the same one.
    principal: Option<String>,
    /// Seconds since the Unix epoch.
    expires_at: Option<u64>,
    /// What the key narrows every component to, as in a grant. None: it does not narrow.
    permissions: Option<Permissions>,
}

pub(super) async fn list(admin: Admin, At(slug): At<TenantSlug>) -> Answer {
    let (_, store) = admin.tenant(&slug).await?;
    listing(store.keys().await?.iter().map(view))
}

pub(super) async fn create(admin: Admin, At(slug): At<TenantSlug>, body: Body) -> Answer {
    let (tenant, store) = admin.tenant(&slug).await?;
    let new: NewKey = admin.json(body).await?;
    if new.name.is_empty() || new.name.len() > 200 {
        return Err(Error::invalid("name", "expected 1 to 200 bytes").into());
    }
    if new
        .principal
        .as_ref()
        .is_some_and(|principal| principal.is_empty() || principal.len() > 200)
    {
        return Err(Error::invalid("principal", "expected 1 to 200 bytes").into());
    }
    if new.principal.as_deref() == Some(OPERATOR) {
        let why = format!("`{OPERATOR}` is whoever has the admin key; choose another name");
        return Err(Error::invalid("principal", why).into());
    }
    let scopes = new.scopes.unwrap_or_else(|| Scope::USUAL.to_vec());
    let scopes: Vec<_> = scopes
        .iter()
        .map(|scope| scope.as_str().to_owned())
        .collect();
    let (secret, made) = new_api_key(scopes, new.expires_at).map_err(Error::internal)?;
    let credential = secret.expose();
    let key = ApiKey {
        id: made.public_id,
        name: new.name,
        principal: new.principal.unwrap_or(made.principal),
        secret_hash: Digest(made.secret_hash),
        scopes: made.scopes,
        last_four: credential[credential.len().saturating_sub(4)..].to_owned(),
        created_ms: now_ms(),
        expires_ms: made
            .expires_at
            .and_then(|seconds| i64::try_from(seconds).ok()?.checked_mul(1000)),
        revoked_ms: None,
        permissions: new
            .permissions
            .map(|permissions| serde_json::to_value(permissions).map_err(Error::internal))
            .transpose()?,
    };
    store.create_key(&key).await?;
    renew(&admin, &tenant, &store).await?;
    let mut answer = view(&key);
    answer["key"] = credential.into();
    one(answer)
}

pub(super) async fn revoke(admin: Admin, At((slug, id)): At<(TenantSlug, String)>) -> Answer {
    let (tenant, store) = admin.tenant(&slug).await?;
    if store.key(&id).await?.is_none() {
        return Err(Error::not_found("there is no such key").into());
    }
    // False where it was revoked before: then it stays so, and this answers the same.
    store.revoke_key(&id, now_ms()).await?;
    renew(&admin, &tenant, &store).await?;
    let key = store
        .key(&id)
        .await?
        .ok_or_else(|| Error::not_found("there is no such key"))?;
    one(view(&key))
}

/// Makes changed keys or issuers count, whatever else of the tenant may be out of order: first in the authenticator that serves now,
/// then in a new snapshot, which a rebuild begun before the change would otherwise put in place with the old records.
pub(super) async fn renew(
    admin: &Admin,
    tenant: &Tenant,
    store: &TenantStore,
) -> Result<(), Error> {
    if let Some(live) = admin.0.tenants.by_id(tenant.id) {
        live.authenticator
            .replace(store.load().await.map_err(Error::internal)?);
    }
    if let Err(error) = admin.reload(tenant.id).await {
        tracing::warn!(tenant = %tenant.slug, error = &error as &dyn std::error::Error, "a tenant could not be bound again");
    }
    Ok(())
}

/// Everything but the hash of the secret.
fn view(key: &ApiKey) -> Value {
    json!({"id": key.id, "name": key.name, "principal": key.principal, "scopes": key.scopes, "last_four": key.last_four,
        "created_ms": key.created_ms, "expires_ms": key.expires_ms, "revoked_ms": key.revoked_ms, "permissions": key.permissions})
}
