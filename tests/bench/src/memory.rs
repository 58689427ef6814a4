//! The rows of resident memory: after the start, after requests, and what a million more would add.

use anyhow::{Result, bail};
use std::time::{Duration, Instant};
use tokio::time::sleep;

use crate::{
    RunArguments,
    ambit::Ambit,
    load::{self, Load, Shot},
    process::Resident,
    report::{Report, Table, median},
    targets,
};

/// Idle means: nothing asked for this long.
pub(crate) const QUIET: Duration = Duration::from_secs(5);
/// Requests of each kind before growth is measured: pools and caches have their size then.
const WARM: usize = 20_000;
/// Governed requests over which growth is measured.
const GROWTH: usize = 200_000;
const CONNECTIONS: usize = 16;
const PATIENCE: Duration = Duration::from_secs(300);
/// What must be nothing where all sessions are idle.
const HELD: [&str; 3] = [
    "ambit_pool_used{",
    "ambit_requests_in_flight ",
    "ambit_executor_waiting ",
];

/// What one fresh server showed.
struct Round {
    /// First, after warming up, and after many requests more.
    resident: [Resident; 3],
    /// How many those were.
    sent: usize,
    metrics: String,
}

/// A fresh server in each round; medians of them.
pub(crate) async fn measure(run: &RunArguments, report: &mut Report) -> Result<()> {
    let mut rounds = Vec::new();
    for _ in 0..run.rounds {
        match round(run).await? {
            Some(round) => rounds.push(round),
            None => return Ok(()),
        }
    }
    let rows = [
        "first start, idle".to_owned(),
        format!("after {WARM} governed pass-throughs and {WARM} lists of models, idle"),
        format!("after {GROWTH} more governed pass-throughs, idle"),
    ];
    let rows = rows.into_iter().enumerate().map(|(n, when)| {
        let middle = |value: fn(&Resident) -> f64| {
            let values: Vec<_> = rounds
                .iter()
                .map(|round| value(&round.resident[n]))
                .collect();
            format!("{:.1}", median(&values))
        };
        vec![
            when,
            middle(|resident| resident.anonymous + resident.file),
            middle(|resident| resident.anonymous),
            middle(|resident| resident.file),
        ]
    });
    let growths: Vec<_> = rounds
        .iter()
        .map(|round| {
            let [_, warm, grown] = &round.resident;
            (grown.anonymous - warm.anonymous) / round.sent as f64 * 1e6
        })
        .collect();
    let growth = median(&growths);
    let held: Vec<_> = HELD
        .iter()
        .flat_map(|name| {
            let last = rounds.last().map_or("", |round| &round.metrics);
            last.lines().filter(move |line| line.starts_with(name))
        })
        .map(|line| format!("`{line}`"))
        .collect();
    report.tables.push(Table {
        about: format!(
            "Memory of `ambit up` in MiB, medians of {} fresh servers. File-backed pages are the program itself, which the kernel may take \
             back. Growth of the anonymous part: {growth:.1} MiB per million requests, from the last two rows; requests are at least as many \
             as said. Every one of the pass-throughs was a session; fifteen seconds after the last of them the last server had of instances, \
             requests and jobs: {}.",
            run.rounds,
            held.join(", ")
        ),
        columns: &["when", "resident", "anonymous", "file-backed"],
        rows: rows.collect(),
    });
    Ok(())
}

async fn round(run: &RunArguments) -> Result<Option<Round>> {
    let (_mock, url) = targets::start_mock(&[]).await?;
    let Some(ambit) = Ambit::start(run, Some(&url)).await? else {
        return Ok(None);
    };
    let (models, chat) = (ambit.models()?, ambit.chat(0, "openai/mock-1", false)?);
    sleep(QUIET).await;
    let start = ambit.server.resident()?;
    many(&models, WARM).await?;
    many(&chat, WARM).await?;
    sleep(QUIET).await;
    let warm = ambit.server.resident()?;
    let sent = many(&chat, GROWTH).await?;
    sleep(QUIET).await;
    let grown = ambit.server.resident()?;
    // Longer than an instance waits for a next call.
    sleep(QUIET * 2).await;
    Ok(Some(Round {
        resident: [start, warm, grown],
        sent,
        metrics: ambit.metrics().await?,
    }))
}

/// Sends until so many were answered; how many it were.
async fn many(shot: &Shot, count: usize) -> Result<usize> {
    let (begin, mut sent) = (Instant::now(), 0);
    while sent < count {
        if begin.elapsed() > PATIENCE {
            bail!("{sent} of {count} requests in {PATIENCE:?}");
        }
        let outcome = load::run(shot, Load::closed(CONNECTIONS, Duration::from_secs(1))).await?;
        sent += outcome.times.len() + outcome.failed;
    }
    Ok(sent)
}
