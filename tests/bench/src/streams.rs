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
    report::{Report, Table, median, mib},
    targets,
};

/// Between two events of one stream.
const PACE_MS: &str = "20";
/// Characters of text; 12 to an event gives 250 events, five seconds.
const TEXT: &str = "3000";
/// Streams begin scattered over this time, so that few have their events at the same moment.
const RAMP: Duration = Duration::from_millis(2000);
/// The fractions of its multiples are as even as can be.
const GOLDEN: f64 = 0.618_033_988_749_895;
/// One row has so many times fewer streams: what the machine can carry, so that its times are those of the code.
const FEW: usize = 10;

/// Opens the streams through each server in turn, round after round.
pub(crate) async fn measure(run: &RunArguments, report: &mut Report) -> Result<()> {
    let paced = ["--pace-ms", PACE_MS, "--text-bytes", TEXT, "--stamped"];
    let start =
        |stamps| async move { targets::start_mock(&[&paced[..], &[stamps]].concat()).await };
    let ((words, words_url), (_tokens, tokens_url)) =
        tokio::try_join!(start("words"), start("tokens"))?;
    let (core, core_url) = targets::start_core(&words_url).await?;
    let direct = targets::chat_shot(&words_url, "mock-1", None, true)?;
    let through_core = targets::chat_shot(&core_url, "mock-1", None, true)?;
    let ambit = Ambit::start(run, Some(&words_url)).await?;
    let holding = Ambit::start(run, Some(&tokens_url)).await?;
    let few = run.streams.div_ceil(FEW);
    let mut courses = Vec::new();
    for streams in [few, run.streams] {
        let mut course = |name, shot: &Shot, server| {
            courses.push(Course {
                name,
                shot: shot.clone(),
                streams,
                server,
                found: Vec::new(),
            });
        };
        course("mock provider, directly", &direct, &words);
        course("pass-through core (nothing governed)", &through_core, &core);
        if let Some(ambit) = &ambit {
            let shot = ambit.chat(0, "openai/mock-1", true)?;
            course("ambit, governed pass-through", &shot, &ambit.server);
        }
        if streams == few
            && let Some(ambit) = &holding
        {
            let shot = ambit.chat(0, "openai/mock-1", true)?;
            let name = "the same, words begun by one event and ended by the next";
            course(name, &shot, &ambit.server);
        }
    }
    for _ in 0..run.rounds {
        for course in &mut courses {
            course.run().await?;
        }
    }
    let rows = courses.iter().map(Course::row).collect();
    report.tables.push(Table {
        about: format!(
            "Streams of 250 events, 20 ms apart; medians of {} interleaved rounds. *Asked*: from sending a request to its arrival at the \
             provider; the difference to the row of the core is what governs the request, its durable intent included. *Late*: from the \
             provider writing an event to the arrival of its text at the client. Where a word is ended by the next event, the guardrail \
             holds it until then: the difference between the two rows of ambit is hold-back.",
            run.rounds
        ),
        columns: &[
            "server",
            "streams",
            "failed",
            "asked p50 ms",
            "p99 ms",
            "late p50 ms",
            "p99 ms",
            "server's CPU % of a core",
            "driver's CPU %",
            "resident MiB",
        ],
        rows,
    });
    Ok(())
}

struct Seen {
    /// From sending the request to its arrival at the provider.
    asked: Option<Duration>,
    /// From the provider's stamp to its arrival here, per event.
    late: Vec<Duration>,
}

/// What the reading process found. Times in milliseconds.
#[derive(Serialize, Deserialize)]
struct Found {
    failed: usize,
    asked_p50: f64,
    asked_p99: f64,
    late_p50: f64,
    late_p99: f64,
    wall_seconds: f64,
    /// Of the reading process.
    cpu_seconds: f64,
    /// Of the server, which only the starter of the reading process sees.
    #[serde(skip)]
    server_seconds: f64,
}

/// So many streams through one server, again in each round.
struct Course<'a> {
    name: &'static str,
    shot: Shot,
    streams: usize,
    server: &'a Server,
    found: Vec<Found>,
}

impl Course<'_> {
    async fn run(&mut self) -> Result<()> {
        let before = self.server.cpu_seconds()?;
        let output = Command::new(std::env::current_exe()?)
            .args(["follow", "--streams", &self.streams.to_string()])
            .args(self.shot.arguments()?)
            .kill_on_drop(true)
            .output()
            .await?;
        let mut found: Found =
            serde_json::from_slice(&output.stdout).context("the reader failed")?;
        found.server_seconds = self.server.cpu_seconds()? - before;
        self.found.push(found);
        Ok(())
    }

    /// Failures of all rounds together, medians of everything else.
    fn row(&self) -> Vec<String> {
        let middle = |of: fn(&Found) -> f64| median(&self.found.iter().map(of).collect::<Vec<_>>());
        let failed: usize = self.found.iter().map(|found| found.failed).sum();
        let mut row = vec![
            self.name.to_owned(),
            self.streams.to_string(),
            failed.to_string(),
        ];
        let times: [fn(&Found) -> f64; 4] = [
            |found| found.asked_p50,
            |found| found.asked_p99,
            |found| found.late_p50,
            |found| found.late_p99,
        ];
        row.extend(times.map(|time| format!("{:.2}", middle(time))));
        let shares: [fn(&Found) -> f64; 2] = [
            |found| found.server_seconds / found.wall_seconds,
            |found| found.cpu_seconds / found.wall_seconds,
        ];
        row.extend(shares.map(|share| format!("{:.0}", middle(share) * 100.0)));
        row.push(mib(self.server.resident_mib()));
        row
    }
}

/// The reading process; what was found goes to standard output.
pub(crate) async fn follow_all(streams: usize, shot: Shot) -> Result<()> {
    raise_file_limit();
    let begin = Instant::now();
    let tasks: Vec<_> = (0..streams)
        .map(|n| {
            let shot = shot.clone();
            tokio::spawn(async move {
                sleep(RAMP.mul_f64((n as f64 * GOLDEN).fract())).await;
                follow(&shot).await
            })
        })
        .collect();
    let mut asked = Vec::new();
    let mut late = Vec::new();
    let mut failed = 0;
    for task in tasks {
        match task.await? {
            Some(seen) => {
                asked.extend(seen.asked);
                late.extend(seen.late);
            }
            None => failed += 1,
        }
    }
    let (wall_seconds, cpu_seconds) = (begin.elapsed().as_secs_f64(), cpu_seconds("self")?);
    asked.sort_unstable();
    late.sort_unstable();
    let found = Found {
        failed,
        asked_p50: percentile(&asked, 50),
        asked_p99: percentile(&asked, 99),
        late_p50: percentile(&late, 50),
        late_p99: percentile(&late, 99),
        wall_seconds,
        cpu_seconds,
        server_seconds: 0.0,
    };
    let mut out = std::io::stdout().lock();
    serde_json::to_writer(&mut out, &found)?;
    out.flush()?;
    Ok(())
}

/// Reads one stream to its `[DONE]`. None: it failed.
async fn follow(shot: &Shot) -> Option<Seen> {
    let mut sender = shot.connect().await.ok()?;
    let sent = since_epoch()?;
    let response = sender.send_request(shot.request()).await.ok()?;
    if response.status() != http::StatusCode::OK {
        return None;
    }
    let mut body = response.into_body();
    let mut seen = Seen {
        asked: None,
        late: Vec::with_capacity(256),
    };
    let mut done = false;
    let mut rest: Vec<u8> = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.ok()?.into_data() else {
            continue;
        };
        let now = since_epoch()?;
        rest.extend_from_slice(&data);
        let whole = memmem::rfind(&rest, b"\n\n").map_or(0, |at| at + 2);
        let text: Vec<u8> = rest.drain(..whole).collect();
        for word in words(&text) {
            if let Some(written) = time(word, b'a') {
                seen.late.push(now.saturating_sub(written));
            } else if let Some(arrived) = time(word, b'A') {
                seen.asked = Some(arrived.saturating_sub(sent));
            }
        }
        done |= memmem::find(&text, b"[DONE]").is_some();
    }
    (done && seen.asked.is_some() && !seen.late.is_empty()).then_some(seen)
}

fn since_epoch() -> Option<Duration> {
    SystemTime::now().duration_since(UNIX_EPOCH).ok()
}

/// The words in the contents of events. A guardrail may have moved the spaces between them.
fn words(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    const MARK: &[u8] = b"\"content\":\"";
    let contents = memmem::find_iter(text, MARK);
    contents.flat_map(|at| {
        let content = &text[at + MARK.len()..];
        let end = content
            .iter()
            .position(|byte| *byte == b'"')
            .unwrap_or(content.len());
        content[..end].split(|byte| *byte == b' ')
    })
}

/// A time as the mock writes it, with sixteen letters from `first` on; a word that was cut in two is none.
fn time(word: &[u8], first: u8) -> Option<Duration> {
    let digit = |letter: &u8| letter.checked_sub(first).filter(|digit| *digit < 16);
    let digits: Option<Vec<u8>> = word.iter().map(digit).collect();
    let digits = digits.filter(|digits| digits.len() == 16)?;
    let nanos = digits
        .iter()
        .fold(0, |value, digit| value << 4 | u64::from(*digit));
    Some(Duration::from_nanos(nanos))
}
