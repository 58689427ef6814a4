//! One chunk as tantivy sees it.

use crate::{Attribute, Chunk, Entry, Value, analysis};
use serde::{Deserialize, Serialize};
use tantivy::{
    TantivyDocument, Term,
    schema::{
        BytesOptions, Field, IndexRecordOption, STRING, Schema, TextFieldIndexing, TextOptions,
    },
};

/// Version of everything below and of the analyser. An index of another format is rebuilt.
pub(crate) const FORMAT: u32 = 1;

#[derive(Clone, Copy)]
pub(crate) struct Fields {
    /// The document's id, one term.
    pub(crate) document: Field,
    pub(crate) title: Field,
    pub(crate) headings: Field,
    /// The passage with its title and headings: what it is about is often said only there, and one field keeps BM25's saturation
    /// and length normalisation whole, where a sum over three fields counts a repeated word three times.
    pub(crate) text: Field,
    /// One term for each attribute; see [`attribute_term`].
    attributes: Field,
    /// What a hit shows, as JSON.
    payload: Field,
}

pub(crate) fn schema() -> (Schema, Fields) {
    let frequencies = || {
        TextOptions::default().set_indexing_options(
            TextFieldIndexing::default()
                .set_tokenizer(analysis::NAME)
                .set_index_option(IndexRecordOption::WithFreqs),
        )
    };
    let mut builder = Schema::builder();
    let fields = Fields {
        document: builder.add_text_field("document", STRING),
        title: builder.add_text_field("title", frequencies()),
        headings: builder.add_text_field("headings", frequencies()),
        text: builder.add_text_field("text", frequencies()),
        attributes: builder.add_bytes_field("attributes", BytesOptions::default().set_indexed()),
        payload: builder.add_bytes_field("payload", BytesOptions::default().set_stored()),
    };
    (builder.build(), fields)
}

/// What a hit shows.
#[derive(Serialize, Deserialize)]
pub(crate) struct Payload {
    pub(crate) document: String,
    pub(crate) title: String,
    pub(crate) anchor: String,
    pub(crate) headings: Vec<String>,
    pub(crate) text: String,
    pub(crate) attributes: Vec<Attribute>,
}

impl Fields {
    pub(crate) fn document_term(&self, id: &str) -> Term {
        Term::from_field_text(self.document, id)
    }

    pub(crate) fn chunk(
        &self,
        entry: &Entry,
        chunk: &Chunk,
    ) -> serde_json::Result<TantivyDocument> {
        let mut document = TantivyDocument::default();
        document.add_text(self.document, &entry.id);
        document.add_text(self.title, &entry.title);
        document.add_text(self.text, &entry.title);
        for heading in &chunk.headings {
            document.add_text(self.headings, heading);
            document.add_text(self.text, heading);
        }
        document.add_text(self.text, &chunk.text);
        for attribute in &entry.attributes {
            document.add_bytes(
                self.attributes,
                &attribute_bytes(&attribute.name, &attribute.value),
            );
        }
        let payload = Payload {
            document: entry.id.clone(),
            title: entry.title.clone(),
            anchor: chunk.anchor.clone(),
            headings: chunk.headings.clone(),
            text: chunk.text.clone(),
            attributes: entry.attributes.clone(),
        };
        document.add_bytes(self.payload, &serde_json::to_vec(&payload)?);
        Ok(document)
    }

    /// None where the stored bytes are not what [`Fields::chunk`] wrote.
    pub(crate) fn payload(&self, document: &TantivyDocument) -> Option<Payload> {
        use tantivy::schema::Value as _;
        serde_json::from_slice(document.get_first(self.payload)?.as_bytes()?).ok()
    }

    /// The term of one attribute value.
    pub(crate) fn attribute_term(&self, name: &str, value: &Value) -> Term {
        Term::from_field_bytes(self.attributes, &attribute_bytes(name, value))
    }

    /// The terms between which all values of `value`'s type lie, for this name: from the first (inclusive) to the second (exclusive).
    pub(crate) fn attribute_range(&self, name: &str, value: &Value) -> (Term, Term) {
        let mut start = prefix(name, value);
        let from = Term::from_field_bytes(self.attributes, &start);
        if let Some(tag) = start.last_mut() {
            *tag += 1;
        }
        (from, Term::from_field_bytes(self.attributes, &start))
    }
}

/// Name and type lead, and values follow in their own order, so that equality is one term and a comparison one range of terms, with
/// no column for each name that a tenant invents.
fn attribute_bytes(name: &str, value: &Value) -> Vec<u8> {
    let mut bytes = prefix(name, value);
    match value {
        Value::Boolean(boolean) => bytes.push(u8::from(*boolean)),
        Value::Number(number) => bytes.extend(ordered(*number).to_be_bytes()),
        Value::Text(text) => bytes.extend(text.as_bytes()),
    }
    bytes
}

fn prefix(name: &str, value: &Value) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    // No byte of UTF-8 is 0xff, so one name's terms cannot be mistaken for another's.
    bytes.push(0xff);
    bytes.push(match value {
        Value::Boolean(_) => 1,
        Value::Number(_) => 2,
        Value::Text(_) => 3,
    });
    bytes
}

/// The IEEE 754 bits turned so that they order as the numbers do. 0 and -0 are one number.
fn ordered(number: f64) -> u64 {
    let bits = if number == 0.0 { 0 } else { number.to_bits() };
    if bits >> 63 == 0 {
        bits | 1 << 63
    } else {
        !bits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_their_order_as_bytes() {
        let numbers = [
            f64::MIN,
            -1e10,
            -2.5,
            -1.0,
            -f64::MIN_POSITIVE,
            0.0,
            f64::MIN_POSITIVE,
            0.1,
            1.0,
            2.0,
            1e300,
        ];
        assert!(
            numbers
                .windows(2)
                .all(|pair| ordered(pair[0]) < ordered(pair[1]))
        );
        assert_eq!(ordered(0.0), ordered(-0.0));
    }

    #[test]
    fn names_and_types_do_not_mix() {
        let text = |value: &str| Value::Text(value.to_owned());
        let terms = [
            attribute_bytes("a", &text("bc")),
            attribute_bytes("ab", &text("c")),
            attribute_bytes("a", &Value::Boolean(true)),
            attribute_bytes("a", &Value::Number(1.0)),
            attribute_bytes("a", &text("1")),
        ];
        assert!(
            terms
                .iter()
                .enumerate()
                .all(|(place, term)| !terms[..place].contains(term))
        );
    }
}
