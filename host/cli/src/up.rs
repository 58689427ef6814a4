//! `ambit up`: `serve` with a generated configuration, two demo tenants, and lines ready to paste.

use crate::{
    args::{Format, Up},
    client::Client,
    compose,
    config::Config,
    demo,
    installation::{Installation, Keys},
    serve::{self, Listening},
    shipped, telemetry,
};
use ambit_session::ModelName;
use ambit_types::Secret;
use anyhow::Context as _;
use serde_json::json;
use std::{net::ToSocketAddrs as _, process::ExitCode};

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
    std::fs::write(&path, configuration(&up))
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
    listening.announce(&installation, &config.gateway.admin_key)?;
    say(&up, &keys, &listening, model.as_ref())?;
    serve::serve(host, listening).await
}

/// The generated `ambit.toml`. Keys are not in it.
fn configuration(up: &Up) -> String {
    let mut text = format!(
        "# Written by `ambit up` at every start; for a configuration of your own, copy it and use `ambit serve --config`.\n\
         data = \".\"\nlog = \"{}\"\nbase_domains = [\"localhost\"]\n\n[listen]\ndata = \"{}\"\n",
        serve::environment("AMBIT_LOG")
            .unwrap_or_else(|| "warn".to_owned())
            .replace(['"', '\\', '\n'], ""),
        up.listen
    );
    let has_key = serve::environment("OPENAI_API_KEY").is_some();
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
    if let Some(collector) = serve::environment("OTEL_EXPORTER_OTLP_ENDPOINT") {
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
    up: &Up,
    keys: &Keys,
    listening: &Listening,
    model: Option<&ModelName>,
) -> anyhow::Result<()> {
    let tenants: Vec<_> = demo::TENANTS
        .iter()
        .filter_map(|tenant| keys.tenants.get(tenant.slug).map(|key| json!({ "slug": tenant.slug, "host": format!("{}.localhost", tenant.slug), "api_key": key })))
        .collect();
    if up.format == Format::Json {
        println!(
            "{}",
            json!({ "url": listening.url(), "ops_url": listening.ops_url(), "admin_key": keys.admin_key, "tenants": tenants })
        );
        return Ok(());
    }
    let port = listening.port();
    println!("Ambit is ready at {}.", listening.url());
    match model {
        Some(model) => println!("Agents use {model}."),
        None => println!(
            "Agents answer with sentences of their documents; for a model: OPENAI_API_KEY=… or --provider-url."
        ),
    }
    println!("\n  admin key   {}", keys.admin_key);
    for tenant in demo::TENANTS {
        let key = keys.tenants.get(tenant.slug).map_or("-", String::as_str);
        println!(
            "  {:<11} http://{}.localhost:{port}/v1   {key}",
            tenant.slug, tenant.slug
        );
    }
    let acme = demo::TENANTS[0].slug;
    let key = keys.tenants.get(acme).map_or("", String::as_str);
    let question = demo::QUESTION;
    println!("\nTry it:\n");
    println!(
        "  curl http://{acme}.localhost:{port}/v1/chat/completions -H 'authorization: Bearer {key}' -H 'content-type: application/json' \
         -d '{{\"model\":\"assistant\",\"stream\":true,\"messages\":[{{\"role\":\"user\",\"content\":\"{question}\"}}]}}'\n"
    );
    // Some systems resolve names under localhost, some do not; the line must work here.
    let resolves = (format!("{acme}.localhost"), port)
        .to_socket_addrs()
        .is_ok_and(|mut addresses| addresses.any(|address| address.ip().is_loopback()));
    let client = if resolves {
        format!("OpenAI(base_url='http://{acme}.localhost:{port}/v1', api_key='{key}')")
    } else {
        format!(
            "OpenAI(base_url='http://127.0.0.1:{port}/v1', api_key='{key}', default_headers={{'Host': '{acme}.localhost:{port}'}})"
        )
    };
    println!(
        "  python3 -c \"from openai import OpenAI; print({client}.chat.completions.create(model='assistant', messages=[{{'role': 'user', 'content': '{question}'}}]).choices[0].message.content)\"\n"
    );
    println!("  ambit chat --data {} '{question}'\n", up.data.display());
    println!("Stop with Ctrl-C; start again with the same command.");
    Ok(())
}
