//! `ambit.toml`: read, checked as a whole, built. Every mistake is reported, together, with its key, its value and what was expected.
//!
//! Only this file and the command line read the environment. docs/configuration.md is the reference; a test parses its example.

mod bucket;
mod secrets;
mod signing;
mod values;

pub(crate) use bucket::named;
pub(crate) use signing::{AnchorConfig, Kept, TokenConfig, seed};

use ambit_capabilities::tool::Values;
use ambit_gateway::GatewayConfig;
use ambit_inference::OpenAiConfig;
use ambit_ledger::PriceTable;
use ambit_policy::{Problem, Problems, Reader};
use ambit_session::ModelName;
use ambit_store::{
    Database, JournalConfig, MasterKey, PostgresConfig, StoreConfig, is_postgres_url,
};
use ambit_types::{ProviderName, Secret, TenantSlug, canonical_domain};
use anyhow::Context as _;
use secrets::{SECRET, Secrets};
use std::{
    net::SocketAddr,
    num::NonZeroU32,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tracing_subscriber::EnvFilter;
use url::Url;

/// A valid configuration.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) data: PathBuf,
    pub(crate) listen: SocketAddr,
    /// None: ops routes share the data listener, which must be loopback then.
    pub(crate) ops_listen: Option<SocketAddr>,
    pub(crate) base_domains: Vec<String>,
    pub(crate) store: StoreConfig,
    pub(crate) anchors: AnchorConfig,
    pub(crate) gateway: GatewayConfig,
    pub(crate) components: Option<PathBuf>,
    pub(crate) providers: Vec<ProviderConfig>,
    pub(crate) default_model: Option<ModelName>,
    /// The shipped prices, overridden by the installation's own.
    pub(crate) prices: PriceTable,
    pub(crate) tokens: TokenConfig,
    /// What tools find in `wasi:config`.
    pub(crate) values: Arc<Values>,
    pub(crate) log: String,
    pub(crate) otlp: Option<Url>,
}

#[derive(Debug)]
pub(crate) struct ProviderConfig {
    pub(crate) name: ProviderName,
    pub(crate) url: Url,
    pub(crate) key: Option<Secret>,
}

/// Looks up environment variables; tests give their own.
pub(crate) type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

impl Config {
    /// Reads a file. Relative paths in it are relative to its folder.
    pub(crate) fn read(
        path: &Path,
        environment: Environment<'_>,
        admin_key: Option<Secret>,
    ) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the configuration {}", path.display()))?;
        let folder = path.parent().unwrap_or(Path::new("."));
        Self::parse(&text, folder, environment, admin_key).map_err(|problems| {
            anyhow::anyhow!(
                "{} has {} mistake{}:\n{}",
                path.display(),
                problems.len(),
                if problems.len() == 1 { "" } else { "s" },
                Problems(problems)
            )
        })
    }

    /// `admin_key`: what an embedded installation has already; otherwise the file must name one.
    pub(crate) fn parse(
        text: &str,
        folder: &Path,
        environment: Environment<'_>,
        admin_key: Option<Secret>,
    ) -> Result<Self, Vec<Problem>> {
        let table: toml::Table = toml::from_str(text).map_err(|error| {
            vec![Problem {
                key: String::new(),
                value: error.message().to_owned(),
                expected: "TOML".to_owned(),
            }]
        })?;
        let mut problems = Vec::new();
        let mut root = Reader::new(table, "", &mut problems);
        let data = root
            .text("data", "a folder")
            .map_or_else(|| folder.join("ambit-data"), |path| folder.join(path));
        let log = root
            .text(
                "log",
                "a filter such as `info` or `info,ambit_runtime=debug`",
            )
            .unwrap_or_else(|| "info".to_owned());
        if let Err(error) = EnvFilter::try_new(&log) {
            root.unexpected(
                "log",
                &log,
                &format!("a filter such as `info` or `info,ambit_runtime=debug` ({error})"),
            );
        }
        let components = root
            .text("components", "a folder")
            .map(|path| folder.join(path));
        let default_model =
            root.parsed("default_model", "`provider/model`", str::parse::<ModelName>);

        let mut listen = root.table("listen");
        let address = listen
            .parsed("data", ADDRESS, str::parse::<SocketAddr>)
            .unwrap_or(SocketAddr::from(([127, 0, 0, 1], 8080)));
        let ops_listen = listen.parsed("ops", ADDRESS, str::parse::<SocketAddr>);
        if ops_listen.is_none() && !address.ip().is_loopback() {
            listen.missing("ops", "an address of its own: off loopback, the admin API never shares the tenants' listener");
        }
        listen.finish("data, ops");

        let mut secrets = Secrets {
            environment,
            folder,
        };
        let mut admin = root.table("admin");
        let own_key = secrets.read(&mut admin, "key");
        if own_key.is_none() && admin_key.is_none() {
            admin.missing("key", SECRET);
        }
        admin.finish("key");
        let mut gateway =
            GatewayConfig::new(own_key.or(admin_key).unwrap_or_else(|| Secret::new("")));

        let domains = root.list(
            "base_domains",
            "a list of domains such as `[\"agents.example.com\"]`",
            |item| {
                item.parsed(
                    "a domain in A-labels, such as `agents.example.com`",
                    canonical_domain,
                )
            },
        );
        let base_domains = if domains.is_empty() {
            vec!["localhost".to_owned()]
        } else {
            domains
        };

        let store = store(root.table("database"), &data, &mut secrets);
        let mut journal = root.table("journal");
        let mut journal_config = JournalConfig::default();
        if let Some(days) = journal.count("retention_days", "whole days, at least 1") {
            journal_config.retention = Duration::from_secs(u64::from(days) * 24 * 3600);
        }
        if let Some(days) = journal.count("idle_days", "whole days, at least 1") {
            journal_config.idle = Duration::from_secs(u64::from(days) * 24 * 3600);
        }
        let given = journal.names().iter().any(|name| name == "master_key");
        let master_key = secrets.read(&mut journal, "master_key");
        if matches!(store.database, Database::Postgres(_)) && !given {
            journal.missing("master_key", "the key that all nodes seal with, 64 hexadecimal digits: `{ env = \"NAME\" }` or `{ file = \"path\" }`");
        }
        journal.finish("retention_days, idle_days, master_key");
        let shared = matches!(store.database, Database::Postgres(_));
        let anchors = signing::anchors(
            root.table("anchors"),
            &mut secrets,
            &data,
            &base_domains[0],
            shared,
            &mut gateway,
        );
        let store = StoreConfig {
            journal: journal_config,
            master_key: master_key.map_or(store.master_key, MasterKey::Given),
            database: store.database,
        };

        limits(root.table("limits"), &mut gateway);
        let mut rate = root.table("rate");
        let unlimited = rate.flag("unlimited");
        if unlimited {
            gateway.rate.per_minute = None;
            for name in ["per_minute", "burst"] {
                if let Some(value) = rate.take(name) {
                    rate.unexpected(
                        name,
                        &value.to_string(),
                        "no limit beside `unlimited = true`",
                    );
                }
            }
        }
        if let Some(per_minute) = rate
            .count("per_minute", "requests per minute and key, above zero")
            .and_then(NonZeroU32::new)
        {
            gateway.rate.per_minute = Some(per_minute);
        }
        if let Some(burst) = rate
            .count("burst", "requests at once, above zero")
            .and_then(NonZeroU32::new)
        {
            gateway.rate.burst = burst;
        }
        gateway.rate.unlimited = rate
            .list("exempt", "a list of `tenant/principal`", |item| {
                item.parsed("`tenant/principal`", |text| {
                    let (tenant, principal) = text.split_once('/')?;
                    let named = tenant.parse::<TenantSlug>().is_ok() && !principal.is_empty();
                    named.then(|| text.to_owned())
                })
            })
            .into_iter()
            .collect();
        rate.finish("per_minute, burst, unlimited, exempt");

        let providers = providers(&mut root, &mut secrets);

        let prices = prices(root.table("ledger"), folder);
        let tokens = signing::tokens(root.table("tokens"), &mut secrets, &base_domains[0]);

        let values = Arc::new(values::read(&mut root, &mut secrets));

        let mut telemetry = root.table("telemetry");
        let otlp = telemetry.parsed("otlp", COLLECTOR, collector);
        telemetry.finish("otlp");
        root.finish("data, log, components, default_model, base_domains, listen, admin, database, journal, anchors, limits, rate, providers, ledger, tokens, config, secrets, tenant, telemetry");
        if !problems.is_empty() {
            return Err(problems);
        }
        Ok(Self {
            data,
            listen: address,
            ops_listen,
            base_domains,
            store,
            anchors,
            gateway,
            components,
            providers,
            default_model,
            prices,
            tokens,
            values,
            log,
            otlp,
        })
    }
}

const COLLECTOR: &str =
    "the http address of an OpenTelemetry collector, such as `http://127.0.0.1:4318`";
const ADDRESS: &str = "an address with a port, such as `127.0.0.1:8080`";

/// Spans go out in the clear: to a collector on this machine or in this network.
fn collector(text: &str) -> Result<Url, &'static str> {
    let url = text.parse::<Url>().ok();
    url.filter(|url| url.scheme() == "http" && url.has_host())
        .ok_or(COLLECTOR)
}

fn store(mut table: Reader<'_>, data: &Path, secrets: &mut Secrets<'_>) -> StoreConfig {
    let kind = table.parsed("kind", "`sqlite` or `postgres`", |text| match text {
        "sqlite" | "postgres" => Ok(text.to_owned()),
        _ => Err("`sqlite` or `postgres`"),
    });
    if kind.as_deref() != Some("postgres") {
        table.finish("kind");
        return StoreConfig::sqlite(data.join("ambit.db"));
    }
    let mut login = |table: &mut Reader<'_>, name: &str, needed: bool| {
        let given = table.names().iter().any(|given| given == name);
        let secret = secrets.read(table, name);
        if secret
            .as_ref()
            .is_some_and(|url| !is_postgres_url(url.expose()))
        {
            table.unexpected(
                name,
                "another secret",
                "a connection URL: `postgres://USER:PASSWORD@HOST/DATABASE`",
            );
        }
        if secret.is_none() && needed && !given {
            table.missing(
                name,
                "a connection URL as a secret: `{ env = \"NAME\" }` or `{ file = \"path\" }`",
            );
        }
        secret
    };
    let app = login(&mut table, "app", true);
    let operator = login(&mut table, "operator", true);
    let owner = login(&mut table, "owner", false);
    let max_connections = table
        .count("max_connections", "a whole number above zero")
        .unwrap_or(16);
    table.finish("kind, app, operator, owner, max_connections");
    let nothing = || Secret::new("");
    let postgres = PostgresConfig {
        app: app.unwrap_or_else(nothing),
        operator: operator.unwrap_or_else(nothing),
        owner,
        max_connections,
    };
    StoreConfig::postgres(postgres, MasterKey::Given(nothing()))
}

fn limits(mut table: Reader<'_>, gateway: &mut GatewayConfig) {
    const SECONDS: &str = "whole seconds, at least 1";
    const BODY: &str = "KiB of a request body, 1 to 32768";
    if let Some(kib) = table.count("body_kib", BODY) {
        // A body is an event, and the journal takes no event of more than twice that.
        if kib > 32_768 {
            table.unexpected("body_kib", &kib.to_string(), BODY);
        }
        gateway.max_body = (kib as usize).saturating_mul(1024);
    }
    if let Some(seconds) = table.count("deadline_seconds", SECONDS) {
        gateway.deadline = Duration::from_secs(seconds.into());
    }
    if let Some(seconds) = table.count("drain_seconds", SECONDS) {
        gateway.server.drain = Duration::from_secs(seconds.into());
    }
    if let Some(connections) = table.count("connections", "open connections, at least 1") {
        gateway.server.max_connections = connections as usize;
    }
    table.finish("body_kib, deadline_seconds, drain_seconds, connections");
}

fn providers(root: &mut Reader<'_>, secrets: &mut Secrets<'_>) -> Vec<ProviderConfig> {
    let mut table = root.table("providers");
    let mut providers = Vec::new();
    for name in table.names() {
        let parsed = name.parse::<ProviderName>();
        let mut provider = table.table(&name);
        match parsed {
            Ok(parsed) if parsed.as_str() != "extractive" => {
                let url = provider.required(
                    "url",
                    "the http or https address of an OpenAI-compatible server",
                    str::parse::<Url>,
                );
                let key = secrets.read(&mut provider, "key");
                if let Some(url) = url {
                    let mut openai = OpenAiConfig::new(url.clone());
                    openai.api_key = key.clone();
                    if let Err(why) = openai.check() {
                        // An address may hold a password.
                        provider.unexpected(
                            "url",
                            &shown(&url),
                            &format!("an address that can be used: {why}"),
                        );
                    }
                    providers.push(ProviderConfig {
                        name: parsed,
                        url,
                        key,
                    });
                }
                provider.finish("url, key");
            }
            _ => provider.unexpected(
                "",
                &name,
                "a provider's name: lower-case letters, digits and inner hyphens, not `extractive`",
            ),
        }
    }
    providers
}

fn prices(mut table: Reader<'_>, folder: &Path) -> PriceTable {
    let shipped = PriceTable::shipped();
    let file = table.text("prices", "a price file");
    let own = file.and_then(|file| {
        let read = std::fs::read_to_string(folder.join(&file)).map_err(|error| error.to_string());
        let parsed = read.and_then(|text| PriceTable::parse(&text).map_err(|error| chain(&error)));
        match parsed {
            Ok(own) => Some(own),
            Err(why) => {
                table.unexpected(
                    "prices",
                    &file,
                    &format!("a price file that can be used ({why})"),
                );
                None
            }
        }
    });
    table.finish("prices");
    match own {
        Some(own) => shipped.overridden_by(own),
        None => shipped,
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", chain(source)),
        None => error.to_string(),
    }
}

/// Where it leads, without what may be secret in it.
fn shown(url: &Url) -> String {
    format!("{}://{}", url.scheme(), url.host_str().unwrap_or_default())
}

#[cfg(test)]
mod tests;
