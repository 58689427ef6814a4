//! How long the one that is asked lives: as long as the one that asks, through approvals and the end of a process.

use super::{Family, script};
use crate::sessions::{get, post, wait};
use ambit_mock_provider::{Call, Fault, Reply, Script};
use ambit_scenarios::{Signal, until};
use reqwest::Method;
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn cancelling_the_parent_cancels_the_child() {
    let Some(family) = Family::new().await else {
        return;
    };
    let cancel = async |id: &str| {
        let path = format!("/sessions/{id}/cancel");
        let (status, told) = post(&family.ambit, &family.acme, &path, json!({})).await;
        assert_eq!(status, 202, "{told}");
    };
    // At work.
    let hangs = script(Reply::Text("Never.".to_owned())).with_fault(Fault::HangBeforeHead);
    family.helper.follow(hangs);
    let id = family.open().await;
    let child = family.child(&id).await;
    cancel(&id).await;
    for session in [&id, &child] {
        wait(&family.ambit, &family.acme, session, "cancelled").await;
        family.ambit.session(&family.acme, session).await.unwrap();
    }
    // Waiting: what the child asked for is not to be decided any more.
    family.calls(&[("wire", "a")]);
    let (id, child, approval) = family.waits().await;
    cancel(&id).await;
    for session in [&id, &child] {
        wait(&family.ambit, &family.acme, session, "cancelled").await;
    }
    let path = format!("/approvals/{approval}/approve");
    let refused = family.ambit.admin(Method::POST, &path, "").await;
    assert!(refused.is_err(), "{refused:?}");
    assert_eq!(family.seen(&child, "/a"), 0);
    // The child alone: who asked it is told, and goes on.
    let (id, child, _) = family.waits().await;
    cancel(&child).await;
    let session = family.over(&id).await;
    let answer = session["answer"].as_str().unwrap();
    assert!(answer.contains("somebody ended its session"), "{answer}");
    // A chat client that goes away while its agent waits for another one.
    let hangs = script(Reply::Text("Never.".to_owned())).with_fault(Fault::HangBeforeHead);
    family.helper.follow(hangs);
    let body = json!({ "model": "lead", "stream": true, "messages": [{ "role": "user", "content": "Ask them." }] });
    let before = family.helper.stats().requests;
    let request = family
        .ambit
        .request(Method::POST, &family.acme, "/chat/completions");
    let response = request.json(&body).send().await.unwrap();
    until("it is asked", async || {
        family.helper.stats().requests > before
    })
    .await;
    let id = response.headers()["x-ambit-session"]
        .to_str()
        .unwrap()
        .to_owned();
    let child = family.child(&id).await;
    drop(response);
    wait(&family.ambit, &family.acme, &child, "cancelled").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_an_approval_of_another_waits_as_rows_only() {
    let Some(family) = Family::new().await else {
        return;
    };
    family.calls(&[("wire", "a"), ("pay", "b")]);
    let (id, child, approval) = family.waits().await;
    assert_eq!(family.seen(&child, "/a"), 0);
    // Whoever talks to it is told what it waits for.
    for (path, body) in [
        ("messages", json!({ "input": "Do it now." })),
        ("resume", json!({})),
    ] {
        let path = format!("/sessions/{id}/{path}");
        let (status, refused) = post(&family.ambit, &family.acme, &path, body).await;
        assert_eq!(status, 409, "{refused}");
        let message = refused["error"]["message"].as_str().unwrap();
        assert!(
            message.contains(&approval) && message.contains("`wire`"),
            "{message}"
        );
    }
    family.approve(&approval).await;
    let session = family.over(&id).await;
    assert_eq!(session["reason"], "message", "{session}");
    let answer = session["answer"].as_str().unwrap();
    assert!(answer.contains("done 200"), "{answer}");
    assert_eq!(
        (family.seen(&child, "/a"), family.seen(&child, "/b")),
        (1, 1)
    );
    for session in [&id, &child] {
        family.ambit.session(&family.acme, session).await.unwrap();
        let path = format!("/tenants/acme/sessions/{session}/replay");
        let replayed = family.ambit.admin(Method::POST, &path, "{}").await.unwrap();
        assert_eq!(replayed["differences"], json!([]), "{replayed}");
    }
    assert_eq!(family.children(&id).await.len(), 1);
    let check = family.ambit.get("/tenants/acme/costs/check").await.unwrap();
    assert_eq!(check["holds"], true, "{check}");

    // A rule of who asks may want an approval of the asking itself.
    let rules = json!({ "rules": [{ "tool": "ask_*" }] });
    family.apply_lead(json!({ "approvals": rules })).await;
    family
        .helper
        .follow(script(Reply::Text("They are well.".to_owned())));
    let id = family.open().await;
    let waiting = wait(&family.ambit, &family.acme, &id, "suspended").await;
    assert_eq!(waiting["reason"], "approval", "{waiting}");
    assert!(family.children(&id).await.is_empty());
    let pending = family.ambit.get("/approvals").await.unwrap();
    let pending = &pending["data"][0];
    assert_eq!(
        pending["arguments"],
        json!({ "input": "How are they?" }),
        "{pending}"
    );
    family.approve(pending["id"].as_str().unwrap()).await;
    let session = family.over(&id).await;
    assert!(
        session["answer"]
            .as_str()
            .unwrap()
            .contains("They are well.")
    );
}

/// What expires is seen by whoever goes on with the parent.
#[tokio::test(flavor = "multi_thread")]
async fn what_expired_below_is_gone_on_with_from_above() {
    let Some(family) = Family::new().await else {
        return;
    };
    family.asks_in_vain().await;
    let (id, child, _) = family.waits().await;
    let path = format!("/sessions/{id}/messages");
    until("it has expired", async || {
        let body = json!({ "input": "Never mind." });
        let (status, _) = post(&family.ambit, &family.acme, &path, body).await;
        status == 202
    })
    .await;
    let mut told = String::new();
    until("it has answered", async || {
        let session = family.over(&id).await;
        session["answer"]
            .as_str()
            .unwrap_or_default()
            .clone_into(&mut told);
        session["reason"] == "message" && !told.is_empty()
    })
    .await;
    assert!(told.contains("expired"), "{told}");
    assert_eq!(family.seen(&child, "/a"), 0);
    wait(&family.ambit, &family.acme, &child, "finished").await;
    // The message was not lost.
    let asked: Value = serde_json::from_slice(family.lead.stats().bodies.last().unwrap()).unwrap();
    assert!(asked["messages"].to_string().contains("Never mind."));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chat_client_hears_of_what_another_agent_waits_for() {
    let Some(family) = Family::new().await else {
        return;
    };
    for stream in [false, true] {
        family.calls(&[("wire", "a")]);
        let mut said = vec![json!({ "role": "user", "content": "Ask them." })];
        let chat = async |said: &Vec<Value>| {
            let body = json!({ "model": "lead", "messages": said, "stream": stream });
            family.ambit.ask(&family.acme, &body).await.unwrap()
        };
        let notice = chat(&said).await;
        let id = notice.session.clone().unwrap();
        let child = family.child(&id).await;
        let pending = family.ambit.get("/approvals").await.unwrap();
        let approval = pending["data"][0]["id"].as_str().unwrap().to_owned();
        for word in ["Waiting for approval", &id, &child, &approval, "`wire`"] {
            assert!(notice.text.contains(word), "{}", notice.text);
        }
        said.push(json!({ "role": "assistant", "content": notice.text }));
        said.push(json!({ "role": "user", "content": "And now?" }));
        let again = chat(&said).await;
        assert_eq!(
            (again.text.trim(), &again.session),
            (notice.text.trim(), &notice.session)
        );
        family.approve(&approval).await;
        let answered = family.over(&id).await;
        let answer = answered["answer"].as_str().unwrap();
        assert!(answer.contains("done 200"), "{answered}");
        // What was answered meanwhile comes first.
        let on = chat(&said).await;
        assert_eq!(on.session, notice.session, "{on:?}");
        assert!(
            on.complete && on.text.starts_with(answer),
            "{on:?}\n{answer}"
        );
        assert_eq!(family.seen(&child, "/a"), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_is_woken_by_another_process() {
    let Some(mut family) = Family::new().await else {
        return;
    };
    family.calls(&[("wire", "a")]);
    let (id, child, approval) = family.waits().await;
    family.ambit.signal(Signal::Terminate).await.unwrap();
    assert!(family.ambit.ended().await.unwrap().success());
    family.ambit = family.again().await;
    family.approve(&approval).await;
    let session = family.over(&id).await;
    assert!(session["answer"].as_str().unwrap().contains("done 200"));
    assert_eq!(family.seen(&child, "/a"), 1);

    // One that stops while both are at work: both are gone on with, and nobody is asked twice.
    let hangs = script(Reply::Text("They are well.".to_owned())).with_fault(Fault::HangBeforeHead);
    family.helper.follow(hangs);
    let id = family.open().await;
    let child = family.child(&id).await;
    family.ambit.signal(Signal::Kill).await.unwrap();
    family.ambit.ended().await.unwrap();
    family
        .helper
        .follow(script(Reply::Text("They are well.".to_owned())));
    family.ambit = family.again().await;
    let session = family.over(&id).await;
    let answer = session["answer"].as_str().unwrap_or_default();
    assert!(answer.contains("They are well."), "{session}");
    assert_eq!(family.child(&id).await, child);
    let (_, known) = get(&family.ambit, &family.acme, &format!("/sessions/{child}")).await;
    assert_eq!(known["state"], "finished");

    // And of a chat completion, which ends with its process, the child ends too.
    let hangs = script(Reply::Text("Never.".to_owned())).with_fault(Fault::HangBeforeHead);
    family.helper.follow(hangs);
    let body = json!({ "model": "lead", "stream": true, "messages": [{ "role": "user", "content": "Ask them." }] });
    let request = family
        .ambit
        .request(Method::POST, &family.acme, "/chat/completions");
    let response = request.json(&body).send().await.unwrap();
    let id = response.headers()["x-ambit-session"]
        .to_str()
        .unwrap()
        .to_owned();
    let child = family.child(&id).await;
    family.ambit.signal(Signal::Kill).await.unwrap();
    family.ambit.ended().await.unwrap();
    family.ambit = family.again().await;
    wait(&family.ambit, &family.acme, &child, "cancelled").await;
}

/// Two nodes over one database: what one started the other goes on with, wakes, and ends.
#[tokio::test(flavor = "multi_thread")]
async fn families_are_looked_after_by_every_node() {
    let Some(server) = ambit_store::testing::server().await else {
        return;
    };
    let database = server.create_database().await.unwrap();
    let url = |login: &ambit_types::Secret| login.expose().to_owned();
    let environment = vec![
        ("APP", url(&database.app)),
        ("OPERATOR", url(&database.operator)),
        ("OWNER", url(database.owner.as_ref().unwrap())),
        ("MASTER", "5a".repeat(32)),
    ];
    let rest = "listen.ops = \"127.0.0.1:0\"\nlimits.drain_seconds = 1\n[database]\nkind = \"postgres\"\napp = { env = \"APP\" }\n\
        operator = { env = \"OPERATOR\" }\nowner = { env = \"OWNER\" }\n[journal]\nmaster_key = { env = \"MASTER\" }\n\
        [anchors]\nkey = { env = \"MASTER\" }\n[tokens]\nkey = { env = \"MASTER\" }\n";
    let Some(mut family) = Family::with(rest, environment).await else {
        return;
    };
    let other = family.node().await;
    family.calls(&[("wire", "a")]);
    // Begun on the first, decided on the second; the first wakes the parent, or the second does.
    let (id, child, approval) = family.waits().await;
    let path = format!("/approvals/{approval}/approve");
    until("it knows the agents", async || {
        other.admin(Method::POST, &path, "").await.is_ok()
    })
    .await;
    let session = family.over(&id).await;
    assert!(
        session["answer"].as_str().unwrap().contains("done 200"),
        "{session}"
    );
    assert_eq!(family.seen(&child, "/a"), 1);

    // Cancelled on the second while the first works on both.
    let hangs = script(Reply::Text("They are well.".to_owned())).with_fault(Fault::HangBeforeHead);
    family.helper.follow(hangs);
    let id = family.open().await;
    let child = family.child(&id).await;
    let path = format!("/sessions/{id}/cancel");
    assert_eq!(post(&other, &family.acme, &path, json!({})).await.0, 202);
    for session in [&id, &child] {
        wait(&other, &family.acme, session, "cancelled").await;
    }

    // The first dies at work on both: the second goes on with both, and asks nobody twice. Of a chat completion it ends the child.
    let id = family.open().await;
    let child = family.child(&id).await;
    let body = json!({ "model": "lead", "stream": true, "messages": [{ "role": "user", "content": "Ask them." }] });
    let request = family
        .ambit
        .request(Method::POST, &family.acme, "/chat/completions");
    let response = request.json(&body).send().await.unwrap();
    let chat = response.headers()["x-ambit-session"].to_str().unwrap();
    let orphan = family.child(chat).await;
    family.ambit.signal(Signal::Kill).await.unwrap();
    family.ambit.ended().await.unwrap();
    family
        .helper
        .follow(script(Reply::Text("They are well.".to_owned())));
    family.ambit = other;
    let session = family.over(&id).await;
    let answer = session["answer"].as_str().unwrap_or_default();
    assert!(answer.contains("They are well."), "{session}");
    assert_eq!(family.child(&id).await, child);
    wait(&family.ambit, &family.acme, &orphan, "cancelled").await;
    for session in [&id, &child, &orphan] {
        family.ambit.session(&family.acme, session).await.unwrap();
    }
}

/// Who waits for another agent waits as long as that one takes, and is told in the end.
#[tokio::test(flavor = "multi_thread")]
async fn the_deadline_of_who_waits_ends_nobody() {
    let Some(family) = Family::new().await else {
        return;
    };
    let limits = json!({ "deadline": 1 });
    family.apply_lead(json!({ "limits": limits })).await;
    let mut slow = script(Reply::Text("At last.".to_owned()));
    slow.latency_ms = 2500;
    family.helper.follow(slow);
    let id = family.open().await;
    let waiting = wait(&family.ambit, &family.acme, &id, "suspended").await;
    assert_eq!(waiting["reason"], "child", "{waiting}");
    let session = family.over(&id).await;
    let answer = session["answer"].as_str().unwrap_or_default();
    assert!(answer.contains("At last."), "{session}");
    assert_eq!(family.children(&id).await.len(), 1);
}

/// Three levels, and what has to be approved of is at the lowest.
#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_who_waits_is_woken_too() {
    let Some(family) = Family::new().await else {
        return;
    };
    let middle = json!({ "name": "middle", "model": "one/mock-1", "models": ["two/mock-1"], "tools": ["hostile:poster"], "agents": ["helper"] });
    family.apply(middle, json!({})).await;
    family.apply_lead(json!({ "model": "one/mock-2", "models": ["one/mock-1", "two/mock-1"], "agents": ["middle"] })).await;
    let asks = |agent: &str| {
        let call = Call::new(format!("ask_{agent}"), json!({ "input": "a" }).to_string());
        Reply::ToolsThenTell(vec![vec![call]])
    };
    let models = Script::models([("mock-1", asks("helper")), ("mock-2", asks("middle"))]);
    family.lead.follow(Script {
        models: models.models,
        ..script(models.reply)
    });
    family.calls(&[("wire", "a")]);
    let id = family.open().await;
    let below = family.child(&id).await;
    let lowest = family.child(&below).await;
    for session in [&id, &below, &lowest] {
        wait(&family.ambit, &family.acme, session, "suspended").await;
    }
    let pending = family.ambit.get("/approvals").await.unwrap();
    assert_eq!(pending["data"][0]["session"], lowest);
    family
        .approve(pending["data"][0]["id"].as_str().unwrap())
        .await;
    let session = family.over(&id).await;
    let answer = session["answer"].as_str().unwrap();
    assert!(answer.contains("done 200"), "{answer}");
    assert_eq!(family.seen(&lowest, "/a"), 1);
    for (session, state) in [(&below, "finished"), (&lowest, "finished")] {
        wait(&family.ambit, &family.acme, session, state).await;
    }
    // Ended in the middle: what both below it spent is told above, and the lowest is over too.
    let open = async || {
        let id = family.open().await;
        let below = family.child(&id).await;
        let lowest = family.child(&below).await;
        wait(&family.ambit, &family.acme, &id, "suspended").await;
        [id, below, lowest]
    };
    let cancel = async |id: &str| {
        let path = format!("/sessions/{id}/cancel");
        let (status, told) = post(&family.ambit, &family.acme, &path, json!({})).await;
        assert_eq!(status, 202, "{told}");
    };
    let [id, below, lowest] = open().await;
    cancel(&below).await;
    let session = family.over(&id).await;
    let answer = session["answer"].as_str().unwrap();
    assert!(answer.contains("somebody ended its session"), "{answer}");
    wait(&family.ambit, &family.acme, &lowest, "cancelled").await;
    let events = family.events(&id).await;
    let mut facts = events.iter().map(|event| &event["header"]["facts"]);
    let told = facts.find(|facts| facts["child_spent"].is_i64()).unwrap();
    assert_eq!(
        (&told["child_spent"], &told["child_tokens"]),
        (&json!(8_000_000), &json!(26)),
        "{told}"
    );
    // And ended from above.
    let all = open().await;
    cancel(&all[0]).await;
    for session in &all {
        wait(&family.ambit, &family.acme, session, "cancelled").await;
    }
}
