//! `component inspect` and `component check`: a file is laid open before anything is installed.

use ambit_scenarios::{NewComponent, binary, guest};
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn a_component_is_looked_into_without_an_installation() {
    let Some(binary) = binary() else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let tables = "[permissions]\nkeyvalue = [\"notes\"]\n[[permissions.http]]\norigin = \"https://docs.example.com\"\nmethods = [\"GET\"]\n";
    let component =
        NewComponent::new("test:keys", "tool", guest("key_keeper").unwrap()).tables(tables);
    std::fs::write(path("tool.wasm"), component.wasm()).unwrap();
    std::fs::write(path("tool.toml"), component.manifest()).unwrap();
    std::fs::write(path("none.toml"), "").unwrap();
    std::fs::write(
        path("all.toml"),
        tables
            .replace("[permissions]\n", "")
            .replace("permissions.", ""),
    )
    .unwrap();
    let run = async |verb: &str, grant: &str| {
        let mut command = tokio::process::Command::new(&binary);
        command.args([
            "component",
            verb,
            &path("tool.wasm"),
            "--grant",
            &path(grant),
        ]);
        let output = command.args(["--format", "json"]).output().await.unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        let answer: Value = serde_json::from_slice(&output.stdout).expect(&told);
        (output.status.success(), answer)
    };
    let (good, seen) = run("inspect", "none.toml").await;
    assert!(
        good && seen["imports"].to_string().contains("wasi:keyvalue"),
        "{seen}"
    );
    assert!(seen["exports"].to_string().contains("ambit:tool"), "{seen}");
    assert!(seen.to_string().contains("docs.example.com"), "{seen}");
    let (good, checked) = run("check", "none.toml").await;
    assert_eq!((good, &checked["admitted"]), (false, &json!(false)));
    assert!(
        checked["missing"].to_string().contains("keyvalue"),
        "{checked}"
    );
    let (good, checked) = run("check", "all.toml").await;
    assert_eq!((good, &checked["missing"]), (true, &json!([])), "{checked}");

    // The same manifest in a file of Spin's.
    let own = "component.keys.tool.ambit";
    let nested = component
        .manifest()
        .lines()
        .fold(String::new(), |spin, line| {
            let line = match line.strip_prefix("[[") {
                Some(table) => format!("[[{own}.{table}"),
                None => line
                    .strip_prefix('[')
                    .map_or(line.to_owned(), |table| format!("[{own}.{table}")),
            };
            spin + &line + "\n"
        });
    let spin =
        format!("spin_manifest_version = 2\n[component.keys]\nsource = \"tool.wasm\"\n{nested}");
    std::fs::write(path("spin.toml"), spin).unwrap();
    let mut command = tokio::process::Command::new(&binary);
    command.args([
        "component",
        "check",
        &path("tool.wasm"),
        "--manifest",
        &path("spin.toml"),
    ]);
    let output = command
        .args(["--grant", &path("all.toml")])
        .output()
        .await
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
