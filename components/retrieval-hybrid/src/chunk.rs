//! From an outline to chunks: passages of a size that reads well and ranks well, each with an anchor.

use crate::read::{Block, BlockKind, Outline, Section};
use std::collections::HashMap;

/// Part of every content hash: with other chunks from the same text this number must change, so that documents are read anew.
pub(crate) const VERSION: u32 = 1;

/// A section up to this many bytes (some 650 words) is one passage: splitting an abstract or a how-to takes the words of a question
/// apart and only costs rank.
const WHOLE: usize = 4000;

/// About the size of the pieces of a longer section.
const PIECE: usize = 2000;

/// Code is cut only beyond this.
const WHOLE_CODE: usize = 8000;

/// Bytes of the heading part of an anchor.
const LONGEST_SLUG: usize = 240;

/// A passage of a document.
#[derive(Debug, Clone, PartialEq)]
pub struct Chunk {
    /// `heading-path#n`, the headings as slugs joined by `/` and n counting from 1 under the same path: an edit elsewhere in the
    /// document leaves it alone.
    pub anchor: String,
    pub headings: Vec<String>,
    pub text: String,
}

/// `title` is left out of the heading paths: it stands beside them already.
pub(crate) fn chunks(title: &str, outline: Outline) -> Vec<Chunk> {
    let mut chunks = Vec::new();
    let mut counts: HashMap<String, usize> = HashMap::new();
    for Section {
        mut headings,
        blocks,
    } in outline.sections
    {
        if headings
            .first()
            .is_some_and(|first| first.eq_ignore_ascii_case(title))
        {
            headings.remove(0);
        }
        let slug = slug(&headings);
        let count = counts.entry(slug.clone()).or_default();
        for text in pieces(blocks) {
            *count += 1;
            chunks.push(Chunk {
                anchor: format!("{slug}#{count}"),
                headings: headings.clone(),
                text,
            });
        }
    }
    chunks
}

fn pieces(blocks: Vec<Block>) -> Vec<String> {
    let total: usize = blocks.iter().map(|block| block.text.len() + 2).sum();
    if total <= WHOLE {
        let text: Vec<_> = blocks.into_iter().map(|block| block.text).collect();
        return if text.is_empty() {
            Vec::new()
        } else {
            vec![text.join("\n\n")]
        };
    }
    // Pieces of equal size: a short rest would rank too high, because BM25 favours short texts.
    let size = total.div_ceil(total.div_ceil(PIECE));
    let mut pieces: Vec<String> = Vec::new();
    let mut piece = String::new();
    for block in blocks {
        let whole = match block.kind {
            BlockKind::Code => WHOLE_CODE,
            BlockKind::Prose => WHOLE,
        };
        let longest = if block.text.len() <= whole {
            whole
        } else {
            size + size / 4
        };
        let mut rest = block.text.as_str();
        while !rest.is_empty() {
            let part = if rest.len() <= longest {
                rest
            } else {
                &rest[..cut(rest, size, block.kind)]
            };
            rest = rest[part.len()..].trim_start_matches([' ', '\n']);
            let part = part.trim_end();
            if !piece.is_empty() && piece.len() + part.len() > size + size / 4 {
                pieces.push(std::mem::take(&mut piece));
            }
            if !piece.is_empty() {
                piece.push_str("\n\n");
            }
            piece.push_str(part);
        }
    }
    pieces.extend(Some(piece).filter(|piece| !piece.is_empty()));
    pieces
}

/// Where to cut `text`, at most at `size`: after a line of code, after a sentence, at a space, between characters.
fn cut(text: &str, size: usize, kind: BlockKind) -> usize {
    let window = &text[..text.floor_char_boundary(size)];
    // A cut in the first half would leave crumbs.
    let late = |place: &usize| *place > window.len() / 2;
    let line = || window.rfind('\n').filter(late);
    let sentence = || {
        let ends = [". ", "! ", "? ", ".\n", "。"]
            .iter()
            .filter_map(|end| Some(window.rfind(end)? + end.len()));
        ends.max().filter(late)
    };
    let natural = if kind == BlockKind::Code {
        line()
    } else {
        sentence().or_else(line)
    };
    natural
        .or_else(|| window.rfind(char::is_whitespace).filter(late))
        .unwrap_or(window.len())
        .max(1)
}

fn slug(headings: &[String]) -> String {
    let mut slug = String::new();
    for heading in headings {
        let mut part = String::new();
        for c in heading.chars().flat_map(char::to_lowercase) {
            if c.is_alphanumeric() {
                part.push(c);
            } else if !part.is_empty() && !part.ends_with('-') {
                part.push('-');
            }
        }
        let part = part.trim_end_matches('-');
        if !part.is_empty() {
            if !slug.is_empty() {
                slug.push('/');
            }
            slug.push_str(part);
        }
    }
    slug.truncate(slug.floor_char_boundary(LONGEST_SLUG));
    slug
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{MediaType, read};
    use proptest::prelude::*;

    fn cut_up(media_type: MediaType, text: &str) -> Vec<Chunk> {
        chunks("Title", read::read(media_type, text))
    }

    /// Each chunk as `anchor: text`, line breaks shown as `/`.
    fn check(media_type: MediaType, text: &str, expected: &[&str]) {
        let shown: Vec<_> = cut_up(media_type, text)
            .into_iter()
            .map(|chunk| format!("{}: {}", chunk.anchor, chunk.text.replace('\n', "/")))
            .collect();
        assert_eq!(shown, expected, "{text:?}");
    }

    #[test]
    fn markdown_sections_become_chunks() {
        check(
            MediaType::Markdown,
            "---\nkey: hidden\n---\n# Title\nIntro with a [link](http://x) and `code`.\n\n## Set up\nFirst.\n\n```sh\nmake\n\nmake test\n```\n### On Linux\nDo:\n\n1. one\n2. two\n\n## Set up\nAgain.\n",
            &[
                "#1: Intro with a link and `code`.",
                "set-up#1: First.//make//make test",
                "set-up/on-linux#1: Do:/1. one/2. two",
                "set-up#2: Again.",
            ],
        );
        check(
            MediaType::Markdown,
            "| a | b |\n|---|---|\n| 1 | 2 |\n\n<b>bold</b> <script>x</script>\n\n<div>\nin <i>html</i>\n</div>\n",
            &["#1: a | b |/1 | 2 |//bold x//in html"],
        );
        check(
            MediaType::Markdown,
            "# C++\na\n# C\nb\n# \u{1F600}\nc",
            &["c#1: a", "c#2: b", "#1: c"],
        );
    }

    #[test]
    fn html_shows_what_a_reader_sees() {
        check(
            MediaType::Html,
            "<!doctype html><title>T &amp; U</title><style>p{}</style><h1>Top</h1><p>One&nbsp;two <b>th</b>ree<script>if (a<b) {}</script></p>\
             <ul><li>x<li>y</ul><h2>Code</h2><pre>a\n  b</pre><table><tr><td>1<td>2</tr></table>",
            &["top#1: One two three//- x/- y", "top/code#1: a/  b//12"],
        );
        check(
            MediaType::Html,
            "<p>unclosed <div>a < b &copy; <svg><p>hidden</svg>seen",
            &["#1: unclosed//a < b © seen"],
        );
    }

    #[test]
    fn plain_text_is_one_chunk_up_to_a_limit() {
        check(
            MediaType::Plain,
            "one\r\n\r\n  two\0\u{1b}[1m",
            &["#1: one//two  [1m"],
        );
        assert_eq!(cut_up(MediaType::Plain, &"word ".repeat(780)).len(), 1);
        let long = cut_up(MediaType::Plain, &"A sentence of words. ".repeat(1000));
        assert!(
            long.len() > 5
                && long
                    .iter()
                    .all(|chunk| chunk.text.ends_with('.') && chunk.text.len() <= WHOLE)
        );
        let sizes: Vec<_> = long.iter().map(|chunk| chunk.text.len()).collect();
        assert!(
            sizes.iter().max() < sizes.iter().min().map(|least| least * 2).as_ref(),
            "{sizes:?}"
        );
    }

    #[test]
    fn code_stays_whole_where_it_can() {
        let listing = "let x = 1;\n".repeat(500);
        let text = format!("{}\n\n```\n{listing}```\n", "Words before. ".repeat(100));
        assert!(
            cut_up(MediaType::Markdown, &text)
                .iter()
                .any(|chunk| chunk.text.contains(listing.trim_end()))
        );
        let long = cut_up(
            MediaType::Markdown,
            &format!("```\n{}```\n", "let x = 1;\n".repeat(5000)),
        );
        assert!(
            long.len() > 1
                && long
                    .iter()
                    .all(|chunk| chunk.text.ends_with(';') && chunk.text.len() <= WHOLE_CODE)
        );
    }

    #[test]
    fn an_edit_elsewhere_leaves_anchors_alone() {
        let before = cut_up(MediaType::Markdown, "# A\nalpha\n# B\nbeta\n# C\ngamma");
        let after = cut_up(
            MediaType::Markdown,
            "# A\nalpha rewritten\n## A2\nnew\n# B\nbeta\n# C\ngamma",
        );
        for chunk in &before[1..] {
            assert!(after.contains(chunk), "{chunk:?}");
        }
    }

    #[test]
    fn hostile_documents_give_bounded_chunks() {
        let heading = format!("# {}\ntext", "x".repeat(100_000));
        let nested: String = (0..2000)
            .map(|level| format!("{} h{level}\n", "#".repeat(level % 6 + 1)))
            .collect();
        for text in [
            heading.as_str(),
            &format!("{nested}\nend"),
            &format!("{} deep", ">".repeat(5_000)),
            &"[".repeat(20_000),
            &"<div>".repeat(100_000),
            &"<script>".repeat(10_000),
            &"a".repeat(1_000_000),
            &"\u{1F600}".repeat(100_000),
            &"```\n".repeat(10_001),
            &format!("{}x", "- ".repeat(3_000)),
            &"| a ".repeat(20_000),
            "&#x110000; &#0; <p \0=\"",
            "",
            " \n\t\u{feff}",
        ] {
            for media_type in [MediaType::Plain, MediaType::Markdown, MediaType::Html] {
                for chunk in cut_up(media_type, text) {
                    assert!(
                        chunk.text.len() <= 2 * WHOLE_CODE
                            && chunk.anchor.len() <= LONGEST_SLUG + 20
                    );
                    assert!(
                        chunk.headings.len() <= 6
                            && chunk.headings.iter().all(|heading| heading.len() <= 300)
                    );
                }
            }
        }
    }

    proptest! {
        #[test]
        fn any_text_gives_unique_anchors_and_no_control_characters(text in "(?s).{0,400}|([#>|<p*`\\-] ?|\n|<h[12]>|[a-z]{1,3}){0,200}", kind in 0..3usize) {
            let media_type = [MediaType::Plain, MediaType::Markdown, MediaType::Html][kind];
            let chunks = cut_up(media_type, &text);
            let mut anchors: Vec<_> = chunks.iter().map(|chunk| &chunk.anchor).collect();
            anchors.sort();
            anchors.dedup();
            prop_assert_eq!(anchors.len(), chunks.len());
            prop_assert!(chunks.iter().all(|chunk| !chunk.text.trim().is_empty() && !chunk.text.contains('\0')));
        }
    }
}
