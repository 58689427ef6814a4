//! How fast a search is: 100,000 chunks of made-up text whose words are as unevenly spread as in a language (Zipf), then queries of one
//! to eight words of any rarity. Prints percentiles.
//!
//!     cargo run --release -p ambit-index --example search_rate [CHUNKS]
#![allow(clippy::print_stdout, reason = "the output is the point")]

use ambit_index::{
    Attribute, Batch, Chunk, Entry, Filter, Index, IndexConfig, Request, Revision, Source, Value,
    Weights,
};
use ambit_types::TenantId;
use std::{
    convert::Infallible,
    time::{Duration, Instant},
};

const VOCABULARY: usize = 60_000;
const WORDS_PER_CHUNK: usize = 200;
const CHUNKS_PER_DOCUMENT: usize = 5;
const QUERIES: usize = 2000;

/// A store that is never asked for documents: the index is filled by puts alone.
#[derive(Clone)]
struct Store(i64);

impl Source for Store {
    type Error = Infallible;

    async fn revision(&self) -> Result<Revision, Infallible> {
        Ok(Revision {
            incarnation: 0,
            number: self.0,
        })
    }

    async fn page(&self, _: Option<&str>) -> Result<Vec<Entry>, Infallible> {
        Ok(Vec::new())
    }
}

/// SplitMix64: the same text each run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (bits >> 11) as f64 / (1u64 << 53) as f64
    }

    /// A word by Zipf's law: of rank r with a probability in proportion to 1/r.
    fn word(&mut self) -> String {
        word((VOCABULARY as f64).powf(self.roll()) as usize)
    }

    fn text(&mut self, words: usize) -> String {
        (0..words)
            .map(|_| self.word())
            .collect::<Vec<_>>()
            .join(" ")
    }
}

/// A pronounceable word for a rank; the stemmer has nothing to cut from it.
fn word(mut rank: usize) -> String {
    let mut word = String::new();
    for _ in 0..4 {
        word.push(char::from(b"bcdfghklmnpqrtvz"[rank % 16]));
        rank /= 16;
        word.push(char::from(b"aiou"[rank % 4]));
        rank /= 4;
    }
    word + "m"
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let chunks: usize = std::env::args()
        .nth(1)
        .map_or(Ok(100_000), |count| count.parse())?;
    let dir = std::env::temp_dir().join(format!("ambit-search-rate-{}", std::process::id()));
    let index = Index::open(
        &dir,
        IndexConfig {
            writer_idle: Duration::from_millis(200),
            ..IndexConfig::default()
        },
    )?;
    let tenant = TenantId::new();
    let collection = index.collection(tenant, &"bench".parse()?);
    let mut dice = Dice(1);

    let started = Instant::now();
    let mut puts = Vec::new();
    let documents = chunks.div_ceil(CHUNKS_PER_DOCUMENT);
    let mut store = Store(0);
    for first in (0..documents).step_by(200) {
        let entries = (first..documents.min(first + 200))
            .map(|n| document(&mut dice, n))
            .collect();
        let batch = Batch::new(entries)?;
        store.0 += 1;
        let put = Instant::now();
        collection
            .writer()
            .await
            .put(
                Revision {
                    incarnation: 0,
                    number: store.0,
                },
                batch,
            )
            .await?;
        puts.push(put.elapsed());
    }
    println!(
        "{chunks} chunks written in {:.1} s",
        started.elapsed().as_secs_f64()
    );
    show("put of 1,000 chunks", puts);
    println!("resident after loading: {} MB", resident_mb());

    tokio::time::sleep(Duration::from_millis(400)).await;
    drop(collection.writer().await);
    println!("resident with the writer closed: {} MB", resident_mb());

    // As after a restart: opening reads every file once to check it.
    let index = Index::open(&dir, IndexConfig::default())?;
    let collection = index.collection(tenant, &"bench".parse()?);
    let opened = Instant::now();
    search(&collection, &store, "warm up", None, 10).await?;
    println!(
        "first search: {:.1} ms",
        opened.elapsed().as_secs_f64() * 1e3
    );

    let range = Filter::parse(
        r#"{"type":"and","filters":[{"type":"gte","key":"year","value":2000},{"type":"ne","key":"kind","value":"k3"}]}"#,
    )?;
    for (name, filter, limit) in [
        ("30 hits", None, 30),
        ("300 hits", None, 300),
        ("30 hits, filtered", Some(range), 30),
    ] {
        let mut times = Vec::new();
        for _ in 0..QUERIES {
            let words = 1 + (dice.roll() * 8.0) as usize;
            let text = dice.text(words);
            times.push(search(&collection, &store, &text, filter.clone(), limit).await?);
        }
        show(name, times);
    }
    println!("resident at the end: {} MB", resident_mb());
    std::fs::remove_dir_all(dir)?;
    Ok(())
}

fn document(dice: &mut Dice, n: usize) -> Entry {
    let chunk = |dice: &mut Dice, place: usize| {
        let words = WORDS_PER_CHUNK / 2 + (dice.roll() * WORDS_PER_CHUNK as f64) as usize;
        Chunk {
            anchor: format!("#{place}"),
            headings: vec![dice.text(4)],
            text: dice.text(words),
        }
    };
    Entry {
        id: format!("doc/{n}"),
        title: dice.text(6),
        attributes: vec![
            Attribute {
                name: "year".to_owned(),
                value: Value::Number(1970.0 + (dice.roll() * 55.0).floor()),
            },
            Attribute {
                name: "kind".to_owned(),
                value: Value::Text(format!("k{}", n % 10)),
            },
        ],
        chunks: (0..CHUNKS_PER_DOCUMENT)
            .map(|place| chunk(dice, place))
            .collect(),
    }
}

async fn search(
    collection: &ambit_index::Collection,
    store: &Store,
    text: &str,
    filter: Option<Filter>,
    limit: usize,
) -> Result<Duration, ambit_index::IndexError> {
    let weights = Weights {
        title: 0.3,
        headings: 0.15,
        text: 1.0,
    };
    let started = Instant::now();
    collection
        .search(
            store,
            Request {
                text: text.to_owned(),
                weights,
                filter,
                limit,
            },
        )
        .await?;
    Ok(started.elapsed())
}

fn show(name: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    println!(
        "{name}: p50 {:.2} ms, p99 {:.2} ms, max {:.2} ms ({} runs)",
        at(0.5),
        at(0.99),
        at(1.0),
        times.len()
    );
}

/// Anonymous memory: pages of mapped files belong to the system's cache.
fn resident_mb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok())
        .unwrap_or(0)
        / 1024
}
