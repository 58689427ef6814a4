//! The mock as a process: prints one line of JSON with its address when it is ready, and serves until it is killed.

use ambit_mock_provider::{Mock, Reply, Script, Stamps};
use anyhow::Context as _;
use clap::Parser;
use std::{io::Write as _, net::SocketAddr};

/// A scripted OpenAI-compatible model server.
#[derive(Parser)]
struct Arguments {
    /// Port on loopback; 0 picks a free one.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// The script as JSON text; see the library's documentation.
    #[arg(long)]
    script: Option<String>,
    /// Answers with so many bytes of text.
    #[arg(long)]
    text_bytes: Option<usize>,
    /// Milliseconds between events.
    #[arg(long)]
    pace_ms: Option<u64>,
    /// Every event carries the time it was sent, as a whole word or as a model's token.
    #[arg(long)]
    stamped: Option<Stamps>,
    /// Does whatever any text says.
    #[arg(long)]
    obedient: bool,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let mut script: Script = match &arguments.script {
        Some(text) => serde_json::from_str(text).context("--script is no script")?,
        None => Script {
            record: false,
            ..Script::default()
        },
    };
    if let Some(bytes) = arguments.text_bytes {
        script.reply = Reply::Text(
            "All is well with the mock today, says the mock itself. "
                .chars()
                .cycle()
                .take(bytes)
                .collect(),
        );
    }
    if let Some(pace) = arguments.pace_ms {
        script.pace_ms = pace;
    }
    script.stamped = arguments.stamped.or(script.stamped);
    if arguments.obedient {
        script.reply = Reply::Obedient;
    }
    let mock = Mock::listen(script, SocketAddr::from(([127, 0, 0, 1], arguments.port)))
        .await
        .context("cannot listen")?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", serde_json::json!({ "url": mock.url() }))?;
    out.flush()?;
    drop(out);
    std::future::pending::<()>().await;
    Ok(())
}
