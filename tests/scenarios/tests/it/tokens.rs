//! A credential that narrows: whoever holds it holds no more than it names, whatever agent or collection is asked.

use ambit_mock_provider::{Call, Mock, Reply, Script};
use ambit_scenarios::{Ambit, Signal, Tenant, binary, until};
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

/// A token from `POST /v1/tokens`, made with the credential of `holder`: who holds it from now on, and what was answered.
async fn delegated(ambit: &Ambit, holder: &Tenant, asked: Value) -> (Tenant, Value) {
    let answer = ambit.post(holder, "/tokens", &asked).await.unwrap();
    let status = answer.status();
    let answer: Value = answer.json().await.unwrap();
    assert!(status.is_success(), "{asked}: {answer}");
    let api_key = answer["token"].as_str().unwrap().to_owned();
    let tenant = Tenant {
        api_key,
        ..holder.clone()
    };
    (tenant, answer)
}

fn chat(model: &str) -> Value {
    json!({ "model": model, "messages": [{ "role": "user", "content": "What is an ambit?" }] })
}

async fn asked(ambit: &Ambit, tenant: &Tenant, model: &str) -> u16 {
    status(ambit, tenant, "/chat/completions", &chat(model)).await
}

#[tokio::test]
async fn a_token_holds_no_more_than_what_it_was_made_with() {
    let Some(binary) = binary() else { return };
    let mock = Mock::start(Script::models([
        ("small", Reply::Text("All is well.".into())),
        ("large", Reply::Text("All is well.".into())),
    ]));
    let mock = mock.await.unwrap();
    let ambit = Ambit::up(&binary, Some(&mock.url())).await.unwrap();
    let acme = ambit.tenant("acme");
    let globex = ambit.tenant("globex");
    let models = |patterns: &[&str]| json!({ "grants": { "models": patterns } });

    // Of a narrowed key, delegated twice: what each of the three allows.
    let key = narrowed(&ambit, acme, json!({ "models": ["openai/*"] })).await;
    let (all, _) = delegated(&ambit, &key, json!({})).await;
    let (small, told) = delegated(&ambit, &all, models(&["openai/small", "elsewhere/*"])).await;
    let (none, _) = delegated(&ambit, &small, models(&["openai/large"])).await;
    assert_eq!(
        told["scopes"],
        json!(["chat", "retrieve", "moderate"]),
        "{told}"
    );
    for (holder, reaches) in [
        (&key, [200, 200, 403]),
        (&all, [200, 200, 403]),
        (&small, [200, 404, 403]),
        (&none, [404, 404, 403]),
    ] {
        let search = "/vector_stores/docs/search";
        let query = json!({ "query": "permissions" });
        let got = [
            asked(&ambit, holder, "openai/small").await,
            asked(&ambit, holder, "openai/large").await,
            status(&ambit, holder, search, &query).await,
        ];
        // A collection that is not there is not there: what counts is that the model is not the collection.
        assert_eq!(got[..2], reaches[..2]);
        assert!([403, 404].contains(&got[2]), "{got:?}");
    }
    // Scopes, agents and sessions.
    let (searcher, _) = delegated(&ambit, acme, json!({ "scopes": ["retrieve"] })).await;
    assert_eq!(asked(&ambit, &searcher, "openai/small").await, 403);
    let (wider, told) =
        delegated(&ambit, &searcher, json!({ "scopes": ["chat", "retrieve"] })).await;
    assert_eq!(told["scopes"], json!(["retrieve"]), "{told}");
    assert_eq!(asked(&ambit, &wider, "openai/small").await, 403);
    let (bound, _) = delegated(&ambit, acme, json!({ "agent": "assistant" })).await;
    assert_eq!(asked(&ambit, &bound, "assistant").await, 200);
    assert_eq!(
        asked(&ambit, &bound, "openai/small").await,
        404,
        "no agent at all"
    );
    let refused = ambit
        .post(&bound, "/tokens", &json!({ "agent": "other" }))
        .await
        .unwrap();
    assert_eq!(refused.status(), 400);
    let answer = ambit.ask(acme, &chat("assistant")).await.unwrap();
    let elsewhere = json!({ "session": answer.session.unwrap() });
    let (replayed, _) = delegated(&ambit, acme, elsewhere).await;
    assert_eq!(
        asked(&ambit, &replayed, "assistant").await,
        403,
        "for another session"
    );

    // Another tenant's is nobody's, in every header; a text that was changed is none.
    let stranger = Tenant {
        api_key: all.api_key.clone(),
        ..globex.clone()
    };
    assert_eq!(asked(&ambit, &stranger, "openai/small").await, 401);
    let (head, rest) = all.api_key.split_once('.').unwrap();
    let (claims, signature) = rest.split_once('.').unwrap();
    let (_, small_rest) = small.api_key.split_once('.').unwrap();
    let (small_claims, _) = small_rest.split_once('.').unwrap();
    for forged in [
        format!("{head}.{small_claims}.{signature}"),
        format!("{head}.{claims}."),
        format!(
            "{head}.{claims}.{}",
            signature.chars().rev().collect::<String>()
        ),
        format!("eyJhbGciOiJub25lIiwidHlwIjoiYW1iaXQtY2FwK2p3dCJ9.{claims}."),
        format!("{}.{signature}", "x".repeat(20_000)),
    ] {
        let forger = Tenant {
            api_key: forged.clone(),
            ..acme.clone()
        };
        assert_eq!(
            asked(&ambit, &forger, "openai/small").await,
            401,
            "{forged}"
        );
    }
    // What cannot be asked for is said by name.
    for (asked, word) in [
        (json!({ "expires_in": 0 }), "1 to 2592000 seconds"),
        (json!({ "expires_in": 9_999_999 }), "1 to 2592000 seconds"),
        (json!({ "budget": "1e9" }), "no amount"),
        (json!({ "grants": { "modles": [] } }), "modles"),
        (json!({ "scopes": ["everything"] }), "scopes"),
        (json!({ "colour": "red" }), "colour"),
        (json!({ "session": "ses_1" }), "session"),
    ] {
        let refused = ambit.post(acme, "/tokens", &asked).await.unwrap();
        let (status, body) = (refused.status(), refused.text().await.unwrap());
        assert!(
            status == 400 && body.contains(word),
            "{asked}: {status}: {body}"
        );
    }
}

#[tokio::test]
async fn a_revoked_token_ends_with_its_descendants_also_for_what_runs() {
    let Some(binary) = binary() else { return };
    let calls = (0..50).map(|_| vec![Call::new("now", "{}")]).collect();
    let script = Script {
        latency_ms: 100,
        ..Script::models([
            ("small", Reply::Text("All is well.".into())),
            ("busy", Reply::ToolsThenTell(calls)),
        ])
    };
    let mock = Mock::start(script).await.unwrap();
    let ambit = Ambit::up(&binary, Some(&mock.url())).await.unwrap();
    let acme = ambit.tenant("acme");
    let definition = json!({ "name": "busy", "model": "openai/busy", "tools": ["ambit:tool-datetime"], "limits": { "steps": 64 } });
    ambit.apply(acme, &definition).await.unwrap();
    let (parent, told) = delegated(&ambit, acme, json!({})).await;
    let (child, told_child) = delegated(&ambit, &parent, json!({})).await;
    let (sibling, _) = delegated(&ambit, acme, json!({})).await;
    let [id, child_id] = [&told, &told_child].map(|told| told["id"].as_str().unwrap().to_owned());
    for holder in [&parent, &child, &sibling] {
        assert_eq!(asked(&ambit, holder, "openai/small").await, 200);
    }
    // Only whoever is above it may end it.
    let delete = async |holder: &Tenant, id: &str| {
        let request = ambit
            .client
            .delete(format!("{}/v1/tokens/{id}", ambit.up.url))
            .header("host", &holder.host)
            .bearer_auth(&holder.api_key);
        request.send().await.unwrap().status().as_u16()
    };
    assert_eq!(delete(&child, &id).await, 404);
    assert_eq!(delete(&sibling, &id).await, 404);
    assert_eq!(delete(ambit.tenant("globex"), &id).await, 404);
    assert_eq!(delete(acme, "tok_1").await, 404);
    let runs = {
        let (ambit, child) = (&ambit, child.clone());
        async move { ambit.ask(&child, &chat("busy")).await.unwrap() }
    };
    let asked_before = mock.stats().requests;
    let revoke = async {
        until("it has taken some steps", async || {
            mock.stats().requests > asked_before + 3
        })
        .await;
        assert_eq!(delete(&parent, &id).await, 200);
    };
    let (answer, ()) = futures::join!(runs, revoke);
    assert_eq!(answer.status, 403, "{answer:?}");
    for (holder, good) in [(&parent, 401), (&child, 401), (&sibling, 200)] {
        assert_eq!(asked(&ambit, holder, "openai/small").await, good);
    }
    let listed = ambit.get("/tenants/acme/tokens").await.unwrap();
    let of = |id: &str| {
        let mut all = listed["data"].as_array().unwrap().iter();
        all.find(|one| one["id"] == id).unwrap()
    };
    assert!(
        of(&id)["revoked_ms"].is_i64() && of(&child_id)["revoked_ms"].is_null(),
        "{listed}"
    );
    assert!(!listed.to_string().contains(&parent.api_key));

    // It ends with the key it was issued to, and a restart forgets nothing.
    let key = narrowed(&ambit, acme, json!({ "models": ["openai/*"] })).await;
    let (of_key, _) = delegated(&ambit, &key, json!({})).await;
    assert_eq!(asked(&ambit, &of_key, "openai/small").await, 200);
    let keys = ambit.get("/tenants/acme/keys").await.unwrap();
    let keys = keys["data"].as_array().unwrap();
    let last = keys.iter().find(|one| one["name"] == "narrowed").unwrap()["id"]
        .as_str()
        .unwrap();
    let path = format!("/tenants/acme/keys/{last}");
    ambit.admin(Method::DELETE, &path, "").await.unwrap();
    assert_eq!(asked(&ambit, &of_key, "openai/small").await, 401);
}

#[tokio::test]
async fn tokens_survive_a_restart_and_so_does_their_end() {
    let Some(binary) = binary() else { return };
    let mock = Mock::start(Script::models([(
        "small",
        Reply::Text("All is well.".into()),
    )]));
    let mock = mock.await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let mut ambit = Ambit::up_on(&binary, &data, Some(&mock.url()))
        .await
        .unwrap();
    let acme = ambit.tenant("acme").clone();
    let (kept, _) = delegated(&ambit, &acme, json!({ "budget": "0.5" })).await;
    // What has no price cannot be kept within that budget; it is nobody else's.
    assert_eq!(asked(&ambit, &kept, "openai/small").await, 403);
    assert_eq!(asked(&ambit, &acme, "openai/small").await, 200);
    let (ended, told) = delegated(&ambit, &acme, json!({})).await;
    let path = format!("/tenants/acme/tokens/{}", told["id"].as_str().unwrap());
    ambit.admin(Method::DELETE, &path, "").await.unwrap();
    let again = ambit.admin(Method::DELETE, &path, "").await.unwrap();
    assert!(again["revoked_ms"].is_i64(), "{again}");
    ambit.signal(Signal::Terminate).await.unwrap();
    assert!(ambit.ended().await.unwrap().success());
    let ambit = Ambit::up_on(&binary, &data, Some(&mock.url()))
        .await
        .unwrap();
    assert_eq!(asked(&ambit, &kept, "openai/small").await, 403);
    assert_eq!(
        asked(&ambit, ambit.tenant("acme"), "openai/small").await,
        200
    );
    assert_eq!(asked(&ambit, &ended, "openai/small").await, 401);
    let budgets = ambit.get("/tenants/acme/budgets").await.unwrap();
    assert_eq!(budgets["data"][0]["scope"], "token", "{budgets}");
}

/// What is not enforced is done, and said in every answer, in the log and by metrics; but nobody is somebody else.
#[tokio::test]
async fn modes_that_do_not_enforce_are_loud() {
    let Some(binary) = binary() else { return };
    let mock = Mock::start(Script::models([(
        "small",
        Reply::Text("All is well.".into()),
    )]));
    let mock = mock.await.unwrap();
    for (mode, overlooked) in [("enforced", false), ("warn", true), ("disabled", false)] {
        let configuration = format!(
            "[tokens]\nmode = \"{mode}\"\n[providers.paid]\nurl = \"{}\"\n",
            mock.url()
        );
        let ambit = Ambit::serve_new(&binary, &configuration, &[])
            .await
            .unwrap();
        let grant = json!({ "models": ["paid/*"] });
        ambit
            .put("/grants/ambit:pass-through", &grant)
            .await
            .unwrap();
        let acme = ambit.new_tenant("acme").await.unwrap();
        let globex = ambit.new_tenant("globex").await.unwrap();
        let (nothing, _) = delegated(&ambit, &acme, json!({ "grants": {} })).await;
        let answer = ambit
            .post(&nothing, "/chat/completions", &chat("paid/small"))
            .await
            .unwrap();
        let enforced = mode == "enforced";
        assert_eq!(
            answer.status().as_u16(),
            if enforced { 404 } else { 200 },
            "{mode}"
        );
        let said = answer
            .headers()
            .get("x-ambit-tokens")
            .map(|value| value.to_str().unwrap());
        assert_eq!(said, (!enforced).then_some(mode));
        let metrics = ambit.client.get(format!("{}/metrics", ambit.up.ops_url));
        let metrics = metrics
            .bearer_auth(&ambit.up.admin_key)
            .send()
            .await
            .unwrap()
            .text()
            .await
            .unwrap();
        let line = format!("ambit_tokens_enforced {}", u8::from(enforced));
        assert!(metrics.contains(&line), "{mode}: {metrics}");
        assert_eq!(
            metrics.contains("ambit_tokens_overlooked_total{refusal=\"not-covered\"} 1"),
            overlooked,
            "{mode}: {metrics}"
        );
        let stranger = Tenant {
            api_key: nothing.api_key.clone(),
            ..globex
        };
        assert_eq!(asked(&ambit, &stranger, "paid/small").await, 401, "{mode}");
        let log = std::fs::read_to_string(ambit.data().join("log")).unwrap();
        assert_eq!(log.contains("tokens are not enforced"), !enforced, "{mode}");
    }
}
