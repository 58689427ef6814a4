//! What is indexed: documents cut into chunks, and the limits they keep.

use crate::IndexError;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;

/// Limits of one put. They bound what a hostile component can make the host hold.
pub mod limits {
    /// Bytes of a document's id.
    pub const ID: usize = 1024;
    /// Bytes of a title.
    pub const TITLE: usize = 4096;
    /// Bytes of an anchor.
    pub const ANCHOR: usize = 512;
    /// Headings above a chunk.
    pub const HEADINGS: usize = 16;
    /// Bytes of one heading.
    pub const HEADING: usize = 1024;
    /// Bytes of a chunk's text.
    pub const TEXT: usize = 64 * 1024;
    /// Attributes of a document (OpenAI's vector stores take as many).
    pub const ATTRIBUTES: usize = 32;
    /// Bytes of an attribute's name.
    pub const NAME: usize = 64;
    /// Bytes of an attribute's text value.
    pub const VALUE: usize = 2048;
    /// Chunks of one document.
    pub const CHUNKS: usize = 20_000;
    /// Documents of one batch.
    pub const ENTRIES: usize = 1000;
    /// Bytes of all texts of one batch together.
    pub const BATCH: usize = 64 * 1024 * 1024;
}

/// What a filter compares. Values of different types are never equal and never ordered. In JSON: a string, number or boolean.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Value {
    Boolean(bool),
    /// Finite.
    Number(f64),
    Text(String),
}

/// A fact about a document. Names are unique within a document.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Attribute {
    pub name: String,
    pub value: Value,
}

/// One passage of a document.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Chunk {
    /// Position inside the document that stays the same as long as the passage does; unique in the document.
    pub anchor: String,
    /// Headings above the passage, outermost first.
    pub headings: Vec<String>,
    pub text: String,
}

/// A document with its chunks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Id or URI, unique in the collection.
    pub id: String,
    pub title: String,
    pub attributes: Vec<Attribute>,
    pub chunks: Vec<Chunk>,
}

/// Entries that keep the [`limits`], with unique ids. Made before the store is asked, so that what the store took the index takes too.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch(Vec<Entry>);

impl Batch {
    /// # Errors
    /// [`IndexError::Invalid`] names the entry (by its place) and the limit it breaks.
    pub fn new(entries: Vec<Entry>) -> Result<Self, IndexError> {
        let invalid = |message: String| Err(IndexError::Invalid(message));
        if entries.len() > limits::ENTRIES {
            return invalid(format!(
                "{} entries in one batch; at most {} fit",
                entries.len(),
                limits::ENTRIES
            ));
        }
        let mut ids = HashSet::with_capacity(entries.len());
        let mut size = 0;
        for (place, entry) in entries.iter().enumerate() {
            if let Err(problem) = check(entry) {
                return invalid(format!("entry {}: {problem}", place + 1));
            }
            if !ids.insert(entry.id.as_str()) {
                return invalid(format!(
                    "entry {}: the id is used twice in the batch",
                    place + 1
                ));
            }
            size += entry
                .chunks
                .iter()
                .map(|chunk| chunk.text.len())
                .sum::<usize>();
        }
        if size > limits::BATCH {
            return invalid(format!(
                "{size} bytes of text in one batch; at most {} fit",
                limits::BATCH
            ));
        }
        Ok(Self(entries))
    }

    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.0
    }

    #[must_use]
    pub fn into_entries(self) -> Vec<Entry> {
        self.0
    }
}

fn check(entry: &Entry) -> Result<(), String> {
    let Entry {
        id,
        title,
        attributes,
        chunks,
    } = entry;
    let values = attributes
        .iter()
        .flat_map(|attribute| match &attribute.value {
            Value::Text(text) => vec![&attribute.name, text],
            Value::Number(_) | Value::Boolean(_) => vec![&attribute.name],
        });
    let texts = chunks.iter().flat_map(|chunk| {
        [&chunk.anchor, &chunk.text]
            .into_iter()
            .chain(&chunk.headings)
    });
    if [id, title]
        .into_iter()
        .chain(values)
        .chain(texts)
        .any(|text| text.contains('\0'))
    {
        return Err("a text holds a NUL, which PostgreSQL does not store".to_owned());
    }
    let within = |what: &str, size: usize, limit: usize| {
        if size > limit {
            Err(format!("{size} {what}; at most {limit} fit"))
        } else {
            Ok(())
        }
    };
    if entry.id.is_empty() {
        return Err("the id is empty".to_owned());
    }
    within("id bytes", entry.id.len(), limits::ID)?;
    within("title bytes", entry.title.len(), limits::TITLE)?;
    within("attributes", entry.attributes.len(), limits::ATTRIBUTES)?;
    let mut names = HashSet::new();
    for attribute in &entry.attributes {
        within("attribute name bytes", attribute.name.len(), limits::NAME)?;
        if attribute.name.is_empty() || !names.insert(attribute.name.as_str()) {
            return Err(format!(
                "attribute name `{}` is empty or used twice",
                attribute.name
            ));
        }
        match &attribute.value {
            Value::Text(text) => within(
                &format!("bytes in attribute `{}`", attribute.name),
                text.len(),
                limits::VALUE,
            )?,
            Value::Number(number) if !number.is_finite() => {
                return Err(format!(
                    "attribute `{}` is not a finite number",
                    attribute.name
                ));
            }
            Value::Number(_) | Value::Boolean(_) => {}
        }
    }
    within("chunks", entry.chunks.len(), limits::CHUNKS)?;
    let mut anchors = HashSet::with_capacity(entry.chunks.len());
    for chunk in &entry.chunks {
        within("anchor bytes", chunk.anchor.len(), limits::ANCHOR)?;
        if !anchors.insert(chunk.anchor.as_str()) {
            return Err(format!("anchor `{}` is used twice", chunk.anchor));
        }
        within("chunk text bytes", chunk.text.len(), limits::TEXT)?;
        within("headings", chunk.headings.len(), limits::HEADINGS)?;
        for heading in &chunk.headings {
            within("heading bytes", heading.len(), limits::HEADING)?;
        }
    }
    Ok(())
}
