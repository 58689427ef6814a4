//! What `/metrics` counts, and that nobody outside can make it grow.

use ambit_mock_provider::{Mock, Script};
use ambit_scenarios::{Ambit, binary};
use futures::{StreamExt as _, stream};
use reqwest::header::HOST;
use serde_json::json;
use std::collections::BTreeSet;

/// Made-up names of each sort.
const NAMES: usize = 10_000;
/// Requests at the same time.
const AT_ONCE: usize = 32;

async fn metrics(ambit: &Ambit) -> String {
    let url = format!("{}/metrics", ambit.up.ops_url);
    ambit
        .client
        .get(url)
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap()
}

fn series(metrics: &str) -> BTreeSet<&str> {
    let lines = metrics.lines().filter(|line| !line.starts_with('#'));
    lines
        .filter_map(|line| Some(line.rsplit_once(' ')?.0))
        .collect()
}

/// A request that names something nobody made.
async fn hostile(ambit: &Ambit, n: usize) {
    let tenant = &ambit.up.tenants[0];
    let url = format!("{}/v1/chat/completions", ambit.up.url);
    let (host, model) = match n % 4 {
        0 => (format!("made-up-{n}.localhost"), "assistant".to_owned()),
        1 => (tenant.host.clone(), format!("agent-{n}")),
        2 => (tenant.host.clone(), format!("provider-{n}/model")),
        _ => (tenant.host.clone(), format!("openai/model-{n}\"}} 1\n")),
    };
    let body = json!({"model": model, "messages": [{"role": "user", "content": "Hello"}], "user": n.to_string()});
    let request = ambit.client.post(url).header(HOST, host).json(&body);
    let request = request
        .bearer_auth(&tenant.api_key)
        .header("x-request-id", format!("id-{n}"));
    request.send().await.unwrap().bytes().await.unwrap();
}

#[tokio::test]
async fn names_that_callers_make_up_add_no_series() {
    let Some(binary) = binary() else { return };
    let mock = Mock::start(Script::text("Fine.")).await.unwrap();
    let ambit = Ambit::up(&binary, Some(&mock.url())).await.unwrap();
    let tenant = &ambit.up.tenants[0];
    for model in ["assistant", "openai/mock-1"] {
        let body = json!({"model": model, "messages": [{"role": "user", "content": "Hello"}]});
        let answer = ambit
            .post(tenant, "/chat/completions", &body)
            .await
            .unwrap();
        assert_eq!(answer.status(), 200);
    }
    for n in 0..4 {
        hostile(&ambit, n).await;
    }
    // The second one counts the first.
    metrics(&ambit).await;
    let before = metrics(&ambit).await;
    // Each family that the operator is promised.
    for family in [
        "ambit_requests_total{tenant=\"acme\",agent=\"assistant\"",
        "ambit_request_seconds_bucket{",
        "ambit_tokens_total{tenant=\"acme\"",
        "ambit_verdicts_total{tenant=\"acme\"",
        "ambit_model_calls_total{tenant=\"acme\"",
        "agent=\"assistant\",stage=\"input\",action=\"allow\"",
        "ambit_component_calls_total{component=\"ambit:guardrail-baseline\",tenant=\"acme\",agent=\"assistant\",outcome=\"ok\"",
        "ambit_component_calls_total{component=\"ambit:agent-assistant\",tenant=\"acme\",agent=\"assistant\",outcome=\"ok\"",
        "ambit_component_calls_total{component=\"ambit:retrieval-hybrid\",tenant=\"acme\",agent=\"assistant\",outcome=\"ok\"",
        "ambit_component_calls_total{component=\"ambit:guardrail-baseline\",tenant=\"acme\",agent=\"openai/*\",outcome=\"ok\"",
        "ambit_component_calls_total{component=\"ambit:routing-subdomain\",tenant=\"_host\",agent=\"_none\",outcome=\"ok\"",
        "ambit_component_cpu_milliseconds_total{",
        "ambit_pool_used{engine=\"pure\",of=\"memories\"",
        "ambit_pool_slots{engine=\"effectful\",of=\"stacks\"} 1000",
        "ambit_pool_idle_bytes{",
        "ambit_executor_waiting ",
        "ambit_connections ",
        "ambit_requests_in_flight ",
    ] {
        assert!(before.contains(family), "{family} in:\n{before}");
    }
    assert!(before.ends_with("# EOF\n"));

    stream::iter(4..4 * NAMES)
        .for_each_concurrent(AT_ONCE, |n| hostile(&ambit, n))
        .await;
    let after = metrics(&ambit).await;
    let new: Vec<&str> = series(&after)
        .difference(&series(&before))
        .copied()
        .collect();
    assert!(new.is_empty(), "{new:#?}");
}
