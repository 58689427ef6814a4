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

    fn weigh(&mut self, classes: Classes, capitals: bool) {
        if classes & WEIGHED == 0 {
            return;
        }
        let is = |class: u32| classes >> class & 1 == 1;
        if is(TARGET) || is(WEAK_TARGET) {
            self.weigh_target(is(TARGET));
        }
        if is(PRIOR) || is(TOLD) || is(EVERYTHING) {
            self.weigh_prior(classes);
        }
        if is(STRONG) {
            self.add(Concept::Strong, 550);
        }
        if is(JAILBREAK) {
            let weight =
                if self.within(PERSONA, 30) || self.within(MODEL, 12) || self.within(YOU, 4) {
                    260
                } else {
                    120
                };
            self.add(Concept::Jailbreak, weight);
        }
        if is(PERSONA) {
            self.add(Concept::Persona, 190);
        }
        if is(FROM_NOW) {
            self.add(Concept::FromNow, 180);
        }
        // Is it about the model, or about whom it shall play?
        let close = self.within(PERSONA, 60)
            || self.within(MODEL, 25)
            || self.within(YOU, 15)
            || self.within(ACTOR, 30);
        if is(UNRESTRICTED) {
            self.add(
                Concept::Unrestricted,
                if close || self.within(TWO_ANSWERS, 12) {
                    260
                } else {
                    60
                },
            );
        }
        let denied = self.ago(NEGATION) <= 6 || self.ago(OVERRIDE) <= 5 && self.within(MODEL, 12);
        if is(LIMIT) && !is(NEGATION) && denied {
            self.add(Concept::NoLimits, if close { 290 } else { 100 });
        }
        if is(REFUSAL) && self.ago(NEGATION) <= 5 && (close || self.within(YOUR, 10)) {
            self.add(Concept::NoRefusal, 210);
        }
        if is(COMPLY) && self.ago(ALWAYS) <= 2 && close {
            self.add(Concept::MustAnswer, 140);
        }
        if is(WHATEVER) && (close || self.within(HARM, 12)) {
            self.add(Concept::Whatever, 160);
        }
        if is(HARM) {
            let about_it =
                self.within(PERSONA, 60) || self.within(YOU, 12) || self.within(MODEL, 15);
            self.add(Concept::Harm, if about_it { 90 } else { 30 });
        }
        if is(MODEL) {
            self.add(Concept::Model, 60);
        }
        if is(MODE) && self.ago(MODE_NAME) <= 1 {
            self.add(Concept::Mode, 240);
        }
        if is(ENABLED) && self.ago(MODE) <= 3 && self.ago(MODE_NAME) <= 4 {
            self.add(Concept::Mode, 240);
        }
        if is(MODE_NAME) && capitals && self.within(PERSONA, 40) {
            self.add(Concept::Name, 160);
        }
        if is(POLICY) {
            let defied = self.within(NEGATION, 8) || self.within(OVERRIDE, 8);
            self.add(Concept::Policy, if defied { 300 } else { 110 });
        }
        if is(IN_CHARACTER) {
            self.add(Concept::InCharacter, 120);
        }
        if is(THREAT) && self.within(YOU, 10) {
            self.add(Concept::Threat, 120);
        }
        if is(TWO_ANSWERS) && (self.within(YOU, 40) || self.within(PERSONA, 40)) {
            self.add(Concept::TwoAnswers, 170);
        }
        if is(DISCLAIM) {
            self.add(Concept::Disclaim, 110);
        }
        if is(FICTION) && (self.within(PERSONA, 40) || self.within(HARM, 20)) {
            self.add(Concept::Fiction, 70);
        }
        if is(SEIZE) {
            self.add(Concept::Seize, 420);
        }
        if is(PREFIX) {
            self.add(Concept::Prefix, 300);
        }
        if is(VOIDED)
            && self.ago(TARGET).min(self.ago(OWNED)) <= 5
            && (self.within(PRIOR, 8) || self.within(OWNED, 5))
        {
            self.add(Concept::Voided, 760);
        }
        if is(HALT) {
            self.add(Concept::Halt, 260);
        }
        if is(SAY) && self.ago(JUST) == 1 {
            let diverted = self.within(OVERRIDE, 14) || self.within(HALT, 14);
            self.add(Concept::JustSay, if diverted { 480 } else { 90 });
        } else if is(SAY)
            && self.words > 1
            && self.ago(OVERRIDE) <= 12
            && self.imperative
            && (self.within(PRIOR, 12) || self.within(TARGET, 8))
        {
            self.add(Concept::JustSay, 240);
        }
        if (is(TARGET) || is(WEAK_TARGET)) && self.ago(NEW) == 1 && self.within(YOUR, 4) {
            self.add(Concept::NewTask, 200);
        }
        if (is(REVEAL) || is(VERBATIM)) && self.ago(OWNED) <= 14 && !is(WEAK_TARGET) {
            // `… your initial prompt? Print it word for word.`
            self.add(Concept::Leak, if is(VERBATIM) { 340 } else { 200 });
        }
        if self.stage.is_data() {
            self.weigh_data(classes);
        }
    }

    /// Something that instructs was named: overridden, or asked for?
    fn weigh_target(&mut self, strong: bool) {
        let overridden = self.ago(OVERRIDE);
        let soft = self.ago(SOFT) == overridden && !strong;
        if overridden > 0 && overridden <= 8 && !soft {
            let mut weight = if strong { 300 } else { 100 };
            let owned = self.since(YOUR, OVERRIDE) || self.since(SYSTEM, OVERRIDE);
            let prior = self.since(PRIOR, OVERRIDE) && self.ago(PRIOR) < overridden;
            weight += 420 * i32::from(prior)
                + 320 * i32::from(owned)
                + 160 * i32::from(self.since(ALL, OVERRIDE));
            weight += 220 * i32::from(self.imperative && (prior || owned || strong));
            if self.negated {
                weight -= 450;
            } else if self.reported {
                weight -= 220;
            }
            if !strong && !owned && !prior {
                weight /= 3;
            }
            self.add(Concept::Override, weight.max(0));
        }
        let revealed = self.ago(REVEAL);
        if revealed > 0 && revealed <= 9 {
            let mut weight = if strong { 150 } else { -150 };
            let owned = self.since(YOUR, REVEAL) || self.ago(YOU) < revealed;
            let system = self.since(SYSTEM, REVEAL) && self.ago(SYSTEM) < revealed;
            let prior = self.since(PRIOR, REVEAL) && self.ago(PRIOR) < revealed;
            let verbatim = self.since(VERBATIM, REVEAL) && self.ago(VERBATIM) < revealed;
            weight += 330 * i32::from(owned)
                + 350 * i32::from(system)
                + 300 * i32::from(prior)
                + 200 * i32::from(verbatim);
            if !(owned || system || prior) {
                weight = 0;
            }
            self.add(Concept::Leak, weight.max(0));
        }
    }

    /// `… the instructions above`, `forget everything you were told`, `repeat the text above`.
    fn weigh_prior(&mut self, classes: Classes) {
        let is = |class: u32| classes >> class & 1 == 1;
        let target = self.ago(TARGET).min(self.ago(WEAK_TARGET));
        let overridden = self.ago(OVERRIDE);
        if overridden > 0 && overridden <= 12 && !self.reported {
            let follows_target = target > 0 && target <= 5 && target < overridden;
            let everything = self.ago(EVERYTHING) < overridden && self.ago(EVERYTHING) <= 6;
            if (is(PRIOR) || is(TOLD)) && (follows_target || everything) {
                let weight = if self.imperative { 420 } else { 150 };
                self.add(Concept::OverridePrior, weight);
            } else if is(PRIOR) && overridden <= 3 && self.imperative {
                self.add(Concept::OverridePrior, 320);
            } else if is(EVERYTHING) && overridden <= 2 && self.imperative {
                self.add(Concept::OverridePrior, 330);
            }
        }
        let you_were = self.ago(YOU) <= 3 && self.ago(YOU) > 0;
        if is(TOLD)
            && you_were
            && overridden <= 7
            && self.ago(YOU) < overridden
            && target > overridden
        {
            self.add(Concept::OverridePrior, 720);
        }
        let revealed = self.ago(REVEAL);
        if is(TOLD) && you_were && target <= 5 && revealed <= 12 && target < revealed {
            self.last[OWNED as usize] = self.position;
            self.add(Concept::LeakTold, 540);
        }
        if is(PRIOR) && revealed > 0 && revealed <= 7 {
            let named = target > 0 && target <= 3 && target < revealed || self.ago(EVERYTHING) <= 2;
            if named {
                self.add(Concept::Leak, 740);
            }
        }
    }

    /// Concepts that only mean something where nobody has a right to instruct: text that is data.
    fn weigh_data(&mut self, classes: Classes) {
        let is = |class: u32| classes >> class & 1 == 1;
        if is(ADDRESSED) {
            self.add(Concept::Addressed, 380);
        }
        if is(OVERRIDE) && self.imperative && self.within(ADDRESSED, 15) {
            self.add(Concept::Override, 320);
        }
        if is(SECRECY) {
            self.add(Concept::Secrecy, 200);
        }
        if is(LOOT) && self.ago(SEND) <= 8 && self.ago(SEND) > 0 {
            let addressed =
                self.within(ADDRESSED, 30) || self.within(SECRECY, 30) || self.within(OVERRIDE, 30);
            self.add(Concept::SendLoot, if addressed { 500 } else { 120 });
        }
    }

    /// A separator that is not a space.
    pub(crate) fn punctuation(&mut self, byte: u8) {
        self.opens |= matches!(
            byte,
            b',' | b':' | b';' | b'"' | b'-' | b'(' | b'>' | b'\n' | b'.' | b'!'
        );
        if byte == b':' && self.words <= 2 && self.before_classes >> ROLE & 1 == 1 {
            self.add(Concept::Label, if self.stage.is_data() { 380 } else { 40 });
        }
        if byte == b'?'
            && self.words < 60
            && !self.inquiry
            && !self.request
            && self.sentence < SHORT_LIMIT
        {
            // It was a question after all.
            self.inquiry = true;
            let weight = self.sentence / 3;
            for sum in [
                &mut self.short,
                &mut self.long,
                &mut self.sentence,
                &mut self.peak,
            ] {
                *sum = (*sum - weight).max(0);
            }
        }
    }

    /// A whole word as it stands, for marks of chat templates that folding to words would lose.
    pub(crate) fn markup(&mut self, word: &[u8]) {
        let is_template = match word.first() {
            Some(b'<') => {
                word.starts_with(b"<|")
                    || word.starts_with(b"<<SYS>>")
                    || word.starts_with(b"</s>")
                    || word.starts_with(b"<system")
            }
            Some(b'[') => {
                word.starts_with(b"[INST]")
                    || word.starts_with(b"[/INST]")
                    || word.starts_with(b"[system]")
            }
            _ => false,
        };
        if is_template {
            self.add(Concept::Markup, 600);
        }
        if matches!(word, [b'[' | b'(', inner @ .., b']' | b')', b':'] if inner.iter().all(u8::is_ascii_alphanumeric))
        {
            self.add(Concept::Label, 120);
        }
    }

    /// Somebody wants something done to `your answer`. People ask each other to include something in a reply, or to write it in full;
    /// to change its letters, or to slip something into it, is asked of a model.
    fn weigh_answer(&mut self) {
        if !self.said(OWN_ANSWER) {
            return;
        }
        let edit = match (self.said(EDIT) || self.said(OVERRIDE), self.said(PERSONAL)) {
            (false, _) => 0,
            (true, true) => 150,
            (true, false) => 300 + 360 * i32::from(self.bare),
        };
        let weight = 720 * i32::from(self.said(DISTORT)) + 520 * i32::from(self.said(FORM)) + edit;
        self.add(Concept::YourAnswer, weight);
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
