//! `ambit component`.

use super::{print, read, show};
use crate::{
    args::{Component, Look},
    client::{Client, segment},
};
use ambit_policy::{Grant, Manifest, Problems};
use ambit_runtime::{Runtime, RuntimeConfig, inspect};
use ambit_types::ComponentName;
use anyhow::{Context as _, bail};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

pub(crate) async fn run(command: Component) -> anyhow::Result<ExitCode> {
    match command {
        Component::Inspect(look) => {
            let inspection = look_into(&look).await?;
            show(look.format, &inspection, pretty);
        }
        Component::Check(look) => return check(&look).await,
        Component::Install {
            path,
            manifest,
            target,
        } => {
            let wasm =
                std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
            let manifest = manifest_text(&path, manifest.as_deref())?;
            let client = Client::open(&target).await?;
            let body = json!({ "manifest": manifest, "wasm": STANDARD.encode(wasm) });
            let installed = client
                .post("/components", body.to_string().into_bytes())
                .await?;
            show(target.format, &installed, |i| {
                let state = if i["new"] == true {
                    "installed"
                } else {
                    "was installed already"
                };
                format!(
                    "{}@{} {state}: {}",
                    i["name"].as_str().unwrap_or("-"),
                    i["version"].as_str().unwrap_or("-"),
                    i["digest"].as_str().unwrap_or("-")
                )
            });
        }
        Component::Swap {
            slot,
            component,
            tenant,
            target,
        } => {
            let client = Client::open(&target).await?;
            // A slot's own `/` stays one: the route takes the rest of the path.
            let slot_path = slot.split('/').map(segment).collect::<Vec<_>>().join("/");
            let path = match tenant {
                Some(tenant) => format!("/tenants/{}/slots/{slot_path}", segment(&tenant)),
                None => format!("/slots/{slot_path}"),
            };
            let bound = client
                .put(&path, &json!({ "component": component }))
                .await?;
            show(target.format, &bound, |bound| {
                format!(
                    "slot {slot} has {}@{}",
                    bound["component"].as_str().unwrap_or(&component),
                    bound["version"].as_str().unwrap_or("-")
                )
            });
        }
        Component::List { target } => {
            let client = Client::open(&target).await?;
            let slots = client.list("/slots").await?;
            let mut components = client.list("/components").await?;
            for component in &mut components {
                let filled: Vec<_> = slots
                    .iter()
                    .filter(|slot| slot["digest"] == component["digest"])
                    .map(|slot| slot["slot"].clone())
                    .collect();
                component["slots"] = filled.into();
            }
            print(
                target.format,
                &components,
                &["name", "version", "kind", "slots", "digest"],
            );
        }
        Component::Snapshot { input, output } => {
            let wasm = std::fs::read(&input)
                .with_context(|| format!("cannot read {}", input.display()))?;
            // It runs the component, on an event loop of its own.
            let snapshot = tokio::task::spawn_blocking(move || ambit_runtime::snapshot(&wasm))
                .await?
                .with_context(|| format!("cannot snapshot {}", input.display()))?;
            std::fs::write(&output, snapshot)
                .with_context(|| format!("cannot write {}", output.display()))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Says everything that is missing; success only if nothing is.
async fn check(look: &Look) -> anyhow::Result<ExitCode> {
    let inspection = look_into(look).await?;
    let granted = &inspection["granted"];
    let missing = granted["refusals"].as_array().cloned().unwrap_or_default();
    let limits = &granted["limits"];
    let code = if missing.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    };
    show(
        look.format,
        &json!({ "admitted": missing.is_empty(), "missing": missing, "limits": limits }),
        |_| {
            if missing.is_empty() {
                let each = limits.as_object().into_iter().flatten();
                let each: Vec<_> = each
                    .map(|(name, limit)| match limit.as_str() {
                        Some(text) => format!("{name} {text}"),
                        None => format!("{name} {limit}"),
                    })
                    .collect();
                format!("admitted; each call is held to {}", each.join(", "))
            } else {
                let lines: Vec<_> = missing.iter().filter_map(Value::as_str).collect();
                format!("not admitted:\n  {}", lines.join("\n  "))
            }
        },
    );
    Ok(code)
}

/// A file laid open under a grant, or an installed component under the installation's own.
async fn look_into(look: &Look) -> anyhow::Result<Value> {
    let installation = match look.target() {
        Some(target) => Some(Client::open(&target).await?),
        None => None,
    };
    let path = Path::new(&look.component);
    if let Some(client) = installation.as_ref().filter(|_| !path.is_file()) {
        return installed(client, look).await;
    }
    let wasm = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let manifest =
        Manifest::parse(&manifest_text(path, look.manifest.as_deref())?).map_err(Problems)?;
    let grant = match (&look.grant, &installation) {
        (Some(path), _) => Grant::parse(&read(path)?)
            .map_err(Problems)
            .with_context(|| format!("{} is not a grant", path.display()))?,
        (None, Some(client)) => granted(client, &manifest.component.name).await?,
        (None, None) => Grant::default(),
    };
    let runtime = Runtime::new(RuntimeConfig::default())?;
    let code = runtime.load_blocking(&wasm, manifest)?;
    Ok(serde_json::to_value(inspect(&code, Some(&grant)))?)
}

/// An installed component, by its digest, name and version, or name alone.
async fn installed(client: &Client, look: &Look) -> anyhow::Result<Value> {
    let asked = &look.component;
    if look.grant.is_some() || look.manifest.is_some() {
        bail!("{asked} is no file, and --grant and --manifest are for files only");
    }
    let components = client.list("/components").await?;
    let newest = components
        .iter()
        .filter(|component| {
            let part = |key: &str| component[key].as_str().unwrap_or_default();
            let (name, version) = (part("name"), part("version"));
            part("digest") == asked || name == asked || format!("{name}@{version}") == *asked
        })
        .max_by_key(|component| component["installed_ms"].as_i64());
    let digest = newest
        .and_then(|component| component["digest"].as_str())
        .with_context(|| {
            format!(
                "{asked} is neither a file nor an installed component; see `ambit component list`"
            )
        })?;
    let mut laid_open = client
        .get(&format!("/components/{}", segment(digest)))
        .await?;
    Ok(laid_open["inspection"].take())
}

/// What the operator of an installation grants a component; nothing where there is no grant.
async fn granted(client: &Client, component: &ComponentName) -> anyhow::Result<Grant> {
    let mut grants = client.list("/grants").await?;
    let grant = grants
        .iter_mut()
        .find(|grant| grant["component"].as_str() == Some(component));
    let Some(grant) = grant else {
        return Ok(Grant::default());
    };
    Ok(Grant {
        permissions: serde_json::from_value(grant["permissions"].take())?,
        limits: serde_json::from_value(grant["limits"].take())?,
    })
}

/// The manifest that was named (a `spin.toml` may hold it), or `NAME.toml` or `component.toml` beside the file.
fn manifest_text(path: &Path, named: Option<&Path>) -> anyhow::Result<String> {
    let beside: Vec<PathBuf> = vec![
        path.with_extension("toml"),
        path.with_file_name("component.toml"),
    ];
    let file = match named {
        Some(file) => file.to_owned(),
        None => beside
            .iter()
            .find(|file| file.is_file())
            .cloned()
            .with_context(|| {
                format!(
                    "there is no {} or {}; name the manifest with --manifest",
                    beside[0].display(),
                    beside[1].display()
                )
            })?,
    };
    let text = read(&file)?;
    if file.file_name().is_some_and(|name| name == "spin.toml") {
        let wasm = path.file_name().unwrap_or_default().to_string_lossy();
        return Manifest::from_spin(&text, &wasm)
            .map_err(Problems)
            .with_context(|| format!("{} has no manifest for {wasm}", file.display()));
    }
    Ok(text)
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_manifest_names_where_it_was_looked_for() {
        let folder = tempfile::tempdir().unwrap();
        let error = manifest_text(&folder.path().join("x.wasm"), None)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("x.toml")
                && error.contains("component.toml")
                && error.contains("--manifest"),
            "{error}"
        );
    }
}
