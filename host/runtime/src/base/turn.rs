//! Time and chance of an agent's turn.

use sha2::{Digest as _, Sha256};
use std::{convert::Infallible, time::Duration};
use wasmtime_wasi::{HostMonotonicClock, HostWallClock};

/// A clock that stands still, as time since the Unix epoch.
pub(super) struct Stopped(pub(super) Duration);

impl HostWallClock for Stopped {
    fn resolution(&self) -> Duration {
        Duration::from_nanos(1)
    }

    fn now(&self) -> Duration {
        self.0
    }
}

impl HostMonotonicClock for Stopped {
    fn resolution(&self) -> u64 {
        1
    }

    fn now(&self) -> u64 {
        u64::try_from(self.0.as_nanos()).unwrap_or(u64::MAX)
    }
}

/// Bytes that follow from a seed: SHA-256 over seed, purpose and a counter.
pub(super) struct Seeded {
    seed: [u8; 32],
    purpose: u8,
    counter: u64,
    block: [u8; 32],
    used: usize,
}

impl Seeded {
    pub(super) fn new(seed: [u8; 32], purpose: u8) -> Self {
        Self {
            seed,
            purpose,
            counter: 0,
            block: [0; 32],
            used: 32,
        }
    }

    pub(super) fn fill(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            if self.used == self.block.len() {
                let hash = Sha256::new()
                    .chain_update(self.seed)
                    .chain_update([self.purpose])
                    .chain_update(self.counter.to_le_bytes());
                self.block = hash.finalize().into();
                self.counter += 1;
                self.used = 0;
            }
            *byte = self.block[self.used];
            self.used += 1;
        }
    }
}

impl rand_core::TryRng for Seeded {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.fill(&mut bytes);
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        self.fill(bytes);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Seeded;

    #[test]
    fn seeded_bytes_follow_from_seed_and_purpose() {
        let draw = |seed, purpose| {
            let mut bytes = [0; 100];
            Seeded::new(seed, purpose).fill(&mut bytes);
            bytes
        };
        assert_eq!(draw([1; 32], 1), draw([1; 32], 1));
        assert_ne!(draw([1; 32], 1), draw([1; 32], 2));
        assert_ne!(draw([1; 32], 1), draw([2; 32], 1));
        let one_by_one: Vec<u8> = {
            let mut seeded = Seeded::new([1; 32], 1);
            std::iter::repeat_with(|| {
                let mut byte = [0];
                seeded.fill(&mut byte);
                byte[0]
            })
            .take(100)
            .collect()
        };
        assert_eq!(one_by_one, draw([1; 32], 1));
    }
}
