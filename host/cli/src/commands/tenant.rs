//! `ambit tenant`.

use super::{print, show};
use crate::{
    args::Tenant,
    client::{Client, segment},
};
use serde_json::json;
use std::process::ExitCode;

pub(crate) async fn run(command: Tenant) -> anyhow::Result<ExitCode> {
    match command {
        Tenant::Create {
            slug,
            display_name,
            target,
        } => {
            let client = Client::open(&target).await?;
            let tenant = client
                .put(
                    &format!("/tenants/{}", segment(&slug)),
                    &json!({ "display_name": display_name }),
                )
                .await?;
            show(target.format, &tenant, |tenant| {
                format!(
                    "tenant {} ({}) at {}",
                    tenant["slug"].as_str().unwrap_or("-"),
                    tenant["id"].as_str().unwrap_or("-"),
                    tenant["host"].as_str().unwrap_or("-")
                )
            });
        }
        Tenant::List { target } => {
            let tenants = Client::open(&target).await?.list("/tenants").await?;
            print(
                target.format,
                &tenants,
                &["slug", "display_name", "host", "served", "problems"],
            );
        }
    }
    Ok(ExitCode::SUCCESS)
}
