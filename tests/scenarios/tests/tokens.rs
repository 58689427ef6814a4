//! A credential that narrows: whoever holds it holds no more than it names, whatever agent or collection is asked.

use ambit_mock_provider::{Mock, Reply, Script};
use ambit_scenarios::{Ambit, Tenant, binary};
use reqwest::Method;
use serde_json::{Value, json};

/// A key of the tenant that narrows to these permissions.
async fn narrowed(ambit: &Ambit, tenant: &Tenant, permissions: Value) -> Tenant {
    let path = format!("/tenants/{}/keys", tenant.slug);
    let body = json!({ "name": "narrowed", "permissions": permissions });
    let key = ambit
        .admin(Method::POST, &path, body.to_string())
        .await
        .unwrap();
    assert_eq!(key["permissions"], permissions);
    Tenant {
        api_key: key["key"].as_str().unwrap().to_owned(),
        ..tenant.clone()
    }
}

async fn status(ambit: &Ambit, tenant: &Tenant, path: &str, body: &Value) -> u16 {
    let response = ambit.post(tenant, path, body).await.unwrap();
    response.status().as_u16()
}

#[tokio::test]
async fn a_credential_narrows_models_and_collections() {
    let Some(binary) = binary() else { return };
    let mock = Mock::start(Script::models([(
        "mock-1",
        Reply::Text("All is well.".into()),
    )]))
    .await
    .unwrap();
    let ambit = Ambit::up(&binary, Some(&mock.url())).await.unwrap();
    let acme = ambit.tenant("acme");
    let collections = ambit.get("/tenants/acme/collections").await.unwrap();
    let collection = collections["data"][0]["name"].as_str().unwrap().to_owned();

    let chat = |model: &str| json!({ "model": model, "messages": [{ "role": "user", "content": "What is an ambit?" }] });
    let search = format!("/vector_stores/{collection}/search");
    let query = json!({ "query": "permissions" });
    let read = format!("read:{collection}");
    let all = json!({ "models": ["openai/mock-1"], "collections": [read] });
    let model_only = json!({ "models": ["openai/mock-1"] });
    let other_model = json!({ "models": ["openai/other"], "collections": [read] });
    let cases = [
        // What it names, pass-through, the agent's model, search.
        (all, 200, 200, 200),
        (model_only, 200, 200, 403),
        (other_model, 404, 403, 200),
        (json!({}), 404, 403, 403),
    ];
    for (permissions, plain, agent, found) in cases {
        let key = narrowed(&ambit, acme, permissions.clone()).await;
        let asked = [
            status(&ambit, &key, "/chat/completions", &chat("openai/mock-1")).await,
            status(&ambit, &key, "/chat/completions", &chat("assistant")).await,
            status(&ambit, &key, &search, &query).await,
        ];
        assert_eq!(asked, [plain, agent, found], "{permissions}");
    }

    // A key that asks for more than anybody granted has no more for it.
    let wide = json!({ "models": ["*"], "collections": ["read:*"] });
    let key = narrowed(&ambit, acme, wide).await;
    let denied = status(&ambit, &key, "/chat/completions", &chat("elsewhere/model")).await;
    assert_eq!(denied, 404);

    // What cannot be read as permissions is no key at all.
    let body = json!({ "name": "typo", "permissions": { "modles": [] } });
    let refused = ambit
        .admin(Method::POST, "/tenants/acme/keys", body.to_string())
        .await;
    assert!(refused.unwrap_err().to_string().contains("modles"));
}
