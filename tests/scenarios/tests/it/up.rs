//! What `ambit up` promises whoever types it: lines that work as they are printed, any address, and nothing of theirs undone.

use ambit_mock_provider::{Mock, Reply, Script};
use ambit_scenarios::{Ambit, Signal, binary};
use reqwest::{Method, header::HOST};
use serde_json::json;
use std::{path::Path, process::Output};
use tokio::process::Command;

/// As pasted into a terminal that stands elsewhere and has no `ambit` in PATH.
async fn pasted(line: &str, elsewhere: &Path) -> Output {
    let run = Command::new("sh")
        .args(["-c", line])
        .current_dir(elsewhere)
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .output();
    run.await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_printed_lines_work_as_they_are_printed() {
    let Some(binary) = binary() else { return };
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("it's here");
    let (ambit, said) = Ambit::up_in_words(&binary, &data).await.unwrap();
    assert_eq!(said[0], format!("Ambit is ready at {}.", ambit.up.url));
    let line = |part: &str| -> &str {
        let mut lines = said.iter().filter(|line| line.contains(part));
        let line = lines.next().unwrap_or_else(|| panic!("{part} in {said:?}"));
        line.trim()
    };
    assert!(line("admin key").ends_with(&ambit.up.admin_key));
    for tenant in &ambit.up.tenants {
        assert!(line(&format!("{}.localhost", tenant.slug)).ends_with(&tenant.api_key));
    }
    let told = pasted(line(" chat --data "), folder.path()).await;
    let answer = String::from_utf8(told.stdout).unwrap();
    assert!(
        told.status.success() && answer.contains("narrow"),
        "{answer} {}",
        String::from_utf8_lossy(&told.stderr)
    );
    let curl = line("curl http://");
    if !pasted("curl --version", folder.path())
        .await
        .status
        .success()
    {
        ambit_skips::skipped("the printed curl line: there is no curl");
        return;
    }
    let told = pasted(curl, folder.path()).await;
    let answer = String::from_utf8(told.stdout).unwrap();
    assert!(
        told.status.success() && answer.ends_with("data: [DONE]\n\n"),
        "{answer} {}",
        String::from_utf8_lossy(&told.stderr)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn on_every_address_the_operators_routes_stay_apart() {
    let Some(binary) = binary() else { return };
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let ambit = Ambit::up_with(&binary, &data, "0.0.0.0:0", &[])
        .await
        .unwrap();
    for url in [&ambit.up.url, &ambit.up.ops_url] {
        assert!(url.starts_with("http://127.0.0.1:"), "{url}");
    }
    assert_ne!(ambit.up.url, ambit.up.ops_url);
    let acme = ambit.tenant("acme");
    let question = json!({"model": "assistant", "messages": [{"role": "user", "content": "How are permissions narrowed?"}]});
    assert!(ambit.ask(acme, &question).await.unwrap().is_good());
    let status = async |base: &str, path: &str, host: Option<&str>| {
        let mut request = ambit.client.get(format!("{base}{path}"));
        if let Some(host) = host {
            request = request.header(HOST, host);
        }
        let answer = request.bearer_auth(&ambit.up.admin_key).send().await;
        answer.unwrap().status().as_u16()
    };
    for path in ["/metrics", "/healthz", "/admin/v1/tenants"] {
        assert_eq!(status(&ambit.up.ops_url, path, None).await, 200, "{path}");
        for host in [None, Some("localhost"), Some(acme.host.as_str())] {
            assert_eq!(status(&ambit.up.url, path, host).await, 404, "{path}");
        }
    }
    assert!(ambit.get("/tenants").await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_changed_stays_changed() {
    let Some(binary) = binary() else { return };
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let script = Script::models([
        ("mock-1", Reply::Text("Fine.".into())),
        ("mock-2", Reply::Text("Fine.".into())),
    ]);
    let mock = Mock::start(script).await.unwrap();
    let agent = async |ambit: &Ambit, tenant: &str| {
        let path = format!("/tenants/{tenant}/agents/assistant");
        ambit.get(&path).await.unwrap()["definition"].take()
    };
    let end = async |mut ambit: Ambit| {
        ambit.signal(Signal::Terminate).await.unwrap();
        assert!(ambit.ended().await.unwrap().success());
    };
    let grant = "/grants/ambit:pass-through";

    // Without a word of the operator's, the demo follows the options: another provider, the first of its models.
    let ambit = Ambit::up_on(&binary, &data, None).await.unwrap();
    assert_eq!(agent(&ambit, "acme").await["model"], "extractive/sentences");
    end(ambit).await;
    let ambit = Ambit::up_on(&binary, &data, Some(&mock.url()))
        .await
        .unwrap();
    assert_eq!(agent(&ambit, "acme").await["model"], "openai/mock-1");
    assert_eq!(
        ambit.get(grant).await.unwrap()["permissions"]["models"],
        json!(["openai/*"])
    );

    let mut changed = agent(&ambit, "acme").await;
    changed["instructions"] = "Answer in rhymes.".into();
    ambit.apply(ambit.tenant("acme"), &changed).await.unwrap();
    let narrowed = json!({"models": ["openai/mock-1"]});
    ambit.put(grant, &narrowed).await.unwrap();
    end(ambit).await;

    let options = ["--provider-url", &mock.url(), "--model", "mock-2"];
    let ambit = Ambit::up_with(&binary, &data, "127.0.0.1:0", &options)
        .await
        .unwrap();
    assert_eq!(agent(&ambit, "acme").await, changed);
    assert_eq!(agent(&ambit, "globex").await["model"], "openai/mock-2");
    assert_eq!(
        ambit.get(grant).await.unwrap()["permissions"]["models"],
        narrowed["models"]
    );

    // Taken back, it is not given again.
    ambit.admin(Method::DELETE, grant, "").await.unwrap();
    end(ambit).await;
    let ambit = Ambit::up_on(&binary, &data, Some(&mock.url()))
        .await
        .unwrap();
    assert!(ambit.get(grant).await.is_err());
    assert_eq!(agent(&ambit, "acme").await, changed);
}
