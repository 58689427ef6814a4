//! What money costs: governed calls per second (intent and reservation committed, a call that does nothing, outcome and settlement
//! committed), latency and CPU per call at 1, 64 and 256 callers, with real `fsync`. Without the ledger, with one budget that all share, and
//! with one for each caller.
//!
//! `cargo run --release -p ambit-store --example ledger_rate [-- FOLDER]`: FOLDER is where the databases are put for the time of the
//! measurement; it should lie on the disk that is asked about. PostgreSQL is measured when it is installed.

use ambit_ledger::{Budget, BudgetScope, Money, Period, Reserve, ScopeKind, Spender, Usage};
use ambit_store::{
    Append, Header, NewEvent, NewSession, Store, StoreConfig, TenantStore, testing::Server,
};
use ambit_types::{ReservationId, SessionId};
use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

const SECONDS: Duration = Duration::from_secs(3);
/// About the events of one governed request: 600 bytes of prompt, 300 of reply.
const BODY: usize = 450;

#[derive(Clone, Copy, PartialEq)]
enum Budgets {
    NoLedger,
    One,
    Many,
}

#[expect(clippy::print_stdout, reason = "prints its table")]
#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = std::env::args_os()
        .nth(1)
        .map_or_else(std::env::temp_dir, PathBuf::from);
    let folder = tempfile::TempDir::with_prefix_in("ledger-rate-", folder)?;
    println!(
        "{:9} {:10} {:>8} {:>10} {:>9} {:>9} {:>14}",
        "database", "budgets", "callers", "calls/s", "p50 ms", "p99 ms", "CPU µs/call"
    );
    let sqlite = StoreConfig::sqlite(folder.path().join("ambit.db"));
    measure("sqlite", &sqlite).await?;
    match Server::start(true) {
        Ok(server) => {
            let key = ambit_store::testing::master_key();
            let config = StoreConfig::postgres(server.create_database().await?, key);
            measure("postgres", &config).await?;
        }
        Err(reason) => println!("postgres: {reason}"),
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "prints its table")]
#[allow(clippy::disallowed_methods, reason = "waits for its tasks")]
async fn measure(
    database: &str,
    config: &StoreConfig,
) -> std::result::Result<(), Box<dyn std::error::Error>> {
    let store = Store::open(config).await?;
    for (name, budgets) in [
        ("no ledger", Budgets::NoLedger),
        ("one", Budgets::One),
        ("many", Budgets::Many),
    ] {
        let slug = ["t-", &name.replace(' ', "-")].concat().parse()?;
        let tenant = store.operator().create_tenant(slug, name).await?;
        let tenant = store.tenant(tenant.id);
        let scope = match budgets {
            Budgets::Many => BudgetScope::new(ScopeKind::Session, BudgetScope::EACH),
            _ => Some(BudgetScope::tenant()),
        };
        if let Some(scope) = scope {
            let (period, limit) = (Period::Day, Money::MAX);
            tenant
                .set_budget(&Budget {
                    scope,
                    period,
                    limit,
                })
                .await?;
        }
        for callers in [1, 64, 256] {
            let (start, cpu) = (Instant::now(), cpu_time());
            let tasks: Vec<_> = (0..callers)
                .map(|_| {
                    tokio::spawn(calls_until(
                        store.clone(),
                        tenant.clone(),
                        budgets,
                        start + SECONDS,
                    ))
                })
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
                "{database:9} {name:10} {callers:8} {rate:10.0} {:9.3} {:9.3} {each:14.1}",
                at(0.5),
                at(0.99)
            );
        }
        let report = tenant.verify_costs().await?;
        if !report.faults.is_empty() {
            println!(
                "{database}: the ledger does not add up: {:?}",
                report.faults
            );
        }
    }
    store.close().await;
    Ok(())
}

async fn calls_until(
    store: Store,
    tenant: TenantStore,
    budgets: Budgets,
    end: Instant,
) -> ambit_store::Result<Vec<Duration>> {
    let session = SessionId::new();
    let mut latencies = Vec::new();
    let (cost, usage) = (Money::from_nanos(700).unwrap_or_default(), Usage::default());
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    while Instant::now() < end {
        let event = |kind, cost| {
            let header = Header {
                cost,
                ..Header::default()
            };
            let event = NewEvent::new(kind, header, vec![b'x'; BODY]);
            Append::new(tenant.id(), session).event(event)
        };
        let mut intent = event("intent", None);
        if latencies.is_empty() {
            intent = intent.open(NewSession {
                agent: "assistant".into(),
                principal: "alice".into(),
            });
        }
        let start = Instant::now();
        if budgets == Budgets::NoLedger {
            store.journal().append(intent).await?;
            store.journal().append(event("outcome", None)).await?;
        } else {
            let id = ReservationId::new();
            let [agent, key, provider, model] =
                ["assistant", "key_1", "openai", "gpt-5"].map(Into::into);
            let reserve = Reserve {
                id,
                amount: Money::from_nanos(1000).unwrap_or_default(),
                at_ms: i64::try_from(now.as_millis()).unwrap_or_default(),
                spender: Spender {
                    agent,
                    key,
                    provider,
                    model,
                },
                tokens: Default::default(),
                above: std::sync::Arc::default(),
            };
            store.journal().append(intent.reserve(reserve)).await?;
            let outcome = event("outcome", Some(cost)).settle(id, cost, usage);
            store.journal().append(outcome).await?;
        }
        latencies.push(start.elapsed());
    }
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
