//! How strongly a text reads like an attack: a linear model over *how classes of words stand together*.
//!
//! Each concept (an imperative to override instructions, a request for the system prompt, a persona without limits, a ban
//! on refusing, …) adds its weight when its words meet within a few words of each other, less each time it repeats. Two
//! sums forget at different speeds: the short one catches one clear sentence, the long one a jailbreak that says nothing
//! damning anywhere but keeps at it. Questions, reports and first persons take weight off: people write about attacks.
//!
//! Integers throughout, so that native tests and the component decide alike. Weights are hand-set and were checked on
//! labelled text ([`crate`] has the numbers); a trained bag of words scores better on the data it has seen and flags every
//! mention of `jailbreak` on data it has not.

mod weigh;

use super::lexicon::*;
use crate::policy::Stage;
use crate::state::{Reader, Writer};

/// A sentence (with what the ones before left over) is an attack from here on; concepts are weighed against it.
const SHORT_LIMIT: i32 = 650;
/// So is a text that kept adding up.
const LONG_LIMIT: i32 = 2000;
/// Words after which about 63 % of the short and of the long sum are forgotten.
const SHORT_MEMORY: i32 = 40;
const LONG_MEMORY: i32 = 800;

/// Distance that a sentence end puts between words.
const SENTENCE_GAP: u32 = 5;
const FAR: u32 = 10_000;

/// What adds up. The order is that of [`WEIGHTS`].
#[derive(Clone, Copy)]
enum Concept {
    Override,
    OverridePrior,
    Leak,
    Persona,
    FromNow,
    Unrestricted,
    NoLimits,
    NoRefusal,
    MustAnswer,
    Whatever,
    Harm,
    Model,
    Mode,
    Name,
    Jailbreak,
    Strong,
    Policy,
    InCharacter,
    Threat,
    Secrecy,
    TwoAnswers,
    Disclaim,
    Fiction,
    Halt,
    JustSay,
    NewTask,
    Markup,
    YourAnswer,
    Addressed,
    SendLoot,
    Label,
    Seize,
    Voided,
    Prefix,
    LeakTold,
}

const N_CONCEPTS: usize = 35;

/// Classes that a concept may complete with; the others only change what those mean.
const WEIGHED: Classes = {
    let mut classes = 0;
    let completing = [
        TARGET,
        WEAK_TARGET,
        PRIOR,
        TOLD,
        EVERYTHING,
        STRONG,
        JAILBREAK,
        PERSONA,
        FROM_NOW,
        UNRESTRICTED,
        LIMIT,
        REFUSAL,
        COMPLY,
        WHATEVER,
        HARM,
        MODEL,
        MODE,
        ENABLED,
        MODE_NAME,
        POLICY,
        IN_CHARACTER,
        THREAT,
        TWO_ANSWERS,
        DISCLAIM,
        FICTION,
        SEIZE,
        PREFIX,
        VOIDED,
        HALT,
        SAY,
        REVEAL,
        VERBATIM,
        ANSWER,
        EDIT,
        ADDRESSED,
        OVERRIDE,
        SECRECY,
        LOOT,
    ];
    let mut at = 0;
    while at < completing.len() {
        classes |= bit(completing[at]);
        at += 1;
    }
    classes
};

pub(crate) struct Score {
    stage: Stage,
    position: u32,
    /// Position of the last word of each class.
    last: [u32; N_CLASSES],
    /// Hashes of the words before, the nearest first.
    before: [u32; 3],
    before_classes: Classes,
    short: i32,
    long: i32,
    /// How often each concept fired, up to 255; halved as the text goes on.
    fired: [u8; N_CONCEPTS],
    /// Words of this sentence.
    words: u32,
    inquiry: bool,
    /// It began with `can you` or the like.
    request: bool,
    /// Sum of this sentence alone.
    sentence: i32,
    /// The most the short sum reached in this sentence.
    peak: i32,
    imperative: bool,
    negated: bool,
    /// Somebody else does it, or did.
    reported: bool,
    /// The word follows a comma, colon or the like: an imperative may begin here.
    opens: bool,
    /// It begins by telling what to do, and not with `your answer` itself.
    bare: bool,
}

impl Score {
    pub(crate) fn new(stage: Stage) -> Score {
        Score {
            stage,
            position: FAR,
            last: [0; N_CLASSES],
            before: [0; 3],
            before_classes: 0,
            short: 0,
            long: 0,
            fired: [0; N_CONCEPTS],
            words: 0,
            inquiry: false,
            request: false,
            sentence: 0,
            peak: 0,
            imperative: false,
            negated: false,
            reported: false,
            opens: false,
            bare: false,
        }
    }

    /// A word too long to be one.
    pub(crate) fn unknown(&mut self) {
        self.word(0, 0, false);
    }

    /// The next word, of no class and not in capitals: most are.
    #[inline]
    pub(crate) fn plain_word(&mut self, hash: u32) {
        self.forget();
        self.before = [hash, self.before[0], self.before[1]];
        self.before_classes = 0;
        self.opens = false;
    }

    /// One more word was read, so what was before it counts less.
    #[inline]
    fn forget(&mut self) {
        self.position = self.position.saturating_add(1);
        self.words = self.words.saturating_add(1);
        self.short -= self.short / SHORT_MEMORY;
        self.long -= self.long / LONG_MEMORY;
        if self.position.is_multiple_of(256) {
            self.fired.iter_mut().for_each(|count| *count /= 2);
        }
    }

    /// The next word: its hash, its classes, and whether it is written in capitals.
    pub(crate) fn word(&mut self, hash: u32, known: Classes, capitals: bool) {
        self.forget();
        let mut classes = known;
        if known & 1 != 0 && goes_on(self.before[0]) {
            let [one, two, three] = self.before;
            let pair = join(join(0, one), hash);
            let triple = join(join(join(0, two), one), hash);
            let quadruple = join(join(join(join(0, three), two), one), hash);
            classes |= super::lexicon::classes(pair)
                | super::lexicon::classes(triple)
                | super::lexicon::classes(quadruple);
        }
        self.before = [hash, self.before[0], self.before[1]];
        if classes > 1 {
            self.mark(classes, known);
            self.weigh(classes, capitals);
        } else if capitals && self.within(PERSONA, 6) {
            self.add(Concept::Name, 120);
        }
        self.before_classes = classes;
        self.opens = false;
    }

    fn mark(&mut self, classes: Classes, known: Classes) {
        let is = |class: u32| classes >> class & 1 == 1;
        if is(INQUIRY) && self.words == 1
            || is(EXPLAIN) && self.words <= 4 && !self.within(OVERRIDE, 3)
        {
            self.inquiry = true;
        }
        self.request |= is(YOU) && self.words == 2 && self.before_classes >> REQUEST & 1 == 1;
        if is(OVERRIDE) {
            // A phrase (`do not follow`) brings its own negation; only a single word is judged by the one before it.
            let phrase = known >> OVERRIDE & 1 == 0;
            let first = self.words <= 1 || self.opens;
            let led = self.before_classes >> LEADS_IN & 1 == 1
                && (self.before_classes >> TO & 1 == 0 || self.within(YOU, 3));
            self.imperative = first || led || phrase;
            self.reported = !self.imperative && self.before_classes >> SUBJECT & 1 == 1;
            self.negated = self.reported && self.before_classes >> NEGATION & 1 == 1;
        }
        // `Include …`, or `In your answer, include …`.
        self.bare |= is(EDIT) && (self.words == 1 || self.opens && self.said(OWN_ANSWER));
        if is(YOUR) && self.said(YOUR) {
            // More than the answer is yours: it is a person who is spoken to.
            self.last[PERSONAL as usize] = self.position;
        }
        let mut rest = classes & !1;
        while rest != 0 {
            self.last[rest.trailing_zeros() as usize] = self.position;
            rest &= rest - 1;
        }
        let owned = self.within(YOUR, 3) || is(TARGET) && self.ago(SYSTEM) == 1;
        if owned && (is(TARGET) || is(WEAK_TARGET) && self.ago(YOUR) <= 2 && self.ago(SYSTEM) <= 2)
        {
            self.last[OWNED as usize] = self.position;
        }
        if is(ANSWER) && self.within(YOUR, 2) {
            // `Give your answer …` is what every form says.
            self.bare &= self.words > 3;
            self.last[OWN_ANSWER as usize] = self.position;
        }
    }

    /// How many words ago a class was last seen, this word included as zero.
    #[inline]
    fn ago(&self, class: u32) -> u32 {
        self.position - self.last[class as usize]
    }

    #[inline]
    fn within(&self, class: u32, words: u32) -> bool {
        self.ago(class) <= words
    }

    /// True when `class` was seen not before `other` was.
    #[inline]
    fn since(&self, class: u32, other: u32) -> bool {
        self.ago(class) <= self.ago(other)
    }

    fn add(&mut self, concept: Concept, weight: i32) {
        if weight <= 0 {
            return;
        }
        let count = &mut self.fired[concept as usize];
        let weight = if self.inquiry && self.words < 60 {
            weight / 2
        } else {
            weight
        };
        // What is said again counts less each time: 1, 2/3, 1/2, 2/5, …
        let weight = 2 * weight / (2 + i32::from(*count));
        *count = count.saturating_add(1);
        self.short += weight;
        self.long += weight;
        self.sentence += weight;
        self.peak = self.peak.max(self.short);
    }

    /// Was a word of this class in this sentence?
    fn said(&self, class: u32) -> bool {
        self.ago(class) < self.words
    }

    /// The sentence is complete: is it an attack?
    pub(crate) fn end_sentence(&mut self) -> bool {
        if self.stage.is_data() {
            self.weigh_answer();
        }
        let is_attack = self.sentence > 0 && (self.peak >= SHORT_LIMIT || self.long >= LONG_LIMIT);
        if is_attack {
            // What was reported is not reported again for the harmless sentence that follows.
            self.short /= 2;
            self.long = self.long * 3 / 4;
        }
        if self.words > 0 {
            self.position = self.position.saturating_add(SENTENCE_GAP);
        }
        self.words = 0;
        self.sentence = 0;
        self.peak = 0;
        self.inquiry = false;
        self.request = false;
        self.before_classes = 0;
        self.opens = false;
        self.bare = false;
        is_attack
    }

    pub(crate) fn write(&self, writer: &mut Writer) {
        writer.number(u64::from(self.position));
        // Classes not seen lately are all equally long ago.
        writer.numbers(self.last.map(|last| (self.position - last).min(FAR)));
        writer.numbers(self.before);
        writer.number(self.before_classes);
        writer.numbers(
            [self.short, self.long, self.sentence, self.peak]
                .map(|sum| sum.clamp(0, MAX_SUM) as u32),
        );
        writer.numbers(self.fired);
        writer.number(u64::from(self.words));
        writer.numbers([
            self.inquiry,
            self.request,
            self.imperative,
            self.negated,
            self.reported,
            self.opens,
            self.bare,
        ]);
    }

    pub(crate) fn read(&mut self, reader: &mut Reader<'_>) -> Option<()> {
        self.position = reader
            .bounded(u64::from(u32::MAX))
            .filter(|position| *position >= u64::from(FAR))? as u32;
        for last in &mut self.last {
            *last = self.position - reader.bounded(u64::from(FAR))? as u32;
        }
        for hash in &mut self.before {
            *hash = reader.bounded(u64::from(u32::MAX))? as u32;
        }
        self.before_classes = reader.number()?;
        for sum in [
            &mut self.short,
            &mut self.long,
            &mut self.sentence,
            &mut self.peak,
        ] {
            *sum = reader.bounded(MAX_SUM as u64)? as i32;
        }
        for count in &mut self.fired {
            *count = reader.bounded(255)? as u8;
        }
        self.words = reader.bounded(u64::from(u32::MAX))? as u32;
        for flag in [
            &mut self.inquiry,
            &mut self.request,
            &mut self.imperative,
            &mut self.negated,
            &mut self.reported,
            &mut self.opens,
            &mut self.bare,
        ] {
            *flag = reader.flag()?;
        }
        Some(())
    }
}

/// No sum gets near this: weights are below a thousand, and each concept's fades as it repeats.
const MAX_SUM: i32 = 1 << 24;
