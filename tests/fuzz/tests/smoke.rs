//! Every target over its corpus and some thousand damaged copies of it: the same in every run, seconds in all.

use ambit_fuzz::TARGETS;
use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
};

/// Damaged copies of each file of a corpus.
const COPIES: usize = 1_500;
/// Most places damaged in one copy.
const MOST_DAMAGE: usize = 4;
/// Bytes that mean something to one reader or another.
const TELLING: &[u8] = b"\0\n\r\t \"'\\/.,:;-_@#%&=+*()[]{}<>|09azAZ\x7f\x80\xc3\xe2\xf0\xff";

#[test]
fn what_must_hold_holds_for_damaged_input() {
    for (name, target) in TARGETS {
        let files = corpus(name);
        assert!(!files.is_empty(), "no corpus of `{name}`");
        for (n, (path, whole)) in files.iter().enumerate() {
            run(name, target, path, whole);
            let mut random = Random(0x9e37_79b9_7f4a_7c15 ^ n as u64);
            for _ in 0..COPIES {
                let other = &files[random.below(files.len())].1;
                run(name, target, path, &damage(whole, other, &mut random));
            }
        }
    }
}

#[test]
fn every_corpus_has_its_target() {
    let folders = fs::read_dir(folder()).expect("the corpus");
    for folder in folders {
        let name = folder.expect("readable").file_name();
        assert!(
            TARGETS.iter().any(|(target, _)| *target == name),
            "{name:?}"
        );
    }
}

/// Runs a target; a failure shows the input, fit for a Rust literal.
fn run(name: &str, target: &fn(&[u8]), path: &Path, input: &[u8]) {
    if catch_unwind(AssertUnwindSafe(|| target(input))).is_err() {
        panic!(
            "`{name}` fails on a copy of {}: b\"{}\"",
            path.display(),
            input.escape_ascii()
        );
    }
}

/// A copy with bytes changed, taken out, doubled, or replaced by a piece of another file.
fn damage(whole: &[u8], other: &[u8], random: &mut Random) -> Vec<u8> {
    let mut copy = whole.to_vec();
    for _ in 0..=random.below(MOST_DAMAGE) {
        let at = random.below(copy.len() + 1);
        let end = (at + random.below(16)).min(copy.len());
        match random.below(6) {
            0 => drop(copy.drain(at..end)),
            1 => copy.insert(at, TELLING[random.below(TELLING.len())]),
            2 => {
                let piece = copy[at..end].to_vec();
                copy.splice(at..at, piece);
            }
            3 => {
                let from = random.below(other.len() + 1);
                let to = (from + random.below(32)).min(other.len());
                copy.splice(at..end, other[from..to].iter().copied());
            }
            4 => copy.truncate(at),
            _ => {
                if let Some(byte) = copy.get_mut(at) {
                    *byte = random.below(256) as u8;
                }
            }
        }
    }
    copy
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")
}

/// The files of a corpus in the order of their names.
fn corpus(name: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let entries = fs::read_dir(folder().join(name)).expect("a folder for each target");
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| entry.expect("readable").path())
        .collect();
    paths.sort();
    let read = |path: PathBuf| (path.clone(), fs::read(path).expect("readable"));
    paths.into_iter().map(read).collect()
}

/// A small multiplicative generator: the same numbers in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % end
    }
}
