//! The components that ship with the program: found beside it, installed where missing, bound where no slot is.

use ambit_policy::Kind;
use ambit_session::Platform;
use ambit_store::{Grant, SlotBinding};
use anyhow::{Context as _, bail};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// Order of the authenticators: the cheaper form first.
const AUTH_ORDER: [&str; 2] = ["ambit:auth-api-key", "ambit:auth-jwt"];

/// The folder of components: the one named, or `components` beside the program.
pub(crate) fn folder(named: Option<&Path>) -> anyhow::Result<PathBuf> {
    if let Some(folder) = named {
        return Ok(folder.to_owned());
    }
    let program = std::env::current_exe().context("cannot tell where this program is")?;
    let folder = program
        .parent()
        .unwrap_or(Path::new("."))
        .join("components");
    if !folder.is_dir() {
        bail!(
            "there are no components at {}; build them with `cargo xtask build`, or name their folder with --components",
            folder.display()
        );
    }
    Ok(folder)
}

/// Installs every `NAME.wasm` with its `NAME.toml`. What is bound stays bound, but to the version that ships with this program: the
/// components of an embedded installation move with it.
pub(crate) async fn install(platform: &Platform, folder: &Path) -> anyhow::Result<()> {
    let operator = platform.store.operator();
    let mut slots: BTreeMap<_, _> = operator
        .default_slots()
        .await?
        .into_iter()
        .map(|slot| (slot.slot, slot.component))
        .collect();
    let known: BTreeMap<_, _> = operator
        .components()
        .await?
        .into_iter()
        .map(|component| (component.digest, component))
        .collect();
    let granted: Vec<_> = operator
        .grants()
        .await?
        .into_iter()
        .map(|grant| grant.component)
        .collect();

    let mut files: Vec<_> = std::fs::read_dir(folder)
        .with_context(|| format!("cannot read {}", folder.display()))?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "wasm")
        })
        .collect();
    files.sort();
    if files.is_empty() {
        bail!(
            "there are no components in {}; build them with `cargo xtask build`",
            folder.display()
        );
    }
    for file in files {
        let manifest_file = file.with_extension("toml");
        let manifest = std::fs::read_to_string(&manifest_file)
            .with_context(|| format!("cannot read {}", manifest_file.display()))?;
        let wasm =
            std::fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let digest = ambit_store::Digest(*ambit_runtime::Digest::of(&wasm).as_bytes());
        let parsed = ambit_policy::Manifest::parse(&manifest)
            .map_err(ambit_policy::Problems)
            .with_context(|| format!("{} is not a manifest", manifest_file.display()))?;
        let there = known.get(&digest);
        // The row may be another node's, and its file on that node's disk; and a manifest that changed alone is refused, not passed over.
        if there.is_none_or(|there| there.manifest != manifest)
            || !platform.library.has(digest).await
        {
            platform
                .library
                .install(wasm.into(), &manifest)
                .await
                .with_context(|| format!("cannot install {}", file.display()))?;
        }
        let name = parsed.component.name;
        let slot = slot(parsed.component.kind, &name);
        let bound = slots.get(&slot).and_then(|digest| known.get(digest));
        // An operator's own component in the slot stays.
        if slots.get(&slot) != Some(&digest) && bound.is_none_or(|bound| bound.name == name) {
            operator
                .bind_default_slot(&SlotBinding {
                    slot: slot.clone(),
                    component: digest,
                })
                .await?;
            slots.insert(slot, digest);
        }
        if let Some(permissions) = default_grant(&name)
            && !granted.contains(&name)
        {
            operator
                .put_grant(&Grant {
                    component: name,
                    permissions,
                    limits: json!({}),
                })
                .await?;
        }
    }
    Ok(())
}

fn slot(kind: Kind, name: &str) -> String {
    match kind {
        Kind::Auth => format!(
            "auth/{}",
            AUTH_ORDER
                .iter()
                .position(|known| *known == name)
                .unwrap_or(AUTH_ORDER.len())
        ),
        Kind::Routing => "routing".into(),
        Kind::Guardrail => "guardrail".into(),
        Kind::Retrieval => "retrieval".into(),
        Kind::Tool => format!("tool/{name}"),
        Kind::Agent => format!("agent/{name}"),
    }
}

/// What shipped components are granted without being asked for: what their work is, and nothing outside the installation.
fn default_grant(name: &str) -> Option<Value> {
    match name {
        "ambit:agent-assistant" => Some(json!({ "models": ["*"], "collections": ["read:*"] })),
        "ambit:retrieval-hybrid" => Some(json!({ "collections": ["read:*", "write:*"] })),
        _ => None,
    }
}
