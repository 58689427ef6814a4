//! Who may do what: the operator's grants, and how tenants narrow them.

use super::{Admin, Answer, At, listing, one, removed};
use ambit_policy::Permissions;
use ambit_runtime::admit;
use ambit_store::{Digest, Grant};
use ambit_types::{ComponentName, Error, TenantSlug};
use axum::body::Body;
use serde_json::{Value, json};

pub(super) async fn list(admin: Admin) -> Answer {
    let grants = admin.0.platform.store.operator().grants().await?;
    listing(grants.iter().map(view))
}

pub(super) async fn show(admin: Admin, At(component): At<ComponentName>) -> Answer {
    let grant = admin.0.platform.store.operator().grant(&component).await?;
    let grant =
        grant.ok_or_else(|| Error::not_found(format!("nothing is granted to `{component}`")))?;
    one(view(&grant))
}

pub(super) async fn set(admin: Admin, At(component): At<ComponentName>, body: Body) -> Answer {
    let (grant, permissions) = read(&admin, component, body).await?;
    let operator = admin.0.platform.store.operator();
    if operator.grant(&grant.component).await?.as_ref() != Some(&grant) {
        operator.put_grant(&grant).await?;
        admin.reload_all().await?;
    }
    let mut answer = view(&grant);
    answer["missing"] = missing(&admin, &grant.component, &permissions).await?;
    one(answer)
}

pub(super) async fn remove(admin: Admin, At(component): At<ComponentName>) -> Answer {
    let was_there = admin
        .0
        .platform
        .store
        .operator()
        .remove_grant(&component)
        .await?;
    admin.reload_all().await?;
    removed(was_there)
}

pub(super) async fn tenant_list(admin: Admin, At(slug): At<TenantSlug>) -> Answer {
    let (_, store) = admin.tenant(&slug).await?;
    listing(store.grants().await?.iter().map(view))
}

pub(super) async fn tenant_set(
    admin: Admin,
    At((slug, component)): At<(TenantSlug, ComponentName)>,
    body: Body,
) -> Answer {
    let (tenant, store) = admin.tenant(&slug).await?;
    let (grant, _) = read(&admin, component, body).await?;
    store.put_grant(&grant).await?;
    admin.reload(tenant.id).await?;
    one(view(&grant))
}

pub(super) async fn tenant_remove(
    admin: Admin,
    At((slug, component)): At<(TenantSlug, ComponentName)>,
) -> Answer {
    let (tenant, store) = admin.tenant(&slug).await?;
    let was_there = store.remove_grant(&component).await?;
    admin.reload(tenant.id).await?;
    removed(was_there)
}

/// The body is the permissions, in the manifest's words. They are kept as this host reads them, not as they were sent.
async fn read(
    admin: &Admin,
    component: ComponentName,
    body: Body,
) -> Result<(Grant, Permissions), Error> {
    let sent: Value = admin.json(body).await?;
    let permissions: Permissions = parse(&sent)?;
    let permissions_json = serde_json::to_value(&permissions).map_err(Error::internal)?;
    Ok((
        Grant {
            component,
            permissions: permissions_json,
            limits: json!({}),
        },
        permissions,
    ))
}

fn parse(sent: &Value) -> Result<Permissions, Error> {
    serde_json::from_value(sent.clone())
        .map_err(|error| Error::invalid("permissions", error.to_string()))
}

/// What installed versions of the component ask for beyond the grant, by digest; empty where nothing is missing.
async fn missing(
    admin: &Admin,
    component: &ComponentName,
    permissions: &Permissions,
) -> Result<Value, Error> {
    let mut missing = Vec::new();
    for installed in admin.0.platform.store.operator().components().await? {
        if installed.name == *component {
            missing.extend(refusals(admin, installed.digest, permissions).await?);
        }
    }
    Ok(missing.into())
}

/// What stands between an installed component and running under these permissions.
pub(super) async fn refusals(
    admin: &Admin,
    digest: Digest,
    permissions: &Permissions,
) -> Result<Option<Value>, Error> {
    let code = admin.0.platform.library.code(digest).await?;
    let Err(error) = admit(&code, permissions) else {
        return Ok(None);
    };
    let refusals: Vec<_> = error.refusals.iter().map(ToString::to_string).collect();
    Ok(Some(json!({"digest": digest, "refusals": refusals})))
}

fn view(grant: &Grant) -> Value {
    json!({"component": grant.component, "permissions": grant.permissions})
}

/// The operator's grant of a component; nothing where there is none.
pub(super) async fn of(admin: &Admin, component: &ComponentName) -> Result<Permissions, Error> {
    match admin.0.platform.store.operator().grant(component).await? {
        Some(grant) => parse(&grant.permissions),
        None => Ok(Permissions::default()),
    }
}
