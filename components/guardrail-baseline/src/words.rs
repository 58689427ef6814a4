//! Small sets of known words as hash tables that the compiler builds: nothing to construct at start, one lookup per word.
//!
//! Words are compared by their 32-bit hash alone. With a thousand entries the chance that a foreign word is taken for one
//! of ours is one in four million; both users of these tables only ever weigh what they find with other evidence.

/// A word of ASCII letters, as far as it is weighed.
#[derive(Clone, Copy)]
pub(crate) struct Letters {
    pub(crate) n: u32,
    pub(crate) capitals: u32,
    /// In lower case.
    pub(crate) first: u8,
    /// Of the whole word in lower case.
    pub(crate) hash: u32,
}

/// Hash of the empty word (FNV-1a).
pub(crate) const SEED: u32 = 0x811c_9dc5;

/// The hash of a word with one more letter.
#[inline]
pub(crate) const fn extend(hash: u32, letter: u8) -> u32 {
    (hash ^ letter as u32).wrapping_mul(0x0100_0193)
}

/// The hash of a phrase with one more word; `phrase` is zero before its first word.
#[inline]
pub(crate) const fn join(phrase: u32, word: u32) -> u32 {
    phrase.rotate_left(11).wrapping_mul(0x9e37_79b1) ^ word
}

/// An open-addressing table from hashes to sets of classes. `SLOTS` is a power of two, at least twice the entries.
pub(crate) struct Table<const SLOTS: usize> {
    hashes: [u32; SLOTS],
    classes: [u64; SLOTS],
}

impl<const SLOTS: usize> Table<SLOTS> {
    pub(crate) const EMPTY: Table<SLOTS> = Table {
        hashes: [0; SLOTS],
        classes: [0; SLOTS],
    };

    #[inline]
    const fn slot(hash: u32) -> usize {
        hash.wrapping_mul(0x9e37_79b1) as usize >> (32 - SLOTS.trailing_zeros()) & (SLOTS - 1)
    }

    pub(crate) const fn with(mut self, hash: u32, classes: u64) -> Table<SLOTS> {
        let mut at = Self::slot(hash);
        while self.hashes[at] != 0 && self.hashes[at] != hash {
            at = (at + 1) % SLOTS;
        }
        self.hashes[at] = hash;
        self.classes[at] |= classes;
        self
    }

    /// Adds the words of `text`, which are separated by spaces.
    pub(crate) const fn with_words(mut self, text: &str, classes: u64) -> Table<SLOTS> {
        let text = text.as_bytes();
        let (mut hash, mut at) = (SEED, 0);
        while at <= text.len() {
            if at < text.len() && text[at] != b' ' {
                hash = extend(hash, text[at]);
            } else if hash != SEED {
                self = self.with(hash, classes);
                hash = SEED;
            }
            at += 1;
        }
        self
    }

    /// The classes of the word or phrase with this hash; none for most.
    #[inline]
    pub(crate) fn get(&self, hash: u32) -> u64 {
        let mut at = Self::slot(hash);
        loop {
            let found = self.hashes[at];
            if found == hash {
                return self.classes[at];
            }
            if found == 0 {
                return 0;
            }
            at = (at + 1) % SLOTS;
        }
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.hashes.iter().filter(|hash| **hash != 0).count()
    }
}
