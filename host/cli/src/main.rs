//! The `ambit` binary: reads as the life of the process. Every command is a client of `/admin/v1`, over HTTP when a server runs, else in
//! this process under the installation's lock.

mod args;
mod client;
mod commands;
mod compose;
mod config;
mod demo;
mod installation;
mod serve;
mod shipped;
mod telemetry;
mod up;
mod welcome;

use args::{Cli, Command};
use clap::Parser as _;
use std::process::ExitCode;

// The system's allocator gives memory back late under many short-lived buffers; this one keeps the idle host small.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        // Tasks between two looks at sockets and timers. Under attack each task may be a guest that has its millisecond: at tokio's own 61
        // a timer came 63 ms late beside 16 of them, with 8 it comes 15 ms late.
        .event_interval(8)
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return fail(&anyhow::Error::new(error).context("cannot start")),
    };
    let code = match runtime.block_on(run(cli.command)) {
        Ok(code) => code,
        Err(error) => fail(&error),
    };
    // Whatever had to be done was waited for; a call into a disk that hangs is not.
    runtime.shutdown_background();
    code
}

async fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Up(up) => up::run(up).await,
        Command::Serve { config, components } => serve::run(&config, components).await,
        Command::Component(command) => commands::component::run(command).await,
        Command::Grant(command) => commands::grant::run(command).await,
        Command::Agent(command) => commands::agent::run(command).await,
        Command::Tenant(command) => commands::tenant::run(command).await,
        Command::Key(command) => commands::key::run(command).await,
        Command::Token(command) => commands::token::run(command).await,
        Command::Budget(command) => commands::budget::run(command).await,
        Command::Costs(costs) => commands::costs::run(costs).await,
        Command::Collection(command) => commands::collection::run(command).await,
        Command::Session(command) => commands::session::run(command).await,
        Command::Approvals(command) => commands::approvals::run(command).await,
        Command::Audit(command) => commands::audit::run(command).await,
        Command::Chat(chat) => commands::chat::run(chat).await,
    }
}

/// One sentence and its causes on stderr.
#[allow(
    clippy::print_stderr,
    reason = "this is where a command's failure is told"
)]
fn fail(error: &anyhow::Error) -> ExitCode {
    eprintln!("error: {error}");
    for cause in error.chain().skip(1) {
        eprintln!("  because: {cause}");
    }
    ExitCode::FAILURE
}
