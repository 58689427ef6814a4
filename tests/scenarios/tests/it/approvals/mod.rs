//! What cannot be undone waits for somebody: once, for this very call, of this session and tenant, under what was allowed when it was asked for.

mod calls;
mod chat;
mod operators;

use crate::{
    crash::{Outside, install_poster},
    sessions::{get, post, wait, with_agent},
};
use ambit_mock_provider::{Call, Mock, Reply, Script};
use ambit_scenarios::{Ambit, Answer, Tenant, binary, until};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

/// An installation whose agents `payer` have the tool `wire`.
struct Desk {
    folder: tempfile::TempDir,
    configuration: String,
    ambit: Ambit,
    acme: Tenant,
    mock: Mock,
    outside: Outside,
    authority: String,
}

impl Desk {
    async fn new() -> Option<Self> {
        let binary = binary()?;
        let mock = Mock::start(Script::text("Good day.")).await.unwrap();
        let (outside, authority) = Outside::start().await;
        let configuration = format!(
            "[rate]\nunlimited = true\n[providers.paid]\nurl = \"{}\"\n",
            mock.url()
        );
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let ambit = Ambit::serve_in(&binary, &data, &configuration, &[]).await;
        let ambit = ambit.unwrap();
        let acme = with_agent(&ambit).await;
        install_poster(&ambit, &authority).await;
        let desk = Self {
            folder,
            configuration,
            ambit,
            acme,
            mock,
            outside,
            authority,
        };
        desk.apply(json!({})).await;
        Some(desk)
    }

    /// The agent, with these rules.
    async fn apply(&self, approvals: Value) {
        let agent = json!({ "name": "payer", "model": "paid/mock-1", "tools": ["hostile:poster"], "approvals": approvals });
        self.ambit.apply(&self.acme, &agent).await.unwrap();
    }

    fn call(&self, tool: &str, name: &str) -> Call {
        let arguments = json!({ "authority": self.authority, "name": name });
        Call::new(tool, arguments.to_string())
    }

    /// From here on the model asks for these rounds of calls, and tells then what they answered.
    fn follow(&self, rounds: &[&[(&str, &str)]]) {
        let round = |calls: &&[(&str, &str)]| {
            let calls = calls.iter();
            calls.map(|(tool, name)| self.call(tool, name)).collect()
        };
        self.mock.follow(Script {
            reply: Reply::ToolsThenTell(rounds.iter().map(round).collect()),
            record: true,
            ..Script::default()
        });
    }

    /// The tenant as somebody else of it calls.
    async fn caller(&self, tenant: &Tenant, principal: &str, scopes: &[&str]) -> Tenant {
        let body = json!({ "name": principal, "principal": principal, "scopes": scopes });
        let path = format!("/tenants/{}/keys", tenant.slug);
        let made = self.ambit.admin(Method::POST, &path, body.to_string());
        let made = made.await.unwrap();
        Tenant {
            api_key: made["key"].as_str().unwrap().to_owned(),
            ..tenant.clone()
        }
    }

    async fn boss(&self) -> Tenant {
        self.caller(&self.acme, "boss", &["approve"]).await
    }

    async fn open(&self, as_whom: &Tenant) -> String {
        let body = json!({ "agent": "payer", "input": "Pay them." });
        let (status, session) = post(&self.ambit, as_whom, "/sessions", body).await;
        assert_eq!(status, 201, "{session}");
        session["id"].as_str().unwrap().to_owned()
    }

    /// Opens a session, and waits until it waits; its id and what it waits for, oldest first.
    async fn waits(&self) -> (String, Vec<String>) {
        let id = self.open(&self.acme).await;
        let session = wait(&self.ambit, &self.acme, &id, "suspended").await;
        assert_eq!(session["reason"], "approval", "{session}");
        let pending = self.approvals("").await;
        let own = pending.iter().filter(|one| one["session"] == id);
        let ids = own.map(|one| one["id"].as_str().unwrap().to_owned());
        let mut ids: Vec<_> = ids.collect();
        ids.reverse();
        (id, ids)
    }

    /// As the operator sees them.
    async fn approvals(&self, query: &str) -> Vec<Value> {
        let listed = self.ambit.get(&format!("/approvals{query}")).await.unwrap();
        listed["data"].as_array().unwrap().clone()
    }

    async fn approval(&self, id: &str) -> Value {
        let all = self.approvals("?state=all").await;
        all.into_iter().find(|one| one["id"] == id).unwrap()
    }

    async fn decide(&self, as_whom: &Tenant, id: &str, how: &str) -> (StatusCode, Value) {
        let path = format!("/approvals/{id}/{how}");
        post(&self.ambit, as_whom, &path, json!({ "reason": "because" })).await
    }

    async fn answered(&self, id: &str) -> String {
        let mut answer = String::new();
        until("it has answered", async || {
            let (_, session) = get(&self.ambit, &self.acme, &format!("/sessions/{id}")).await;
            session["answer"]
                .as_str()
                .unwrap_or_default()
                .clone_into(&mut answer);
            session["reason"] == "message"
        })
        .await;
        answer
    }

    /// How often a path was seen of a session.
    fn seen(&self, session: &str, path: &str) -> u32 {
        let of = self.outside.of(session);
        of.get(path).map_or(0, |(times, _)| *times)
    }

    async fn ask(&self, tenant: &Tenant, messages: &Value, stream: bool) -> Answer {
        let body = json!({ "model": "payer", "messages": messages, "stream": stream });
        self.ambit.ask(tenant, &body).await.unwrap()
    }
}
