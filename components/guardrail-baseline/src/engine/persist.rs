//! A [`Stream`] as bytes and back: what goes from one call to the next.

use super::pending::Pending;
use super::{Continuation, Stream};
use crate::category;
use crate::clause::{Chain, Traits};
use crate::injection::Injection;
use crate::policy::Stage;
use crate::scan::Context;
use crate::state::{Reader, Writer};

/// At most this many masks wait for a sentence to end; a sentence has fewer.
const MAX_MASKS: u64 = 1024;

impl Stream {
    pub(super) fn to_state(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        writer.number(self.consumed);
        writer.number(self.consumed - self.released);
        writer.number(
            self.rejected
                .map_or(0, |category| category::index(category) as u64 + 1),
        );
        self.pending.write(&mut writer, self.released);
        writer.number(self.word_start as u64);
        writer.numbers([
            u8::from(self.chain.number),
            u8::from(self.chain.iban),
            self.chain.value_words,
            self.chain.header_words,
        ]);
        writer.number(u64::from(self.traits.bits()));
        match self.continuation {
            Continuation::None => writer.number(0),
            Continuation::Word {
                category,
                start,
                masked_to,
                end,
            } => {
                writer.number(1);
                writer.numbers([category::index(category) as u64, start, masked_to, end]);
            }
            Continuation::Key {
                start,
                masked_to,
                end,
                closing,
            } => {
                writer.number(2);
                writer.numbers([u64::from(closing), start, masked_to, end]);
            }
        }
        writer.number(self.masks.len() as u64);
        for (start, end, category) in &self.masks {
            writer.number(*start);
            writer.number(*end - *start);
            writer.number(category.map_or(0, |category| category::index(category) as u64 + 1));
        }
        self.context.write(&mut writer);
        self.injection.write(&mut writer);
        writer.finish()
    }

    /// Reads a state back, refusing any that [`Stream::to_state`] could not have written.
    pub(super) fn from_state(stage: Stage, state: &[u8]) -> Option<Stream> {
        // Far below overflow of any sum of offsets, far above any text.
        const MAX_OFFSET: u64 = 1 << 48;
        let mut reader = Reader::new(state)?;
        let n_categories = category::ALL.len() as u64;
        let category_at = |place: u64| category::ALL.get(place as usize).copied();
        let consumed = reader.bounded(MAX_OFFSET)?;
        let released = consumed.checked_sub(reader.number()?)?;
        let rejected = reader
            .bounded(n_categories)?
            .checked_sub(1)
            .and_then(category_at);
        let pending = Pending::read(&mut reader, released, consumed)?;
        let word_start = reader.bounded(pending.len() as u64)? as usize;
        let chain = Chain {
            number: reader.flag()?,
            iban: reader.flag()?,
            value_words: reader.bounded(15)? as u8,
            header_words: reader.bounded(15)? as u8,
        };
        let traits = Traits::from_bits(reader.bounded(u64::from(u16::MAX))? as u16);
        let kind = reader.bounded(2)?;
        let continuation = if kind == 0 {
            Continuation::None
        } else {
            let first = reader.number()?;
            let start = reader.bounded(consumed)?;
            let masked_to = reader.bounded(consumed)?;
            let end = reader.bounded(consumed)?;
            if start >= end || start > masked_to || masked_to > end {
                return None;
            }
            match kind {
                1 => Continuation::Word {
                    category: category_at(first)?,
                    start,
                    masked_to,
                    end,
                },
                _ => Continuation::Key {
                    start,
                    masked_to,
                    end,
                    closing: first == 1,
                },
            }
        };
        let mut masks = Vec::new();
        for _ in 0..reader.bounded(MAX_MASKS)? {
            let start = reader.bounded(consumed)?;
            let end = start
                .checked_add(reader.number()?)
                .filter(|end| *end <= consumed && *end > start)?;
            masks.push((
                start,
                end,
                reader
                    .bounded(n_categories)?
                    .checked_sub(1)
                    .and_then(category_at),
            ));
        }
        let context = Context::read(&mut reader)?;
        let injection = Injection::read(stage, &mut reader, consumed)?;
        reader.is_finished().then_some(Stream {
            consumed,
            released,
            rejected,
            pending,
            word_start,
            chain,
            traits,
            continuation,
            context,
            injection,
            masks,
            findings: Vec::new(),
        })
    }
}
