//! `ambit collection`.

use super::{load, print, show};
use crate::{
    args::{Collection, Format},
    client::{Client, segment},
};
use serde_json::json;
use std::process::ExitCode;

pub(crate) async fn run(command: Collection) -> anyhow::Result<ExitCode> {
    match command {
        Collection::Load {
            name,
            path,
            tenant,
            target,
        } => {
            let rows = load::read(&path)?;
            let client = Client::open(&target).await?;
            client
                .put(
                    &format!(
                        "/tenants/{}/collections/{}",
                        segment(&tenant),
                        segment(&name)
                    ),
                    &json!({}),
                )
                .await?;
            let report =
                load::send(&client, &tenant, &name, rows, target.format == Format::Text).await?;
            show(target.format, &json!(report), |_| report.text());
            return Ok(if report.rejected.is_empty() {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            });
        }
        Collection::List { tenant, target } => {
            let collections = Client::open(&target)
                .await?
                .list(&format!("/tenants/{}/collections", segment(&tenant)))
                .await?;
            print(
                target.format,
                &collections,
                &["name", "documents", "chunks"],
            );
        }
        Collection::Delete {
            name,
            prefix,
            tenant,
            target,
        } => {
            let client = Client::open(&target).await?;
            let path = format!(
                "/tenants/{}/collections/{}",
                segment(&tenant),
                segment(&name)
            );
            let path = match prefix {
                Some(prefix) => format!("{path}/documents?prefix={}", segment(&prefix)),
                None => path,
            };
            let answer = client.delete(&path).await?;
            show(target.format, &answer, |answer| {
                format!("removed: {}", answer["removed"])
            });
        }
    }
    Ok(ExitCode::SUCCESS)
}
