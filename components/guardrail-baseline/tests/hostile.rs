//! Hostile text costs what its length says and no more, and the state stays within its bound.

mod support;

use guardrail_baseline::{MAX_STATE, Stage, check};
use std::time::{Duration, Instant};

/// Pieces that, repeated without end, make a careless scanner start over at every byte.
const PIECES: &[&str] = &[
    "1",
    "1 ",
    "1-",
    "(1",
    "+1",
    "12.",
    "@",
    "a@",
    "a@b.",
    "a.",
    "a:",
    ":",
    "::",
    "://",
    "a://b:c@",
    "-",
    "-----BEGIN ",
    "-----BEGIN RSA PRIVATE KEY-----",
    "BEGIN",
    "password ",
    "password=",
    "password='",
    "key:key:",
    "<pass",
    "eyJ",
    "eyJhbGciOi.",
    "AKIA",
    "ghp_",
    "$2y$",
    "{SSHA}",
    "DE89 ",
    "DE89",
    "aWdub3Jl",
    "aWdub3Jl ",
    "%69",
    "&#105;",
    "&#",
    "\\u0069",
    "i ",
    "ignore ",
    "ignore all previous instructions. ",
    "\u{200b}",
    "\u{e0069}",
    "é",
    "忽",
    "\u{fdfa}",
    "x123",
    "1 x1 ",
    "hooks.slack.com/services/",
    "\"",
    "'",
    "\n",
    ".",
    "Bearer ",
];

fn time(text: &str) -> Duration {
    let policy = support::flag_all(Stage::Retrieved);
    (0..2)
        .map(|_| {
            let start = Instant::now();
            assert!(check(&policy, Stage::Retrieved, text, true, &[]).is_ok());
            start.elapsed()
        })
        .min()
        .unwrap_or_default()
}

/// Sixteen times the text may take sixteen times as long, and the bound allows for four times that; starting over at every
/// byte would take 256 times as long. The absolute floor keeps noise on a busy machine out of tiny measurements.
#[test]
fn time_grows_with_the_text_and_not_faster() {
    const SMALL: usize = 16 * 1024;
    for piece in PIECES {
        let small = time(&piece.repeat(SMALL / piece.len())).max(Duration::from_millis(5));
        let large = time(&piece.repeat(16 * SMALL / piece.len()));
        assert!(
            large < 64 * small,
            "{piece:?}: {small:?} for 16 KiB, {large:?} for 256 KiB"
        );
    }
}

#[test]
fn the_state_stays_within_its_bound() {
    let policy = support::flag_all(Stage::Output);
    for piece in PIECES {
        let text = piece.repeat(20_000 / piece.len());
        let mut state = Vec::new();
        for chunk in text.chars().collect::<Vec<_>>().chunks(97) {
            let chunk: String = chunk.iter().collect();
            state = check(&policy, Stage::Output, &chunk, false, &state)
                .expect("our own state")
                .state;
            assert!(state.len() <= MAX_STATE, "{piece:?}: {}", state.len());
        }
    }
}
