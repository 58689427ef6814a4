//! Merkle trees of RFC 9162 §2.1: `leaf = H(0x00 ‖ data)`, `node = H(0x01 ‖ left ‖ right)`, the left part a power of two.

use crate::Digest;
use serde::{Deserialize, Serialize};

pub(crate) fn leaf_hash(data: &[&[u8]]) -> Digest {
    let parts: Vec<&[u8]> = std::iter::once(&[0_u8][..]).chain(data.iter().copied()).collect();
    Digest::of(&parts)
}

#[must_use]
pub fn node_hash(left: Digest, right: Digest) -> Digest {
    Digest::of(&[&[1], &left.0, &right.0])
}

/// What of a tree has to be kept to add leaves to it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Frontier {
    pub size: u64,
    /// Of its full parts, from the largest on: one for each bit that is set in `size`.
    pub roots: Vec<Digest>,
}

impl Frontier {
    pub fn push(&mut self, leaf: Digest) {
        let mut hash = leaf;
        for _ in 0..self.size.trailing_ones() {
            hash = self.roots.pop().map_or(hash, |left| node_hash(left, hash));
        }
        self.roots.push(hash);
        self.size += 1;
    }

    /// Of no leaves: the hash of nothing.
    #[must_use]
    pub fn root(&self) -> Digest {
        let parts = self.roots.iter().rev().copied();
        parts.reduce(|right, left| node_hash(left, right)).unwrap_or_else(|| Digest::of(&[]))
    }
}

impl FromIterator<Digest> for Frontier {
    fn from_iter<T: IntoIterator<Item = Digest>>(leaves: T) -> Self {
        let mut tree = Self::default();
        leaves.into_iter().for_each(|leaf| tree.push(leaf));
        tree
    }
}

/// The hashes that lead from a leaf to the root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Path {
    /// Of the leaf, from 0.
    pub index: u64,
    /// Leaves of the tree.
    pub size: u64,
    /// From the leaf up.
    pub hashes: Vec<Digest>,
}

impl Path {
    /// The root of the tree in which `leaf` is where the path says (RFC 9162 §2.1.3.2). None: there is no such path.
    #[must_use]
    pub fn root(&self, leaf: Digest) -> Option<Digest> {
        let (mut at, mut last) = (self.index, self.size.checked_sub(1)?);
        if at > last {
            return None;
        }
        let (mut root, mut hashes) = (leaf, self.hashes.iter());
        while last > 0 {
            if at % 2 == 1 {
                root = node_hash(*hashes.next()?, root);
            } else if at < last {
                root = node_hash(root, *hashes.next()?);
            }
            (at, last) = (at / 2, last / 2);
        }
        hashes.next().is_none().then_some(root)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(leaves: &[Digest]) -> Digest {
        leaves.iter().copied().collect::<Frontier>().root()
    }

    #[test]
    fn a_tree_goes_on_from_what_was_kept() {
        let leaves: Vec<_> = (0..200_u8).map(|n| leaf_hash(&[&[n]])).collect();
        for split in 0..leaves.len() {
            let first: Frontier = leaves[..split].iter().copied().collect();
            assert_eq!(first.roots.len(), split.count_ones() as usize);
            let mut kept = first.clone();
            leaves[split..].iter().for_each(|leaf| kept.push(*leaf));
            assert_eq!(kept.root(), root(&leaves));
        }
        assert_eq!(root(&[]), Digest::of(&[]));
    }

    #[test]
    fn an_impossible_path_is_none() {
        let path = |index, size| Path { index, size, hashes: Vec::new() };
        let leaf = leaf_hash(&[b"x"]);
        for (index, size) in [(0, 0), (1, 1), (u64::MAX, u64::MAX), (0, u64::MAX)] {
            assert_eq!(path(index, size).root(leaf), None);
        }
        assert_eq!(path(0, 1).root(leaf), Some(leaf));
    }

    /// The tree of seven leaves in RFC 9162 §2.1.5.
    #[test]
    fn a_path_is_the_rfcs() {
        let leaves: Vec<_> = (0..7_u8).map(|n| leaf_hash(&[&[n]])).collect();
        let [g, h, i] = [0, 2, 4].map(|n| node_hash(leaves[n], leaves[n + 1]));
        let k = node_hash(g, h);
        let l = node_hash(i, leaves[6]);
        assert_eq!(root(&leaves), node_hash(k, l));
        let path = |index, hashes| Path { index, size: 7, hashes };
        let [b, c, f, j] = [leaves[1], leaves[2], leaves[5], leaves[6]];
        assert_eq!(path(0, vec![b, h, l]).root(leaves[0]), Some(root(&leaves)));
        assert_eq!(path(3, vec![c, g, l]).root(leaves[3]), Some(root(&leaves)));
        assert_eq!(path(4, vec![f, j, k]).root(leaves[4]), Some(root(&leaves)));
        assert_eq!(path(6, vec![i, k]).root(leaves[6]), Some(root(&leaves)));
    }
}
