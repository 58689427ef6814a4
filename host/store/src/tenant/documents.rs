//! Collections, their documents and passages: the truth from which a search index is built.

use super::TenantStore;
use crate::{
    Chunk, Collection, CollectionStats, Deleted, Digest, Document, EpochKind, Result, StoreError,
    db::{Row, Tx, json, statements},
    now_ms,
};
use ambit_types::CollectionName;

impl TenantStore {
    /// Creates it when absent; `retrieval` counts only then.
    pub async fn ensure_collection(
        &self,
        name: &CollectionName,
        retrieval: Option<Digest>,
    ) -> Result<Collection> {
        let mut tx = self.write().await?;
        let query = self
            .query(COLLECTION_INSERT)
            .bind(name.as_str())
            .bind(now_ms())
            .bind(retrieval);
        let created = query.execute(&mut tx).await? > 0;
        let row = self
            .query(COLLECTION_GET)
            .bind(name.as_str())
            .optional(&mut tx)
            .await?;
        let collection = collection_from(&row.ok_or(UNKNOWN)?)?;
        if created {
            self.bump(&mut tx, EpochKind::Collections).await?;
            tx.commit().await?;
        }
        Ok(collection)
    }

    pub async fn collections(&self) -> Result<Vec<Collection>> {
        let rows = self
            .query(COLLECTION_LIST)
            .all(&mut self.read().await?)
            .await?;
        rows.iter().map(collection_from).collect()
    }

    pub async fn collection(&self, name: &CollectionName) -> Result<Option<Collection>> {
        let row = self
            .query(COLLECTION_GET)
            .bind(name.as_str())
            .optional(&mut self.read().await?)
            .await?;
        row.as_ref().map(collection_from).transpose()
    }

    /// Removes it with all its documents.
    pub async fn remove_collection(&self, name: &CollectionName) -> Result<bool> {
        match self.delete_documents(name, "").await {
            Err(StoreError::NotFound { .. }) => return Ok(false),
            deleted => drop(deleted?),
        }
        self.change(
            self.query(COLLECTION_DELETE).bind(name.as_str()),
            EpochKind::Collections,
        )
        .await
    }

    /// The stored content hash of each id, in the same order.
    pub async fn content_hashes(
        &self,
        collection: &CollectionName,
        ids: &[String],
    ) -> Result<Vec<Option<Vec<u8>>>> {
        let mut tx = self.read().await?;
        let mut hashes = Vec::with_capacity(ids.len());
        for id in ids {
            let row = self
                .query(DOCUMENT_HASH)
                .bind(collection.as_str())
                .bind(id)
                .optional(&mut tx)
                .await?;
            hashes.push(row.map(|row| row.blob(0)).transpose()?);
        }
        Ok(hashes)
    }

    /// Stores these documents in place of whatever stood under their ids, all or none; the collection's new revision.
    ///
    /// One call is one transaction and, on SQLite, holds the only writer: pass at most some hundred documents.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] without such a collection.
    pub async fn put_documents(
        &self,
        collection: &CollectionName,
        documents: &[Document],
    ) -> Result<i64> {
        let mut tx = self.write().await?;
        let revision = self.next_revision(&mut tx, collection).await?;
        for document in documents {
            check(document)?;
            self.query(DOCUMENT_PUT)
                .bind(collection.as_str())
                .bind(&document.id)
                .bind(&document.title)
                .bind(document.content_hash.as_slice())
                .bind(json(&document.attributes)?)
                .execute(&mut tx)
                .await?;
            self.query(CHUNKS_DELETE)
                .bind(collection.as_str())
                .bind(&document.id)
                .execute(&mut tx)
                .await?;
            for (chunk, ordinal) in document.chunks.iter().zip(0_i64..) {
                self.query(CHUNK_INSERT)
                    .bind(collection.as_str())
                    .bind(&document.id)
                    .bind(ordinal)
                    .bind(&chunk.anchor)
                    .bind(json(&chunk.headings)?)
                    .bind(&chunk.text)
                    .execute(&mut tx)
                    .await?;
            }
        }
        tx.commit().await?;
        Ok(revision)
    }

    /// Removes every document whose id starts with `prefix` (empty: all), some at a time: others write between.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] without such a collection.
    pub async fn delete_documents(
        &self,
        collection: &CollectionName,
        prefix: &str,
    ) -> Result<Deleted> {
        let mut deleted = Deleted {
            documents: 0,
            revision: 0,
        };
        loop {
            let mut tx = self.write().await?;
            let revision = self.next_revision(&mut tx, collection).await?;
            let query = match successor(prefix) {
                Some(end) => self
                    .query(DOCUMENTS_DELETE_RANGE)
                    .bind(collection.as_str())
                    .bind(prefix)
                    .bind(end),
                None => self
                    .query(DOCUMENTS_DELETE_FROM)
                    .bind(collection.as_str())
                    .bind(prefix),
            };
            let documents = query.bind(DELETED_AT_ONCE).execute(&mut tx).await?;
            // Where nothing is deleted nothing moves.
            if documents == 0 {
                deleted.revision = revision - 1;
                return Ok(deleted);
            }
            tx.commit().await?;
            deleted.documents += documents;
            deleted.revision = revision;
            if documents < DELETED_AT_ONCE.unsigned_abs() {
                return Ok(deleted);
            }
        }
    }

    /// Documents with their chunks in order of id, from after `after`: for rebuilding an index.
    pub async fn documents(
        &self,
        collection: &CollectionName,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<Document>> {
        let mut tx = self.read().await?;
        // No id is empty, so every id comes after the empty text.
        let query = self
            .query(DOCUMENT_PAGE)
            .bind(collection.as_str())
            .bind(after.unwrap_or_default())
            .bind(i64::from(limit));
        let mut documents = query
            .all(&mut tx)
            .await?
            .iter()
            .map(document_from)
            .collect::<Result<Vec<_>>>()?;
        if let (Some(first), Some(last)) = (documents.first(), documents.last()) {
            let query = self
                .query(CHUNK_RANGE)
                .bind(collection.as_str())
                .bind(&first.id)
                .bind(&last.id);
            let rows = query.all(&mut tx).await?;
            let mut rows = rows.iter().peekable();
            for document in &mut documents {
                // Both lists come in order of id.
                while let Some(row) = rows.peek() {
                    if row.text(0)? != document.id {
                        break;
                    }
                    document.chunks.push(Chunk {
                        anchor: row.text(1)?,
                        headings: row.json(2)?,
                        text: row.text(3)?,
                    });
                    rows.next();
                }
            }
        }
        Ok(documents)
    }

    pub async fn stats(&self, collection: &CollectionName) -> Result<CollectionStats> {
        let mut tx = self.read().await?;
        let documents = self
            .query(DOCUMENT_COUNT)
            .bind(collection.as_str())
            .optional(&mut tx)
            .await?;
        let chunks = self
            .query(CHUNK_COUNT)
            .bind(collection.as_str())
            .optional(&mut tx)
            .await?;
        let count = |row: Option<Row>| row.map_or(Ok(0), |row| row.unsigned(0));
        Ok(CollectionStats {
            documents: count(documents)?,
            chunks: count(chunks)?,
        })
    }

    async fn next_revision(&self, tx: &mut Tx, collection: &CollectionName) -> Result<i64> {
        let row = self
            .query(COLLECTION_NEXT_REVISION)
            .bind(collection.as_str())
            .optional(tx)
            .await?;
        row.ok_or(UNKNOWN)?.int(0)
    }
}

/// Documents deleted in one transaction: bounds how long SQLite's only writer is held.
const DELETED_AT_ONCE: i64 = 200;

const UNKNOWN: StoreError = StoreError::NotFound { what: "collection" };

/// PostgreSQL refuses index entries over a third of a page; the tenant and the collection share it with the id.
fn check(document: &Document) -> Result<()> {
    if document.id.is_empty() || document.id.len() > 1024 {
        return Err(StoreError::Invalid {
            what: "document id",
            why: "must have 1 to 1,024 bytes",
        });
    }
    if document.content_hash.len() > 64 {
        return Err(StoreError::Invalid {
            what: "content hash",
            why: "must have at most 64 bytes",
        });
    }
    Ok(())
}

/// The smallest text after all texts that start with `prefix`, in the order of bytes that both databases use; none when there is no end.
fn successor(prefix: &str) -> Option<String> {
    let mut end = prefix.to_owned();
    while let Some(last) = end.pop() {
        // Surrogates are no characters.
        let next = if last == '\u{d7ff}' {
            Some('\u{e000}')
        } else {
            char::from_u32(u32::from(last) + 1)
        };
        if let Some(next) = next {
            end.push(next);
            return Some(end);
        }
    }
    None
}

fn collection_from(row: &Row) -> Result<Collection> {
    Ok(Collection {
        name: row.parsed(0)?,
        created_ms: row.int(1)?,
        retrieval: row.optional_digest(2)?,
        revision: row.int(3)?,
    })
}

fn document_from(row: &Row) -> Result<Document> {
    Ok(Document {
        id: row.text(0)?,
        title: row.text(1)?,
        content_hash: row.blob(2)?,
        attributes: row.json(3)?,
        chunks: Vec::new(),
    })
}

statements! {
    COLLECTION_INSERT = "INSERT INTO collections (tenant, name, created_ms, retrieval, revision) VALUES ($1, $2, $3, $4, 0) \
        ON CONFLICT (tenant, name) DO NOTHING";
    COLLECTION_LIST = "SELECT name, created_ms, retrieval, revision FROM collections WHERE tenant = $1 ORDER BY name";
    COLLECTION_GET = "SELECT name, created_ms, retrieval, revision FROM collections WHERE tenant = $1 AND name = $2";
    COLLECTION_DELETE = "DELETE FROM collections WHERE tenant = $1 AND name = $2";
    COLLECTION_NEXT_REVISION = "UPDATE collections SET revision = revision + 1 WHERE tenant = $1 AND name = $2 RETURNING revision";
    DOCUMENT_HASH = "SELECT content_hash FROM documents WHERE tenant = $1 AND collection = $2 AND document = $3";
    DOCUMENT_PUT = "INSERT INTO documents (tenant, collection, document, title, content_hash, attributes) \
        VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (tenant, collection, document) DO UPDATE SET \
        title = excluded.title, content_hash = excluded.content_hash, attributes = excluded.attributes";
    DOCUMENTS_DELETE_RANGE = "DELETE FROM documents WHERE tenant = $1 AND collection = $2 AND document IN \
        (SELECT document FROM documents WHERE tenant = $1 AND collection = $2 AND document >= $3 AND document < $4 ORDER BY document LIMIT $5)";
    DOCUMENTS_DELETE_FROM = "DELETE FROM documents WHERE tenant = $1 AND collection = $2 AND document IN \
        (SELECT document FROM documents WHERE tenant = $1 AND collection = $2 AND document >= $3 ORDER BY document LIMIT $4)";
    DOCUMENT_PAGE = "SELECT document, title, content_hash, attributes FROM documents \
        WHERE tenant = $1 AND collection = $2 AND document > $3 ORDER BY document LIMIT $4";
    DOCUMENT_COUNT = "SELECT count(*) FROM documents WHERE tenant = $1 AND collection = $2";
    CHUNKS_DELETE = "DELETE FROM chunks WHERE tenant = $1 AND collection = $2 AND document = $3";
    CHUNK_INSERT = "INSERT INTO chunks (tenant, collection, document, ordinal, anchor, headings, passage) \
        VALUES ($1, $2, $3, $4, $5, $6, $7)";
    CHUNK_RANGE = "SELECT document, anchor, headings, passage FROM chunks \
        WHERE tenant = $1 AND collection = $2 AND document >= $3 AND document <= $4 ORDER BY document, ordinal";
    CHUNK_COUNT = "SELECT count(*) FROM chunks WHERE tenant = $1 AND collection = $2";
}

#[cfg(test)]
mod tests {
    use super::successor;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_prefix_and_its_successor_enclose_exactly_its_continuations(prefix: String, other: String) {
            let inside = other.as_str() >= prefix.as_str() && successor(&prefix).is_none_or(|end| other < end);
            prop_assert_eq!(inside, other.starts_with(&prefix));
            let continued = format!("{prefix}{other}");
            prop_assert!(continued >= prefix && successor(&prefix).is_none_or(|end| continued < end));
        }
    }
}
