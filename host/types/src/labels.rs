//! Names as labels of metrics: as many as were counted on, and one for all that come later.
//!
//! Each value of a label is a series that the process and every scraper keep for good. So nobody may make them at will: what callers
//! invent never becomes a label, and of what operators make there is a bound.

use std::{
    collections::HashSet,
    sync::{Arc, PoisonError, RwLock},
};

/// Values per label. A family of (tenant, agent) then has some thousands of series at most in practice; each costs about 200 bytes.
const MOST: usize = 500;

/// The values one label has had so far, each kept once.
#[derive(Debug, Default)]
pub struct Labels(RwLock<HashSet<Arc<str>>>);

impl Labels {
    /// Stands for every value beyond the bound. No tenant and no agent can have such a name, nor those below.
    pub const OTHER: &str = "_other";
    /// Where there is no tenant or no agent.
    pub const NONE: &str = "_none";
    /// What the host does for itself.
    pub const HOST: &str = "_host";

    /// The value as a label: itself while there is room for it, else [`Self::OTHER`]. A sum over the label stays right.
    #[must_use]
    pub fn get(&self, value: &str) -> Arc<str> {
        // A panic while the set was held leaves a set that is still good.
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known.get(value) {
            return known.clone();
        }
        drop(known);
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let value = if known.len() < MOST {
            value
        } else {
            Self::OTHER
        };
        if let Some(known) = known.get(value) {
            return known.clone();
        }
        let value: Arc<str> = value.into();
        known.insert(value.clone());
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{AgentName, TenantSlug};

    #[test]
    fn values_beyond_the_bound_share_a_label() {
        let labels = Labels::default();
        let values: HashSet<_> = (0..10 * MOST).map(|n| labels.get(&n.to_string())).collect();
        assert_eq!(values.len(), MOST + 1);
        assert_eq!(&*labels.get("0"), "0", "an old value keeps its label");
        assert_eq!(&*labels.get("never seen"), Labels::OTHER);
    }

    #[test]
    fn what_the_host_says_is_no_ones_name() {
        for label in [Labels::OTHER, Labels::NONE, Labels::HOST] {
            assert!(label.parse::<TenantSlug>().is_err());
            assert!(label.parse::<AgentName>().is_err());
        }
    }
}
