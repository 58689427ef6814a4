//! Taking documents in: check, leave the unchanged alone, cut the rest into chunks.

use crate::{
    Attribute, Document, Entry, Error, Index, IngestReport, MediaType, Value, chunk, read,
};
use sha2::{Digest, Sha256};
use std::collections::HashSet;

/// Documents of one call.
const MOST_DOCUMENTS: usize = 1000;
/// Bytes of one document's text. A book has one or two million.
const LONGEST_TEXT: usize = 4 * 1024 * 1024;
/// Bytes of all texts of a call: what the memory limit of the manifest leaves room for.
const LONGEST_CALL: usize = 8 * 1024 * 1024;

/// Bytes of a title that are kept.
const LONGEST_TITLE: usize = 500;

/// Stores these documents, all or none.
///
/// # Errors
/// [`Error::Invalid`] names the first document that cannot be taken and why; otherwise what the index said.
pub fn ingest(
    index: &impl Index,
    collection: &str,
    documents: Vec<Document>,
) -> Result<IngestReport, Error> {
    check(&documents)?;
    let hashes: Vec<_> = documents.iter().map(content_hash).collect();
    let ids: Vec<_> = documents
        .iter()
        .map(|document| document.id.clone())
        .collect();
    let stored = index.content_hashes(collection, &ids)?;
    let mut report = IngestReport::default();
    let mut entries = Vec::new();
    for ((document, hash), stored) in documents.into_iter().zip(hashes).zip(stored) {
        if stored.is_some_and(|stored| stored == hash) {
            report.unchanged += 1;
            continue;
        }
        let entry = entry(document, hash);
        report.written += 1;
        report.chunks += u32::try_from(entry.chunks.len()).unwrap_or(u32::MAX);
        entries.push(entry);
    }
    if !entries.is_empty() {
        index.put(collection, entries)?;
    }
    Ok(report)
}

fn check(documents: &[Document]) -> Result<(), Error> {
    let invalid = |place: usize, problem: &str| {
        Err(Error::Invalid(format!("document {}: {problem}", place + 1)))
    };
    if documents.len() > MOST_DOCUMENTS {
        return Err(Error::Invalid(format!(
            "{} documents; at most {MOST_DOCUMENTS} fit in one call",
            documents.len()
        )));
    }
    let mut ids = HashSet::new();
    let mut total = 0;
    for (place, document) in documents.iter().enumerate() {
        if document.id.is_empty() || document.id.contains('\0') {
            return invalid(place, "the id is empty or holds a NUL");
        }
        if !ids.insert(document.id.as_str()) {
            return invalid(place, "the id is used twice in this call");
        }
        if document.text.len() > LONGEST_TEXT {
            return invalid(
                place,
                &format!(
                    "{} bytes of text; at most {LONGEST_TEXT} fit",
                    document.text.len()
                ),
            );
        }
        total += document.text.len();
    }
    if total > LONGEST_CALL {
        return Err(Error::Invalid(format!(
            "{total} bytes of text; at most {LONGEST_CALL} fit in one call"
        )));
    }
    Ok(())
}

fn entry(document: Document, content_hash: Vec<u8>) -> Entry {
    let Document {
        id,
        title,
        media_type,
        text,
        attributes,
    } = document;
    let outline = read::read(media_type, &text);
    let title = title_of(&title, outline.title.as_deref(), &id);
    let headings: Vec<_> = outline
        .sections
        .iter()
        .filter_map(|section| section.headings.last().cloned())
        .collect();
    let mut chunks = chunk::chunks(&title, outline);
    if chunks.is_empty() {
        // Nothing but a title or headings: they can still be found.
        let text = if headings.is_empty() {
            title.clone()
        } else {
            headings.join("\n")
        };
        chunks.push(chunk::Chunk {
            anchor: "#1".to_owned(),
            headings: Vec::new(),
            text,
        });
    }
    Entry {
        id,
        title,
        content_hash,
        attributes,
        chunks,
    }
}

fn title_of(given: &str, own: Option<&str>, id: &str) -> String {
    let last_part = || id.trim_end_matches('/').rsplit('/').next().unwrap_or(id);
    let title = [Some(given), own]
        .into_iter()
        .flatten()
        .map(str::trim)
        .find(|title| !title.is_empty());
    let mut title = read::one_line(&read::clean(title.unwrap_or_else(last_part)));
    title.truncate(title.floor_char_boundary(LONGEST_TITLE));
    title
}

/// Over everything an entry is made of, each part led by its length, so that no two documents have the same bytes.
fn content_hash(document: &Document) -> Vec<u8> {
    let Document {
        id,
        title,
        media_type,
        text,
        attributes,
    } = document;
    let mut hash = Sha256::new();
    let mut add = |part: &[u8]| {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    };
    add(&chunk::VERSION.to_le_bytes());
    add(match media_type {
        MediaType::Plain => b"plain",
        MediaType::Markdown => b"markdown",
        MediaType::Html => b"html",
    });
    for part in [id, title, text] {
        add(part.as_bytes());
    }
    for Attribute { name, value } in attributes {
        add(name.as_bytes());
        match value {
            Value::Text(text) => [b"t", text.as_bytes()].map(&mut add),
            Value::Number(number) => {
                [b"n".as_slice(), &number.to_bits().to_le_bytes()].map(&mut add)
            }
            Value::Boolean(boolean) => [b"b".as_slice(), &[u8::from(*boolean)]].map(&mut add),
        };
    }
    hash.finalize().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Passage, Request};
    use std::cell::RefCell;

    /// Remembers what was put.
    #[derive(Default)]
    struct Double(RefCell<Vec<Entry>>);

    impl Index for Double {
        fn content_hashes(&self, _: &str, ids: &[String]) -> Result<Vec<Option<Vec<u8>>>, Error> {
            let stored = self.0.borrow();
            let hash = |id| {
                stored
                    .iter()
                    .rev()
                    .find(|entry| entry.id == id)
                    .map(|entry| entry.content_hash.clone())
            };
            Ok(ids.iter().map(|id| hash(id.as_str())).collect())
        }

        fn put(&self, _: &str, entries: Vec<Entry>) -> Result<(), Error> {
            self.0.borrow_mut().extend(entries);
            Ok(())
        }

        fn search(&self, _: &Request) -> Result<Vec<Passage>, Error> {
            Ok(Vec::new())
        }
    }

    fn document(id: &str, text: &str) -> Document {
        Document {
            id: id.to_owned(),
            title: String::new(),
            media_type: MediaType::Markdown,
            text: text.to_owned(),
            attributes: Vec::new(),
        }
    }

    #[test]
    fn only_what_changed_is_written() {
        let index = Double::default();
        let report = |documents| ingest(&index, "c", documents).unwrap();
        let first = report(vec![document("a", "# A\none"), document("b", "two")]);
        assert_eq!(
            first,
            IngestReport {
                written: 2,
                unchanged: 0,
                chunks: 2
            }
        );
        let second = report(vec![document("a", "# A\none"), document("b", "two!")]);
        assert_eq!(
            second,
            IngestReport {
                written: 1,
                unchanged: 1,
                chunks: 1
            }
        );
        let mut renamed = document("a", "# A\none");
        renamed.attributes.push(Attribute {
            name: "year".into(),
            value: Value::Number(1.0),
        });
        assert_eq!(report(vec![renamed]).written, 1);
        assert_eq!(report(Vec::new()), IngestReport::default());
    }

    #[test]
    fn every_part_counts_in_the_hash() {
        let base = document("a", "text");
        let number = Attribute {
            name: "x".into(),
            value: Value::Number(1.0),
        };
        let text = Attribute {
            name: "x".into(),
            value: Value::Text("1".into()),
        };
        let others = [
            document("b", "text"),
            document("at", "ext"),
            Document {
                title: "t".into(),
                ..base.clone()
            },
            Document {
                media_type: MediaType::Plain,
                ..base.clone()
            },
            Document {
                attributes: vec![number],
                ..base.clone()
            },
            Document {
                attributes: vec![text],
                ..base.clone()
            },
        ];
        let hashes: HashSet<_> = others.iter().chain([&base]).map(content_hash).collect();
        assert_eq!(hashes.len(), others.len() + 1);
    }

    #[test]
    fn titles_come_from_the_best_place() {
        let title = |given: &str, id: &str, text: &str| {
            entry(
                Document {
                    title: given.into(),
                    ..document(id, text)
                },
                Vec::new(),
            )
            .title
        };
        assert_eq!(title(" Given\n title ", "x", "# Own"), "Given title");
        assert_eq!(title("", "x", "# Own\ntext"), "Own");
        assert_eq!(title("", "https://h/docs/setup.md", "text"), "setup.md");
    }

    #[test]
    fn documents_without_text_can_still_be_found() {
        let chunks = |text: &str| entry(document("empty.md", text), Vec::new()).chunks;
        assert_eq!(chunks("")[0].text, "empty.md");
        assert_eq!(chunks("# One\n## Two\n")[0].text, "One\nTwo");
    }

    #[test]
    fn what_cannot_be_taken_is_refused_as_a_whole() {
        let index = Double::default();
        let big = "x".repeat(LONGEST_TEXT);
        for documents in [
            vec![document("a", "1"), document("a", "2")],
            vec![document("", "1")],
            vec![document("a\0", "1")],
            vec![document("a", &"x".repeat(10 * 1024 * 1024))],
            vec![document("a", &big), document("b", &big), document("c", "x")],
            (0..=MOST_DOCUMENTS)
                .map(|n| document(&n.to_string(), ""))
                .collect(),
        ] {
            assert!(matches!(
                ingest(&index, "c", documents),
                Err(Error::Invalid(_))
            ));
        }
        assert!(index.0.borrow().is_empty());
    }
}
