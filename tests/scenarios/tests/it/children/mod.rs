//! An agent that asks another one: in a session of its own, with at most what the asking one has, that ends with it.

mod held;
mod lives;
mod terms;

use crate::{
    crash::{Outside, copy, install_poster},
    sessions::{get, post, wait},
};
use ambit_mock_provider::{Call, Mock, Reply, Script, UsageCounts};
use ambit_scenarios::{Ambit, Tenant, binary, until};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

/// Each answer costs 0.004, and at most 0.01.
const PRICES: &str = r#"
price = [
    { provider = "one", model = "*", effective_from = 2020-01-01, input = "0", output = "1000", max_output = 10 },
    { provider = "two", model = "*", effective_from = 2020-01-01, input = "0", output = "1000", max_output = 10 },
]
"#;

/// An installation whose agent `lead` asks the agent `helper`; each has a model of its own.
struct Family {
    folder: tempfile::TempDir,
    configuration: String,
    environment: Vec<(&'static str, String)>,
    ambit: Ambit,
    acme: Tenant,
    lead: Mock,
    helper: Mock,
    outside: Outside,
    authority: String,
}

fn script(reply: Reply) -> Script {
    let usage = UsageCounts {
        input: 9,
        output: 4,
        ..UsageCounts::default()
    };
    Script {
        reply,
        usage,
        ..Script::default()
    }
}

fn tells(rounds: Vec<Vec<Call>>) -> Script {
    script(Reply::ToolsThenTell(rounds))
}

fn ask(arguments: Value) -> Call {
    Call::new("ask_helper", arguments.to_string())
}

impl Family {
    async fn new() -> Option<Self> {
        Self::with("", Vec::new()).await
    }

    async fn with(rest: &str, environment: Vec<(&'static str, String)>) -> Option<Self> {
        let binary = binary()?;
        let question = ask(json!({ "input": "How are they?" }));
        let lead = Mock::start(tells(vec![vec![question]])).await.unwrap();
        let helper = script(Reply::Text("They are well.".to_owned()));
        let helper = Mock::start(helper).await.unwrap();
        let (outside, authority) = Outside::start().await;
        let folder = tempfile::tempdir().unwrap();
        let prices = folder.path().join("prices.toml");
        std::fs::write(&prices, PRICES).unwrap();
        let configuration = format!(
            "ledger.prices = {prices:?}\n{rest}\n[rate]\nunlimited = true\n[providers.one]\nurl = \"{}\"\n[providers.two]\nurl = \"{}\"\n",
            lead.url(),
            helper.url()
        );
        let data = folder.path().join("data");
        let variables: Vec<_> = environment.iter().map(|(n, v)| (*n, v.as_str())).collect();
        let ambit = Ambit::serve_in(&binary, &data, &configuration, &variables).await;
        let ambit = ambit.unwrap();
        let acme = ambit.new_tenant("acme").await.unwrap();
        let grant = json!({ "models": ["one/*", "two/*"], "collections": ["read:*"] });
        let path = "/grants/ambit:agent-assistant";
        ambit.put(path, &grant).await.unwrap();
        install_poster(&ambit, &authority).await;
        let family = Self {
            folder,
            configuration,
            environment,
            ambit,
            acme,
            lead,
            helper,
            outside,
            authority,
        };
        family.apply_helper(json!({})).await;
        family.apply_lead(json!({})).await;
        Some(family)
    }

    /// The next process on the same data.
    async fn again(&self) -> Ambit {
        let data = self.folder.path().join("data");
        let binary = binary().unwrap();
        let ambit = Ambit::serve_in(&binary, &data, &self.configuration, &[]);
        ambit.await.unwrap()
    }

    /// Another process on the same database, with the components that were installed.
    async fn node(&self) -> Ambit {
        let data = self.folder.path().join("other");
        let components = self.folder.path().join("data/components");
        copy(&components, &data.join("components"), true);
        let variables = self.environment.iter();
        let variables: Vec<_> = variables.map(|(n, v)| (*n, v.as_str())).collect();
        let binary = binary().unwrap();
        let ambit = Ambit::serve_in(&binary, &data, &self.configuration, &variables);
        ambit.await.unwrap()
    }

    async fn apply(&self, mut agent: Value, change: Value) {
        for (key, value) in change.as_object().unwrap() {
            agent[key] = value.clone();
        }
        self.ambit.apply(&self.acme, &agent).await.unwrap();
    }

    async fn apply_lead(&self, change: Value) {
        let agent = json!({ "name": "lead", "model": "one/mock-1", "models": ["two/mock-1"], "tools": ["hostile:poster"], "agents": ["helper"] });
        self.apply(agent, change).await;
    }

    async fn apply_helper(&self, change: Value) {
        let agent = json!({ "name": "helper", "description": "It knows how everybody is.", "model": "two/mock-1", "tools": ["hostile:poster"] });
        self.apply(agent, change).await;
    }

    fn call(&self, tool: &str, name: &str) -> Call {
        let arguments = json!({ "authority": self.authority, "name": name });
        Call::new(tool, arguments.to_string())
    }

    /// From here on the agent that is asked calls these tools, one after another.
    fn calls(&self, tools: &[(&str, &str)]) {
        let call = |(tool, name): &(&str, &str)| vec![self.call(tool, name)];
        self.helper.follow(tells(tools.iter().map(call).collect()));
    }

    async fn open_as(&self, whom: &Tenant, change: Value) -> (StatusCode, Value) {
        let mut body = json!({ "agent": "lead", "input": "Ask them." });
        for (key, value) in change.as_object().unwrap() {
            body[key] = value.clone();
        }
        post(&self.ambit, whom, "/sessions", body).await
    }

    async fn open(&self) -> String {
        let (status, session) = self.open_as(&self.acme, json!({})).await;
        assert_eq!(status, 201, "{session}");
        session["id"].as_str().unwrap().to_owned()
    }

    /// The session once its turn is over.
    async fn over(&self, id: &str) -> Value {
        let mut last = Value::Null;
        until("the turn is over", async || {
            last = get(&self.ambit, &self.acme, &format!("/sessions/{id}"))
                .await
                .1;
            last["state"] == "suspended" && last["reason"] != "child"
        })
        .await;
        last
    }

    /// The answer of a session that asks.
    async fn answer(&self) -> String {
        let id = self.open().await;
        let session = self.over(&id).await;
        assert_eq!(session["reason"], "message", "{session}");
        session["answer"].as_str().unwrap().to_owned()
    }

    /// What a session started, oldest first, as its principal sees it.
    async fn children(&self, id: &str) -> Vec<Value> {
        let (_, listed) = get(&self.ambit, &self.acme, "/sessions?limit=100").await;
        let listed = listed["data"].as_array().unwrap().iter();
        let mut own: Vec<_> = listed.filter(|one| one["parent"] == id).cloned().collect();
        own.reverse();
        own
    }

    /// The one that it started, once it is there.
    async fn child(&self, id: &str) -> String {
        let mut found = Vec::new();
        until("it has started one", async || {
            found = self.children(id).await;
            !found.is_empty()
        })
        .await;
        assert_eq!(found.len(), 1, "{found:?}");
        found[0]["id"].as_str().unwrap().to_owned()
    }

    async fn events(&self, id: &str) -> Vec<Value> {
        self.ambit.events(&self.acme, id).await.unwrap()
    }

    /// A token from `POST /v1/tokens`, made with the tenant's key: who holds it, and its id.
    async fn token(&self, asked: Value) -> (Tenant, String) {
        let answer = self.ambit.post(&self.acme, "/tokens", &asked).await;
        let answer: Value = answer.unwrap().json().await.unwrap();
        let api_key = answer["token"].as_str().unwrap().to_owned();
        let holder = Tenant {
            api_key,
            ..self.acme.clone()
        };
        (holder, answer["id"].as_str().unwrap().to_owned())
    }

    /// From here on the agent that is asked asks for an approval, which expires at once.
    async fn asks_in_vain(&self) {
        let approvals = json!({ "approvals": { "expires": 1 } });
        self.apply_helper(approvals).await;
        self.calls(&[("wire", "a")]);
    }

    /// Opens a session whose child waits for an approval; both and it.
    async fn waits(&self) -> (String, String, String) {
        let parent = self.open().await;
        let child = self.child(&parent).await;
        wait(&self.ambit, &self.acme, &child, "suspended").await;
        let waiting = wait(&self.ambit, &self.acme, &parent, "suspended").await;
        assert_eq!(waiting["reason"], "child", "{waiting}");
        let pending = self.ambit.get("/approvals").await.unwrap();
        let pending = pending["data"].as_array().unwrap();
        let own = pending.iter().find(|one| one["session"] == child);
        let approval = own.unwrap()["id"].as_str().unwrap().to_owned();
        (parent, child, approval)
    }

    async fn approve(&self, approval: &str) {
        let path = format!("/approvals/{approval}/approve");
        self.ambit.admin(Method::POST, &path, "").await.unwrap();
    }

    fn seen(&self, session: &str, path: &str) -> u32 {
        let of = self.outside.of(session);
        of.get(path).map_or(0, |(times, _)| *times)
    }
}
