//! A tenant's secrets and limits are its own: the real binary, a configuration with values, two hostile tools, two tenants.

use ambit_mock_provider::{Call, Mock, Script};
use ambit_scenarios::{Ambit, NewComponent, Tenant, binary, guest};
use serde_json::{Value, json};
use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    sync::Barrier,
};

const EVERYBODYS: &str = "everybodys-0123456789";
const GLOBEXS: &str = "globexs-9876543210";

/// Keeps what it is sent and answers with nothing.
async fn origin() -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let heard = Arc::<Mutex<Vec<String>>>::default();
    let requests = heard.clone();
    #[allow(clippy::disallowed_methods, reason = "ends with the test")]
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut head = vec![0; 4096];
            let length = socket.read(&mut head).await.unwrap_or_default();
            let text = String::from_utf8_lossy(&head[..length]).into_owned();
            requests.lock().unwrap().push(text);
            let answer = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
            let _ = socket.write_all(answer.as_bytes()).await;
        }
    });
    (address, heard)
}

/// Installs a hostile guest as a tool and grants what it asks for.
async fn install(ambit: &Ambit, name: &str, tables: &str, grant: Value) -> String {
    let wasm = guest(name).unwrap();
    let name = format!("hostile:{}", name.replace('_', "-"));
    let component = NewComponent::new(&name, "tool", wasm).tables(tables);
    ambit.install(&component).await.unwrap();
    let granted = ambit.put(&format!("/grants/{name}"), &grant).await.unwrap();
    assert_eq!(granted["missing"], json!([]));
    let slot = json!({ "component": name });
    ambit
        .put(&format!("/slots/tool/{name}"), &slot)
        .await
        .unwrap();
    name
}

async fn agent(ambit: &Ambit, tenant: &Tenant, name: &str, tool: &str) {
    let definition = json!({ "name": name, "model": "openai/mock-1", "tools": [tool] });
    ambit.apply(tenant, &definition).await.unwrap();
}

/// Has an agent call its tool; the tool's answer as the model was told it, and how long all took.
async fn run(ambit: &Ambit, mock: &Mock, tenant: &Tenant, agent: &str) -> (String, Duration) {
    let began = Instant::now();
    let body = json!({ "model": agent, "messages": [{ "role": "user", "content": "Go." }] });
    let response = ambit
        .post(tenant, "/chat/completions", &body)
        .await
        .unwrap();
    let status = response.status();
    let text = response.text().await.unwrap();
    assert!(status.is_success(), "{status}: {text}");
    let took = began.elapsed();
    let last = mock.stats().bodies.pop().unwrap();
    let last: Value = serde_json::from_slice(&last).unwrap();
    let told = last["messages"].as_array().unwrap().last().unwrap();
    assert_eq!(told["role"], "tool", "{told}");
    (told["content"].to_string(), took)
}

#[tokio::test]
async fn a_tenants_secrets_and_limits_are_its_own() {
    let Some(binary) = binary() else {
        return;
    };
    let (address, heard) = origin().await;
    let arguments = json!({ "argument": format!("{address} header:authorization api-token") });
    let script = Script::tools(vec![Call::new("misbehave", arguments.to_string())], "Done.");
    let mock = Mock::start(script).await.unwrap();
    let configuration = format!(
        "[providers.openai]\nurl = \"{}\"\n[secrets]\napi-token = {{ env = \"EVERYBODYS\" }}\n\
         [tenant.globex.secrets]\napi-token = {{ env = \"GLOBEXS\" }}\n",
        mock.url()
    );
    let environment = [("EVERYBODYS", EVERYBODYS), ("GLOBEXS", GLOBEXS)];
    let ambit = Ambit::serve_new(&binary, &configuration, &environment)
        .await
        .unwrap();
    let (acme, globex) = (
        ambit.new_tenant("acme").await.unwrap(),
        ambit.new_tenant("globex").await.unwrap(),
    );

    // Each tenant's call carries its own value, which only the origin sees.
    let origin = format!("http://{address}");
    let tables = format!(
        "[[permissions.http]]\norigin = \"{origin}\"\nmethods = [\"POST\"]\n\
         [[permissions.secrets]]\nname = \"api-token\"\nheader = \"authorization\"\norigin = \"{origin}\"\n"
    );
    let grant = json!({
        "http": [{ "origin": origin, "methods": ["POST"] }],
        "secrets": [{ "name": "api-token", "header": "authorization", "origin": origin }],
    });
    let bearer = install(&ambit, "secret_bearer", &tables, grant).await;
    for (tenant, value) in [(&acme, EVERYBODYS), (&globex, GLOBEXS)] {
        agent(&ambit, tenant, "bearer", &bearer).await;
        let (told, _) = run(&ambit, &mock, tenant, "bearer").await;
        let requests = std::mem::take(&mut *heard.lock().unwrap());
        assert_eq!(requests.len(), 1, "{}: {told}", tenant.slug);
        assert!(
            requests[0].contains(&format!("authorization: Bearer {value}\r\n")),
            "{}: {}",
            tenant.slug,
            requests[0]
        );
    }

    // The author allows a second of computing; one tenant has less of it, and no more memory than the author.
    let spinner = install(
        &ambit,
        "tight_loop",
        "[limits]\ncpu = \"1s\"\ndeadline = \"30s\"\n",
        json!({ "limits": { "memory": "16MiB" } }),
    )
    .await;
    let path = format!("/tenants/acme/grants/{spinner}");
    let narrow = json!({ "limits": { "cpu": "20ms", "memory": "1GiB" } });
    let narrowed = ambit.put(&path, &narrow).await.unwrap();
    assert_eq!(narrowed["limits"], narrow["limits"]);
    let left = &narrowed["effective_limits"]["0.1.0"];
    assert_eq!(
        (&left["cpu"], &left["memory"], &left["deadline"]),
        (&json!("20ms"), &json!("16MiB"), &json!("30s"))
    );
    let mut took = Vec::new();
    for tenant in [&acme, &globex] {
        agent(&ambit, tenant, "spinner", &spinner).await;
        let (told, time) = run(&ambit, &mock, tenant, "spinner").await;
        assert!(told.contains("spent its `cpu` limit"), "{told}");
        took.push(time);
    }
    assert!(
        took[1] >= Duration::from_millis(900) && took[0] < took[1],
        "20 ms of computing and one second: {took:?}"
    );

    for value in [EVERYBODYS, GLOBEXS] {
        let files = ambit.files_with(value).unwrap();
        assert!(files.is_empty(), "a secret's value is in {files:?}");
        for body in mock.stats().bodies {
            assert!(!String::from_utf8_lossy(&body).contains(value));
        }
    }
    assert!(
        !ambit.files_with("misbehave").unwrap().is_empty(),
        "the look for values would find one"
    );
}

/// Answers nobody before so many have asked at the same time.
async fn together(count: usize) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let all = Arc::new(Barrier::new(count));
    #[allow(clippy::disallowed_methods, reason = "ends with the test")]
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let all = all.clone();
            tokio::spawn(async move {
                let _ = socket.read(&mut [0; 4096]).await;
                all.wait().await;
                let answer =
                    "HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello";
                let _ = socket.write_all(answer.as_bytes()).await;
            });
        }
    });
    address
}

#[tokio::test]
async fn tools_of_one_reply_are_called_at_once_and_no_more_of_them_than_allowed() {
    let Some(binary) = binary() else {
        return;
    };
    let address = together(2).await;
    let arguments = json!({ "argument": address }).to_string();
    let calls = vec![Call::new("misbehave", arguments); 3];
    let mock = Mock::start(Script::tools(calls, "Done.")).await.unwrap();
    let ambit = Ambit::up(&binary, Some(&mock.url())).await.unwrap();
    let origin = format!("http://{address}");
    let tables = format!(
        "[limits]\ndeadline = \"20s\"\n[[permissions.http]]\norigin = \"{origin}\"\nmethods = [\"GET\"]\n"
    );
    let grant = json!({ "http": [{ "origin": origin, "methods": ["GET"] }] });
    let tool = install(&ambit, "slow_drip", &tables, grant).await;
    let acme = ambit.tenant("acme");
    let definition = json!({
        "name": "both", "model": "openai/mock-1", "tools": [tool], "limits": { "parallel_tools": 2 },
    });
    ambit.apply(acme, &definition).await.unwrap();
    let body = json!({ "model": "both", "messages": [{ "role": "user", "content": "Go." }] });
    let answer = ambit.ask(acme, &body).await.unwrap();
    assert!(answer.is_good(), "{answer:?}");
    let session = answer.session.unwrap();
    let events = ambit.events(acme, &session).await.unwrap();
    let outcome = events
        .iter()
        .find(|event| event["kind"] == "outcome" && event["header"]["facts"]["effect"] == "tools");
    let results = outcome.unwrap()["body"].as_array().unwrap();
    let code = |result: &Value| result["code"].as_str().unwrap().to_owned();
    let codes: Vec<_> = results.iter().map(code).collect();
    // Neither would have had an answer alone; the third was not among them.
    assert_eq!(codes, ["ok", "ok"], "{results:?}");
}
