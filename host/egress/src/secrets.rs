//! Secrets by handle: the guest holds a placeholder; its value exists only in the request that leaves and in the patterns the answer
//! is scanned for.
//!
//! What the scan promises: the value as it is written (not re-encoded by the server) is never delivered, whatever chunks one answer comes in. A part of an
//! answer is therefore neither asked for nor delivered: a guest could put the value together from parts that do not hold it.
//! A server that is trusted with a secret and hands it out in disguise cannot be stopped here; that is why a secret goes to the
//! agreed origin only.

use ambit_policy::{Ambit, Permit, SecretUse};
use ambit_types::Secret;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, header};
use memchr::memmem;
use std::sync::Arc;
use url::Url;

use crate::EgressError;

/// A value that a header can hold, and long enough that the scan of an answer does not find it everywhere.
#[derive(Debug, Clone)]
pub struct SecretValue(Secret);

/// A value that cannot be used as a secret. Never shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("8 to 4096 visible ASCII characters")]
pub struct BadSecret;

impl SecretValue {
    /// # Errors
    /// It is too short or too long, or has other characters.
    pub fn new(value: Secret) -> Result<Self, BadSecret> {
        let text = value.expose();
        let fit = (8..=4096).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
        if fit { Ok(Self(value)) } else { Err(BadSecret) }
    }

    fn bytes(&self) -> &[u8] {
        self.0.expose().as_bytes()
    }
}

/// The secrets of one call: new placeholders for each call, so one that leaks is worth nothing in the next.
#[derive(Debug, Default)]
pub struct Handles(Arc<[Handle]>);

#[derive(Debug)]
struct Handle {
    name: String,
    placeholder: String,
    value: SecretValue,
}

impl Handles {
    /// Handles for these names and values.
    ///
    /// # Errors
    /// The operating system has no random numbers.
    pub fn new(
        secrets: impl IntoIterator<Item = (String, SecretValue)>,
    ) -> Result<Self, getrandom::Error> {
        let handle = |(name, value)| {
            let mut random = [0; 16];
            getrandom::fill(&mut random)?;
            Ok(Handle {
                name,
                placeholder: format!("ambit-secret-{}", hex::encode(random)),
                value,
            })
        };
        secrets
            .into_iter()
            .map(handle)
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// What the guest gets in place of the value.
    #[must_use]
    pub fn placeholder(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|handle| handle.name == name)
            .map(|handle| handle.placeholder.as_str())
    }

    /// Puts values where placeholders stand. A placeholder where the ambit does not agree refuses the request.
    pub(crate) fn swap_in(
        &self,
        ambit: &Ambit,
        url: &Url,
        headers: &mut HeaderMap,
    ) -> Result<(), EgressError> {
        if self.0.is_empty() {
            return Ok(());
        }
        for (name, value) in headers.iter_mut() {
            for handle in self.0.iter() {
                if memmem::find(value.as_bytes(), handle.placeholder.as_bytes()).is_none() {
                    continue;
                }
                let permit = ambit
                    .secret(&handle.name, name.as_str(), url)
                    .map_err(EgressError::Denied)?;
                *value = replace(value, handle, permit)?;
            }
        }
        // So that the answer can be scanned, and whole.
        headers.remove(header::RANGE);
        headers.remove(header::IF_RANGE);
        headers.insert(
            header::ACCEPT_ENCODING,
            HeaderValue::from_static("identity"),
        );
        Ok(())
    }

    /// A scan of one answer for all values, not only the ones sent with this request: a server may have kept one from the last.
    pub(crate) fn scan(&self) -> Option<Scan> {
        (!self.0.is_empty()).then(|| Scan {
            values: Arc::clone(&self.0),
            held: BytesMut::new(),
        })
    }
}

fn replace(
    value: &HeaderValue,
    handle: &Handle,
    _: Permit<SecretUse<'_>>,
) -> Result<HeaderValue, EgressError> {
    const UNFIT: EgressError = EgressError::Invalid("a header with a secret must be ASCII");
    let text = value
        .to_str()
        .map_err(|_| UNFIT)?
        .replace(&handle.placeholder, handle.value.0.expose());
    let mut value = HeaderValue::from_str(&text).map_err(|_| UNFIT)?;
    value.set_sensitive(true);
    Ok(value)
}

/// Looks for values in a stream of chunks. Holds back only what may be the beginning of one.
pub(crate) struct Scan {
    values: Arc<[Handle]>,
    held: BytesMut,
}

impl Scan {
    pub(crate) fn finds(&self, text: &[u8]) -> bool {
        self.values
            .iter()
            .any(|handle| memmem::find(text, handle.value.bytes()).is_some())
    }

    /// What may be delivered now.
    pub(crate) fn push(&mut self, chunk: Bytes) -> Result<Bytes, EgressError> {
        let text = if self.held.is_empty() {
            chunk
        } else {
            self.held.extend_from_slice(&chunk);
            self.held.split().freeze()
        };
        if self.finds(&text) {
            return Err(EgressError::SecretEchoed);
        }
        let keep = self
            .values
            .iter()
            .map(|handle| begun(&text, handle.value.bytes()))
            .max()
            .unwrap_or(0);
        self.held.extend_from_slice(&text[text.len() - keep..]);
        Ok(text.slice(..text.len() - keep))
    }

    /// The end came: what was held back was no value.
    pub(crate) fn finish(self) -> Bytes {
        self.held.freeze()
    }
}

/// Length of the longest end of `text` that is a beginning of `value`, shorter than `value`.
fn begun(text: &[u8], value: &[u8]) -> usize {
    let most = text.len().min(value.len() - 1);
    (1..=most)
        .rev()
        .find(|length| text.ends_with(&value[..*length]))
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(value: &str) -> Result<SecretValue, BadSecret> {
        SecretValue::new(Secret::new(value))
    }

    fn scan(values: &[&str]) -> Scan {
        let secrets = values
            .iter()
            .enumerate()
            .map(|(index, value)| (format!("s{index}"), secret(value).unwrap()));
        Handles::new(secrets).unwrap().scan().unwrap()
    }

    /// What is delivered of these chunks until the end or the refusal.
    fn delivered(values: &[&str], chunks: &[&str]) -> (String, bool) {
        let mut scan = scan(values);
        let mut out = Vec::new();
        for chunk in chunks {
            match scan.push(Bytes::copy_from_slice(chunk.as_bytes())) {
                Ok(bytes) => out.extend_from_slice(&bytes),
                Err(_) => return (String::from_utf8(out).unwrap(), false),
            }
        }
        out.extend_from_slice(&scan.finish());
        (String::from_utf8(out).unwrap(), true)
    }

    #[test]
    fn a_value_split_anywhere_is_withheld() {
        let value = "aabaabaac-secret";
        let text = format!("before aabaab{value} after");
        for first in 0..text.len() {
            for second in first..text.len() {
                let (out, whole) = delivered(
                    &[value, "another-value"],
                    &[&text[..first], &text[first..second], &text[second..]],
                );
                assert!(!whole, "{first} {second}");
                // Not a single byte of the value: at most what stood before it.
                assert!("before aabaab".starts_with(&out), "{first} {second}: {out}");
            }
        }
        let bytes: Vec<_> = text
            .as_bytes()
            .chunks(1)
            .map(|byte| std::str::from_utf8(byte).unwrap())
            .collect();
        assert!(!delivered(&[value], &bytes).1);
    }

    #[test]
    fn what_only_begins_like_a_value_is_delivered() {
        for chunks in [
            &["xx secre", "t-valu", "X"] as &[_],
            &["secret-valu"],
            &["s", "s", "secret-", "", "secret-valu"],
            &[""],
        ] {
            assert_eq!(
                delivered(&["secret-value"], chunks),
                (chunks.concat(), true)
            );
        }
    }

    #[test]
    fn values_that_cannot_be_secrets() {
        for value in [
            "",
            "short",
            "with space in it",
            "line\r\nbreak",
            "ümlaut-value",
            "delete\u{7f}delete",
            &"x".repeat(4097),
        ] {
            assert!(secret(value).is_err(), "{value}");
        }
    }
}
