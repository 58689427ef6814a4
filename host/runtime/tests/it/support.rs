//! What the tests share: a runtime, manifests, guests, and calls of a text contract `run(n) -> n` for components written as text.

use ambit_policy::{Manifest, Permissions};
use ambit_runtime::{
    Admitted, CallError, CallScope, Code, Effectful, Pure, Runtime, RuntimeConfig, Tenant, admit,
};
use ambit_types::TenantId;
use bytes::Bytes;
use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

/// Bindings of text components of kind `agent`.
pub(crate) mod pure {
    wasmtime::component::bindgen!({
        inline: "
            package ambit:agent@0.1.0;
            interface agent { run: func(n: u64) -> u64; bytes: func(n: u32) -> list<u8>; }
            world guest { export agent; }
        ",
        world: "guest",
    });
    ambit_runtime::bindings!(Guest, GuestPre);
}

/// Bindings of text components of kind `tool`.
pub(crate) mod effectful {
    wasmtime::component::bindgen!({
        inline: "
            package ambit:tool@0.1.0;
            interface tool { run: func(n: u64) -> u64; bytes: func(n: u32) -> list<u8>; }
            world guest { export tool; }
        ",
        world: "guest",
        exports: { default: async },
    });
    ambit_runtime::bindings!(Guest, GuestPre);
}

/// Bindings of real agents.
pub(crate) mod agent {
    wasmtime::component::bindgen!({
        path: ["../../wit/types", "../../wit/agent"],
        world: "ambit:agent/guest",
    });
    ambit_runtime::bindings!(Guest, GuestPre);
}

/// Bindings of real tools.
pub(crate) mod tool {
    wasmtime::component::bindgen!({
        path: ["../../wit/types", "../../wit/tool"],
        world: "ambit:tool/guest",
        exports: { default: async },
    });
    ambit_runtime::bindings!(Guest, GuestPre);
}

pub(crate) fn runtime() -> Arc<Runtime> {
    static RUNTIME: OnceLock<Arc<Runtime>> = OnceLock::new();
    RUNTIME
        .get_or_init(|| Runtime::new(RuntimeConfig::default()).unwrap())
        .clone()
}

/// A manifest of this kind; `rest` follows the component's table.
pub(crate) fn manifest(kind: &str, rest: &str) -> Manifest {
    let text = format!(
        "[component]\nname = \"test:guest\"\nversion = \"0.1.0\"\nkind = \"{kind}\"\n{rest}"
    );
    Manifest::parse(&text).unwrap_or_else(|problems| panic!("{problems:?}"))
}

/// Limits that no honest guest of these tests comes near, and hostile ones reach soon.
pub(crate) const TIGHT: &str = "[limits]\nmemory = \"16MiB\"\ncpu = \"30ms\"\ndeadline = \"2s\"\nresult = \"64KiB\"\nlog = \"4KiB\"\n";

pub(crate) fn load(runtime: &Runtime, wasm: &[u8], manifest: Manifest) -> Arc<Code> {
    runtime
        .load_blocking(wasm, manifest)
        .unwrap_or_else(|error| panic!("{error}: {:?}", std::error::Error::source(&error)))
}

pub(crate) fn admitted(runtime: &Runtime, wasm: &[u8], manifest: Manifest) -> Admitted {
    admit(&load(runtime, wasm, manifest), &Permissions::default()).unwrap()
}

pub(crate) fn tenant(runtime: &Runtime, slug: &str) -> Arc<Tenant> {
    runtime.tenant(TenantId::new(), &slug.parse().unwrap())
}

/// A call whose caller waits for a minute.
pub(crate) fn scope(tenant: &Arc<Tenant>) -> CallScope {
    CallScope::new(tenant.clone(), Instant::now() + Duration::from_secs(60))
}

/// A component of one core module, whose text is `module`. It must export `memory`, `run (param i64) (result i64)` and may export
/// `bytes (param i32) (result i32)`, which returns the address of an address and a length.
pub(crate) fn text(interface: &str, module: &str) -> Vec<u8> {
    let bytes = if module.contains("\"bytes\"") {
        ""
    } else {
        "(func (export \"bytes\") (param i32) (result i32) unreachable)"
    };
    let component = format!(
        r#"(component
            (core module $m {module} {bytes})
            (core instance $i (instantiate $m))
            (func $run (param "n" u64) (result u64) (canon lift (core func $i "run")))
            (func $bytes (param "n" u32) (result (list u8))
                (canon lift (core func $i "bytes") (memory (core memory $i "memory"))))
            (instance $e (export "run" (func $run)) (export "bytes" (func $bytes)))
            (export "{interface}" (instance $e)))"#
    );
    wat::parse_str(component).unwrap_or_else(|error| panic!("{error}"))
}

pub(crate) const AGENT: &str = "ambit:agent/agent@0.1.0";
pub(crate) const TOOL: &str = "ambit:tool/tool@0.1.0";

/// A text component linked on both engines, with these limits.
pub(crate) struct Both {
    pub(crate) pure: Pure<(), pure::Guest>,
    pub(crate) effectful: Arc<Effectful<(), effectful::Guest>>,
}

impl Both {
    pub(crate) fn new(runtime: &Arc<Runtime>, module: &str, rest: &str) -> Self {
        Self::reused(runtime, module, rest, "fresh")
    }

    pub(crate) fn reused(runtime: &Arc<Runtime>, module: &str, rest: &str, reuse: &str) -> Self {
        let manifest = |kind| {
            let mut manifest = manifest(kind, rest);
            manifest.component.reuse = reuse.parse().unwrap();
            manifest
        };
        let pure = admitted(runtime, &text(AGENT, module), manifest("agent"));
        let effectful = admitted(runtime, &text(TOOL, module), manifest("tool"));
        Self {
            pure: Pure::link(runtime, &pure, |_| Ok(())).unwrap(),
            effectful: Arc::new(Effectful::link(runtime, &effectful, |_| Ok(())).unwrap()),
        }
    }

    /// Runs `run(n)` on both engines, which must agree.
    pub(crate) async fn run(&self, scope: &CallScope, n: u64) -> Result<u64, String> {
        let pure = self.pure.call(scope, (), |store, guest| {
            guest.ambit_agent_agent().call_run(store, n)
        });
        let effectful = self
            .effectful
            .call(scope, (), async |store, guest| {
                guest.ambit_tool_tool().call_run(store, n).await
            })
            .await;
        let (pure, effectful) = (pure.map_err(short), effectful.map_err(short));
        assert_eq!(pure, effectful, "the engines agree");
        pure
    }

    pub(crate) async fn bytes(&self, scope: &CallScope, n: u32) -> Result<usize, String> {
        let pure = self.pure.call(scope, (), |store, guest| {
            guest.ambit_agent_agent().call_bytes(store, n)
        });
        let effectful = self
            .effectful
            .call(scope, (), async |store, guest| {
                guest.ambit_tool_tool().call_bytes(store, n).await
            })
            .await;
        let (pure, effectful) = (pure.map_err(short), effectful.map_err(short));
        assert_eq!(pure, effectful, "the engines agree");
        pure.map(|bytes| bytes.len())
    }
}

/// A failed call in a word or two.
pub(crate) fn short(error: CallError) -> String {
    match error {
        CallError::Limit(limit) => format!("limit {limit}"),
        CallError::Trap(text) => format!("trap {text}"),
        CallError::Host(error) => format!("host {error:#}"),
        other => other.as_str().to_owned(),
    }
}

/// A guest of `tests/hostile`, as built by the standard toolchain: from `AMBIT_HOSTILE` or built here, once.
pub(crate) fn guest(name: &str) -> Bytes {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    let dir = DIR.get_or_init(|| {
        let build = || build(&["--package", "ambit-hostile", "--examples"]).join("examples");
        option_env_dir("AMBIT_HOSTILE").unwrap_or_else(build)
    });
    read(&dir.join(format!("{name}.wasm")))
}

/// A module of `tests/hostile/text`.
pub(crate) fn hostile_text(name: &str) -> String {
    let path = root().join(format!("tests/hostile/text/{name}.wat"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A component of the project, likewise: from `AMBIT_COMPONENTS` or built here, all of them once.
pub(crate) fn component(name: &str) -> Bytes {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    let dir = DIR.get_or_init(|| {
        option_env_dir("AMBIT_COMPONENTS").unwrap_or_else(|| {
            let names = components();
            let packages = names.iter().flat_map(|name| ["--package", name]);
            build(&packages.collect::<Vec<_>>())
        })
    });
    read(&dir.join(format!("{}.wasm", name.replace('-', "_"))))
}

/// The folders of the project's components.
pub(crate) fn components() -> Vec<String> {
    let folders = std::fs::read_dir(root().join("components")).unwrap();
    let folders = folders.map(|folder| folder.unwrap().path());
    folders
        .filter(|folder| folder.join("component.toml").is_file())
        .map(|folder| folder.file_name().unwrap().to_str().unwrap().to_owned())
        .collect()
}

fn read(path: &Path) -> Bytes {
    std::fs::read(path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        .into()
}

fn option_env_dir(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).map(PathBuf::from)
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Builds guests; answers where the toolchain put them.
fn build(what: &[&str]) -> PathBuf {
    let status = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--release", "--target", "wasm32-wasip2"])
        .args(what)
        .current_dir(root())
        .status()
        .unwrap();
    assert!(status.success(), "{what:?} can be built");
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    target.join("wasm32-wasip2/release")
}
