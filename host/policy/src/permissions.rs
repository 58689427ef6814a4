//! What may be done, by class. In a manifest it is what the author asks for; given by an operator, a tenant or a token it is a grant.
//!
//! Nothing listed, nothing allowed. The shape is the same in TOML and JSON; one reader serves both, so that both know the same keys.

use serde::{Deserialize, Deserializer, Serialize};
use toml::Table;
use url::Url;

use crate::{
    HttpRule, OriginPattern, PatternError,
    kind::words,
    problem::{Problem, Problems, Reader},
    rule::{CollectionRule, ConfigRule, KeyRule, ModelRule, Rule, read_text_rule},
    secret_rule::SecretRule,
};

words! {
    /// A class of permission: one key of the `permissions` table.
    Class {
        /// Outbound HTTP requests.
        Http = "http",
        /// Model calls.
        Models = "models",
        /// Reading and writing collections.
        Collections = "collections",
        /// The tenant's key-value store.
        KeyValue = "keyvalue",
        /// Configuration values.
        Config = "config",
        /// Secrets by handle.
        Secrets = "secrets",
    }
}

/// Rules by class. [`Manifest`](crate::Manifest)'s module shows the shape.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Permissions {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub http: Vec<Rule<HttpRule>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<Rule<ModelRule>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub collections: Vec<Rule<CollectionRule>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub keyvalue: Vec<Rule<KeyRule>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub config: Vec<Rule<ConfigRule>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<Rule<SecretRule>>,
}

impl Permissions {
    /// Reads permissions written as TOML, without limits.
    ///
    /// # Errors
    /// All mistakes together.
    pub fn parse(text: &str) -> Result<Self, Vec<Problem>> {
        Self::from_table(crate::manifest::parse_toml(text)?)
    }

    fn from_table(table: Table) -> Result<Self, Vec<Problem>> {
        let mut problems = Vec::new();
        let permissions = Self::read(Reader::new(table, "", &mut problems));
        if problems.is_empty() {
            Ok(permissions)
        } else {
            Err(problems)
        }
    }

    /// One method on the origin of one URL and nothing else: for requests the host itself decides on, such as a key set's. Use it as
    /// author and operator of an [`Ambit`](crate::Ambit).
    ///
    /// # Errors
    /// The URL's origin cannot be granted.
    pub fn for_origin_of(method: &str, url: &Url) -> Result<Self, PatternError> {
        let origin = url
            .origin()
            .ascii_serialization()
            .parse::<OriginPattern>()?;
        Ok(Self {
            http: vec![HttpRule::new(origin, &[method], "/")?.into()],
            ..Self::default()
        })
    }

    /// Whether nothing of `class` is listed.
    #[must_use]
    pub fn is_empty(&self, class: Class) -> bool {
        match class {
            Class::Http => self.http.is_empty(),
            Class::Models => self.models.is_empty(),
            Class::Collections => self.collections.is_empty(),
            Class::KeyValue => self.keyvalue.is_empty(),
            Class::Config => self.config.is_empty(),
            Class::Secrets => self.secrets.is_empty(),
        }
    }

    pub(crate) const KNOWN: &str = "http, models, collections, keyvalue, config, secrets";

    pub(crate) fn read(mut table: Reader<'_>) -> Self {
        let permissions = Self::take(&mut table);
        table.finish(Self::KNOWN);
        permissions
    }

    /// Takes the classes out of a table that has more.
    pub(crate) fn take(table: &mut Reader<'_>) -> Self {
        Self {
            http: table.list(
                "http",
                "a list of tables with `origin` and `methods`",
                HttpRule::read,
            ),
            models: table.list(
                "models",
                "a list of models, such as `[\"openai/*\"]`",
                read_text_rule,
            ),
            collections: table.list(
                "collections",
                "a list such as `[\"read:handbook\"]`",
                read_text_rule,
            ),
            keyvalue: table.list(
                "keyvalue",
                "a list of keys, such as `[\"cache/*\"]`",
                read_text_rule,
            ),
            config: table.list("config", "a list of keys", read_text_rule),
            secrets: table.list(
                "secrets",
                "a list of tables with `name`, `header` and `origin`",
                SecretRule::read,
            ),
        }
    }
}

impl<'de> Deserialize<'de> for Permissions {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::from_table(Table::deserialize(deserializer)?)
            .map_err(|problems| serde::de::Error::custom(Problems(problems)))
    }
}
