//! Which tokens are good no more, before their time.

use ambit_types::TokenId;
use std::collections::HashMap;

use super::Token;

/// An immutable set of revoked ids. A change makes a new set, to be swapped in whole; who holds the old one finishes with it.
///
/// Revoking a token revokes its descendants, which carry its id. Each id is kept until its token has expired; descendants expire no
/// later.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Revocations {
    /// When the token expires, in seconds since the Unix epoch.
    until: HashMap<TokenId, u64>,
}

impl Revocations {
    #[must_use]
    pub fn contains(&self, id: TokenId) -> bool {
        self.until.contains_key(&id)
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.until.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.until.is_empty()
    }

    /// These and one more.
    #[must_use]
    pub fn and(&self, token: &Token) -> Self {
        self.with([(token.jti, token.exp)])
    }

    /// These and further ids, with the `exp` of their tokens.
    #[must_use]
    pub fn with(&self, more: impl IntoIterator<Item = (TokenId, u64)>) -> Self {
        self.iter().chain(more).collect()
    }

    /// Those of tokens that would still be good at `now`.
    #[must_use]
    pub fn pruned(&self, now: u64) -> Self {
        self.iter().filter(|(_, until)| *until > now).collect()
    }

    fn iter(&self) -> impl Iterator<Item = (TokenId, u64)> {
        self.until.iter().map(|(id, until)| (*id, *until))
    }
}

impl FromIterator<(TokenId, u64)> for Revocations {
    /// Of ids and the `exp` of their tokens. Of two times for an id the later one counts.
    fn from_iter<I: IntoIterator<Item = (TokenId, u64)>>(revoked: I) -> Self {
        let mut until = HashMap::new();
        for (id, expires_at) in revoked {
            let until: &mut u64 = until.entry(id).or_default();
            *until = expires_at.max(*until);
        }
        Self { until }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_stays_until_its_token_has_expired() {
        let [a, b] = [TokenId::new(), TokenId::new()];
        let set: Revocations = [(a, 10), (b, 20), (a, 5)].into_iter().collect();
        assert_eq!(set.len(), 2);
        let still = |now: u64| [a, b].map(|id| set.pruned(now).contains(id));
        assert_eq!(still(9), [true, true]);
        assert_eq!(still(10), [false, true]);
        assert_eq!(still(20), [false, false]);
        assert!(set.pruned(20).is_empty() && set.contains(a));
    }
}
