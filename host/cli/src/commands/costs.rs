//! `ambit costs`.

use super::print;
use crate::{
    args::{Costs, Format},
    client::{Client, segment},
};
use serde_json::Value;
use std::{io::Write as _, process::ExitCode};

pub(crate) async fn run(command: Costs) -> anyhow::Result<ExitCode> {
    let client = Client::open(&command.target).await?;
    if command.check {
        return check(&client, &command).await;
    }
    let mut by: Vec<&str> = command.by.iter().map(String::as_str).collect();
    let path = match &command.tenant {
        Some(tenant) => format!("/tenants/{}/costs", segment(tenant)),
        None => {
            by.insert(0, "tenant");
            "/costs".to_owned()
        }
    };
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.append_pair("by", &by.join(","));
    query.extend_pairs(command.from.iter().map(|day| ("from", day)));
    query.extend_pairs(command.to.iter().map(|day| ("to", day)));
    let costs = client.list(&format!("{path}?{}", query.finish())).await?;
    by.extend([
        "calls",
        "input_tokens",
        "cached_tokens",
        "output_tokens",
        "cost",
    ]);
    print(command.target.format, &costs, &by);
    if command.target.format == Format::Text && costs.is_empty() {
        let _ = writeln!(
            std::io::stderr(),
            "note: no calls of models that have a price; docs/ledger.md says how to give them one"
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// Of each tenant, whether its ledger says what its journal does.
async fn check(client: &Client, command: &Costs) -> anyhow::Result<ExitCode> {
    let tenants = match &command.tenant {
        Some(tenant) => vec![tenant.clone()],
        None => {
            let tenants = client.list("/tenants").await?;
            let slug = |tenant: &Value| tenant["slug"].as_str().map(str::to_owned);
            tenants.iter().filter_map(slug).collect()
        }
    };
    let mut rows = Vec::new();
    for tenant in tenants {
        let path = format!("/tenants/{}/costs/check", segment(&tenant));
        let mut report = client.get(&path).await?;
        report["tenant"] = tenant.into();
        rows.push(report);
    }
    let columns = ["tenant", "holds", "sessions", "cost", "removed", "faults"];
    print(command.target.format, &rows, &columns);
    let all = rows.iter().all(|report| report["holds"] == true);
    Ok(ExitCode::from(u8::from(!all)))
}
