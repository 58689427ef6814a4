//! `wasi:config` of a tool: the plain values its ambit names, and for a secret its placeholder.
//!
//! A name outside the ambit has no value, like one nobody configured: the answer is `none`, which the standard has instead of a denial.
//! Secrets are asked for by name; listing all values leaves them out.

use super::{Host, Values};
use ambit_egress::Handles;
use ambit_policy::Ambit;
use ambit_runtime::{Admitted, Call};
use ambit_types::TenantSlug;
use std::sync::Arc;
use wasi::config::store::{self, Error};
use wasmtime::component::{HasSelf, Linker};

wasmtime::component::bindgen!({
    path: "../../wit/deps/wasi-config",
    world: "wasi:config/imports",
});

/// What one call of a tool holds of configuration.
#[derive(Default)]
pub(super) struct Config(Option<Open>);

struct Open {
    values: Arc<Values>,
    tenant: TenantSlug,
    ambit: Arc<Ambit>,
    handles: Arc<Handles>,
}

impl Config {
    /// Opens the values of one tenant for one call.
    pub(super) fn open(
        &mut self,
        values: Arc<Values>,
        tenant: TenantSlug,
        ambit: Arc<Ambit>,
        handles: Arc<Handles>,
    ) {
        self.0 = Some(Open {
            values,
            tenant,
            ambit,
            handles,
        });
    }
}

/// Adds `wasi:config` where the component asks for it; what a name answers is the ambit's affair.
pub(super) fn link(linker: &mut Linker<Call<Host>>, admitted: &Admitted) -> wasmtime::Result<()> {
    if admitted.imports("wasi:config/store") {
        store::add_to_linker::<Call<Host>, HasSelf<Config>>(linker, |call| &mut call.host.config)?;
    }
    Ok(())
}

impl store::Host for Config {
    fn get(&mut self, key: String) -> Result<Option<String>, Error> {
        let Some(open) = &self.0 else {
            return Ok(None);
        };
        if let Some(placeholder) = open.handles.placeholder(&key) {
            return Ok(Some(placeholder.to_owned()));
        }
        let permit = open.ambit.config(&key).ok();
        let value = permit.and_then(|permit| open.values.plain(&open.tenant, permit.key));
        Ok(value.map(str::to_owned))
    }

    fn get_all(&mut self) -> Result<Vec<(String, String)>, Error> {
        let Some(open) = &self.0 else {
            return Ok(Vec::new());
        };
        let all = open.values.all_plain(&open.tenant).into_iter();
        Ok(all
            .filter(|(key, _)| open.ambit.config(key).is_ok())
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect())
    }
}
