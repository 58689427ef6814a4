//! A search request, and how it becomes a tantivy query: a union of the query's terms under BM25, inside the filter.

use crate::{Attribute, Filter, IndexError, analysis, schema::Fields};
use tantivy::{
    Searcher, TantivyDocument, Term,
    collector::TopDocs,
    query::{BooleanQuery, BoostQuery, ConstScoreQuery, Occur, Query, TermQuery},
    schema::{Field, IndexRecordOption},
    tokenizer::TextAnalyzer,
};

/// Chunks of one answer.
const MOST_HITS: usize = 1000;

/// Distinct terms that are scored. A query that is a whole document has some hundred; the rarest of more say what it is about.
const MOST_TERMS: usize = 256;

/// How much a match in each field counts. 0 leaves the field out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Weights {
    pub title: f32,
    pub headings: f32,
    /// The passage itself, title and headings included.
    pub text: f32,
}

/// What to look for.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// Plain text; nothing in it is syntax. Without a term (only punctuation, only function words) nothing is found.
    pub text: String,
    pub weights: Weights,
    pub filter: Option<Filter>,
    /// Chunks to return, 1 to 1000.
    pub limit: usize,
}

/// A chunk that was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Hit {
    pub document: String,
    pub title: String,
    pub anchor: String,
    pub headings: Vec<String>,
    pub text: String,
    pub attributes: Vec<Attribute>,
    /// BM25 (k1 1.2, b 0.75); comparable only within one answer.
    pub score: f32,
}

impl Request {
    /// # Errors
    /// [`IndexError::Invalid`] where a weight is negative or not a number, or the limit is out of range.
    pub(crate) fn check(&self) -> Result<(), IndexError> {
        let Weights {
            title,
            headings,
            text,
        } = self.weights;
        // 1e6 keeps every score finite.
        if [title, headings, text]
            .iter()
            .any(|weight| !(0.0..=1e6).contains(weight))
        {
            return Err(IndexError::Invalid(
                "weights: expected numbers from 0 to 1000000".to_owned(),
            ));
        }
        if !(1..=MOST_HITS).contains(&self.limit) {
            return Err(IndexError::Invalid(format!(
                "limit: expected 1 to {MOST_HITS}"
            )));
        }
        Ok(())
    }
}

/// Carries a checked request out.
pub(crate) fn run(
    searcher: &Searcher,
    fields: &Fields,
    analyser: &mut TextAnalyzer,
    request: &Request,
) -> tantivy::Result<Vec<Hit>> {
    let Weights {
        title,
        headings,
        text,
    } = request.weights;
    let weights: Vec<_> = [
        (fields.text, text),
        (fields.title, title),
        (fields.headings, headings),
    ]
    .into_iter()
    .filter(|(_, weight)| *weight > 0.0)
    .collect();
    let terms = known_terms(
        searcher,
        fields.text,
        analysis::query_terms(analyser, &request.text),
    )?;
    if terms.is_empty() || weights.is_empty() {
        return Ok(Vec::new());
    }
    let mut query: Box<dyn Query> = Box::new(union(&terms, &weights));
    if let Some(filter) = &request.filter {
        let filter = Box::new(ConstScoreQuery::new(filter.query(fields), 0.0));
        query = Box::new(BooleanQuery::new(vec![
            (Occur::Must, query),
            (Occur::Must, filter),
        ]));
    }
    searcher
        .search(
            &*query,
            &TopDocs::with_limit(request.limit).order_by_score(),
        )?
        .into_iter()
        .map(|(score, address)| {
            let document: TantivyDocument = searcher.doc(address)?;
            let payload = fields.payload(&document).ok_or_else(|| {
                tantivy::TantivyError::InternalError("a stored chunk cannot be read".to_owned())
            })?;
            Ok(Hit {
                document: payload.document,
                title: payload.title,
                anchor: payload.anchor,
                headings: payload.headings,
                text: payload.text,
                attributes: payload.attributes,
                score,
            })
        })
        .collect()
}

/// The terms that occur in the index at all, the rarest [`MOST_TERMS`] of them. The text field holds title and headings too.
fn known_terms(
    searcher: &Searcher,
    field: Field,
    terms: Vec<(String, u32)>,
) -> tantivy::Result<Vec<(String, u32)>> {
    let mut known = Vec::new();
    for (term, count) in terms {
        let documents = searcher.doc_freq(&Term::from_field_text(field, &term))?;
        if documents > 0 {
            known.push((documents, term, count));
        }
    }
    if known.len() > MOST_TERMS {
        known.select_nth_unstable_by_key(MOST_TERMS, |(documents, ..)| *documents);
        known.truncate(MOST_TERMS);
    }
    Ok(known
        .into_iter()
        .map(|(_, term, count)| (term, count))
        .collect())
}

/// One flat union of boosted terms: the shape tantivy answers with block-max pruning.
fn union(terms: &[(String, u32)], weights: &[(Field, f32)]) -> BooleanQuery {
    let mut clauses: Vec<(Occur, Box<dyn Query>)> = Vec::with_capacity(terms.len() * weights.len());
    for (term, count) in terms {
        for (field, weight) in weights {
            let matches = TermQuery::new(
                Term::from_field_text(*field, term),
                IndexRecordOption::WithFreqs,
            );
            clauses.push((
                Occur::Should,
                Box::new(BoostQuery::new(Box::new(matches), weight * *count as f32)),
            ));
        }
    }
    BooleanQuery::new(clauses)
}
