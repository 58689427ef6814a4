//! The folded bytes of the open clause, and where in the original text each comes from.
//!
//! Plain text folds byte for byte, so places are kept as runs: a run of single-byte characters goes up by one per byte, a
//! wider character (which may fold to several bytes) is a run of its own.

use crate::engine::MAX_CLAUSE;
use crate::state::{Reader, Writer};

/// Room made at the first byte: most clauses fit.
const FIRST_RESERVE: usize = 128;

#[derive(Default)]
pub(super) struct Pending {
    bytes: Vec<u8>,
    runs: Vec<Run>,
}

#[derive(Clone, Copy)]
struct Run {
    /// First byte of the run in `bytes`.
    index: u32,
    /// Where its (first) character starts in the original text.
    start: u64,
    /// Bytes of each of its characters in the original text.
    width: u8,
}

impl Run {
    fn start(self, index: usize) -> u64 {
        if self.width == 1 {
            self.start + (index as u64 - u64::from(self.index))
        } else {
            self.start
        }
    }
}

impl Pending {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Appends one folded byte of a character.
    #[inline]
    pub(super) fn push(&mut self, byte: u8, start: u64, width: u8) {
        self.extend(&[byte], start, width);
    }

    /// Appends the folded bytes of consecutive characters of `width` bytes, the first of which is at `start`. More than one
    /// byte only where `width` is 1.
    #[inline]
    pub(super) fn extend(&mut self, bytes: &[u8], start: u64, width: u8) {
        let index = self.bytes.len();
        let goes_on = self
            .runs
            .last()
            .is_some_and(|run| run.width == width && run.start(index) == start);
        if !goes_on {
            if self.bytes.capacity() == 0 {
                self.bytes.reserve(FIRST_RESERVE);
            }
            self.runs.push(Run {
                index: index as u32,
                start,
                width,
            });
        }
        self.bytes.extend_from_slice(bytes);
    }

    fn run_of(&self, index: usize) -> Run {
        let at = self.runs.partition_point(|run| run.index as usize <= index);
        self.runs[at.saturating_sub(1)]
    }

    /// Where the character of a folded byte starts in the original text.
    pub(super) fn start(&self, index: usize) -> u64 {
        self.run_of(index).start(index)
    }

    /// Where the character of a folded byte ends in the original text.
    pub(super) fn end(&self, index: usize) -> u64 {
        let run = self.run_of(index);
        run.start(index) + u64::from(run.width)
    }

    /// Where the open clause starts in the original text.
    pub(super) fn first(&self) -> Option<u64> {
        self.runs.first().map(|run| run.start)
    }

    pub(super) fn drop_front(&mut self, n: usize) {
        if n >= self.bytes.len() {
            self.bytes.clear();
            self.runs.clear();
            return;
        }
        let first = self.start(n);
        let at = self
            .runs
            .partition_point(|run| run.index as usize <= n)
            .saturating_sub(1);
        self.runs.drain(..at);
        self.runs[0].start = first;
        for run in &mut self.runs {
            run.index = run.index.saturating_sub(n as u32);
        }
        self.bytes.drain(..n);
    }

    pub(super) fn write(&self, writer: &mut Writer, released: u64) {
        writer.bytes(&self.bytes);
        writer.number(self.runs.len() as u64);
        let (mut index, mut start) = (0, released);
        for run in &self.runs {
            writer.number(u64::from(run.index - index));
            writer.number((run.start - start) << 2 | u64::from(run.width - 1));
            (index, start) = (run.index, run.start);
        }
    }

    pub(super) fn read(reader: &mut Reader<'_>, released: u64, consumed: u64) -> Option<Pending> {
        let bytes = reader.bytes(MAX_CLAUSE)?.to_vec();
        let n_runs = reader.bounded(bytes.len() as u64)?;
        if (n_runs == 0) != bytes.is_empty() {
            return None;
        }
        let mut runs: Vec<Run> = Vec::with_capacity(n_runs as usize);
        let (mut index, mut start) = (0, released);
        for at in 0..n_runs {
            let step = reader.bounded(bytes.len() as u64)? as u32;
            let packed = reader.number()?;
            if (step == 0) != (at == 0) {
                return None;
            }
            index += step;
            start += packed >> 2;
            runs.push(Run {
                index,
                start,
                width: (packed & 3) as u8 + 1,
            });
            let last_index = bytes.len() as u64;
            if u64::from(index) >= last_index || start + last_index + 4 > consumed + last_index + 3
            {
                return None;
            }
        }
        let pending = Pending { bytes, runs };
        let in_order = pending
            .runs
            .windows(2)
            .all(|pair| pair[0].start(pair[1].index as usize - 1) < pair[1].start);
        let ends_inside = pending.is_empty() || pending.end(pending.len() - 1) <= consumed;
        (in_order && ends_inside).then_some(pending)
    }
}
