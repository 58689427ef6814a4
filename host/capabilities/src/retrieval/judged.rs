//! What a guardrail sees of a document or a passage: its id and every text of it, not the longest alone. Names of attributes, numbers and
//! anchors are not judged.
//!
//! A title, a heading or an attribute reaches a prompt or a caller as the text does. An id does too, but it is a name: it is judged, and a
//! rule that rejects it leaves the document out, while masks do not touch it.

use super::{Attribute, Document, Passage, Value};
use crate::guardrail::Checked;

/// Something with texts.
pub trait Judged {
    fn id(&self) -> &str;

    /// Those that can be masked.
    fn texts(&mut self) -> impl Iterator<Item = &mut String>;
}

impl Judged for Document {
    fn id(&self) -> &str {
        &self.id
    }

    fn texts(&mut self) -> impl Iterator<Item = &mut String> {
        let attributes = self.attributes.iter_mut().filter_map(written);
        [&mut self.title, &mut self.text]
            .into_iter()
            .chain(attributes)
    }
}

impl Judged for Passage {
    fn id(&self) -> &str {
        &self.document
    }

    fn texts(&mut self) -> impl Iterator<Item = &mut String> {
        let attributes = self.attributes.iter_mut().filter_map(written);
        [&mut self.title, &mut self.text]
            .into_iter()
            .chain(&mut self.headings)
            .chain(attributes)
    }
}

fn written(attribute: &mut Attribute) -> Option<&mut String> {
    match &mut attribute.value {
        Value::Text(text) => Some(text),
        _ => None,
    }
}

/// The texts to judge, for [`apply`].
pub fn texts<T: Judged>(items: &mut [T]) -> Vec<String> {
    let mut texts = Vec::with_capacity(items.len() * 3);
    for item in items {
        texts.push(item.id().to_owned());
        texts.extend(
            item.texts()
                .filter(|text| !text.is_empty())
                .map(|text| text.clone()),
        );
    }
    texts
}

/// What the verdicts on [`texts`] leave: each item masked, or its id and the category for which it is rejected.
pub fn apply<T: Judged>(items: Vec<T>, checked: Vec<Checked>) -> Vec<Result<T, (String, String)>> {
    let mut verdicts = checked.into_iter();
    let apply = |mut item: T| {
        let mut rejected = None;
        let mut passed = || match verdicts.next() {
            Some(Checked {
                rejection: None,
                text,
                ..
            }) => Some(text),
            Some(Checked { rejection, .. }) => {
                rejected = rejected
                    .take()
                    .or(rejection.map(|rejection| rejection.category));
                None
            }
            // Not judged at all.
            None => {
                rejected = Some("unjudged".to_owned());
                None
            }
        };
        passed();
        for text in item.texts().filter(|text| !text.is_empty()) {
            if let Some(left) = passed() {
                *text = left;
            }
        }
        match rejected {
            None => Ok(item),
            Some(category) => Err((item.id().to_owned(), category)),
        }
    };
    items.into_iter().map(apply).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Severity, guardrail::Rejection};

    fn passage() -> Passage {
        let attribute = |name: &str, value| Attribute {
            name: name.to_owned(),
            value,
        };
        Passage {
            document: "id".to_owned(),
            title: "title".to_owned(),
            anchor: "anchor".to_owned(),
            headings: vec!["outer".to_owned(), String::new(), "inner".to_owned()],
            text: "text".to_owned(),
            attributes: vec![
                attribute("year", Value::Number(1.0)),
                attribute("author", Value::Text("author".to_owned())),
            ],
            score: 1.0,
        }
    }

    fn passed(text: &str) -> Checked {
        Checked {
            text: text.to_uppercase(),
            masks: Vec::new(),
            findings: Vec::new(),
            rejection: None,
        }
    }

    #[test]
    fn every_text_is_judged_and_a_rejected_one_leaves_its_item_out() {
        let mut passages = vec![passage(), passage()];
        let texts = texts(&mut passages);
        let one = ["id", "title", "text", "outer", "inner", "author"];
        assert_eq!(texts, [one, one].concat());
        for rejected in 0..one.len() {
            let mut checked: Vec<_> = texts.iter().map(|text| passed(text)).collect();
            checked[rejected] = Checked {
                text: String::new(),
                rejection: Some(Rejection {
                    category: "why".to_owned(),
                    severity: Severity::High,
                }),
                ..passed("")
            };
            let left = apply(passages.clone(), checked);
            assert_eq!(left[0], Err(("id".to_owned(), "why".to_owned())));
            let left = left[1].as_ref().unwrap();
            assert_eq!((left.document.as_str(), &left.title[..]), ("id", "TITLE"));
            assert_eq!(left.headings, ["OUTER", "", "INNER"]);
            assert_eq!(left.attributes[1].value, Value::Text("AUTHOR".to_owned()));
        }
        let left = apply(
            passages,
            texts[..7].iter().map(|text| passed(text)).collect(),
        );
        assert!(left[0].is_ok() && left[1].is_err(), "a text nobody judged");
    }
}
