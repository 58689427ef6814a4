//! What a stream carries from one call to the next, as bytes: LEB128 numbers in a fixed order behind a version byte.
//!
//! The host hands back what it was given, but it is still read as hostile input: every length and index is checked, and a
//! reader never allocates more than the bytes it was given. Not serde: forty numbers do not need a format.

/// First byte of every state. A change of layout changes it, so that an old state is refused and not misread.
pub(crate) const VERSION: u8 = 2;

/// The largest state the contract allows.
pub const MAX_STATE: usize = 64 * 1024;

/// Appends numbers and byte strings.
#[derive(Default)]
pub(crate) struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    pub(crate) fn new() -> Writer {
        let mut bytes = Vec::with_capacity(256);
        bytes.push(VERSION);
        Writer { bytes }
    }

    pub(crate) fn number(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.bytes.push(value as u8);
    }

    pub(crate) fn numbers<T: Into<u64>>(&mut self, values: impl IntoIterator<Item = T>) {
        values
            .into_iter()
            .for_each(|value| self.number(value.into()));
    }

    pub(crate) fn bytes(&mut self, value: &[u8]) {
        self.number(value.len() as u64);
        self.bytes.extend_from_slice(value);
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        self.bytes
    }
}

/// Reads what [`Writer`] wrote; `None` means the state is not one of ours.
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(state: &'a [u8]) -> Option<Reader<'a>> {
        let rest = state.strip_prefix(&[VERSION])?;
        (state.len() <= MAX_STATE).then_some(Reader { rest })
    }

    pub(crate) fn number(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.rest.split_first()?;
            self.rest = rest;
            let part = u64::from(byte & 0x7f);
            if part << shift >> shift != part {
                return None;
            }
            value |= part << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    /// A number no larger than `max`.
    pub(crate) fn bounded(&mut self, max: u64) -> Option<u64> {
        self.number().filter(|value| *value <= max)
    }

    pub(crate) fn flag(&mut self) -> Option<bool> {
        Some(self.bounded(1)? == 1)
    }

    pub(crate) fn bytes(&mut self, max: usize) -> Option<&'a [u8]> {
        let length = usize::try_from(self.bounded(max as u64)?).ok()?;
        let (value, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(value)
    }

    /// True when nothing is left over.
    pub(crate) fn is_finished(&self) -> bool {
        self.rest.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_back() {
        let mut writer = Writer::new();
        for value in [0, 1, 127, 128, u64::MAX] {
            writer.number(value);
        }
        writer.bytes(b"abc");
        let state = writer.finish();
        let mut reader = Reader::new(&state).expect("our version");
        for value in [0, 1, 127, 128, u64::MAX] {
            assert_eq!(reader.number(), Some(value));
        }
        assert_eq!(reader.bytes(3), Some(&b"abc"[..]));
        assert!(reader.is_finished());
    }

    #[test]
    fn a_foreign_state_is_refused() {
        assert!(Reader::new(&[]).is_none());
        assert!(Reader::new(&[VERSION + 1]).is_none());
        let overflow = [
            VERSION, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f,
        ];
        assert_eq!(
            Reader::new(&overflow).and_then(|mut reader| reader.number()),
            None
        );
        assert_eq!(
            Reader::new(&[VERSION, 5, 1]).and_then(|mut reader| reader.bytes(9)),
            None
        );
    }
}
