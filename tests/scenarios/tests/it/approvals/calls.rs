//! A call is made once, for what was approved of, and not otherwise.

use super::Desk;
use crate::sessions::{get, post};
use ambit_mock_provider::{Call, Script};
use ambit_scenarios::until;
use futures::future::join_all;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
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
