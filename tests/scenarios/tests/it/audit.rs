//! What was recorded is proven: by the running server's operator, by somebody who has a file and a public key, and against an anchor store that
//! remembers what a database has forgotten.

use ambit_scenarios::{Ambit, PATIENCE, Signal, binary};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use tokio::{process::Command, time::sleep};

struct Auditor {
    binary: PathBuf,
}

impl Auditor {
    /// Whether it succeeded, what it printed, what it told.
    async fn run(&self, arguments: &[&str]) -> (bool, String, String) {
        let output = Command::new(&self.binary)
            .arg("audit")
            .args(arguments)
            .kill_on_drop(true)
            .output()
            .await
            .unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (printed, told) = (text(&output.stdout), text(&output.stderr));
        (output.status.success(), printed, told)
    }

    async fn json(&self, arguments: &[&str]) -> Value {
        let (good, printed, told) = self.run(&[arguments, &["--format", "json"]].concat()).await;
        assert!(good, "{arguments:?}: {told}");
        serde_json::from_str(&printed).unwrap_or_else(|error| panic!("{error}: {printed}"))
    }

    async fn refused(&self, arguments: &[&str]) -> String {
        let (good, printed, told) = self.run(arguments).await;
        assert!(!good && printed.is_empty(), "{arguments:?}: {printed}");
        told
    }
}

async fn say(ambit: &Ambit) -> String {
    let body = json!({"model": "assistant", "messages": [{"role": "user", "content": "What is a grant?"}]});
    let answer = ambit.ask(ambit.tenant("acme"), &body).await.unwrap();
    assert!(answer.is_good(), "{}", answer.body);
    answer.session.unwrap()
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for file in std::fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        if file.file_type().unwrap().is_file() {
            std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_recorded_is_proven() {
    let Some(binary) = binary() else { return };
    let auditor = Auditor {
        binary: binary.clone(),
    };
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let mut ambit = Ambit::up_on(&binary, &data, None).await.unwrap();
    let session = say(&ambit).await;
    say(&ambit).await;
    let at = data.to_str().unwrap();
    let key = auditor.json(&["key", "--data", at]).await;
    let key = key.as_str().unwrap();

    // Everything, one tenant, one session; a tenant that has said nothing is not in the way.
    let all = auditor.json(&["verify", "--data", at, "--key", key]).await;
    assert_eq!(all[0]["tenant"], "acme");
    assert_eq!(all.as_array().unwrap().len(), 1);
    let facts = |report: &Value| {
        let of = |name: &str| report[name].clone();
        json!([
            of("sessions"),
            of("complete"),
            of("anchors_checked"),
            of("verified")
        ])
    };
    assert_eq!(facts(&all[0]), json!([2, true, true, true]));
    let of_one = [
        "verify",
        "--data",
        at,
        "--tenant",
        "acme",
        "--session",
        &session,
    ];
    assert_eq!(
        facts(&auditor.json(&of_one).await[0]),
        json!([1, false, true, true])
    );
    let (good, table, told) = auditor.run(&["verify", "--data", at]).await;
    assert!(good && table.contains("acme"), "{told}");
    let absent = [
        "verify",
        "--data",
        at,
        "--tenant",
        "acme",
        "--session",
        "ses_0190f5f0d2d57c8c8a4e0f2d8a3b1c2d",
    ];
    assert!(auditor.refused(&absent).await.contains("no such session"));
    let nothing = ["verify", "--data", at, "--tenant", "globex"];
    assert!(auditor.refused(&nothing).await.contains("no sessions yet"));

    // Anchors come by themselves, and metrics say how far they are.
    let metrics = ambit
        .client
        .get(format!("{}/metrics", ambit.up.ops_url))
        .send();
    let metrics = metrics.await.unwrap().text().await.unwrap();
    for line in ["ambit_anchors_unpublished 0", "ambit_anchor_store_taken 0"] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }

    // Offline: a file, the key, a copy of the anchors; no installation.
    let file = folder.path().join("acme.jsonl");
    let file = file.to_str().unwrap();
    let (good, _, told) = auditor
        .run(&["export", "--tenant", "acme", "--output", file, "--data", at])
        .await;
    assert!(good, "{told}");
    let anchors = folder.path().join("anchors-copy");
    copy(&data.join("anchors"), &anchors);
    let anchors = anchors.to_str().unwrap();
    let nowhere = folder.path().join("nowhere");
    let offline = [
        "verify",
        "--export",
        file,
        "--key",
        key,
        "--anchors",
        anchors,
        "--data",
        nowhere.to_str().unwrap(),
    ];
    assert_eq!(
        facts(&auditor.json(&offline).await[0]),
        json!([2, true, true, true])
    );
    let exported = std::fs::read_to_string(file).unwrap();
    assert!(!exported.contains("What is a grant"), "bodies are sealed");
    std::fs::write(
        file,
        exported.replacen("\"kind\":\"end\"", "\"kind\":\"enD\"", 1),
    )
    .unwrap();
    let told = auditor.refused(&offline).await;
    assert!(told.contains("is not what was recorded"), "{told}");
    std::fs::write(file, &exported).unwrap();
    let mut wrong = offline;
    wrong[4] = "ambit.example+00000000+AAAA";
    assert!(auditor.refused(&wrong).await.contains("public key"));
    let newest = std::fs::read_dir(anchors)
        .unwrap()
        .map(|file| file.unwrap().path())
        .max();
    let newest = newest.unwrap();
    let note = std::fs::read_to_string(&newest).unwrap();
    std::fs::write(&newest, note.replace("tenants 1", "tenants 2")).unwrap();
    assert!(auditor.refused(&offline).await.contains("signature"));
    std::fs::remove_file(&newest).unwrap();
    assert!(auditor.refused(&offline).await.contains("which ends at"));

    // A database that is put back to an older state does not get past the anchor store.
    ambit.signal(Signal::Terminate).await.unwrap();
    ambit.ended().await.unwrap();
    let older = folder.path().join("older");
    copy(&data, &older);
    let mut ambit = Ambit::up_on(&binary, &data, None).await.unwrap();
    say(&ambit).await;
    ambit.signal(Signal::Terminate).await.unwrap();
    ambit.ended().await.unwrap();
    assert_eq!(
        auditor.json(&["verify", "--data", at]).await[0]["sessions"],
        3
    );
    // What was exported before that verifies, and says that it is not the newest state.
    let mut before = offline;
    let kept = data.join("anchors");
    before[6] = kept.to_str().unwrap();
    let report = auditor.json(&before).await;
    assert_eq!(facts(&report[0]), json!([2, true, true, true]));
    let number = |name: &str| report[0][name].as_u64().unwrap();
    assert!(number("newest_anchor") > number("anchor"), "{report}");
    copy(&older, &data);
    for file in ["ambit.db-wal", "ambit.db-shm"] {
        if !older.join(file).exists() {
            let _ = std::fs::remove_file(data.join(file));
        }
    }
    let ambit = Ambit::up_on(&binary, &data, None).await.unwrap();
    for new in [false, true] {
        if new {
            say(&ambit).await;
        }
        let told = auditor.refused(&["verify", "--data", at]).await;
        assert!(told.contains("put back to an older state"), "{new}: {told}");
    }
    let begin = tokio::time::Instant::now();
    loop {
        let metrics = ambit
            .client
            .get(format!("{}/metrics", ambit.up.ops_url))
            .send();
        let metrics = metrics.await.unwrap().text().await.unwrap();
        if metrics.contains("ambit_anchor_store_taken 1") {
            break;
        }
        assert!(begin.elapsed() < PATIENCE, "{metrics}");
        sleep(std::time::Duration::from_millis(100)).await;
    }
}

/// An anchor store that is not there: sessions go on for as long as the operator says, and metrics say how far behind it is.
#[tokio::test(flavor = "multi_thread")]
async fn an_anchor_store_that_is_away_is_bounded_by_policy() {
    let Some(binary) = binary() else { return };
    let folder = tempfile::tempdir().unwrap();
    let blocked = folder.path().join("anchors");
    std::fs::write(&blocked, "not a folder").unwrap();
    let configuration = format!(
        "[anchors]\nfolder = {:?}\ninterval_seconds = 1\nstop_after_seconds = 3\n",
        blocked.to_str().unwrap()
    );
    let ambit = Ambit::serve_new(&binary, &configuration, &[])
        .await
        .unwrap();
    let acme = ambit.new_tenant("acme").await.unwrap();
    let agent = json!({"name": "plain", "model": "extractive/extractive"});
    ambit.apply(&acme, &agent).await.unwrap();
    let body = json!({"model": "plain", "messages": [{"role": "user", "content": "Hello there."}]});
    let waits = async || {
        let metrics = ambit.client.get(format!("{}/metrics", ambit.up.ops_url));
        let metrics = metrics
            .bearer_auth(&ambit.up.admin_key)
            .send()
            .await
            .unwrap();
        let metrics = metrics.text().await.unwrap();
        let line = metrics
            .lines()
            .find(|line| line.starts_with("ambit_anchors_unpublished "));
        line.is_some_and(|line| !line.ends_with(" 0"))
    };
    let begun = ambit.ask(&acme, &body).await.unwrap();
    assert!(begun.session.is_some(), "{}", begun.body);
    ambit_scenarios::until("anchors wait", waits).await;
    let refused = async || {
        let answer = ambit.ask(&acme, &body).await.unwrap();
        answer.status == 503 && answer.body.contains("cannot be proven")
    };
    ambit_scenarios::until("no session begins", refused).await;
    std::fs::remove_file(&blocked).unwrap();
    let good = async || ambit.ask(&acme, &body).await.unwrap().status != 503;
    ambit_scenarios::until("sessions begin again", good).await;
}
