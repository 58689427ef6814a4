//! Formatting, clippy, licences and sources of dependencies.

use crate::{sh, wit};
use anyhow::Result;

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
    if sh::output("cargo", &["deny", "--version"]).is_none() {
        sh::run("cargo", ["install", "--locked", "--quiet", "cargo-deny"])?;
    }
    sh::run(
        "cargo",
        ["deny", "--offline", "check", "licenses", "bans", "sources"],
    )?;
    // The advisory database is fetched; where it cannot be reached, that is said and the rest still counts.
    if let Err(error) = sh::run("cargo", ["deny", "check", "advisories"]) {
        println!("SKIPPED advisories: {error:#} (the advisory database may be out of reach)");
    }
    Ok(())
}
