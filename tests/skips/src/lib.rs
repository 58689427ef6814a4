//! A test that cannot run here says so where nobody's capture swallows it, and `cargo xtask test` repeats it at the end. Labelled data lies
//! beside the checkout or where `AMBIT_SHARED` says; whoever needs it asks here, so that all look in the same place.
#![allow(
    clippy::disallowed_methods,
    reason = "tests are told by their environment where things are"
)]

use std::{
    env,
    fs::OpenOptions,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

/// Says what is left out and why: on the terminal, and in the file that `AMBIT_SKIPS` names.
///
/// # Panics
/// That file cannot be written: the sum at the end would be silent about this.
pub fn skipped(what: &str) {
    let line = format!("SKIPPED {what}\n");
    // Not by `eprintln!`, which the test harness keeps to itself where the test passes.
    let _ = io::stderr().lock().write_all(line.as_bytes());
    if let Some(file) = env::var_os("AMBIT_SKIPS") {
        keep(&line, Path::new(&file)).expect("the file of AMBIT_SKIPS takes a line");
    }
}

/// A folder or file of labelled data, if it is here; else says that it is skipped.
#[must_use]
pub fn data(name: &str) -> Option<PathBuf> {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared");
    let shared = env::var_os("AMBIT_SHARED").map_or_else(|| beside.into(), PathBuf::from);
    let path = shared.join("data").join(name);
    if path.exists() {
        return Some(path);
    }
    skipped(&format!(
        "checks on {name}: it is neither in $AMBIT_SHARED/data nor in ../shared/data"
    ));
    None
}

fn keep(line: &str, file: &Path) -> io::Result<()> {
    let mut file = OpenOptions::new().create(true).append(true).open(file)?;
    file.write_all(line.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_kept() {
        let file = env::temp_dir().join(format!("ambit-skips-{}", std::process::id()));
        for line in ["one\n", "two\n"] {
            keep(line, &file).unwrap();
        }
        let kept = std::fs::read_to_string(&file).unwrap();
        std::fs::remove_file(&file).unwrap();
        assert_eq!(kept, "one\ntwo\n");
        assert!(keep("three\n", Path::new("/absent/file")).is_err());
    }
}
