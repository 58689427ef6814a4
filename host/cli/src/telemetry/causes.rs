//! A line of the log says of an error what caused it, and what caused that; the JSON format alone says of it the first sentence.

use serde_json::{Map, Value};
use std::{error::Error, fmt};
use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    fmt::{FmtContext, FormatEvent, FormatFields, format::Writer},
    registry::LookupSpan,
};

/// As the format inside it, with the causes of errors.
pub(super) struct Causes<F>(pub(super) F);

impl<S, N, F> FormatEvent<S, N> for Causes<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut chains = Chains(Map::new());
        event.record(&mut chains);
        if chains.0.is_empty() {
            return self.0.format_event(context, writer, event);
        }
        let mut line = String::new();
        self.0
            .format_event(context, Writer::new(&mut line), event)?;
        let mut fields: Map<_, _> = serde_json::from_str(&line).map_err(|_| fmt::Error)?;
        fields.extend(chains.0);
        writeln!(writer, "{}", Value::Object(fields))
    }
}

/// The errors of an event that have a cause, each in one text.
struct Chains(Map<String, Value>);

impl Visit for Chains {
    fn record_error(&mut self, field: &Field, error: &(dyn Error + 'static)) {
        let mut text = error.to_string();
        let mut cause = error.source();
        if cause.is_none() {
            return;
        }
        while let Some(error) = cause {
            text = format!("{text}: {error}");
            cause = error.source();
        }
        self.0.insert(field.name().to_owned(), text.into());
    }

    fn record_debug(&mut self, _: &Field, _: &dyn fmt::Debug) {}
}

#[cfg(test)]
mod tests {
    use super::Causes;
    use std::{
        error::Error,
        io::{self, Write},
        sync::{Arc, Mutex},
    };
    use tracing_subscriber::{layer::SubscriberExt as _, registry};

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_has_the_causes_of_an_error_and_is_otherwise_as_it_was() {
        let lines = Lines::default();
        let sink = lines.clone();
        let json = tracing_subscriber::fmt::layer()
            .json()
            .flatten_event(true)
            .without_time()
            .map_event_format(Causes)
            .with_writer(move || sink.clone());
        tracing::subscriber::with_default(registry().with(json), || {
            let error = anyhow::anyhow!("the last").context("the middle");
            let error = error.context("the first");
            let error: &(dyn Error + 'static) = error.as_ref();
            let _span = tracing::info_span!("around", tenant = "acme").entered();
            tracing::warn!(error, after = 1, "it failed");
            let alone: &(dyn Error + 'static) = &io::Error::other("alone");
            tracing::warn!(error = alone, "it failed");
            tracing::info!("nothing failed");
        });
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        let rest = "\"target\":\"ambit::telemetry::causes::tests\",\"span\":{\"tenant\":\"acme\",\"name\":\"around\"},\
                    \"spans\":[{\"tenant\":\"acme\",\"name\":\"around\"}]}\n";
        let line = |level: &str, said: &str| format!("{{\"level\":\"{level}\",{said},{rest}");
        let expected = [
            line(
                "WARN",
                r#""message":"it failed","error":"the first: the middle: the last","after":1"#,
            ),
            line("WARN", r#""message":"it failed","error":"alone""#),
            line("INFO", r#""message":"nothing failed""#),
        ];
        assert_eq!(text, expected.concat());
    }
}
