//! Markdown (CommonMark with tables, footnotes, task lists and front matter).

use super::{BlockKind, Outline, Outliner, html};
use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};

pub(super) fn read(text: &str) -> Outline {
    let options = Options::ENABLE_TABLES
        | Options::ENABLE_FOOTNOTES
        | Options::ENABLE_STRIKETHROUGH
        | Options::ENABLE_TASKLISTS
        | Options::ENABLE_HEADING_ATTRIBUTES
        | Options::ENABLE_YAML_STYLE_METADATA_BLOCKS
        | Options::ENABLE_PLUSES_DELIMITED_METADATA_BLOCKS
        | Options::ENABLE_GFM;
    let mut reader = Reader::default();
    for event in Parser::new_ext(text, options) {
        reader.event(event);
    }
    reader.flush();
    reader.outliner.finish()
}

#[derive(Default)]
struct Reader {
    outliner: Outliner,
    /// Text of the block being read.
    text: String,
    /// Numbers of the lists we are in; None counts nothing.
    lists: Vec<Option<u64>>,
    /// Tables we are in: their rows are one block.
    tables: usize,
    metadata: bool,
}

impl Reader {
    fn event(&mut self, event: Event<'_>) {
        match event {
            Event::Start(tag) => self.start(tag),
            Event::End(tag) => self.end(tag),
            Event::Text(text) if !self.metadata => self.text.push_str(&text),
            Event::Code(code) => {
                self.text.push('`');
                self.text.push_str(&code);
                self.text.push('`');
            }
            Event::InlineMath(math) | Event::DisplayMath(math) => self.text.push_str(&math),
            Event::Html(tags) => self.text.push_str(&tags),
            Event::InlineHtml(tag) if is_break(&tag) => self.text.push('\n'),
            Event::SoftBreak | Event::HardBreak => self.text.push('\n'),
            Event::TaskListMarker(done) => self.text.push_str(if done { "[x] " } else { "[ ] " }),
            Event::Rule => self.flush(),
            Event::Text(_) | Event::InlineHtml(_) | Event::FootnoteReference(_) => {}
        }
    }

    fn start(&mut self, tag: Tag<'_>) {
        match tag {
            Tag::Heading { .. } | Tag::CodeBlock(_) | Tag::HtmlBlock => self.flush(),
            // Its first list belongs to the paragraph that introduces it.
            Tag::List(first) => {
                self.line();
                self.lists.push(first);
            }
            Tag::Item => {
                self.line();
                let depth = self.lists.len().clamp(1, 8);
                self.text.push_str(&"  ".repeat(depth - 1));
                match self.lists.last_mut() {
                    Some(Some(number)) => {
                        self.text.push_str(&format!("{number}. "));
                        *number = number.saturating_add(1);
                    }
                    _ => self.text.push_str("- "),
                }
            }
            Tag::Table(_) => {
                self.line();
                self.tables += 1;
            }
            Tag::MetadataBlock(_) => self.metadata = true,
            _ => {}
        }
    }

    fn end(&mut self, tag: TagEnd) {
        match tag {
            TagEnd::Heading(level) => {
                let heading = std::mem::take(&mut self.text);
                self.outliner
                    .heading(level as u8, &heading.replace('`', ""));
            }
            TagEnd::CodeBlock => self.emit(BlockKind::Code),
            TagEnd::HtmlBlock => {
                self.text = html::text(&self.text);
                self.flush();
            }
            TagEnd::Paragraph if self.lists.is_empty() && self.tables == 0 => {
                // "Do this:" and the list after it are one thought.
                if self.text.trim_end().ends_with(':') {
                    self.line()
                } else {
                    self.flush()
                }
            }
            TagEnd::Paragraph | TagEnd::Item | TagEnd::TableRow | TagEnd::TableHead => self.line(),
            TagEnd::TableCell => self.text.push_str(" | "),
            TagEnd::List(_) => {
                self.lists.pop();
                if self.lists.is_empty() {
                    self.flush();
                }
            }
            TagEnd::Table => {
                self.tables = self.tables.saturating_sub(1);
                self.flush();
            }
            TagEnd::BlockQuote(_) | TagEnd::FootnoteDefinition => self.flush(),
            TagEnd::MetadataBlock(_) => self.metadata = false,
            _ => {}
        }
    }

    /// Starts a new line, not a second one.
    fn line(&mut self) {
        self.text.truncate(self.text.trim_end().len());
        if !self.text.is_empty() {
            self.text.push('\n');
        }
    }

    fn flush(&mut self) {
        self.emit(BlockKind::Prose);
    }

    fn emit(&mut self, kind: BlockKind) {
        let text = std::mem::take(&mut self.text);
        self.outliner.block(kind, &text);
    }
}

fn is_break(tag: &str) -> bool {
    let name = tag.trim_matches(|c: char| matches!(c, '<' | '>' | '/') || c.is_whitespace());
    name.eq_ignore_ascii_case("br")
}
