//! What is admitted, and what is said when it is not.

use crate::support::{AGENT, TIGHT, admitted, guest, load, manifest, runtime, text};
use ambit_policy::{Grant, Permissions};
use ambit_runtime::{LoadError, MAX_COMPONENT, admit, inspect};

/// A component of a kind's export that imports these instances, empty ones.
fn importing(export: &str, imports: &[&str]) -> Vec<u8> {
    let imports: String = imports
        .iter()
        .map(|import| format!("(import \"{import}\" (instance))"))
        .collect();
    wat::parse_str(format!(
        "(component {imports} (instance $e) (export \"{export}\" (instance $e)))"
    ))
    .unwrap()
}

const EVERYTHING: [&str; 12] = [
    "wasi:cli/environment@0.2.6",
    "wasi:io/streams@0.2.12",
    "ambit:types/types@0.1.0",
    "wasi:http/types@0.2.6",
    "wasi:http/outgoing-handler@0.2.6",
    "wasi:http/handler@0.3.0",
    "wasi:filesystem/preopens@0.2.6",
    "wasi:sockets/tcp@0.2.6",
    "ambit:auth/keys@0.1.0",
    "ambit:retrieval/index@0.1.0",
    "wasi:keyvalue/store@0.2.0-draft2",
    "acme:backdoor/shell@1.0.0",
];

#[test]
fn everything_that_is_missing_is_said_at_once_in_the_manifests_words() {
    let runtime = runtime();
    let wasm = importing("ambit:tool/tool@0.1.0", &EVERYTHING);
    let code = load(
        &runtime,
        &wasm,
        manifest("tool", "[permissions]\ncollections = [\"read:handbook\"]\n"),
    );
    let error = admit(&code, &Permissions::default()).unwrap_err();
    let expected = "\
`test:guest` is not admitted:
- permissions.http: the component imports `wasi:http/types@0.2.6`, but its manifest does not ask for it; its author adds [[permissions.http]] origin = \"https://…\" methods = [\"GET\"]
- the component imports `wasi:http/handler@0.3.0`, which this host does not offer
- the component imports `wasi:filesystem/preopens@0.2.6`: no component is given files
- the component imports `wasi:sockets/tcp@0.2.6`: no component is given sockets; `wasi:http` can be granted
- the component imports `ambit:auth/keys@0.1.0`, which is only for components of kind `auth`
- the component imports `ambit:retrieval/index@0.1.0`, which is only for components of kind `retrieval`
- the component imports `wasi:keyvalue/store@0.2.0-draft2`, which this host does not offer
- the component imports `acme:backdoor/shell@1.0.0`, which this host does not offer
- permissions.collections: read:handbook: asked for by the author, not granted by the operator; grant it with permissions.collections = [\"read:…\"]";
    assert_eq!(error.to_string(), expected);
}

#[test]
fn pure_kinds_reach_nothing() {
    let runtime = runtime();
    for (kind, export) in [
        ("agent", "ambit:agent/agent@0.1.0"),
        ("guardrail", "ambit:guardrail/guardrail@0.1.0"),
        ("auth", "ambit:auth/authenticator@0.1.0"),
        ("routing", "ambit:routing/router@0.1.0"),
    ] {
        let code = load(
            &runtime,
            &importing(export, &["wasi:http/outgoing-handler@0.2.6"]),
            manifest(kind, ""),
        );
        let error = admit(&code, &Permissions::default()).unwrap_err();
        let expected = "- the component imports `wasi:http/outgoing-handler@0.2.6`, which is only for components of kind `tool`";
        assert!(error.to_string().ends_with(expected), "{kind}: {error}");
    }
}

const HTTP: &str =
    "[[permissions.http]]\norigin = \"https://api.example.com\"\nmethods = [\"GET\"]\n";

#[test]
fn a_grant_admits_and_an_optional_request_does_not_need_one() {
    let runtime = runtime();
    let wasm = importing(
        "ambit:tool/tool@0.1.0",
        &["wasi:http/types@0.2.6", "wasi:http/outgoing-handler@0.2.6"],
    );
    let grant = Permissions::parse(
        "[[http]]\norigin = \"https://*.example.com\"\nmethods = [\"GET\", \"POST\"]\n",
    )
    .unwrap();
    let asked = load(&runtime, &wasm, manifest("tool", HTTP));
    let admitted = admit(&asked, &grant).unwrap();
    assert!(admitted.imports("wasi:http/outgoing-handler"));
    let url = "https://api.example.com/".parse().unwrap();
    assert!(
        admitted.ambit().http("GET", &url).is_ok() && admitted.ambit().http("POST", &url).is_err()
    );
    assert_eq!(
        admit(&asked, &Permissions::default())
            .unwrap_err()
            .refusals
            .len(),
        1
    );

    let optional = load(
        &runtime,
        &wasm,
        manifest("tool", &format!("{HTTP}optional = true\n")),
    );
    let admitted = admit(&optional, &Permissions::default()).unwrap();
    assert!(
        admitted.ambit().http("GET", &url).is_err(),
        "admitted, and denied each value"
    );
    assert_ne!(
        admitted.policy(),
        admit(&optional, &grant).unwrap().policy(),
        "pools are apart"
    );
}

#[test]
fn configuration_takes_plain_values_or_secrets() {
    let runtime = runtime();
    let wasm = importing("ambit:tool/tool@0.1.0", &["wasi:config/store@0.2.0-rc.1"]);
    let refused = |asked: &str, granted: &str| {
        let code = load(&runtime, &wasm, manifest("tool", asked));
        match admit(&code, &Permissions::parse(granted).unwrap()) {
            Ok(_) => String::new(),
            Err(error) => error.to_string(),
        }
    };
    const SECRET: &str = r#"secrets = [{ name = "api-token", header = "authorization", origin = "https://a.test" }]"#;
    let asked = format!("[permissions]\nconfig = [\"region\"]\n{SECRET}\n");
    assert_eq!(
        refused("", ""),
        "\
`test:guest` is not admitted:
- permissions.config or permissions.secrets: the component imports `wasi:config/store@0.2.0-rc.1`, but its manifest does not ask for it; \
its author adds permissions.config = [\"…\"] or permissions.secrets = [{ name = \"…\", header = \"…\", origin = \"https://…\" }]"
    );
    assert_eq!(
        refused(&asked, ""),
        "\
`test:guest` is not admitted:
- permissions.config: region: asked for by the author, not granted by the operator; grant it with permissions.config = [\"…\"]
- permissions.secrets: `api-token` in header `authorization` to https://a.test: asked for by the author, not granted by the operator; \
grant it with permissions.secrets = [{ name = \"…\", header = \"…\", origin = \"https://…\" }]"
    );
    assert!(refused(&asked, "config = [\"*\"]").contains("api-token"));
    assert!(refused(&asked, SECRET).contains("region"));
    assert_eq!(refused(&asked, &format!("config = [\"*\"]\n{SECRET}")), "");
    // One of the two is enough, and an optional request needs no grant.
    assert_eq!(refused(&format!("[permissions]\n{SECRET}\n"), SECRET), "");
    let optional = "[permissions]\nconfig = [{ allow = \"region\", optional = true }]\n";
    assert_eq!(refused(optional, ""), "");
}

#[test]
fn inspection_says_what_a_grant_leaves() {
    let runtime = runtime();
    let wasm = importing(
        "ambit:tool/tool@0.1.0",
        &["wasi:http/outgoing-handler@0.2.6", "wasi:io/poll@0.2.6"],
    );
    let code = load(&runtime, &wasm, manifest("tool", HTTP));
    let grant = Grant::parse("[limits]\nmemory = \"16MiB\"\ncpu = \"1s\"").unwrap();
    let json = serde_json::to_value(inspect(&code, Some(&grant))).unwrap();
    assert_eq!(json["engine"], "effectful");
    assert_eq!(json["imports"][0]["takes"], "kind tool, permissions.http");
    assert_eq!(json["imports"][1]["takes"], "base");
    assert_eq!(json["exports"][0], "ambit:tool/tool@0.1.0");
    assert_eq!(json["granted"]["admitted"], false);
    assert_eq!(json["manifest"]["limits"]["memory"], "32MiB");
    let left = &json["granted"]["limits"];
    assert_eq!(
        (&left["memory"], &left["cpu"]),
        (&"16MiB".into(), &"50ms".into())
    );
    assert!(
        serde_json::to_value(inspect(&code, None))
            .unwrap()
            .get("granted")
            .is_none()
    );
}

#[test]
fn a_component_that_wants_everything_is_told_all_it_may_not_have() {
    let runtime = runtime();
    let code = load(&runtime, &guest("everything"), manifest("tool", HTTP));
    let refused = admit(&code, &Permissions::default())
        .unwrap_err()
        .to_string();
    for import in ["wasi:filesystem/", "wasi:sockets/", "permissions.http"] {
        assert!(refused.contains(import), "{import} in {refused}");
    }
}

#[test]
fn an_authors_limits_end_at_the_hosts_maximum() {
    let runtime = runtime();
    let wasm = importing("ambit:tool/tool@0.1.0", &[]);
    let asked = "[limits]\nresult = \"1024GiB\"\nconcurrency = 100000\n";
    let admitted = admitted(&runtime, &wasm, manifest("tool", asked));
    let most = ambit_policy::Limits::MOST;
    let limits = *admitted.limits();
    assert_eq!(
        (limits.result, limits.concurrency),
        (most.result, most.concurrency)
    );
    let operator = Grant::parse("[limits]\nresult = \"1GiB\"").unwrap();
    let limits = *admitted.granted(&operator.limits).limits();
    assert_eq!(
        (limits.result, limits.concurrency),
        (1 << 30, most.concurrency)
    );
}

#[test]
fn what_is_not_a_component_of_its_kind_is_not_loaded() {
    let runtime = runtime();
    let refused = |wasm: &[u8], kind: &str| {
        runtime
            .load_blocking(wasm, manifest(kind, TIGHT))
            .unwrap_err()
    };
    assert!(matches!(refused(b"", "agent"), LoadError::Invalid(_)));
    assert!(
        matches!(refused(b"(component)", "agent"), LoadError::Invalid(_)),
        "no text"
    );
    assert!(
        matches!(
            refused(&wat::parse_str("(module)").unwrap(), "agent"),
            LoadError::Invalid(_)
        ),
        "no core module"
    );
    let whole = text(
        AGENT,
        r#"(memory (export "memory") 1) (func (export "run") (param i64) (result i64) local.get 0)"#,
    );
    for cut in [8, 20, whole.len() / 2, whole.len() - 1] {
        assert!(
            matches!(
                refused(&whole[..cut], "agent"),
                LoadError::Invalid(_) | LoadError::WrongKind { .. }
            ),
            "cut at {cut}"
        );
    }
    let wrong = refused(&whole, "guardrail");
    assert_eq!(
        wrong.to_string(),
        "`test:guest` says it is of kind `guardrail`, but does not export `ambit:guardrail/guardrail@0.1.0`; it exports `ambit:agent/agent@0.1.0`"
    );
    assert!(matches!(
        refused(&vec![0; MAX_COMPONENT + 1], "agent"),
        LoadError::TooLong(_)
    ));
}

#[test]
fn one_component_is_compiled_once_and_kept() {
    use ambit_runtime::{Runtime, RuntimeConfig};
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().join("code");
    let config = RuntimeConfig {
        cache: Some(cache.clone()),
        ..RuntimeConfig::default()
    };
    let wasm = text(
        AGENT,
        r#"(memory (export "memory") 1) (func (export "run") (param i64) (result i64) local.get 0)"#,
    );
    let files = || {
        std::fs::read_dir(&cache)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect::<Vec<_>>()
    };
    let first = Runtime::new(config.clone()).unwrap();
    let code = load(&first, &wasm, manifest("agent", ""));
    assert_eq!(files().len(), 1);
    let made = std::fs::metadata(&files()[0]).unwrap().modified().unwrap();
    // Another process would find it there.
    let second = Runtime::new(config).unwrap();
    let again = load(&second, &wasm, manifest("agent", ""));
    assert_eq!(code.digest(), again.digest());
    assert_eq!(
        std::fs::metadata(&files()[0]).unwrap().modified().unwrap(),
        made
    );
    // Damage is repaired by compiling.
    std::fs::write(&files()[0], b"damaged").unwrap();
    drop(again);
    let third = load(&second, &wasm, manifest("agent", ""));
    assert_eq!(third.digest(), code.digest());
    assert!(std::fs::metadata(&files()[0]).unwrap().len() > 1_000);
}
