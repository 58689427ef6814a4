//! What goes in and out, in plain types, and the index as this component sees it.

use crate::Chunk;

/// How a document's text is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MediaType {
    Plain,
    Markdown,
    Html,
}

/// What a filter compares.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Text(String),
    Number(f64),
    Boolean(bool),
}

#[derive(Debug, Clone, PartialEq)]
pub struct Attribute {
    pub name: String,
    pub value: Value,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// Id or URI, unique in the collection.
    pub id: String,
    /// Where it is empty the document's own title or the last part of the id stands in.
    pub title: String,
    pub media_type: MediaType,
    pub text: String,
    pub attributes: Vec<Attribute>,
}

/// A document with its chunks, for the index.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    pub id: String,
    pub title: String,
    pub content_hash: Vec<u8>,
    pub attributes: Vec<Attribute>,
    pub chunks: Vec<Chunk>,
}

/// How passages are ranked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Keyword,
    Vector,
    Hybrid,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Query {
    pub collection: String,
    pub text: String,
    /// 1 to 100.
    pub max_results: u32,
    /// JSON; only the index reads it.
    pub filter: Option<String>,
    /// None: the best there is.
    pub mode: Option<Mode>,
}

/// How much a match in each field counts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Weights {
    pub title: f32,
    pub headings: f32,
    pub text: f32,
}

/// A question to the index.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    pub collection: String,
    pub text: String,
    pub weights: Weights,
    pub filter: Option<String>,
    pub limit: u32,
}

/// A passage: a chunk with its document. From the index `score` is BM25, to a caller 0 to 1.
#[derive(Debug, Clone, PartialEq)]
pub struct Passage {
    pub document: String,
    pub title: String,
    pub anchor: String,
    pub headings: Vec<String>,
    pub text: String,
    pub attributes: Vec<Attribute>,
    pub score: f32,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct IngestReport {
    pub written: u32,
    pub unchanged: u32,
    pub chunks: u32,
}

/// Why something was not done; the index has the same cases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    Denied(String),
    UnknownCollection(String),
    Invalid(String),
    Other(String),
}

/// The index as far as this component uses it: imports in the guest, the real index or a double in tests.
pub trait Index {
    /// # Errors
    /// Of the index.
    fn content_hashes(
        &self,
        collection: &str,
        ids: &[String],
    ) -> Result<Vec<Option<Vec<u8>>>, Error>;

    /// # Errors
    /// Of the index.
    fn put(&self, collection: &str, entries: Vec<Entry>) -> Result<(), Error>;

    /// # Errors
    /// Of the index.
    fn search(&self, request: &Request) -> Result<Vec<Passage>, Error>;
}
