//! The developers' menu. Needs nothing but cargo, prints the commands it runs, and installs what is missing or says in one line what to
//! install.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command-line tool for developers"
)]

mod bench;
mod build;
mod lint;
mod postgres;
mod python;
mod sh;
mod test;
mod wit;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

#[derive(Parser)]
#[command(about = "Developer commands", max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Build everything and start the embedded default. Arguments go to `ambit up`.
    Up {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Build target/release/ambit and the components beside it.
    Build,
    /// Run every test: unit, property, hostile, scenario, client. Says what it skipped and why.
    Test {
        /// Only tests whose name contains this.
        filter: Option<String>,
    },
    /// rustfmt, clippy with warnings as errors, cargo-deny.
    Lint,
    /// Measure, side by side with peers; writes tests/bench/README.md.
    Bench {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Write docs/wit from the packages under wit/.
    Wit {
        /// Fail if docs/wit is not what would be written.
        #[arg(long)]
        check: bool,
    },
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Up { arguments } => build::all().and_then(|()| {
            sh::run(
                &sh::target().join("ambit").to_string_lossy(),
                std::iter::once("up".to_owned()).chain(arguments),
            )
        }),
        Command::Build => build::all(),
        Command::Test { filter } => test::all(filter.as_deref()),
        Command::Lint => lint::all(),
        Command::Bench { arguments } => bench::all(arguments),
        Command::Wit { check } => wit::write(check),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
