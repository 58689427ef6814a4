//! `ambit budget`.

use super::{print, show};
use crate::{
    args::{Budget, Of, Period},
    client::{Client, segment},
};
use serde_json::{Value, json};
use std::process::ExitCode;

const COLUMNS: [&str; 8] = [
    "scope", "id", "period", "limit", "spent", "held", "left", "renews",
];

pub(crate) async fn run(command: Budget) -> anyhow::Result<ExitCode> {
    match command {
        Budget::Set { limit, of, target } => {
            let client = Client::open(&target).await?;
            let (scope, id) = of.scope();
            let mut body = json!({ "scope": scope, "period": of.period(), "limit": limit });
            if let Some(id) = id {
                body["id"] = id.into();
            }
            let budget = client.put(&path(&of.tenant), &body).await?;
            print(target.format, &[budget], &COLUMNS);
        }
        Budget::List { tenant, target } => {
            let budgets = Client::open(&target).await?.list(&path(&tenant)).await?;
            print(target.format, &budgets, &COLUMNS);
        }
        Budget::Remove { of, target } => {
            let client = Client::open(&target).await?;
            let (scope, id) = of.scope();
            let mut query = url::form_urlencoded::Serializer::new(String::new());
            query.append_pair("scope", scope);
            query.append_pair("period", of.period());
            query.extend_pairs(id.map(|id| ("id", id)));
            let at = format!("{}?{}", path(&of.tenant), query.finish());
            let removed = client.delete(&at).await?;
            show(target.format, &removed, |removed| {
                match removed["removed"] == Value::Bool(true) {
                    true => "the budget is removed".to_owned(),
                    false => "there was no such budget".to_owned(),
                }
            });
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn path(tenant: &str) -> String {
    format!("/tenants/{}/budgets", segment(tenant))
}

impl Of {
    fn scope(&self) -> (&'static str, Option<&str>) {
        match (&self.key, &self.agent, &self.session) {
            (Some(key), ..) => ("key", Some(key)),
            (_, Some(agent), _) => ("agent", Some(agent)),
            (.., Some(session)) => ("session", Some(session)),
            _ => ("tenant", None),
        }
    }

    fn period(&self) -> &'static str {
        match self.period {
            Period::Day => "day",
            Period::Month => "month",
            Period::None => "none",
        }
    }
}
