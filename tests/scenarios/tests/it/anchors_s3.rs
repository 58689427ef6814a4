//! Anchors in a bucket: what waits while it does not answer is put there once it does, and proves what was recorded.

use ambit_mock_s3::{BUCKET, KEY, Mood, S3};
use ambit_scenarios::{Ambit, binary, until};
use serde_json::{Value, json};
use std::{path::Path, process::Output};
use tokio::process::Command;

const SECRET: &str = "the secret of a scenario";

/// `ambit audit verify` against the bucket, by somebody with credentials of their own.
async fn verify(binary: &Path, data: &Path, s3: &S3, anchors: &str) -> Output {
    let mut command = Command::new(binary);
    command.args(["audit", "verify", "--format", "json", "--anchors", anchors]);
    command.arg("--data").arg(data).kill_on_drop(true);
    let whose = [
        ("AWS_ACCESS_KEY_ID", KEY),
        ("AWS_SECRET_ACCESS_KEY", "an auditor's"),
        ("AWS_REGION", "eu-central-1"),
        ("AWS_ENDPOINT_URL", &s3.endpoint()),
    ];
    command.envs(whose).output().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn anchors_wait_for_a_bucket_that_does_not_answer() {
    let Some(binary) = binary() else { return };
    let s3 = S3::start().await.unwrap();
    s3.be(Mood::Refuses(usize::MAX, 503, "SlowDown"));
    let configuration = format!(
        "[anchors]\ninterval_seconds = 1\n[anchors.s3]\nbucket = \"{BUCKET}\"\nprefix = \"acme\"\nendpoint = \"{}\"\n\
         access_key_id = {{ env = \"KEY_ID\" }}\nsecret_access_key = {{ env = \"KEY_SECRET\" }}\nobject_lock = \"compliance\"\nretain_days = 1\n",
        s3.endpoint()
    );
    let environment = [("KEY_ID", KEY), ("KEY_SECRET", SECRET)];
    let ambit = Ambit::serve_new(&binary, &configuration, &environment)
        .await
        .unwrap();
    let acme = ambit.new_tenant("acme").await.unwrap();
    let agent = json!({"name": "plain", "model": "extractive/extractive"});
    ambit.apply(&acme, &agent).await.unwrap();
    let body = json!({"model": "plain", "messages": [{"role": "user", "content": "Hello there."}]});
    let metric = async |name: &str| {
        let metrics = ambit.client.get(format!("{}/metrics", ambit.up.ops_url));
        let metrics = metrics.bearer_auth(&ambit.up.admin_key).send().await;
        let metrics = metrics.unwrap().text().await.unwrap();
        let line = metrics.lines().find_map(|line| line.strip_prefix(name));
        let value = line.unwrap_or_else(|| panic!("{name} in {metrics}"));
        value.trim().parse::<i64>().unwrap()
    };

    // Sessions go on, and their anchors wait.
    for waiting in 1..=3 {
        let answer = ambit.ask(&acme, &body).await.unwrap();
        assert!(answer.is_good(), "{}", answer.body);
        let more = async || metric("ambit_anchors_unpublished ").await >= waiting;
        until("anchors wait", more).await;
    }
    let late = async || metric("ambit_anchors_waiting_seconds ").await > 0;
    until("the wait is told", late).await;
    assert_eq!(metric("ambit_anchor_store_taken ").await, 0);
    assert!(s3.keys().is_empty());
    // Whoever reads the log finds what the store says, and no credentials.
    let log = || std::fs::read_to_string(ambit.data().join("log")).unwrap();
    let told = async || log().contains("the journal is not anchored");
    until("the log tells it", told).await;
    let log = log();
    let line = log
        .lines()
        .find(|line| line.contains("the journal is not anchored"));
    assert!(
        line.is_some_and(|line| line.contains("SlowDown")),
        "{line:?}"
    );
    assert!(!log.contains(SECRET));

    // All of it is put there, in order, once it answers; and holds.
    s3.be(Mood::Good);
    let none = async || metric("ambit_anchors_unpublished ").await == 0;
    until("the backlog is published", none).await;
    let keys = s3.keys();
    assert!(keys.len() >= 3, "{keys:?}");
    for (number, key) in (1..).zip(&keys) {
        assert_eq!(*key, format!("acme/{number:020}.anchor"));
        let headers = s3.object(key).unwrap().headers;
        assert_eq!(headers["x-amz-object-lock-mode"], "COMPLIANCE");
    }
    let verified = verify(&binary, ambit.data(), &s3, "s3://anchors/acme").await;
    let told = String::from_utf8_lossy(&verified.stderr);
    assert!(verified.status.success(), "{told}");
    let report: Value = serde_json::from_slice(&verified.stdout).unwrap();
    assert_eq!(report[0]["anchors_checked"], true);
    assert_eq!(report[0]["sessions"], 3);

    // Another one's bucket, one that lost a note, and one that is away prove nothing.
    let refused = async |anchors: &str, word: &str| {
        let refused = verify(&binary, ambit.data(), &s3, anchors).await;
        let told = String::from_utf8_lossy(&refused.stderr);
        assert!(!refused.status.success() && told.contains(word), "{told}");
    };
    refused("s3://anchors/elsewhere", "which ends at 0").await;
    refused("s3://A", "a bucket's name").await;
    refused("s3://other-bucket", "NoSuchBucket").await;
    let first = s3.object(&keys[0]).unwrap().body;
    let text = String::from_utf8(first.clone()).unwrap();
    s3.lay(&keys[0], text.replace("tenants 1", "tenants 2").as_bytes());
    refused("s3://anchors/acme", "s3://anchors/acme").await;
    s3.lay(&keys[0], &first);
    s3.be(Mood::Refuses(usize::MAX, 403, "AccessDenied"));
    refused("s3://anchors/acme", "AccessDenied").await;

    // Somebody else signs there: an alarm, and nothing of theirs is touched.
    s3.be(Mood::Good);
    let next = format!("acme/{:020}.anchor", keys.len() + 1);
    s3.lay(&next, b"of somebody else");
    assert!(ambit.ask(&acme, &body).await.unwrap().is_good());
    let taken = async || metric("ambit_anchor_store_taken ").await == 1;
    until("the alarm", taken).await;
    assert_eq!(s3.object(&next).unwrap().body, b"of somebody else");
}
