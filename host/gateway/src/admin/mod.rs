//! `/admin/v1`: everything an operator may see and change. The command line is a client of these routes and has no other way in.
//!
//! Each handler takes an [`Admin`], which only the admin key gives and which alone leads to the platform: a handler cannot forget to ask.
//! Writes are idempotent (`PUT` the same again and nothing changes), take effect before they are answered, and answer with what is now
//! there. Listings are `{"data": […]}`. Errors are RFC 9457 problem details.

mod agents;
mod approvals;
mod audit;
mod collections;
mod components;
mod documents;
mod grants;
mod issuers;
mod keys;
mod ledger;
mod rules;
mod sessions;
mod slots;
mod tenants;
mod tokens;

use crate::{error::Problem, gateway::Inner, openai::json, ops, routes::Route};
use ambit_session::Tenant as Live;
use ambit_store::{Tenant, TenantStore};
use ambit_types::{
    CallContext, Error, ErrorKind, OPERATOR, Principal, RequestId, TenantId, TenantSlug,
    TraceContext,
};
use axum::{
    Json,
    body::Body,
    extract::{FromRequestParts, Path, Query},
    response::{IntoResponse as _, Response},
    routing::{delete, get, post, put},
};
use http::request::Parts;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

macro_rules! routes {
    ($($method:ident $path:literal $handler:path, $summary:literal;)*) => {
        /// Every route of the admin API.
        pub const ROUTES: &[Route<()>] = &[$(
            Route { method: method!($method), path: concat!("/admin/v1", $path), summary: $summary, handler: || $method($handler) },
        )*];
    };
}

macro_rules! method {
    (get) => {
        "GET"
    };
    (put) => {
        "PUT"
    };
    (post) => {
        "POST"
    };
    (delete) => {
        "DELETE"
    };
}

routes! {
    get "/server" server, "the server's version, the port on which its tenants' API listens, the anchors' public key";
    get "/tenants" tenants::list, "every tenant";
    get "/tenants/{tenant}" tenants::show, "one tenant and what of it could not be bound";
    put "/tenants/{tenant}" tenants::create, "creates it: `{display_name?}`";
    get "/tenants/{tenant}/hosts" tenants::hosts, "whole host names the tenant owns besides its label";
    put "/tenants/{tenant}/hosts/{host}" tenants::add_host, "gives it a host name";
    delete "/tenants/{tenant}/hosts/{host}" tenants::remove_host, "takes one away";
    get "/tenants/{tenant}/keys" keys::list, "API keys, revoked ones too, without secrets";
    post "/tenants/{tenant}/keys" keys::create, "a new key: `{name, scopes?, principal?, expires_at?, permissions?}`; its secret is shown once, here";
    delete "/tenants/{tenant}/keys/{key}" keys::revoke, "revokes a key, at once and for good";
    get "/tenants/{tenant}/tokens" tokens::list, "capability tokens that were issued, newest first: `?before=&limit=`";
    delete "/tenants/{tenant}/tokens/{token}" tokens::revoke, "ends one and what was delegated from it, at once and for good";
    get "/tenants/{tenant}/issuers" issuers::list, "token issuers the tenant trusts";
    put "/tenants/{tenant}/issuers" issuers::set, "trusts one: `{issuer, audiences, algorithms, types?, leeway?, scopes?, jwks or jwks_uri}`";
    delete "/tenants/{tenant}/issuers" issuers::remove, "trusts one no longer: `?issuer=`";
    get "/tenants/{tenant}/guardrail/rules" rules::show, "what happens to findings, by stage and category";
    put "/tenants/{tenant}/guardrail/rules" rules::set, "puts rules in place: `{rules: [{stage, category, action}]}`; none means the defaults";
    get "/tenants/{tenant}/agents" agents::list, "agents and whether each could be bound";
    get "/tenants/{tenant}/agents/{agent}" agents::show, "one agent's definition";
    put "/tenants/{tenant}/agents/{agent}" agents::apply, "creates or changes an agent: its definition as JSON";
    delete "/tenants/{tenant}/agents/{agent}" agents::remove, "removes an agent";
    get "/tenants/{tenant}/collections" collections::list, "collections with their numbers of documents and chunks";
    put "/tenants/{tenant}/collections/{collection}" collections::create, "creates a collection";
    delete "/tenants/{tenant}/collections/{collection}" collections::remove, "removes a collection with its documents";
    post "/tenants/{tenant}/collections/{collection}/documents" documents::load, "stores a batch of documents, one JSON object a line: `{_id, title?, text, media_type?, …attributes}`";
    delete "/tenants/{tenant}/collections/{collection}/documents" documents::remove, "removes documents whose id starts with `?prefix=`";
    get "/tenants/{tenant}/grants" grants::tenant_list, "how the tenant narrows components";
    put "/tenants/{tenant}/grants/{component}" grants::tenant_set, "narrows one: permissions and `limits` as JSON; answers with the limits that remain";
    delete "/tenants/{tenant}/grants/{component}" grants::tenant_remove, "narrows it no longer";
    get "/tenants/{tenant}/slots" slots::tenant_list, "components the tenant binds itself";
    put "/tenants/{tenant}/slots/{*slot}" slots::tenant_set, "swaps a component: `{component}`, a digest, a name or `name@version`";
    delete "/tenants/{tenant}/slots/{*slot}" slots::tenant_remove, "goes back to the installation's component";
    get "/tenants/{tenant}/sessions" sessions::list, "newest first: `?before=&limit=`";
    get "/tenants/{tenant}/sessions/{session}" sessions::show, "one session, and whether its journal's chain holds";
    get "/tenants/{tenant}/sessions/{session}/events" sessions::events, "its journal: `?after=&limit=`";
    post "/tenants/{tenant}/sessions/{session}/replay" sessions::replay, "takes its agent's steps again, which must come out the same; with `{model?, instructions?}` a session of its own with tools answered from the journal, and what came out otherwise";
    delete "/tenants/{tenant}/sessions/{session}/content" sessions::erase, "forgets the key of what was said in a closed session; its events stay and still verify";
    delete "/tenants/{tenant}/principals/{principal}/content" sessions::erase_principal, "the same for every closed session of a principal";
    get "/tenants/{tenant}/budgets" ledger::budgets, "budgets and where each stands";
    put "/tenants/{tenant}/budgets" ledger::set_budget, "sets one: `{scope, id?, period, limit}`; scope `tenant`, `key`, `agent` or `session`, period `day`, `month` or `none`, the limit as a decimal text";
    delete "/tenants/{tenant}/budgets" ledger::remove_budget, "removes one: `?scope=&id=&period=`";
    get "/tenants/{tenant}/costs" ledger::tenant_costs, "what was spent: `?from=&to=&by=`, days and a list of `agent`, `key`, `model`, `day`";
    get "/tenants/{tenant}/costs/check" ledger::check, "whether the ledger says what the journal does";
    get "/costs" ledger::costs, "what every tenant spent: `?from=&to=&by=`, where `by` may name `tenant` too";
    get "/approvals" approvals::list, "what agents wait for somebody to approve of, newest first: `?tenant=&state=&before=&limit=`, the state `pending` or `all`; with `from` and `to`, in seconds, everything that anything happened to in that time";
    get "/approvals/{approval}" approvals::show, "one of them, decided ones too";
    post "/approvals/{approval}/approve" approvals::approve, "approves of one call: `{reason?}`; with the last decision its session goes on";
    post "/approvals/{approval}/deny" approvals::deny, "refuses it: `{reason?}`, which the agent is told";
    get "/tenants/{tenant}/export" audit::export, "its journal as JSON lines that verify with the anchors' public key: `?session=`";
    get "/anchors" audit::list, "signed anchors of the journal, oldest first: `?after=&limit=`";
    post "/anchors" audit::make, "anchors what went on since the last one, now";
    get "/components" components::list, "installed components";
    post "/components" components::install, "installs one: `{manifest, wasm}`, the manifest as TOML, the bytes in base64";
    get "/components/{digest}" components::show, "one laid open: imports, exports, permissions, what the grant leaves";
    get "/grants" grants::list, "what the operator grants components, and the limits that remain of each installed version";
    get "/grants/{component}" grants::show, "one grant";
    put "/grants/{component}" grants::set, "grants: permissions and `limits` as JSON; answers with what is still missing and the limits that remain";
    delete "/grants/{component}" grants::remove, "grants nothing any more";
    get "/slots" slots::list, "the installation's components by slot";
    put "/slots/{*slot}" slots::set, "swaps a component for every tenant that binds none itself";
    delete "/slots/{*slot}" slots::remove, "empties a slot";
}

/// Proof of the admin key, and the way to everything else.
pub(crate) struct Admin(Arc<Inner>);

impl<S: Sync> FromRequestParts<S> for Admin {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let scene = ops::Scene::from_request_parts(parts, state).await?;
        ops::check_key(parts, &scene.gateway.0.config.admin_key)?;
        Ok(Self(scene.gateway.0))
    }
}

async fn server(admin: Admin) -> Answer {
    let data_port = admin.0.data_port.get();
    let anchor_key = admin.0.anchors.verifier().to_string();
    one(
        json!({"version": env!("CARGO_PKG_VERSION"), "data_port": data_port, "anchor_key": anchor_key}),
    )
}

impl Admin {
    /// A tenant's row and its part of the store.
    async fn tenant(&self, slug: &TenantSlug) -> Result<(Tenant, TenantStore), Error> {
        let tenant = self
            .0
            .platform
            .store
            .operator()
            .tenant_by_slug(slug)
            .await?;
        let tenant =
            tenant.ok_or_else(|| Error::not_found(format!("there is no tenant `{slug}`")))?;
        let store = self.0.platform.store.tenant(tenant.id);
        Ok((tenant, store))
    }

    /// A tenant as it is served.
    fn live(&self, tenant: &Tenant) -> Result<Arc<Live>, Error> {
        let live = self.0.tenants.by_id(tenant.id);
        live.ok_or_else(|| {
            Error::new(
                ErrorKind::Conflict,
                format!(
                    "tenant `{}` is not served: its components cannot be bound",
                    tenant.slug
                ),
            )
        })
    }

    /// Makes a change of one tenant's rows live. It is stored already, so a tenant that cannot be bound is reported, not undone.
    async fn reload(&self, tenant: TenantId) -> Result<(), Error> {
        self.0.tenants.reload(tenant).await
    }

    async fn reload_all(&self) -> Result<(), Error> {
        self.0.tenants.reload_all().await
    }

    /// A call of the operator's in a tenant.
    fn context(&self, tenant: &Tenant) -> CallContext {
        CallContext {
            tenant: tenant.id,
            tenant_slug: tenant.slug.clone(),
            principal: Arc::new(Principal {
                id: OPERATOR.to_owned(),
                scopes: Vec::new(),
                key: None,
                issuer: None,
                expires_at: None,
                credential: None,
            }),
            request: RequestId::new(),
            session: None,
            agent: None,
            cpu: None,
            trace: TraceContext::new(),
            deadline: Instant::now() + self.0.config.deadline.max(Duration::from_secs(60)),
        }
    }

    /// A JSON body, read as strictly as a tenant's.
    async fn json<T: DeserializeOwned>(&self, body: Body) -> Result<T, Error> {
        let read = self.0.admin_body(body).await?;
        let value = Value::Object(json::object(&read.bytes)?);
        serde_path_to_error::deserialize(value).map_err(|error| {
            match error.path().to_string().as_str() {
                "." => Error::new(
                    ErrorKind::Invalid { param: None },
                    error.inner().to_string(),
                ),
                path => Error::invalid(path, format!("`{path}`: {}", error.inner())),
            }
        })
    }
}

/// Path segments, each parsed into its name or id.
struct At<T>(T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for At<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path = Path::from_request_parts(parts, state).await;
        path.map(|Path(path)| Self(path)).map_err(|error| {
            Problem(Error::new(
                ErrorKind::Invalid { param: None },
                error.body_text(),
            ))
        })
    }
}

/// The query string.
struct Asked<T>(T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Asked<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let query = Query::from_request_parts(parts, state).await;
        query.map(|Query(query)| Self(query)).map_err(|error| {
            Problem(Error::new(
                ErrorKind::Invalid { param: None },
                error.body_text(),
            ))
        })
    }
}

/// What handlers answer.
type Answer = Result<Response, Problem>;

fn listing<T: Serialize>(data: impl IntoIterator<Item = T>) -> Answer {
    Ok(Json(json!({"data": data.into_iter().collect::<Vec<_>>()})).into_response())
}

fn one(value: impl Serialize) -> Answer {
    Ok(Json(value).into_response())
}

/// Answer of a deletion: whether there was something to delete. Deleting nothing is no error, so that a script may repeat it.
fn removed(was_there: bool) -> Answer {
    one(json!({ "removed": was_there }))
}

/// Whole seconds that passed since then; none where the clock was set back.
pub(crate) fn seconds_since(then_ms: i64) -> u64 {
    u64::try_from(now_ms().saturating_sub(then_ms) / 1000).unwrap_or(0)
}

pub(crate) fn now_ms() -> i64 {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(now.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
