//! From the command line, and over a restart.

use super::Desk;
use crate::sessions::post;
use ambit_scenarios::{Ambit, Signal, binary};
use reqwest::Method;
use serde_json::{Value, json};
use std::time::Duration;
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
