//! The row of paced streams: how much later than from the provider itself each event arrives.
#![allow(clippy::disallowed_methods, reason = "every task is waited for")]

use anyhow::Result;
use http_body_util::BodyExt as _;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::time::sleep;

use crate::{
    RunArguments,
    load::Shot,
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
    if let Ok(Some((server, shot))) = targets::start_ambit(run, &url).await {
        report.streams.push(
            row(
                "ambit, governed pass-through",
                &shot(true)?,
                run.streams,
                &server,
            )
            .await?,
        );
    }
    Ok(())
}

struct Seen {
    /// From sending the request to the first event with text.
    first: Duration,
    /// From the provider's stamp to its arrival here, per event.
    late: Vec<Duration>,
}

async fn row(
    name: &'static str,
    shot: &Shot,
    streams: usize,
    server: &crate::process::Server,
) -> Result<StreamRow> {
    let before = server.cpu_seconds()?;
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
    let wall = begin.elapsed().as_secs_f64();
    first.sort_unstable();
    late.sort_unstable();
    let at = |times: &[Duration], percent: usize| {
        times
            .get((times.len() * percent / 100).min(times.len().saturating_sub(1)))
            .map_or(f64::NAN, |t| t.as_secs_f64() * 1e3)
    };
    Ok(StreamRow {
        name,
        streams,
        failed,
        first_p50_ms: at(&first, 50),
        first_p99_ms: at(&first, 99),
        late_p50_ms: at(&late, 50),
        late_p99_ms: at(&late, 99),
        cpu_percent: (server.cpu_seconds()? - before) / wall * 100.0,
        resident_mib: server.resident_mib(),
    })
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
        let whole = rest
            .windows(2)
            .rposition(|pair| pair == b"\n\n")
            .map_or(0, |at| at + 2);
        let text: Vec<u8> = rest.drain(..whole).collect();
        for stamp in stamps(&text) {
            if seen.late.is_empty() {
                seen.first = before.elapsed();
            }
            seen.late.push(now.saturating_sub(stamp));
        }
        done |= text.windows(6).any(|window| window == b"[DONE]");
    }
    (done && !seen.late.is_empty()).then_some(seen)
}

/// Times written into the contents of events: words of the letters `a` to `p`. A guardrail may have moved the spaces between them.
fn stamps(text: &[u8]) -> impl Iterator<Item = Duration> + '_ {
    const MARK: &[u8] = b"\"content\":\"";
    let contents = text
        .windows(MARK.len())
        .enumerate()
        .filter(|(_, window)| *window == MARK);
    contents.flat_map(|(at, _)| {
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
