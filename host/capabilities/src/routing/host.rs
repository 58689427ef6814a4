//! The imports of a routing component and the call into its export.

use super::{Answer, Directory, NAME_CAP, Route};
use crate::{Failure, LoadError, RequestFacts};
use ambit::routing::directory;
use ambit_runtime::{Admitted, Call, CallScope, Pure, Runtime};
use ambit_types::TenantId;
use exports::ambit::routing::router::RouteError;
use std::sync::Arc;
use wasmtime::component::HasSelf;

wasmtime::component::bindgen!({
    path: ["../../wit/types", "../../wit/routing"],
    world: "ambit:routing/guest",
    with: { "ambit:types/types": crate::bindings::types },
});

ambit_runtime::bindings!(Guest, GuestPre);

/// What one call looks things up in.
pub(super) struct Lookups {
    directory: Arc<Directory>,
    /// Tenants this call was told of: the only ones it may answer.
    told: Vec<TenantId>,
}

pub(super) fn link(
    runtime: &Arc<Runtime>,
    admitted: &Admitted,
) -> Result<Pure<Lookups, Guest>, LoadError> {
    Ok(Pure::link(runtime, admitted, |linker| {
        directory::add_to_linker::<Call<Lookups>, HasSelf<Lookups>>(linker, |call| &mut call.host)
    })?)
}

pub(super) fn route(
    component: &Pure<Lookups, Guest>,
    scope: &CallScope,
    directory: Arc<Directory>,
    facts: &RequestFacts,
) -> Result<Answer, Failure> {
    let facts = facts.into();
    let (answer, told) = component.call(
        scope,
        Lookups {
            directory,
            told: Vec::new(),
        },
        |store, guest| {
            let answer = guest
                .ambit_routing_router()
                .call_route(&mut *store, &facts)?;
            Ok((answer, std::mem::take(&mut store.data_mut().host.told)))
        },
    )?;
    match answer {
        Ok(found) => {
            let tenant = found
                .tenant
                .parse()
                .ok()
                .filter(|tenant| told.contains(tenant));
            let tenant = tenant.ok_or_else(|| {
                Failure::Contract("the tenant is not one the directory gave".to_owned())
            })?;
            let name = found.canonical_host;
            let canonical = name
                .bytes()
                .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.'));
            if name.is_empty() || name.len() > NAME_CAP || !canonical {
                return Err(Failure::Contract(
                    "the canonical host is not in lower-case A-labels".to_owned(),
                ));
            }
            Ok(Answer::Route(Arc::new(Route {
                tenant,
                canonical_host: name,
            })))
        }
        Err(RouteError::Malformed(what)) => Ok(Answer::Malformed(what.into())),
        Err(RouteError::Unknown) => Ok(Answer::Unknown),
        Err(RouteError::Other(what)) => Err(Failure::Component(what)),
    }
}

impl Lookups {
    fn tell(&mut self, tenant: Option<TenantId>) -> Option<String> {
        self.told.extend(tenant);
        tenant.map(|tenant| tenant.to_string())
    }
}

impl directory::Host for Lookups {
    fn base_domains(&mut self) -> Vec<String> {
        self.directory.base_domains.clone()
    }

    fn tenant_by_label(&mut self, label: String) -> Option<String> {
        let tenant = self.directory.labels.get(label.as_str()).copied();
        self.tell(tenant)
    }

    fn tenant_by_name(&mut self, name: String) -> Option<String> {
        let tenant = self.directory.names.get(&name).copied();
        self.tell(tenant)
    }
}
