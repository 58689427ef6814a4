//! Readable text out of HTML: title, headings, paragraphs, lists, tables, preformatted text, links.
//!
//! One pass over the tokens, no tree: a page's structure matters here only as far as it separates text. What a reader of the page
//! does not see (scripts, styles, hidden elements) is left out, for it is where instructions to models are hidden.

use html5gum::{Token, Tokenizer, emitters::default::DefaultEmitter};
use url::Url;

/// What can be read on a page.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    pub title: String,
    /// Paragraphs separated by an empty line; headings start with `#`, list items with `-`.
    pub text: String,
    /// Text and absolute address, in the order of the page, each address once.
    pub links: Vec<(String, Url)>,
}

/// The most links that are kept.
const MOST_LINKS: usize = 30;
/// Below this many bytes a `<main>` or `<article>` is not taken for the page's content.
const LEAST_MAIN: usize = 200;

/// Reads a page that was found at `base`.
#[must_use]
pub fn readable(html: &str, base: &Url) -> Page {
    let page = Reader::read(html, base, Surroundings::Skip);
    // A page that is all surroundings, or forgets to close one: better everything than nothing.
    if page.text.is_empty() {
        Reader::read(html, base, Surroundings::Keep)
    } else {
        page
    }
}

/// Navigation, footers and asides.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Surroundings {
    Skip,
    Keep,
}

struct Block {
    text: String,
    in_main: bool,
}

struct Reader<'a> {
    base: &'a Url,
    surroundings: Surroundings,
    title: String,
    in_title: bool,
    blocks: Vec<Block>,
    links: Vec<(String, Url, bool)>,
    /// The text of the block under way, and what stands before it.
    line: String,
    prefix: &'static str,
    /// How many `<main>` and `<article>` are open.
    main: usize,
    preformatted: usize,
    /// The element that is left out with all its content, and how many of its name are open.
    skipped: Option<(Vec<u8>, usize)>,
    /// Where the text of the open link begins in `line`, and where it leads.
    link: Option<(usize, Url)>,
}

impl<'a> Reader<'a> {
    fn read(html: &str, base: &'a Url, surroundings: Surroundings) -> Page {
        let mut emitter = DefaultEmitter::<()>::default();
        // Scripts, styles and titles end at their end tag and hold no tags.
        emitter.naively_switch_states(true);
        let mut reader = Self {
            base,
            surroundings,
            title: String::new(),
            in_title: false,
            blocks: Vec::new(),
            links: Vec::new(),
            line: String::new(),
            prefix: "",
            main: 0,
            preformatted: 0,
            skipped: None,
            link: None,
        };
        for Ok(token) in Tokenizer::new_with_emitter(html, emitter) {
            match token {
                Token::StartTag(tag) => {
                    let attribute = |name: &[u8]| {
                        tag.attributes
                            .iter()
                            .find(|(key, _)| key.as_slice() == name)
                            .map(|(_, value)| String::from_utf8_lossy(value).into_owned())
                    };
                    reader.open(&tag.name, tag.self_closing, attribute);
                }
                Token::EndTag(tag) => reader.close(&tag.name),
                Token::String(text) => reader.text(&String::from_utf8_lossy(&text)),
                _ => {}
            }
        }
        reader.finish()
    }

    fn open(
        &mut self,
        name: &[u8],
        self_closing: bool,
        attribute: impl Fn(&[u8]) -> Option<String>,
    ) {
        if let Some((skipped, depth)) = &mut self.skipped {
            *depth += usize::from(skipped == name && !self_closing);
            return;
        }
        if self.is_left_out(name, &attribute) {
            if !self_closing && !is_void(name) {
                self.skipped = Some((name.to_vec(), 1));
            }
            return;
        }
        match name {
            b"title" => self.in_title = self.title.is_empty(),
            b"br" if !self.line.is_empty() => self.line.push('\n'),
            b"a" => {
                self.end_link();
                let target = attribute(b"href").and_then(|href| self.base.join(href.trim()).ok());
                let target = target.filter(|url| matches!(url.scheme(), "http" | "https"));
                self.link = target.map(|url| (self.line.len(), url));
            }
            b"img" => {
                if let Some(alt) = attribute(b"alt").filter(|alt| !alt.trim().is_empty()) {
                    self.text(&format!("[image: {}]", alt.trim()));
                }
            }
            b"td" | b"th" if !self.line.is_empty() => self.line.push_str(" | "),
            b"pre" => {
                self.flush();
                self.preformatted += 1;
            }
            b"main" | b"article" => {
                self.flush();
                self.main += 1;
            }
            _ if is_block(name) => {
                self.flush();
                self.prefix = match name {
                    b"h1" => "# ",
                    b"h2" => "## ",
                    b"h3" => "### ",
                    b"h4" | b"h5" | b"h6" => "#### ",
                    b"li" => "- ",
                    _ => "",
                };
            }
            _ => {}
        }
    }

    fn is_left_out(&self, name: &[u8], attribute: &impl Fn(&[u8]) -> Option<String>) -> bool {
        let hidden = || {
            let style = attribute(b"style")
                .unwrap_or_default()
                .replace(' ', "")
                .to_ascii_lowercase();
            attribute(b"hidden").is_some()
                || attribute(b"aria-hidden").is_some_and(|value| value == "true")
                || style.contains("display:none")
                || style.contains("visibility:hidden")
        };
        match name {
            b"script" | b"style" | b"noscript" | b"template" | b"svg" | b"math" | b"iframe"
            | b"object" | b"select" | b"textarea" | b"button" | b"canvas" | b"audio" | b"video" => {
                true
            }
            b"nav" | b"footer" | b"aside" => self.surroundings == Surroundings::Skip,
            // A page is made visible by scripts often enough.
            b"html" | b"body" => false,
            _ => hidden(),
        }
    }

    fn close(&mut self, name: &[u8]) {
        if let Some((skipped, depth)) = &mut self.skipped {
            if skipped == name {
                *depth -= 1;
                if *depth == 0 {
                    self.skipped = None;
                }
            }
            return;
        }
        match name {
            b"title" => self.in_title = false,
            b"a" => self.end_link(),
            b"pre" => {
                self.flush();
                self.preformatted = self.preformatted.saturating_sub(1);
            }
            b"main" | b"article" => {
                self.flush();
                self.main = self.main.saturating_sub(1);
            }
            _ if is_block(name) => self.flush(),
            _ => {}
        }
    }

    fn text(&mut self, text: &str) {
        if self.skipped.is_some() {
            return;
        }
        if self.in_title {
            push_collapsed(&mut self.title, text);
        } else if self.preformatted > 0 {
            self.line.push_str(text);
        } else {
            push_collapsed(&mut self.line, text);
        }
    }

    fn end_link(&mut self) {
        let Some((start, url)) = self.link.take() else {
            return;
        };
        let text = self.line.get(start..).unwrap_or_default().trim();
        let known = self.links.len() >= MOST_LINKS * 4
            || self.links.iter().any(|(_, other, _)| *other == url);
        if !text.is_empty() && !known {
            let text = text.replace('\n', " ");
            self.links.push((text, url, self.main > 0));
        }
    }

    /// Ends the block under way.
    fn flush(&mut self) {
        self.end_link();
        let line = std::mem::take(&mut self.line);
        let text = if self.preformatted > 0 {
            line.trim_matches('\n').trim_end()
        } else {
            line.trim()
        };
        if !text.trim().is_empty() {
            let text = format!("{}{text}", self.prefix);
            self.blocks.push(Block {
                text,
                in_main: self.main > 0,
            });
        }
        self.prefix = "";
    }

    fn finish(mut self) -> Page {
        self.flush();
        let main: usize = self
            .blocks
            .iter()
            .filter(|block| block.in_main)
            .map(|block| block.text.len())
            .sum();
        let only_main = main >= LEAST_MAIN;
        let mut text = String::new();
        for block in self
            .blocks
            .iter()
            .filter(|block| block.in_main || !only_main)
        {
            if !text.is_empty() {
                // Items of a list stand together.
                text.push_str(if block.text.starts_with("- ") {
                    "\n"
                } else {
                    "\n\n"
                });
            }
            text.push_str(&block.text);
        }
        let links = self
            .links
            .into_iter()
            .filter(|(_, _, in_main)| *in_main || !only_main);
        let links = links
            .map(|(text, url, _)| (text, url))
            .take(MOST_LINKS)
            .collect();
        Page {
            title: self.title.trim().to_owned(),
            text,
            links,
        }
    }
}

/// Appends with runs of white space made one space; none at the beginning of a line.
fn push_collapsed(line: &mut String, text: &str) {
    for c in text.chars() {
        if !c.is_whitespace() {
            line.push(c);
        } else if !line.is_empty() && !line.ends_with([' ', '\n']) {
            line.push(' ');
        }
    }
}

fn is_void(name: &[u8]) -> bool {
    matches!(
        name,
        b"area"
            | b"base"
            | b"br"
            | b"col"
            | b"embed"
            | b"hr"
            | b"img"
            | b"input"
            | b"link"
            | b"meta"
            | b"source"
            | b"track"
            | b"wbr"
    )
}

/// Elements before and after which a line ends.
fn is_block(name: &[u8]) -> bool {
    matches!(
        name,
        b"address"
            | b"blockquote"
            | b"body"
            | b"caption"
            | b"center"
            | b"dd"
            | b"details"
            | b"dialog"
            | b"div"
            | b"dl"
            | b"dt"
            | b"fieldset"
            | b"figcaption"
            | b"figure"
            | b"footer"
            | b"form"
            | b"h1"
            | b"h2"
            | b"h3"
            | b"h4"
            | b"h5"
            | b"h6"
            | b"head"
            | b"header"
            | b"hgroup"
            | b"hr"
            | b"html"
            | b"li"
            | b"nav"
            | b"aside"
            | b"ol"
            | b"p"
            | b"section"
            | b"summary"
            | b"table"
            | b"tbody"
            | b"tfoot"
            | b"thead"
            | b"tr"
            | b"ul"
    )
}
