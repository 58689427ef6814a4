//! Objects that every reader understands alike.
//!
//! What is judged here is read again by others: a provider reads the request, a client the answer. JSON leaves open which of two
//! equal keys counts, and some readers (Go's standard one) take `Content` for `content`. A text under such a key would pass the
//! guardrail unseen, or a model the grants. So an object that holds a key twice, or one that differs from a key read here
//! only in case, is refused; every other key is left as it is.

/// Makes a struct that is read from a JSON object and from nothing else. An absent field has its default.
macro_rules! object {
    ($(#[$about:meta])* $visible:vis struct $name:ident<$life:lifetime> {
        $($(#[$field_about:meta])* $field:ident: $type:ty,)*
    }) => {
        $(#[$about])*
        #[derive(Default)]
        $visible struct $name<$life> {
            $($(#[$field_about])* $field: $type,)*
        }

        impl<'de: $life, $life> serde::Deserialize<'de> for $name<$life> {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                #[allow(non_camel_case_types, reason = "named as the fields are")]
                enum Key {
                    $($field,)*
                    Other,
                }

                impl<'de> serde::Deserialize<'de> for Key {
                    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                        struct Read;
                        impl serde::de::Visitor<'_> for Read {
                            type Value = Key;

                            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                                f.write_str("a key")
                            }

                            fn visit_str<E: serde::de::Error>(self, key: &str) -> Result<Key, E> {
                                match key {
                                    $(stringify!($field) => Ok(Key::$field),)*
                                    _ => $crate::object::other(key, &[$(stringify!($field)),*]).map(|()| Key::Other),
                                }
                            }
                        }
                        deserializer.deserialize_identifier(Read)
                    }
                }

                struct Object<$life>(std::marker::PhantomData<&$life ()>);
                impl<'de: $life, $life> serde::de::Visitor<'de> for Object<$life> {
                    type Value = $name<$life>;

                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str("an object")
                    }

                    fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                        $(let mut $field: Option<$type> = None;)*
                        while let Some(key) = map.next_key()? {
                            match key {
                                $(Key::$field => {
                                    if $field.is_some() {
                                        return Err(serde::de::Error::duplicate_field(stringify!($field)));
                                    }
                                    $field = Some(map.next_value()?);
                                })*
                                Key::Other => drop(map.next_value::<serde::de::IgnoredAny>()?),
                            }
                        }
                        Ok($name { $($field: $field.unwrap_or_default(),)* })
                    }
                }

                deserializer.deserialize_map(Object(std::marker::PhantomData))
            }
        }
    };
}

pub(crate) use object;

/// Whether a key that is none of `known` may stand beside them.
pub(crate) fn other<E: serde::de::Error>(key: &str, known: &[&str]) -> Result<(), E> {
    match known.iter().find(|known| folds_to(key, known)) {
        None => Ok(()),
        Some(known) => Err(E::custom(format_args!(
            "a key that could be taken for `{known}`"
        ))),
    }
}

/// Equal but for case, as Unicode folds it: two letters beyond ASCII fold into it.
fn folds_to(key: &str, known: &str) -> bool {
    let folded = |letter: char| match letter {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        letter => letter.to_ascii_lowercase(),
    };
    // Most keys differ in length, and a folded letter is at most three bytes.
    (known.len()..=3 * known.len()).contains(&key.len())
        && key.chars().map(folded).eq(known.chars())
}

#[cfg(test)]
mod tests {
    object! {
        struct Example<'a> {
            content: Option<&'a str>,
            tokens: Option<u64>,
        }
    }

    fn check(text: &str, expected: Option<(Option<&str>, Option<u64>)>) {
        let read = serde_json::from_str::<Example<'_>>(text);
        let read = read.ok().map(|example| (example.content, example.tokens));
        assert_eq!(read, expected, "{text}");
    }

    #[test]
    fn only_what_all_readers_understand_alike_is_read() {
        check(r#"{"content":"x","tokens":1}"#, Some((Some("x"), Some(1))));
        check(r#"{"cont\u0065nt":"x"}"#, Some((Some("x"), None)));
        check(r#"{"content":null}"#, Some((None, None)));
        check("{}", Some((None, None)));
        check(
            r#"{"contents":"y","conten":[{"Content":1}],"x":1,"x":2}"#,
            Some((None, None)),
        );
        for refused in [
            r#"{"content":"x","content":"y"}"#,
            r#"{"content":null,"content":"y"}"#,
            r#"{"content":"x","cont\u0065nt":"y"}"#,
            r#"{"content":"x","Content":"y"}"#,
            r#"{"CONTENT":"y"}"#,
            r#"{"to\u212aens":1}"#,
            r#"{"token\u017f":1}"#,
            r#"["x",1]"#,
            "null",
            "\"x\"",
        ] {
            check(refused, None);
        }
    }
}
