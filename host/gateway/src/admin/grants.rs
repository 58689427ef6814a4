//! Who may do what: the operator's grants, and how tenants narrow them.

use super::{Admin, Answer, At, listing, one, removed};
use ambit_policy::{Ceiling, Grant, Manifest, Permissions};
use ambit_runtime::admit;
use ambit_store::{Component, Digest, Grant as Row};
use ambit_types::{ComponentName, Error, TenantSlug};
use axum::body::Body;
use serde::Deserialize as _;
use serde_json::{Value, json};

pub(super) async fn list(admin: Admin) -> Answer {
    let grants = admin.0.platform.store.operator().grants().await?;
    let installed = Installed::read(&admin).await?;
    listing(views(&grants, |grant| installed.under(Some(grant), None))?)
}

pub(super) async fn show(admin: Admin, At(component): At<ComponentName>) -> Answer {
    let grant = admin.0.platform.store.operator().grant(&component).await?;
    let grant =
        grant.ok_or_else(|| Error::not_found(format!("nothing is granted to `{component}`")))?;
    let installed = Installed::read(&admin).await?;
    one(view(&grant, installed.under(Some(&grant), None)?))
}

pub(super) async fn set(admin: Admin, At(component): At<ComponentName>, body: Body) -> Answer {
    let (row, grant) = read(&admin, component, body).await?;
    let operator = admin.0.platform.store.operator();
    if operator.grant(&row.component).await?.as_ref() != Some(&row) {
        operator.put_grant(&row).await?;
        admin.reload_all().await?;
    }
    let installed = Installed::read(&admin).await?;
    let mut answer = view(&row, installed.under(Some(&row), None)?);
    answer["missing"] = missing(&admin, &row.component, &grant.permissions).await?;
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
    let grants = store.grants().await?;
    let of_operator = admin.0.platform.store.operator().grants().await?;
    let installed = Installed::read(&admin).await?;
    listing(views(&grants, |grant| {
        let above = of_operator
            .iter()
            .find(|above| above.component == grant.component);
        installed.under(above, Some(grant))
    })?)
}

pub(super) async fn tenant_set(
    admin: Admin,
    At((slug, component)): At<(TenantSlug, ComponentName)>,
    body: Body,
) -> Answer {
    let (tenant, store) = admin.tenant(&slug).await?;
    let (row, _) = read(&admin, component, body).await?;
    store.put_grant(&row).await?;
    admin.reload(tenant.id).await?;
    let above = admin
        .0
        .platform
        .store
        .operator()
        .grant(&row.component)
        .await?;
    let installed = Installed::read(&admin).await?;
    one(view(&row, installed.under(above.as_ref(), Some(&row))?))
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

/// The operator's grant of a component; nothing where there is none.
pub(super) async fn of(admin: &Admin, component: &ComponentName) -> Result<Grant, Error> {
    let row = admin.0.platform.store.operator().grant(component).await?;
    row.map_or_else(|| Ok(Grant::default()), |row| parse(&row))
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

/// The body is the grant, in the manifest's words. It is kept as this host reads it, not as it was sent.
async fn read(admin: &Admin, component: ComponentName, body: Body) -> Result<(Row, Grant), Error> {
    let sent: Value = admin.json(body).await?;
    let grant: Grant = serde_json::from_value(sent)
        .map_err(|error| Error::invalid("permissions", error.to_string()))?;
    let row = Row {
        component,
        permissions: serde_json::to_value(&grant.permissions).map_err(Error::internal)?,
        limits: serde_json::to_value(grant.limits).map_err(Error::internal)?,
    };
    Ok((row, grant))
}

fn parse(row: &Row) -> Result<Grant, Error> {
    Ok(Grant {
        permissions: Permissions::deserialize(&row.permissions).map_err(Error::internal)?,
        limits: Ceiling::deserialize(&row.limits).map_err(Error::internal)?,
    })
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

/// What is installed, with what its author says.
struct Installed(Vec<(Component, Manifest)>);

impl Installed {
    async fn read(admin: &Admin) -> Result<Self, Error> {
        let components = admin.0.platform.store.operator().components().await?;
        let said = |component: Component| {
            // It was installed with this manifest, so it reads.
            let manifest = Manifest::parse(&component.manifest).ok()?;
            Some((component, manifest))
        };
        Ok(Self(components.into_iter().filter_map(said).collect()))
    }

    /// What calls of each installed version may use under the grants of one component, by version.
    fn under(&self, operator: Option<&Row>, tenant: Option<&Row>) -> Result<Value, Error> {
        let name = operator.or(tenant).map(|row| &row.component);
        let ceiling = |row: Option<&Row>| row.map_or_else(|| Ok(Grant::default()), parse);
        let (operator, tenant) = (ceiling(operator)?.limits, ceiling(tenant)?.limits);
        let mut versions = serde_json::Map::new();
        for (component, manifest) in &self.0 {
            if Some(&component.name) == name {
                let kind = manifest.component.kind;
                let left = manifest.limits.granted(kind, &operator).under(&tenant);
                let left = serde_json::to_value(left).map_err(Error::internal)?;
                versions.insert(component.version.clone(), left);
            }
        }
        Ok(versions.into())
    }
}

fn views(
    grants: &[Row],
    effective: impl Fn(&Row) -> Result<Value, Error>,
) -> Result<Vec<Value>, Error> {
    grants
        .iter()
        .map(|grant| Ok(view(grant, effective(grant)?)))
        .collect()
}

fn view(grant: &Row, effective: Value) -> Value {
    json!({"component": grant.component, "permissions": grant.permissions, "limits": grant.limits, "effective_limits": effective})
}
