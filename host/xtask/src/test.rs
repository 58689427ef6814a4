//! Running the tests, and saying what was skipped.

use crate::{build, python, sh};
use anyhow::Result;
use std::path::Path;

pub(crate) fn all(filter: Option<&str>) -> Result<()> {
    postgres();
    build::all()?;
    let mut arguments = vec![
        "test",
        "--release",
        "--workspace",
        "--all-targets",
        "--no-fail-fast",
    ];
    arguments.extend(filter);
    sh::run("cargo", arguments)?;
    sh::run(
        "cargo",
        [
            "test",
            "--release",
            "--workspace",
            "--doc",
            "--no-fail-fast",
        ],
    )?;
    clients()?;
    if !sh::root().join("../shared/data").is_dir() {
        println!("SKIPPED quality floors on labelled data: no folder ../shared/data");
    }
    Ok(())
}

/// Store tests need a PostgreSQL server's programs. They come from PATH or Debian's place, else from Debian's package.
fn postgres() {
    let found =
        sh::output("initdb", &["--version"]).is_some() || Path::new("/usr/lib/postgresql").is_dir();
    if found {
        return;
    }
    let installed = sh::run(
        "apt-get",
        [
            "install",
            "-y",
            "-q",
            "--no-install-recommends",
            "postgresql",
        ],
    );
    if installed.is_err() {
        println!(
            "SKIPPED tests on PostgreSQL: install `initdb` and `postgres` (Debian: postgresql)"
        );
    }
}

/// Unmodified clients against the real binary.
fn clients() -> Result<()> {
    let folder = sh::root().join("tests/clients");
    if !folder.is_dir() {
        return Ok(());
    }
    let python = python::environment(&["openai"])?;
    let binary = sh::target().join("ambit").to_string_lossy().into_owned();
    let mock = sh::target()
        .join("ambit-mock-provider")
        .to_string_lossy()
        .into_owned();
    sh::with(
        &python.to_string_lossy(),
        ["tests/clients/run.py"],
        &[("AMBIT", binary), ("AMBIT_MOCK_PROVIDER", mock)],
    )
}
