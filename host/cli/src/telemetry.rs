//! Logs as JSON lines on stderr, and spans to an OpenTelemetry collector where one is configured. No prompt text and no secret is logged.

use anyhow::Context as _;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::{Resource, trace::SdkTracerProvider};
use tracing_subscriber::{
    EnvFilter, Layer as _, layer::SubscriberExt as _, util::SubscriberInitExt as _,
};
use url::Url;

/// Ends the export of spans; drop it last.
pub(crate) struct Telemetry(Option<SdkTracerProvider>);

/// Starts logging with this filter. Call once.
pub(crate) fn start(filter: &str, otlp: Option<&Url>) -> anyhow::Result<Telemetry> {
    let filter =
        EnvFilter::try_new(filter).with_context(|| format!("`{filter}` is not a log filter"))?;
    let logs = tracing_subscriber::fmt::layer()
        .json()
        .flatten_event(true)
        .with_writer(std::io::stderr)
        .with_filter(filter);
    let provider = otlp.map(exporter).transpose()?;
    let spans = provider.as_ref().map(|provider| {
        // The host's own spans: libraries' would multiply the volume without telling more.
        let ours = EnvFilter::new("off,ambit=info,ambit_gateway=info,ambit_session=info,ambit_capabilities=info,ambit_runtime=info");
        tracing_opentelemetry::layer().with_tracer(provider.tracer("ambit")).with_filter(ours)
    });
    tracing_subscriber::registry()
        .with(logs)
        .with(spans)
        .try_init()
        .context("cannot start logging")?;
    Ok(Telemetry(provider))
}

fn exporter(address: &Url) -> anyhow::Result<SdkTracerProvider> {
    let exporter = SpanExporter::builder()
        .with_http()
        .with_endpoint(address.join("v1/traces")?.to_string())
        .build()
        .context("cannot export spans")?;
    let resource = Resource::builder().with_service_name("ambit").build();
    Ok(SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_resource(resource)
        .build())
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        if let Some(provider) = self.0.take()
            && let Err(error) = provider.shutdown()
        {
            tracing::warn!(%error, "the last spans could not be exported");
        }
    }
}

/// Chooses the one TLS implementation, before anything uses TLS. A second call changes nothing.
pub(crate) fn use_crypto() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}
