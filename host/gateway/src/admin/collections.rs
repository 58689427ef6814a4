//! A tenant's collections.

use super::{Admin, Answer, At, listing, one, removed};
use ambit_store::{Collection, TenantStore};
use ambit_types::{CollectionName, Error, TenantSlug};
use serde_json::{Value, json};

pub(super) async fn list(admin: Admin, At(slug): At<TenantSlug>) -> Answer {
    let (_, store) = admin.tenant(&slug).await?;
    let mut data = Vec::new();
    for collection in store.collections().await? {
        data.push(view(&store, &collection).await?);
    }
    listing(data)
}

pub(super) async fn create(
    admin: Admin,
    At((slug, name)): At<(TenantSlug, CollectionName)>,
) -> Answer {
    let (_, store) = admin.tenant(&slug).await?;
    let collection = store.ensure_collection(&name, None).await?;
    one(view(&store, &collection).await?)
}

pub(super) async fn remove(
    admin: Admin,
    At((slug, name)): At<(TenantSlug, CollectionName)>,
) -> Answer {
    let (tenant, store) = admin.tenant(&slug).await?;
    // The rows first: what the store does not have, a search does not return, and an index left behind is rebuilt from nothing.
    let was_there = store.remove_collection(&name).await?;
    admin
        .0
        .platform
        .index
        .collection(tenant.id, &name)
        .remove()
        .await
        .map_err(Error::internal)?;
    removed(was_there)
}

async fn view(store: &TenantStore, collection: &Collection) -> Result<Value, Error> {
    let stats = store.stats(&collection.name).await?;
    Ok(
        json!({"name": collection.name, "documents": stats.documents, "chunks": stats.chunks, "revision": collection.revision,
        "created_ms": collection.created_ms}),
    )
}
