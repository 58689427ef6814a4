//! Running the tests, and saying what was skipped.

use crate::{build, postgres, python, sh};
use anyhow::{Context as _, Result, bail};
use std::{collections::BTreeSet, fs, path::Path};

/// Every stage runs, whatever became of those before it; what was left out is told last, where it is read.
pub(crate) fn all(filter: Option<&str>) -> Result<()> {
    let skips = sh::target_folder().join("skips.txt");
    fs::create_dir_all(sh::target_folder())?;
    fs::write(&skips, "").with_context(|| format!("cannot write {}", skips.display()))?;
    let mut environment = vec![("AMBIT_SKIPS", skips.to_string_lossy().into_owned())];
    let mut left_out = BTreeSet::new();
    match postgres::programs() {
        Ok(folder) => {
            // A server that is there and does not start is a failure, not a skip.
            environment.push(("AMBIT_REQUIRE_POSTGRES", "1".to_owned()));
            environment.push(("PATH", postgres::path_with(&folder)?));
        }
        Err(error) => {
            left_out.insert(format!("SKIPPED tests on PostgreSQL: {error:#}"));
        }
    }
    build::all()?;
    let targets = build::TARGETS.into_iter().chain(["--no-fail-fast"]);
    let stages = [
        cargo(targets.chain(filter), &environment),
        cargo(["--doc", "--no-fail-fast"], &environment),
        clients(&environment[..1]),
    ];
    left_out.extend(read(&skips)?);
    for line in &left_out {
        println!("{line}");
    }
    println!("skipped: {}", left_out.len());
    let failed: Vec<_> = stages
        .into_iter()
        .filter_map(|stage| Some(format!("{:#}", stage.err()?)))
        .collect();
    if !failed.is_empty() {
        bail!("{}", failed.join("\n"));
    }
    Ok(())
}

fn cargo<'a>(
    arguments: impl IntoIterator<Item = &'a str>,
    environment: &[(&str, String)],
) -> Result<()> {
    let all = ["test", "--release", "--workspace"]
        .into_iter()
        .chain(arguments);
    sh::with("cargo", all, environment)
}

/// Unmodified clients against the real binary.
fn clients(environment: &[(&str, String)]) -> Result<()> {
    let python = python::environment(&["openai"])?;
    let binary = sh::target().join("ambit").to_string_lossy().into_owned();
    let mock = sh::target()
        .join("ambit-mock-provider")
        .to_string_lossy()
        .into_owned();
    let mut environment = environment.to_vec();
    environment.extend([("AMBIT", binary), ("AMBIT_MOCK_PROVIDER", mock)]);
    sh::with(
        &python.to_string_lossy(),
        ["tests/clients/run.py"],
        &environment,
    )
}

/// Each line once: many processes may lack the same.
fn read(skips: &Path) -> Result<BTreeSet<String>> {
    let text = fs::read_to_string(skips)?;
    Ok(text.lines().map(str::to_owned).collect())
}
