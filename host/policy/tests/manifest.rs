//! What authors write, right and wrong.

use ambit_policy::{Kind, Limits, Manifest, Permissions, Problem, Reuse};
use std::{fs, path::Path, time::Duration};

const FULL: &str = r#"
[component]
name = "acme:everything"
version = "0.1.0-rc.1+build.5"
kind = "tool"
reuse = "warm-serial"
description = "Uses every key."

[[permissions.http]]
origin = "https://*.wikipedia.org"
methods = ["GET", "HEAD"]
path = "/w/"

[[permissions.http]]
origin = "http://127.0.0.1:*"
methods = ["GET"]
optional = true

[permissions]
models = ["openai/*", { allow = "local/tiny", optional = true }]
collections = ["read:handbook", "write:notes-*"]
keyvalue = ["cache/*"]
config = ["units"]
secrets = [{ name = "api-token", header = "Authorization", origin = "https://api.example.com" }]

[limits]
memory = "64MiB"
cpu = "20ms"
deadline = "2s"
concurrency = 2
"#;

#[test]
fn a_full_manifest_is_read_and_written_back() {
    let manifest = Manifest::parse(FULL).unwrap();
    assert_eq!(manifest.component.kind, Kind::Tool);
    assert_eq!(manifest.component.reuse, Reuse::WarmSerial);
    assert_eq!(
        manifest.limits,
        Limits {
            memory: 64 << 20,
            cpu: Duration::from_millis(20),
            deadline: Duration::from_secs(2),
            concurrency: 2,
            ..Limits::default()
        }
    );
    let json = serde_json::to_string(&manifest).unwrap();
    assert_eq!(serde_json::from_str::<Manifest>(&json).unwrap(), manifest);
    let permissions = serde_json::to_string(&manifest.permissions).unwrap();
    assert_eq!(
        permissions,
        r#"{"http":[{"origin":"https://*.wikipedia.org","methods":["GET","HEAD"],"path":"/w"},"#
            .to_owned()
            + r#"{"origin":"http://127.0.0.1:*","methods":["GET"],"optional":true}],"#
            + r#""models":["openai/*",{"allow":"local/tiny","optional":true}],"collections":["read:handbook","write:notes-*"],"#
            + r#""keyvalue":["cache/*"],"config":["units"],"#
            + r#""secrets":[{"name":"api-token","header":"authorization","origin":"https://api.example.com"}]}"#
    );
    let toml = toml::to_string(&manifest.permissions).unwrap();
    assert_eq!(Permissions::parse(&toml).unwrap(), manifest.permissions);
}

#[test]
fn a_spin_manifest_holds_the_same_table() {
    let nested = FULL.replace("[component]", "[component.fetch.tool.ambit.component]");
    let nested = nested
        .replace(
            "[[permissions.http]]",
            "[[component.fetch.tool.ambit.permissions.http]]",
        )
        .replace("[permissions]", "[component.fetch.tool.ambit.permissions]")
        .replace("[limits]", "[component.fetch.tool.ambit.limits]");
    let spin =
        format!("spin_manifest_version = 2\n[component.fetch]\nsource = \"fetch.wasm\"\n{nested}");
    let read = |spin: &str, file| Manifest::from_spin(spin, file);
    let text = read(&spin, "fetch.wasm").unwrap();
    assert_eq!(
        Manifest::parse(&text).unwrap(),
        Manifest::parse(FULL).unwrap()
    );
    assert_eq!(
        read(&spin, "renamed.wasm").unwrap(),
        text,
        "it is the only one"
    );
    let two = spin.replace(
        "[component.fetch]",
        "[component.other.tool.ambit]\n[component.fetch]",
    );
    assert_eq!(read(&two, "fetch.wasm").unwrap(), text);
    for (spin, file) in [
        (&*two, "renamed.wasm"),
        ("spin_manifest_version = 2", "fetch.wasm"),
        ("component = 5", "x"),
    ] {
        let problems = show(&read(spin, file).unwrap_err());
        assert!(
            problems.starts_with(
                "component.<id>.tool.ambit: missing, expected one table as in component.toml"
            ),
            "{problems}"
        );
    }
    let broken = spin.replace("kind = \"tool\"", "kind = \"tools\"");
    assert!(
        show(&read(&broken, "fetch.wasm").unwrap_err())
            .starts_with("component.fetch.tool.ambit.component.kind: found `tools`")
    );
}

#[test]
fn every_mistake_is_reported_at_once() {
    let problems = Manifest::parse(
        r#"
        nickname = "x"
        [component]
        name = "no-namespace"
        version = "1.0"
        knid = "tool"
        [permissions]
        models = ["gpt-4o", 7]
        collections = "read:handbook"
        secrets = [{ name = "token", header = "host", origin = "http://api.example.com" }]
        [[permissions.http]]
        origin = "https://a.example/v1"
        methods = []
        [[permissions.http]]
        origin = "https://b.example"
        methods = ["get"]
        path = "/v1/../admin"
        optional = "yes"
        [limits]
        memory = "32MB"
        cpu = 50
        concurrency = 0
        memroy = "1MiB"
        "#,
    )
    .unwrap_err();
    let shown = show(&problems);
    for expected in [
        "component.name: found `no-namespace`, expected",
        "component.version: found `1.0`, expected a semantic version",
        "component.kind: missing, expected",
        "component.knid: found `tool`, expected no such key; known here: name, version, kind",
        "permissions.models[0]: found `gpt-4o`, expected `provider/model`",
        "permissions.models[1]: found `7`, expected",
        "permissions.collections: found `read:handbook`, expected a list",
        "permissions.secrets[0].header: found `host`, expected",
        "permissions.secrets[0].origin: found `http://api.example.com`, expected an https origin",
        "permissions.http[0].origin: found `https://a.example/v1`, expected",
        "permissions.http[0].methods: missing, expected",
        "permissions.http[1].methods[0]: found `get`, expected an upper-case HTTP method",
        "permissions.http[1].path: found `/v1/../admin`, expected",
        "permissions.http[1].optional: found `yes`, expected `true` or `false`",
        "limits.memory: found `32MB`, expected a size",
        "limits.cpu: found `50`, expected a time",
        "limits.concurrency: found `0`, expected a whole number",
        "limits.memroy: found `1MiB`, expected no such key",
        "nickname: found `x`, expected no such key; known here: component, permissions, limits",
    ] {
        assert!(
            shown.lines().any(|line| line.starts_with(expected)),
            "no `{expected}` in:\n{shown}"
        );
    }
    assert_eq!(problems.len(), 19, "{shown}");
}

#[test]
fn hostile_texts_are_refused_without_harm() {
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    for (text, expected) in [
        ("", "component.name: missing"),
        ("component = 5", "component: found `5`, expected a table"),
        (
            "[component]\nname = \"a:b\"\nname = \"a:c\"",
            "found a mistake in line 3",
        ),
        ("\u{0}", "found a mistake in line 1"),
        (
            &*format!("permissions = {{ models = {deep} }}"),
            "found a mistake",
        ),
    ] {
        let shown = show(&Manifest::parse(text).unwrap_err());
        assert!(shown.contains(expected), "{shown}");
        assert!(shown.len() < 2000);
    }
}

#[test]
fn a_kind_asks_for_what_it_can_use() {
    for (kind, class, allowed) in [
        ("tool", "models = [\"*\"]", true),
        ("agent", "models = [\"*\"]", true),
        ("agent", "config = [\"x\"]", false),
        ("guardrail", "collections = [\"read:a\"]", false),
        ("auth", "keyvalue = [\"x\"]", false),
        ("retrieval", "collections = [\"read:*\"]", true),
    ] {
        let text = format!(
            "[component]\nname = \"a:b\"\nversion = \"0.1.0\"\nkind = \"{kind}\"\n[permissions]\n{class}"
        );
        assert_eq!(Manifest::parse(&text).is_ok(), allowed, "{kind} {class}");
    }
}

#[test]
fn the_manifests_of_our_own_components_are_valid() {
    let components = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../components");
    let mut seen = 0;
    for entry in fs::read_dir(components).unwrap() {
        let folder = entry.unwrap().path();
        let Ok(text) = fs::read_to_string(folder.join("component.toml")) else {
            continue;
        };
        let manifest = Manifest::parse(&text)
            .unwrap_or_else(|problems| panic!("{}:\n{}", folder.display(), show(&problems)));
        let name = folder.file_name().unwrap().to_str().unwrap().to_owned();
        assert!(
            name.ends_with(manifest.component.name.split(':').nth(1).unwrap()),
            "{name}: {}",
            manifest.component.name
        );
        seen += 1;
    }
    assert!(seen > 0);
}

fn show(problems: &[Problem]) -> String {
    problems
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("\n")
}
