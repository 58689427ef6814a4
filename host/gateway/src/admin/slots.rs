//! Which component does which job. Binding another one is a swap: it is admitted first, requests that run keep the old one, the next
//! request has the new one, none waits.

use super::{Admin, Answer, At, grants, listing, one, removed};
use ambit_policy::Kind;
use ambit_store::{Component, SlotBinding};
use ambit_types::{ComponentName, Error, ErrorKind, TenantSlug};
use axum::body::Body;
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Choice {
    /// A digest, `name@version`, or a name, which means its newest installation.
    component: String,
}

pub(super) async fn list(admin: Admin) -> Answer {
    let slots = admin.0.platform.store.operator().default_slots().await?;
    views(&admin, slots).await
}

pub(super) async fn set(admin: Admin, At(slot): At<String>, body: Body) -> Answer {
    let component = chosen(&admin, &slot, body).await?;
    let operator = admin.0.platform.store.operator();
    operator
        .bind_default_slot(&SlotBinding {
            slot: slot.clone(),
            component: component.digest,
        })
        .await?;
    admin.reload_all().await?;
    one(view(&slot, &component))
}

pub(super) async fn remove(admin: Admin, At(slot): At<String>) -> Answer {
    if slot == "routing" {
        return Err(Error::new(
            ErrorKind::Conflict,
            "without a component in `routing` nobody would be served; swap it instead",
        )
        .into());
    }
    let was_there = admin
        .0
        .platform
        .store
        .operator()
        .unbind_default_slot(&slot)
        .await?;
    admin.reload_all().await?;
    removed(was_there)
}

pub(super) async fn tenant_list(admin: Admin, At(slug): At<TenantSlug>) -> Answer {
    let (_, store) = admin.tenant(&slug).await?;
    views(&admin, store.slots().await?).await
}

pub(super) async fn tenant_set(
    admin: Admin,
    At((slug, slot)): At<(TenantSlug, String)>,
    body: Body,
) -> Answer {
    let (tenant, store) = admin.tenant(&slug).await?;
    if slot == "routing" {
        return Err(Error::invalid(
            "slot",
            "`routing` decides which tenant it is and belongs to the installation",
        )
        .into());
    }
    let component = chosen(&admin, &slot, body).await?;
    store
        .bind_slot(&SlotBinding {
            slot: slot.clone(),
            component: component.digest,
        })
        .await?;
    admin.reload(tenant.id).await?;
    one(view(&slot, &component))
}

pub(super) async fn tenant_remove(
    admin: Admin,
    At((slug, slot)): At<(TenantSlug, String)>,
) -> Answer {
    let (tenant, store) = admin.tenant(&slug).await?;
    let was_there = store.unbind_slot(&slot).await?;
    admin.reload(tenant.id).await?;
    removed(was_there)
}

/// The component a body chooses, of the slot's kind and admitted under the operator's grant: what could not run is never bound.
async fn chosen(admin: &Admin, slot: &str, body: Body) -> Result<Component, Error> {
    let kind = kind_of(slot)?;
    let choice: Choice = admin.json(body).await?;
    let component = find(
        admin.0.platform.store.operator().components().await?,
        &choice.component,
    )?;
    if component.kind != kind.as_str() {
        return Err(Error::new(
            ErrorKind::Conflict,
            format!(
                "`{}` is of kind {}, slot `{slot}` takes {kind}",
                component.name, component.kind
            ),
        ));
    }
    let granted = grants::of(admin, &component.name).await?;
    match grants::refusals(admin, component.digest, &granted.permissions).await? {
        None => Ok(component),
        Some(missing) => {
            let all = missing["refusals"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .collect::<Vec<_>>()
                .join("; ");
            Err(Error::new(
                ErrorKind::Conflict,
                format!("`{}` is not admitted: {all}", component.name),
            ))
        }
    }
}

/// The kind a slot takes: `routing`, `auth/0` and so on, `guardrail`, `retrieval`, `agent/<component>`, `tool/<component>`.
fn kind_of(slot: &str) -> Result<Kind, Error> {
    let named = |name: &str| name.parse::<ComponentName>().is_ok();
    match slot.split_once('/') {
        None if slot == "routing" => Ok(Kind::Routing),
        None if slot == "guardrail" => Ok(Kind::Guardrail),
        None if slot == "retrieval" => Ok(Kind::Retrieval),
        Some(("auth", place)) if place.len() == 1 && place.bytes().all(|b| b.is_ascii_digit()) => {
            Ok(Kind::Auth)
        }
        Some(("agent", name)) if named(name) => Ok(Kind::Agent),
        Some(("tool", name)) if named(name) => Ok(Kind::Tool),
        _ => Err(Error::invalid(
            "slot",
            "expected routing, auth/0 to auth/9, guardrail, retrieval, agent/<component> or tool/<component>",
        )),
    }
}

fn find(installed: Vec<Component>, wanted: &str) -> Result<Component, Error> {
    let matches = |component: &Component| {
        let name = component.name.as_str();
        let of_version = wanted.split_once('@') == Some((name, &component.version));
        name == wanted || of_version || component.digest.to_string() == wanted
    };
    let newest = installed
        .into_iter()
        .filter(matches)
        .max_by_key(|component| component.installed_ms);
    newest.ok_or_else(|| {
        Error::invalid(
            "component",
            "no such component is installed; expected a digest, a name or `name@version`",
        )
    })
}

async fn views(admin: &Admin, slots: Vec<SlotBinding>) -> Answer {
    let installed = admin.0.platform.store.operator().components().await?;
    listing(slots.iter().map(|binding| match installed.iter().find(|component| component.digest == binding.component) {
        Some(component) => view(&binding.slot, component),
        None => json!({"slot": binding.slot, "component": null, "version": null, "digest": binding.component}),
    }))
}

fn view(slot: &str, component: &Component) -> Value {
    json!({"slot": slot, "component": component.name, "version": component.version, "digest": component.digest})
}

#[cfg(test)]
mod tests {
    use super::*;
    use ambit_store::Digest;

    fn component(name: &str, version: &str, installed_ms: i64) -> Component {
        let digest = Digest([installed_ms.try_into().unwrap(); 32]);
        let kind = "tool".to_owned();
        Component {
            digest,
            name: name.parse().unwrap(),
            version: version.to_owned(),
            kind,
            manifest: String::new(),
            installed_ms,
        }
    }

    #[test]
    fn slots_have_kinds() {
        assert_eq!(kind_of("auth/0").unwrap(), Kind::Auth);
        assert_eq!(kind_of("tool/ambit:web-fetch").unwrap(), Kind::Tool);
        for bad in [
            "",
            "auth",
            "auth/x",
            "auth/10",
            "routing/0",
            "tool/",
            "tool/../x",
            "guardrail/1",
            "inference",
        ] {
            assert!(kind_of(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_component_is_found_by_digest_version_or_newest() {
        let installed = || {
            vec![
                component("a:x", "0.1.0", 1),
                component("a:x", "0.2.0", 2),
                component("a:y", "0.1.0", 3),
            ]
        };
        let version = |wanted: &str| find(installed(), wanted).map(|component| component.version);
        assert_eq!(version("a:x").unwrap(), "0.2.0");
        assert_eq!(version("a:x@0.1.0").unwrap(), "0.1.0");
        assert_eq!(version(&"01".repeat(32)).unwrap(), "0.1.0");
        assert!(
            version("a:z").is_err()
                && version("a:x@9").is_err()
                && version(&"ff".repeat(32)).is_err()
        );
    }
}
