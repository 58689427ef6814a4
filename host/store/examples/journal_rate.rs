//! How fast a durable step is (its intent committed, an effect that does nothing, its outcome committed): steps per second, latency and CPU
//! per step at 1 and at 256 sessions, with real `fsync`.
//!
//! `cargo run --release -p ambit-store --example journal_rate [-- FOLDER]`: FOLDER is where the databases are put for the time of the
//! measurement; it should lie on the disk that is asked about. PostgreSQL is measured when it is installed.

use ambit_store::{
    Append, Header, NewEvent, NewSession, SessionState, Store, StoreConfig, testing::Server,
};
use ambit_types::{SessionId, TenantId};
use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

const SECONDS: Duration = Duration::from_secs(4);
/// About the events of one governed request: 600 bytes of prompt, 300 of reply.
const BODY: usize = 450;

#[expect(clippy::print_stdout, reason = "prints its table")]
#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = std::env::args_os()
        .nth(1)
        .map_or_else(std::env::temp_dir, PathBuf::from);
    let folder = tempfile::TempDir::with_prefix_in("journal-rate-", folder)?;
    println!(
        "{:9} {:>8} {:>10} {:>9} {:>9} {:>14}",
        "database", "sessions", "steps/s", "p50 ms", "p99 ms", "CPU µs/step"
    );
    let sqlite = StoreConfig::sqlite(folder.path().join("ambit.db"));
    measure("sqlite", &sqlite).await?;
    match Server::start(true) {
        Ok(server) => {
            measure(
                "postgres",
                &StoreConfig::postgres(
                    server.create_database().await?,
                    ambit_store::testing::master_key(),
                ),
            )
            .await?
        }
        Err(reason) => println!("postgres: {reason}"),
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "prints its table")]
#[allow(clippy::disallowed_methods, reason = "waits for its tasks")]
async fn measure(database: &str, config: &StoreConfig) -> Result<(), Box<dyn std::error::Error>> {
    let store = Store::open(config).await?;
    let tenant = store
        .operator()
        .create_tenant("acme".parse()?, "Acme")
        .await?
        .id;
    for sessions in [1, 16, 256] {
        let (cpu, start) = (cpu_time(), Instant::now());
        let tasks: Vec<_> = (0..sessions)
            .map(|_| tokio::spawn(steps_until(store.clone(), tenant, start + SECONDS)))
            .collect();
        let mut latencies = Vec::new();
        for task in tasks {
            latencies.extend(task.await??);
        }
        let (elapsed, cpu) = (start.elapsed(), cpu_time() - cpu);
        latencies.sort_unstable();
        let at = |share: f64| {
            latencies[((latencies.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3
        };
        let rate = latencies.len() as f64 / elapsed.as_secs_f64();
        let each = cpu.as_secs_f64() * 1e6 / latencies.len() as f64;
        println!(
            "{database:9} {sessions:8} {rate:10.0} {:9.3} {:9.3} {each:14.1}",
            at(0.5),
            at(0.99)
        );
    }
    store.close().await;
    Ok(())
}

async fn steps_until(
    store: Store,
    tenant: TenantId,
    end: Instant,
) -> ambit_store::Result<Vec<Duration>> {
    let session = SessionId::new();
    let mut latencies = Vec::new();
    while Instant::now() < end {
        let event = |kind| {
            let event = NewEvent::new(kind, Header::default(), vec![b'x'; BODY]);
            Append::new(tenant, session).event(event)
        };
        let mut intent = event("intent");
        if latencies.is_empty() {
            intent = intent.open(NewSession {
                agent: "assistant".into(),
                principal: "alice".into(),
            });
        }
        let start = Instant::now();
        store.journal().append(intent).await?;
        store.journal().append(event("outcome")).await?;
        latencies.push(start.elapsed());
    }
    let last = NewEvent::new("finish", Header::default(), Vec::new());
    store
        .journal()
        .append(
            Append::new(tenant, session)
                .event(last)
                .state(SessionState::Finished),
        )
        .await?;
    Ok(latencies)
}

/// Of this process: SQLite runs in it, PostgreSQL does not.
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // Fields 14 and 15 (proc(5)), counted after the name, in hundredths of a second.
    let ticks: u64 = stat
        .rsplit(')')
        .next()
        .into_iter()
        .flat_map(str::split_whitespace)
        .skip(11)
        .take(2)
        .filter_map(|n| n.parse::<u64>().ok())
        .sum();
    Duration::from_millis(ticks * 10)
}
