//! `ambit up`: `serve` with a generated configuration, two demo tenants, and lines ready to paste.

use crate::{
    args::{Format, Up},
    client::Client,
    compose,
    config::Config,
    demo,
    installation::{Installation, Keys},
    serve::{self, Listening, Signals},
    shipped, telemetry,
    welcome::{self, Welcome},
};
use ambit_session::ModelName;
use ambit_types::Secret;
use anyhow::Context as _;
use std::process::ExitCode;

const OPENAI: &str = "https://api.openai.com/v1";

pub(crate) async fn run(up: Up) -> anyhow::Result<ExitCode> {
    let installation = Installation::open(&up.data)?;
    let _lock = serve::take(&installation)?;
    let mut keys = match installation.keys()? {
        Some(keys) => keys,
        None => {
            let keys = serve::new_keys()?;
            installation.keep_keys(&keys)?;
            keys
        }
    };
    let path = installation.path("ambit.toml");
    std::fs::write(&path, configuration(&up, serve::environment))
        .with_context(|| format!("cannot write {}", path.display()))?;
    let mut config = Config::read(
        &path,
        &serve::environment,
        Some(Secret::new(keys.admin_key.as_str())),
    )?;
    config.gateway.rate.unlimited = demo::TENANTS
        .iter()
        .map(|tenant| format!("{}/{}", tenant.slug, demo::PRINCIPAL))
        .collect();
    let _telemetry = telemetry::start(&config.log, config.otlp.as_ref())?;
    let components = shipped::folder(up.components.as_deref())?;

    let host = compose::host(&config, Some(&components)).await?;
    let client = Client::in_process(host.gateway.clone(), &keys.admin_key);
    let model = model(&up, &host.platform.providers).await?;
    demo::make(
        &client,
        &installation,
        &mut keys,
        model.as_ref(),
        up.format == Format::Text,
    )
    .await?;
    let listening = Listening::bind(&config).await?;
    let signals = Signals::take()?;
    installation.keep_configuration(&path)?;
    listening.announce(&installation, &config.gateway.admin_key)?;
    say(up.format, &installation, &keys, &listening, model.as_ref())?;
    serve::serve(host, listening, signals).await
}

/// The generated `ambit.toml`. Keys are not in it.
fn configuration(up: &Up, environment: impl Fn(&str) -> Option<String>) -> String {
    let mut text = format!(
        "# Written by `ambit up` at every start; for a configuration of your own, copy it and use `ambit serve --config`.\n\
         data = \".\"\nlog = \"{}\"\nbase_domains = [\"localhost\"]\n\n[listen]\ndata = \"{}\"\n",
        environment("AMBIT_LOG")
            .unwrap_or_else(|| "warn".to_owned())
            .replace(['"', '\\', '\n'], ""),
        up.listen
    );
    if !up.listen.ip().is_loopback() {
        // The tenants' listener is then nobody's who may administrate.
        text.push_str("ops = \"127.0.0.1:0\"\n");
    }
    let has_key = environment("OPENAI_API_KEY").is_some();
    if up.provider_url.is_some() || has_key {
        let url = up.provider_url.as_ref().map_or(OPENAI, url::Url::as_str);
        text.push_str(&format!(
            "\n[providers.openai]\nurl = {}\n",
            toml::Value::String(url.to_owned())
        ));
        if has_key {
            text.push_str("key = { env = \"OPENAI_API_KEY\" }\n");
        }
    }
    if let Some(collector) = environment("OTEL_EXPORTER_OTLP_ENDPOINT") {
        text.push_str(&format!(
            "\n[telemetry]\notlp = {}\n",
            toml::Value::String(collector)
        ));
    }
    text
}

/// The demo agents' model: the named one, or the first the provider lists; none without a provider.
async fn model(
    up: &Up,
    providers: &ambit_inference::Providers,
) -> anyhow::Result<Option<ModelName>> {
    if !providers.names().any(|name| name.as_str() == "openai") {
        return Ok(None);
    }
    let model = match &up.model {
        Some(model) => model.clone(),
        None => {
            let models = providers
                .models("openai")
                .await
                .context("the provider does not list its models; name one with --model")?;
            let first = models
                .first()
                .context("the provider lists no models; name one with --model")?;
            first.id.clone()
        }
    };
    format!("openai/{model}")
        .parse()
        .map(Some)
        .map_err(|why: String| anyhow::anyhow!(why))
}

#[allow(clippy::print_stdout, reason = "what the command answers")]
fn say(
    format: Format,
    installation: &Installation,
    keys: &Keys,
    listening: &Listening,
    model: Option<&ModelName>,
) -> anyhow::Result<()> {
    let program = std::env::current_exe().context("cannot tell where this program is")?;
    let welcome = Welcome {
        address: listening.address(),
        ops: listening.ops_address(),
        keys,
        model,
        program: &program,
        data: installation.folder(),
        resolves: welcome::resolves(listening.address()),
    };
    match format {
        Format::Json => println!("{}", welcome.json()),
        Format::Text => println!("{}", welcome.text()),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn config(listen: &str, provider_url: Option<&str>, openai_key: Option<&str>) -> Config {
        let up = Up {
            data: "data".into(),
            listen: listen.parse().unwrap(),
            provider_url: provider_url.map(|url| url.parse().unwrap()),
            model: None,
            components: None,
            format: Format::Text,
        };
        let key = Some(Secret::new("adm_1"));
        let environment = |name: &str| {
            let key = openai_key.filter(|_| name == "OPENAI_API_KEY");
            key.map(str::to_owned)
        };
        let text = configuration(&up, environment);
        assert!(openai_key.is_none_or(|key| !text.contains(key)), "{text}");
        Config::parse(&text, Path::new("."), &environment, key).unwrap()
    }

    #[test]
    fn a_key_of_openai_alone_is_a_provider_and_so_is_an_address() {
        let provider = |url, key| {
            let config = config("127.0.0.1:0", url, key);
            let provider = config.providers.first();
            provider.map(|provider| {
                let key = provider.key.as_ref().map(|key| key.expose().to_owned());
                (provider.name.to_string(), provider.url.to_string(), key)
            })
        };
        let found = |url: &str, key: Option<&str>| {
            Some(("openai".to_owned(), url.to_owned(), key.map(str::to_owned)))
        };
        assert_eq!(provider(None, None), None);
        let key = Some("sk-1");
        assert_eq!(provider(None, key), found("https://api.openai.com/v1", key));
        let near = "http://127.0.0.1:11434/v1";
        assert_eq!(provider(Some(near), None), found(near, None));
        assert_eq!(provider(Some(near), key), found(near, key));
    }

    #[test]
    fn off_loopback_the_operators_routes_stay_on_loopback() {
        let config = |listen| config(listen, None, None);
        assert_eq!(config("127.0.0.1:8080").ops_listen, None);
        assert_eq!(config("[::1]:0").ops_listen, None);
        for listen in ["0.0.0.0:8080", "[::]:0", "10.0.0.5:80"] {
            let config = config(listen);
            assert_eq!(config.listen, listen.parse().unwrap());
            assert!(config.ops_listen.unwrap().ip().is_loopback(), "{listen}");
        }
    }
}
