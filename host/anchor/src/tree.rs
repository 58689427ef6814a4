//! The trees of [`ambit_audit`] with all their levels, for the paths of leaves.

use ambit_audit::{Digest, Path, node_hash};

/// Levels from the leaves up; each has the nodes of the one below in pairs, and a last one without a partner goes up as it is, which is
/// the tree of the RFC.
#[derive(Debug, Clone)]
pub(crate) struct Tree {
    levels: Vec<Vec<Digest>>,
}

impl Tree {
    pub(crate) fn new(leaves: Vec<Digest>) -> Self {
        let mut levels = vec![leaves];
        while let Some(below) = levels.last().filter(|level| level.len() > 1) {
            let pair = |pair: &[Digest]| match pair {
                [left, right] => node_hash(*left, *right),
                alone => alone[0],
            };
            levels.push(below.chunks(2).map(pair).collect());
        }
        Self { levels }
    }

    /// What proves the leaf at `index`, which must be there.
    pub(crate) fn path(&self, index: usize) -> Path {
        let mut hashes = Vec::new();
        let mut at = index;
        for level in &self.levels {
            hashes.extend(level.get(at ^ 1));
            at /= 2;
        }
        let size = self.levels[0].len() as u64;
        let index = index as u64;
        Path {
            index,
            size,
            hashes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ambit_audit::Frontier;
    use proptest::prelude::*;

    fn leaf(n: u32) -> Digest {
        let mut leaf = Digest::default();
        leaf.0[..4].copy_from_slice(&n.to_be_bytes());
        leaf
    }

    fn root(leaves: &[Digest]) -> Digest {
        leaves.iter().copied().collect::<Frontier>().root()
    }

    #[test]
    fn every_leaf_has_its_path() {
        for size in 1..70 {
            let leaves: Vec<_> = (0..size).map(leaf).collect();
            let tree = Tree::new(leaves.clone());
            for (index, leaf) in leaves.iter().enumerate() {
                assert_eq!(tree.path(index).root(*leaf), Some(root(&leaves)));
            }
        }
    }

    proptest! {
        #[test]
        fn a_path_that_was_changed_proves_nothing(size in 2..40_u32, index in any::<prop::sample::Index>(), what in 0..5, other in any::<prop::sample::Index>()) {
            let leaves: Vec<_> = (0..size).map(leaf).collect();
            let tree = Tree::new(leaves.clone());
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
            prop_assert_ne!(path.root(proven), Some(root(&leaves)));
        }
    }
}
