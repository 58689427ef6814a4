//! Logs as JSON lines on stderr, and spans to an OpenTelemetry collector where one is configured. No prompt text and no secret is logged.

mod causes;

use anyhow::Context as _;
use causes::Causes;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{SpanExporter as Otlp, WithExportConfig as _};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{SdkTracerProvider, SpanData, SpanExporter},
};
use std::{future::poll_fn, pin::pin, time::Duration};
use tokio::runtime::Handle;
use tracing::{Level, level_filters::LevelFilter};
use tracing_subscriber::{
    EnvFilter, Layer as _, filter::filter_fn, layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};
use url::Url;

/// A stopping process waits no longer than this for the collector to take the last spans.
const FLUSH: Duration = Duration::from_secs(3);

/// Ends the export of spans; drop it last.
pub(crate) struct Telemetry(Option<SdkTracerProvider>);

/// Starts logging with this filter. Call once, inside the runtime.
pub(crate) fn start(filter: &str, otlp: Option<&Url>) -> anyhow::Result<Telemetry> {
    let filter =
        EnvFilter::try_new(filter).with_context(|| format!("`{filter}` is not a log filter"))?;
    let logs = tracing_subscriber::fmt::layer()
        .json()
        .flatten_event(true)
        .map_event_format(Causes)
        .with_writer(std::io::stderr)
        .with_filter(filter);
    let provider = otlp.map(exporter).transpose()?;
    let spans = provider.as_ref().map(|provider| {
        // The host's own spans, and events from `info` on: libraries' would multiply the volume without telling more.
        let ours = filter_fn(|about| {
            about.target().starts_with("ambit")
                && (about.is_span() || *about.level() <= Level::INFO)
        });
        tracing_opentelemetry::layer()
            .with_tracer(provider.tracer("ambit"))
            .with_filter(ours.with_max_level_hint(LevelFilter::DEBUG))
    });
    tracing_subscriber::registry()
        .with(logs)
        .with(spans)
        .try_init()
        .context("cannot start logging")?;
    Ok(Telemetry(provider))
}

fn exporter(collector: &Url) -> anyhow::Result<SdkTracerProvider> {
    let exporter = Otlp::builder()
        .with_http()
        .with_endpoint(traces(collector))
        .build()
        .context("cannot export spans")?;
    let resource = Resource::builder().with_service_name("ambit").build();
    Ok(SdkTracerProvider::builder()
        .with_batch_exporter(OnRuntime {
            exporter,
            runtime: Handle::current(),
        })
        .with_resource(resource)
        .build())
}

/// Where a collector takes spans. Its address may have a path of its own.
fn traces(collector: &Url) -> String {
    format!("{}/v1/traces", collector.as_str().trim_end_matches('/'))
}

/// Sends with the process's runtime. Batches are made on a thread of their own, so that a collector which is slow or gone costs
/// spans and no request; but that thread has no timers and no sockets.
#[derive(Debug)]
struct OnRuntime {
    exporter: Otlp,
    runtime: Handle,
}

impl SpanExporter for OnRuntime {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let mut sending = pin!(self.exporter.export(batch));
        poll_fn(|context| {
            let _inside = self.runtime.enter();
            sending.as_mut().poll(context)
        })
        .await
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        if let Some(provider) = self.0.take()
            && let Err(error) = provider.shutdown_with_timeout(FLUSH)
        {
            tracing::warn!(%error, "the last spans could not be exported");
        }
    }
}

/// Chooses the one TLS implementation, before anything uses TLS. A second call changes nothing.
pub(crate) fn use_crypto() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_collectors_address_may_have_a_path() {
        for (collector, traces) in [
            ("http://127.0.0.1:4318", "http://127.0.0.1:4318/v1/traces"),
            ("http://127.0.0.1:4318/", "http://127.0.0.1:4318/v1/traces"),
            ("http://collector/otlp", "http://collector/otlp/v1/traces"),
        ] {
            assert_eq!(super::traces(&collector.parse().unwrap()), traces);
        }
    }
}
