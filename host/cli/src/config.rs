//! `ambit.toml`: read, checked as a whole, built. Every mistake is reported, together, with its key, its value and what was expected.
//!
//! Only this file and the command line read the environment. docs/configuration.md is the reference; a test parses its example.

mod secrets;
mod values;

use ambit_capabilities::tool::Values;
use ambit_gateway::GatewayConfig;
use ambit_inference::OpenAiConfig;
use ambit_ledger::PriceTable;
use ambit_policy::{Problem, Problems, Reader, token::Mode};
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

/// How the journal is anchored.
#[derive(Debug)]
pub(crate) struct AnchorConfig {
    /// What signs: 64 hexadecimal digits. None: a file in the data folder, made where there is none.
    pub(crate) key: Option<Secret>,
    /// What the key is called in notes.
    pub(crate) name: String,
    pub(crate) folder: PathBuf,
    pub(crate) interval: Duration,
}

/// How capability tokens are signed and taken.
#[derive(Debug)]
pub(crate) struct TokenConfig {
    /// What signs: 64 hexadecimal digits. None: a file in the data folder, made where there is none; on a database that nodes share, no
    /// tokens.
    pub(crate) key: Option<Secret>,
    /// Their `iss`.
    pub(crate) issuer: String,
    pub(crate) mode: Mode,
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
        let given = journal.names().iter().any(|name| name == "master_key");
        let master_key = secrets.read(&mut journal, "master_key");
        if matches!(store.database, Database::Postgres(_)) && !given {
            journal.missing("master_key", "the key that all nodes seal with, 64 hexadecimal digits: `{ env = \"NAME\" }` or `{ file = \"path\" }`");
        }
        journal.finish("retention_days, master_key");
        let shared = matches!(store.database, Database::Postgres(_));
        let anchors = anchors(
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
        let tokens = tokens(root.table("tokens"), &mut secrets, &base_domains[0]);

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

fn anchors(
    mut table: Reader<'_>,
    secrets: &mut Secrets<'_>,
    data: &Path,
    domain: &str,
    shared: bool,
    gateway: &mut GatewayConfig,
) -> AnchorConfig {
    let given = table.names().iter().any(|name| name == "key");
    let key = secrets.read(&mut table, "key");
    if key.as_ref().is_some_and(|key| seed(key.expose()).is_none()) {
        table.unexpected("key", "another secret", "64 hexadecimal digits");
    }
    if shared && !given {
        table.missing("key", "the key that all nodes sign with, 64 hexadecimal digits: `{ env = \"NAME\" }` or `{ file = \"path\" }`");
    }
    let name = table.parsed("name", "a name without spaces and `+`", |text| {
        let good = !text.is_empty() && !text.contains(|c: char| c == '+' || c.is_whitespace());
        good.then(|| text.to_owned())
            .ok_or("a name without spaces and `+`")
    });
    let folder = table.text("folder", "a folder");
    let interval = table.count("interval_seconds", "whole seconds, at least 1");
    let stop = table.count("stop_after_seconds", "whole seconds, at least 1");
    gateway.unanchored = stop.map(|seconds| Duration::from_secs(seconds.into()));
    table.finish("key, name, folder, interval_seconds, stop_after_seconds");
    AnchorConfig {
        key,
        name: name.unwrap_or_else(|| domain.to_owned()),
        folder: folder.map_or_else(|| data.join("anchors"), |path| secrets.folder.join(path)),
        interval: Duration::from_secs(interval.map_or(10, u64::from)),
    }
}

/// The seed of a signing key, from its text.
pub(crate) fn seed(text: &str) -> Option<[u8; 32]> {
    let mut seed = [0; 32];
    hex::decode_to_slice(text.trim(), &mut seed).ok()?;
    Some(seed)
}

fn limits(mut table: Reader<'_>, gateway: &mut GatewayConfig) {
    const SECONDS: &str = "whole seconds, at least 1";
    if let Some(kib) = table.count("body_kib", "KiB of a request body, at least 1") {
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

fn tokens(mut table: Reader<'_>, secrets: &mut Secrets<'_>, domain: &str) -> TokenConfig {
    let key = secrets.read(&mut table, "key");
    if key.as_ref().is_some_and(|key| seed(key.expose()).is_none()) {
        table.unexpected("key", "another secret", "64 hexadecimal digits");
    }
    let issuer = table.parsed(
        "issuer",
        "1 to 1024 bytes without control characters",
        |text| {
            let good = (1..=1024).contains(&text.len()) && !text.chars().any(char::is_control);
            good.then(|| text.to_owned())
                .ok_or("1 to 1024 bytes without control characters")
        },
    );
    let mode = table.parsed(
        "mode",
        "`enforced`, `warn` or `disabled`",
        str::parse::<Mode>,
    );
    table.finish("key, issuer, mode");
    TokenConfig {
        key,
        issuer: issuer.unwrap_or_else(|| domain.to_owned()),
        mode: mode.unwrap_or_default(),
    }
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
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, String> {
        let environment = |name: &str| match name {
            "SET" => Some("value".to_owned()),
            "LONG" => Some("a-long-value".to_owned()),
            _ => None,
        };
        Config::parse(text, Path::new("/nowhere"), &environment, None)
            .map_err(|problems| Problems(problems).to_string())
    }

    #[test]
    fn the_documented_example_is_valid() {
        let documentation = include_str!("../../../docs/configuration.md");
        let example = documentation
            .split("```toml")
            .nth(1)
            .and_then(|rest| rest.split("```").next())
            .unwrap();
        let environment = |name: &str| {
            Some(match name {
                "AMBIT_ANCHOR_SEED" | "AMBIT_TOKEN_SEED" => "5a".repeat(32),
                _ if name.starts_with("AMBIT_DATABASE_") => "postgres://user:word@db/ambit".into(),
                _ => "some-value".to_owned(),
            })
        };
        Config::parse(example, Path::new("."), &environment, None)
            .map_err(Problems)
            .unwrap();
    }

    #[test]
    fn a_short_file_has_the_defaults() {
        let config = parse("admin.key = { env = \"SET\" }").unwrap();
        assert_eq!(config.listen.to_string(), "127.0.0.1:8080");
        assert_eq!(config.base_domains, ["localhost"]);
        assert_eq!(config.data, Path::new("/nowhere/ambit-data"));
        let config = "admin.key = { env = \"SET\" }\nbase_domains = [\"Agents.Example.com.\"]";
        assert_eq!(parse(config).unwrap().base_domains, ["agents.example.com"]);
        let message = parse("admin.key = { env = \"SET\" }\n[rate]\nburst = 0").unwrap_err();
        assert!(message.contains("rate.burst"), "{message}");
    }

    #[test]
    fn anchors_need_a_key_that_is_one_and_a_name_that_can_be_one() {
        let anchors = |text: &str| {
            parse(&format!(
                "admin.key = {{ env = \"SET\" }}\n[anchors]\n{text}"
            ))
        };
        let good =
            anchors("folder = \"/mnt/anchors\"\ninterval_seconds = 3\nstop_after_seconds = 60")
                .unwrap();
        assert_eq!(good.anchors.folder, Path::new("/mnt/anchors"));
        assert_eq!(good.anchors.name, "localhost");
        assert_eq!(good.anchors.interval, Duration::from_secs(3));
        assert_eq!(good.gateway.unanchored, Some(Duration::from_secs(60)));
        for (bad, word) in [
            ("key = { env = \"LONG\" }", "64 hexadecimal digits"),
            ("name = \"a b\"", "without spaces"),
            ("interval_seconds = 0", "at least 1"),
            ("bucket = \"x\"", "key, name, folder"),
        ] {
            let message = anchors(bad).unwrap_err();
            assert!(
                message.contains("anchors.") && message.contains(word),
                "{message}"
            );
            assert!(!message.contains("a-long-value"), "{message}");
        }
    }

    #[test]
    fn tokens_have_a_key_an_issuer_and_a_mode() {
        let tokens = |text: &str| {
            parse(&format!(
                "admin.key = {{ env = \"SET\" }}\n[tokens]\n{text}"
            ))
        };
        let usual = tokens("").unwrap().tokens;
        assert_eq!(
            (usual.issuer.as_str(), usual.mode),
            ("localhost", Mode::Enforced)
        );
        let good = tokens("issuer = \"https://ambit.example\"\nmode = \"warn\"")
            .unwrap()
            .tokens;
        assert_eq!(
            (good.issuer.as_str(), good.mode),
            ("https://ambit.example", Mode::Warn)
        );
        for (bad, word) in [
            ("key = { env = \"LONG\" }", "64 hexadecimal digits"),
            ("mode = \"off\"", "one of `enforced` `warn` `disabled`"),
            ("issuer = \"\"", "1 to 1024 bytes"),
            ("audience = \"x\"", "key, issuer, mode"),
        ] {
            let message = tokens(bad).unwrap_err();
            assert!(
                message.contains("tokens.") && message.contains(word),
                "{message}"
            );
            assert!(!message.contains("a-long-value"), "{message}");
        }
    }

    #[test]
    fn an_own_price_file_goes_before_the_shipped_one_and_says_what_is_wrong_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("prices.toml");
        let config = || {
            let text = "admin.key = { env = \"SET\" }\n[ledger]\nprices = \"prices.toml\"";
            let environment = |_: &str| Some("value".to_owned());
            Config::parse(text, folder.path(), &environment, None)
                .map_err(|problems| Problems(problems).to_string())
        };
        let message = config().unwrap_err();
        assert!(
            message.contains("ledger.prices: found prices.toml"),
            "{message}"
        );
        for (text, word) in [
            ("price = [", "no TOML"),
            (
                "price = [{ provider = \"p\", model = \"m\", effective_from = 2026-01-01, input = 1.5, output = \"1\" }]",
                "price[0].input is 1.5",
            ),
        ] {
            std::fs::write(&file, text).unwrap();
            let message = config().unwrap_err();
            assert!(message.contains(word), "{message}");
        }
        let row = "price = [{ provider = \"p\", model = \"m\", effective_from = 2026-01-01, input = \"1\", output = \"1\" }]";
        std::fs::write(&file, row).unwrap();
        let prices = config().unwrap().prices;
        let today = ambit_ledger::Day::from_ms(1_795_300_000_000);
        assert!(prices.price("p", "m", today).is_ok());
        assert!(prices.price("openai", "gpt-4o-mini", today).is_ok());
    }

    #[test]
    fn all_mistakes_are_reported_together() {
        let message = parse(
            "colour = 1\nlog = \"ambit=loud\"\nbase_domains = [\"münchen.example\"]\nadmin.key = \"clear text\"\n[listen]\ndata = \"0.0.0.0:80\"\n[database]\nkind = \"oracle\"\n[rate]\nunlimited = true\nper_minute = 5\nexempt = [\"acme\"]\n\
             [providers.ftp]\nurl = \"ftp://x\"\n[providers.login]\nurl = \"http://user:word@x\"\n\
             [providers.openai]\nkey = { env = \"UNSET\" }\n[providers.\"A b\"]\nurl = \"http://x\"\n\
             [secrets]\napi-token = \"clear text\"\nshort = { env = \"SET\" }\nA_b = { env = \"SET\" }\n\
             [config]\n\"a b\" = \"x\"\nport = 5\nregion = { env = \"GONE\" }\n\
             [tenant.\"No slug\".config]\na = \"x\"\n[tenant.acme]\ncolour = 1\n[tenant.acme.secrets]\nown = { file = \"no/such\" }",
        )
        .unwrap_err();
        for part in [
            "colour",
            "log",
            "admin.key",
            "listen.ops",
            "oracle",
            "providers.openai.url",
            "UNSET",
            "A b",
            "secrets.api-token: found no secret, expected a secret: `{ env",
            "secrets.short: found a secret, expected 8 to 4096 visible ASCII characters",
            "secrets.A_b: found a secret, expected 1 to 64 lower-case letters",
            "config.a b",
            "config.port",
            "config.region: found no value, expected the environment variable GONE to be set",
            "tenant.No slug",
            "tenant.acme.colour",
            "tenant.acme.secrets.own: found no secret, expected a readable file no/such",
            "log: found ambit=loud",
            "base_domains[0]: found `münchen.example`, expected a domain in A-labels",
            "rate.per_minute: found 5, expected no limit beside `unlimited = true`",
            "rate.exempt[0]: found `acme`, expected `tenant/principal`",
            "providers.ftp.url: found ftp://x",
            "providers.login.url: found http://x, expected an address that can be used",
        ] {
            assert!(message.contains(part), "{part} in:\n{message}");
        }
        assert!(
            !message.contains("clear text") && !message.contains("word"),
            "{message}"
        );
    }

    #[test]
    fn a_name_is_not_a_secret_here_and_a_plain_value_there() {
        let message = parse(
            "admin.key = { env = \"SET\" }\n[secrets]\ntoken = { env = \"LONG\" }\n[tenant.acme.config]\ntoken = \"x\"",
        )
        .unwrap_err();
        assert_eq!(
            message,
            "secrets.token: found a secret, expected a name that is no plain value elsewhere in this file"
        );
    }

    #[test]
    fn postgres_needs_its_logins() {
        let message =
            parse("admin.key = { env = \"SET\" }\n[database]\nkind = \"postgres\"").unwrap_err();
        assert!(
            message.contains("database.app")
                && message.contains("database.operator")
                && message.contains("journal.master_key: missing"),
            "{message}"
        );
        let url = parse("admin.key = { env = \"SET\" }\n[database]\nkind = \"postgres\"\napp = { env = \"LONG\" }").unwrap_err();
        assert!(
            url.contains("database.app: found another secret, expected a connection URL")
                && !url.contains("a-long-value"),
            "{url}"
        );
    }
}
