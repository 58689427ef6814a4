//! The naive model: a layer is the set of actions it allows out of a small world written out in full, and narrowing is the
//! intersection of sets.

use ambit_policy::{Access, Ambit, Permissions};
use ambit_types::CollectionName;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::{collections::BTreeSet, sync::Arc};
use url::Url;

/// Every pattern below that means anything has a witness among these.
const SCHEMES: [&str; 2] = ["https", "http"];
const HOSTS: [&str; 6] = [
    "a.test",
    "x.a.test",
    "y.x.a.test",
    "b.test",
    "127.0.0.1",
    "localhost",
];
const PORTS: [u16; 3] = [443, 80, 8443];
const METHODS: [&str; 3] = ["GET", "POST", "DELETE"];
const PATHS: [&str; 7] = ["/", "/v1", "/v1/", "/v1/a", "/v10", "/v2/a", "/v1//a"];
const MODELS: [(&str, &str); 4] = [("p", "m"), ("p", "m2"), ("p", "n"), ("q", "m")];
const COLLECTIONS: [&str; 3] = ["a", "ab", "b"];
const KEYS: [&str; 4] = ["", "a", "ab", "b"];

fn origins() -> impl Iterator<Item = (&'static str, &'static str, u16)> {
    SCHEMES.into_iter().flat_map(|scheme| {
        HOSTS
            .into_iter()
            .flat_map(move |host| PORTS.into_iter().map(move |port| (scheme, host, port)))
    })
}

/// A rule for the model: the parts as they are written.
#[derive(Debug, Clone)]
pub(crate) struct Http {
    scheme: &'static str,
    host: &'static str,
    port: &'static str,
    methods: Vec<&'static str>,
    path: &'static str,
}

#[derive(Debug, Clone)]
pub(crate) struct World {
    pub(crate) http: Vec<Http>,
    pub(crate) models: Vec<&'static str>,
    pub(crate) collections: Vec<&'static str>,
    pub(crate) keys: Vec<&'static str>,
    pub(crate) optional: bool,
}

impl World {
    pub(crate) fn permissions(&self) -> Permissions {
        let texts = |texts: &[&str]| -> Vec<Value> {
            texts
                .iter()
                .map(|text| {
                    if self.optional {
                        json!({"allow": text, "optional": true})
                    } else {
                        json!(text)
                    }
                })
                .collect()
        };
        let http: Vec<_> = self
            .http
            .iter()
            .map(|rule| {
                let origin = format!("{}://{}{}", rule.scheme, rule.host, rule.port);
                json!({"origin": origin, "methods": rule.methods, "path": rule.path, "optional": self.optional})
            })
            .collect();
        let value = json!({
            "http": http, "models": texts(&self.models), "collections": texts(&self.collections), "keyvalue": texts(&self.keys),
        });
        serde_json::from_value(value).unwrap()
    }

    /// Everything this layer allows.
    pub(crate) fn allowed(&self) -> BTreeSet<String> {
        let mut allowed = BTreeSet::new();
        for (scheme, host, port) in origins() {
            for method in METHODS {
                for path in PATHS {
                    if self
                        .http
                        .iter()
                        .any(|rule| naive_http(rule, scheme, host, port, method, path))
                    {
                        allowed.insert(format!("http {method} {scheme}://{host}:{port}{path}"));
                    }
                }
            }
        }
        for (provider, model) in MODELS {
            if self
                .models
                .iter()
                .any(|rule| naive_glob(rule, &format!("{provider}/{model}")))
            {
                allowed.insert(format!("models {provider}/{model}"));
            }
        }
        for name in COLLECTIONS {
            for access in ["read", "write"] {
                if self
                    .collections
                    .iter()
                    .any(|rule| naive_glob(rule, &format!("{access}:{name}")))
                {
                    allowed.insert(format!("collections {access}:{name}"));
                }
            }
        }
        for key in KEYS {
            if self.keys.iter().any(|rule| naive_glob(rule, key)) {
                allowed.insert(format!("keyvalue {key}"));
            }
        }
        allowed
    }
}

fn naive_glob(rule: &str, value: &str) -> bool {
    match rule.strip_suffix('*') {
        Some(stem) => value.starts_with(stem),
        None => rule == value,
    }
}

fn naive_http(rule: &Http, scheme: &str, host: &str, port: u16, method: &str, path: &str) -> bool {
    let own_default = if rule.scheme == "https" {
        ":443"
    } else {
        ":80"
    };
    let own_port = if rule.port.is_empty() {
        own_default
    } else {
        rule.port
    };
    let special = host == "localhost" || host == "127.0.0.1";
    let host_matches = match rule.host.strip_prefix('*') {
        Some("") => !special,
        Some(suffix) => host.ends_with(suffix) && host.len() > suffix.len(),
        None => rule.host == host,
    };
    let path_matches = rule.path == "/" || {
        let segments = |path: &str| {
            path.split('/')
                .filter(|s| !s.is_empty())
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        !path.contains("//") && segments(path).starts_with(&segments(rule.path))
    };
    rule.scheme == scheme
        && host_matches
        && (own_port == ":*" || own_port == format!(":{port}"))
        && rule.methods.contains(&method)
        && path_matches
}

/// What an ambit allows out of the same world.
pub(crate) fn asked(ambit: &Ambit) -> BTreeSet<String> {
    let mut allowed = BTreeSet::new();
    for (scheme, host, port) in origins() {
        for method in METHODS {
            for path in PATHS {
                let text = format!("{scheme}://{host}:{port}{path}");
                if ambit.http(method, &Url::parse(&text).unwrap()).is_ok() {
                    allowed.insert(format!("http {method} {text}"));
                }
            }
        }
    }
    for (provider, model) in MODELS {
        if ambit.model(provider, model).is_ok() {
            allowed.insert(format!("models {provider}/{model}"));
        }
    }
    for name in COLLECTIONS {
        for access in Access::ALL {
            if ambit
                .collection(*access, &name.parse::<CollectionName>().unwrap())
                .is_ok()
            {
                allowed.insert(format!("collections {access}:{name}"));
            }
        }
    }
    for key in KEYS {
        if ambit.key(key).is_ok() {
            allowed.insert(format!("keyvalue {key}"));
        }
    }
    allowed
}

pub(crate) fn world() -> impl Strategy<Value = World> {
    use proptest::{collection::vec, sample::select};
    let http = (
        select(vec!["https", "http"]),
        select(vec![
            "*",
            "*.test",
            "*.a.test",
            "*.x.a.test",
            "a.test",
            "b.test",
            "127.0.0.1",
            "localhost",
        ]),
        select(vec!["", ":*", ":8443"]),
        proptest::sample::subsequence(METHODS.to_vec(), 1..=3),
        select(vec!["/", "/v1", "/v1/", "/v2", "/v1/a"]),
    )
        .prop_map(|(scheme, host, port, methods, path)| Http {
            scheme,
            host,
            port,
            methods,
            path,
        });
    let models = select(vec!["*", "p/*", "p/m*", "p/m", "q/m", "q/*"]);
    let collections = select(vec![
        "read:*", "write:*", "read:a", "read:a*", "write:b", "write:ab",
    ]);
    let keys = select(vec!["*", "a*", "ab", "b"]);
    (
        vec(http, 0..5),
        vec(models, 0..3),
        vec(collections, 0..3),
        vec(keys, 0..3),
        any::<bool>(),
    )
        .prop_map(|(http, models, collections, keys, optional)| World {
            http,
            models,
            collections,
            keys,
            optional,
        })
}

pub(crate) fn grant(world: &World) -> Arc<Permissions> {
    Arc::new(world.permissions())
}

pub(crate) fn intersect(sets: &[&World]) -> BTreeSet<String> {
    let sets: Vec<_> = sets.iter().map(|world| world.allowed()).collect();
    sets.iter().skip(1).fold(sets[0].clone(), |all, set| {
        all.intersection(set).cloned().collect()
    })
}
