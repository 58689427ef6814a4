//! `ambit key`.

use super::{print, read, show};
use crate::{
    args::Key,
    client::{Client, segment},
};
use ambit_policy::{Permissions, Problems};
use serde_json::json;
use std::{
    process::ExitCode,
    time::{SystemTime, UNIX_EPOCH},
};

pub(crate) async fn run(command: Key) -> anyhow::Result<ExitCode> {
    match command {
        Key::Create {
            name,
            tenant,
            scopes,
            days,
            permissions,
            target,
        } => {
            let permissions = permissions
                .map(|file| anyhow::Ok(Permissions::parse(&read(&file)?).map_err(Problems)?))
                .transpose()?;
            let client = Client::open(&target).await?;
            let now = SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default()
                .as_secs();
            let expires_at = days.map(|days| now + u64::from(days) * 24 * 3600);
            let mut body = json!({ "name": name });
            if let Some(scopes) = scopes {
                body["scopes"] = json!(scopes);
            }
            if let Some(expires_at) = expires_at {
                body["expires_at"] = json!(expires_at);
            }
            if let Some(permissions) = permissions {
                body["permissions"] = serde_json::to_value(permissions)?;
            }
            let key = client
                .post(
                    &format!("/tenants/{}/keys", segment(&tenant)),
                    body.to_string().into_bytes(),
                )
                .await?;
            show(target.format, &key, |key| {
                format!(
                    "{}\nThis is shown once; only a hash of it is stored.",
                    key["key"].as_str().unwrap_or("-")
                )
            });
        }
        Key::List { tenant, target } => {
            let keys = Client::open(&target)
                .await?
                .list(&format!("/tenants/{}/keys", segment(&tenant)))
                .await?;
            print(
                target.format,
                &keys,
                &[
                    "id",
                    "name",
                    "principal",
                    "scopes",
                    "permissions",
                    "last_four",
                    "expires_ms",
                    "revoked_ms",
                ],
            );
        }
        Key::Revoke { id, tenant, target } => {
            let client = Client::open(&target).await?;
            let key = client
                .delete(&format!(
                    "/tenants/{}/keys/{}",
                    segment(&tenant),
                    segment(&id)
                ))
                .await?;
            show(target.format, &key, |key| {
                format!("key {} is revoked", key["id"].as_str().unwrap_or("-"))
            });
        }
    }
    Ok(ExitCode::SUCCESS)
}
