//! Finding passages in a tenant's collections, and keeping them up to date.

pub use crate::Attribute;

/// How text is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MediaType {
    Plain,
    Markdown,
    Html,
}

/// A document as its owner gave it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Document {
    /// Id or URI, unique in the collection.
    pub id: String,
    pub title: String,
    pub media_type: MediaType,
    pub text: String,
    pub attributes: Vec<Attribute>,
}

/// How passages are ranked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    Keyword,
    Vector,
    Hybrid,
}

/// What to look for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    pub collection: ambit_types::CollectionName,
    pub text: String,
    /// Passages to return, 1 to 100.
    pub max_results: u32,
    /// JSON of OpenAI's vector-store filter.
    pub filter: Option<String>,
    /// None: the best mode the component has.
    pub mode: Option<Mode>,
}

/// A passage with everything needed to cite it.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Passage {
    pub document: String,
    pub title: String,
    /// Position inside the document that stays the same as long as the passage does.
    pub anchor: String,
    /// Headings above the passage, outermost first.
    pub headings: Vec<String>,
    pub text: String,
    pub attributes: Vec<Attribute>,
    /// 0 to 1; comparable only within one answer.
    pub score: f32,
}

/// What an ingest did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct IngestReport {
    /// Documents written because they are new or changed.
    pub written: u32,
    /// Documents whose content hash is the stored one.
    pub unchanged: u32,
    pub chunks: u32,
}

/// The size of a collection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Stats {
    pub documents: u64,
    pub chunks: u64,
}
