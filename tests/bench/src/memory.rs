//! The rows of resident memory: after the start, after requests, and what a million more would add.

use anyhow::Result;
use std::time::{Duration, Instant};
use tokio::time::sleep;

use crate::{
    RunArguments,
    ambit::Ambit,
    load::{self, Load, Shot},
    process::Resident,
    report::{Report, Table},
    targets,
};

/// Idle means: nothing asked for this long.
pub(crate) const QUIET: Duration = Duration::from_secs(5);
/// Requests of each kind before growth is measured: pools and caches have their size then.
const WARM: usize = 20_000;
/// Governed requests over which growth is measured.
const GROWTH: usize = 200_000;
const CONNECTIONS: usize = 16;
/// What must be nothing where all sessions are idle.
const HELD: [&str; 3] = [
    "ambit_pool_used{",
    "ambit_requests_in_flight ",
    "ambit_executor_waiting ",
];

pub(crate) async fn measure(run: &RunArguments, report: &mut Report) -> Result<()> {
    let (_mock, url) = targets::start_mock(&[]).await?;
    let Some(ambit) = Ambit::start(run, Some(&url)).await? else {
        return Ok(());
    };
    let (models, chat) = (ambit.models()?, ambit.chat(0, "openai/mock-1", false)?);
    let mut rows = Vec::new();
    let mut row = |what: String, resident: Resident| {
        let Resident { anonymous, file } = resident;
        let values = [anonymous + file, anonymous, file].map(|mib| format!("{mib:.1}"));
        rows.push(std::iter::once(what).chain(values).collect());
    };
    sleep(QUIET).await;
    row("first start, idle".to_owned(), ambit.server.resident()?);
    let models_sent = many(&models, WARM).await?;
    let chats_sent = many(&chat, WARM).await?;
    sleep(QUIET).await;
    let before = ambit.server.resident()?;
    row(
        format!(
            "after {chats_sent} governed pass-throughs and {models_sent} lists of models, idle"
        ),
        before,
    );
    let sent = many(&chat, GROWTH).await?;
    sleep(QUIET).await;
    let after = ambit.server.resident()?;
    row(
        format!("after {sent} more governed pass-throughs, idle"),
        after,
    );
    // Longer than an instance waits for a next call.
    sleep(QUIET * 2).await;
    let metrics = ambit.metrics().await?;
    let held: Vec<_> = HELD
        .iter()
        .flat_map(|name| metrics.lines().filter(move |line| line.starts_with(name)))
        .map(|line| format!("`{line}`"))
        .collect();
    let growth = (after.anonymous - before.anonymous) / sent as f64 * 1e6;
    report.tables.push(Table {
        about: format!(
            "Memory of `ambit up` in MiB. File-backed pages are the program itself, which the kernel may take back. Growth of the anonymous \
             part: {growth:.1} MiB per million requests, from the last two rows. Every one of those requests was a session; fifteen seconds after \
             the last of them the server has of instances, requests and jobs: {}.",
            held.join(", ")
        ),
        columns: &["when", "resident", "anonymous", "file-backed"],
        rows,
    });
    Ok(())
}

/// At least so many requests; how many it were.
async fn many(shot: &Shot, count: usize) -> Result<usize> {
    let (begin, mut sent) = (Instant::now(), 0);
    while sent < count && begin.elapsed() < Duration::from_secs(300) {
        let outcome = load::run(shot, Load::closed(CONNECTIONS, Duration::from_secs(1))).await?;
        sent += outcome.times.len() + outcome.failed;
    }
    Ok(sent)
}
