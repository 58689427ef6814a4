//! One collection's index on disk: a tantivy folder whose commits carry the store's revision. Everything here blocks.

use crate::{Entry, Hit, IndexError, Request, Revision, analysis, query, schema};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::{ops::Bound, path::Path, sync::Arc};
use tantivy::{
    Index, IndexReader, IndexWriter, ReloadPolicy, Term,
    indexer::{IndexWriterOptions, LogMergePolicy},
    query::{AllQuery, InvertedIndexRangeQuery, Query},
    tokenizer::TextAnalyzer,
};

/// Blocks of 16 KiB that each segment's reader keeps uncompressed; tantivy's own 100 are 1.6 MB for each segment of each collection.
const CACHED_BLOCKS: usize = 8;

/// The least tantivy accepts. More would make larger first segments in a bulk load, which merging makes anyway.
const WRITER_MEMORY: usize = 15_000_000;

/// A segment is rewritten when so much of it is deleted: BM25 counts deleted chunks until then.
const DELETED_SHARE: f32 = 0.2;

pub(crate) struct Shelf {
    index: Index,
    reader: IndexReader,
    fields: schema::Fields,
    analyser: TextAnalyzer,
    revision: Mutex<Option<Revision>>,
    /// Open only while there are changes: it holds a thread and a memory arena.
    writer: Mutex<Option<IndexWriter>>,
}

/// What each commit carries.
#[derive(Serialize, Deserialize)]
struct Carried {
    format: u32,
    revision: Revision,
}

/// Commits of a rebuild carry no revision until the last, so an unfinished one is never taken for an index.
pub(crate) enum Change<'a> {
    Put(&'a [Entry]),
    DeletePrefix(&'a str),
}

impl Shelf {
    /// Opens what lies in `dir`. None where there is no index, or one that is damaged, unfinished or of another format.
    pub(crate) fn open(dir: &Path) -> Option<Self> {
        if !dir.join("meta.json").exists() {
            return None;
        }
        let opened = || -> tantivy::Result<Option<Self>> {
            let shelf = Self::with(Index::open_in_dir(dir)?)?;
            let payload = shelf.index.load_metas()?.payload;
            let carried =
                payload.and_then(|payload| serde_json::from_str::<Carried>(&payload).ok());
            let Some(carried) = carried.filter(|carried| carried.format == schema::FORMAT) else {
                return Ok(None);
            };
            // Reads every byte once, some hundred MB at most; without it a flipped bit would be a wrong answer.
            if shelf.index.schema() != schema::schema().0
                || !shelf.index.validate_checksum()?.is_empty()
            {
                return Ok(None);
            }
            *shelf.revision.lock() = Some(carried.revision);
            Ok(Some(shelf))
        };
        match opened() {
            Ok(Some(shelf)) => Some(shelf),
            Ok(None) => {
                tracing::warn!(
                    "a search index is damaged, unfinished or of another version, and will be rebuilt"
                );
                None
            }
            Err(error) => {
                tracing::warn!(%error, "a search index cannot be opened and will be rebuilt");
                None
            }
        }
    }

    /// A new, empty index in place of whatever lies in `dir`.
    pub(crate) fn create(dir: &Path) -> Result<Self, IndexError> {
        remove(dir)?;
        std::fs::create_dir_all(dir).map_err(broken)?;
        Self::with(Index::create_in_dir(dir, schema::schema().0).map_err(broken)?).map_err(broken)
    }

    fn with(index: Index) -> tantivy::Result<Self> {
        index.tokenizers().register(analysis::NAME, analysis::english());
        let reader = index
            .reader_builder()
            .reload_policy(ReloadPolicy::Manual)
            .doc_store_cache_num_blocks(CACHED_BLOCKS)
            .try_into()?;
        let (_, fields) = schema::schema();
        Ok(Self {
            index,
            reader,
            fields,
            analyser: analysis::english(),
            revision: Mutex::new(None),
            writer: Mutex::new(None),
        })
    }

    /// None until the first commit with a revision.
    pub(crate) fn revision(&self) -> Option<Revision> {
        *self.revision.lock()
    }

    pub(crate) fn search(&self, request: &Request) -> Result<Vec<Hit>, IndexError> {
        query::run(
            &self.reader.searcher(),
            &self.fields,
            &mut self.analyser.clone(),
            request,
        )
        .map_err(broken)
    }

    /// Adds a change to the next commit. On an error nothing of that commit remains.
    pub(crate) fn add(&self, change: &Change<'_>) -> Result<(), IndexError> {
        self.with_writer(|writer| match change {
            Change::Put(entries) => {
                for entry in *entries {
                    writer.delete_term(self.fields.document_term(&entry.id));
                    for chunk in &entry.chunks {
                        writer.add_document(self.fields.chunk(entry, chunk)?)?;
                    }
                }
                Ok(())
            }
            Change::DeletePrefix(prefix) => {
                writer.delete_query(self.starting_with(prefix)).map(|_| ())
            }
        })
    }

    /// Makes everything added durable and visible to the next search.
    pub(crate) fn commit(&self, revision: Revision) -> Result<(), IndexError> {
        self.with_writer(|writer| {
            let mut commit = writer.prepare_commit()?;
            commit.set_payload(&serde_json::to_string(&Carried {
                format: schema::FORMAT,
                revision,
            })?);
            commit.commit()?;
            self.reader.reload()
        })?;
        *self.revision.lock() = Some(revision);
        Ok(())
    }

    /// Lets merges finish and gives thread and memory back.
    pub(crate) fn close_writer(&self) {
        let Some(writer) = self.writer.lock().take() else {
            return;
        };
        if let Err(error) = writer
            .wait_merging_threads()
            .and_then(|()| self.reader.reload())
        {
            tracing::warn!(%error, "segments of a search index were not merged");
        }
    }

    fn with_writer<T>(
        &self,
        work: impl FnOnce(&mut IndexWriter) -> tantivy::Result<T>,
    ) -> Result<T, IndexError> {
        let mut slot = self.writer.lock();
        // Taken out: a writer that failed is dropped, and with it everything that was not committed.
        let mut writer = match slot.take() {
            Some(writer) => writer,
            None => self.new_writer().map_err(broken)?,
        };
        let done = work(&mut writer).map_err(broken)?;
        *slot = Some(writer);
        Ok(done)
    }

    fn new_writer(&self) -> tantivy::Result<IndexWriter> {
        let options = IndexWriterOptions::builder()
            .memory_budget_per_thread(WRITER_MEMORY)
            .num_worker_threads(1)
            .num_merge_threads(1)
            .build();
        let writer = self.index.writer_with_options(options)?;
        let mut policy = LogMergePolicy::default();
        policy.set_del_docs_ratio_before_merge(DELETED_SHARE);
        writer.set_merge_policy(Box::new(policy));
        Ok(writer)
    }

    fn starting_with(&self, prefix: &str) -> Box<dyn Query> {
        if prefix.is_empty() {
            return Box::new(AllQuery);
        }
        // The least text above all that start with the prefix; exists because no byte of UTF-8 is 0xff.
        let mut above = prefix.as_bytes().to_vec();
        if let Some(last) = above.last_mut() {
            *last += 1;
        }
        let mut end = Term::from_field_text(self.fields.document, "");
        end.append_bytes(&above);
        let start = self.fields.document_term(prefix);
        Box::new(InvertedIndexRangeQuery::new(
            Bound::Included(start),
            Bound::Excluded(end),
        ))
    }
}

/// Deletes an index. Nothing there is fine.
pub(crate) fn remove(dir: &Path) -> Result<(), IndexError> {
    match std::fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(broken(error)),
        _ => Ok(()),
    }
}

pub(crate) fn broken(error: impl std::error::Error + Send + Sync + 'static) -> IndexError {
    IndexError::Broken(Arc::new(error))
}
