//! `ambit session`.

use super::{print, show};
use crate::{
    args::Session,
    client::{Client, segment},
};
use std::process::ExitCode;

pub(crate) async fn run(command: Session) -> anyhow::Result<ExitCode> {
    match command {
        Session::List {
            limit,
            tenant,
            target,
        } => {
            let path = format!("/tenants/{}/sessions?limit={limit}", segment(&tenant));
            let sessions = Client::open(&target).await?.list(&path).await?;
            print(
                target.format,
                &sessions,
                &[
                    "id",
                    "agent",
                    "principal",
                    "state",
                    "created_ms",
                    "erased_ms",
                ],
            );
        }
        Session::Erase {
            session,
            principal,
            tenant,
            target,
        } => {
            let tenant = segment(&tenant);
            let path = match (session, principal) {
                (Some(id), _) => format!("/tenants/{tenant}/sessions/{}/content", segment(&id)),
                (None, principal) => {
                    let principal = segment(&principal.unwrap_or_default());
                    format!("/tenants/{tenant}/principals/{principal}/content")
                }
            };
            let done = Client::open(&target).await?.delete(&path).await?;
            show(target.format, &done, |done| {
                let erased = format!("erased: {}", done["erased"]);
                match done["open"].as_u64() {
                    Some(open) if open > 0 => {
                        format!(
                            "{erased}; {open} are not over and keep their content: repeat this when they are"
                        )
                    }
                    _ => erased,
                }
            });
        }
    }
    Ok(ExitCode::SUCCESS)
}
