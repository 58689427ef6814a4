//! What each meeting of words is worth. The weights are set by hand.

use super::{Concept, SHORT_LIMIT, Score, WEIGHED};
use crate::injection::lexicon::*;

impl Score {
    pub(super) fn weigh(&mut self, classes: Classes, capitals: bool) {
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
    pub(super) fn weigh_answer(&mut self) {
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
}
