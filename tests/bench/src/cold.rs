//! The row of a cold start: from starting `ambit serve` to an agent's whole first answer, with compiled components cached.

use anyhow::{Context as _, Result};
use std::{net::TcpListener, time::Instant};
use tokio::time::sleep;

use crate::{
    RunArguments,
    ambit::{Ambit, serve_until_answered},
    memory::QUIET,
    process::Resident,
    report::{Report, Table, median},
};

/// Starts measured; the first of all fills the caches and does not count.
const STARTS: usize = 9;

pub(crate) async fn measure(run: &RunArguments, report: &mut Report) -> Result<()> {
    // Without a model server: the answer comes from the collection.
    let Some(ambit) = Ambit::start(run, None).await? else {
        return Ok(());
    };
    let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let config = ambit.configuration(run, &address.to_string())?;
    let mut chat = ambit.chat(0, "assistant", false)?;
    chat.address = address;
    let Ambit { mut server, .. } = ambit;
    server.stop().await.context("ambit up does not stop")?;
    let mut times = Vec::new();
    let mut cpu = Vec::new();
    for n in 0..=STARTS {
        let begin = Instant::now();
        let mut server = serve_until_answered(run, &config, &chat).await?;
        let took = begin.elapsed().as_secs_f64() * 1e3;
        let spent = server.cpu_seconds()? * 1e3;
        server.stop().await?;
        if n > 0 {
            times.push(took);
            cpu.push(spent);
        }
    }
    let server = serve_until_answered(run, &config, &chat).await?;
    sleep(QUIET).await;
    let Resident { anonymous, file } = server.resident()?;
    times.sort_by(f64::total_cmp);
    report.tables.push(Table {
        about: format!(
            "Cold start: from starting `ambit serve` to the whole first answer of an agent (route, auth, guardrail, retrieval, journal), \
             compiled components cached; {STARTS} starts. Memory in MiB after it, idle for five seconds; file-backed pages are the program \
             itself, which the kernel may take back."
        ),
        columns: &[
            "median ms",
            "fastest ms",
            "slowest ms",
            "CPU ms",
            "resident",
            "anonymous",
            "file-backed",
        ],
        rows: vec![
            [
                median(&times),
                times[0],
                times[STARTS - 1],
                median(&cpu),
                anonymous + file,
                anonymous,
                file,
            ]
            .map(|value| format!("{value:.0}"))
            .to_vec(),
        ],
    });
    Ok(())
}
