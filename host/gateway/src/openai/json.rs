//! Reading a request body that nobody vouches for.
//!
//! One strict pass turns bytes into a [`Value`]: valid UTF-8, no name twice in an object, a bounded number of values and depth.
//! Everything after it works on that value and takes it apart by hand, which is what gives an error its exact `param`
//! (`messages[3].content[0].text`). Derived structs were the alternative: they cannot tell absent from null where it matters, and
//! name the field of a mistake only through a second crate.
//!
//! Why no name twice: a parser that takes the first of two `content` fields and one that takes the last see two requests in one body.
//! The guardrail would judge one of them and a provider answer the other.

use ambit_types::Error;
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use std::{cell::Cell, fmt};

/// JSON values in one body. A value costs some 40 bytes of memory and two bytes of body, so this and not the body's cap bounds memory.
const MAX_VALUES: usize = 200_000;

/// A mistake in a request: the field it is in and what is wrong with it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Bad {
    path: String,
    message: String,
}

impl Bad {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self {
            path: String::new(),
            message: message.into(),
        }
    }

    /// The mistake seen from the object that holds it under `key`.
    pub(crate) fn in_field(mut self, key: &str) -> Self {
        let joint = if self.path.is_empty() || self.path.starts_with('[') {
            ""
        } else {
            "."
        };
        self.path = format!("{key}{joint}{}", self.path);
        self
    }

    /// The mistake seen from the array that holds it.
    pub(crate) fn at(self, index: usize) -> Self {
        self.in_field(&format!("[{index}]"))
    }
}

impl From<Bad> for Error {
    fn from(bad: Bad) -> Self {
        if bad.path.is_empty() {
            Error::new(ambit_types::ErrorKind::Invalid { param: None }, bad.message)
        } else {
            Error::invalid(&bad.path, format!("`{}`: {}", bad.path, bad.message))
        }
    }
}

/// Reads a body that has to be one JSON object.
///
/// # Errors
/// Not JSON, not UTF-8, a name twice, too deep (128 levels, serde_json's own limit), too many values, or no object.
pub(crate) fn object(body: &[u8]) -> Result<Map<String, Value>, Bad> {
    let count = Cell::new(0);
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let value = Strict(&count)
        .deserialize(&mut deserializer)
        .and_then(|value| deserializer.end().map(|()| value));
    match value {
        Ok(Value::Object(map)) => Ok(map),
        Ok(_) => Err(Bad::new("the body has to be a JSON object")),
        Err(error) => Err(Bad::new(format!("the body is not valid JSON: {error}"))),
    }
}

/// Takes a field out. Absent and null are the same, as OpenAI's clients send either.
pub(crate) fn take(map: &mut Map<String, Value>, key: &str) -> Option<Value> {
    map.get_mut(key)
        .map(Value::take)
        .filter(|value| !value.is_null())
}

pub(crate) fn required<T>(
    map: &mut Map<String, Value>,
    key: &str,
    read: impl FnOnce(Value) -> Result<T, Bad>,
) -> Result<T, Bad> {
    optional(map, key, read)?.ok_or_else(|| Bad::new("is missing").in_field(key))
}

pub(crate) fn optional<T>(
    map: &mut Map<String, Value>,
    key: &str,
    read: impl FnOnce(Value) -> Result<T, Bad>,
) -> Result<Option<T>, Bad> {
    take(map, key)
        .map(read)
        .transpose()
        .map_err(|bad| bad.in_field(key))
}

/// Every element of an array of at most `most`.
pub(crate) fn array<T>(
    value: Value,
    most: usize,
    mut read: impl FnMut(Value) -> Result<T, Bad>,
) -> Result<Vec<T>, Bad> {
    let Value::Array(items) = value else {
        return Err(wrong(&value, "an array"));
    };
    if items.len() > most {
        return Err(Bad::new(format!(
            "has {} elements, at most {most} are allowed",
            items.len()
        )));
    }
    items
        .into_iter()
        .enumerate()
        .map(|(i, item)| read(item).map_err(|bad| bad.at(i)))
        .collect()
}

pub(crate) fn map(value: Value) -> Result<Map<String, Value>, Bad> {
    match value {
        Value::Object(map) => Ok(map),
        other => Err(wrong(&other, "an object")),
    }
}

pub(crate) fn string(value: Value) -> Result<String, Bad> {
    match value {
        Value::String(text) => Ok(text),
        other => Err(wrong(&other, "a string")),
    }
}

pub(crate) fn boolean(value: Value) -> Result<bool, Bad> {
    value
        .as_bool()
        .ok_or_else(|| wrong(&value, "true or false"))
}

/// A whole number from `least` to `most`.
pub(crate) fn integer(value: &Value, least: i64, most: i64) -> Result<i64, Bad> {
    value
        .as_i64()
        .filter(|n| (least..=most).contains(n))
        .ok_or_else(|| wrong(value, &format!("a whole number from {least} to {most}")))
}

/// A number from `least` to `most`.
pub(crate) fn number(value: &Value, least: f64, most: f64) -> Result<f64, Bad> {
    value
        .as_f64()
        .filter(|n| (least..=most).contains(n))
        .ok_or_else(|| wrong(value, &format!("a number from {least} to {most}")))
}

/// Names what was expected and, in few words, what came. Never repeats a text: it may be a prompt.
pub(crate) fn wrong(value: &Value, expected: &str) -> Bad {
    let found = match value {
        Value::Null => "null".to_owned(),
        Value::Bool(b) => b.to_string(),
        Value::Number(n) => n.to_string(),
        Value::String(_) => "a string".to_owned(),
        Value::Array(_) => "an array".to_owned(),
        Value::Object(_) => "an object".to_owned(),
    };
    Bad::new(format!("expected {expected}, found {found}"))
}

struct Strict<'a>(&'a Cell<usize>);

impl Strict<'_> {
    fn count<E: serde::de::Error>(&self) -> Result<(), E> {
        self.0.set(self.0.get() + 1);
        if self.0.get() > MAX_VALUES {
            return Err(E::custom(format_args!("more than {MAX_VALUES} values")));
        }
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.count()?;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value)
            .map(Value::Number)
            .ok_or_else(|| E::custom("a number out of range"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element_seed(Strict(self.0))? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = access.next_key::<String>()? {
            let value = access.next_value_seed(Strict(self.0))?;
            if map.insert(key, value).is_some() {
                return Err(serde::de::Error::custom(
                    "a name stands twice in one object",
                ));
            }
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(body: &[u8]) -> String {
        object(body).unwrap_err().message
    }

    #[test]
    fn keeps_what_is_valid() {
        let text = r#"{"a":[1,-2,3.5,18446744073709551615,null,true,"ä\u0000"],"b":{}}"#;
        assert_eq!(
            serde_json::to_string(&object(text.as_bytes()).unwrap()).unwrap(),
            text
        );
    }

    #[test]
    fn refuses_what_two_parsers_could_read_differently() {
        assert!(refused(br#"{"a":1,"a":2}"#).contains("twice"));
        assert!(refused(br#"{"x":[{"a":1,"\u0061":2}]}"#).contains("twice"));
        for bad in [
            &b"{\"a\":\"\xff\"}"[..],
            br#"{"a":"\ud800"}"#,
            br#"{"a":1}{"b":2}"#,
            br#"{"a":NaN}"#,
            br#"{"a":1e999}"#,
            b"\xef\xbb\xbf{}",
            b"",
        ] {
            assert!(
                refused(bad).contains("not valid JSON"),
                "{}",
                String::from_utf8_lossy(bad)
            );
        }
        assert!(refused(b"[]").contains("object"));
    }

    #[test]
    fn bounds_depth_and_number_of_values() {
        let deep = [
            r#"{"a":"#.repeat(100_000),
            "1".to_owned(),
            "}".repeat(100_000),
        ]
        .concat();
        assert!(refused(deep.as_bytes()).contains("recursion limit"));
        let wide = format!(r#"{{"a":[{}1]}}"#, "1,".repeat(MAX_VALUES));
        assert!(refused(wide.as_bytes()).contains("more than"));
    }

    #[test]
    fn names_the_field() {
        let bad = Bad::new("x")
            .in_field("text")
            .at(2)
            .in_field("content")
            .at(0)
            .in_field("messages");
        assert_eq!(bad.path, "messages[0].content[2].text");
    }
}
