//! The incremental check: characters in, decisions out.
//!
//! One pass: each character is folded ([`crate::fold`]), words are gathered into clauses ([`crate::clause`]), a clause is
//! scanned once when it is complete, and then everything up to its end is settled. All decisions are taken at places the
//! text defines, so a stream cut anywhere gives the same findings and the same released text as the whole text at once.
//!
//! What is held back is the open clause: in prose the current word, at most [`MAX_CLAUSE`] folded bytes. At that bound the
//! clause is scanned as it is, and only its last [`OVERLAP`] bytes stay, so a string shorter than the overlap is still seen
//! whole; a longer one (a token of many kilobytes) is already recognised by then and masked to its end by a
//! [`Continuation`]. Characters that are dropped by folding are never kept, so padding cannot fill the state; what the host
//! holds meanwhile is for the host to bound.

mod outcome;
mod pending;
mod persist;
mod quiet;
mod release;

pub use outcome::{BadState, Finding, Mask, Outcome, Verdict};

use crate::category;
use crate::clause::{self, Chain, Traits};
use crate::fold::{self, IDEOGRAPH, Sink};
use crate::injection::Injection;
use crate::policy::{Policy, Stage};
use crate::scan::{self, Candidate, Context};
use pending::Pending;
use quiet::QuietWord;

/// Folded bytes of a clause before it is scanned without waiting for its end.
pub const MAX_CLAUSE: usize = 4096;
/// Folded bytes that stay when a clause was scanned before its end.
pub const OVERLAP: usize = 1024;
/// A clause of several words (a table of numbers) is scanned from this length on, so that it is not held back for long.
const LONG_CHAIN: usize = 512;
const CHAIN_OVERLAP: usize = 128;
/// Longest body of a private key that is masked after its header, in original bytes.
const MAX_KEY_BODY: u64 = 64 * 1024;

/// Judges the next piece of a text. `state` is empty at first, then what the last call returned; `is_final` says that no
/// more follows. The same text gives the same findings and the same released text however it is cut into pieces.
pub fn check(
    policy: &Policy,
    stage: Stage,
    text: &str,
    is_final: bool,
    state: &[u8],
) -> Result<Outcome, BadState> {
    let mut stream = match state {
        [] => Stream::new(stage),
        _ => Stream::from_state(stage, state).ok_or(BadState)?,
    };
    Ok(stream.push(policy, text, is_final))
}

/// A finding that goes on past the clause it began in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Continuation {
    None,
    /// A token longer than a clause: it ends where the word does.
    Word {
        category: &'static str,
        start: u64,
        masked_to: u64,
        end: u64,
    },
    /// The body of a private key: it ends at its `END` line, or where no key would go on.
    Key {
        start: u64,
        masked_to: u64,
        end: u64,
        closing: bool,
    },
}

impl Continuation {
    /// What goes on, and up to where it is masked.
    fn open(self) -> Option<(&'static str, u64)> {
        match self {
            Continuation::None => None,
            Continuation::Word {
                category,
                masked_to,
                ..
            } => Some((category, masked_to)),
            Continuation::Key { masked_to, .. } => Some((category::PRIVATE_KEY, masked_to)),
        }
    }
}

/// How many bytes at the start are printable ASCII without a space.
#[inline]
fn plain_run(bytes: &[u8]) -> usize {
    bytes
        .iter()
        .take_while(|byte| byte.is_ascii_graphic())
        .count()
}

/// A text on its way through.
struct Stream {
    consumed: u64,
    released: u64,
    rejected: Option<&'static str>,
    pending: Pending,
    word_start: usize,
    chain: Chain,
    traits: Traits,
    continuation: Continuation,
    context: Context,
    injection: Injection,
    /// Found but not yet released: start, end, category of the replacement (none: the mask before goes on).
    masks: Vec<(u64, u64, Option<&'static str>)>,
    findings: Vec<Finding>,
}

/// One original character on its way into a [`Stream`].
struct Character<'a> {
    stream: &'a mut Stream,
    policy: &'a Policy,
    start: u64,
    width: u8,
}

impl Sink for Character<'_> {
    #[inline]
    fn visible(&mut self, folded: u8) {
        self.stream
            .byte(self.policy, folded, self.start, self.width);
    }

    fn hidden(&mut self, ascii: u8) {
        let end = self.start + u64::from(self.width);
        self.stream.injection.hidden(ascii, self.start, end);
    }
}

impl Stream {
    fn new(stage: Stage) -> Stream {
        Stream {
            consumed: 0,
            released: 0,
            rejected: None,
            pending: Pending::default(),
            word_start: 0,
            chain: Chain::default(),
            traits: Traits::default(),
            continuation: Continuation::None,
            context: Context::default(),
            injection: Injection::new(stage),
            masks: Vec::new(),
            findings: Vec::new(),
        }
    }

    fn push(&mut self, policy: &Policy, text: &str, is_final: bool) -> Outcome {
        if self.rejected.is_none() {
            let mut rest = text;
            while let Some(c) = rest.chars().next() {
                let quiet = self.quiet_words(policy, rest.as_bytes());
                if quiet > 0 {
                    rest = &rest[quiet..];
                    continue;
                }
                let plain = plain_run(rest.as_bytes());
                if plain > 0 {
                    self.plain(policy, &rest.as_bytes()[..plain]);
                    rest = &rest[plain..];
                    continue;
                }
                let (start, width) = (self.consumed, c.len_utf8() as u8);
                self.consumed += u64::from(width);
                fold::fold(
                    c,
                    &mut Character {
                        stream: self,
                        policy,
                        start,
                        width,
                    },
                );
                rest = &rest[usize::from(width)..];
            }
            if is_final {
                self.end_word(policy);
                self.flush(policy, true);
                self.end_continuation(policy);
                self.injection.finish(self.consumed);
            }
            self.take_injections(policy);
        }
        self.outcome(policy, is_final)
    }

    /// Takes the quiet words at the start of `text`; answers how many bytes they are.
    fn quiet_words(&mut self, policy: &Policy, text: &[u8]) -> usize {
        let is_at_rest = self.pending.is_empty()
            && self.chain == Chain::default()
            && self.traits == Traits::default()
            && self.continuation == Continuation::None;
        let mut taken = 0;
        while is_at_rest
            && let Some(word) = QuietWord::read(&text[taken..])
            && self
                .injection
                .quiet_word(word.letters, word.mark, self.consumed)
        {
            self.context.see_alone(word.letters.hash);
            self.consumed += word.len() as u64;
            taken += word.len();
            if self.injection.has_found() {
                self.take_injections(policy);
            }
        }
        taken
    }

    /// A run of ASCII that is its own folding and separates nothing: the common case, in one step.
    fn plain(&mut self, policy: &Policy, mut run: &[u8]) {
        while !run.is_empty() {
            let (part, after) = run.split_at(run.len().min(MAX_CLAUSE - self.pending.len()));
            self.injection.plain(part, self.consumed);
            if self.injection.has_found() {
                self.take_injections(policy);
            }
            self.pending.extend(part, self.consumed, 1);
            self.consumed += part.len() as u64;
            if self.pending.len() >= MAX_CLAUSE {
                self.cut(policy, OVERLAP);
            }
            run = after;
        }
    }

    /// One folded byte.
    #[inline]
    fn byte(&mut self, policy: &Policy, folded: u8, start: u64, width: u8) {
        self.injection.byte(folded, start, start + u64::from(width));
        if self.injection.has_found() {
            self.take_injections(policy);
        }
        if !fold::is_separator(folded) {
            self.pending.push(folded, start, width);
            if self.pending.len() >= MAX_CLAUSE {
                self.cut(policy, OVERLAP);
            }
            return;
        }
        self.end_word(policy);
        if folded == b'\n' {
            self.flush(policy, true);
            self.context.end_line();
        } else if folded == IDEOGRAPH {
            self.flush(policy, false);
        } else if self
            .pending
            .bytes()
            .last()
            .is_some_and(|last| *last != b' ')
        {
            self.pending.push(b' ', start, width);
            self.word_start = self.pending.len();
        }
    }

    /// A word is complete: does it belong to the clause, and is the clause complete with it?
    fn end_word(&mut self, policy: &Policy) {
        let length = self.pending.len();
        if length == self.word_start {
            return;
        }
        if self.continuation != Continuation::None && self.continue_with_word(policy) {
            return;
        }
        let word = &self.pending.bytes()[self.word_start..];
        let traits = clause::traits(word);
        if self.word_start > 0 && !self.chain.links(word, traits) {
            let word_start = self.word_start;
            self.scan(policy, word_start, word_start, false);
            self.pending.drop_front(word_start);
            self.chain = Chain::default();
            self.traits = Traits::default();
            self.word_start = 0;
        }
        let word = &self.pending.bytes()[self.word_start..];
        self.injection.word(
            word,
            traits,
            self.pending.start(self.word_start),
            self.pending.end(self.pending.len() - 1),
        );
        self.context.see(word, traits);
        self.chain = self.chain.then(word, traits);
        self.traits = self.traits.with(traits);
        self.word_start = self.pending.len();
        if !self.chain.is_open()
            || self.chain.header_words > 0 && scan::is_key_header(self.pending.bytes())
        {
            self.flush(policy, false);
        } else if self.pending.len() > LONG_CHAIN {
            self.cut(policy, CHAIN_OVERLAP);
        }
    }

    /// The clause is complete: scan it and let it go.
    fn flush(&mut self, policy: &Policy, line_ends: bool) {
        let length = self.pending.len();
        if length > 0 {
            self.scan(policy, length, length, line_ends);
            self.pending.drop_front(length);
        }
        self.word_start = 0;
        self.chain = Chain::default();
        self.traits = Traits::default();
    }

    /// The clause is too long to wait for its end: scan it and keep the last `overlap` bytes.
    fn cut(&mut self, policy: &Policy, overlap: usize) {
        let length = self.pending.len();
        if self.word_start < length {
            self.traits = self
                .traits
                .with(clause::traits(&self.pending.bytes()[self.word_start..]));
        }
        if self.continuation != Continuation::None && self.continue_with_word(policy) {
            return;
        }
        let keep_from = self.scan(policy, length, length - overlap.min(length), false);
        self.pending.drop_front(keep_from);
        self.word_start = self.word_start.saturating_sub(keep_from);
    }

    /// Scans the first `length` pending bytes and takes what starts before `limit`; answers from where the rest is undecided.
    /// A finding that reaches the end of a clause which was cut goes on in the word that follows.
    fn scan(&mut self, policy: &Policy, length: usize, limit: usize, line_ends: bool) -> usize {
        let is_cut = limit < length;
        let lookahead = &self.pending.bytes()[length..];
        let mut clause = &self.pending.bytes()[..length];
        while let [rest @ .., b' '] = clause {
            clause = rest;
        }
        let candidates = scan::clause(clause, self.traits, &self.context, lookahead, line_ends);
        let clause_end = clause.len();
        self.context.end_clause();
        let mut decided = limit;
        for Candidate {
            start,
            end,
            category,
            ..
        } in candidates
        {
            if start >= limit {
                break;
            }
            let (from, to) = (self.pending.start(start), self.pending.end(end - 1));
            decided = decided.max(end);
            if category == category::PRIVATE_KEY && end == clause_end {
                self.mask(policy, from, to, category);
                self.continuation = Continuation::Key {
                    start: from,
                    masked_to: to,
                    end: to,
                    closing: false,
                };
                self.reject_early(policy, category);
            } else if is_cut && end == length {
                self.mask(policy, from, to, category);
                self.continuation = Continuation::Word {
                    category,
                    start: from,
                    masked_to: to,
                    end: to,
                };
                self.reject_early(policy, category);
            } else {
                self.find(policy, from, to, category);
                self.mask(policy, from, to, category);
            }
        }
        decided
    }

    /// Does the open continuation swallow the word read so far? If it ends inside the word, what follows is left pending.
    fn continue_with_word(&mut self, policy: &Policy) -> bool {
        let word = &self.pending.bytes()[self.word_start..];
        let (swallowed, closes) = match self.continuation {
            Continuation::None => (0, true),
            Continuation::Word { .. } => {
                let length = word
                    .iter()
                    .take_while(|byte| !b"\"'`,;<>&)}]".contains(byte))
                    .count();
                (length, word.len() < MAX_CLAUSE || length < word.len())
            }
            Continuation::Key { start, closing, .. } => {
                let last = self.pending.end(self.pending.len() - 1);
                let goes_on = last - start <= MAX_KEY_BODY && (closing || scan::is_key_body(word));
                let closing = closing || clause::contains(word, b"-END");
                (
                    if goes_on { word.len() } else { 0 },
                    !goes_on || closing && scan::ends_key(word),
                )
            }
        };
        if swallowed > 0 {
            let last = self.pending.end(self.word_start + swallowed - 1);
            let ends = clause::contains(&self.pending.bytes()[self.word_start..], b"-END");
            match &mut self.continuation {
                Continuation::None => {}
                Continuation::Word { end, .. } => *end = last,
                Continuation::Key { end, closing, .. } => {
                    (*end, *closing) = (last, *closing || ends)
                }
            }
            self.extend_mask(policy);
            self.pending.drop_front(self.word_start + swallowed);
            self.word_start = 0;
        }
        if closes {
            self.end_continuation(policy);
        }
        self.pending.is_empty()
    }
}
