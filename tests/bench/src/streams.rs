//! The row of paced streams: how much later than from the provider itself each event arrives.
//!
//! Streams are read by a process of its own with as many threads as cores, whose CPU time is told beside the server's: where the sum
//! nears what the machine has, the times are those of the queue for it.
#![allow(clippy::disallowed_methods, reason = "every task is waited for")]

use anyhow::{Context as _, Result};
use http_body_util::BodyExt as _;
use memchr::memmem;
use serde::{Deserialize, Serialize};
use std::{
    io::Write as _,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use tokio::{process::Command, time::sleep};

use crate::{
    RunArguments,
    ambit::Ambit,
    load::{Shot, percentile},
    process::{Server, cpu_seconds, raise_file_limit},
    report::{Report, StreamRow},
    targets,
};

/// Between two events of one stream.
const PACE_MS: &str = "20";
/// Characters of text; 12 to an event gives 100 events, two seconds.
const TEXT: &str = "1200";
/// Streams begin one after the other over this time, as they would.
const RAMP: Duration = Duration::from_millis(1000);

/// Opens the streams through each server in turn.
pub(crate) async fn measure(run: &RunArguments, report: &mut Report) -> Result<()> {
    let (mock, url) =
        targets::start_mock(&["--pace-ms", PACE_MS, "--text-bytes", TEXT, "--stamped"]).await?;
    let direct = targets::chat_shot(&url, "mock-1", None, true)?;
    report
        .streams
        .push(row("mock provider, directly", &direct, run.streams, &mock).await?);
    let (core, core_url) = targets::start_core(&url).await?;
    let shot = targets::chat_shot(&core_url, "mock-1", None, true)?;
    report.streams.push(
        row(
            "pass-through core (nothing governed)",
            &shot,
            run.streams,
            &core,
        )
        .await?,
    );
    drop(core);
    if let Ok(Some(ambit)) = Ambit::start(run, Some(&url)).await {
        let shot = ambit.chat(0, "openai/mock-1", true)?;
        let name = "ambit, governed pass-through";
        report
            .streams
            .push(row(name, &shot, run.streams, &ambit.server).await?);
    }
    Ok(())
}

struct Seen {
    /// From sending the request to the first event with text.
    first: Duration,
    /// From the provider's stamp to its arrival here, per event.
    late: Vec<Duration>,
}

/// What the reading process found. Times in milliseconds.
#[derive(Serialize, Deserialize)]
struct Found {
    failed: usize,
    first_p50: f64,
    first_p99: f64,
    late_p50: f64,
    late_p99: f64,
    wall_seconds: f64,
    cpu_seconds: f64,
}

async fn row(
    name: &'static str,
    shot: &Shot,
    streams: usize,
    server: &Server,
) -> Result<StreamRow> {
    let before = server.cpu_seconds()?;
    let output = Command::new(std::env::current_exe()?)
        .args(["follow", "--streams", &streams.to_string()])
        .args(shot.arguments()?)
        .kill_on_drop(true)
        .output()
        .await?;
    let found: Found = serde_json::from_slice(&output.stdout).context("the reader failed")?;
    let percent = |seconds: f64| seconds / found.wall_seconds * 100.0;
    Ok(StreamRow {
        name,
        streams,
        failed: found.failed,
        first_p50_ms: found.first_p50,
        first_p99_ms: found.first_p99,
        late_p50_ms: found.late_p50,
        late_p99_ms: found.late_p99,
        cpu_percent: percent(server.cpu_seconds()? - before),
        driver_percent: percent(found.cpu_seconds),
        resident_mib: server.resident_mib(),
    })
}

/// The reading process; what was found goes to standard output.
pub(crate) async fn follow_all(streams: usize, shot: Shot) -> Result<()> {
    raise_file_limit();
    let begin = Instant::now();
    let gap = RAMP / u32::try_from(streams.max(1)).unwrap_or(u32::MAX);
    let tasks: Vec<_> = (0..streams)
        .map(|n| {
            let shot = shot.clone();
            tokio::spawn(async move {
                sleep(gap * u32::try_from(n).unwrap_or(0)).await;
                follow(&shot).await
            })
        })
        .collect();
    let mut first = Vec::new();
    let mut late = Vec::new();
    let mut failed = 0;
    for task in tasks {
        match task.await? {
            Some(seen) => {
                first.push(seen.first);
                late.extend(seen.late);
            }
            None => failed += 1,
        }
    }
    let (wall_seconds, cpu_seconds) = (begin.elapsed().as_secs_f64(), cpu_seconds("self")?);
    first.sort_unstable();
    late.sort_unstable();
    let found = Found {
        failed,
        first_p50: percentile(&first, 50),
        first_p99: percentile(&first, 99),
        late_p50: percentile(&late, 50),
        late_p99: percentile(&late, 99),
        wall_seconds,
        cpu_seconds,
    };
    let mut out = std::io::stdout().lock();
    serde_json::to_writer(&mut out, &found)?;
    out.flush()?;
    Ok(())
}

/// Reads one stream to its `[DONE]`. None: it failed.
async fn follow(shot: &Shot) -> Option<Seen> {
    let mut sender = shot.connect().await.ok()?;
    let before = Instant::now();
    let response = sender.send_request(shot.request()).await.ok()?;
    if response.status() != http::StatusCode::OK {
        return None;
    }
    let mut body = response.into_body();
    let mut seen = Seen {
        first: Duration::ZERO,
        late: Vec::with_capacity(128),
    };
    let mut done = false;
    let mut rest: Vec<u8> = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.ok()?.into_data() else {
            continue;
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
        rest.extend_from_slice(&data);
        let whole = memmem::rfind(&rest, b"\n\n").map_or(0, |at| at + 2);
        let text: Vec<u8> = rest.drain(..whole).collect();
        for stamp in stamps(&text) {
            if seen.late.is_empty() {
                seen.first = before.elapsed();
            }
            seen.late.push(now.saturating_sub(stamp));
        }
        done |= memmem::find(&text, b"[DONE]").is_some();
    }
    (done && !seen.late.is_empty()).then_some(seen)
}

/// Times written into the contents of events: words of the letters `a` to `p`. A guardrail may have moved the spaces between them.
fn stamps(text: &[u8]) -> impl Iterator<Item = Duration> + '_ {
    const MARK: &[u8] = b"\"content\":\"";
    let contents = memmem::find_iter(text, MARK);
    contents.flat_map(|at| {
        let content = &text[at + MARK.len()..];
        let end = content
            .iter()
            .position(|byte| *byte == b'"')
            .unwrap_or(content.len());
        content[..end].split(|byte| *byte == b' ').filter_map(stamp)
    })
}

fn stamp(word: &[u8]) -> Option<Duration> {
    let is_stamp =
        (10..=16).contains(&word.len()) && word.iter().all(|letter| matches!(letter, b'a'..=b'p'));
    is_stamp.then(|| {
        Duration::from_nanos(
            word.iter()
                .fold(0, |value, letter| value << 4 | u64::from(letter - b'a')),
        )
    })
}
