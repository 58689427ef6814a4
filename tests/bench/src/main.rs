//! The load driver of `cargo xtask bench`.
//!
//! Every number is a ratio between servers that were measured in the same run, in interleaved rounds, on the same machine; the unit is
//! requests per second of the *server's* CPU time (`utime + stime` of its process), because wall-clock rates on a small machine measure
//! the driver as much as the server. Servers: the mock provider itself, the pass-through core of ours, `ambit` as it is installed, and
//! the peers that could be had.

mod ambit;
mod cold;
mod core;
mod load;
mod memory;
mod neighbours;
mod parts;
mod process;
mod report;
mod requests;
mod streams;
mod targets;

use anyhow::Result;
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::{path::PathBuf, time::Duration};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures servers beside each other.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// All rows, as a table.
    Run(Box<RunArguments>),
    /// The mock provider, as a process of its own.
    #[command(hide = true)]
    Mock {
        #[arg(long, default_value_t = 0)]
        pace_ms: u64,
        #[arg(long, default_value_t = 300)]
        text_bytes: usize,
        #[arg(long)]
        stamped: Option<ambit_mock_provider::Stamps>,
        #[arg(long, default_value = "{}")]
        tool_arguments: String,
    },
    /// The pass-through core, as a process of its own.
    #[command(hide = true)]
    Core {
        #[arg(long)]
        provider_url: url::Url,
    },
    /// Reads streams, as a process of its own.
    #[command(hide = true)]
    Follow {
        #[arg(long)]
        streams: usize,
        #[command(flatten)]
        shot: load::ShotArguments,
    },
}

#[derive(Args)]
struct RunArguments {
    /// The `ambit` binary.
    #[arg(long)]
    ambit: Option<PathBuf>,
    /// Its components, where they do not lie beside it.
    #[arg(long)]
    components: Option<PathBuf>,
    /// A Python that has the package `tensorzero`.
    #[arg(long)]
    python: Option<PathBuf>,
    /// A `wasmtime` of version 48.
    #[arg(long)]
    wasmtime: Option<PathBuf>,
    /// The hello-world component for it.
    #[arg(long)]
    hello: Option<PathBuf>,
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds per server and round.
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    /// Requests in flight.
    #[arg(long, default_value_t = 16)]
    connections: usize,
    /// Streams at the same time; 0 leaves the row out.
    #[arg(long, default_value_t = 2000)]
    streams: usize,
    /// The components of tests/hostile.
    #[arg(long)]
    hostile: Option<PathBuf>,
    /// Of those only these: names of their files; `none` is the row of ordinary requests.
    #[arg(long, value_delimiter = ',')]
    guests: Vec<String>,
    /// Measure these parts only.
    #[arg(long, value_delimiter = ',')]
    only: Vec<Part>,
    /// What programs of single parts printed, a file for each round; goes below the table.
    #[arg(long)]
    parts: Vec<PathBuf>,
    /// Write the table into this file, between its markers.
    #[arg(long)]
    readme: Option<PathBuf>,
}

/// What a run measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    Requests,
    Streams,
    Cold,
    Memory,
    Neighbours,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    match arguments.command {
        Command::Run(run) => tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?
            .block_on(measure(*run)),
        Command::Mock {
            pace_ms,
            text_bytes,
            stamped,
            tool_arguments,
        } => serve(targets::serve_mock(
            pace_ms,
            text_bytes,
            stamped,
            tool_arguments,
        )),
        Command::Core { provider_url } => serve(core::serve(provider_url)),
        Command::Follow { streams, shot } => serve(streams::follow_all(streams, shot.try_into()?)),
    }
}

/// As many threads as a server would have.
fn serve(server: impl Future<Output = Result<()>>) -> Result<()> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(server)
}

async fn measure(run: RunArguments) -> Result<()> {
    process::raise_file_limit();
    let mut report = report::Report::new();
    let wanted = |part| run.only.is_empty() || run.only.contains(&part);
    if wanted(Part::Requests) {
        let mut targets = targets::start(&run, &mut report).await?;
        let duration = Duration::from_secs(run.seconds);
        requests::measure(
            &mut targets,
            run.rounds,
            duration,
            run.connections,
            &mut report,
        )
        .await?;
    }
    if wanted(Part::Streams) && run.streams > 0 {
        streams::measure(&run, &mut report).await?;
    }
    if wanted(Part::Neighbours) {
        neighbours::measure(&run, &mut report).await?;
    }
    if wanted(Part::Cold) {
        cold::measure(&run, &mut report).await?;
    }
    if wanted(Part::Memory) {
        memory::measure(&run, &mut report).await?;
    }
    report.parts = parts::read(&run.parts)?;
    report.print()?;
    if let Some(path) = &run.readme {
        report.write_into(path)?;
    }
    Ok(())
}
