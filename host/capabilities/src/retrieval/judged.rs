//! What a guardrail sees of a document or a passage: its id and every text of it, not the longest alone, names of attributes and long
//! numbers among them. Anchors are not judged: they are made of headings, which are.
//!
//! A title, a heading or an attribute reaches a prompt or a caller as the text does. An id does too, but it is a name: it is judged, and a
//! rule that rejects it leaves the document out, while masks do not touch it. So does one that would mask an attribute's name, since two
//! masked names could be one.

use super::{Attribute, Document, Passage, Value};
use crate::guardrail::Checked;

/// A number from here on may be more than a number: that of a card, say.
const LONG_NUMBER: f64 = 1e8;

/// Something with texts.
pub trait Judged {
    fn id(&self) -> &str;

    /// Those that can be masked.
    fn texts(&mut self) -> impl Iterator<Item = Slot<'_>>;
}

/// Where a text stands.
pub enum Slot<'a> {
    Name(&'a str),
    Text(&'a mut String),
    Value(&'a mut Value),
}

impl Slot<'_> {
    /// What is to be judged, where anything is.
    fn text(&self) -> Option<String> {
        match self {
            Self::Name(name) => (!name.is_empty()).then(|| (*name).to_owned()),
            Self::Text(text) => (!text.is_empty()).then(|| text.to_string()),
            Self::Value(Value::Text(text)) => (!text.is_empty()).then(|| text.clone()),
            Self::Value(Value::Number(number)) => {
                (number.abs() >= LONG_NUMBER).then(|| number.to_string())
            }
            Self::Value(_) => None,
        }
    }

    /// Whether it may say so.
    fn put(&mut self, left: String) -> bool {
        match self {
            Self::Name(_) => return false,
            Self::Text(text) => **text = left,
            // A number with a mask in it is none.
            Self::Value(value) => **value = Value::Text(left),
        }
        true
    }
}

impl Judged for Document {
    fn id(&self) -> &str {
        &self.id
    }

    fn texts(&mut self) -> impl Iterator<Item = Slot<'_>> {
        [&mut self.title, &mut self.text]
            .into_iter()
            .map(Slot::Text)
            .chain(self.attributes.iter_mut().flat_map(written))
    }
}

impl Judged for Passage {
    fn id(&self) -> &str {
        &self.document
    }

    fn texts(&mut self) -> impl Iterator<Item = Slot<'_>> {
        [&mut self.title, &mut self.text]
            .into_iter()
            .chain(&mut self.headings)
            .map(Slot::Text)
            .chain(self.attributes.iter_mut().flat_map(written))
    }
}

fn written(attribute: &mut Attribute) -> [Slot<'_>; 2] {
    let Attribute { name, value } = attribute;
    [Slot::Name(name), Slot::Value(value)]
}

/// The texts to judge, for [`apply`].
pub fn texts<T: Judged>(items: &mut [T]) -> Vec<String> {
    let mut texts = Vec::with_capacity(items.len() * 3);
    for item in items {
        texts.push(item.id().to_owned());
        texts.extend(item.texts().filter_map(|slot| slot.text()));
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
        let mut masked = false;
        passed();
        for mut slot in item.texts() {
            let Some(judged) = slot.text() else { continue };
            masked |= passed()
                .filter(|left| *left != judged)
                .is_some_and(|left| !slot.put(left));
        }
        let rejected = rejected.or(masked.then(|| "masked-name".to_owned()));
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
    use crate::{
        Severity,
        guardrail::{Findings, Rejection},
    };

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
                attribute("year", Value::Number(2026.0)),
                attribute("draft", Value::Boolean(true)),
                attribute("account", Value::Number(4_111_111_111_111_111.0)),
                attribute("author", Value::Text("writer".to_owned())),
            ],
            score: 1.0,
        }
    }

    /// As it is, where it is a name; everything else is masked.
    fn passed(text: &str) -> Checked {
        let is_name = ["year", "draft", "account", "author"].contains(&text);
        Checked {
            text: if is_name {
                text.to_owned()
            } else {
                text.to_uppercase()
            },
            masks: 0,
            findings: Findings::default(),
            rejection: None,
        }
    }

    #[test]
    fn every_text_is_judged_and_a_rejected_one_leaves_its_item_out() {
        let mut passages = vec![passage(), passage()];
        let texts = texts(&mut passages);
        let one = [
            "id",
            "title",
            "text",
            "outer",
            "inner",
            "year",
            "draft",
            "account",
            "4111111111111111",
            "author",
            "writer",
        ];
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
            let [year, draft, account, author] = &left.attributes[..] else {
                panic!("{left:?}");
            };
            assert_eq!(
                (&year.name[..], &year.value),
                ("year", &Value::Number(2026.0))
            );
            assert_eq!(
                (&draft.name[..], &draft.value),
                ("draft", &Value::Boolean(true))
            );
            assert_eq!(account.value, Value::Number(4_111_111_111_111_111.0));
            assert_eq!(author.value, Value::Text("WRITER".to_owned()));
        }
        let left = apply(
            passages,
            texts[..one.len() + 1]
                .iter()
                .map(|text| passed(text))
                .collect(),
        );
        assert!(left[0].is_ok() && left[1].is_err(), "a text nobody judged");
    }

    #[test]
    fn a_number_that_is_masked_is_a_text_then() {
        let mut passages = vec![passage()];
        let mask = |text: &String| Checked {
            text: text.replace("4111111111111111", "[card]"),
            ..passed("")
        };
        let checked = texts(&mut passages).iter().map(mask).collect();
        let left = apply(passages, checked).remove(0).unwrap();
        assert_eq!(left.attributes[2].value, Value::Text("[card]".to_owned()));
        assert_eq!(left.attributes[0], passage().attributes[0]);
    }

    #[test]
    fn a_name_that_would_be_masked_leaves_its_item_out() {
        let mut passages = vec![passage()];
        let mask = |text: &String| Checked {
            text: text.replace("author", "[who]"),
            ..passed("")
        };
        let checked = texts(&mut passages).iter().map(mask).collect();
        let left = apply(passages, checked).remove(0);
        assert_eq!(left, Err(("id".to_owned(), "masked-name".to_owned())));
    }
}
