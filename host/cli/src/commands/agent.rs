//! `ambit agent`.

use super::{print, read, show};
use crate::{
    args::Agent,
    client::{Client, segment},
};
use ambit_session::AgentDefinition;
use std::process::ExitCode;

pub(crate) async fn run(command: Agent) -> anyhow::Result<ExitCode> {
    match command {
        Agent::Apply {
            file,
            tenant,
            target,
        } => {
            // Read here, so that a mistake is told with the file's own words.
            let definition = AgentDefinition::from_toml(&read(&file)?)
                .map_err(|error| anyhow::anyhow!("{}: {error}", file.display()))?;
            let client = Client::open(&target).await?;
            let path = format!("/tenants/{}/agents/{}", segment(&tenant), definition.name);
            let agent = client
                .put(&path, &serde_json::to_value(&definition)?)
                .await?;
            show(target.format, &agent, |agent| {
                format!(
                    "agent {} is applied, version {}",
                    definition.name, agent["version"]
                )
            });
        }
        Agent::List { tenant, target } => {
            let agents = Client::open(&target)
                .await?
                .list(&format!("/tenants/{}/agents", segment(&tenant)))
                .await?;
            print(
                target.format,
                &agents,
                &["name", "version", "bound", "problem"],
            );
        }
    }
    Ok(ExitCode::SUCCESS)
}
