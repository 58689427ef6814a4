//! From a document's text to its outline: sections with the headings above them, each a list of blocks of plain text.
//!
//! Markup is read for structure and dropped, so that neither ranking nor an answer trips over link targets and tags; code keeps its
//! lines. Every reader is total: any text gives some outline.

mod html;
mod markdown;
mod plain;

use crate::MediaType;

/// Bytes of a heading that are kept.
const LONGEST_HEADING: usize = 300;

/// A document as chunks are cut from it.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Outline {
    /// What the document calls itself, where it does.
    pub(crate) title: Option<String>,
    pub(crate) sections: Vec<Section>,
}

/// The text between two headings.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Section {
    /// Outermost first.
    pub(crate) headings: Vec<String>,
    pub(crate) blocks: Vec<Block>,
}

/// A paragraph, list or table, or a listing of code.
#[derive(Debug, PartialEq)]
pub(crate) struct Block {
    pub(crate) text: String,
    pub(crate) kind: BlockKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BlockKind {
    Prose,
    /// Better kept whole: half a listing explains little.
    Code,
}

pub(crate) fn read(media_type: MediaType, text: &str) -> Outline {
    let text = clean(text);
    match media_type {
        MediaType::Plain => plain::read(&text),
        MediaType::Markdown => markdown::read(&text),
        MediaType::Html => html::read(&text),
    }
}

/// Without byte order mark and control characters (databases refuse NUL, terminals obey ESC), lines ended by `\n`.
pub(crate) fn clean(text: &str) -> String {
    text.trim_start_matches('\u{feff}')
        .replace("\r\n", "\n")
        .replace('\r', "\n")
        .replace(|c: char| c.is_control() && c != '\n' && c != '\t', " ")
}

/// One line, single spaces.
pub(crate) fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Collects an outline while a reader walks through its document.
#[derive(Default)]
struct Outliner {
    outline: Outline,
    /// Level and text of the headings in force.
    path: Vec<(u8, String)>,
}

impl Outliner {
    fn heading(&mut self, level: u8, text: &str) {
        let mut text = one_line(text);
        text.truncate(text.floor_char_boundary(LONGEST_HEADING));
        while self.path.last().is_some_and(|(above, _)| *above >= level) {
            self.path.pop();
        }
        if text.is_empty() {
            return;
        }
        if self.outline.title.is_none() && level == 1 {
            self.outline.title = Some(text.clone());
        }
        self.path.push((level, text));
        self.open();
    }

    fn block(&mut self, kind: BlockKind, text: &str) {
        let text = match kind {
            BlockKind::Prose => text.trim(),
            BlockKind::Code => text.trim_matches('\n').trim_end(),
        };
        if text.trim().is_empty() {
            return;
        }
        let unchanged = self.outline.sections.last().is_some_and(|section| {
            section
                .headings
                .iter()
                .eq(self.path.iter().map(|(_, text)| text))
        });
        if !unchanged {
            self.open();
        }
        if let Some(section) = self.outline.sections.last_mut() {
            section.blocks.push(Block {
                text: text.to_owned(),
                kind,
            });
        }
    }

    fn open(&mut self) {
        let headings = self.path.iter().map(|(_, text)| text.clone()).collect();
        self.outline.sections.push(Section {
            headings,
            blocks: Vec::new(),
        });
    }

    fn finish(mut self) -> Outline {
        // A heading without text of its own lives on in the paths of those below it.
        let sections = &mut self.outline.sections;
        if sections.iter().any(|section| !section.blocks.is_empty()) {
            sections.retain(|section| !section.blocks.is_empty());
        }
        self.outline
    }
}
