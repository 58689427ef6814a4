//! Components of `tests/hostile`, as the standard toolchain builds them, ready to be installed.

use anyhow::{Context as _, Result, bail};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

/// What of a built guest says which edition it is.
const EDITION: &[u8; 16] = b"edition 00000000";

/// A component before it is installed.
#[derive(Debug, Clone)]
pub struct NewComponent {
    pub name: String,
    kind: String,
    version: String,
    /// The tables of its manifest after `[component]`.
    tables: String,
    /// What it is granted, where it asks for anything.
    pub grant: Option<Value>,
    wasm: Vec<u8>,
}

impl NewComponent {
    /// A component that asks for nothing.
    #[must_use]
    pub fn new(name: &str, kind: &str, wasm: Vec<u8>) -> Self {
        Self {
            name: name.to_owned(),
            kind: kind.to_owned(),
            version: "0.1.0".to_owned(),
            tables: String::new(),
            grant: None,
            wasm: stamped(wasm, &format!("{name} of kind {kind}")),
        }
    }

    #[must_use]
    pub fn version(mut self, version: &str) -> Self {
        version.clone_into(&mut self.version);
        self
    }

    /// Further tables of its manifest.
    #[must_use]
    pub fn tables(mut self, tables: &str) -> Self {
        self.tables.push_str(tables);
        self
    }

    #[must_use]
    pub fn granted(mut self, grant: Value) -> Self {
        self.grant = Some(grant);
        self
    }

    #[must_use]
    pub fn manifest(&self) -> String {
        let Self {
            name,
            kind,
            version,
            tables,
            ..
        } = self;
        format!(
            "[component]\nname = \"{name}\"\nversion = \"{version}\"\nkind = \"{kind}\"\n{tables}"
        )
    }

    #[must_use]
    pub fn wasm(&self) -> &[u8] {
        &self.wasm
    }

    pub(crate) fn body(&self) -> Value {
        json!({ "manifest": self.manifest(), "wasm": STANDARD.encode(&self.wasm) })
    }
}

/// The guest of this name, built where it is not yet. `NAME.wat` is a module of text, made a tool.
///
/// # Errors
/// It cannot be built.
pub fn guest(name: &str) -> Result<Vec<u8>> {
    if name.ends_with(".wat") {
        let text = Path::new(env!("CARGO_MANIFEST_DIR")).join("../hostile/text");
        let read = |name: &str| {
            let path = text.join(name);
            std::fs::read_to_string(&path).with_context(|| path.display().to_string())
        };
        return Ok(wat::parse_str(
            read("tool.wat")?.replace("MODULE", &read(name)?),
        )?);
    }
    static FOLDER: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| build().map_err(|error| format!("{error:#}")));
    match folder {
        Ok(folder) => {
            let path = folder.join(format!("{name}.wasm"));
            std::fs::read(&path).with_context(|| path.display().to_string())
        }
        Err(why) => bail!("{why}"),
    }
}

/// The guest of this name as another edition of itself: `edition` and these eight letters are what it says.
///
/// # Errors
/// It cannot be built, or says no edition.
pub fn edition(name: &str, letters: &str) -> Result<Vec<u8>> {
    let mut wasm = guest(name)?;
    let place = wasm
        .windows(EDITION.len())
        .position(|bytes| bytes == EDITION);
    let place = place.with_context(|| format!("{name} has no edition"))? + b"edition ".len();
    if letters.len() != 8 {
        bail!("`{letters}` has not eight letters");
    }
    wasm[place..place + 8].copy_from_slice(letters.as_bytes());
    Ok(wasm)
}

/// With a custom section, so that one guest can be several components: a digest belongs to one manifest.
fn stamped(mut wasm: Vec<u8>, stamp: &str) -> Vec<u8> {
    let stamp: Vec<u8> = stamp.bytes().take(100).collect();
    let length = u8::try_from(stamp.len()).unwrap_or(0);
    // Section 0: its size, the length of its name, its name. Both numbers fit one byte of LEB128.
    wasm.extend([0, length + 1, length]);
    wasm.extend(stamp);
    wasm
}

#[allow(
    clippy::disallowed_methods,
    reason = "a test harness is told by its environment where things are"
)]
fn build() -> Result<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut command = Command::new(env!("CARGO"));
    command
        .args(["build", "--quiet", "--release", "--target", "wasm32-wasip2"])
        .args(["--package", "ambit-hostile", "--examples"])
        .current_dir(&root)
        .env_remove("CARGO_RESOLVER_FEATURE_UNIFICATION");
    if !command.status()?.success() {
        bail!("the guests of tests/hostile do not build");
    }
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    Ok(target.join("wasm32-wasip2/release/examples"))
}
