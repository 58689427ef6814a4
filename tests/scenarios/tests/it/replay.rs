//! A session is gone through again: its agent decides the same, and with another model nothing outside is touched.

use crate::crash::World;
use ambit_mock_provider::{Reply, Script};
use ambit_scenarios::{Ambit, NewComponent, guest};
use serde_json::{Value, json};
use std::process::Output;

async fn replay(world: &World, ambit: &Ambit, id: &str, rest: &[&str]) -> (Output, Value) {
    let arguments = [
        "session", "replay", id, "--tenant", "acme", "--format", "json",
    ];
    let arguments = [&arguments[..], rest].concat();
    let output = Ambit::command(&world.binary, ambit.data(), arguments)
        .await
        .unwrap();
    let told = serde_json::from_slice(&output.stdout).unwrap_or_default();
    (output, told)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_gone_through_again() {
    let Some(world) = World::new().await else {
        return;
    };
    let folder = world.copy();
    let mut ambit = world.serve(folder.path(), &[]).await;
    let id = world.open(&ambit, "once").await.unwrap();
    world.answered(&mut ambit, &id).await.unwrap();
    let path = format!("/sessions/{id}/messages");
    let more = json!({ "input": "And again." });
    let said = ambit.post(&world.tenant, &path, &more).await.unwrap();
    assert_eq!(said.status(), 202);
    world.answered(&mut ambit, &id).await.unwrap();
    let effects = world.outside.of(&id);
    let asked = world.mock.stats().requests;

    // Every move of both turns; nobody is asked anything.
    let (output, told) = replay(&world, &ambit, &id, &[]).await;
    let steps = told["steps"].as_u64().unwrap();
    assert!(output.status.success() && steps >= 8, "{output:?}");
    assert_eq!(told["differences"], json!([]));
    assert_eq!(told["component"][0], told["component"][1]);
    assert_eq!(world.mock.stats().requests, asked);

    // Another model says something else; tools answer from the journal, under a session of its own.
    let (output, told) = replay(&world, &ambit, &id, &["--model", "paid/mock-1"]).await;
    assert!(output.status.success(), "{output:?}");
    let replies = told["replies"].as_array().unwrap();
    assert!(
        !replies.is_empty() && replies.iter().all(|one| one["same"] == true),
        "{told}"
    );
    let quiet = Reply::Text("There is nothing to pay.".into());
    world.mock.follow(Script::models([("mock-2", quiet)]));
    let (output, told) = replay(&world, &ambit, &id, &["--model", "paid/mock-2"]).await;
    assert!(output.status.success(), "{output:?}");
    let first = &told["replies"][0];
    assert_eq!(first["same"], false);
    assert_eq!(first["tried"]["text"], "There is nothing to pay.");
    assert!(
        first["recorded"]["tool_calls"][0]["name"] == "pay",
        "{first}"
    );
    assert_eq!(world.outside.of(&id), effects, "nothing is paid again");
    let trial = told["session"].as_str().unwrap();
    let (state, ..) = ambit.session(&world.tenant, trial).await.unwrap();
    let events = ambit.events(&world.tenant, trial).await.unwrap();
    assert_eq!(state, "finished");
    assert_eq!(events[0]["header"]["facts"]["replay_of"], json!(id));
    // Other instructions, told to the model.
    replay(
        &world,
        &ambit,
        &id,
        &["--prompt", "Say as little as you can."],
    )
    .await;
    let body = world.mock.stats().bodies.pop().unwrap();
    assert!(String::from_utf8_lossy(&body).contains("Say as little as you can."));
    // Not what the agent may not ask.
    let (output, _) = replay(&world, &ambit, &id, &["--model", "paid/mock-3"]).await;
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && told.contains("may not ask"),
        "{told}"
    );

    // An agent that decides otherwise is found out.
    let tables = "";
    let other =
        NewComponent::new("hostile:benign", "agent", guest("benign").unwrap()).tables(tables);
    ambit.install(&other).await.unwrap();
    ambit
        .put("/grants/hostile:benign", &json!({ "models": ["paid/*"] }))
        .await
        .unwrap();
    ambit
        .put(
            "/slots/agent/hostile:benign",
            &json!({ "component": "hostile:benign" }),
        )
        .await
        .unwrap();
    let agent = json!({ "name": "payer", "component": "hostile:benign", "model": "paid/mock-1", "tools": ["hostile:poster"] });
    ambit.apply(&world.tenant, &agent).await.unwrap();
    let (output, told) = replay(&world, &ambit, &id, &[]).await;
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(told["differences"].as_array().unwrap().len() as u64, steps);
    assert_ne!(told["component"][0], told["component"][1]);
}
