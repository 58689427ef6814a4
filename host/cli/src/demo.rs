//! The two demo tenants of `ambit up`: made through the admin API like any other, from documents that travel in the binary.

use crate::{
    client::Client,
    commands::load,
    installation::{Installation, Keys},
};
use ambit_session::ModelName;
use serde_json::json;

/// Principal of the demo keys, which have no rate limit.
pub(crate) const PRINCIPAL: &str = "demo";

/// The question of the printed examples.
pub(crate) const QUESTION: &str = "How are the permissions of a component narrowed?";

pub(crate) struct DemoTenant {
    pub(crate) slug: &'static str,
    name: &'static str,
    collection: &'static str,
    instructions: &'static str,
    documents: &'static [(&'static str, &'static str)],
}

macro_rules! documents {
    ($($path:literal),* $(,)?) => {
        &[$(($path, include_str!(concat!("../../../", $path)))),*]
    };
}

pub(crate) const TENANTS: &[DemoTenant] = &[
    DemoTenant {
        slug: "acme",
        name: "Acme",
        collection: "handbook",
        instructions: "You help people who run Ambit. Answer briefly.",
        documents: documents![
            "README.md",
            "ARCHITECTURE.md",
            "docs/permissions.md",
            "docs/operating.md",
            "docs/configuration.md",
            "docs/components.md"
        ],
    },
    DemoTenant {
        slug: "globex",
        name: "Globex",
        collection: "contracts",
        instructions: "You help people who write components. Answer briefly and name the interface.",
        documents: documents![
            "docs/wit/types.md",
            "docs/wit/auth.md",
            "docs/wit/routing.md",
            "docs/wit/guardrail.md",
            "docs/wit/retrieval.md",
            "docs/wit/tool.md",
            "docs/wit/agent.md",
        ],
    },
];

/// Makes what is missing. Repeating it changes nothing: keys stay, unchanged documents cost a hash.
pub(crate) async fn make(
    client: &Client,
    installation: &Installation,
    keys: &mut Keys,
    model: Option<&ModelName>,
    show_progress: bool,
) -> anyhow::Result<()> {
    let there = client.list("/tenants").await?;
    for tenant in TENANTS {
        let path = format!("/tenants/{}", tenant.slug);
        if !there.iter().any(|t| t["slug"] == tenant.slug) {
            client
                .put(&path, &json!({ "display_name": tenant.name }))
                .await?;
        }
        if !keys.tenants.contains_key(tenant.slug) {
            let body = json!({ "name": "bootstrap", "principal": PRINCIPAL });
            let made = client
                .post(&format!("{path}/keys"), body.to_string().into_bytes())
                .await?;
            keys.tenants.insert(
                tenant.slug.to_owned(),
                made["key"].as_str().unwrap_or_default().to_owned(),
            );
            installation.keep_keys(keys)?;
        }
        client
            .put(
                &format!("{path}/collections/{}", tenant.collection),
                &json!({}),
            )
            .await?;
        let rows = tenant
            .documents
            .iter()
            .map(|(name, text)| load::Row::markdown(name, text))
            .collect();
        load::send(client, tenant.slug, tenant.collection, rows, show_progress).await?;
        let definition = json!({
            "name": "assistant",
            "description": "Answers from the collection, with citations.",
            "instructions": tenant.instructions,
            "model": model.map_or_else(|| "extractive/sentences".to_owned(), ToString::to_string),
            "collections": [tenant.collection],
            "tools": ["ambit:tool-datetime"],
        });
        client
            .put(&format!("{path}/agents/assistant"), &definition)
            .await?;
    }
    // With a provider, its models may be called as they are.
    if model.is_some() {
        client
            .put(
                &format!("/grants/{}", ambit_session::PASS_THROUGH),
                &json!({ "models": ["openai/*"] }),
            )
            .await?;
    }
    Ok(())
}
