//! What cannot be undone waits for somebody: once, for this very call, of this session and tenant, under what was allowed when it was asked for.

use crate::{
    crash::{Outside, install_poster},
    sessions::{get, post, wait, with_agent},
};
use ambit_mock_provider::{Call, Mock, Reply, Script};
use ambit_scenarios::{Ambit, Answer, Signal, Tenant, binary, until};
use futures::future::join_all;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::time::Duration;

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

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_undone_waits_and_is_done_once() {
    let Some(desk) = Desk::new().await else {
        return;
    };
    desk.follow(&[&[("wire", "a"), ("pay", "b")]]);
    let (session, ids) = desk.waits().await;
    let [id] = &ids[..] else { panic!("{ids:?}") };
    // Nothing of the move is done, and nobody who talks to the session can get around it.
    assert_eq!(
        (desk.seen(&session, "/a"), desk.seen(&session, "/b")),
        (0, 0)
    );
    for (path, body) in [
        ("messages", json!({ "input": "Do it now." })),
        ("resume", json!({})),
    ] {
        let path = format!("/sessions/{session}/{path}");
        let (status, refused) = post(&desk.ambit, &desk.acme, &path, body).await;
        assert_eq!(status, 409, "{refused}");
        let message = refused["error"]["message"].as_str().unwrap();
        assert!(
            message.contains(id.as_str()) && message.contains("`wire`"),
            "{message}"
        );
    }
    let known = desk.approval(id).await;
    assert_eq!(
        (
            &known["state"],
            &known["tool"],
            &known["why"],
            &known["arguments"]["name"]
        ),
        (
            &json!("pending"),
            &json!("wire"),
            &json!("irreversible"),
            &json!("a")
        )
    );

    // Who may talk to agents may not decide for them, and who may decide decides not for himself.
    let (status, _) = get(&desk.ambit, &desk.acme, "/approvals").await;
    assert_eq!(status, 403);
    assert_eq!(desk.decide(&desk.acme, id, "approve").await.0, 403);
    let requester = known["principal"].as_str().unwrap();
    let himself = desk
        .caller(&desk.acme, requester, &["chat", "approve"])
        .await;
    let (status, refused) = desk.decide(&himself, id, "approve").await;
    assert_eq!(status, 403, "{refused}");
    assert_eq!(desk.approval(id).await["state"], "pending");

    let boss = desk.boss().await;
    let (status, listed) = get(&desk.ambit, &boss, "/approvals").await;
    assert_eq!(
        (status, &listed["data"][0]["id"]),
        (StatusCode::OK, &json!(id))
    );
    let (status, decided) = desk.decide(&boss, id, "approve").await;
    assert_eq!(status, 200, "{decided}");
    let answer = desk.answered(&session).await;
    assert!(answer.contains("done 200"), "{answer}");
    assert_eq!(
        (desk.seen(&session, "/a"), desk.seen(&session, "/b")),
        (1, 1)
    );
    let known = desk.approval(id).await;
    assert_eq!(
        (
            &known["state"],
            &known["outcome"],
            &known["decided_by"],
            &known["reason"]
        ),
        (
            &json!("used"),
            &json!("ok"),
            &json!("boss"),
            &json!("because")
        )
    );
    for how in ["approve", "deny"] {
        assert_eq!(desk.decide(&boss, id, how).await.0, 409);
    }
    // All of it is in the journal, whose chain holds; and it replays.
    let (.., kinds) = desk.ambit.session(&desk.acme, &session).await.unwrap();
    assert_eq!(kinds.iter().filter(|kind| *kind == "approval").count(), 2);
    let path = format!("/tenants/acme/sessions/{session}/replay");
    let replayed = desk.ambit.admin(Method::POST, &path, "{}").await.unwrap();
    assert_eq!(replayed["differences"], json!([]), "{replayed}");
    assert_eq!(
        (desk.seen(&session, "/a"), desk.approvals("").await.len()),
        (1, 0)
    );

    // The very same call in another session needs another approval.
    let (other, ids) = desk.waits().await;
    assert_eq!((ids.len(), desk.seen(&other, "/a")), (1, 0));
    // Once its session is over there is nothing to decide.
    let path = format!("/sessions/{other}/cancel");
    post(&desk.ambit, &desk.acme, &path, json!({})).await;
    let (status, refused) = desk.decide(&boss, &ids[0], "approve").await;
    assert_eq!(status, 409, "{refused}");
    let known = desk.approval(&ids[0]).await;
    assert_eq!(
        (&known["state"], &known["outcome"]),
        (&json!("withdrawn"), &Value::Null)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_is_not_done_and_the_agent_hears_why() {
    let Some(desk) = Desk::new().await else {
        return;
    };
    desk.follow(&[&[("wire", "a"), ("wire", "b")]]);
    let boss = desk.boss().await;
    let (session, ids) = desk.waits().await;
    assert_eq!(ids.len(), 2);
    let (status, decided) = desk.decide(&boss, &ids[0], "approve").await;
    assert_eq!(
        (status, &decided["state"]),
        (StatusCode::OK, &json!("approved"))
    );
    // One of two: it still waits.
    let (_, known) = get(&desk.ambit, &desk.acme, &format!("/sessions/{session}")).await;
    assert_eq!(
        (&known["state"], &known["reason"]),
        (&json!("suspended"), &json!("approval"))
    );
    assert_eq!(desk.decide(&boss, &ids[1], "deny").await.0, 200);
    let answer = desk.answered(&session).await;
    assert!(answer.contains("refused: because"), "{answer}");
    assert_eq!(
        (desk.seen(&session, "/a"), desk.seen(&session, "/b")),
        (1, 0)
    );
    let outcome = async |id: &str| {
        let known = desk.approval(id).await;
        (known["state"].clone(), known["outcome"].clone())
    };
    assert_eq!(outcome(&ids[0]).await, (json!("used"), json!("ok")));
    assert_eq!(outcome(&ids[1]).await, (json!("denied"), json!("denied")));

    // The operator decides as well; and who asked may, where the definition says so.
    desk.follow(&[&[("wire", "c")]]);
    let (session, ids) = desk.waits().await;
    let path = format!("/approvals/{}/deny", ids[0]);
    let denied = desk.ambit.admin(Method::POST, &path, "").await.unwrap();
    assert_eq!(denied["decided_by"], "operator");
    desk.answered(&session).await;
    assert_eq!(desk.seen(&session, "/c"), 0);
    desk.apply(json!({ "by_another": false })).await;
    let (session, ids) = desk.waits().await;
    let requester = desk.approval(&ids[0]).await["principal"].clone();
    let requester = requester.as_str().unwrap();
    let himself = desk
        .caller(&desk.acme, requester, &["chat", "approve"])
        .await;
    assert_eq!(desk.decide(&himself, &ids[0], "approve").await.0, 200);
    desk.answered(&session).await;
    assert_eq!(desk.seen(&session, "/c"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approval_holds_for_what_it_was_asked_for_and_nothing_else() {
    let Some(desk) = Desk::new().await else {
        return;
    };
    let boss = desk.boss().await;
    desk.follow(&[&[("wire", "a")]]);

    // In another tenant there is no such thing.
    let globex = desk.ambit.new_tenant("globex").await.unwrap();
    let stranger = desk.caller(&globex, "boss", &["approve"]).await;
    let (session, ids) = desk.waits().await;
    for how in ["approve", "deny"] {
        assert_eq!(desk.decide(&stranger, &ids[0], how).await.0, 404);
    }
    let path = format!("/approvals/{}", ids[0]);
    assert_eq!(get(&desk.ambit, &stranger, &path).await.0, 404);
    let (_, listed) = get(&desk.ambit, &stranger, "/approvals?state=all").await;
    assert_eq!(listed["data"], json!([]));

    // What the agent may do changed meanwhile: what nobody was asked about is not approved of. It can still be refused.
    desk.apply(json!({ "expires": 1000 })).await;
    let (status, refused) = desk.decide(&boss, &ids[0], "approve").await;
    assert_eq!(status, 409, "{refused}");
    assert_eq!(desk.approval(&ids[0]).await["state"], "pending");
    assert_eq!(desk.decide(&boss, &ids[0], "deny").await.0, 200);
    desk.answered(&session).await;
    let (session, ids) = desk.waits().await;
    let origin = format!("http://{}", desk.authority);
    let grant = json!({ "http": [{ "origin": origin, "methods": ["POST", "PUT"] }] });
    desk.ambit
        .put("/grants/hostile:poster", &grant)
        .await
        .unwrap();
    assert_eq!(desk.decide(&boss, &ids[0], "approve").await.0, 409);
    assert_eq!(desk.decide(&boss, &ids[0], "deny").await.0, 200);
    desk.answered(&session).await;

    // Between two decisions too: the one that was approved of before is not made.
    desk.follow(&[&[("wire", "a"), ("wire", "b")]]);
    let (session, ids) = desk.waits().await;
    assert_eq!(desk.decide(&boss, &ids[0], "approve").await.0, 200);
    desk.apply(json!({ "expires": 2000 })).await;
    assert_eq!(desk.decide(&boss, &ids[1], "deny").await.0, 200);
    let answer = desk.answered(&session).await;
    assert!(answer.contains("has changed since"), "{answer}");
    let known = desk.approval(&ids[0]).await;
    assert_eq!(
        (&known["state"], &known["outcome"]),
        (&json!("void"), &json!("changed"))
    );
    assert_eq!(desk.seen(&session, "/a") + desk.seen(&session, "/b"), 0);

    // Too late; then the session goes on without it.
    desk.apply(json!({ "expires": 1 })).await;
    desk.follow(&[&[("wire", "a")]]);
    let (session, ids) = desk.waits().await;
    until("it expires", async || {
        desk.approval(&ids[0]).await["state"] == "expired"
    })
    .await;
    assert_eq!(desk.approvals("").await, [] as [Value; 0]);
    for how in ["approve", "deny"] {
        let (status, refused) = desk.decide(&boss, &ids[0], how).await;
        assert_eq!(status, 409, "{refused}");
    }
    let path = format!("/sessions/{session}/resume");
    let (status, resumed) = post(&desk.ambit, &desk.acme, &path, json!({})).await;
    assert_eq!(status, 202, "{resumed}");
    let answer = desk.answered(&session).await;
    assert!(answer.contains("nobody decided on it in time"), "{answer}");
    assert_eq!(desk.seen(&session, "/a"), 0);
    assert_eq!(desk.approval(&ids[0]).await["outcome"], "expired");
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_are_about_tools_and_arguments() {
    let Some(desk) = Desk::new().await else {
        return;
    };
    let rules = json!([{ "tool": "pa*", "argument": "/name", "matches": "^large" }]);
    desk.apply(json!({ "rules": rules })).await;
    desk.follow(&[&[("pay", "small"), ("put", "large")], &[("pay", "large-1")]]);
    let (session, ids) = desk.waits().await;
    assert_eq!(
        (desk.seen(&session, "/small"), desk.seen(&session, "/large")),
        (1, 1)
    );
    assert_eq!(desk.seen(&session, "/large-1"), 0);
    assert_eq!(desk.approval(&ids[0]).await["why"], "rule 1");
    let boss = desk.boss().await;
    assert_eq!(desk.decide(&boss, &ids[0], "approve").await.0, 200);
    desk.answered(&session).await;
    assert_eq!(desk.seen(&session, "/large-1"), 1);
    // Arguments that no tool would take are not asked about.
    desk.mock
        .follow(Script::tools(vec![Call::new("wire", "{}")], "Done."));
    let session = desk.open(&desk.acme).await;
    assert_eq!(desk.answered(&session).await, "Done.");
    assert_eq!(desk.approvals("").await.len(), 0);
    let bad = json!({ "name": "bad", "model": "paid/mock-1", "approvals": { "rules": [{ "above": 1 }] } });
    let refused = desk.ambit.apply(&desk.acme, &bad).await.unwrap_err();
    assert!(
        refused.to_string().contains("approvals.rules[0]"),
        "{refused}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_who_decide_at_once_one_does() {
    let Some(desk) = Desk::new().await else {
        return;
    };
    desk.follow(&[&[("wire", "a")]]);
    let bosses = join_all((0..8).map(|n| {
        let desk = &desk;
        async move {
            desk.caller(&desk.acme, &format!("boss{n}"), &["approve"])
                .await
        }
    }));
    let bosses = bosses.await;
    let (mut approved, mut denied) = (0, 0);
    for round in 0..6 {
        let (session, ids) = desk.waits().await;
        let decided = join_all(bosses.iter().enumerate().map(async |(n, boss)| {
            let how = if (n + round) % 2 == 0 {
                "approve"
            } else {
                "deny"
            };
            (how, desk.decide(boss, &ids[0], how).await.0.as_u16())
        }));
        let decided = decided.await;
        let won: Vec<_> = decided
            .iter()
            .filter(|(_, status)| *status == 200)
            .collect();
        assert_eq!(won.len(), 1, "{decided:?}");
        assert!(
            decided
                .iter()
                .all(|(_, status)| [200, 409].contains(status)),
            "{decided:?}"
        );
        desk.answered(&session).await;
        let expected = u32::from(won[0].0 == "approve");
        assert_eq!(desk.seen(&session, "/a"), expected, "{decided:?}");
        approved += expected;
        denied += 1 - expected;
        desk.ambit.session(&desk.acme, &session).await.unwrap();
    }
    assert_eq!(approved + denied, 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chat_client_is_told_and_goes_on_afterwards() {
    let Some(desk) = Desk::new().await else {
        return;
    };
    let boss = desk.boss().await;
    for stream in [false, true] {
        desk.follow(&[&[("wire", "a")]]);
        let mut said = vec![json!({ "role": "user", "content": "Pay them." })];
        let notice = desk.ask(&desk.acme, &json!(said), stream).await;
        let session = notice.session.clone().unwrap();
        assert!(notice.complete, "{notice:?}");
        let pending = desk.approvals("").await;
        let [approval] = &pending[..] else {
            panic!("{pending:?}")
        };
        let id = approval["id"].as_str().unwrap();
        assert_eq!(approval["session"], session);
        for word in ["Waiting for approval", &session, id, "`wire`"] {
            assert!(notice.text.contains(word), "{}", notice.text);
        }
        said.push(json!({ "role": "assistant", "content": notice.text }));
        said.push(json!({ "role": "user", "content": "And now?" }));
        // Nobody has decided yet: it says so again, and nothing is lost.
        let again = desk.ask(&desk.acme, &json!(said), stream).await;
        assert_eq!(
            (again.text.trim(), &again.session),
            (notice.text.trim(), &notice.session)
        );
        // It is his who asked: to somebody else the notice is a text like any other.
        let other = desk.caller(&desk.acme, "mallory", &["chat"]).await;
        desk.mock.follow(Script::text("Good day."));
        let strange = desk.ask(&other, &json!(said), stream).await;
        assert_eq!(strange.text.trim(), "Good day.");
        assert_ne!(strange.session, notice.session);
        desk.follow(&[&[("wire", "a")]]);
        assert_eq!(desk.decide(&boss, id, "approve").await.0, 200);
        let answer = desk.answered(&session).await;
        assert_eq!(desk.seen(&session, "/a"), 1);
        // What was answered meanwhile comes first, then the answer to what is asked now.
        desk.mock.follow(Script::text("All is paid."));
        let on = desk.ask(&desk.acme, &json!(said), stream).await;
        assert_eq!(on.session, notice.session, "{on:?}");
        let expected = format!("{answer}\n\nAll is paid.");
        assert_eq!(on.text.trim(), expected.trim(), "{on:?}");
        assert!(on.complete);
        // The journal has all of the answer, for whoever asks it.
        assert_eq!(desk.answered(&session).await.trim(), "All is paid.");

        // By its id as well.
        let body = json!({ "model": "payer", "stream": stream, "messages": [{ "role": "user", "content": "Sure?" }] });
        let named = async |id: &str, tenant: &Tenant| {
            let request = desk
                .ambit
                .request(Method::POST, tenant, "/chat/completions");
            let request = request.header("x-ambit-session", id).json(&body);
            Answer::read(request.send().await.unwrap()).await.unwrap()
        };
        let on = named(&session, &desk.acme).await;
        assert_eq!(
            (on.text.trim(), &on.session),
            ("All is paid.", &notice.session)
        );
        assert_eq!(named(&session, &other).await.status, 404);
        assert_eq!(named("ses_1", &desk.acme).await.status, 400);
        // One that is over is none to go on with; the client has its conversation.
        let path = format!("/sessions/{session}/cancel");
        post(&desk.ambit, &desk.acme, &path, json!({})).await;
        let fresh = desk.ask(&desk.acme, &json!(said), stream).await;
        assert_ne!(fresh.session, notice.session);
        assert_eq!(fresh.text.trim(), "All is paid.");
        assert_eq!(named(&session, &desk.acme).await.status, 409);
        desk.ambit.session(&desk.acme, &session).await.unwrap();
    }
}

/// A restart in between changes nothing; and a session that was erased is decided on by nobody.
#[tokio::test(flavor = "multi_thread")]
async fn who_waits_outlives_the_server() {
    let Some(mut desk) = Desk::new().await else {
        return;
    };
    let boss = desk.boss().await;
    desk.follow(&[&[("wire", "a")]]);
    let (session, ids) = desk.waits().await;
    desk.ambit.signal(Signal::Terminate).await.unwrap();
    assert!(desk.ambit.ended().await.unwrap().success());
    let data = desk.folder.path().join("data");
    let again = Ambit::serve_in(&binary().unwrap(), &data, &desk.configuration, &[]).await;
    desk.ambit = again.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(desk.seen(&session, "/a"), 0);
    assert_eq!(desk.decide(&boss, &ids[0], "approve").await.0, 200);
    desk.answered(&session).await;
    assert_eq!(desk.seen(&session, "/a"), 1);
    let path = format!("/sessions/{session}/cancel");
    post(&desk.ambit, &desk.acme, &path, json!({})).await;
    let path = format!("/tenants/acme/sessions/{session}/content");
    desk.ambit.admin(Method::DELETE, &path, "").await.unwrap();
    let known = desk.approval(&ids[0]).await;
    assert_eq!(
        (&known["arguments"], &known["reason"]),
        (&Value::Null, &Value::Null)
    );
    assert_eq!(
        (&known["state"], &known["outcome"]),
        (&json!("used"), &json!("ok"))
    );
}
