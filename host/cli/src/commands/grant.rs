//! `ambit grant`.

use super::{print, read, show};
use crate::{
    args::Grant,
    client::{Client, segment},
};
use ambit_policy::Problems;
use serde_json::Value;
use std::process::ExitCode;

pub(crate) async fn run(command: Grant) -> anyhow::Result<ExitCode> {
    match command {
        Grant::Show {
            component,
            tenant,
            target,
        } => {
            let client = Client::open(&target).await?;
            let grants = client.list(&listing(tenant.as_deref())).await?;
            let wanted: Vec<_> = grants
                .into_iter()
                .filter(|grant| {
                    component
                        .as_deref()
                        .is_none_or(|name| grant["component"] == name)
                })
                .collect();
            if let (true, Some(component)) = (wanted.is_empty(), component) {
                anyhow::bail!("nothing is granted to `{component}`");
            }
            print(
                target.format,
                &wanted,
                &["component", "permissions", "limits", "effective_limits"],
            );
        }
        Grant::Set {
            component,
            file,
            tenant,
            target,
        } => {
            let grant = ambit_policy::Grant::parse(&read(&file)?).map_err(Problems)?;
            let client = Client::open(&target).await?;
            let path = format!("{}/{}", listing(tenant.as_deref()), segment(&component));
            let answer = client.put(&path, &serde_json::to_value(&grant)?).await?;
            show(target.format, &answer, |answer| text(&component, answer));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn listing(tenant: Option<&str>) -> String {
    tenant.map_or_else(
        || "/grants".to_owned(),
        |tenant| format!("/tenants/{}/grants", segment(tenant)),
    )
}

fn text(component: &str, answer: &Value) -> String {
    let missing: Vec<_> = answer["missing"]
        .as_array()
        .into_iter()
        .flatten()
        .flat_map(|m| m["refusals"].as_array().into_iter().flatten())
        .filter_map(Value::as_str)
        .collect();
    if missing.is_empty() {
        format!("{component} has this grant now")
    } else {
        format!(
            "{component} has this grant now; it would not be admitted yet:\n  {}",
            missing.join("\n  ")
        )
    }
}
