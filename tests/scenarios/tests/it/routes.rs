//! Every route of every plane, asked by those who may not: without a credential, as another tenant, from the wrong host. The lists are
//! the program's own, so a new route is in this test before anybody thinks of it. And what a tenant's host answers to good and bad
//! requests: shapes, headers, caps.

use ambit_gateway::{ADMIN_ROUTES, DATA_ROUTES, OPS_ROUTES};
use ambit_scenarios::{Ambit, Tenant, binary};
use reqwest::{Method, Response, header::HOST};
use serde_json::{Value, json};

/// A path in which every parameter has some value.
fn filled(path: &str) -> String {
    let mut out = String::new();
    let mut rest = path;
    while let Some((before, after)) = rest.split_once('{') {
        out.push_str(before);
        let (name, after) = after.split_once('}').unwrap();
        out.push_str(match name {
            "tenant" => "acme",
            "host" => "agents.example.com",
            "component" => "ambit:guardrail-baseline",
            "*slot" => "guardrail",
            "digest" => "0000000000000000000000000000000000000000000000000000000000000000",
            "session" => "ses_00000000000000000000000000000001",
            _ => "x",
        });
        rest = after;
    }
    out + rest
}

/// The two planes as a stranger sees them.
struct Planes<'a>(&'a Ambit);

impl Planes<'_> {
    async fn ask(
        &self,
        method: &str,
        path: &str,
        host: Option<&str>,
        key: Option<&str>,
    ) -> Response {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let mut request = self
            .0
            .client
            .request(method, format!("{}{path}", self.0.up.url))
            .body("{}");
        if let Some(host) = host {
            request = request.header(HOST, host);
        }
        if let Some(key) = key {
            request = request.bearer_auth(key);
        }
        request.send().await.unwrap()
    }

    async fn status(&self, method: &str, path: &str, host: Option<&str>, key: Option<&str>) -> u16 {
        let answer = self.ask(method, path, host, key).await;
        assert!(
            answer.headers()["x-request-id"]
                .to_str()
                .unwrap()
                .starts_with("req_"),
            "{method} {path}"
        );
        answer.status().as_u16()
    }

    fn tenant(&self, slug: &str) -> &Tenant {
        self.0.tenant(slug)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_route_answers_whom_it_should_not() {
    let Some(binary) = binary() else { return };
    let ambit = Ambit::up(&binary, None).await.unwrap();
    let planes = Planes(&ambit);
    let (acme, globex) = (planes.tenant("acme"), planes.tenant("globex"));
    let host = Some(acme.host.as_str());
    for route in DATA_ROUTES {
        let path = filled(route.path);
        for key in [
            None,
            Some(globex.api_key.as_str()),
            Some(ambit.up.admin_key.as_str()),
            Some("amb_0000000000000000_00"),
        ] {
            assert_eq!(
                planes.status(route.method, &path, host, key).await,
                401,
                "{} {path}",
                route.method
            );
        }
        assert_eq!(
            planes
                .status(route.method, &path, None, Some(&acme.api_key))
                .await,
            404,
            "{path} under a loopback name"
        );
        assert_eq!(
            planes
                .status(
                    route.method,
                    &path,
                    Some("nobody.localhost"),
                    Some(&acme.api_key)
                )
                .await,
            404,
            "{path}"
        );
        let below = format!("/t/globex{path}");
        assert_eq!(
            planes
                .status(route.method, &below, None, Some(&acme.api_key))
                .await,
            401,
            "{below}"
        );
        assert_eq!(
            planes
                .status(route.method, &below, host, Some(&acme.api_key))
                .await,
            404,
            "{below} on another tenant's host"
        );
    }
    for route in OPS_ROUTES.iter().chain(ADMIN_ROUTES) {
        let path = filled(route.path);
        for key in [
            None,
            Some(acme.api_key.as_str()),
            Some(ambit.up.admin_key.as_str()),
        ] {
            assert_eq!(
                planes.status(route.method, &path, host, key).await,
                404,
                "{} {path} on a tenant's host",
                route.method
            );
        }
    }
    // Whom they are for they do answer: not as if there were no such path, method or caller.
    for (routes, host, key) in [
        (DATA_ROUTES, host, &acme.api_key),
        (ADMIN_ROUTES, None, &ambit.up.admin_key),
    ] {
        // Nothing is deleted: the walk goes on with what is there.
        for route in routes.iter().filter(|route| route.method != "DELETE") {
            let path = filled(route.path);
            let answer = planes.ask(route.method, &path, host, Some(key)).await;
            let status = answer.status().as_u16();
            assert!(![401, 405].contains(&status), "{} {path}", route.method);
            let told = answer.text().await.unwrap();
            for nothing in [
                "there is nothing here under this name",
                "there is no such path",
            ] {
                assert!(!told.contains(nothing), "{} {path}", route.method);
            }
        }
    }
    for route in ADMIN_ROUTES {
        let path = filled(route.path);
        for key in [None, Some(acme.api_key.as_str()), Some("adm_0")] {
            let answer = planes.ask(route.method, &path, None, key).await;
            assert_eq!(answer.status(), 401, "{} {path}", route.method);
            assert_eq!(answer.headers()["content-type"], "application/problem+json");
            assert_eq!(answer.headers()["www-authenticate"], "Bearer");
        }
    }
    for path in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(planes.status("GET", path, None, None).await, 200, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenants_host_speaks_openai() {
    let Some(binary) = binary() else { return };
    let ambit = Ambit::up(&binary, None).await.unwrap();
    let planes = Planes(&ambit);
    let acme = planes.tenant("acme");
    let question = json!({"model": "assistant", "messages": [{"role": "user", "content": "How are the permissions of a component narrowed?"}]});

    let answer = ambit
        .post(acme, "/chat/completions", &question)
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
    assert!(
        answer.headers()["x-ambit-session"]
            .to_str()
            .unwrap()
            .starts_with("ses_")
    );
    let body: Value = answer.json().await.unwrap();
    let message = &body["choices"][0]["message"];
    assert!(!message["content"].as_str().unwrap().is_empty());
    assert!(
        message["annotations"][0]["url_citation"]["document"].is_string(),
        "{message}"
    );

    let mut streamed = question.clone();
    streamed["stream"] = true.into();
    streamed["stream_options"] = json!({"include_usage": true});
    let text = ambit
        .post(acme, "/chat/completions", &streamed)
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    let events: Vec<_> = text
        .split_terminator("\n\n")
        .filter_map(|event| event.strip_prefix("data: "))
        .collect();
    assert_eq!(events.last(), Some(&"[DONE]"));
    let read = |event: &str| serde_json::from_str::<Value>(event).unwrap();
    assert_eq!(read(events[events.len() - 2])["choices"], json!([]));
    assert_eq!(
        read(events[events.len() - 3])["choices"][0]["finish_reason"],
        "stop"
    );

    for (body, status, code, param) in [
        (
            json!({"model": "absent", "messages": [{"role": "user", "content": "x"}]}),
            404,
            "not_found",
            Value::Null,
        ),
        (
            json!({"model": "absent/model", "messages": [{"role": "user", "content": "x"}]}),
            404,
            "not_found",
            Value::Null,
        ),
        (
            json!({"model": "assistant", "messages": "x"}),
            400,
            "invalid_request",
            json!("messages"),
        ),
        (
            json!({"model": "assistant", "messages": [{"role": "user", "content": "x"}], "n": 2}),
            400,
            "invalid_request",
            json!("n"),
        ),
    ] {
        let answer = ambit.post(acme, "/chat/completions", &body).await.unwrap();
        assert_eq!(answer.status(), status, "{body}");
        let error: Value = answer.json().await.unwrap();
        assert_eq!(
            (&error["error"]["code"], &error["error"]["param"]),
            (&json!(code), &param),
            "{error}"
        );
    }

    let large = json!({"model": "assistant", "messages": [{"role": "user", "content": "x".repeat(9 << 20)}]});
    // A server that refuses a body before reading it may close while the client still sends.
    if let Ok(answer) = ambit.post(acme, "/chat/completions", &large).await {
        assert_eq!(answer.status(), 413);
    }

    let verdict = ambit
        .post(
            acme,
            "/moderations",
            &json!({"input": ["ä a@example.org", "fine"], "stage": "output"}),
        )
        .await
        .unwrap();
    let verdict: Value = verdict.json().await.unwrap();
    assert_eq!(verdict["results"][0]["spans"][0]["start"], 2, "{verdict}");
    assert_eq!(
        (
            &verdict["results"][1]["flagged"],
            &verdict["results"][1]["action"]
        ),
        (&json!(false), &json!("allow"))
    );

    let found = ambit
        .post(
            acme,
            "/vector_stores/handbook/search",
            &json!({"query": "permissions", "max_num_results": 3}),
        )
        .await
        .unwrap();
    let found: Value = found.json().await.unwrap();
    assert!(
        found["data"][0]["attributes"]["anchor"].is_string()
            && found["data"].as_array().unwrap().len() <= 3,
        "{found}"
    );
    let missing = ambit
        .post(acme, "/vector_stores/absent/search", &json!({"query": "x"}))
        .await
        .unwrap();
    assert_eq!(missing.status(), 404);

    let models = planes
        .ask("GET", "/v1/models", Some(&acme.host), Some(&acme.api_key))
        .await
        .json::<Value>()
        .await
        .unwrap();
    assert_eq!(models["data"][0]["id"], "assistant");
    assert_eq!(
        planes
            .status(
                "GET",
                "/v1/models/assistant",
                Some(&acme.host),
                Some(&acme.api_key)
            )
            .await,
        200
    );
    assert_eq!(
        planes
            .status(
                "GET",
                "/v1/models/absent",
                Some(&acme.host),
                Some(&acme.api_key)
            )
            .await,
        404
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_works_until_it_is_revoked_and_no_longer() {
    let Some(binary) = binary() else { return };
    let ambit = Ambit::up(&binary, None).await.unwrap();
    let planes = Planes(&ambit);
    let acme = planes.tenant("acme");
    let body = json!({"name": "for the test", "scopes": ["moderate"]}).to_string();
    let made = ambit
        .admin(Method::POST, "/tenants/acme/keys", body)
        .await
        .unwrap();
    let key = made["key"].as_str().unwrap();
    let moderate = async || {
        let url = format!("{}/v1/moderations", ambit.up.url);
        let request = ambit
            .client
            .post(url)
            .header(HOST, &acme.host)
            .bearer_auth(key)
            .json(&json!({"input": "x"}));
        request.send().await.unwrap().status().as_u16()
    };
    assert_eq!(moderate().await, 200);
    assert_eq!(
        planes
            .status("GET", "/v1/models", Some(&acme.host), Some(key))
            .await,
        403,
        "a scope it lacks"
    );
    let listed = ambit
        .admin(Method::GET, "/tenants/acme/keys", "")
        .await
        .unwrap();
    assert!(
        !listed.to_string().contains(key) && !listed.to_string().contains("hash"),
        "a listing shows no secret"
    );
    let path = format!("/tenants/acme/keys/{}", made["id"].as_str().unwrap());
    for _ in 0..2 {
        assert!(ambit.admin(Method::DELETE, &path, "").await.unwrap()["revoked_ms"].is_i64());
        assert_eq!(moderate().await, 401);
    }
}
