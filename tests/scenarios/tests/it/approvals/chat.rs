//! Chat clients that know nothing of approvals.

use super::Desk;
use crate::sessions::{get, post, wait};
use ambit_mock_provider::{Fault, Reply, Script};
use ambit_scenarios::{Answer, Tenant, until};
use reqwest::Method;
use serde_json::json;
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
