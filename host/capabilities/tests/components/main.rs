//! Every component of the project through the host's own handles: the real wasm, snapshotted as the build does it.
#![expect(
    clippy::disallowed_methods,
    reason = "tests read where components lie, and their tasks end with them"
)]

mod agent_assistant;
mod auth_api_key;
mod auth_jwt;
mod guardrail_baseline;
mod hostile_http;
mod hostile_keys;
mod hostile_secrets;
mod retrieval_hybrid;
mod routing_subdomain;
mod server;
mod support;
mod tool_datetime;
mod tool_web_fetch;

/// Every folder of `components/` has tests of its name among those of this program: a new component cannot do without.
#[test]
fn every_component_has_tests_of_its_name() {
    let program = std::env::current_exe().unwrap();
    let listed = std::process::Command::new(program)
        .args(["--list", "--format", "terse"])
        .output()
        .unwrap();
    let tests = String::from_utf8(listed.stdout).unwrap();
    let components = concat!(env!("CARGO_MANIFEST_DIR"), "/../../components");
    let folders = std::fs::read_dir(components)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|folder| folder.join("component.toml").is_file());
    let mut without = folders
        .map(|folder| folder.file_name().unwrap().to_str().unwrap().to_owned())
        .collect::<Vec<_>>();
    assert!(without.len() >= 8, "the components are where they were");
    without.retain(|name| {
        let module = format!("{}::", name.replace('-', "_"));
        !tests.lines().any(|test| test.starts_with(&module))
    });
    assert!(without.is_empty(), "no host test for {without:?}");
}
