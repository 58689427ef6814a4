//! One runtime for all tests, and components found or built.

use ambit_capabilities::{Narrowing, RequestFacts};
use ambit_policy::{Kind, Manifest, Permissions, token::Credential};
use ambit_runtime::{Admitted, Runtime, RuntimeConfig, admit, snapshot};
use ambit_types::{CallContext, Principal, RequestId, TenantId, TraceContext};
use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, LazyLock, Mutex},
    thread,
    time::{Duration, Instant},
};

pub(crate) fn runtime() -> &'static Arc<Runtime> {
    static RUNTIME: LazyLock<Arc<Runtime>> = LazyLock::new(|| {
        let cache = Some(Path::new(env!("CARGO_TARGET_TMPDIR")).join("code"));
        Runtime::new(RuntimeConfig {
            cache,
            ..RuntimeConfig::default()
        })
        .unwrap()
    });
    &RUNTIME
}

/// The component `name` (its folder's name) under the grant of exactly what it asks for.
pub(crate) fn admitted(name: &'static str) -> Admitted {
    let manifest = manifest(name);
    let grant = manifest.permissions.clone();
    admitted_with(name, &grant)
}

/// The component `name` under this grant.
pub(crate) fn admitted_with(name: &'static str, grant: &Permissions) -> Admitted {
    let manifest = manifest(name);
    let mut wasm = wasm(name);
    if matches!(
        manifest.component.kind,
        Kind::Auth | Kind::Routing | Kind::Guardrail | Kind::Agent
    ) {
        // On a thread of its own: it waits, and this one may belong to tokio.
        let taken = thread::scope(|scope| scope.spawn(|| snapshot(&wasm)).join());
        wasm = taken.unwrap().unwrap();
    }
    load(&wasm, manifest, grant)
}

/// The hostile guest `name` as a tool with these tables of a manifest, which are granted.
pub(crate) fn hostile(name: &'static str, tables: &str) -> Admitted {
    let head = format!(
        "[component]\nname = \"hostile:{}\"\nversion = \"0.1.0\"\nkind = \"tool\"\n",
        name.replace('_', "-")
    );
    let manifest = Manifest::parse(&format!("{head}{tables}")).unwrap();
    let grant = manifest.permissions.clone();
    let folder = build(&["--package", "ambit-hostile", "--example", name]).join("examples");
    load(
        &fs::read(folder.join(format!("{name}.wasm"))).unwrap(),
        manifest,
        &grant,
    )
}

fn load(wasm: &[u8], manifest: Manifest, grant: &Permissions) -> Admitted {
    let code = runtime().load_blocking(wasm, manifest).unwrap();
    admit(&code, grant).unwrap()
}

fn manifest(name: &str) -> Manifest {
    let text = fs::read_to_string(
        workspace()
            .join("components")
            .join(name)
            .join("component.toml"),
    )
    .unwrap();
    Manifest::parse(&text).unwrap()
}

/// From `AMBIT_COMPONENTS` where that is set, else from the target folder, built first: cargo knows what is up to date.
fn wasm(name: &'static str) -> Vec<u8> {
    static BUILT: Mutex<Option<HashMap<&'static str, Vec<u8>>>> = Mutex::new(None);
    let mut built = BUILT
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let built = built.get_or_insert_default();
    built
        .entry(name)
        .or_insert_with(|| {
            let folder = std::env::var_os("AMBIT_COMPONENTS")
                .map_or_else(|| build(&["--package", name]), PathBuf::from);
            let file = folder.join(format!("{}.wasm", name.replace('-', "_")));
            fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
        })
        .clone()
}

fn build(what: &[&str]) -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let status = Command::new(env!("CARGO"))
        .args([
            "build",
            "--quiet",
            "--release",
            "--target",
            "wasm32-wasip2",
            "--target-dir",
        ])
        .arg(target)
        .args(what)
        .current_dir(workspace())
        .env_remove("CARGO_RESOLVER_FEATURE_UNIFICATION")
        .status()
        .unwrap();
    assert!(status.success(), "{what:?} cannot be built");
    target.join("wasm32-wasip2/release")
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

pub(crate) fn facts(host: &str) -> RequestFacts {
    RequestFacts {
        method: "POST".to_owned(),
        host: host.to_owned(),
        path: "/v1/chat/completions".to_owned(),
    }
}

/// A call of a new tenant, named by its slug.
pub(crate) fn context(slug: &str) -> CallContext {
    context_of(TenantId::new(), slug)
}

pub(crate) fn context_of(tenant: TenantId, slug: &str) -> CallContext {
    CallContext {
        tenant,
        tenant_slug: slug.parse().unwrap(),
        principal: Arc::new(Principal {
            id: "key:test".to_owned(),
            scopes: Vec::new(),
            key: None,
            issuer: None,
            expires_at: None,
            credential: None,
        }),
        request: RequestId::new(),
        session: None,
        agent: None,
        cpu: None,
        trace: TraceContext::new(),
        deadline: Instant::now() + Duration::from_secs(60),
    }
}

/// The layers that narrow by value.
#[derive(Clone, Default)]
pub(crate) struct Layers {
    pub(crate) tenant: Option<Arc<Permissions>>,
    pub(crate) token: Option<Arc<Permissions>>,
}

impl Layers {
    /// A call by a credential that narrows to `token`, and what narrows the component for its tenant.
    pub(crate) fn of(&self, context: &CallContext) -> (CallContext, Narrowing) {
        let credential = |token: &Arc<Permissions>| {
            let permissions = Some(token.clone());
            let token = None;
            Credential { permissions, token }.into_opaque()
        };
        let principal = Principal {
            credential: self.token.as_ref().map(credential),
            ..(*context.principal).clone()
        };
        let context = CallContext {
            principal: Arc::new(principal),
            ..context.clone()
        };
        let tenant = self.tenant.clone();
        (context, Narrowing { tenant })
    }
}

/// Runs a test on a runtime of its own.
pub(crate) fn block_on<R>(test: impl Future<Output = R>) -> R {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
        .block_on(test)
}
