//! As much as may be sent, said and answered, and a little more.

use super::{
    refusals::paths,
    sessions::{get, open, post, serving, wait},
};
use ambit_gateway::{ADMIN_ROUTES, DATA_ROUTES};
use ambit_mock_provider::{Call, Mock, Script};
use ambit_scenarios::{Ambit, NewComponent, Tenant, binary, guest, until};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// Routes of which no body is read, or whose last name is none before one is.
const UNREAD: [&str; 6] = [
    "/cancel",
    "/resume",
    "/anchors",
    "/collections/x",
    "/slots/x",
    "/hosts/x",
];

/// The status of a request that announces a body of so many bytes.
async fn announced(ambit: &Ambit, request: &str, host: &str, key: &str, length: usize) -> u16 {
    let address = ambit.up.url.trim_start_matches("http://");
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = format!(
        "{request} HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {key}\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut line = [0; 12];
    stream.read_exact(&mut line).await.unwrap();
    let line = String::from_utf8_lossy(&line);
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_too_large_is_refused_wherever_it_is_sent() {
    let mock = Mock::start(Script::text("Good day.")).await.unwrap();
    let limits = "[limits]\nbody_kib = 64\n[rate]\nunlimited = true\n";
    let Some((ambit, acme)) = serving(&mock, limits).await else {
        return;
    };
    let id = open(&ambit, &acme, "Hello?").await;
    let before = wait(&ambit, &acme, &id, "suspended").await;
    let all = json!({ "name": "all", "scopes": ["chat", "retrieve", "moderate", "approve"] });
    let all = ambit.admin(Method::POST, "/tenants/acme/keys", all.to_string());
    let key = all.await.unwrap()["key"].as_str().unwrap().to_owned();
    let (most, mut refused) = (64 << 10, 0);
    for (routes, host, key, most) in [
        (DATA_ROUTES, acme.host.as_str(), &key, most),
        (ADMIN_ROUTES, "127.0.0.1", &ambit.up.admin_key, 64 << 20),
    ] {
        for (path, methods) in paths(routes) {
            let path = path.replace("/sessions/x", &format!("/sessions/{id}"));
            let path = path.replace(
                "/approvals/x",
                &format!("/approvals/apr_{}", "0".repeat(32)),
            );
            for method in methods {
                let request = format!("{method} {path}");
                let unread = UNREAD.iter().any(|end| path.ends_with(end));
                if unread || !["POST", "PUT"].contains(&method) {
                    continue;
                }
                let status = announced(&ambit, &request, host, key, most + 1).await;
                assert_eq!(status, 413, "{request}");
                refused += 1;
            }
        }
    }
    assert!(refused > 12, "{refused} routes");
    // And where it does not say how long it is.
    let path = format!("/sessions/{id}/messages");
    let body = json!({ "input": "x".repeat(most) }).to_string();
    let pieces = body.as_bytes().chunks(1000).map(<[u8]>::to_vec);
    let pieces: Vec<Result<_, std::io::Error>> = pieces.map(Ok).collect();
    let stream = reqwest::Body::wrap_stream(futures::stream::iter(pieces));
    let request = ambit.request(reqwest::Method::POST, &acme, &path);
    let request = request.header("content-type", "application/json");
    // A server that refuses a body before it has all of it may close while the client still sends.
    if let Ok(answer) = request.body(stream).send().await {
        assert_eq!(answer.status(), 413);
        let told: Value = answer.json().await.unwrap();
        assert_eq!(told["error"]["code"], "request_too_large", "{told}");
    }

    // Nothing came of any of it, and what fits is taken: to the last byte.
    let (_, after) = get(&ambit, &acme, &format!("/sessions/{id}")).await;
    assert_eq!(after, before);
    let fits = "x".repeat(most - json!({ "input": "" }).to_string().len());
    let (status, told) = post(&ambit, &acme, &path, json!({ "input": fits })).await;
    assert_eq!(status, 202, "{told}");
    wait(&ambit, &acme, &id, "suspended").await;
    let (.., kinds) = ambit.session(&acme, &id).await.unwrap();
    assert_eq!(kinds.iter().filter(|kind| *kind == "answer").count(), 2);
}

/// Codes and sizes of what tools answered in a session.
async fn answers(ambit: &Ambit, tenant: &Tenant, id: &str) -> Vec<(String, usize)> {
    let events = ambit.events(tenant, id).await.unwrap();
    let tools = |event: &&Value| {
        event["kind"] == "outcome" && event["header"]["facts"]["effect"] == "tools"
    };
    let bodies = events
        .iter()
        .filter(tools)
        .flat_map(|event| event["body"].as_array().unwrap());
    let told = bodies.map(|one| {
        let content = one["content"].as_str().unwrap();
        (one["code"].as_str().unwrap().to_owned(), content.len())
    });
    told.collect()
}

/// What the log says of turns that failed.
fn why(ambit: &Ambit) -> String {
    let log = std::fs::read_to_string(ambit.data().join("log")).unwrap();
    let failed = |line: &&str| {
        ["a turn failed", "component call failed"]
            .iter()
            .any(|it| line.contains(it))
    };
    let failed = log.lines().filter(failed);
    failed.collect::<Vec<_>>().join("\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_largest_answers_are_recorded_and_gone_on_with() {
    let mock = Mock::start(Script::text("Good day.")).await.unwrap();
    let Some((ambit, acme)) = serving(&mock, "[rate]\nunlimited = true\n").await else {
        return;
    };
    let tool = "hostile:oversize-result";
    let limits = json!({ "result": "32MiB", "memory": "256MiB", "cpu": "2s" });
    let tables = "[limits]\nresult = \"32MiB\"\nmemory = \"256MiB\"\ncpu = \"2s\"\n";
    let wasm = guest("oversize_result").unwrap();
    let component = NewComponent::new(tool, "tool", wasm).tables(tables);
    let component = component.granted(json!({ "limits": limits }));
    ambit.install(&component).await.unwrap();
    let slot = json!({ "component": tool });
    ambit
        .put(&format!("/slots/tool/{tool}"), &slot)
        .await
        .unwrap();
    let agent = json!({ "name": "plain", "model": "paid/mock-1", "tools": [tool] });
    ambit.apply(&acme, &agent).await.unwrap();
    let call = |bytes: &usize| {
        let argument = json!({ "argument": bytes.to_string() });
        Call::new("misbehave", argument.to_string())
    };
    let script = |script| Script {
        chars_per_event: 100_000,
        ..script
    };

    // Tools: as much as one may answer, more than that, and more than there is room for in one event.
    let (large, huge) = (30_000_000, 40_000_000);
    let cases: [(&[usize], &[_]); 3] = [
        (&[large], &[("ok", true)]),
        (&[huge], &[("limit", false)]),
        (
            &[large, large + 1, 1000],
            &[("ok", true), ("limit", false), ("ok", true)],
        ),
    ];
    for (sizes, expected) in cases {
        let calls = sizes.iter().map(call).collect();
        mock.follow(script(Script::tools(calls, "Done.")));
        let id = open(&ambit, &acme, "Hello?").await;
        let session = wait(&ambit, &acme, &id, "suspended").await;
        assert_eq!(session["answer"], "Done.", "{sizes:?}: {}", why(&ambit));
        let answers = answers(&ambit, &acme, &id).await;
        assert_eq!(answers.len(), expected.len());
        for ((answer, size), (code, whole)) in answers.iter().zip(sizes).zip(expected) {
            assert_eq!((answer.0.as_str(), answer.1 == *size), (*code, *whole));
        }
        again(&ambit, &acme, &mock, &id).await;
    }

    // A model: what it says is released, recorded, and in front of it the next time.
    let words = "word ".repeat(400_000);
    mock.follow(script(Script::text(&words)));
    let id = open(&ambit, &acme, "Hello?").await;
    let session = wait(&ambit, &acme, &id, "suspended").await;
    assert!(session["answer"] == words, "{}", why(&ambit));
    again(&ambit, &acme, &mock, &id).await;
    let body = mock.stats().bodies.pop().unwrap();
    assert!(body.len() > words.len());
    // More than its agent can hold ends the turn, and says so; it is recorded nevertheless.
    mock.follow(script(Script::text("word ".repeat(4_000_000))));
    let id = open(&ambit, &acme, "Hello?").await;
    let session = wait(&ambit, &acme, &id, "suspended").await;
    assert_eq!(session["reason"], "limit_exceeded");
    let events = ambit.events(&acme, &id).await.unwrap();
    let said = events.iter().rev().find(|event| event["kind"] == "outcome");
    assert_eq!(
        said.unwrap()["body"]["text"].as_str().unwrap().len(),
        20_000_000
    );

    let arguments = ["audit", "verify", "--format", "json"];
    let binary = binary().unwrap();
    let verified = Ambit::command(&binary, ambit.data(), arguments);
    let verified = verified.await.unwrap();
    let told = String::from_utf8_lossy(&verified.stderr);
    assert!(verified.status.success(), "{told}");
    let report: Value = serde_json::from_slice(&verified.stdout).unwrap();
    assert_eq!(report[0]["sessions"], 5, "{report}");
}

/// One more turn of a session, on all that it has.
async fn again(ambit: &Ambit, tenant: &Tenant, mock: &Mock, id: &str) {
    mock.follow(Script::text("As I said."));
    let path = format!("/sessions/{id}/messages");
    let (status, told) = post(ambit, tenant, &path, json!({ "input": "Again?" })).await;
    assert_eq!(status, 202, "{told}");
    until("the next answer", async || {
        let (_, now) = get(ambit, tenant, &format!("/sessions/{id}")).await;
        now["answer"] == "As I said." && now["state"] == "suspended"
    })
    .await;
    // Its chain holds, or this fails.
    ambit.session(tenant, id).await.unwrap();
}
