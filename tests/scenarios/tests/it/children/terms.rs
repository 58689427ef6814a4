//! What the one that asks is bound to binds the one that is asked: approvals, budgets and limits, in every mode, and as they are now.

use super::{Family, ask, script, tells};
use crate::sessions::{get, post, wait};
use ambit_mock_provider::Reply;
use ambit_scenarios::{Tenant, until};
use reqwest::Method;
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn what_the_parent_needs_an_approval_for_its_child_does() {
    let Some(family) = Family::new().await else {
        return;
    };
    let rules = json!({ "rules": [{ "tool": "put" }, { "tool": "pay" }], "expires": 1000 });
    family.apply_lead(json!({ "approvals": rules })).await;
    // Who is asked would approve of its own calls, and of `pay` nobody.
    let own = json!({ "by_another": false, "expires": 2000 });
    family.apply_helper(json!({ "approvals": own })).await;
    family.calls(&[("pay", "a")]);
    let (id, child, approval) = family.waits().await;
    let pending = family.ambit.get("/approvals").await.unwrap();
    let pending = &pending["data"][0];
    assert_eq!(
        (&pending["why"], &pending["by_another"]),
        (&json!("rule 2 of lead"), &json!(true)),
        "{pending}"
    );
    let lasts = pending["expires_at"].as_i64().unwrap() - pending["created_at"].as_i64().unwrap();
    assert!((999..=1001).contains(&lasts), "{pending}");
    // Other terms of who asks are other terms.
    let rules = json!({ "rules": [{ "tool": "pay" }], "expires": 1000 });
    family.apply_lead(json!({ "approvals": rules })).await;
    let path = format!("/approvals/{approval}/approve");
    let refused = family.ambit.admin(Method::POST, &path, "").await;
    assert!(refused.is_err(), "{refused:?}");
    let path = format!("/approvals/{approval}/deny");
    family.ambit.admin(Method::POST, &path, "").await.unwrap();
    family.over(&id).await;
    assert_eq!(family.seen(&child, "/a"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_parent_has_lost_its_waiting_child_has_lost() {
    let Some(family) = Family::new().await else {
        return;
    };
    family.calls(&[("wire", "a")]);
    for (change, word) in [
        (json!({ "tools": [] }), "changed"),
        (json!({ "agents": [] }), "may not ask"),
    ] {
        family.apply_lead(json!({})).await;
        let (id, child, approval) = family.waits().await;
        family.apply_lead(change.clone()).await;
        let path = format!("/approvals/{approval}/approve");
        let refused = family.ambit.admin(Method::POST, &path, "").await;
        let why = refused.unwrap_err().to_string();
        assert!(why.contains(word), "{change}: {why}");
        let path = format!("/sessions/{id}/cancel");
        post(&family.ambit, &family.acme, &path, json!({})).await;
        wait(&family.ambit, &family.acme, &child, "cancelled").await;
        assert_eq!(family.seen(&child, "/a"), 0);
    }
}

/// Who is not waited for any more is ended, and what it spent is told.
#[tokio::test(flavor = "multi_thread")]
async fn who_is_asked_no_more_is_ended_and_paid_for() {
    let Some(family) = Family::new().await else {
        return;
    };
    family.asks_in_vain().await;
    let told = async |id: &str| {
        let events = family.events(id).await;
        let mut outcomes = events
            .iter()
            .filter(|one| one["header"]["facts"]["effect"] == "tools");
        let last = outcomes
            .rfind(|one| one["kind"] == "outcome")
            .unwrap()
            .clone();
        (
            last["header"]["facts"]["child_spent"].clone(),
            last["body"][0]["code"].clone(),
        )
    };
    let resume = async |id: &str, whom: &Tenant| {
        let path = format!("/sessions/{id}/resume");
        until("it has expired", async || {
            post(&family.ambit, whom, &path, json!({})).await.0 == 202
        })
        .await;
    };
    let (id, child, _) = family.waits().await;
    family.apply_lead(json!({ "agents": [] })).await;
    resume(&id, &family.acme).await;
    family.over(&id).await;
    assert_eq!(told(&id).await, (json!(4_000_000), json!("unknown")));
    wait(&family.ambit, &family.acme, &child, "cancelled").await;

    // Somebody else of the same principal goes on with the parent: the child acts for nobody any more.
    family.apply_lead(json!({})).await;
    let (id, child, _) = family.waits().await;
    let (holder, _) = family.token(json!({})).await;
    resume(&id, &holder).await;
    family.over(&id).await;
    assert_eq!(told(&id).await, (json!(4_000_000), json!("unknown")));
    wait(&family.ambit, &family.acme, &child, "cancelled").await;
    let check = family.ambit.get("/tenants/acme/costs/check").await.unwrap();
    assert_eq!(check["holds"], true, "{check}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_operator_allows_each_session_is_for_it_and_its_children() {
    let Some(family) = Family::new().await else {
        return;
    };
    let asks = |n: usize| {
        let rounds = (0..n).map(|n| vec![ask(json!({ "input": format!("{n}") }))]);
        family.lead.follow(tells(rounds.collect()));
    };
    // One of the parent's, one of the child's, one of the parent's: 0.012, where a call may take 0.01.
    let budget = json!({ "scope": "session", "id": "*", "period": "none", "limit": "0.018" });
    let path = "/tenants/acme/budgets";
    family.ambit.put(path, &budget).await.unwrap();
    asks(1);
    assert!(family.answer().await.contains("They are well."));
    // Two children: after three calls there is not enough for a fourth, of the second child or of the parent.
    asks(2);
    let id = family.open().await;
    let session = family.over(&id).await;
    assert_eq!(session["reason"], "insufficient_quota", "{session}");
    let children = family.children(&id).await;
    let states: Vec<_> = children.iter().map(|one| &one["state"]).collect();
    assert_eq!(states, ["finished", "failed"], "{children:?}");
    assert_eq!(children[1]["reason"], "insufficient_quota", "{children:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_counted_below_too() {
    let Some(family) = Family::new().await else {
        return;
    };
    // Thirteen for each answer: of the parent, of the child, and then there are enough for none.
    for (most, state, reason) in [
        (60, "finished", "message"),
        (20, "finished", "limit_exceeded"),
        (13, "failed", "limit_exceeded"),
    ] {
        family
            .apply_lead(json!({ "limits": { "tokens": most } }))
            .await;
        let id = family.open().await;
        let session = family.over(&id).await;
        assert_eq!(session["reason"], reason, "{most}: {session}");
        let child = family.child(&id).await;
        let (_, known) = get(&family.ambit, &family.acme, &format!("/sessions/{child}")).await;
        assert_eq!(known["state"], state, "{most}: {known}");
    }
}

/// Where tokens are not enforced, agents are bound all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_child_holds_no_more_in_any_mode() {
    for mode in ["warn", "disabled"] {
        let rest = format!("[tokens]\nmode = \"{mode}\"\n");
        let Some(family) = Family::with(&rest, Vec::new()).await else {
            return;
        };
        assert!(family.answer().await.contains("They are well."));
        family.apply_lead(json!({ "models": [] })).await;
        let before = family.helper.stats().requests;
        let answer = family.answer().await;
        assert!(
            answer.contains("failed (permission_denied)"),
            "{mode}: {answer}"
        );
        assert_eq!(family.helper.stats().requests, before);
        family.apply_lead(json!({ "tools": [] })).await;
        family.calls(&[("pay", "a")]);
        assert!(family.answer().await.contains("there is no tool `pay`"));
        family
            .helper
            .follow(script(Reply::Text("Well.".to_owned())));
    }
}
