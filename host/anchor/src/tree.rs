//! The trees of [`ambit_audit`], kept: a leaf that changes costs the hashes above it only.

use ambit_audit::{Digest, Path, node_hash, root};

/// Levels from the leaves up; each has the nodes of the one below in pairs, and a last one without a partner goes up as it is, which is
/// the tree of the RFC.
#[derive(Debug, Clone, Default)]
pub struct Tree {
    levels: Vec<Vec<Digest>>,
}

impl Tree {
    #[must_use]
    pub fn new(leaves: Vec<Digest>) -> Self {
        let mut tree = Self {
            levels: vec![leaves],
        };
        tree.rehash(0..tree.len());
        tree
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.levels.first().map_or(0, Vec::len)
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Of no leaves: the hash of nothing.
    #[must_use]
    pub fn root(&self) -> Digest {
        let top = self.levels.last().and_then(|level| level.first());
        top.copied().unwrap_or_else(|| root(&[]))
    }

    /// Puts a leaf in place of the one at `index`, which must be there.
    pub fn set(&mut self, index: usize, leaf: Digest) {
        self.levels[0][index] = leaf;
        self.rehash(index..index + 1);
    }

    /// Puts a leaf before the one at `index`, or at the end. Those behind it move: at the end that is cheap.
    pub fn insert(&mut self, index: usize, leaf: Digest) {
        if self.levels.is_empty() {
            self.levels.push(Vec::new());
        }
        self.levels[0].insert(index, leaf);
        self.rehash(index..self.len());
    }

    /// What proves the leaf at `index`, which must be there.
    #[must_use]
    pub fn path(&self, index: usize) -> Path {
        let mut hashes = Vec::new();
        let mut at = index;
        for level in &self.levels {
            hashes.extend(level.get(at ^ 1));
            at /= 2;
        }
        Path {
            index: index as u64,
            size: self.len() as u64,
            hashes,
        }
    }

    /// Computes again what is above these leaves.
    fn rehash(&mut self, changed: std::ops::Range<usize>) {
        let (mut from, mut to) = (changed.start, changed.end);
        let mut level = 0;
        while self.levels[level].len() > 1 {
            if self.levels.len() == level + 1 {
                self.levels.push(Vec::new());
            }
            let (below, above) = self.levels.split_at_mut(level + 1);
            let (below, above) = (&below[level], &mut above[0]);
            above.resize(below.len().div_ceil(2), Digest::default());
            (from, to) = (from / 2, to.div_ceil(2));
            for at in from..to {
                let pair = below.get(2 * at + 1);
                above[at] = pair.map_or(below[2 * at], |right| node_hash(below[2 * at], *right));
            }
            level += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn leaf(n: u32) -> Digest {
        let mut leaf = Digest::default();
        leaf.0[..4].copy_from_slice(&n.to_be_bytes());
        leaf
    }

    proptest! {
        #[test]
        fn a_tree_is_the_rfcs_however_it_came_about(start in 0..40_usize, changes in prop::collection::vec((any::<bool>(), any::<prop::sample::Index>(), any::<u32>()), 0..40)) {
            let mut leaves: Vec<_> = (0..start as u32).map(leaf).collect();
            let mut tree = Tree::new(leaves.clone());
            for (insert, index, n) in changes {
                if insert || leaves.is_empty() {
                    let index = index.index(leaves.len() + 1);
                    leaves.insert(index, leaf(n));
                    tree.insert(index, leaf(n));
                } else {
                    let index = index.index(leaves.len());
                    leaves[index] = leaf(n);
                    tree.set(index, leaf(n));
                }
                prop_assert_eq!(tree.root(), root(&leaves));
            }
            for (index, leaf) in leaves.iter().enumerate() {
                prop_assert_eq!(tree.path(index).root(*leaf), Some(tree.root()));
            }
        }

        #[test]
        fn a_path_that_was_changed_proves_nothing(size in 2..40_u32, index in any::<prop::sample::Index>(), what in 0..5, other in any::<prop::sample::Index>()) {
            let tree = Tree::new((0..size).map(leaf).collect());
            let index = index.index(size as usize);
            let mut path = tree.path(index);
            let mut proven = leaf(index as u32);
            match what {
                0 => proven = leaf(size),
                1 => path.index = (path.index + 1) % path.size,
                2 => drop(path.hashes.pop()),
                3 => path.hashes.push(leaf(0)),
                _ => {
                    let at = other.index(path.hashes.len());
                    path.hashes[at].0[3] ^= 16;
                }
            }
            prop_assert_ne!(path.root(proven), Some(tree.root()));
        }
    }
}
