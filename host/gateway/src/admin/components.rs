//! Installed components.

use super::{Admin, Answer, At, grants, listing, one};
use ambit_runtime::inspect;
use ambit_store::{Component, Digest};
use ambit_types::Error;
use axum::body::Body;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewComponent {
    /// `component.toml`.
    manifest: String,
    /// Base64 (RFC 4648 §4). JSON rather than a form of parts: every client can send it.
    wasm: String,
}

pub(super) async fn list(admin: Admin) -> Answer {
    let components = admin.0.platform.store.operator().components().await?;
    listing(components.iter().map(view))
}

pub(super) async fn install(admin: Admin, body: Body) -> Answer {
    let new: NewComponent = admin.json(body).await?;
    let wasm = STANDARD
        .decode(&new.wasm)
        .map_err(|error| Error::invalid("wasm", format!("expected base64: {error}")))?;
    one(admin
        .0
        .platform
        .library
        .install(wasm.into(), &new.manifest)
        .await?)
}

pub(super) async fn show(admin: Admin, At(digest): At<Digest>) -> Answer {
    let component = admin.0.platform.store.operator().component(digest).await?;
    let component = component.ok_or_else(|| Error::not_found("there is no such component"))?;
    let code = admin.0.platform.library.code(digest).await?;
    let granted = grants::of(&admin, &component.name).await?;
    let mut answer = view(&component);
    answer["inspection"] =
        serde_json::to_value(inspect(&code, Some(&granted))).map_err(Error::internal)?;
    one(answer)
}

fn view(component: &Component) -> Value {
    json!({"digest": component.digest, "name": component.name, "version": component.version, "kind": component.kind,
        "installed_ms": component.installed_ms})
}
