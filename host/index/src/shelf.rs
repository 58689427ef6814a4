//! One collection's index on disk: a tantivy folder whose commits carry the store's revision. Everything here blocks.
//!
//! A collection's folder holds numbered generations, normally one. A rebuild fills the next one and deletes the others once it is
//! committed: what still reads or merges the old files cannot spoil the new ones, and a crash leaves one whole index or none.

use crate::{Entry, Hit, IndexError, Request, Revision, analysis, query, schema};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::{
    ops::Bound,
    path::{Path, PathBuf},
    sync::Arc,
};
use tantivy::{
    Directory, Index, IndexReader, IndexSettings, IndexWriter, ReloadPolicy, Term,
    indexer::{IndexWriterOptions, LogMergePolicy},
    query::{AllQuery, InvertedIndexRangeQuery, Query},
    tokenizer::TextAnalyzer,
};

/// Bytes of stored chunks that are compressed together. Each hit costs a block, so tantivy's own 16 KiB would unpack ten chunks for one.
const STORED_BLOCK: usize = 4096;

/// Blocks that each segment's reader keeps unpacked.
const CACHED_BLOCKS: usize = 16;

/// The least tantivy accepts. More would make larger first segments in a bulk load, which merging makes anyway.
const WRITER_MEMORY: usize = 15_000_000;

/// A segment is rewritten when so much of it is deleted: BM25 counts deleted chunks until then.
const DELETED_SHARE: f32 = 0.2;

pub(crate) struct Shelf {
    dir: PathBuf,
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

pub(crate) enum Change<'a> {
    Put(&'a [Entry]),
    DeletePrefix(&'a str),
}

impl Shelf {
    /// Opens the newest index in `dir` that is whole. None where there is none: missing, damaged, unfinished or of another format.
    pub(crate) fn open(dir: &Path) -> Option<Self> {
        generations(dir).into_iter().rev().find_map(|number| {
            match Self::open_generation(dir.join(number.to_string())) {
                Ok(Some(shelf)) => Some(shelf),
                Ok(None) => {
                    tracing::warn!("a search index is damaged, unfinished or of another version");
                    None
                }
                Err(error) => {
                    tracing::warn!(%error, "a search index cannot be opened");
                    None
                }
            }
        })
    }

    fn open_generation(dir: PathBuf) -> tantivy::Result<Option<Self>> {
        let shelf = Self::with(Index::open_in_dir(&dir)?, dir)?;
        let meta = shelf.index.load_metas()?;
        let carried = meta.payload.as_deref().map(serde_json::from_str::<Carried>);
        let Some(carried) = carried
            .transpose()?
            .filter(|carried| carried.format == schema::FORMAT)
        else {
            return Ok(None);
        };
        if shelf.index.schema() != schema::schema().0 {
            return Ok(None);
        }
        // Reads every byte once, some hundred MB at most; without it a flipped bit would be a wrong answer. tantivy's own check passes
        // over files that its list of files does not name.
        let directory = shelf.index.directory();
        let managed = directory.list_managed_files();
        for file in meta.list_segment_files() {
            if directory.exists(&file)?
                && !(managed.contains(&file) && directory.validate_checksum(&file)?)
            {
                return Ok(None);
            }
        }
        *shelf.revision.lock() = Some(carried.revision);
        Ok(Some(shelf))
    }

    /// A new, empty index beside whatever lies in `dir`, in place of it from the first commit on.
    pub(crate) fn create(dir: &Path) -> Result<Self, IndexError> {
        let number = generations(dir)
            .last()
            .map_or(1, |last| last.saturating_add(1));
        let dir = dir.join(number.to_string());
        std::fs::create_dir_all(&dir).map_err(broken)?;
        let settings = IndexSettings {
            docstore_blocksize: STORED_BLOCK,
            ..IndexSettings::default()
        };
        let builder = Index::builder()
            .schema(schema::schema().0)
            .settings(settings);
        Self::with(builder.create_in_dir(&dir).map_err(broken)?, dir).map_err(broken)
    }

    /// Deletes the indexes that this one has taken the place of. What cannot be deleted now goes the next time.
    pub(crate) fn supersede(&self) {
        let Some(all) = self.dir.parent() else { return };
        for number in generations(all) {
            let dir = all.join(number.to_string());
            if dir != self.dir
                && let Err(error) = std::fs::remove_dir_all(dir)
            {
                tracing::debug!(%error, "an old search index is still in use");
            }
        }
    }

    /// Makes sure that this index, which failed, is not opened again.
    pub(crate) fn condemn(&self) {
        if let Err(error) = std::fs::remove_file(self.dir.join("meta.json")) {
            tracing::warn!(%error, "a failed search index could not be marked");
        }
    }

    fn with(index: Index, dir: PathBuf) -> tantivy::Result<Self> {
        index
            .tokenizers()
            .register(analysis::NAME, analysis::english());
        let reader = index
            .reader_builder()
            .reload_policy(ReloadPolicy::Manual)
            .doc_store_cache_num_blocks(CACHED_BLOCKS)
            .try_into()?;
        let (_, fields) = schema::schema();
        Ok(Self {
            dir,
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

/// Numbers of the generations in `dir`, ascending.
fn generations(dir: &Path) -> Vec<u64> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut numbers: Vec<u64> = entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    numbers.sort_unstable();
    numbers
}

/// Deletes a collection's folder. Nothing there is fine.
pub(crate) fn remove(dir: &Path) -> Result<(), IndexError> {
    match std::fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(broken(error)),
        _ => Ok(()),
    }
}

pub(crate) fn broken(error: impl std::error::Error + Send + Sync + 'static) -> IndexError {
    IndexError::Broken(Arc::new(error))
}
