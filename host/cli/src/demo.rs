//! The two demo tenants of `ambit up`: made through the admin API like any other, from documents that travel in the binary.

use crate::{
    client::Client,
    commands::load,
    installation::{Installation, Keys},
};
use ambit_session::{ModelName, PASS_THROUGH};
use serde_json::json;

/// Principal of the demo keys, which have no rate limit.
pub(crate) const PRINCIPAL: &str = "demo";

/// The agent of every demo tenant.
const AGENT: &str = "assistant";

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
            "docs/components.md",
            "docs/agents.md",
            "docs/operating.md",
            "docs/configuration.md",
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

/// Makes what is missing. Repeating it changes nothing: keys stay, unchanged documents cost a hash, and an agent or a grant that somebody
/// changed since stays as they made it.
pub(crate) async fn make(
    client: &Client,
    installation: &Installation,
    keys: &mut Keys,
    model: Option<&ModelName>,
    show_progress: bool,
) -> anyhow::Result<()> {
    let mut made = installation.made()?;
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
        let agents = client.list(&format!("{path}/agents")).await?;
        let there = agents.iter().find(|agent| agent["name"] == AGENT);
        let changed = there.is_some_and(|agent| {
            let last = made.agents.get(tenant.slug);
            last.is_some_and(|last| agent["version"] != *last)
        });
        if !changed {
            let definition = json!({
                "name": AGENT,
                "description": "Answers from the collection, with citations.",
                "instructions": tenant.instructions,
                "model": model.map_or_else(|| "extractive/sentences".to_owned(), ToString::to_string),
                "collections": [tenant.collection],
                "tools": ["ambit:tool-datetime"],
            });
            let agent = client
                .put(&format!("{path}/agents/{AGENT}"), &definition)
                .await?;
            let version = agent["version"].as_i64().unwrap_or_default();
            made.agents.insert(tenant.slug.to_owned(), version);
            installation.keep_made(&made)?;
        }
    }
    // With a provider, its models may be called as they are; once, so that who takes the grant back has it taken back.
    if model.is_some() && !made.pass_through {
        let grants = client.list("/grants").await?;
        if !grants
            .iter()
            .any(|grant| grant["component"] == PASS_THROUGH)
        {
            client
                .put(
                    &format!("/grants/{PASS_THROUGH}"),
                    &json!({ "models": ["openai/*"] }),
                )
                .await?;
        }
        made.pass_through = true;
        installation.keep_made(&made)?;
    }
    Ok(())
}
