//! What the assistant remembers from step to step. Journalled by the host; versioned, so that a later assistant knows an earlier one's.

use serde::{Deserialize, Serialize};

/// Version of the encoding below.
const VERSION: u32 = 1;

/// The contract's cap on a state.
const LARGEST: usize = 64 * 1024;

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct State {
    version: u32,
    /// The conversation in order: messages, replies and tool results by id.
    pub(crate) transcript: Vec<u64>,
    /// The last message of the user: what is asked now.
    pub(crate) question: Option<u64>,
    /// Whether the bound collections were asked for this question.
    pub(crate) retrieved: bool,
    /// Message ids of the retrievals for this question.
    pub(crate) retrievals: Vec<u64>,
    pub(crate) passages: Vec<Passage>,
    /// The last reply, while nothing was done about it yet.
    pub(crate) reply: Option<Reply>,
    /// How often each call was made: a hash of name and arguments, and a count.
    pub(crate) calls: Vec<(u64, u32)>,
    /// Set when the same call came too often: no more tools are offered.
    pub(crate) tools_closed: bool,
    /// What could not be done, for the model to know.
    pub(crate) notes: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Passage {
    pub(crate) number: u32,
    pub(crate) document: String,
    pub(crate) title: String,
    pub(crate) anchor: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Reply {
    pub(crate) id: u64,
    pub(crate) cited: Vec<u32>,
    /// Id, name, arguments.
    pub(crate) calls: Vec<(String, String, String)>,
}

impl State {
    pub(crate) fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(&Self::stamped(self)).unwrap_or_default()
    }

    fn stamped(&self) -> serde_json::Value {
        let mut value = serde_json::to_value(self).unwrap_or_default();
        value["version"] = VERSION.into();
        value
    }

    /// The state of the last step; empty bytes are the first step's.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        if bytes.is_empty() {
            return Some(Self::default());
        }
        let state: Self = serde_json::from_slice(bytes).ok()?;
        (state.version == VERSION).then_some(state)
    }

    /// Whether the encoding still fits what the contract allows.
    pub(crate) fn fits(encoded: &[u8]) -> bool {
        encoded.len() <= LARGEST
    }

    /// Counts this call; how often it was made before.
    pub(crate) fn count_call(&mut self, name: &str, arguments: &str) -> u32 {
        let hash = fnv(name, arguments);
        if let Some((_, count)) = self.calls.iter_mut().find(|(h, _)| *h == hash) {
            *count += 1;
            return *count - 1;
        }
        self.calls.push((hash, 1));
        0
    }
}

/// FNV-1a, 64 bits: fixed for ever, unlike the standard library's hashers, because it is journalled. A collision only stops a loop early.
fn fnv(name: &str, arguments: &str) -> u64 {
    name.bytes()
        .chain([0])
        .chain(arguments.bytes())
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_its_own_state_and_no_other() {
        let state = State {
            question: Some(7),
            retrieved: true,
            ..State::default()
        };
        let decoded = State::decode(&state.encode()).unwrap();
        assert_eq!((decoded.question, decoded.retrieved), (Some(7), true));
        assert_eq!(State::decode(b""), Some(State::default()));
        for bad in [&b"{}"[..], b"null", b"{\"version\":2}", b"\xff", b"[1]"] {
            assert!(State::decode(bad).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn counts_identical_calls() {
        let mut state = State::default();
        assert_eq!(state.count_call("t", "{}"), 0);
        assert_eq!(state.count_call("t", "{}"), 1);
        assert_eq!(state.count_call("t{", "}"), 0);
    }
}
