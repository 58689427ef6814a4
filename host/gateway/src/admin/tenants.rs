//! Tenants and the host names they own.

use super::{Admin, Answer, At, listing, one, removed};
use ambit_session::Tenant as Live;
use ambit_store::{HostName, Tenant};
use ambit_types::{Error, TenantSlug, canonical_domain};
use axum::body::Body;
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewTenant {
    display_name: Option<String>,
}

pub(super) async fn list(admin: Admin) -> Answer {
    let tenants = admin.0.platform.store.operator().tenants().await?;
    listing(tenants.iter().map(|tenant| view(&admin, tenant)))
}

pub(super) async fn show(admin: Admin, At(slug): At<TenantSlug>) -> Answer {
    let (tenant, _) = admin.tenant(&slug).await?;
    one(view(&admin, &tenant))
}

/// A tenant that is there stays as it is.
pub(super) async fn create(admin: Admin, At(slug): At<TenantSlug>, body: Body) -> Answer {
    let new: NewTenant = admin.json(body).await?;
    let operator = admin.0.platform.store.operator();
    let tenant = match operator.tenant_by_slug(&slug).await? {
        Some(tenant) => tenant,
        None => {
            let name = new.display_name.as_deref().unwrap_or(&slug);
            let tenant = operator.create_tenant(slug.clone(), name).await?;
            // All, because the router's directory changed too.
            admin.reload_all().await?;
            tenant
        }
    };
    one(view(&admin, &tenant))
}

pub(super) async fn hosts(admin: Admin, At(slug): At<TenantSlug>) -> Answer {
    let (tenant, _) = admin.tenant(&slug).await?;
    let names = admin.0.platform.store.operator().host_names().await?;
    listing(
        names
            .into_iter()
            .filter(|name| name.tenant == tenant.id)
            .map(|name| json!({"name": name.name})),
    )
}

pub(super) async fn add_host(admin: Admin, At((slug, name)): At<(TenantSlug, String)>) -> Answer {
    let (tenant, _) = admin.tenant(&slug).await?;
    let name = canonical(&name)?;
    let operator = admin.0.platform.store.operator();
    operator
        .add_host_name(&HostName {
            tenant: tenant.id,
            name: name.clone(),
        })
        .await?;
    admin.reload_all().await?;
    one(json!({ "name": name }))
}

pub(super) async fn remove_host(
    admin: Admin,
    At((slug, name)): At<(TenantSlug, String)>,
) -> Answer {
    let (tenant, _) = admin.tenant(&slug).await?;
    let name = canonical(&name)?;
    let was_there = admin
        .0
        .platform
        .store
        .operator()
        .remove_host_name(&HostName {
            tenant: tenant.id,
            name,
        })
        .await?;
    admin.reload_all().await?;
    removed(was_there)
}

/// A name of more than one label, in the router's form.
fn canonical(name: &str) -> Result<String, Error> {
    let canonical = canonical_domain(name).filter(|name| name.contains('.'));
    canonical.ok_or_else(|| {
        Error::invalid(
            "host",
            "expected a full host name in A-labels, for example `agents.example.com`",
        )
    })
}

fn view(admin: &Admin, tenant: &Tenant) -> Value {
    let live = admin.0.tenants.by_id(tenant.id);
    let domain = admin.0.platform.settings.base_domains.first();
    json!({
        "id": tenant.id, "slug": tenant.slug, "display_name": tenant.display_name, "created_ms": tenant.created_ms,
        "host": domain.map(|domain| format!("{}.{domain}", tenant.slug)),
        "served": live.is_some(), "problems": live.as_deref().map(problems),
    })
}

fn problems(live: &Live) -> Value {
    json!(live.problems)
}

#[cfg(test)]
mod tests {
    use super::canonical;

    #[test]
    fn host_names() {
        assert_eq!(
            canonical("Agents.Example.com.").unwrap(),
            "agents.example.com"
        );
        for bad in [
            "",
            ".",
            "localhost",
            "10.0.0.1",
            "a..b",
            "-a.b",
            "a.b/",
            "bücher.de",
            "a.b:80",
            &format!("{}.de", "a".repeat(64)),
        ] {
            assert!(canonical(bad).is_err(), "{bad}");
        }
    }
}
