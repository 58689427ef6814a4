//! What cannot be undone waits for somebody: once, for this very call, of this session and tenant, under what was allowed when it was asked for.

use crate::{
    crash::{Outside, install_poster},
    sessions::{get, post, wait, with_agent},
};
use ambit_mock_provider::{Call, Fault, Mock, Reply, Script};
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
    assert!(answer.contains("its approval has expired"), "{answer}");
    assert_eq!(desk.seen(&session, "/a"), 0);
    assert_eq!(desk.approval(&ids[0]).await["outcome"], "expired");

    // A message is no other way around it: the agent hears first what became of its calls.
    let (session, ids) = desk.waits().await;
    until("it expires", async || {
        desk.approval(&ids[0]).await["state"] == "expired"
    })
    .await;
    let path = format!("/sessions/{session}/messages");
    let body = json!({ "input": "And now?" });
    let (status, taken) = post(&desk.ambit, &desk.acme, &path, body).await;
    assert_eq!(status, 202, "{taken}");
    let answer = desk.answered(&session).await;
    assert!(answer.contains("its approval has expired"), "{answer}");
    assert_eq!(desk.seen(&session, "/a"), 0);
    let sent = desk.mock.stats().bodies.pop().unwrap();
    let sent: Value = serde_json::from_slice(&sent).unwrap();
    let roles = sent["messages"].as_array().unwrap().iter();
    let roles: Vec<_> = roles
        .map(|message| message["role"].as_str().unwrap())
        .collect();
    assert_eq!(roles[roles.len() - 3..], ["assistant", "tool", "user"]);
    let path = format!("/tenants/acme/sessions/{session}/replay");
    let replayed = desk.ambit.admin(Method::POST, &path, "{}").await.unwrap();
    assert_eq!(replayed["differences"], json!([]), "{replayed}");
}

/// A provider that fails, and a client that asks again: the message is there once, and what was answered before is not lost.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_sent_again_is_taken_once() {
    let Some(desk) = Desk::new().await else {
        return;
    };
    let boss = desk.boss().await;
    desk.follow(&[&[("wire", "a")]]);
    let mut said = vec![json!({ "role": "user", "content": "Pay them." })];
    let notice = desk.ask(&desk.acme, &json!(said), false).await;
    let session = notice.session.clone().unwrap();
    let id = desk.approvals("").await[0]["id"].clone();
    assert_eq!(
        desk.decide(&boss, id.as_str().unwrap(), "approve").await.0,
        200
    );
    let answer = desk.answered(&session).await;
    said.push(json!({ "role": "assistant", "content": notice.text }));
    said.push(json!({ "role": "user", "content": "And now?" }));
    desk.mock.follow(Script {
        fault: Some(Fault::Status {
            status: 400,
            message: "no".to_owned(),
            retry_after: None,
        }),
        ..Script::default()
    });
    let failed = desk.ask(&desk.acme, &json!(said), false).await;
    assert!(failed.status >= 400, "{failed:?}");
    desk.mock.follow(Script::text("All is paid."));
    let on = desk.ask(&desk.acme, &json!(said), false).await;
    assert_eq!(on.session, notice.session, "{on:?}");
    assert_eq!(on.text.trim(), format!("{answer}\n\nAll is paid."));
    let (.., kinds) = desk.ambit.session(&desk.acme, &session).await.unwrap();
    let requests = kinds.iter().filter(|kind| *kind == "request").count();
    assert_eq!((requests, desk.seen(&session, "/a")), (2, 1));
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
    // Arguments that no tool would take are not asked about, and whatever they are can be read.
    let infinite = Call::new("wire", r#"{"authority":"x","name":"y","amount":1e999}"#);
    desk.mock.follow(Script::tools(vec![infinite], "Done."));
    let session = desk.open(&desk.acme).await;
    assert_eq!(desk.answered(&session).await, "Done.");
    let (status, listed) = get(&desk.ambit, &boss, "/approvals?state=all").await;
    assert_eq!(status, 200);
    let attempt = &listed["data"][0];
    assert_eq!(attempt["session"], session, "{attempt}");
    assert!(attempt["arguments"].as_str().unwrap().contains("1e999"));
    desk.mock
        .follow(Script::tools(vec![Call::new("wire", "{}")], "Done."));
    let session = desk.open(&desk.acme).await;
    assert_eq!(desk.answered(&session).await, "Done.");
    assert_eq!(desk.approvals("").await.len(), 0);
    // It was attempted all the same.
    let all = desk.approvals("?state=all").await;
    let attempt = all.iter().find(|one| one["session"] == session).unwrap();
    assert_eq!(
        (
            &attempt["state"],
            &attempt["outcome"],
            &attempt["arguments"]
        ),
        (&json!("refused"), &json!("invalid"), &json!({}))
    );
    let exact =
        json!({ "authority": desk.authority, "name": "e", "amount": 9_007_199_254_740_993_u64 });
    let exact = Call::new("wire", exact.to_string());
    desk.mock.follow(Script::tools(vec![exact], "Done."));
    let session = desk.open(&desk.acme).await;
    assert_eq!(desk.answered(&session).await, "Done.");
    let all = desk.approvals("?state=all").await;
    let attempt = all.iter().find(|one| one["session"] == session).unwrap();
    assert_eq!(attempt["arguments"]["amount"], 9_007_199_254_740_993_u64);
    assert_eq!(desk.seen(&session, "/e"), 0);
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
        // A client that heard nothing of it asks again, and is answered the same.
        let asked = desk.mock.stats().requests;
        let again = desk.ask(&desk.acme, &json!(said), stream).await;
        assert_eq!(
            (again.text.trim(), &again.session),
            (on.text.trim(), &notice.session)
        );
        assert_eq!(desk.mock.stats().requests, asked);
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

/// The model speaks while it calls, and calls twice: one session all along, and each thing done once.
#[tokio::test(flavor = "multi_thread")]
async fn a_chat_of_several_approvals_is_one_session() {
    let Some(desk) = Desk::new().await else {
        return;
    };
    let boss = desk.boss().await;
    for stream in [false, true] {
        let rounds = ["a", "b"].map(|name| vec![desk.call("wire", name)]);
        desk.mock.follow(Script {
            reply: Reply::ToolsWithText {
                text: "I will pay now.".to_owned(),
                rounds: rounds.into(),
            },
            ..Script::default()
        });
        let mut said = vec![json!({ "role": "user", "content": "Pay them." })];
        let mut sessions = Vec::new();
        for _ in 0..2 {
            let told = desk.ask(&desk.acme, &json!(said), stream).await;
            // Only the first time somebody listened to what is said beside the question.
            let begins = match sessions.is_empty() {
                true => "I will pay now.\n\nWaiting for approval",
                false => "Waiting for approval",
            };
            assert!(told.text.trim().starts_with(begins), "{told:?}");
            sessions.push(told.session.unwrap());
            let pending = desk.approvals("").await;
            let [approval] = &pending[..] else {
                panic!("{pending:?}")
            };
            let id = approval["id"].as_str().unwrap();
            assert_eq!(desk.decide(&boss, id, "approve").await.0, 200);
            said.push(json!({ "role": "assistant", "content": told.text }));
            said.push(json!({ "role": "user", "content": "Go on." }));
            // The next question is asked while nobody listens.
            wait(&desk.ambit, &desk.acme, &sessions[0], "suspended").await;
            if sessions.len() == 1 {
                let (_, known) = get(
                    &desk.ambit,
                    &desk.acme,
                    &format!("/sessions/{}", sessions[0]),
                )
                .await;
                assert_eq!(known["reason"], "approval", "{known}");
            }
        }
        assert_eq!(sessions[0], sessions[1]);
        desk.answered(&sessions[0]).await;
        let seen = ["/a", "/b"].map(|path| desk.seen(&sessions[0], path));
        assert_eq!(seen, [1, 1]);
    }
}

/// Who goes on with a session goes on with it from there, whoever began it: with no more than he has, and as long as he may.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_approved_of_is_done_for_whom_it_was_asked() {
    let Some(desk) = Desk::new().await else {
        return;
    };
    let boss = desk.boss().await;
    desk.follow(&[&[("wire", "a")], &[("wire", "b")]]);
    let alice = desk.caller(&desk.acme, "alice", &["chat"]).await;
    let mut said = vec![json!({ "role": "user", "content": "Pay them." })];
    let told = desk.ask(&alice, &json!(said), false).await;
    let session = told.session.unwrap();
    let pending = desk.approvals("").await;
    let id = pending[0]["id"].as_str().unwrap();
    assert_eq!(desk.decide(&boss, id, "deny").await.0, 200);
    // It asks for the next one by itself; that expires with this.
    wait(&desk.ambit, &alice, &session, "suspended").await;
    let pending = desk.approvals("").await;
    let id = pending[0]["id"].as_str().unwrap().to_owned();
    assert_eq!(desk.decide(&boss, &id, "deny").await.0, 200);
    until("it has answered", async || {
        let (_, known) = get(&desk.ambit, &alice, &format!("/sessions/{session}")).await;
        known["reason"] == "message"
    })
    .await;
    // Another key of hers goes on; the one it was begun with ends.
    let again = desk.caller(&desk.acme, "alice", &["chat"]).await;
    let reply = Reply::ToolsThenTell(vec![vec![], vec![], vec![desk.call("wire", "c")]]);
    desk.mock.follow(Script {
        reply,
        ..Script::default()
    });
    said.push(json!({ "role": "assistant", "content": told.text }));
    said.push(json!({ "role": "user", "content": "Then this." }));
    let told = desk.ask(&again, &json!(said), false).await;
    assert_eq!(told.session.as_ref(), Some(&session), "{told:?}");
    let key = alice.api_key.split('_').nth(1).unwrap();
    let path = format!("/tenants/acme/keys/{key}");
    desk.ambit.admin(Method::DELETE, &path, "").await.unwrap();
    let pending = desk.approvals("").await;
    let id = pending[0]["id"].as_str().unwrap();
    let (status, decided) = desk.decide(&boss, id, "approve").await;
    assert_eq!(status, 200, "{decided}");
    until("it is done", async || desk.seen(&session, "/c") == 1).await;

    // And with a token that is good no more, nothing is approved of, and nothing spent.
    desk.follow(&[&[("wire", "d")]]);
    let asked = json!({ "expires_in": 900 });
    let (status, token) = post(&desk.ambit, &again, "/tokens", asked).await;
    assert!(status.is_success(), "{token}");
    let holder = Tenant {
        api_key: token["token"].as_str().unwrap().to_owned(),
        ..again.clone()
    };
    let (session, ids) = {
        let session = desk.open(&holder).await;
        wait(&desk.ambit, &holder, &session, "suspended").await;
        let pending = desk.approvals("").await;
        (session, pending[0]["id"].as_str().unwrap().to_owned())
    };
    let path = format!("/tokens/{}", token["id"].as_str().unwrap());
    let revoked = desk
        .ambit
        .request(Method::DELETE, &again, &path)
        .send()
        .await;
    assert!(revoked.unwrap().status().is_success());
    assert_eq!(desk.decide(&boss, &ids, "approve").await.0, 403);
    assert_eq!(desk.approval(&ids).await["state"], "pending");
    assert_eq!(desk.seen(&session, "/d"), 0);
}

/// With a server and without one.
#[tokio::test(flavor = "multi_thread")]
async fn operators_decide_and_export_from_the_command_line() {
    let Some(mut desk) = Desk::new().await else {
        return;
    };
    let run = async |desk: &Desk, arguments: &[&str]| {
        let mut command = tokio::process::Command::new(binary().unwrap());
        command.arg("approvals").args(arguments).arg("--data");
        command.arg(desk.folder.path().join("data"));
        command.env("ADMIN_KEY", "adm_of-a-scenario");
        let output = command.output().await.unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        (
            output.status.success(),
            String::from_utf8(output.stdout).unwrap(),
            told,
        )
    };
    // What a model wrote is shown as it is, however long, and moves nothing.
    let long = format!("a\u{202e}\u{9b}{}", "x".repeat(100_000));
    desk.follow(&[&[("wire", &long)]]);
    let (_, ids) = desk.waits().await;
    let (done, listed, told) = run(&desk, &["list"]).await;
    assert!(
        done && listed.contains(&ids[0]) && listed.contains("wire"),
        "{told}"
    );
    assert!(
        listed.len() < 2000 && !listed.contains('\u{202e}'),
        "{listed}"
    );
    let (done, shown, told) = run(&desk, &["show", &ids[0]]).await;
    assert!(done && shown.len() > 100_000, "{told}");
    assert!(
        shown.contains("\\u{202e}") && !shown.contains('\u{9b}'),
        "{told}"
    );
    let (done, denied, told) = run(&desk, &["deny", &ids[0], "--reason", "=too much"]).await;
    assert!(done && denied.contains("denied"), "{told}");
    let (done, _, told) = run(&desk, &["approve", &ids[0]]).await;
    assert!(!done && told.contains("`operator` has denied"), "{told}");
    let (done, _, told) = run(&desk, &["approve", "apr_1"]).await;
    assert!(!done && told.contains("apr_1"), "{told}");

    // The command does the work itself where nobody else is there to.
    desk.follow(&[&[("wire", "b")]]);
    let (session, ids) = desk.waits().await;
    desk.ambit.signal(Signal::Terminate).await.unwrap();
    assert!(desk.ambit.ended().await.unwrap().success());
    let (done, approved, told) = run(&desk, &["approve", &ids[0], "--reason", "fine"]).await;
    assert!(done && approved.contains("approved of"), "{told}");
    assert_eq!(desk.seen(&session, "/b"), 1);
    let (_, csv, _) = run(&desk, &["export"]).await;
    let rows: Vec<_> = csv.lines().collect();
    assert_eq!(rows.len(), 3, "{csv}");
    assert!(rows[0].starts_with("id,tenant,session,agent,principal,tool,arguments"));
    assert!(
        rows[1].contains(",denied,denied,") && rows[1].contains(",'=too much,"),
        "{}",
        rows[1].len()
    );
    assert!(
        rows[2].starts_with(&ids[0]) && rows[2].contains(",used,ok,"),
        "{}",
        rows[2]
    );
    let (done, week, told) = run(
        &desk,
        &["export", "--week", "2020-01-01", "--format", "json"],
    )
    .await;
    assert!(done && week.trim() == "[]", "{told}");
    let (done, _, told) = run(&desk, &["export", "--day", "yesterday"]).await;
    assert!(!done && told.contains("`yesterday`"), "{told}");
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
