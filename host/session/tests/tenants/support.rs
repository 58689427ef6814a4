//! One store, and hosts over it as so many processes would be.

use ambit_capabilities::{
    RequestFacts,
    auth::new_api_key,
    tool::{Outbound, Reach},
};
use ambit_egress::Egress;
use ambit_index::{Index, IndexConfig};
use ambit_inference::Providers;
use ambit_runtime::{Runtime, RuntimeConfig};
use ambit_session::{Library, Platform, Settings, Tenants, key_sets};
use ambit_store::{ApiKey, Digest, SlotBinding, Store, StoreConfig, TenantStore};
use ambit_types::{AgentName, Scope, TenantId};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, LazyLock},
};
use tempfile::TempDir;

pub(crate) struct Installation {
    pub(crate) folder: TempDir,
    pub(crate) store: Store,
    runtime: Arc<Runtime>,
    library: Library,
}

impl Installation {
    /// With what a tenant cannot do without.
    pub(crate) async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&StoreConfig::sqlite(folder.path().join("ambit.db")))
            .await
            .unwrap();
        let runtime = Runtime::new(RuntimeConfig {
            cache: Some(Path::new(env!("CARGO_TARGET_TMPDIR")).join("code")),
            ..RuntimeConfig::default()
        })
        .unwrap();
        let library = library(&folder, &runtime, &store);
        let installation = Self {
            folder,
            store,
            runtime,
            library,
        };
        for (slot, component) in [
            ("routing", "alias_routing"),
            ("auth/0", "auth_api_key"),
            ("guardrail", "edition_guardrail"),
        ] {
            let kind = slot.split('/').next().unwrap();
            let binding = installation.binding(slot, kind, component).await;
            let operator = installation.store.operator();
            operator.bind_default_slot(&binding).await.unwrap();
        }
        installation
    }

    /// Installs a component and says how it is bound.
    pub(crate) async fn binding(&self, slot: &str, kind: &str, component: &str) -> SlotBinding {
        let name = component.replace('_', "-");
        self.install(slot, kind, &name, wasm(component)).await
    }

    async fn install(&self, slot: &str, kind: &str, name: &str, wasm: Vec<u8>) -> SlotBinding {
        let manifest = format!(
            "[component]\nname = \"test:{name}\"\nversion = \"0.1.0\"\nkind = \"{kind}\"\n"
        );
        let installed = self.library.install(wasm.into(), &manifest).await.unwrap();
        SlotBinding {
            slot: slot.to_owned(),
            component: installed.digest,
        }
    }

    /// Agents with a tool each that does not describe itself, so that binding them takes as many times the patience of the host.
    pub(crate) async fn slow_agents(&self, count: u8) -> Vec<(AgentName, serde_json::Value)> {
        let operator = self.store.operator();
        let agent = self.binding("agent/test:benign", "agent", "benign").await;
        operator.bind_default_slot(&agent).await.unwrap();
        let mut agents = Vec::new();
        for n in 0..count {
            // A custom section: each is a component of its own.
            let mut wasm = wasm("slow_to_describe");
            wasm.extend([0, 2, 1, b'a' + n]);
            let name = format!("slow-{n}");
            let slot = format!("tool/test:{name}");
            let binding = self.install(&slot, "tool", &name, wasm).await;
            operator.bind_default_slot(&binding).await.unwrap();
            let definition = serde_json::json!({
                "name": name, "component": "test:benign", "model": "openai/any", "tools": [format!("test:{name}")],
            });
            agents.push((name.parse().unwrap(), definition));
        }
        agents
    }

    /// Where a component's bytes lie.
    pub(crate) fn file(&self, digest: Digest) -> PathBuf {
        let components = self.folder.path().join("components");
        components.join(format!("{digest}.wasm"))
    }

    pub(crate) async fn tenant(&self, slug: &str) -> TenantStore {
        let operator = self.store.operator();
        let slug = slug.parse().unwrap();
        self.store
            .tenant(operator.create_tenant(slug, "").await.unwrap().id)
    }

    /// A process of its own: nothing loaded, nothing known.
    pub(crate) async fn process(&self) -> Host {
        let egress = Egress::new().unwrap();
        let platform = Platform {
            prices: Arc::default(),
            tokens: None,
            runtime: self.runtime.clone(),
            store: self.store.clone(),
            index: Index::open(self.folder.path().join("index"), IndexConfig::default()).unwrap(),
            reach: Reach::new(Outbound::new(egress.clone(), 1)),
            key_sets: key_sets(egress).unwrap(),
            providers: Providers::default(),
            library: Arc::new(library(&self.folder, &self.runtime, &self.store)),
            settings: Arc::new(Settings {
                base_domains: vec!["localhost".to_owned()],
                default_model: None,
            }),
        };
        Host {
            tenants: Tenants::load(platform.clone()).await.unwrap(),
            platform,
        }
    }
}

fn library(folder: &TempDir, runtime: &Arc<Runtime>, store: &Store) -> Library {
    let components = folder.path().join("components");
    Library::open(components, runtime.clone(), store.clone()).unwrap()
}

pub(crate) struct Host {
    pub(crate) platform: Platform,
    pub(crate) tenants: Tenants,
}

impl Host {
    pub(crate) async fn lets_in(&self, tenant: TenantId, credential: &str) -> bool {
        let tenant = self.tenants.by_id(tenant).unwrap();
        let facts = RequestFacts {
            method: "GET".to_owned(),
            host: format!("{}.localhost", tenant.slug),
            path: "/v1/models".to_owned(),
        };
        let answer = tenant.authenticator.authenticate(credential, &facts).await;
        answer.is_ok()
    }
}

/// A new key: what its owner holds, and its id.
pub(crate) async fn key(tenant: &TenantStore) -> (String, String) {
    let scopes = vec![Scope::Chat.as_str().to_owned()];
    let (credential, made) = new_api_key(scopes, None).unwrap();
    let key = ApiKey {
        id: made.public_id.clone(),
        name: "test".to_owned(),
        principal: made.principal,
        secret_hash: Digest(made.secret_hash),
        scopes: made.scopes,
        last_four: "last".to_owned(),
        created_ms: 0,
        expires_ms: None,
        revoked_ms: None,
        permissions: None,
    };
    tenant.create_key(&key).await.unwrap();
    (credential.expose().to_owned(), made.public_id)
}

/// Built first: cargo knows what is up to date.
fn wasm(name: &str) -> Vec<u8> {
    static BUILT: LazyLock<PathBuf> = LazyLock::new(|| {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
        let what: [&[&str]; 2] = [
            &["--package", "ambit-hostile", "--examples"],
            &["--package", "auth-api-key", "--package", "auth-jwt"],
        ];
        for what in what {
            let status = Command::new(env!("CARGO"))
                .args(["build", "--quiet", "--release", "--target", "wasm32-wasip2"])
                .arg("--target-dir")
                .arg(target)
                .args(what)
                .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."))
                .env_remove("CARGO_RESOLVER_FEATURE_UNIFICATION")
                .status()
                .unwrap();
            assert!(status.success(), "{what:?} cannot be built");
        }
        target.join("wasm32-wasip2/release")
    });
    let file = format!("{name}.wasm");
    let example = BUILT.join("examples").join(&file);
    fs::read(if example.exists() {
        example
    } else {
        BUILT.join(file)
    })
    .unwrap()
}
