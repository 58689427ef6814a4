//! HTML: what a reader sees, by a standard tokenizer; no tree is built, so nesting costs nothing.

use super::{BlockKind, Outline, Outliner};
use html5gum::{Token, Tokenizer, emitters::default::DefaultEmitter};

pub(super) fn read(text: &str) -> Outline {
    let mut reader = Reader::default();
    let mut emitter = DefaultEmitter::default();
    // `<` inside script, style, textarea and title is text.
    emitter.naively_switch_states(true);
    for token in Tokenizer::new_with_emitter(text, emitter) {
        let Ok(token) = token;
        match token {
            Token::StartTag(tag) => reader.start(&tag.name, tag.self_closing),
            Token::EndTag(tag) => reader.end(&tag.name),
            Token::String(text) => reader.text(&String::from_utf8_lossy(&text)),
            Token::Comment(_) | Token::Doctype(_) | Token::Error(_) => {}
        }
    }
    reader.flush();
    reader.outliner.finish()
}

/// Only the text, blocks on lines of their own.
pub(super) fn text(html: &str) -> String {
    let outline = read(html);
    let mut lines: Vec<String> = Vec::new();
    for section in outline.sections {
        // Headings inside a fragment do not structure the document around it.
        lines.extend(section.headings.last().cloned());
        lines.extend(section.blocks.into_iter().map(|block| block.text));
    }
    lines.join("\n")
}

#[derive(Default)]
struct Reader {
    outliner: Outliner,
    text: String,
    /// Inside elements that show nothing: the name of the outermost and how often it is open.
    hidden: Option<(Vec<u8>, usize)>,
    heading: Option<u8>,
    preformatted: bool,
    title: bool,
}

const HIDDEN: [&[u8]; 8] = [
    b"script",
    b"style",
    b"template",
    b"noscript",
    b"svg",
    b"iframe",
    b"object",
    b"select",
];

/// Elements whose text runs on in the line around them.
const INLINE: [&[u8]; 29] = [
    b"a", b"abbr", b"b", b"bdi", b"bdo", b"cite", b"code", b"data", b"del", b"dfn", b"em", b"font",
    b"i", b"img", b"ins", b"kbd", b"label", b"mark", b"q", b"s", b"samp", b"small", b"span",
    b"strong", b"sub", b"sup", b"time", b"u", b"var",
];

impl Reader {
    fn start(&mut self, name: &[u8], self_closing: bool) {
        if let Some((hidden, depth)) = &mut self.hidden {
            if hidden == name && !self_closing {
                *depth += 1;
            }
            return;
        }
        match name {
            _ if HIDDEN.contains(&name) => {
                if !self_closing {
                    self.hidden = Some((name.to_vec(), 1));
                }
            }
            b"title" => {
                self.flush();
                self.title = true;
            }
            b"br" | b"tr" => self.line(),
            b"li" => {
                self.line();
                self.text.push_str("- ");
            }
            // A row is a line, a list one block.
            b"td" | b"th" | b"ul" | b"ol" | b"tbody" | b"thead" | b"tfoot" | b"wbr" => {}
            b"pre" => {
                self.flush();
                self.preformatted = true;
            }
            _ => {
                if let Some(level) = heading_level(name) {
                    self.flush();
                    self.heading = Some(level);
                } else if !INLINE.contains(&name) && !self.preformatted {
                    self.flush();
                }
            }
        }
    }

    fn end(&mut self, name: &[u8]) {
        if let Some((hidden, depth)) = &mut self.hidden {
            if hidden == name {
                *depth -= 1;
                if *depth == 0 {
                    self.hidden = None;
                }
            }
            return;
        }
        match name {
            b"title" if self.title => {
                let title = super::one_line(&std::mem::take(&mut self.text));
                if !title.is_empty() && self.outliner.outline.title.is_none() {
                    self.outliner.outline.title = Some(title);
                }
                self.title = false;
            }
            b"td" | b"th" => self.text.push_str(" | "),
            b"li" | b"tbody" | b"thead" | b"tfoot" | b"tr" => self.line(),
            b"pre" => {
                let text = std::mem::take(&mut self.text);
                self.outliner.block(BlockKind::Code, &text);
                self.preformatted = false;
            }
            _ if heading_level(name).is_some() => self.flush(),
            _ if INLINE.contains(&name) || self.preformatted => {}
            _ => self.flush(),
        }
    }

    fn text(&mut self, text: &str) {
        if self.hidden.is_some() {
            return;
        }
        if self.preformatted {
            self.text.push_str(text);
            return;
        }
        for piece in text.split_inclusive(char::is_whitespace) {
            let word = piece.trim_end_matches(char::is_whitespace);
            self.text.push_str(word);
            if word.len() < piece.len()
                && !self.text.is_empty()
                && !self.text.ends_with([' ', '\n'])
            {
                self.text.push(' ');
            }
        }
    }

    fn line(&mut self) {
        self.text.truncate(self.text.trim_end().len());
        if !self.text.is_empty() {
            self.text.push('\n');
        }
    }

    fn flush(&mut self) {
        let text = std::mem::take(&mut self.text);
        match self.heading.take() {
            Some(level) => self.outliner.heading(level, &text),
            None => self.outliner.block(BlockKind::Prose, &text),
        }
    }
}

fn heading_level(name: &[u8]) -> Option<u8> {
    match name {
        [b'h', level @ b'1'..=b'6'] => Some(level - b'0'),
        _ => None,
    }
}
