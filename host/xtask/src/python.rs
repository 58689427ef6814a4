//! A virtual environment: Python clients that drive the server in tests, and developers' tools that PyPI has built.

use crate::sh;
use anyhow::{Context as _, Result};
use std::path::PathBuf;

/// The environment's interpreter, with these packages; made once and kept beside what cargo builds.
pub(crate) fn environment(packages: &[&str]) -> Result<PathBuf> {
    let python = program("python");
    if !python.is_file() {
        sh::run("python3", ["-m", "venv", &folder().to_string_lossy()])
            .context("Python 3 with venv is needed: install python3 and python3-venv")?;
    }
    let interpreter = python.to_string_lossy().into_owned();
    let missing: Vec<&str> = packages
        .iter()
        .copied()
        .filter(|package| sh::output(&interpreter, &["-c", &format!("import {package}")]).is_none())
        .collect();
    if !missing.is_empty() {
        install(&interpreter, &missing)?;
    }
    Ok(python)
}

/// Where a program lies that a package puts into the environment.
pub(crate) fn program(name: &str) -> PathBuf {
    folder().join("bin").join(name)
}

/// Installs packages, each a name with or without a version.
pub(crate) fn install(python: &str, packages: &[&str]) -> Result<()> {
    let pip = [
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
    ];
    sh::run(python, pip.iter().chain(packages))
}

fn folder() -> PathBuf {
    sh::target_folder().join("python")
}
