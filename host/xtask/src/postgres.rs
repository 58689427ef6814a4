//! Where a PostgreSQL server's programs come from: PATH, Debian's package, PyPI's `pgserver`. Tests run it as a user that is not root.

use crate::{python, sh};
use anyhow::{Context as _, Result, bail};
use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

/// The folder of `initdb` and `postgres`, installed where they are missing.
///
/// # Errors
/// There is none; what to install.
pub(crate) fn programs() -> Result<PathBuf> {
    if let Some(folder) = found() {
        return Ok(folder);
    }
    if is_root() && sh::output("apt-get", &["--version"]).is_some() {
        // A fresh machine's lists are empty. One source of many that does not answer is no reason not to try.
        for arguments in [&["update", "-q"][..], INSTALL] {
            if let Err(error) = sh::run("apt-get", arguments) {
                println!("{error:#}");
            }
        }
        if let Some(folder) = found() {
            return Ok(folder);
        }
    }
    from_pypi().context("install `initdb` and `postgres` (Debian: postgresql)")
}

const INSTALL: &[&str] = &[
    "install",
    "-y",
    "-q",
    "--no-install-recommends",
    "postgresql",
];

/// `PATH` with a folder in front.
pub(crate) fn path_with(folder: &Path) -> Result<String> {
    let path = path();
    let folders = std::iter::once(folder.to_owned()).chain(env::split_paths(&path));
    let joined = env::join_paths(folders)?;
    joined
        .into_string()
        .map_err(|_| anyhow::anyhow!("PATH is not UTF-8"))
}

fn found() -> Option<PathBuf> {
    let debian = Path::new("/usr/lib/postgresql");
    let mut versions: Vec<_> = folders_in(debian)
        .map(|version| version.join("bin"))
        .collect();
    versions.sort();
    let path = path();
    env::split_paths(&path)
        .chain(versions.into_iter().rev())
        .find(|folder| has_both(folder))
}

/// The client's package makes folders too: only the two programs count.
fn has_both(folder: &Path) -> bool {
    ["initdb", "postgres"]
        .iter()
        .all(|program| folder.join(program).is_file())
}

/// The wheel carries a whole server.
fn from_pypi() -> Result<PathBuf> {
    let python = python::environment(&["pgserver"])?;
    let place = "import pgserver, pathlib; print(pathlib.Path(pgserver.__file__).parent / 'pginstall' / 'bin')";
    let printed = sh::output(&python.to_string_lossy(), &["-c", place])
        .context("the package pgserver cannot be imported")?;
    let folder = PathBuf::from(printed.trim());
    if !has_both(&folder) {
        bail!("the package pgserver has no server at {}", folder.display());
    }
    if is_root() {
        // PostgreSQL refuses root, and a folder of root's may be closed to everybody else.
        let initdb = folder.join("initdb");
        let as_nobody = ["--reuid=nobody", "--regid=nogroup", "--clear-groups", "--"];
        let arguments = as_nobody.iter().copied();
        let initdb = initdb.to_string_lossy();
        let arguments: Vec<_> = arguments.chain([&*initdb, "--version"]).collect();
        if sh::output("setpriv", &arguments).is_none() {
            bail!("the user nobody cannot run {initdb}");
        }
    }
    Ok(folder)
}

fn folders_in(folder: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    entries.filter_map(|entry| Some(entry.ok()?.path()))
}

fn is_root() -> bool {
    sh::output("id", &["-u"]).is_some_and(|id| id.trim() == "0")
}

#[allow(
    clippy::disallowed_methods,
    reason = "a program is looked up where a shell would"
)]
fn path() -> OsString {
    env::var_os("PATH").unwrap_or_default()
}
