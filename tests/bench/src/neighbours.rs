//! The rows of hostile components: what one tenant's component, flat out, does to the other tenant's 99th percentile.
#![allow(
    clippy::disallowed_methods,
    reason = "the dripping server ends with the driver"
)]

use anyhow::{Context as _, Result};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::Method;
use serde_json::json;
use std::{path::Path, time::Duration};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    time::sleep,
};

use crate::{
    RunArguments,
    ambit::Ambit,
    load::{self, Load, Outcome, Shot},
    report::{Report, Table, median},
    targets,
};

/// Components of `tests/hostile`, by the kind they are installed as.
const GUESTS: [(&str, &[&str]); 2] = [
    (
        "agent",
        &[
            "tight_loop",
            "host_call_loop",
            "memory_hog",
            "huge_initial",
            "start_trap",
            "deep_recursion",
            "log_flood",
            "oversize_result",
            "huge_list",
            "handle_hoard",
        ],
    ),
    (
        "tool",
        &[
            "tight_loop",
            "host_call_loop",
            "wait_then_spin",
            "memory_hog",
            "many_memories.wat",
            "table_growth.wat",
            "deep_recursion",
            "log_flood",
            "oversize_result",
            "handle_hoard",
            "fat_handles",
            "sleeper",
            "slow_drip",
            "connection_hoard",
        ],
    ),
];
/// What stands around a module of text to make it a tool.
const TOOL: &str = include_str!("../../hostile/text/tool.wat");
/// The hostile tenant has so many requests under way at any time.
const ATTACKERS: usize = 32;
/// The other one goes on at its own pace.
const NEIGHBOUR: Load = Load {
    connections: 4,
    pause: Duration::from_millis(10),
    duration: Duration::from_secs(2),
};
const ROUNDS: usize = 3;

pub(crate) async fn measure(run: &RunArguments, report: &mut Report) -> Result<()> {
    let Some(folder) = &run.hostile else {
        report.missing("hostile components: no --hostile given");
        return Ok(());
    };
    let dripping = drip().await?;
    let argument = json!({ "argument": dripping }).to_string();
    let (_mock, url) = targets::start_mock(&["--tool-arguments", &argument]).await?;
    let Some(ambit) = Ambit::start(run, Some(&url)).await? else {
        return Ok(());
    };
    let neighbour = ambit.chat(0, "openai/mock-1", false)?;
    load::run(&neighbour, NEIGHBOUR).await?;
    let wanted = |guest: &str| run.guests.is_empty() || run.guests.iter().any(|name| name == guest);
    let mut rows = Vec::new();
    // What as many honest requests do: the ground to compare with.
    if wanted("none") {
        let attack = ambit.chat(1, "openai/mock-1", false)?;
        rows.push(row("none: ordinary pass-throughs", "", &neighbour, &attack).await?);
    }
    for (kind, guests) in GUESTS {
        for guest in guests.iter().filter(|guest| wanted(guest)) {
            let model = unleash(&ambit, folder, guest, kind, &dripping)
                .await
                .with_context(|| format!("{guest} as {kind}"))?;
            let attack = ambit.chat(1, &model, false)?;
            let name = guest.trim_end_matches(".wat").replace('_', " ");
            rows.push(row(&name, kind, &neighbour, &attack).await?);
        }
    }
    report.tables.push(Table {
        about: format!(
            "One tenant's hostile component with {ATTACKERS} requests under way; the other tenant's governed pass-through, 4 connections with \
             10 ms between requests. Medians of {ROUNDS} interleaved rounds. Driver and provider share the cores with both."
        ),
        columns: &[
            "component",
            "as",
            "hostile calls",
            "other's failed",
            "other's p99 ms, quiet",
            "p99 ms, besieged",
            "ratio",
        ],
        rows,
    });
    Ok(())
}

async fn row(name: &str, kind: &str, neighbour: &Shot, attack: &Shot) -> Result<Vec<String>> {
    let (mut quiet, mut siege) = (Vec::new(), Vec::new());
    let (mut attacks, mut failed) = (0, 0);
    for _ in 0..ROUNDS {
        quiet.push(load::run(neighbour, NEIGHBOUR).await?.percentile(99));
        let (held, hostile) = besiege(neighbour, attack).await?;
        siege.push(held.percentile(99));
        failed += held.failed;
        attacks += hostile.times.len() + hostile.failed;
    }
    let (quiet, siege) = (median(&quiet), median(&siege));
    Ok(vec![
        name.to_owned(),
        kind.to_owned(),
        attacks.to_string(),
        failed.to_string(),
        format!("{quiet:.2}"),
        format!("{siege:.2}"),
        format!("{:.2}", siege / quiet),
    ])
}

/// A server that sends the head of an answer and then a byte now and then. Its address.
async fn drip() -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?.to_string();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let _ = socket.read(&mut [0; 4096]).await;
                let head = "HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n";
                let mut going = socket.write_all(head.as_bytes()).await.is_ok();
                while going {
                    sleep(Duration::from_millis(50)).await;
                    going = socket.write_all(b".").await.is_ok();
                }
            });
        }
    });
    Ok(address)
}

fn read(folder: &Path, guest: &str) -> Result<Vec<u8>> {
    let text = match guest {
        "many_memories.wat" => include_str!("../../hostile/text/many_memories.wat"),
        "table_growth.wat" => include_str!("../../hostile/text/table_growth.wat"),
        _ => {
            let path = folder.join(format!("{guest}.wasm"));
            return std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()));
        }
    };
    Ok(wat::parse_str(TOOL.replace("MODULE", text))?)
}

/// Installs a guest for the second tenant; the model that is it.
async fn unleash(
    ambit: &Ambit,
    folder: &Path,
    guest: &str,
    kind: &str,
    origin: &str,
) -> Result<String> {
    let mut wasm = read(folder, guest)?;
    let label = guest.trim_end_matches(".wat").replace('_', "-");
    let name = format!("hostile:{label}-{kind}");
    // A custom section: a digest belongs to one manifest.
    wasm.extend([0, 2, 1, if kind == "tool" { b't' } else { b'a' }]);
    let mut manifest =
        format!("[component]\nname = \"{name}\"\nversion = \"0.1.0\"\nkind = \"{kind}\"\n");
    if kind == "tool" {
        manifest +=
            &format!("[[permissions.http]]\norigin = \"http://{origin}\"\nmethods = [\"GET\"]\n");
    }
    let body = json!({"manifest": manifest, "wasm": STANDARD.encode(wasm)});
    let installed = ambit.admin(Method::POST, "/components", body).await?;
    let agent = format!("{label}-{kind}");
    let mut definition = json!({"name": agent, "instructions": "x", "model": "openai/mock-1", "limits": {"steps": 4}});
    if kind == "tool" {
        definition["tools"] = json!([name]);
        let rule = json!({"origin": format!("http://{origin}"), "methods": ["GET"]});
        let grant = json!({ "http": [rule] });
        ambit
            .admin(Method::PUT, &format!("/grants/{name}"), grant)
            .await?;
    } else {
        definition["component"] = json!(name);
    }
    let path = format!("/tenants/globex/slots/{kind}/{name}");
    let component = json!({"component": installed["digest"]});
    ambit.admin(Method::PUT, &path, component).await?;
    let path = format!("/tenants/globex/agents/{agent}");
    let applied = ambit.admin(Method::PUT, &path, definition).await?;
    anyhow::ensure!(applied["bound"] == true, "{applied}");
    Ok(agent)
}

/// The neighbour's outcome and the attacker's.
async fn besiege(neighbour: &Shot, attack: &Shot) -> Result<(Outcome, Outcome)> {
    let flat_out = Load::closed(ATTACKERS, NEIGHBOUR.duration);
    tokio::try_join!(load::run(neighbour, NEIGHBOUR), load::run(attack, flat_out))
}
