//! The real binary on PostgreSQL, by `serve`: two nodes over one database, and an end while the database hangs.

use ambit_scenarios::{Ambit, Signal, Tenant, binary, until};
use ambit_store::{PostgresConfig, testing};
use reqwest::{Method, header::HOST};
use serde_json::json;
use std::time::Duration;
use tokio::time::timeout;

/// A node on its own folder over this database, as its two logins; the first migrates as the owner.
async fn node(database: &PostgresConfig) -> Option<Ambit> {
    let binary = binary()?;
    let secrets = [
        ("APP", &database.app),
        ("OPERATOR", &database.operator),
        ("OWNER", database.owner.as_ref().unwrap()),
    ];
    let master_key = "5a".repeat(32);
    let environment = secrets.map(|(name, url)| (name, url.expose()));
    let environment = [&environment[..], &[("MASTER", &master_key)]].concat();
    let configuration = "base_domains = [\"localhost\"]\nlisten.ops = \"127.0.0.1:0\"\n[limits]\ndrain_seconds = 1\n\
         [database]\nkind = \"postgres\"\napp = { env = \"APP\" }\noperator = { env = \"OPERATOR\" }\nowner = { env = \"OWNER\" }\n\
         [journal]\nmaster_key = { env = \"MASTER\" }\n[anchors]\nkey = { env = \"MASTER\" }\n";
    let node = Ambit::serve_new(&binary, configuration, &environment).await;
    Some(node.unwrap())
}

async fn status(node: &Ambit, tenant: &Tenant) -> u16 {
    let request = node.client.get(format!("{}/v1/models", node.up.url));
    let request = request
        .header(HOST, &tenant.host)
        .bearer_auth(&tenant.api_key);
    request.send().await.unwrap().status().as_u16()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_over_one_database_are_one_installation() {
    let Some(server) = testing::server().await else {
        return;
    };
    let database = server.create_database().await.unwrap();
    let Some(first) = node(&database).await else {
        return;
    };
    let tenant = first.new_tenant("initech").await.unwrap();
    let path = "/tenants/initech/collections/birds";
    first.put(path, &json!({})).await.unwrap();
    let row = json!({"_id": "heron", "text": "A heron stands in the reeds."}).to_string();
    let path = format!("{path}/documents");
    let loaded = first.admin(Method::POST, &path, row).await.unwrap();
    assert_eq!(loaded["written"], 1, "{loaded}");
    let agent =
        json!({"name": "assistant", "model": "extractive/sentences", "collections": ["birds"]});
    first.apply(&tenant, &agent).await.unwrap();

    // The second finds the first's components in the database and has their files itself.
    let second = node(&database).await.unwrap();
    let question = json!({"model": "assistant", "messages": [{"role": "user", "content": "Where does a heron stand?"}]});
    for node in [&first, &second] {
        let answer = node.ask(&tenant, &question).await.unwrap();
        assert!(
            answer.is_good() && answer.text.contains("in the reeds"),
            "{answer:?}"
        );
        let session = answer.session.unwrap();
        for node in [&first, &second] {
            assert_eq!(node.session(&tenant, &session).await.unwrap().0, "finished");
        }
    }
    // What one changes, the other follows.
    let keys = first.get("/tenants/initech/keys").await.unwrap();
    let path = format!(
        "/tenants/initech/keys/{}",
        keys["data"][0]["id"].as_str().unwrap()
    );
    first.admin(Method::DELETE, &path, "").await.unwrap();
    assert_eq!(status(&first, &tenant).await, 401);
    until("the other node follows", async || {
        status(&second, &tenant).await == 401
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_it_while_the_database_hangs() {
    let Some(server) = testing::server().await else {
        return;
    };
    let database = server.create_database().await.unwrap();
    let Some(mut node) = node(&database).await else {
        return;
    };
    let tenant = node.new_tenant("initech").await.unwrap();
    let agent = json!({"name": "assistant", "model": "extractive/sentences"});
    node.apply(&tenant, &agent).await.unwrap();
    let question =
        json!({"model": "assistant", "messages": [{"role": "user", "content": "Hello?"}]});
    assert!(node.ask(&tenant, &question).await.unwrap().is_good());

    let name = database.app.expose().split(['/', '?']).nth(3).unwrap();
    let hanging = server.administrate(name, "BEGIN; LOCK TABLE events; SELECT pg_sleep(600)");
    let scenario = async {
        until("a request hangs in the journal", async || {
            let asked = timeout(Duration::from_secs(1), node.ask(&tenant, &question)).await;
            asked.is_err()
        })
        .await;
        node.signal(Signal::Terminate).await.unwrap();
        // Past the drain of a second: what it waits for now is the database.
        tokio::time::sleep(Duration::from_secs(3)).await;
        node.signal(Signal::Terminate).await.unwrap();
        assert_eq!(node.ended().await.unwrap().code(), Some(130));
    };
    tokio::select! {
        ended = hanging => panic!("{ended:?}"),
        () = scenario => {}
    }
}
