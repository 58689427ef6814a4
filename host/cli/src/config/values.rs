//! `[config]`, `[secrets]` and `[tenant.SLUG]`: what tools find in `wasi:config`.

use super::secrets::Secrets;
use ambit_capabilities::tool::{Set, Values};
use ambit_policy::Reader;
use ambit_types::TenantSlug;
use std::collections::HashMap;

const VALUE: &str = "a text, or the place of one: `{ env = \"NAME\" }` or `{ file = \"path\" }`";

pub(super) fn read(root: &mut Reader<'_>, secrets: &mut Secrets<'_>) -> Values {
    let everybody = set(root, secrets);
    let mut tenants = HashMap::new();
    let mut table = root.table("tenant");
    for name in table.names() {
        match name.parse::<TenantSlug>() {
            Ok(slug) => {
                let mut tenant = table.table(&name);
                tenants.insert(slug, set(&mut tenant, secrets));
                tenant.finish("config, secrets");
            }
            Err(_) => {
                table.take(&name);
                table.unexpected(
                    &name,
                    "no tenant's name",
                    "1 to 63 lower-case letters, digits and inner hyphens",
                );
            }
        }
    }
    Values::new(everybody, tenants).unwrap_or_else(|names| {
        let mut table = root.table("secrets");
        for name in names {
            table.unexpected(
                &name,
                "a secret",
                "a name that is no plain value elsewhere in this file",
            );
        }
        Values::default()
    })
}

/// The two tables of one level.
fn set(level: &mut Reader<'_>, secrets: &mut Secrets<'_>) -> Set {
    let mut set = Set::default();
    let mut table = level.table("config");
    for key in table.names() {
        let value = match table.take(&key) {
            Some(toml::Value::String(text)) => Ok(text),
            Some(value) => match secrets.place(&value) {
                Some(found) => found.map(|text| text.expose().trim_end().to_owned()),
                None => Err(VALUE.to_owned()),
            },
            None => continue,
        };
        let put = value.map(|value| set.plain(&key, value));
        match put {
            Ok(Ok(())) => {}
            Ok(Err(bad)) => table.unexpected(&key, "a value", &bad.to_string()),
            Err(expected) => table.unexpected(&key, "no value", &expected),
        }
    }
    let mut table = level.table("secrets");
    for name in table.names() {
        if let Some(value) = secrets.read(&mut table, &name)
            && let Err(bad) = set.secret(&name, value)
        {
            table.unexpected(&name, "a secret", &bad.to_string());
        }
    }
    set
}
