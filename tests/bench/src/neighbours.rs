//! The rows of hostile components: what one tenant's component, flat out, does to the other tenant's 99th percentile.

use anyhow::{Context as _, Result};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::Method;
use serde_json::json;
use std::{path::Path, time::Duration};

use crate::{
    RunArguments,
    ambit::Ambit,
    load::{self, Load, Outcome, Shot},
    report::{Report, Table, median},
    targets,
};

/// Components of `tests/hostile` that need no network.
const GUESTS: [&str; 7] = [
    "tight_loop",
    "memory_hog",
    "deep_recursion",
    "log_flood",
    "oversize_result",
    "handle_hoard",
    "sleeper",
];
/// The hostile tenant has so many requests under way at any time.
const ATTACKERS: usize = 32;
/// The other one goes on at its own pace.
const NEIGHBOUR: Load = Load {
    connections: 4,
    pause: Duration::from_millis(10),
    duration: Duration::from_secs(3),
};
const ROUNDS: usize = 3;

pub(crate) async fn measure(run: &RunArguments, report: &mut Report) -> Result<()> {
    let Some(folder) = &run.hostile else {
        report.missing("hostile components: no --hostile given");
        return Ok(());
    };
    let (_mock, url) = targets::start_mock(&[]).await?;
    let Some(ambit) = Ambit::start(run, Some(&url)).await? else {
        return Ok(());
    };
    let neighbour = ambit.chat(0, "openai/mock-1", false)?;
    load::run(&neighbour, NEIGHBOUR).await?;
    let mut rows = Vec::new();
    for kind in ["agent", "tool"] {
        for guest in GUESTS {
            let model = unleash(&ambit, folder, guest, kind)
                .await
                .with_context(|| format!("{guest} as {kind}"))?;
            let attack = ambit.chat(1, &model, false)?;
            let (mut quiet, mut siege) = (Vec::new(), Vec::new());
            let (mut attacks, mut failed) = (0, 0);
            for _ in 0..ROUNDS {
                quiet.push(load::run(&neighbour, NEIGHBOUR).await?.percentile(99));
                let (held, hostile) = besiege(&neighbour, &attack).await?;
                siege.push(held.percentile(99));
                failed += held.failed;
                attacks += hostile.times.len() + hostile.failed;
            }
            let (quiet, siege) = (median(&quiet), median(&siege));
            rows.push(vec![
                guest.replace('_', " "),
                kind.to_owned(),
                attacks.to_string(),
                failed.to_string(),
                format!("{quiet:.2}"),
                format!("{siege:.2}"),
                format!("{:.2}", siege / quiet),
            ]);
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

/// Installs a guest for the second tenant; the model that is it.
async fn unleash(ambit: &Ambit, folder: &Path, guest: &str, kind: &str) -> Result<String> {
    let path = folder.join(format!("{guest}.wasm"));
    let mut wasm =
        std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let label = guest.replace('_', "-");
    let name = format!("hostile:{label}-{kind}");
    // A custom section: a digest belongs to one manifest.
    wasm.extend([0, 2, 1, if kind == "tool" { b't' } else { b'a' }]);
    let manifest =
        format!("[component]\nname = \"{name}\"\nversion = \"0.1.0\"\nkind = \"{kind}\"\n");
    let body = json!({"manifest": manifest, "wasm": STANDARD.encode(wasm)});
    let installed = ambit.admin(Method::POST, "/components", body).await?;
    let agent = format!("{label}-{kind}");
    let mut definition = json!({"name": agent, "instructions": "x", "model": "openai/mock-1", "limits": {"steps": 4}});
    if kind == "tool" {
        definition["tools"] = json!([name]);
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
