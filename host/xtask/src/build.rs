//! Building: the host with its tests' dependencies, the components, their snapshots.

use crate::sh;
use anyhow::{Context as _, Result};
use std::{fs, path::PathBuf};

pub(crate) const GUEST: &str = "wasm32-wasip2";

/// Components whose start-up work is done in the build. The others have none worth a snapshot.
pub(crate) const PURE: &[&str] = &[
    "auth-api-key",
    "auth-jwt",
    "routing-subdomain",
    "guardrail-baseline",
    "agent-assistant",
];

/// What is built and tested. Not in it: benchmarks and examples, which `cargo xtask bench` runs and `cargo xtask lint` compiles; each links
/// half of the workspace.
pub(crate) const TARGETS: [&str; 3] = ["--lib", "--bins", "--tests"];

/// The binary and the components beside it.
pub(crate) fn all() -> Result<()> {
    guest_target()?;
    // The tests of the workspace too, not the binary alone: with the features of the tests' dependencies decided once, cranelift is
    // compiled once for build, test and bench together.
    let whole = ["build", "--release", "--workspace"];
    sh::run("cargo", whole.into_iter().chain(TARGETS))?;
    components()
}

/// The guest target comes with the pinned toolchain; elsewhere it is added.
fn guest_target() -> Result<()> {
    let folder = sh::output("rustc", &["--print", "target-libdir", "--target", GUEST])
        .map(|path| PathBuf::from(path.trim()));
    if folder.is_some_and(|folder| folder.is_dir()) {
        return Ok(());
    }
    sh::run("rustup", ["target", "add", GUEST]).context(
        "the target wasm32-wasip2 is missing; install it with `rustup target add wasm32-wasip2`",
    )
}

/// Builds every component, snapshots the pure ones, and puts each with its manifest where the binary looks.
pub(crate) fn components() -> Result<()> {
    let names = names()?;
    let packages = names
        .iter()
        .flat_map(|name| ["-p".to_owned(), name.clone()]);
    let arguments = ["build", "--release", "--target", GUEST]
        .into_iter()
        .map(str::to_owned)
        .chain(packages);
    sh::run("cargo", arguments)?;
    let built = sh::target_folder().join(GUEST).join("release");
    let folder = sh::target().join("components");
    fs::create_dir_all(&folder)?;
    for name in names {
        let from = built.join(format!("{}.wasm", name.replace('-', "_")));
        let to = folder.join(format!("{name}.wasm"));
        if PURE.contains(&name.as_str()) {
            let ambit = sh::target().join("ambit");
            sh::run(
                &ambit.to_string_lossy(),
                [
                    "component",
                    "snapshot",
                    &from.to_string_lossy(),
                    &to.to_string_lossy(),
                ],
            )?;
        } else {
            fs::copy(&from, &to).with_context(|| format!("cannot copy {}", from.display()))?;
        }
        let manifest = sh::root()
            .join("components")
            .join(&name)
            .join("component.toml");
        let manifest = fs::read_to_string(&manifest)
            .with_context(|| format!("cannot read {}", manifest.display()))?;
        fs::write(&to, with_manifest(fs::read(&to)?, &manifest))?;
        fs::write(folder.join(format!("{name}.toml")), manifest)?;
    }
    Ok(())
}

/// A component with its manifest in a custom section, which engines pass over. Installations know a component by the digest of its bytes: so
/// one whose manifest alone changed is another component, and takes the place of the one before like any other.
fn with_manifest(mut wasm: Vec<u8>, manifest: &str) -> Vec<u8> {
    const CUSTOM: u8 = 0;
    const NAME: &str = "component.toml";
    let mut section = leb128(NAME.len());
    section.extend(NAME.bytes().chain(manifest.bytes()));
    wasm.push(CUSTOM);
    wasm.extend(leb128(section.len()));
    wasm.extend(section);
    wasm
}

fn leb128(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = (number & 0x7f) as u8;
        number >>= 7;
        if number == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}

fn names() -> Result<Vec<String>> {
    let mut names: Vec<String> = fs::read_dir(sh::root().join("components"))?
        .filter_map(|entry| entry.ok())
        .filter(|entry| entry.path().join("component.toml").is_file())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_that_changed_makes_another_component() {
        const EMPTY: &[u8] = b"\0asm\x0d\0\x01\0";
        let manifest = "x".repeat(300);
        let wasm = with_manifest(EMPTY.to_vec(), &manifest);
        // 315 bytes: the name with its length, and the manifest.
        let expected = [EMPTY, b"\0\xbb\x02\x0ecomponent.toml", manifest.as_bytes()].concat();
        assert_eq!(wasm, expected);
        assert_ne!(wasm, with_manifest(EMPTY.to_vec(), "y"));
    }
}
