//! What the operator configured for tools: plain values and secrets, for all tenants and for single ones.
//!
//! A tenant's value takes the place of everybody's. Who may read which is the ambit's affair; here is only what there is.

use ambit_egress::{Handles, SecretValue};
use ambit_policy::Ambit;
use ambit_types::{Secret, TenantSlug};
use std::collections::{BTreeMap, HashMap};

/// A plain value is put into a guest's memory at every look; more is a document, not configuration.
const VALUE_CAP: usize = 16 * 1024;

/// All values of an installation. Secrets are hidden in `Debug`.
#[derive(Debug, Default)]
pub struct Values {
    everybody: Set,
    tenants: HashMap<TenantSlug, Set>,
}

/// Values of one level.
#[derive(Debug, Default)]
pub struct Set {
    plain: BTreeMap<String, String>,
    secrets: BTreeMap<String, SecretValue>,
}

/// What cannot be a value or its name. The text says what was expected and shows no value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadValue(String);

impl Set {
    /// A plain value: any text.
    ///
    /// # Errors
    /// No rule of a grant could name the key, or the value is too long.
    pub fn plain(&mut self, key: &str, value: String) -> Result<(), BadValue> {
        let rule = key.parse::<ambit_policy::ConfigRule>();
        if let Err(expected) = rule {
            return Err(BadValue(expected.to_string()));
        }
        if key.contains('*') {
            return Err(BadValue("a key without `*`".to_owned()));
        }
        if value.len() > VALUE_CAP {
            return Err(BadValue("a value of at most 16 KiB".to_owned()));
        }
        self.plain.insert(key.to_owned(), value);
        Ok(())
    }

    /// A secret, which guests get as a placeholder.
    ///
    /// # Errors
    /// No rule of a grant could name it, or no header could hold the value.
    pub fn secret(&mut self, name: &str, value: Secret) -> Result<(), BadValue> {
        ambit_policy::check_secret_name(name).map_err(|error| BadValue(error.to_string()))?;
        let value = SecretValue::new(value).map_err(|error| BadValue(error.to_string()))?;
        self.secrets.insert(name.to_owned(), value);
        Ok(())
    }
}

impl Values {
    /// Values for everybody, and those that take their place for single tenants.
    ///
    /// # Errors
    /// Names that are a plain value here and a secret there: which one a guest gets would depend on its tenant.
    pub fn new(everybody: Set, tenants: HashMap<TenantSlug, Set>) -> Result<Self, Vec<String>> {
        let values = Self { everybody, tenants };
        let sets = || values.tenants.values().chain([&values.everybody]);
        let both: std::collections::BTreeSet<_> = sets()
            .flat_map(|set| set.secrets.keys())
            .filter(|name| sets().any(|set| set.plain.contains_key(*name)))
            .cloned()
            .collect();
        if both.is_empty() {
            Ok(values)
        } else {
            Err(both.into_iter().collect())
        }
    }

    /// The tenants that have values of their own.
    pub fn tenants(&self) -> impl Iterator<Item = &TenantSlug> {
        self.tenants.keys()
    }

    pub(super) fn plain(&self, tenant: &TenantSlug, key: &str) -> Option<&str> {
        let own = self.tenants.get(tenant).and_then(|set| set.plain.get(key));
        own.or_else(|| self.everybody.plain.get(key))
            .map(String::as_str)
    }

    /// All plain values of a tenant, by key.
    pub(super) fn all_plain(&self, tenant: &TenantSlug) -> BTreeMap<&str, &str> {
        let own = self.tenants.get(tenant).map(|set| &set.plain);
        let all = self.everybody.plain.iter().chain(own.into_iter().flatten());
        all.map(|(key, value)| (&**key, &**value)).collect()
    }

    /// Handles of the secrets in an ambit that have a value.
    pub(super) fn handles(
        &self,
        tenant: &TenantSlug,
        ambit: &Ambit,
    ) -> Result<Handles, getrandom::Error> {
        Handles::new(ambit.secret_names().into_iter().filter_map(|name| {
            let value = self.secret(tenant, name)?;
            Some((name.to_owned(), value.clone()))
        }))
    }

    pub(super) fn secret(&self, tenant: &TenantSlug, name: &str) -> Option<&SecretValue> {
        let own = self
            .tenants
            .get(tenant)
            .and_then(|set| set.secrets.get(name));
        own.or_else(|| self.everybody.secrets.get(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(plain: &[(&str, &str)], secrets: &[(&str, &str)]) -> Set {
        let mut set = Set::default();
        for (key, value) in plain {
            set.plain(key, (*value).to_owned()).unwrap();
        }
        for (name, value) in secrets {
            set.secret(name, Secret::new(*value)).unwrap();
        }
        set
    }

    fn slug(text: &str) -> TenantSlug {
        text.parse().unwrap()
    }

    #[test]
    fn a_tenants_value_takes_the_place_of_everybodys() {
        let everybody = set(&[("a", "1"), ("b", "2")], &[]);
        let own = HashMap::from([(slug("acme"), set(&[("b", "3"), ("c", "4")], &[]))]);
        let values = Values::new(everybody, own).unwrap();
        let of = |tenant: &str| Vec::from_iter(values.all_plain(&slug(tenant)));
        assert_eq!(of("acme"), [("a", "1"), ("b", "3"), ("c", "4")]);
        assert_eq!(of("globex"), [("a", "1"), ("b", "2")]);
        assert_eq!(values.plain(&slug("acme"), "b"), Some("3"));
        assert_eq!(values.plain(&slug("globex"), "b"), Some("2"));
        assert_eq!(values.plain(&slug("globex"), "c"), None);
    }

    #[test]
    fn a_name_is_a_secret_or_a_plain_value() {
        let own = HashMap::from([(slug("acme"), set(&[("token", "x")], &[]))]);
        let both = Values::new(set(&[], &[("token", "0123456789")]), own);
        assert_eq!(both.unwrap_err(), ["token"]);
    }

    #[test]
    fn what_no_grant_could_name_or_no_header_hold_is_no_value() {
        let mut set = Set::default();
        for key in ["", "a b", "a*", "*", &"k".repeat(257)] {
            assert!(set.plain(key, String::new()).is_err(), "{key}");
        }
        assert!(set.plain("k", "v".repeat(VALUE_CAP + 1)).is_err());
        for name in ["", "A", "a_b", "a*", &"n".repeat(65)] {
            assert!(
                set.secret(name, Secret::new("0123456789")).is_err(),
                "{name}"
            );
        }
        let error = set.secret("n", Secret::new("hunter2")).unwrap_err();
        assert!(!error.to_string().contains("hunter2"), "{error}");
        set.secret("n", Secret::new("hunter2-and-more")).unwrap();
        assert!(!format!("{set:?}").contains("hunter2"));
    }
}
