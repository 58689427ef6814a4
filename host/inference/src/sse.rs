//! Server-sent events, as far as chat streams use them: the payload of each event's `data`.
//!
//! Own code because this is the hot path of streaming and needs two things a ready parser does not give: bounds on a line and on an
//! event (the bytes come from outside), and payloads that are slices of the bytes read, so that a frame is passed on without a copy.
//! Event names, ids and retry times mean nothing in this protocol and are skipped, as are comments.
//! Specification: <https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation>.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

const BOM: &[u8] = b"\xEF\xBB\xBF";

/// An event is over the cap.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooLarge;

/// The data of an event: one line of it is passed on as it came.
#[derive(Debug)]
enum Data {
    Line(Bytes),
    Lines(BytesMut),
}

impl Data {
    fn freeze(self) -> Bytes {
        match self {
            Self::Line(line) => line,
            Self::Lines(lines) => lines.freeze(),
        }
    }
}

/// Feed with [`push`](Self::push), then take events until there is none.
#[derive(Debug)]
pub(crate) struct Parser {
    /// Bytes not looked at yet.
    input: Bytes,
    /// The beginning of a line whose end has not arrived.
    line: Vec<u8>,
    /// The data of the event so far; None before its first `data` field.
    data: Option<Data>,
    /// The last line ended in CR: an LF now belongs to it.
    skip_lf: bool,
    /// No line has been read: it may start with a byte order mark.
    first: bool,
    /// Longest line and longest event, in bytes.
    cap: usize,
}

impl Parser {
    pub(crate) fn new(cap: usize) -> Self {
        Self {
            input: Bytes::new(),
            line: Vec::new(),
            data: None,
            skip_lf: false,
            first: true,
            cap,
        }
    }

    /// More bytes. The last ones must have been used up.
    pub(crate) fn push(&mut self, bytes: Bytes) {
        debug_assert!(
            self.input.is_empty(),
            "take every event before pushing more"
        );
        self.input = bytes;
    }

    /// The next event with data. None: push more bytes.
    pub(crate) fn next(&mut self) -> Result<Option<Bytes>, TooLarge> {
        loop {
            if self.skip_lf && !self.input.is_empty() {
                self.skip_lf = false;
                if self.input[0] == b'\n' {
                    self.input.advance(1);
                }
            }
            let Some(end) = memchr::memchr2(b'\n', b'\r', &self.input) else {
                if self.line.len() + self.input.len() > self.cap {
                    return Err(TooLarge);
                }
                self.line.extend_from_slice(&self.input);
                self.input.clear();
                return Ok(None);
            };
            if self.line.len() + end > self.cap {
                return Err(TooLarge);
            }
            let rest = self.input.split_to(end);
            self.skip_lf = self.input[0] == b'\r';
            self.input.advance(1);
            let mut line = if self.line.is_empty() {
                rest
            } else {
                self.line.extend_from_slice(&rest);
                Bytes::from(std::mem::take(&mut self.line))
            };
            if std::mem::take(&mut self.first) && line.starts_with(BOM) {
                line.advance(BOM.len());
            }
            if line.is_empty() {
                if let Some(data) = self.data.take() {
                    return Ok(Some(data.freeze()));
                }
            } else if let Some(value) = data_of(line) {
                self.append(value)?;
            }
        }
    }

    fn append(&mut self, value: Bytes) -> Result<(), TooLarge> {
        let mut lines = match self.data.take() {
            None => {
                self.data = Some(Data::Line(value));
                return Ok(());
            }
            Some(Data::Line(first)) => BytesMut::from(&first[..]),
            Some(Data::Lines(lines)) => lines,
        };
        if lines.len() + 1 + value.len() > self.cap {
            return Err(TooLarge);
        }
        lines.put_u8(b'\n');
        lines.put_slice(&value);
        self.data = Some(Data::Lines(lines));
        Ok(())
    }
}

/// The value, when the line is a `data` field.
fn data_of(mut line: Bytes) -> Option<Bytes> {
    if !line.starts_with(b"data") {
        return None;
    }
    line.advance(4);
    match line.first() {
        None => {}
        Some(b':') => {
            line.advance(1);
            if line.first() == Some(&b' ') {
                line.advance(1);
            }
        }
        Some(_) => return None,
    }
    Some(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(pieces: &[&[u8]]) -> Vec<String> {
        let mut parser = Parser::new(1000);
        let mut events = Vec::new();
        for piece in pieces {
            parser.push(Bytes::copy_from_slice(piece));
            while let Some(event) = parser.next().unwrap() {
                events.push(String::from_utf8(event.to_vec()).unwrap());
            }
        }
        events
    }

    #[test]
    fn every_split_into_two_and_three_gives_the_same_events() {
        let text = "\u{feff}: hello\r\ndata: {\"a\":\"grüße 🌍\"}\r\n\r\nevent: x\nid: 7\ndata:one\ndata: two\n\ndata\n\n\
            database: no\rdata:  spaced\r\rdata: [DONE]\n\n"
            .as_bytes();
        let expected = ["{\"a\":\"grüße 🌍\"}", "one\ntwo", "", " spaced", "[DONE]"];
        assert_eq!(parse(&[text]), expected);
        for i in 0..=text.len() {
            assert_eq!(parse(&[&text[..i], &text[i..]]), expected, "split at {i}");
            for j in i..=text.len() {
                assert_eq!(
                    parse(&[&text[..i], &text[i..j], &text[j..]]),
                    expected,
                    "split at {i} and {j}"
                );
            }
        }
        let single: Vec<&[u8]> = text.chunks(1).collect();
        assert_eq!(parse(&single), expected);
    }

    #[test]
    fn an_incomplete_last_event_is_no_event() {
        for text in ["data: a", "data: a\n", "data: a\r"] {
            assert_eq!(parse(&[text.as_bytes()]), [""; 0], "{text:?}");
        }
    }

    /// Four million lines of one event cost as much each as the first: joined anew for every line, this would take a quarter of an hour.
    #[test]
    fn an_event_of_many_lines_costs_no_more_for_each() {
        let (lines, before) = (1 << 22, std::time::Instant::now());
        let mut parser = Parser::new(16 << 20);
        parser.push(Bytes::from("data\n".repeat(lines) + "\n"));
        let event = parser.next().unwrap().unwrap();
        assert_eq!(event.len(), lines - 1);
        assert!(before.elapsed() < std::time::Duration::from_secs(60));
    }

    #[test]
    fn lines_and_events_are_bounded_however_they_arrive() {
        let long = "x".repeat(101);
        let many = "data: 12345678\n".repeat(20);
        for text in [&long, &many, &format!("data: {long}\n\n")] {
            for size in [1, 7, text.len()] {
                let mut parser = Parser::new(100);
                let refused = text.as_bytes().chunks(size).any(|piece| {
                    parser.push(Bytes::copy_from_slice(piece));
                    loop {
                        match parser.next() {
                            Err(TooLarge) => return true,
                            Ok(None) => return false,
                            Ok(Some(_)) => {}
                        }
                    }
                });
                assert!(refused, "{text} by {size}");
            }
        }
    }
}
