//! Rows of requests per CPU-second.

use anyhow::{Result, bail};
use std::time::Duration;

use crate::{
    load::{self, Load},
    report::{Report, RequestRow, median},
    targets::Target,
};

/// Before the first round, so that pools, caches and just-in-time code are there.
const WARM_UP: Duration = Duration::from_millis(700);

/// Measures each server in each round, in turn, and takes medians.
pub(crate) async fn measure(
    targets: &mut [Target],
    rounds: usize,
    duration: Duration,
    connections: usize,
    report: &mut Report,
) -> Result<()> {
    let mut rates = vec![Vec::new(); targets.len()];
    let mut p50s = vec![Vec::new(); targets.len()];
    let mut p99s = vec![Vec::new(); targets.len()];
    let mut walls = vec![Vec::new(); targets.len()];
    for target in &*targets {
        let outcome = load::run(&target.shot, Load::closed(connections, WARM_UP)).await?;
        if outcome.times.is_empty() {
            bail!("{} answers no request", target.name);
        }
    }
    let mut failed = vec![0; targets.len()];
    for _ in 0..rounds {
        for (n, target) in targets.iter().enumerate() {
            let before = target.server.cpu_seconds()?;
            let outcome = load::run(&target.shot, Load::closed(connections, duration)).await?;
            let spent = target.server.cpu_seconds()? - before;
            let count = outcome.times.len();
            if count == 0 || spent <= 0.0 {
                bail!("{} answers no request any more", target.name);
            }
            rates[n].push(count as f64 / spent);
            walls[n].push(count as f64 / duration.as_secs_f64());
            p50s[n].push(outcome.percentile(50));
            p99s[n].push(outcome.percentile(99));
            failed[n] += outcome.failed;
        }
    }
    for (n, target) in targets.iter().enumerate() {
        report.requests.push(RequestRow {
            name: target.name,
            standing: target.standing,
            per_cpu_second: median(&rates[n]),
            per_second: median(&walls[n]),
            p50_ms: median(&p50s[n]),
            p99_ms: median(&p99s[n]),
            resident_mib: target.server.resident_mib(),
            failed: failed[n],
        });
    }
    report.note(&format!(
        "{rounds} interleaved rounds of {} s, {connections} connections; prompt 600 B, reply 300 B",
        duration.as_secs()
    ));
    Ok(())
}
