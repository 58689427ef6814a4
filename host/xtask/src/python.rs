//! A virtual environment for the tests that drive the server with real Python clients.

use crate::sh;
use anyhow::{Context as _, Result};
use std::path::PathBuf;

/// The environment's interpreter, with these packages; made once and kept beside what cargo builds.
pub(crate) fn environment(packages: &[&str]) -> Result<PathBuf> {
    let folder = sh::target_folder().join("python");
    let python = folder.join("bin/python");
    if !python.is_file() {
        sh::run("python3", ["-m", "venv", &folder.to_string_lossy()])
            .context("Python 3 with venv is needed: install python3 and python3-venv")?;
    }
    let program = python.to_string_lossy().into_owned();
    let missing: Vec<&str> = packages
        .iter()
        .copied()
        .filter(|package| sh::output(&program, &["-c", &format!("import {package}")]).is_none())
        .collect();
    if !missing.is_empty() {
        sh::run(
            &program,
            [
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
            ]
            .iter()
            .chain(&missing),
        )?;
    }
    Ok(python)
}
