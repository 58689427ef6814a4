//! Passages as sentences: Markdown taken off, split where sentences end.

use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};

/// A longer sentence is no sentence (a table row, a log, a minified file) and is cut at a word.
const LONGEST: usize = 400;
/// Abbreviations whose full stop ends nothing. Lower case, without the stop.
const ABBREVIATIONS: [&str; 26] = [
    "e.g", "i.e", "etc", "cf", "vs", "mr", "mrs", "ms", "dr", "prof", "st", "no", "fig", "eq",
    "sec", "approx", "al", "inc", "ltd", "co", "dept", "est", "jan", "feb", "u.s", "u.k",
];

/// A sentence, or what stands for one: a row of a table, a line of a listing.
#[derive(Debug, PartialEq)]
pub(super) struct Sentence {
    pub(super) text: String,
    /// It opens its paragraph and more follows.
    pub(super) opens: bool,
    /// A command or a line of a configuration, that lost its fence when the document was cut into passages.
    pub(super) is_code: bool,
}

/// The sentences of a Markdown or plain text, in order. Headings and fenced code are left out: quoted alone they say nothing.
pub(super) fn sentences(markdown: &str) -> Vec<Sentence> {
    let mut found = Vec::new();
    for block in blocks(markdown) {
        for unit in block.units() {
            let mut texts = Vec::new();
            split(&unit.text, &mut texts);
            let n = texts.len();
            found.extend(texts.into_iter().enumerate().map(|(at, text)| Sentence {
                text,
                opens: at == 0 && n > 1,
                is_code: unit.is_code,
            }));
        }
    }
    found
}

/// A paragraph, list item or table row, line by line.
#[derive(Default)]
struct Block {
    text: String,
    /// The same without what was marked as code inside a sentence: shows whether a line is prose.
    shape: String,
}

/// What sentences are looked for in.
struct Unit {
    text: String,
    is_code: bool,
}

impl Block {
    fn push(&mut self, text: &str, shape: &str) {
        self.text.push_str(text);
        self.shape.push_str(shape);
    }

    /// The block as a whole if it is prose, else line by line: rows and commands that follow each other make no sentence.
    fn units(&self) -> Vec<Unit> {
        let shapes = || self.shape.lines();
        let ends_sentence = |line: &str| line.trim_end().ends_with(['.', '!', '?', ':']);
        let is_listing = shapes().any(is_code) && !shapes().any(ends_sentence);
        if !is_listing && !shapes().any(is_row) {
            let text = self.text.replace('\n', " ");
            return vec![Unit {
                text,
                is_code: false,
            }];
        }
        let lines = self.text.lines().zip(shapes());
        lines
            .map(|(text, shape)| Unit {
                text: if is_row(shape) {
                    text.replace(" |", ";")
                } else {
                    text.to_owned()
                },
                is_code: is_listing && !is_row(shape),
            })
            .collect()
    }
}

/// A row of a table whose head is elsewhere.
fn is_row(line: &str) -> bool {
    line.trim_end().ends_with(" |")
}

/// Options, or more signs than prose has.
fn is_code(line: &str) -> bool {
    let words = line.split_whitespace();
    let has_option = words
        .clone()
        .any(|word| word.len() > 2 && word.starts_with("--"));
    let signs = line.matches(|c| "{}[]<>$=\\|#*_".contains(c)).count();
    has_option || signs >= 2 && signs * 4 >= words.count()
}

/// Text of each paragraph, list item or table row.
fn blocks(markdown: &str) -> Vec<Block> {
    let mut blocks = vec![Block::default()];
    // How deep we are in something that is not quoted.
    let mut silent = 0u32;
    for event in Parser::new_ext(markdown, Options::ENABLE_TABLES) {
        let mut end_block = || blocks.push(Block::default());
        match event {
            Event::Start(
                Tag::Heading { .. } | Tag::CodeBlock(_) | Tag::Image { .. } | Tag::MetadataBlock(_),
            ) => {
                end_block();
                silent += 1;
            }
            Event::End(
                TagEnd::Heading(_) | TagEnd::CodeBlock | TagEnd::Image | TagEnd::MetadataBlock(_),
            ) => {
                silent = silent.saturating_sub(1);
            }
            Event::Start(Tag::Paragraph | Tag::Item | Tag::TableRow | Tag::TableHead)
            | Event::End(TagEnd::Paragraph | TagEnd::Item) => {
                end_block();
            }
            Event::End(TagEnd::TableCell) => push(&mut blocks, "; ", "; "),
            Event::Text(text) if silent == 0 => push(&mut blocks, &text, &text),
            Event::Code(text) if silent == 0 => push(&mut blocks, &text, "x"),
            Event::SoftBreak if silent == 0 => push(&mut blocks, "\n", "\n"),
            Event::HardBreak if silent == 0 => push(&mut blocks, " ", " "),
            _ => {}
        }
    }
    blocks.retain(|block| !block.text.trim().is_empty());
    blocks
}

fn push(blocks: &mut [Block], text: &str, shape: &str) {
    if let Some(block) = blocks.last_mut() {
        block.push(text, shape);
    }
}

/// Splits after `.`, `!`, `?` and their East Asian forms, where a new sentence can begin.
fn split(block: &str, found: &mut Vec<String>) {
    let mut start = 0;
    for (at, mark) in block.char_indices() {
        let end = at + mark.len_utf8();
        let ends = match mark {
            '。' | '！' | '？' => true,
            '!' | '?' => begins_anew(&block[end..]),
            '.' => begins_anew(&block[end..]) && !is_abbreviation(&block[start..at]),
            _ => false,
        };
        if ends {
            // A closing quote or bracket belongs to the sentence it closes.
            let close = block[end..]
                .chars()
                .take_while(|c| matches!(c, '"' | '\'' | ')' | ']' | '”' | '’'))
                .map(char::len_utf8)
                .sum::<usize>();
            keep(&block[start..end + close], found);
            start = end + close;
        }
    }
    keep(&block[start..], found);
}

/// After the mark comes white space (perhaps behind a closing quote) and then no lower-case letter.
fn begins_anew(rest: &str) -> bool {
    let rest = rest.trim_start_matches(['"', '\'', ')', ']', '”', '’']);
    match rest.chars().next() {
        None => true,
        Some(c) if c.is_whitespace() => rest
            .trim_start()
            .chars()
            .next()
            .is_none_or(|c| !c.is_lowercase()),
        Some(_) => false,
    }
}

/// The text before a full stop ends in an abbreviation or a single initial.
fn is_abbreviation(before: &str) -> bool {
    let word = before
        .rsplit(|c: char| c.is_whitespace() || c == '(')
        .next()
        .unwrap_or("");
    let mut chars = word.chars();
    let is_initial = chars.next().is_some_and(char::is_uppercase) && chars.next().is_none();
    is_initial || (word.len() <= 6 && ABBREVIATIONS.contains(&word.to_lowercase().as_str()))
}

fn keep(sentence: &str, found: &mut Vec<String>) {
    let mut text = String::new();
    for word in sentence.split_whitespace() {
        if text.len() + word.len() > LONGEST {
            // Nothing fits: a word this long is not prose.
            if text.is_empty() {
                return;
            }
            text.push_str(" …");
            break;
        }
        if !text.is_empty() {
            text.push(' ');
        }
        text.push_str(word);
    }
    let text = text.trim_end_matches([';', ' ']);
    if text.chars().filter(|c| c.is_alphabetic()).count() >= 3 {
        found.push(text.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::sentences;

    fn check(markdown: &str, expected: &[&str]) {
        let texts: Vec<String> = sentences(markdown)
            .into_iter()
            .map(|found| found.text)
            .collect();
        assert_eq!(texts, expected, "{markdown}");
    }

    #[test]
    fn splits_where_sentences_end() {
        check(
            "One is here. Two is there! Is three? Yes.",
            &["One is here.", "Two is there!", "Is three?", "Yes."],
        );
        check(
            "It costs 3.5 s at version 1.2.3. See e.g. the docs.",
            &["It costs 3.5 s at version 1.2.3.", "See e.g. the docs."],
        );
        check(
            "Dr. J. Smith came (at last.) He said \"Hello.\" Then left",
            &[
                "Dr. J. Smith came (at last.)",
                "He said \"Hello.\"",
                "Then left",
            ],
        );
        check(
            "ambit.toml holds it. no new sentence here.",
            &["ambit.toml holds it. no new sentence here."],
        );
        check(
            "これは文です。次の文です。",
            &["これは文です。", "次の文です。"],
        );
        check("", &[]);
        check("--- *** . . .", &[]);
    }

    #[test]
    fn takes_markdown_off() {
        check(
            "# Title\n\nSome **bold** and `code` and [a link](http://x).\n\n- first item\n- second\n  item\n\n```\nno code\n```\n> A quote.\n",
            &[
                "Some bold and code and a link.",
                "first item",
                "second item",
                "A quote.",
            ],
        );
        check(
            "| name | use |\n|--|--|\n| wit | contracts |\n",
            &["name; use", "wit; contracts"],
        );
        check(
            "![an image](x.png)<b>Bold</b> text here.",
            &["Bold text here."],
        );
    }

    #[test]
    fn rows_and_commands_stand_alone() {
        check(
            "in the folder | what |\n`a.db` | SQLite: keys |\n`cache/` | code; safe to delete |\n",
            &[
                "in the folder; what",
                "a.db; SQLite: keys",
                "cache/; code; safe to delete",
            ],
        );
        let listing =
            sentences("tool key list\ntool key create NAME --tenant T\nname = \"x\" # a name\n");
        assert!(listing.iter().all(|line| line.is_code));
        assert_eq!(listing.len(), 3);
        let prose = sentences("Say `tool --all` once. It\nlists a = b and ends.");
        assert!(prose.iter().all(|sentence| !sentence.is_code));
    }

    #[test]
    fn the_first_of_several_opens_its_paragraph() {
        let found = sentences("1. One asks. Two answer.\n2. Nobody.\n\nThree. Four. Five.");
        let opens: Vec<bool> = found.iter().map(|sentence| sentence.opens).collect();
        assert_eq!(opens, [true, false, false, true, false, false]);
    }

    #[test]
    fn cuts_what_is_no_sentence() {
        let long = "word ".repeat(1000);
        let cut = sentences(&long);
        assert!(
            cut.len() == 1 && cut[0].text.len() < 410 && cut[0].text.ends_with('…'),
            "{cut:?}"
        );
        assert!(sentences(&"x".repeat(5000)).is_empty());
    }
}
