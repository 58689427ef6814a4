//! Token issuers a tenant trusts.

use super::{Admin, Answer, Asked, At, keys, listing, one, removed};
use ambit_capabilities::auth::{Algorithm, KeySet};
use ambit_store::Issuer;
use ambit_types::{Error, Scope, TenantSlug};
use axum::body::Body;
use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewIssuer {
    issuer: String,
    audiences: Vec<String>,
    algorithms: Vec<String>,
    #[serde(default)]
    types: Vec<String>,
    #[serde(default)]
    leeway: u32,
    scopes: Option<Vec<Scope>>,
    jwks: Option<Value>,
    jwks_uri: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct Which {
    issuer: String,
}

pub(super) async fn list(admin: Admin, At(slug): At<TenantSlug>) -> Answer {
    let (_, store) = admin.tenant(&slug).await?;
    listing(store.issuers().await?)
}

pub(super) async fn set(admin: Admin, At(slug): At<TenantSlug>, body: Body) -> Answer {
    let (tenant, store) = admin.tenant(&slug).await?;
    let issuer = checked(admin.json(body).await?)?;
    store.put_issuer(&issuer).await?;
    keys::renew(&admin, &tenant, &store).await?;
    one(issuer)
}

pub(super) async fn remove(
    admin: Admin,
    At(slug): At<TenantSlug>,
    Asked(Which { issuer }): Asked<Which>,
) -> Answer {
    let (tenant, store) = admin.tenant(&slug).await?;
    let was_there = store.remove_issuer(&issuer).await?;
    keys::renew(&admin, &tenant, &store).await?;
    removed(was_there)
}

fn checked(new: NewIssuer) -> Result<Issuer, Error> {
    if new.issuer.is_empty() {
        return Err(Error::invalid(
            "issuer",
            "must not be empty: it is compared with `iss` byte for byte",
        ));
    }
    if new.audiences.is_empty() || new.audiences.iter().any(String::is_empty) {
        return Err(Error::invalid(
            "audiences",
            "needs at least one: a token for somebody else must not count here (RFC 8725 §3.9)",
        ));
    }
    if new.algorithms.is_empty() {
        return Err(Error::invalid(
            "algorithms",
            "needs at least one of RS256, ES256, EdDSA",
        ));
    }
    for algorithm in &new.algorithms {
        if algorithm.parse::<Algorithm>().is_err() {
            return Err(Error::invalid(
                "algorithms",
                "expected RS256, ES256 or EdDSA",
            ));
        }
    }
    if new.leeway > 600 {
        return Err(Error::invalid("leeway", "expected at most 600 seconds"));
    }
    match (&new.jwks, &new.jwks_uri) {
        (Some(set), None) => {
            KeySet::parse(set.to_string().as_bytes())
                .map_err(|error| Error::invalid("jwks", error.to_string()))?;
        }
        (None, Some(uri)) => {
            let parsed = uri
                .parse::<url::Url>()
                .map_err(|error| Error::invalid("jwks_uri", error.to_string()))?;
            if parsed.scheme() != "https" {
                return Err(Error::invalid(
                    "jwks_uri",
                    "expected an https address: keys fetched in clear prove nothing",
                ));
            }
        }
        _ => {
            return Err(Error::invalid(
                "jwks",
                "expected exactly one of `jwks` and `jwks_uri`",
            ));
        }
    }
    let scopes = new.scopes.unwrap_or_else(|| Scope::USUAL.to_vec());
    Ok(Issuer {
        issuer: new.issuer,
        audiences: new.audiences,
        algorithms: new.algorithms,
        types: new
            .types
            .iter()
            .map(|kind| kind.to_ascii_lowercase())
            .collect(),
        leeway: new.leeway,
        scopes: scopes
            .iter()
            .map(|scope| scope.as_str().to_owned())
            .collect(),
        jwks_uri: new.jwks_uri,
        jwks: new.jwks,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_issuer_without_a_limit_is_refused() {
        let good = json!({"issuer": "https://id.example", "audiences": ["ambit"], "algorithms": ["RS256"],
            "jwks_uri": "https://id.example/keys"});
        let check = |field: &str, value: Value| {
            let mut body = good.clone();
            body[field] = value;
            checked(serde_json::from_value(body).unwrap())
                .map_err(|error| error.message().to_owned())
        };
        assert!(check("leeway", json!(5)).is_ok());
        for (field, value) in [
            ("issuer", json!("")),
            ("audiences", json!([])),
            ("audiences", json!([""])),
            ("algorithms", json!([])),
            ("algorithms", json!(["none"])),
            ("algorithms", json!(["HS256"])),
            ("leeway", json!(100_000)),
            ("jwks_uri", json!("http://id.example/keys")),
            ("jwks_uri", json!("file:///etc/passwd")),
            ("jwks", json!({"keys": []})),
        ] {
            assert!(check(field, value.clone()).is_err(), "{field} = {value}");
        }
    }
}
