//! What was said shortly before a clause, where it changes what the clause means.

use crate::clause::Traits;
use crate::fold::is_word_byte;
use crate::state::{Reader, Writer};
use crate::words::{SEED, Table, extend};

/// Words a topic is remembered for.
const PHONE_REACH: u32 = 10;
const SSN_REACH: u32 = 10;
const OTHER_REACH: u32 = 6;
const NUMBER_REACH: u32 = 3;
const COMMAND_REACH: u32 = 16;

/// Distances are in words; a topic never mentioned is far away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Context {
    position: u32,
    phone: u32,
    ssn: u32,
    /// A number that is something else: an order, a version, an invoice.
    other_number: u32,
    /// Somebody's (`your`, `the`), and the same before `number`.
    owner: u32,
    owned_number: u32,
    /// `ssh-rsa`, `integrity`, `sha256`: a long token that follows is public.
    public_token: u32,
    /// A program that takes a credential as an option, and which.
    command: u32,
    command_kind: u8,
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
            owner: 0,
            owned_number: 0,
            public_token: 0,
            command: 0,
            command_kind: 0,
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
        let mut hash = SEED;
        for &byte in word.iter().take(MAX_WORD).chain(b" ") {
            if is_word_byte(byte) {
                hash = extend(hash, byte.to_ascii_lowercase());
            } else if hash != SEED {
                self.note(TOPICS.get(hash));
                hash = SEED;
            }
        }
    }

    /// A clause of one word of plain letters, by its hash in lower case.
    #[inline]
    pub(crate) fn see_alone(&mut self, hash: u32) {
        self.position = self.position.saturating_add(1);
        self.words_in_clause = self.words_in_clause.saturating_add(1);
        self.note(TOPICS.get(hash));
        self.end_clause();
    }

    fn note(&mut self, topics: u64) {
        if topics == 0 {
            return;
        }
        let topic = |class: u64, last: &mut u32| {
            if topics & class != 0 {
                *last = self.position;
            }
        };
        topic(PHONE, &mut self.phone);
        topic(SSN, &mut self.ssn);
        topic(OTHER_NUMBER, &mut self.other_number);
        topic(PUBLIC_TOKEN, &mut self.public_token);
        topic(OWNER, &mut self.owner);
        if topics >> COMMAND != 0 {
            self.command = self.position;
            self.command_kind = (topics >> COMMAND) as u8;
        }
        if topics & NUMBER != 0 && self.owner > 0 && self.position - self.owner <= 1 {
            self.owned_number = self.position;
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

    /// `your number`, `text`: what follows may be a telephone number if nothing says otherwise.
    pub(crate) fn near_number(&self) -> bool {
        self.position - self.owned_number <= NUMBER_REACH && self.owned_number > 0
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

    /// The program that was named shortly before, if it takes a credential as an option.
    pub(crate) fn near_command(&self) -> Option<Command> {
        let near = self.position - self.command <= COMMAND_REACH && self.command > 0;
        let kind = |kind: &Command| *kind as u8 == self.command_kind;
        COMMANDS.into_iter().find(kind).filter(|_| near)
    }

    /// True when nothing stands on the line before the clause.
    pub(crate) fn starts_line(&self) -> bool {
        self.line_words == 0
    }

    pub(crate) fn write(&self, writer: &mut Writer) {
        writer.number(u64::from(self.position));
        for at in [
            self.phone,
            self.ssn,
            self.other_number,
            self.public_token,
            self.owner,
            self.owned_number,
            self.command,
        ] {
            writer.number(u64::from(if at == 0 {
                0
            } else {
                (self.position - at).min(FAR) + 1
            }));
        }
        writer.number(u64::from(self.command_kind));
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
        let (owner, owned_number, command) = (topic()?, topic()?, topic()?);
        let command_kind = reader.bounded(u64::from(u8::MAX))? as u8;
        let (line_words, words_in_clause) =
            (reader.bounded(max)? as u32, reader.bounded(max)? as u32);
        Some(Context {
            position,
            phone,
            ssn,
            other_number,
            public_token,
            owner,
            owned_number,
            command,
            command_kind,
            line_words,
            words_in_clause,
        })
    }
}

/// True for a word that announces a telephone number, or stands after one.
pub(crate) fn is_phone_word(word: &[u8]) -> bool {
    let hash = word
        .iter()
        .fold(SEED, |hash, byte| extend(hash, byte.to_ascii_lowercase()));
    !word.is_empty() && TOPICS.get(hash) & PHONE != 0
}

/// Bytes of a word that are looked at; the rest names no topic.
const MAX_WORD: usize = 64;

const PHONE: u64 = 1;
const SSN: u64 = 2;
const OTHER_NUMBER: u64 = 4;
const PUBLIC_TOKEN: u64 = 8;
const OWNER: u64 = 16;
const NUMBER: u64 = 32;
/// From this bit on a topic is a [`Command`].
const COMMAND: u32 = 8;

/// How a program takes a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// `-p VALUE` or `-pVALUE`.
    Password = 1,
    /// `-pVALUE`; `-p` alone asks for it.
    AttachedPassword,
    /// `-a VALUE`
    Auth,
    /// `-w VALUE`
    Word,
    /// `-u NAME:VALUE`
    User,
}

const COMMANDS: [Command; 5] = [
    Command::Password,
    Command::AttachedPassword,
    Command::Auth,
    Command::Word,
    Command::User,
];

impl Command {
    const fn topic(self) -> u64 {
        (self as u64) << COMMAND
    }
}

static TOPICS: Table<256> = Table::EMPTY
    .with_words(
        "phone telephone tel mobile cell cellphone fax call calling dial desk office whatsapp sms reach contact ring hotline \
         landline handy telefon telefono phones pager voicemail ph mob extension tlf gsm telefone puhelin mobil rufnummer \
         facsimile callback",
        PHONE,
    )
    .with_words("ssn social ssns itin", SSN)
    .with_words(
        "version order invoice id isbn issn ref reference tracking build release ticket serial sku doi license licence \
         passport zip population rev revision amount total price usd eur page pages issue timestamp case account routing \
         port pid arxiv",
        OTHER_NUMBER,
    )
    .with_words(
        "rsa ed25519 ecdsa dss integrity sha1 sha256 sha384 sha512 md5 checksum digest commit hash base64 fingerprint \
         certificate",
        PUBLIC_TOKEN,
    )
    .with_words("my your his her our their the this that new a please or", OWNER)
    .with_words("number text", NUMBER)
    .with_words("sshpass login mongo mongosh mongodump mongorestore", Command::Password.topic())
    .with_words(
        "mysql mysqldump mysqladmin mysqlimport mysqlshow mysqlcheck mariadb",
        Command::AttachedPassword.topic(),
    )
    .with_words("redis", Command::Auth.topic())
    .with_words("ldapsearch ldapadd ldapmodify ldapdelete ldapwhoami", Command::Word.topic())
    .with_words("curl wget", Command::User.topic());
