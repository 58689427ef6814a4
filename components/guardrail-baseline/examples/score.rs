//! Scores the guardrail natively on a folder of labelled data, with the measures of the scorers that run over HTTP.
//!
//!     cargo run --release -p guardrail-baseline --example score -- ../shared/data [--wrong]

#![allow(clippy::print_stdout, reason = "a report for a person")]

#[path = "../tests/support/mod.rs"]
mod support;

use guardrail_baseline::{Stage, check};
use std::path::PathBuf;
use std::time::Instant;
use support::{Injection, Pii, Secrets, rows};

fn main() {
    let mut arguments = std::env::args().skip(1);
    let folder = PathBuf::from(
        arguments
            .next()
            .unwrap_or_else(|| "../shared/data".to_owned()),
    );
    let shows_wrong = arguments.next().is_some();
    let show = |wrong: &[String]| {
        wrong
            .iter()
            .filter(|_| shows_wrong)
            .for_each(|line| println!("    {line}"))
    };

    for (file, stage) in [
        ("injection-dev/direct.jsonl", Stage::Input),
        ("injection-dev/indirect.jsonl", Stage::Input),
        ("injection-dev/indirect.jsonl", Stage::Retrieved),
    ] {
        let score = Injection::of(stage, &rows(&folder.join(file)));
        println!(
            "{file} as {stage:?}: recall {:.1} % of {}, false positives {:.1} % of {}",
            100.0 * score.rate(1),
            score.n[1],
            100.0 * score.rate(0),
            score.n[0]
        );
        show(&score.wrong);
    }
    let pii = Pii::of(&rows(&folder.join("pii-dev/data.jsonl")));
    println!(
        "pii: recall {:.3} of {}, precision {:.3} of {}",
        pii.recall(),
        pii.wanted,
        pii.precision(),
        pii.reported
    );
    show(&pii.wrong);
    let secrets = Secrets::of(&rows(&folder.join("secrets-dev/data.jsonl")));
    println!(
        "secrets: files {} of {}, lines {} of {}, false lines {}",
        secrets.files, secrets.with_secret, secrets.lines, secrets.risk, secrets.false_lines
    );
    show(&secrets.wrong);
    let (mut n, mut flagged) = (0, 0);
    for file in ["corpus.jsonl", "queries.jsonl"] {
        for row in rows(&folder.join("ir-cranfield").join(file)) {
            let found = support::findings(Stage::Input, support::text(&row));
            n += 1;
            flagged += usize::from(!found.is_empty());
            show(
                &found
                    .iter()
                    .map(|finding| {
                        format!(
                            "{finding:?} {}",
                            &support::text(&row)[finding.start as usize..finding.end as usize]
                        )
                    })
                    .collect::<Vec<_>>(),
            );
        }
    }
    println!("benign (cranfield, any finding): {flagged} of {n} flagged");

    let text: String = support::text(&rows(&folder.join("ir-cranfield/corpus.jsonl"))[0])
        .chars()
        .take(600)
        .collect();
    let policy = support::flag_all(Stage::Input);
    let start = Instant::now();
    const ROUNDS: u32 = 20_000;
    for _ in 0..ROUNDS {
        std::hint::black_box(
            check(
                &policy,
                Stage::Input,
                std::hint::black_box(&text),
                true,
                &[],
            )
            .is_ok(),
        );
    }
    println!(
        "{} bytes of prose: {:.1} µs natively",
        text.len(),
        start.elapsed().as_secs_f64() * 1e6 / f64::from(ROUNDS)
    );
}
