//! Under which names and addresses a tenant and the operator answer.

use ambit_scenarios::{Ambit, binary};
use reqwest::{Method, header::HOST};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_answers_under_its_own_names_and_below_its_path_on_loopback() {
    let Some(binary) = binary() else { return };
    let ambit = Ambit::up(&binary, None).await.unwrap();
    let (acme, globex) = (ambit.tenant("acme"), ambit.tenant("globex"));
    let models = async |path: &str, host: Option<&str>, key: &str| {
        let request = ambit.client.get(format!("{}{path}", ambit.up.url));
        let request = match host {
            Some(host) => request.header(HOST, host),
            None => request,
        };
        request
            .bearer_auth(key)
            .send()
            .await
            .unwrap()
            .status()
            .as_u16()
    };
    let below = "/t/acme/v1/models";
    assert_eq!(models(below, None, &acme.api_key).await, 200);
    assert_eq!(models(below, None, &globex.api_key).await, 401);
    let question = json!({"model": "assistant", "messages": [{"role": "user", "content": "How are permissions narrowed?"}]});
    let url = format!("{}/t/acme/v1/chat/completions", ambit.up.url);
    let request = ambit
        .client
        .post(url)
        .bearer_auth(&acme.api_key)
        .json(&question);
    assert_eq!(request.send().await.unwrap().status(), 200);

    // A name of its own, from the next request on, however it is written; another tenant cannot have it.
    let own = "/tenants/acme/hosts/agents.example.com";
    let spellings = [
        "agents.example.com",
        "Agents.Example.COM:8080",
        "agents.example.com.",
    ];
    let all = async |status: u16| {
        for host in spellings {
            let asked = models("/v1/models", Some(host), &acme.api_key).await;
            assert_eq!(asked, status, "{host}");
        }
    };
    all(404).await;
    ambit.put(own, &json!({})).await.unwrap();
    all(200).await;
    assert_eq!(
        models("/v1/models", Some(spellings[0]), &globex.api_key).await,
        401
    );
    let taken = ambit
        .put("/tenants/globex/hosts/agents.example.com", &json!({}))
        .await;
    assert!(taken.unwrap_err().to_string().contains("409"));
    ambit.admin(Method::DELETE, own, "").await.unwrap();
    all(404).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn off_loopback_metrics_need_the_admin_key() {
    let Some(binary) = binary() else { return };
    let ambit = Ambit::serve_new(&binary, "listen.ops = \"0.0.0.0:0\"\n", &[])
        .await
        .unwrap();
    let status = async |path: &str, key: Option<&str>| {
        let mut request = ambit.client.get(format!("{}{path}", ambit.up.ops_url));
        if let Some(key) = key {
            request = request.bearer_auth(key);
        }
        request.send().await.unwrap().status().as_u16()
    };
    assert_eq!(status("/healthz", None).await, 200);
    for key in [None, Some("adm_0")] {
        assert_eq!(status("/metrics", key).await, 401, "{key:?}");
    }
    assert_eq!(status("/metrics", Some(&ambit.up.admin_key)).await, 200);
}
