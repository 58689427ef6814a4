//! Money, through the real binary: budgets hold whoever calls at once, and what was spent is what the journal says.

use ambit_ledger::Money;
use ambit_mock_provider::{Fault, Mock, Script, UsageCounts};
use ambit_scenarios::{Ambit, Answer, Tenant, binary, until};
use ambit_store::{PostgresConfig, testing};
use reqwest::Method;
use serde_json::{Value, json};
use std::{path::PathBuf, process::Output, time::Duration};

/// An answer of at most ten tokens costs at most 0.01, one of the mock's four 0.004; the prompt costs nothing.
const PRICES: &str = r#"
price = [
    { provider = "paid", model = "mock-*", effective_from = 2020-01-01, input = "0", output = "1000" },
    { provider = "paid", model = "read", effective_from = 2020-01-01, input = "1000", output = "0" },
]
"#;

fn script() -> Script {
    let usage = UsageCounts {
        input: 9,
        output: 4,
        ..UsageCounts::default()
    };
    Script {
        models: ["mock-1", "read", "unheard-of"].map(Into::into).into(),
        usage,
        ..Script::default()
    }
}

struct Paid {
    ambit: Ambit,
    binary: PathBuf,
    _prices: tempfile::TempDir,
}

impl Paid {
    /// A node whose provider `paid` is the mock; on a folder, or one of those on a database.
    async fn new(mock: &Mock, database: Option<&PostgresConfig>) -> Option<Self> {
        Self::with(mock, database, "").await
    }

    /// With further lines of the price file.
    async fn with(mock: &Mock, database: Option<&PostgresConfig>, further: &str) -> Option<Self> {
        let binary = binary()?;
        let prices = tempfile::tempdir().unwrap();
        let file = prices.path().join("prices.toml");
        std::fs::write(&file, format!("{PRICES}{further}")).unwrap();
        let mut configuration = format!(
            "listen.ops = \"127.0.0.1:0\"\nledger.prices = {file:?}\n[rate]\nunlimited = true\n[providers.paid]\nurl = \"{}\"\n",
            mock.url()
        );
        let master_key = "5a".repeat(32);
        let mut environment = vec![("MASTER", master_key.as_str())];
        if let Some(database) = database {
            configuration += "[database]\nkind = \"postgres\"\napp = { env = \"APP\" }\noperator = { env = \"OPERATOR\" }\nowner = { env = \"OWNER\" }\n\
                [journal]\nmaster_key = { env = \"MASTER\" }\n[anchors]\nkey = { env = \"MASTER\" }\n";
            let owner = database.owner.as_ref().unwrap();
            environment.extend([
                ("APP", database.app.expose()),
                ("OPERATOR", database.operator.expose()),
                ("OWNER", owner.expose()),
            ]);
        }
        let ambit = Ambit::serve_new(&binary, &configuration, &environment).await;
        Some(Self {
            ambit: ambit.unwrap(),
            binary,
            _prices: prices,
        })
    }

    async fn tenant(&self, slug: &str) -> Tenant {
        let models = json!({ "models": ["paid/*"] });
        let grant = "/grants/ambit:pass-through";
        self.ambit.put(grant, &models).await.unwrap();
        self.ambit.new_tenant(slug).await.unwrap()
    }

    async fn budget(&self, slug: &str, scope: &str, id: Option<&str>, limit: &str) -> Value {
        let mut body = json!({ "scope": scope, "period": "month", "limit": limit });
        if let Some(id) = id {
            body["id"] = id.into();
        }
        let path = format!("/tenants/{slug}/budgets");
        self.ambit.put(&path, &body).await.unwrap()
    }

    async fn budgets(&self, slug: &str) -> Value {
        let path = format!("/tenants/{slug}/budgets");
        self.ambit.get(&path).await.unwrap()["data"].take()
    }

    async fn ask(&self, tenant: &Tenant, model: &str) -> Answer {
        self.ambit.ask(tenant, &question(model)).await.unwrap()
    }

    async fn command(&self, arguments: &[&str]) -> Output {
        let command = Ambit::command(&self.binary, self.ambit.data(), arguments);
        command.await.unwrap()
    }

    /// What one command prints as JSON; it must succeed.
    async fn json(&self, arguments: &[&str]) -> Value {
        let arguments = [arguments, &["--format", "json"]].concat();
        let output = self.command(&arguments).await;
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {told}");
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

fn question(model: &str) -> Value {
    json!({ "model": model, "max_tokens": 10, "messages": [{ "role": "user", "content": "What does it cost?" }] })
}

/// Asks again while calls under way hold what is missing, as clients do that honour `retry-after`; whether it was answered in the end.
async fn persistent(node: &Paid, tenant: &Tenant) -> bool {
    loop {
        let answer = node.ask(tenant, "paid/mock-1").await;
        if answer.is_good() {
            return true;
        }
        assert_eq!((answer.status, answer.code()), (429, "insufficient_quota"));
        let message = answer.error["message"].as_str().unwrap();
        if message.contains("under way hold 0,") {
            assert!(message.contains("0.006 left of 0.05"), "{message}");
            assert!(message.contains("renews at 20"), "{message}");
            return false;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// 64 callers and money for eleven calls: a twelfth could cost more than what is left then, so it is never made.
async fn a_crowd(nodes: &[Paid], mock: &Mock) {
    let tenant = nodes[0].tenant("acme").await;
    let set = nodes[0].budget("acme", "tenant", None, "0.05").await;
    assert_eq!(set["left"], "0.05", "{set}");
    for node in nodes {
        // A node that has not heard of the budget yet holds nothing back.
        until("every node knows the tenant and its budget", async || {
            node.ask(&tenant, "paid/unheard-of").await.status == 403
        })
        .await;
    }
    let asked = mock.stats().requests;
    let callers = (0..64).map(|n| persistent(&nodes[n % nodes.len()], &tenant));
    let answered = futures::future::join_all(callers).await;
    let answered = answered.into_iter().filter(|answered| *answered).count();
    assert_eq!(answered, 11);
    assert_eq!(
        mock.stats().requests - asked,
        11,
        "before anything is spent"
    );
    for node in nodes {
        let budgets = node.budgets("acme").await;
        assert_eq!(
            (
                &budgets[0]["spent"],
                &budgets[0]["held"],
                &budgets[0]["left"]
            ),
            (&json!("0.044"), &json!("0"), &json!("0.006")),
            "{budgets}"
        );
        let check = node.ambit.get("/tenants/acme/costs/check").await.unwrap();
        assert_eq!(
            (&check["holds"], &check["cost"]),
            (&json!(true), &json!("0.044")),
            "{check}"
        );
    }
    // Raised, it lets further calls through.
    nodes[0].budget("acme", "tenant", None, "0.06").await;
    assert!(nodes[0].ask(&tenant, "paid/mock-1").await.is_good());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_on_a_nearly_empty_budget_neither_overspends_nor_is_refused_wrongly() {
    let mock = Mock::start(Script {
        latency_ms: 30,
        ..script()
    });
    let mock = mock.await.unwrap();
    let Some(node) = Paid::new(&mock, None).await else {
        return;
    };
    a_crowd(&[node], &mock).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nor_on_two_nodes_over_one_database() {
    let Some(server) = testing::server().await else {
        return;
    };
    let database = server.create_database().await.unwrap();
    let mock = Mock::start(Script {
        latency_ms: 30,
        ..script()
    });
    let mock = mock.await.unwrap();
    let Some(first) = Paid::new(&mock, Some(&database)).await else {
        return;
    };
    let second = Paid::new(&mock, Some(&database)).await.unwrap();
    a_crowd(&[first, second], &mock).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_of_budget_stops_what_it_counts_and_nothing_else() {
    let mock = Mock::start(script()).await.unwrap();
    let Some(node) = Paid::new(&mock, None).await else {
        return;
    };
    let acme = node.tenant("acme").await;
    let grant = json!({ "models": ["paid/*"], "collections": ["read:*"] });
    node.ambit
        .put("/grants/ambit:agent-assistant", &grant)
        .await
        .unwrap();
    for name in ["frugal", "spender"] {
        let agent = json!({ "name": name, "model": "paid/mock-1" });
        node.ambit.apply(&acme, &agent).await.unwrap();
    }
    // An agent's, one of each key's, and that of the other key by itself.
    node.budget("acme", "agent", Some("frugal"), "0.013").await;
    let path = "/tenants/acme/keys";
    let made = node.ambit.admin(
        Method::POST,
        path,
        r#"{"name":"second","principal":"scenario"}"#,
    );
    let made = made.await.unwrap();
    let second = Tenant {
        api_key: made["key"].as_str().unwrap().to_owned(),
        ..acme.clone()
    };
    let asked = async |tenant: &Tenant, model: &str| {
        let answer = node.ask(tenant, model).await;
        match (answer.status, answer.code()) {
            (200, _) => true,
            (429, "insufficient_quota") => false,
            _ => panic!("{answer:?}"),
        }
    };
    assert!(asked(&acme, "frugal").await);
    assert!(
        !asked(&acme, "frugal").await,
        "0.004 spent, 0.01 more is too much"
    );
    assert!(asked(&acme, "spender").await);
    node.budget("acme", "key", Some("*"), "0.021").await;
    let id = made["id"].as_str().unwrap();
    node.budget("acme", "key", Some(id), "0.009").await;
    assert!(
        !asked(&second, "paid/mock-1").await,
        "its own is below what a call may cost"
    );
    assert!(asked(&acme, "paid/mock-1").await);

    // What has no price cannot be kept within a budget.
    let unpriced = node.ask(&acme, "paid/unheard-of").await;
    assert_eq!(
        (unpriced.status, unpriced.code()),
        (403, "permission_denied"),
        "{unpriced:?}"
    );
    assert!(
        unpriced.error["message"]
            .as_str()
            .unwrap()
            .contains("has no price")
    );
    // Pictures count as what they may cost at most.
    let picture = json!({ "model": "paid/read", "messages": [{ "role": "user", "content": [{ "type": "image_url", "image_url": { "url": "https://pictures.example/1.png" } }] }] });
    let refused = node.ambit.ask(&acme, &picture).await.unwrap();
    assert_eq!(refused.status, 429, "{refused:?}");
    assert!(
        refused.error["message"]
            .as_str()
            .unwrap()
            .contains("may cost 50."),
        "{refused:?}"
    );
    // Without budgets it is asked, at no known cost.
    let globex = node.tenant("globex").await;
    assert!(node.ask(&globex, "paid/unheard-of").await.is_good());
    assert!(node.ask(&globex, "paid/mock-1").await.is_good());

    // What operators see, by commands.
    let list = node.json(&["budget", "list", "--tenant", "acme"]).await;
    let of = |scope: &str, id: &str| {
        let mut all = list.as_array().unwrap().iter();
        all.find(|one| one["scope"] == scope && one["id"] == id)
            .unwrap()
    };
    assert_eq!(of("agent", "frugal")["left"], "0.009", "{list}");
    assert_eq!(of("key", id)["spent"], "0", "{list}");
    let costs = node.json(&["costs", "--by", "agent,model"]).await;
    let mut told: Vec<_> = costs
        .as_array()
        .unwrap()
        .iter()
        .map(|row| {
            let word = |name: &str| row[name].as_str().unwrap().to_owned();
            (
                word("tenant"),
                word("agent"),
                word("model"),
                row["calls"].as_u64().unwrap(),
                word("cost"),
            )
        })
        .collect();
    told.sort();
    let row = |tenant: &str, agent: &str, calls: u64, cost: &str| {
        (
            tenant.to_owned(),
            agent.to_owned(),
            "paid/mock-1".to_owned(),
            calls,
            cost.to_owned(),
        )
    };
    let expected = [
        row("acme", "", 1, "0.004"),
        row("acme", "frugal", 1, "0.004"),
        row("acme", "spender", 1, "0.004"),
        row("globex", "", 1, "0.004"),
    ];
    assert_eq!(told, expected);
    let checks = node.json(&["costs", "--check"]).await;
    assert!(
        checks
            .as_array()
            .unwrap()
            .iter()
            .all(|one| one["holds"] == true),
        "{checks}"
    );
    let metrics = node
        .ambit
        .client
        .get(format!("{}/metrics", node.ambit.up.ops_url));
    let metrics = metrics
        .bearer_auth(&node.ambit.up.admin_key)
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    let line = "ambit_cost_nanos_total{tenant=\"acme\",agent=\"frugal\",provider=\"paid\"} 4000000";
    assert!(metrics.contains(line), "{metrics}");
}

/// What components cost is spent at the session's end, beside what models cost, and stands in the journal too.
#[tokio::test(flavor = "multi_thread")]
async fn components_are_paid_for_by_their_cpu_time() {
    let mock = Mock::start(script()).await.unwrap();
    let prices = "compute = { per_cpu_ms = \"0.01\" }";
    let Some(node) = Paid::with(&mock, None, prices).await else {
        return;
    };
    let acme = node.tenant("acme").await;
    // Its guardrails take less than a millisecond each, and are paid for all the same.
    let asked = question("paid/mock-1");
    let answer = node.ambit.ask(&acme, &asked).await.unwrap();
    assert!(answer.is_good(), "{answer:?}");
    let events = node
        .ambit
        .events(&acme, &answer.session.unwrap())
        .await
        .unwrap();
    let end = events.iter().find(|event| event["kind"] == "end").unwrap();
    let cost = end["header"]["cost_nanos"].as_i64().unwrap();
    assert!(cost > 0, "{end}");
    let costs = node.json(&["costs", "--tenant", "acme"]).await;
    let computed = costs
        .as_array()
        .unwrap()
        .iter()
        .find(|row| row["model"] == "ambit/compute");
    let told: Money = computed.unwrap()["cost"].as_str().unwrap().parse().unwrap();
    assert_eq!(told.nanos(), cost, "{costs}");
    let check = node.ambit.get("/tenants/acme/costs/check").await.unwrap();
    assert_eq!(check["holds"], true, "{check}");
}

/// A rewritten cost is found, and told with an exit code.
#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_that_differs_from_the_journal_is_found() {
    let mock = Mock::start(script()).await.unwrap();
    let Some(node) = Paid::new(&mock, None).await else {
        return;
    };
    let acme = node.tenant("acme").await;
    assert!(node.ask(&acme, "paid/mock-1").await.is_good());
    let sqlite = rusqlite::Connection::open(node.ambit.data().join("ambit.db")).unwrap();
    sqlite
        .execute("UPDATE spending SET cost = cost - 1", [])
        .unwrap();
    let output = node.command(&["costs", "--check"]).await;
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(
        !output.status.success() && told.contains("1 nano-units"),
        "{told}"
    );
}

/// What broke off counts by what was sent and said, and nothing stays held back.
#[tokio::test(flavor = "multi_thread")]
async fn what_breaks_is_settled_at_what_was_produced() {
    let text = "Hello from a model that has a lot to say. ".repeat(4);
    let mock = Mock::start(Script::text(&text)).await.unwrap();
    let Some(node) = Paid::new(&mock, None).await else {
        return;
    };
    let acme = node.tenant("acme").await;
    node.budget("acme", "tenant", None, "5").await;
    let grant = json!({ "models": ["paid/*"], "collections": ["read:*"] });
    node.ambit
        .put("/grants/ambit:agent-assistant", &grant)
        .await
        .unwrap();
    let agent = json!({ "name": "plain", "model": "paid/mock-1" });
    node.ambit.apply(&acme, &agent).await.unwrap();
    let broken = |fault| {
        let mut broken = Script::text(&text).with_fault(fault);
        broken.models = vec!["mock-1".into()];
        mock.follow(broken);
    };
    let status = |status| Fault::Status {
        status,
        message: "no".into(),
        retry_after: None,
    };
    let mut spent = 0;
    for model in ["paid/mock-1", "plain"] {
        for (fault, counts) in [
            (status(400), false),
            (Fault::CloseBeforeHead, false),
            (Fault::BreakAfter(6), true),
            (Fault::EndAfter(6), true),
        ] {
            let what = format!("{model}, {fault:?}");
            broken(fault);
            let mut body = question(model);
            body["stream"] = true.into();
            let answer = node.ambit.ask(&acme, &body).await.unwrap();
            assert!(!answer.is_good(), "{what}");
            let (id, _) = node.ambit.newest(&acme).await.unwrap().unwrap();
            let events = node.ambit.events(&acme, &id).await.unwrap();
            let outcome = events
                .iter()
                .find(|event| event["kind"] == "outcome")
                .expect(&what);
            let cost = outcome["header"]["cost_nanos"].as_i64().unwrap_or(0);
            assert_eq!(cost > 0, counts, "{what}: {outcome}");
            assert_eq!(
                outcome["header"]["facts"]["estimated"] == true,
                counts,
                "{what}"
            );
            // Some of the text was said, and not the whole.
            assert!(cost < text.len() as i64 / 3 * 1_000_000, "{what}: {cost}");
            spent += cost;
        }
    }
    // A caller that goes away while nobody knows whether the provider has begun.
    broken(Fault::HangBeforeHead);
    let asked = mock.stats().requests;
    let body = question("paid/mock-1");
    let mut request = Box::pin(node.ambit.post(&acme, "/chat/completions", &body));
    tokio::select! {
        answer = &mut request => panic!("{answer:?}"),
        () = until("the model is asked", async || mock.stats().requests > asked) => {}
    }
    drop(request);
    until("nothing is held back", async || {
        node.budgets("acme").await[0]["held"] == "0"
    })
    .await;
    // While it hung, a model could have written something: as much as the caller allowed, at most.
    let (id, _) = node.ambit.newest(&acme).await.unwrap().unwrap();
    let events = node.ambit.events(&acme, &id).await.unwrap();
    let outcome = events
        .iter()
        .find(|event| event["kind"] == "outcome")
        .unwrap();
    let cost = outcome["header"]["cost_nanos"].as_i64().unwrap();
    assert!((0..=10_000_000).contains(&cost), "{outcome}");
    assert_eq!(outcome["header"]["facts"]["estimated"], true, "{outcome}");
    spent += cost;
    let budgets = node.budgets("acme").await;
    let told: Money = budgets[0]["spent"].as_str().unwrap().parse().unwrap();
    assert_eq!(told.nanos(), spent);
    let check = node.ambit.get("/tenants/acme/costs/check").await.unwrap();
    assert_eq!(check["holds"], true, "{check}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_budget_is_refused_with_what_would_be_one() {
    let mock = Mock::start(script()).await.unwrap();
    let Some(node) = Paid::new(&mock, None).await else {
        return;
    };
    node.tenant("acme").await;
    let good = json!({ "scope": "tenant", "period": "day", "limit": "1" });
    for (field, value, word) in [
        ("limit", json!("1e3"), "`1e3` is no amount"),
        ("limit", json!("-1"), "`-1` is no amount"),
        ("limit", json!(1.5), "limit"),
        ("limit", json!("10000000000"), "no amount"),
        ("scope", json!("world"), "scope"),
        ("scope", json!("key"), "`id` must name the key"),
        ("scope", json!("token"), "set when it is made"),
        ("period", json!("week"), "period"),
        ("id", json!("acme"), "no `id`"),
        ("colour", json!("red"), "colour"),
    ] {
        let mut body = good.clone();
        body[field] = value;
        let refused = node
            .ambit
            .put("/tenants/acme/budgets", &body)
            .await
            .unwrap_err()
            .to_string();
        assert!(
            refused.contains("400") && refused.contains(word),
            "{body}: {refused}"
        );
    }
    for (query, word) in [
        ("from=yesterday", "no day"),
        ("to=2026-02-30", "no day"),
        ("by=model,colour", "`colour` is none of"),
        ("by=tenant", "`tenant` is none of"),
        ("colour=red", "colour"),
    ] {
        let refused = node
            .ambit
            .get(&format!("/tenants/acme/costs?{query}"))
            .await
            .unwrap_err()
            .to_string();
        assert!(
            refused.contains("400") && refused.contains(word),
            "{query}: {refused}"
        );
    }
    let empty = node
        .ambit
        .get("/tenants/acme/costs?from=2030-01-02&to=2030-01-01")
        .await
        .unwrap();
    assert_eq!(empty["data"], json!([]));
    assert_eq!(node.budgets("acme").await, json!([]));
    // Removing twice is no error.
    node.budget("acme", "agent", Some("a b"), "0").await;
    let remove = [
        "budget", "remove", "--tenant", "acme", "--agent", "a b", "--period", "month",
    ];
    assert_eq!(node.json(&remove).await["removed"], true);
    assert_eq!(node.json(&remove).await["removed"], false);
}
