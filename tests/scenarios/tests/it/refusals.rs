//! How a request is turned away that is wrong in itself: another method, one request too many, another tenant's things.

use ambit_gateway::{ADMIN_ROUTES, DATA_ROUTES, OPS_ROUTES, Route};
use ambit_scenarios::{Ambit, Tenant, binary};
use reqwest::{Method, Response, header::HOST};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Every path of these routes, with each parameter filled, and its methods; `GET` brings `HEAD` along.
pub(crate) fn paths(routes: &[Route<()>]) -> BTreeMap<String, BTreeSet<&'static str>> {
    let mut paths = BTreeMap::<_, BTreeSet<_>>::new();
    for route in routes {
        let parts = route.path.split('/').map(|part| match part {
            "{tenant}" => "acme",
            "{component}" => "ambit:tool-datetime",
            part if part.starts_with('{') => "x",
            part => part,
        });
        let path = parts.collect::<Vec<_>>().join("/");
        let methods = paths.entry(path).or_default();
        methods.insert(route.method);
        if route.method == "GET" {
            methods.insert("HEAD");
        }
    }
    paths
}

async fn ask(ambit: &Ambit, method: &str, path: &str, host: Option<&str>, key: &str) -> Response {
    let method = Method::from_bytes(method.as_bytes()).unwrap();
    let url = format!("{}{path}", ambit.up.url);
    let mut request = ambit.client.request(method, url).bearer_auth(key);
    if let Some(host) = host {
        request = request.header(HOST, host);
    }
    request.send().await.unwrap()
}

fn allowed(answer: &Response) -> BTreeSet<String> {
    let allow = answer.headers()["allow"].to_str().unwrap();
    allow
        .split(',')
        .map(|method| method.trim().to_owned())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_method_is_told_the_right_ones_in_its_planes_words() {
    let Some(binary) = binary() else { return };
    let ambit = Ambit::up(&binary, None).await.unwrap();
    let acme = ambit.tenant("acme");
    for (routes, host, key) in [
        (DATA_ROUTES, Some(acme.host.as_str()), acme.api_key.as_str()),
        (OPS_ROUTES, None, ambit.up.admin_key.as_str()),
        (ADMIN_ROUTES, None, ambit.up.admin_key.as_str()),
    ] {
        for (path, methods) in paths(routes) {
            let wrong = ["PATCH", "DELETE", "PUT", "POST", "GET"].into_iter();
            for method in wrong.filter(|method| !methods.contains(method)) {
                let answer = ask(&ambit, method, &path, host, key).await;
                assert_eq!(answer.status(), 405, "{method} {path}");
                assert!(
                    allowed(&answer).iter().eq(methods.iter()),
                    "{method} {path}: {answer:?}"
                );
                assert!(answer.headers().contains_key("x-request-id"));
                let kind = answer.headers()["content-type"].clone();
                let body: Value = answer.json().await.unwrap();
                if host.is_some() {
                    assert_eq!(kind, "application/json");
                    assert_eq!(body["error"]["code"], "method_not_allowed", "{body}");
                    assert_eq!(body["error"]["type"], "invalid_request_error", "{body}");
                } else {
                    assert_eq!(kind, "application/problem+json");
                    assert_eq!(
                        (&body["code"], &body["status"]),
                        (&json!("method_not_allowed"), &json!(405))
                    );
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_request_too_many_is_told_when_to_come_back() {
    let Some(binary) = binary() else { return };
    let ambit = Ambit::up(&binary, None).await.unwrap();
    let acme = ambit.tenant("acme");
    let made = ambit
        .admin(
            Method::POST,
            "/tenants/acme/keys",
            json!({"name": "busy"}).to_string(),
        )
        .await
        .unwrap();
    let key = made["key"].as_str().unwrap();
    let models = async |key: &str| ask(&ambit, "GET", "/v1/models", Some(&acme.host), key).await;
    let number = |answer: &Response, name: &str| -> u32 {
        answer.headers()[name].to_str().unwrap().parse().unwrap()
    };
    let first = models(key).await;
    assert_eq!(first.status(), 200);
    let limit = number(&first, "x-ratelimit-limit-requests");
    let remaining = number(&first, "x-ratelimit-remaining-requests");
    assert!(
        remaining > 0
            && first.headers()["x-ratelimit-reset-requests"]
                .to_str()
                .unwrap()
                .ends_with('s')
    );

    let mut refused = None;
    for _ in 0..100 {
        let answers = futures::future::join_all((0..20).map(|_| models(key))).await;
        refused = answers.into_iter().find(|answer| answer.status() == 429);
        if refused.is_some() {
            break;
        }
    }
    let refused = refused.expect("somebody in a loop is stopped");
    assert!(number(&refused, "retry-after") >= 1);
    assert_eq!(number(&refused, "x-ratelimit-limit-requests"), limit);
    assert_eq!(number(&refused, "x-ratelimit-remaining-requests"), 0);
    assert!(refused.headers().contains_key("x-ratelimit-reset-requests"));
    let body: Value = refused.json().await.unwrap();
    assert_eq!(body["error"]["code"], "rate_limit_exceeded", "{body}");

    // Nobody else pays for it, and the demo's own key has no limit to speak of.
    let other = models(&acme.api_key).await;
    assert_eq!(other.status(), 200);
    assert!(!other.headers().contains_key("x-ratelimit-limit-requests"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_tenant_has_does_not_exist() {
    let Some(binary) = binary() else { return };
    let ambit = Ambit::up(&binary, None).await.unwrap();
    let (acme, globex) = (ambit.tenant("acme"), ambit.tenant("globex"));
    let agent =
        json!({"name": "private", "model": "extractive/sentences", "collections": ["handbook"]});
    ambit.apply(acme, &agent).await.unwrap();
    let body = json!({"model": "private", "messages": [{"role": "user", "content": "Hello?"}]});
    let search = json!({"query": "permissions"});
    let found = async |tenant: &Tenant| {
        let chat = ambit
            .post(tenant, "/chat/completions", &body)
            .await
            .unwrap();
        let search = ambit
            .post(tenant, "/vector_stores/handbook/search", &search)
            .await
            .unwrap();
        let model = ask(
            &ambit,
            "GET",
            "/v1/models/private",
            Some(&tenant.host),
            &tenant.api_key,
        )
        .await;
        [
            chat.status().as_u16(),
            search.status().as_u16(),
            model.status().as_u16(),
        ]
    };
    assert_eq!(found(acme).await, [200, 200, 200]);
    assert_eq!(found(globex).await, [404, 404, 404]);
    // An agent that names another tenant's collection finds nothing in it.
    ambit.apply(globex, &agent).await.unwrap();
    let answer = ambit.ask(globex, &body).await.unwrap();
    assert!(!answer.body.contains("url_citation"), "{answer:?}");
    let path = "/tenants/globex/sessions";
    let sessions = ambit.get(path).await.unwrap();
    let mut others = ambit.get("/tenants/acme/sessions").await.unwrap()["data"].take();
    for session in others.as_array_mut().unwrap() {
        let id = session["id"].as_str().unwrap();
        assert!(!sessions.to_string().contains(id));
        let foreign = ambit.get(&format!("{path}/{id}")).await.unwrap_err();
        assert!(foreign.to_string().contains("404"), "{foreign}");
    }
}
