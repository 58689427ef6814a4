//! Proof that a check was made.
//!
//! A permit names one concrete action. Its field is private to this crate, so holding one means that an [`Ambit`](crate::Ambit)
//! answered yes to exactly this action; code that acts takes the permit and acts on what is inside it, not on values beside it.

use ambit_types::CollectionName;
use std::ops::Deref;
use url::Url;

use crate::Access;

/// An action that every layer allows.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "a permit is made to act on"]
pub struct Permit<A>(A);

impl<A> Permit<A> {
    pub(crate) fn new(action: A) -> Self {
        Self(action)
    }

    pub fn into_inner(self) -> A {
        self.0
    }
}

impl<A> Deref for Permit<A> {
    type Target = A;

    fn deref(&self) -> &A {
        &self.0
    }
}

/// Do what no rule is about in the name of a call: take an agent's step, judge a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Acting;

/// Call one tool of the component whose ambit was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ToolUse<'a> {
    pub name: &'a str,
}

/// Send one HTTP request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HttpUse<'a> {
    pub method: &'a str,
    pub url: &'a Url,
}

/// Call one model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ModelUse<'a> {
    pub provider: &'a str,
    pub model: &'a str,
}

/// Read from or write to one collection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CollectionUse {
    pub access: Access,
    pub name: CollectionName,
}

/// Use one key of the key-value store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyUse {
    pub key: String,
}

/// Look for keys of the key-value store that start so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeysUnder {
    pub prefix: String,
}

/// Read one configuration value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConfigRead<'a> {
    pub key: &'a str,
}

/// Put one secret into one header of a request to one origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SecretUse<'a> {
    pub name: &'a str,
    /// Lower case.
    pub header: &'a str,
    pub url: &'a Url,
}
