//! W3C trace context (Trace Context Level 1, <https://www.w3.org/TR/trace-context/>): which trace a request belongs to.
//!
//! It is a plain value in the call context and not the business of an exporter, so that a caller's trace id reaches providers and
//! logs also where no telemetry is configured.

use std::{
    cell::Cell,
    fmt,
    hash::{BuildHasher as _, RandomState},
    str::FromStr,
    sync::Arc,
};

/// Longest `tracestate` that goes on; the standard asks for as much at least.
const STATE_CAP: usize = 512;

/// The trace of a request and our own span in it. `Display` and `FromStr` are the `traceparent` header, version 00.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceContext {
    /// Never all zero.
    pub trace: [u8; 16],
    /// Never all zero.
    pub span: [u8; 8],
    /// Whether the caller recorded its span (bit 0 of the flags).
    pub sampled: bool,
    /// The `tracestate` header: what tracing systems before us wrote for those behind us. Goes on as it came.
    pub state: Option<Arc<str>>,
}

/// Why a text is not a `traceparent` header. The standard says to start a new trace then.
#[derive(Debug, thiserror::Error)]
#[error("not a traceparent header")]
pub struct TraceError;

impl TraceContext {
    /// A new trace, for work that nobody outside asked for.
    #[must_use]
    #[allow(
        clippy::new_without_default,
        reason = "a default trace would be a hidden random value"
    )]
    pub fn new() -> Self {
        Self {
            trace: random(),
            span: random(),
            sampled: false,
            state: None,
        }
    }

    /// A new span in the same trace.
    #[must_use]
    pub fn child(&self) -> Self {
        Self {
            span: random(),
            ..self.clone()
        }
    }

    /// With a `tracestate`, unless it is longer than we carry or could not stand in a header.
    #[must_use]
    pub fn with_state(self, state: &str) -> Self {
        let fits = (1..=STATE_CAP).contains(&state.len())
            && state.bytes().all(|byte| matches!(byte, b' '..=b'~'));
        Self {
            state: fits.then(|| state.into()),
            ..self
        }
    }
}

/// Random bytes that are not all zero. Ids need to be unique, not secret: a keyed hash of a count serves, and asks the system for
/// randomness once per thread instead of thrice per request.
fn random<const N: usize>() -> [u8; N] {
    thread_local! {
        static KEY: (RandomState, Cell<u64>) = (RandomState::new(), Cell::new(0));
    }
    let mut bytes = [0; N];
    KEY.with(|(key, count)| {
        for piece in bytes.chunks_mut(8) {
            count.set(count.get().wrapping_add(1));
            piece.copy_from_slice(&key.hash_one(count.get()).to_be_bytes()[..piece.len()]);
        }
    });
    if bytes == [0; N] {
        bytes[0] = 1;
    }
    bytes
}

impl FromStr for TraceContext {
    type Err = TraceError;

    fn from_str(header: &str) -> Result<Self, TraceError> {
        let mut parts = header.split('-');
        let mut next = |length: usize| {
            parts
                .next()
                .filter(|part| {
                    part.len() == length
                        && part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
                })
                .and_then(|part| hex::decode(part).ok())
                .ok_or(TraceError)
        };
        let (version, trace, span, flags) = (next(2)?, next(32)?, next(16)?, next(2)?);
        // Version ff is forbidden; version 00 has exactly four parts, later ones may have more.
        if version[0] == 0xff || (version[0] == 0 && parts.next().is_some()) {
            return Err(TraceError);
        }
        let trace: [u8; 16] = trace.try_into().map_err(|_| TraceError)?;
        let span: [u8; 8] = span.try_into().map_err(|_| TraceError)?;
        if trace == [0; 16] || span == [0; 8] {
            return Err(TraceError);
        }
        Ok(Self {
            trace,
            span,
            sampled: flags[0] & 1 == 1,
            state: None,
        })
    }
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("00-")?;
        for byte in self.trace {
            write!(f, "{byte:02x}")?;
        }
        f.write_str("-")?;
        for byte in self.span {
            write!(f, "{byte:02x}")?;
        }
        write!(f, "-{:02x}", u8::from(self.sampled))
    }
}

#[cfg(test)]
mod tests {
    use super::TraceContext;
    use std::collections::HashSet;

    #[test]
    fn reads_and_writes_the_header() {
        let header = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert_eq!(header.parse::<TraceContext>().unwrap().to_string(), header);
        assert!(
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00-later"
                .parse::<TraceContext>()
                .is_ok()
        );
        let new = TraceContext::new();
        assert_eq!(new.to_string().parse::<TraceContext>().unwrap(), new);
        assert_eq!(new.child().trace, new.trace);
    }

    #[test]
    fn no_two_are_the_same_on_whatever_thread() {
        let make = || (0..10_000).map(|_| TraceContext::new()).collect::<Vec<_>>();
        let other = std::thread::spawn(make);
        let all = [make(), other.join().unwrap()].concat();
        let traces: HashSet<_> = all.iter().map(|new| new.trace).collect();
        let spans: HashSet<_> = all.iter().map(|new| new.span).collect();
        assert_eq!((traces.len(), spans.len()), (20_000, 20_000));
    }

    #[test]
    fn carries_a_state_that_fits() {
        let with = |state: &str| TraceContext::new().with_state(state).child().state;
        assert_eq!(
            with("rojo=00f067,congo=t61").as_deref(),
            Some("rojo=00f067,congo=t61")
        );
        assert!(with(&"a".repeat(512)).is_some());
        for bad in ["", "a=b\r\nx: y", "a=ä", &"a".repeat(513)] {
            assert_eq!(with(bad), None, "{bad}");
        }
    }

    #[test]
    fn refuses_what_the_standard_forbids() {
        for bad in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "00-4bf92f3577b34da6a3ce929d0e0e473é-00f067aa0ba902b7-01",
        ] {
            assert!(bad.parse::<TraceContext>().is_err(), "{bad}");
        }
    }
}
