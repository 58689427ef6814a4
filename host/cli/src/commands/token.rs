//! `ambit token`.

use super::{print, show};
use crate::{
    args::Token,
    client::{Client, segment},
};
use std::process::ExitCode;

pub(crate) async fn run(command: Token) -> anyhow::Result<ExitCode> {
    match command {
        Token::List {
            tenant,
            limit,
            target,
        } => {
            let path = format!("/tenants/{}/tokens?limit={limit}", segment(&tenant));
            let tokens = Client::open(&target).await?.list(&path).await?;
            let columns = [
                "id",
                "parent",
                "principal",
                "key",
                "agent",
                "session",
                "expires_ms",
                "revoked_ms",
            ];
            print(target.format, &tokens, &columns);
        }
        Token::Revoke { id, tenant, target } => {
            let path = format!("/tenants/{}/tokens/{}", segment(&tenant), segment(&id));
            let token = Client::open(&target).await?.delete(&path).await?;
            show(target.format, &token, |token| {
                let id = token["id"].as_str().unwrap_or("-");
                format!("token {id} is revoked, and what was delegated from it")
            });
        }
    }
    Ok(ExitCode::SUCCESS)
}
