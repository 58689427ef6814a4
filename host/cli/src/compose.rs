//! The composition root: from a configuration to a running host.

use crate::{
    config::{AnchorConfig, Config, Kept, TokenConfig, seed},
    shipped, telemetry,
};
use ambit_anchor::{Anchors, Folder, Place, Signer};
use ambit_anchor_s3::Bucket;
use ambit_audit::Anchor;
use ambit_capabilities::tool::{Outbound, Reach};
use ambit_egress::Egress;
use ambit_gateway::{Gateway, Metrics};
use ambit_index::{Index, IndexConfig};
use ambit_inference::{Extractive, OpenAi, OpenAiConfig, Providers};
use ambit_policy::token::Mode;
use ambit_runtime::{Runtime, RuntimeConfig};
use ambit_session::{
    Library, Platform, Settings, Tenants, Tokens, close_abandoned, finish_idle, key_sets,
};
use ambit_store::{Database, Store, key_file};
use anyhow::Context as _;
use std::{num::NonZeroU32, path::Path, sync::Arc, time::Duration};

/// How often sessions past the retention time are looked for.
const PRUNE_EVERY: Duration = Duration::from_secs(3600);

/// What sessions get to write their ends once nobody listens any more.
const LAST_EVENTS: Duration = Duration::from_secs(10);

/// Outbound exchanges a tenant may have under way, over all calls of its tools.
const CONNECTIONS_PER_TENANT: usize = 32;

/// A host that is ready to serve.
pub(crate) struct Host {
    pub(crate) gateway: Gateway,
    pub(crate) tenants: Tenants,
    pub(crate) platform: Platform,
    anchors: Anchors,
    anchor_every: (Duration, NonZeroU32),
    retention: Duration,
    idle: Duration,
    /// No other process works on the data.
    alone: bool,
}

/// Builds the host over the data in `data`. `components`: where shipped components are; they are installed where missing.
pub(crate) async fn host(config: &Config, components: Option<&Path>) -> anyhow::Result<Host> {
    telemetry::use_crypto();
    let store = Store::open(&config.store)
        .await
        .context("cannot open the database")?;
    // Before anything is written: from here on what changes is collected.
    let anchors = anchors(&config.anchors, &config.data, store.clone()).await?;
    let alone = matches!(config.store.database, Database::Sqlite { .. });
    if alone {
        // Nobody else works on an embedded installation, so an open session is one whose process was killed. In a database that others
        // share it may be theirs.
        let closed = close_abandoned(&store)
            .await
            .context("cannot close the sessions an earlier process left open")?;
        if closed > 0 {
            tracing::warn!(
                closed,
                "an earlier process left sessions open; they are interrupted"
            );
        }
        // Nobody is left to settle what calls of earlier processes held back.
        store
            .release_abandoned(0)
            .await
            .context("cannot release what earlier calls held back of budgets")?;
    }
    let cache = config.data.join("cache");
    let runtime = Runtime::new(RuntimeConfig {
        cache: Some(cache),
        ..RuntimeConfig::default()
    })
    .context("cannot start the component runtime")?;
    let library = Library::open(
        config.data.join("components"),
        runtime.clone(),
        store.clone(),
    )
    .context("cannot use the components folder")?;
    let metrics = Arc::new(Metrics::default());
    let tokens = tokens(config, metrics.clone())?;
    let egress = Egress::new().context("cannot set up TLS")?;
    let platform = Platform {
        index: Index::open(config.data.join("index"), IndexConfig::default())
            .context("cannot open the search index")?,
        providers: providers(config)?,
        prices: Arc::new(config.prices.clone()),
        tokens: tokens.map(Arc::new),
        key_sets: key_sets(egress.clone())?,
        library: Arc::new(library),
        settings: Arc::new(Settings {
            base_domains: config.base_domains.clone(),
            default_model: config.default_model.clone(),
        }),
        runtime,
        reach: Reach::new(Outbound::new(egress, CONNECTIONS_PER_TENANT))
            .with_values(config.values.clone())
            .with_store(store.clone()),
        store,
    };
    if let Some(folder) = components {
        shipped::install(&platform, folder).await?;
    }
    let tenants = Tenants::load(platform.clone())
        .await
        .map_err(explain)
        .context("cannot bind the installation's components")?;
    for slug in config.values.tenants() {
        if tenants.by_slug(slug).is_none() {
            tracing::warn!(tenant = %slug, "the configuration has values for a tenant that does not exist");
        }
    }
    metrics.register(|registry| platform.runtime.register(registry));
    let gateway = Gateway::new(
        config.gateway.clone(),
        platform.clone(),
        anchors.clone(),
        tenants.clone(),
        metrics,
    );
    if !alone {
        // Before it works on anything: to others a node without a sign of life is dead.
        gateway.say_alive().await.map_err(explain)?;
    }
    Ok(Host {
        gateway,
        tenants,
        platform,
        anchors,
        anchor_every: (config.anchors.interval, config.anchors.events),
        retention: config.store.journal.retention,
        idle: config.store.journal.idle,
        alone,
    })
}

impl Host {
    /// What runs beside serving: following other processes' changes, anchors, and retention. Ends when dropped.
    pub(crate) async fn background(&self) {
        let prune = async {
            loop {
                if let Err(error) = finish_idle(&self.platform.store, before(self.idle)).await {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "sessions that have waited for too long could not be finished"
                    );
                }
                match self
                    .platform
                    .store
                    .operator()
                    .prune_sessions(before(self.retention))
                    .await
                {
                    Ok(0) => {}
                    Ok(removed) => {
                        tracing::info!(removed, "sessions past the retention time were removed");
                        // Says so before anybody asks.
                        if let Err(error) = self.anchors.anchor().await {
                            tracing::warn!(
                                error = &error as &dyn std::error::Error,
                                "the removal is not anchored yet"
                            );
                        }
                    }
                    Err(error) => tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "old sessions could not be removed"
                    ),
                }
                tokio::time::sleep(PRUNE_EVERY).await;
            }
        };
        let anchor = self.anchors.run(self.anchor_every.0, self.anchor_every.1);
        let sessions = self.gateway.look_after_sessions(self.alone);
        futures::join!(
            self.tenants.follow(),
            anchor,
            prune,
            sessions,
            self.stay_alive()
        );
    }

    /// Says to other nodes that this one lives, as long as it is waited for.
    pub(crate) async fn stay_alive(&self) {
        match self.alone {
            true => std::future::pending().await,
            false => self.gateway.stay_alive().await,
        }
    }

    /// Waits for the end of every session, writes what is accepted, then lets go of the database.
    pub(crate) async fn close(self) {
        let left = self.gateway.ended(LAST_EVENTS).await;
        if left > 0 {
            tracing::warn!(
                left,
                "sessions were still writing; the next start closes them"
            );
        }
        // The next start would find what is missing; an auditor should not have to wait for it.
        if let Err(error) = self.anchors.round().await {
            tracing::warn!(
                error = &*error,
                "the last sessions are not anchored; the next start does it"
            );
        }
        if !self.alone {
            // What is still open, others go on with at once.
            let store = &self.platform.store;
            if let Err(error) = store.operator().forget_node(store.node()).await {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "others take over what is left only after a while"
                );
            }
        }
        self.platform.store.close().await;
    }
}

/// So long ago, in milliseconds since the Unix epoch.
fn before(age: Duration) -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let then = now.unwrap_or_default().saturating_sub(age);
    i64::try_from(then.as_millis()).unwrap_or(0)
}

/// None: nodes share the database, and no key is configured.
fn tokens(config: &Config, metrics: Arc<Metrics>) -> anyhow::Result<Option<Tokens>> {
    let TokenConfig { key, issuer, mode } = &config.tokens;
    metrics.tokens(*mode);
    let shared = !matches!(config.store.database, Database::Sqlite { .. });
    let key = match key {
        Some(key) => key.expose().to_owned(),
        None if shared => return Ok(None),
        None => {
            let file = config.data.join("token.key");
            let key = key_file(&file, true).context("cannot use the key of capability tokens")?;
            key.map(|key| key.to_string()).unwrap_or_default()
        }
    };
    let seed = seed(&key).context("the key of capability tokens is not 64 hexadecimal digits")?;
    if *mode != Mode::Enforced {
        tracing::warn!(%mode, "capability tokens are not enforced: what they do not allow is done");
    }
    let tokens = Tokens::new(issuer, &seed, *mode, metrics);
    tokens
        .map(Some)
        .context("the key of capability tokens is none")
}

async fn anchors(config: &AnchorConfig, data: &Path, store: Store) -> anyhow::Result<Anchors> {
    let last = store.operator().last_anchor().await;
    let last = last.context("cannot read the journal's anchors")?;
    let key = match &config.key {
        Some(key) => key.expose().to_owned(),
        None => {
            let file = data.join("anchor.key");
            let key = key_file(&file, last.is_none()).context("cannot use the key of anchors")?;
            key.map(|key| key.to_string()).with_context(|| {
                format!(
                    "the key of anchors, {}, is not there; put it back from where it is kept",
                    file.display()
                )
            })?
        }
    };
    let seed = seed(&key).context("the key of anchors is not 64 hexadecimal digits")?;
    let signer = Signer::new(&config.name, &seed).context("no key of anchors has such a name")?;
    if let Some(last) = last {
        Anchor::open(&last.note, signer.verifier()).with_context(|| {
            format!("the journal was anchored with another key, or under another name than `{}`: set `[anchors] key` and `name` to those", config.name)
        })?;
    }
    let place: Box<dyn Place> = match &config.kept {
        Kept::Folder(path) => Box::new(Folder::new(path)),
        Kept::S3(bucket) => Box::new(Bucket::new((**bucket).clone()).await),
    };
    Ok(Anchors::new(store, signer, place))
}

fn providers(config: &Config) -> anyhow::Result<Providers> {
    let mut providers = Providers::default().with("extractive".parse()?, Arc::new(Extractive));
    for provider in &config.providers {
        let mut openai = OpenAiConfig::new(provider.url.clone());
        openai.api_key = provider.key.clone();
        let built = OpenAi::new(openai)
            .map_err(|why| anyhow::anyhow!("provider {}: {why}", provider.name))?;
        providers = providers.with(provider.name.clone(), Arc::new(built));
    }
    Ok(providers)
}

/// The operator sees causes; callers never do.
pub(crate) fn explain(error: ambit_types::Error) -> anyhow::Error {
    anyhow::Error::new(error)
}
