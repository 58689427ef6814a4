//! `ambit session`.

use super::{print, show};
use crate::{
    args::Session,
    client::{Client, segment},
};
use serde_json::{Value, json};
use std::{fmt::Write as _, process::ExitCode};

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
        Session::Replay {
            session,
            model,
            prompt,
            tenant,
            target,
        } => {
            let (tenant, session) = (segment(&tenant), segment(&session));
            let path = format!("/tenants/{tenant}/sessions/{session}/replay");
            let asked = json!({ "model": model, "instructions": prompt });
            let came = Client::open(&target)
                .await?
                .post(&path, serde_json::to_vec(&asked)?)
                .await?;
            show(target.format, &came, told);
            if came["differences"]
                .as_array()
                .is_some_and(|all| !all.is_empty())
            {
                return Ok(ExitCode::FAILURE);
            }
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

/// What came of a replay or a trial, for people.
fn told(came: &Value) -> String {
    let mut told = String::new();
    if let Some(replies) = came["replies"].as_array() {
        let same = replies.iter().filter(|reply| reply["same"] == true).count();
        let _ = write!(
            told,
            "session {}: {same} of {} replies are the same",
            came["session"].as_str().unwrap_or_default(),
            replies.len()
        );
        if let Some(error) = came["error"].as_str() {
            let _ = write!(told, "; it ended early: {error}");
        }
        for (n, reply) in replies
            .iter()
            .enumerate()
            .filter(|(_, one)| one["same"] != true)
        {
            let n = n + 1;
            let (before, now) = (said(&reply["recorded"]), said(&reply["tried"]));
            let _ = write!(told, "\n\nreply {n}\n- {before}\n+ {now}");
        }
        return told;
    }
    let differences = came["differences"]
        .as_array()
        .map_or(&[][..], Vec::as_slice);
    let steps = &came["steps"];
    let _ = match differences.len() {
        0 => write!(told, "{steps} steps, all the same"),
        some => write!(told, "{steps} steps, {some} came out otherwise"),
    };
    if came["component"][0] != came["component"][1] {
        told += "; the agent's component is another one than then";
    }
    for one in differences {
        let _ = write!(
            told,
            "\n\nstep {}\n- {}\n+ {}",
            one["step"], one["recorded"]["move"], one["replayed"]
        );
    }
    told
}

/// A reply on one line.
fn said(reply: &Value) -> String {
    if reply.is_null() {
        return "nothing".to_owned();
    }
    let mut said = reply["text"].as_str().unwrap_or_default().to_owned();
    for call in reply["tool_calls"].as_array().into_iter().flatten() {
        let name = call["name"].as_str().unwrap_or_default();
        let _ = write!(
            said,
            " {name}({})",
            call["arguments"].as_str().unwrap_or_default()
        );
    }
    said
}
