//! The ambit algebra: what an author asks for, what is granted, what remains, and the permits that prove a check was made.
//!
//! The rule this crate keeps: *an ambit only narrows*. An [`Ambit`] is a stack of layers (author, operator, tenant, token) and an
//! action is allowed iff **every** layer allows it. Layers are never merged into one list of patterns: intersecting two patterns
//! symbolically is where such systems go wrong, while asking each layer the same concrete question cannot widen anything. The one
//! question that is about patterns and not about a value, "can this class of permission ever match, so must it be linked at all?",
//! is answered for author and operator by [`Ambit::link`], which is exact because any two of our patterns can be tested for overlap.
//!
//! A successful check gives a [`Permit`], which nothing outside this crate can make; code that acts takes one as an argument.
//!
//! [`Limits`] narrow by the same layers: the smallest of what the author, the operator and the tenant write.
//!
//! A caller's layers come with a capability [`token`]: signed, bound to a tenant, and narrowed by one layer more at each delegation.
//!
//! The order of reading: [`Manifest`] (what an author writes), [`Permissions`] and its rules, [`Grant`], [`Ambit`], [`Permit`],
//! [`token`].
//!
//! ```
//! use ambit_policy::{Ambit, Link, Class, Manifest};
//! use std::sync::Arc;
//!
//! let manifest = Manifest::parse(r#"
//!     [component]
//!     name = "acme:weather"
//!     version = "0.1.0"
//!     kind = "tool"
//!     [[permissions.http]]
//!     origin = "https://*"
//!     methods = ["GET"]
//! "#).unwrap();
//! let operator = serde_json::from_str(
//!     r#"{"http": [{"origin": "https://*.weather.example", "methods": ["GET", "POST"], "path": "/v1"}]}"#,
//! ).unwrap();
//! let ambit = Ambit::new(Arc::new(manifest.permissions), Arc::new(operator));
//!
//! assert_eq!(ambit.link(Class::Http), Link::Granted);
//! assert_eq!(ambit.link(Class::Models), Link::Absent);
//! let url = "https://api.weather.example/v1/today".parse().unwrap();
//! assert!(ambit.http("GET", &url).is_ok());
//! let denied = ambit.http("POST", &url).unwrap_err();
//! assert_eq!(denied.to_string(), "POST https://api.weather.example/v1/today: the component's manifest does not ask for it");
//! ```

mod ambit;
mod grant;
mod http_rule;
mod kind;
mod limits;
mod manifest;
mod origin;
mod path;
mod permissions;
mod permit;
mod problem;
mod quantity;
mod rule;
mod secret_rule;
pub mod token;

pub use ambit::{Ambit, Denied, Layer, Link, Missing, Refusal};
pub use grant::Grant;
pub use http_rule::HttpRule;
pub use kind::{Kind, Reuse};
pub use limits::{Ceiling, Limits};
pub use manifest::{ComponentInfo, Manifest};
pub use origin::{OriginPattern, PatternError, names_loopback};
pub use permissions::{Class, Permissions};
pub use permit::{
    Acting, CollectionUse, ConfigRead, HttpUse, KeyUse, KeysUnder, ModelUse, Permit, SecretUse,
    ToolUse,
};
pub use problem::{Item, Problem, Problems, Reader};
pub use rule::{Access, CollectionRule, ConfigRule, KeyRule, ModelRule, Rule};
pub use secret_rule::{SecretRule, check_secret_name};
