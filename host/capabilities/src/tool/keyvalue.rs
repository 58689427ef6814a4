//! `wasi:keyvalue` of a tool: the tenant's entries, as far as the ambit goes.
//!
//! A bucket is the first part of a key: key `today` of bucket `cache` is the tenant's `cache/today`, which is what grants name. A bucket is opened where some key
//! of it may be used, and then each key is checked. Tools of a tenant that are granted the same keys share them.

use super::{Host, entries::Entries};
use ambit_policy::{Ambit, Denied, KeyUse, Permit};
use ambit_runtime::{Admitted, Call};
use ambit_store::StoreError;
use std::sync::Arc;
use wasi::keyvalue::{
    atomics,
    store::{self, Error, KeyResponse},
};
use wasmtime::component::{HasData, Linker, Resource, ResourceTable};

wasmtime::component::bindgen!({
    path: "../../wit/deps/wasi-keyvalue",
    world: "wasi:keyvalue/imports",
    with: { "wasi:keyvalue/store.bucket": Bucket },
    imports: { default: async | trappable },
});

/// Operations of one call, and changes among them: each change is a durable write of the database, which others use too.
const OPERATIONS: u32 = 4_096;
const CHANGES: u32 = 256;
/// Keys looked at for one page of a listing.
const PAGE: u32 = 256;

/// What one call of a tool holds of its tenant's entries.
#[derive(Default)]
pub(super) struct Keys(Option<Open>);

struct Open {
    entries: Entries,
    ambit: Arc<Ambit>,
    operations: u32,
    changes: u32,
    /// The last key of each page of a listing that went on; its place is the next page's cursor.
    pages: Vec<String>,
}

/// An open bucket: what its keys start with.
#[allow(unreachable_pub, reason = "what `bindgen!` generates re-exports it")]
pub struct Bucket(String);

impl Keys {
    /// Opens a tenant's entries for one call.
    pub(super) fn open(&mut self, entries: Entries, ambit: Arc<Ambit>) {
        self.0 = Some(Open {
            entries,
            ambit,
            operations: OPERATIONS,
            changes: CHANGES,
            pages: Vec::new(),
        });
    }
}

/// Adds `wasi:keyvalue` where the component asks for it; what a key answers is the ambit's affair.
pub(super) fn link(linker: &mut Linker<Call<Host>>, admitted: &Admitted) -> wasmtime::Result<()> {
    if admitted.imports("wasi:keyvalue/store") {
        store::add_to_linker::<_, HasView>(linker, view)?;
    }
    if admitted.imports("wasi:keyvalue/atomics") {
        atomics::add_to_linker::<_, HasView>(linker, view)?;
    }
    Ok(())
}

fn view(call: &mut Call<Host>) -> View<'_> {
    View {
        keys: &mut call.host.keys,
        table: &mut call.table,
    }
}

struct HasView;

impl HasData for HasView {
    type Data<'a> = View<'a>;
}

/// The entries with the resources the guest holds.
struct View<'a> {
    keys: &'a mut Keys,
    table: &'a mut ResourceTable,
}

/// What an operation does to the budget of its call.
enum Use {
    Look,
    Change,
}

type Answer<T> = Result<T, Error>;

impl View<'_> {
    /// Checks one key, and gives what is needed to use it.
    fn key(
        &mut self,
        bucket: &Resource<Bucket>,
        key: &str,
        how: Use,
    ) -> wasmtime::Result<Answer<(Entries, Permit<KeyUse>)>> {
        let full = format!("{}{key}", self.table.get(bucket)?.0);
        Ok(self.spend(how).and_then(|open| {
            let permit = open.ambit.key(&full).map_err(denied)?;
            Ok((open.entries.clone(), permit))
        }))
    }

    fn spend(&mut self, how: Use) -> Answer<&mut Open> {
        let open = self.keys.0.as_mut().ok_or(Error::NoSuchStore)?;
        let changes = u32::from(matches!(how, Use::Change));
        match (
            open.operations.checked_sub(1),
            open.changes.checked_sub(changes),
        ) {
            (Some(operations), Some(changes)) => {
                open.operations = operations;
                open.changes = changes;
                Ok(open)
            }
            _ => Err(Error::Other("too many operations in one call".to_owned())),
        }
    }
}

impl store::Host for View<'_> {
    async fn open(&mut self, identifier: String) -> wasmtime::Result<Answer<Resource<Bucket>>> {
        let opened = self.spend(Use::Look).and_then(|open| {
            if !is_bucket(&identifier) {
                return Err(Error::NoSuchStore);
            }
            open.ambit
                .keys_under(&format!("{identifier}/"))
                .map_err(denied)
        });
        match opened {
            Ok(permit) => Ok(Ok(self.table.push(Bucket(permit.into_inner().prefix))?)),
            Err(error) => Ok(Err(error)),
        }
    }
}

impl store::HostBucket for View<'_> {
    async fn get(
        &mut self,
        bucket: Resource<Bucket>,
        key: String,
    ) -> wasmtime::Result<Answer<Option<Vec<u8>>>> {
        Ok(match self.key(&bucket, &key, Use::Look)? {
            Ok((entries, permit)) => entries.get(&permit).await.map_err(told),
            Err(error) => Err(error),
        })
    }

    async fn set(
        &mut self,
        bucket: Resource<Bucket>,
        key: String,
        value: Vec<u8>,
    ) -> wasmtime::Result<Answer<()>> {
        Ok(match self.key(&bucket, &key, Use::Change)? {
            Ok((entries, permit)) => entries.set(&permit, &value).await.map_err(told),
            Err(error) => Err(error),
        })
    }

    async fn delete(
        &mut self,
        bucket: Resource<Bucket>,
        key: String,
    ) -> wasmtime::Result<Answer<()>> {
        Ok(match self.key(&bucket, &key, Use::Change)? {
            Ok((entries, permit)) => entries.delete(&permit).await.map_err(told),
            Err(error) => Err(error),
        })
    }

    async fn exists(
        &mut self,
        bucket: Resource<Bucket>,
        key: String,
    ) -> wasmtime::Result<Answer<bool>> {
        Ok(match self.key(&bucket, &key, Use::Look)? {
            Ok((entries, permit)) => entries.exists(&permit).await.map_err(told),
            Err(error) => Err(error),
        })
    }

    /// Keys the ambit covers. A cursor is of this call and this bucket.
    async fn list_keys(
        &mut self,
        bucket: Resource<Bucket>,
        cursor: Option<u64>,
    ) -> wasmtime::Result<Answer<KeyResponse>> {
        let bucket = self.table.get(&bucket)?.0.clone();
        let open = match self.spend(Use::Look) {
            Ok(open) => open,
            Err(error) => return Ok(Err(error)),
        };
        let permit = match open.ambit.keys_under(&bucket) {
            Ok(permit) => permit,
            Err(error) => return Ok(Err(denied(error))),
        };
        let page = |cursor| open.pages.get(usize::try_from(cursor).ok()?);
        let after = match cursor.map(page) {
            None => None,
            Some(Some(key)) if key.starts_with(&bucket) => Some(key.as_str()),
            Some(_) => return Ok(Err(Error::Other("there is no such cursor".to_owned()))),
        };
        let mut looked = match open.entries.keys(&permit, after, PAGE).await {
            Ok(looked) => looked,
            Err(error) => return Ok(Err(told(error))),
        };
        let keys = looked
            .iter()
            .filter_map(|key| open.ambit.key(key).ok())
            .filter_map(|permit| permit.key.strip_prefix(&bucket).map(str::to_owned))
            .collect();
        let last = looked.pop().filter(|_| looked.len() + 1 == PAGE as usize);
        let cursor = last.map(|key| {
            open.pages.push(key);
            open.pages.len() as u64 - 1
        });
        Ok(Ok(KeyResponse { keys, cursor }))
    }

    async fn drop(&mut self, bucket: Resource<Bucket>) -> wasmtime::Result<()> {
        self.table.delete(bucket)?;
        Ok(())
    }
}

impl atomics::Host for View<'_> {
    async fn increment(
        &mut self,
        bucket: Resource<Bucket>,
        key: String,
        delta: u64,
    ) -> wasmtime::Result<Answer<u64>> {
        Ok(match self.key(&bucket, &key, Use::Change)? {
            Ok((entries, permit)) => entries.increment(&permit, delta).await.map_err(told),
            Err(error) => Err(error),
        })
    }
}

/// 1 to 64 lower-case letters, digits and hyphens: without the `/` that ends it, so that no bucket reaches into another.
fn is_bucket(identifier: &str) -> bool {
    let valid = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
    (1..=64).contains(&identifier.len()) && identifier.bytes().all(valid)
}

fn denied(denied: Denied) -> Error {
    tracing::debug!(%denied, "a tool was denied a key");
    Error::AccessDenied
}

/// What the guest did wrong it is told; what the database has is for the log.
fn told(error: StoreError) -> Error {
    match error {
        StoreError::Invalid { .. } => Error::Other(error.to_string()),
        _ => {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "a tool's key-value operation failed"
            );
            Error::Other("the store is not available".to_owned())
        }
    }
}
