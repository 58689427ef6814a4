//! What was said shortly before a clause, where it changes what the clause means.

use crate::clause::Traits;
use crate::fold::is_word_byte;
use crate::state::{Reader, Writer};

/// Words a topic is remembered for.
const PHONE_REACH: u32 = 10;
const SSN_REACH: u32 = 10;
const OTHER_REACH: u32 = 6;

/// Distances are in words; a topic never mentioned is far away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Context {
    position: u32,
    phone: u32,
    ssn: u32,
    /// A number that is something else: an order, a version, an invoice.
    other_number: u32,
    /// `ssh-rsa`, `integrity`, `sha256`: a long token that follows is public.
    public_token: u32,
    /// Words on this line before the clause.
    line_words: u32,
    words_in_clause: u32,
}

const FAR: u32 = 1_000;

impl Default for Context {
    fn default() -> Context {
        Context {
            position: FAR,
            phone: 0,
            ssn: 0,
            other_number: 0,
            public_token: 0,
            line_words: 0,
            words_in_clause: 0,
        }
    }
}

impl Context {
    /// Takes note of a word. Words of the clause that is scanned next are included.
    pub(crate) fn see(&mut self, word: &[u8], traits: Traits) {
        self.position = self.position.saturating_add(1);
        self.words_in_clause = self.words_in_clause.saturating_add(1);
        if traits.has(Traits::PUNCTUATION) {
            return;
        }
        let position = self.position;
        for part in word
            .split(|byte| !is_word_byte(*byte))
            .filter(|part| (2..=14).contains(&part.len()))
            .take(8)
        {
            let mut lower = [0; 14];
            lower[..part.len()].copy_from_slice(part);
            let lower = &mut lower[..part.len()];
            lower.make_ascii_lowercase();
            if is_phone_word(lower) {
                self.phone = position;
            }
            match &*lower {
                b"ssn" | b"social" | b"ssns" | b"itin" => self.ssn = position,
                b"version" | b"order" | b"invoice" | b"id" | b"isbn" | b"issn" | b"ref"
                | b"reference" | b"tracking" | b"build" | b"release" | b"ticket" | b"serial"
                | b"sku" | b"doi" | b"license" | b"licence" | b"passport" | b"zip"
                | b"population" | b"rev" | b"revision" | b"amount" | b"total" | b"price"
                | b"usd" | b"eur" | b"page" | b"pages" | b"issue" | b"timestamp" | b"case"
                | b"account" | b"routing" | b"port" | b"pid" | b"arxiv" => {
                    self.other_number = position
                }
                b"rsa" | b"ed25519" | b"ecdsa" | b"dss" | b"integrity" | b"sha1" | b"sha256"
                | b"sha384" | b"sha512" | b"md5" | b"checksum" | b"digest" | b"commit"
                | b"hash" | b"base64" | b"fingerprint" | b"certificate" => {
                    self.public_token = position
                }
                _ => {}
            }
        }
    }

    /// The clause was scanned; what follows on the line comes after it.
    pub(crate) fn end_clause(&mut self) {
        self.line_words = self.line_words.saturating_add(self.words_in_clause);
        self.words_in_clause = 0;
    }

    pub(crate) fn end_line(&mut self) {
        self.line_words = 0;
        self.words_in_clause = 0;
    }

    pub(crate) fn near_phone(&self) -> bool {
        self.position - self.phone <= PHONE_REACH && self.phone > 0
    }

    pub(crate) fn near_ssn(&self) -> bool {
        self.position - self.ssn <= SSN_REACH && self.ssn > 0
    }

    /// The number is called something else, and that more recently than it is called a telephone number.
    pub(crate) fn near_other_number(&self) -> bool {
        self.position - self.other_number <= OTHER_REACH
            && self.other_number > 0
            && self.other_number > self.phone
    }

    /// The word before said that a version or the like follows.
    pub(crate) fn just_said_version(&self) -> bool {
        self.position - self.other_number <= 2 && self.other_number > 0
    }

    pub(crate) fn near_public_token(&self) -> bool {
        self.position - self.public_token <= 2 && self.public_token > 0
    }

    /// True when nothing stands on the line before the clause.
    pub(crate) fn starts_line(&self) -> bool {
        self.line_words == 0
    }

    pub(crate) fn write(&self, writer: &mut Writer) {
        writer.number(u64::from(self.position));
        for at in [self.phone, self.ssn, self.other_number, self.public_token] {
            writer.number(u64::from(if at == 0 {
                0
            } else {
                (self.position - at).min(FAR) + 1
            }));
        }
        writer.number(u64::from(self.line_words));
        writer.number(u64::from(self.words_in_clause));
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Option<Context> {
        let max = u64::from(u32::MAX);
        let position = reader
            .bounded(max)
            .filter(|position| *position >= u64::from(FAR))? as u32;
        let mut topic = || {
            let distance = reader.bounded(u64::from(FAR) + 1)? as u32;
            Some(if distance == 0 {
                0
            } else {
                position - (distance - 1)
            })
        };
        let (phone, ssn, other_number, public_token) = (topic()?, topic()?, topic()?, topic()?);
        let (line_words, words_in_clause) =
            (reader.bounded(max)? as u32, reader.bounded(max)? as u32);
        Some(Context {
            position,
            phone,
            ssn,
            other_number,
            public_token,
            line_words,
            words_in_clause,
        })
    }
}

/// Words that announce a telephone number, or stand after one.
pub(crate) fn is_phone_word(lower: &[u8]) -> bool {
    matches!(
        lower,
        b"phone"
            | b"telephone"
            | b"tel"
            | b"mobile"
            | b"cell"
            | b"cellphone"
            | b"fax"
            | b"call"
            | b"calling"
            | b"dial"
            | b"desk"
            | b"office"
            | b"whatsapp"
            | b"sms"
            | b"reach"
            | b"contact"
            | b"ring"
            | b"hotline"
            | b"landline"
            | b"handy"
            | b"telefon"
            | b"telefono"
            | b"phones"
            | b"pager"
            | b"voicemail"
            | b"ph"
            | b"mob"
            | b"extension"
            | b"tlf"
            | b"gsm"
            | b"telefone"
            | b"puhelin"
            | b"mobil"
            | b"rufnummer"
            | b"facsimile"
            | b"callback"
    )
}
