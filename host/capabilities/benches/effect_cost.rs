//! What one call of each effectful component costs: `cargo bench --workspace --bench effect_cost`.
//!
//! Prints, in microseconds, the median of several rounds: CPU time of the whole process, and beside it the time the caller waits. Among
//! the tests it runs each once, to show that it works. Components come from the folder `AMBIT_COMPONENTS` (`target/release/components`), or are built.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    dead_code,
    reason = "a program for developers, with the handles of the tests"
)]
#![allow(clippy::disallowed_methods, reason = "as in the tests")]

#[path = "../tests/components/server.rs"]
mod server;
#[path = "../tests/components/support.rs"]
mod support;

use ambit_capabilities::{
    Narrowing,
    retrieval::{Document, MediaType, Query, Retriever},
    tool::{Outbound, Reach, ToolCall, Toolbox},
};
use ambit_egress::Egress;
use ambit_index::{Index, IndexConfig};
use ambit_policy::Permissions;
use ambit_store::{Store, StoreConfig};
use ambit_types::CollectionName;
use server::{Manners, Server};
use std::{
    fmt::Write as _,
    time::{Duration, Instant},
};
use support::{admitted, admitted_with, block_on, context, context_of, runtime};

/// Rounds, and calls in each.
const FULL: (usize, u32) = (15, 40);
/// Documents of the collection that is searched: one passage each.
const DOCUMENTS: usize = 1_000;

fn main() {
    block_on(async {
        println!("component and call                              CPU µs   waited µs");
        datetime().await;
        web_fetch().await;
        retrieval().await;
    });
}

async fn datetime() {
    let reach = Reach::new(Outbound::new(Egress::new().unwrap(), 4));
    let tools = Toolbox::new(runtime(), &admitted("tool-datetime"), reach)
        .await
        .unwrap();
    let ctx = context("acme");
    measure("tool-datetime add_to_date", async || {
        let arguments = r#"{"date":"2026-01-31","months":1,"time_zone":"Europe/Berlin"}"#;
        invoke(&tools, &ctx, "add_to_date", arguments).await;
    })
    .await;
}

/// The server of the page is in this process too, so its share is in the row.
async fn web_fetch() {
    let paragraph = "<p>An ambit is what remains of the permissions a component asks for.</p>\n";
    let page = format!(
        "<html><body><h1>Ambits</h1>{}</body></html>",
        paragraph.repeat(140)
    );
    let size = page.len();
    let server = Server::start(Manners::Page(page)).await;
    let rules = format!(
        "[[http]]\norigin = \"http://{}\"\nmethods = [\"GET\"]\n[[http]]\norigin = \"https://granted.example\"\nmethods = [\"GET\"]\n",
        server.address
    );
    let granted = admitted_with("tool-web-fetch", &Permissions::parse(&rules).unwrap());
    let reach = Reach::new(Outbound::new(Egress::new().unwrap(), 4));
    let tools = Toolbox::new(runtime(), &granted, reach).await.unwrap();
    let ctx = context("acme");
    let arguments = serde_json::json!({ "url": server.url() }).to_string();
    measure(
        &format!("tool-web-fetch fetch_page of {size} B, its server included"),
        async || invoke(&tools, &ctx, "fetch_page", &arguments).await,
    )
    .await;
}

async fn invoke(tools: &Toolbox, ctx: &ambit_types::CallContext, name: &str, arguments: &str) {
    let call = ToolCall {
        id: "1".to_owned(),
        name: name.to_owned(),
        arguments: arguments.to_owned(),
    };
    let output = tools.invoke(ctx, &Narrowing::default(), call).await;
    assert!(!output.unwrap().content.is_empty());
}

async fn retrieval() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&StoreConfig::sqlite(dir.path().join("ambit.db")))
        .await
        .unwrap();
    let index = Index::open(dir.path().join("index"), IndexConfig::default()).unwrap();
    let acme = store
        .operator()
        .create_tenant("acme".parse().unwrap(), "Acme")
        .await
        .unwrap();
    let handbook: CollectionName = "handbook".parse().unwrap();
    store
        .tenant(acme.id)
        .ensure_collection(&handbook, None)
        .await
        .unwrap();
    let granted = admitted("retrieval-hybrid");
    let retriever = Retriever::new(runtime(), &granted, store.clone(), index).unwrap();
    let (ctx, all) = (context_of(acme.id, "acme"), Narrowing::default());
    for batch in 0..DOCUMENTS / 100 {
        let documents = (0..100).map(|n| document(batch * 100 + n, 0)).collect();
        let report = retriever.ingest(&ctx, &all, &handbook, documents).await;
        assert_eq!(report.unwrap().written, 100);
    }
    let query = Query {
        text: "which permissions has the component of chapter seven".to_owned(),
        max_results: 5,
        filter: None,
        mode: None,
    };
    let permit = retriever.may_search(&ctx, &all, &handbook).unwrap();
    measure(
        &format!("retrieval-hybrid search, 5 of {DOCUMENTS} passages"),
        async || {
            let found = retriever.search(&ctx, &all, &permit, &query).await;
            assert_eq!(found.unwrap().len(), 5);
        },
    )
    .await;
    let mut edition = 0;
    measure("retrieval-hybrid ingest of one document", async || {
        edition += 1;
        let report = retriever
            .ingest(&ctx, &all, &handbook, vec![document(7, edition)])
            .await;
        assert_eq!(report.unwrap().written, 1);
    })
    .await;
}

fn document(number: usize, edition: usize) -> Document {
    let mut text = format!("# Chapter {number}\n\nEdition {edition}. ");
    for n in 0..8 {
        let _ = write!(
            text,
            "The component of chapter {number} keeps permission {} of those it asked for. ",
            number * 8 + n
        );
    }
    Document {
        id: format!("chapter-{number}.md"),
        title: format!("Chapter {number}"),
        media_type: MediaType::Markdown,
        text,
        attributes: Vec::new(),
    }
}

async fn measure(what: &str, mut call: impl AsyncFnMut()) {
    let (mut cpu, mut wall) = (Vec::new(), Vec::new());
    call().await;
    // Cargo says so to a benchmark.
    let (rounds, calls) = match std::env::args().any(|argument| argument == "--bench") {
        true => FULL,
        false => (1, 1),
    };
    for _ in 0..rounds {
        let (began, spent) = (Instant::now(), cpu_time());
        for _ in 0..calls {
            call().await;
        }
        wall.push(began.elapsed() / calls);
        cpu.push((cpu_time() - spent) / calls);
    }
    let median = |times: &mut Vec<Duration>| {
        times.sort_unstable();
        times[times.len() / 2].as_secs_f64() * 1e6
    };
    println!(
        "{what:52} {:8.1} {:11.1}",
        median(&mut cpu),
        median(&mut wall)
    );
}

fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(
        time.tv_sec.unsigned_abs(),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}
