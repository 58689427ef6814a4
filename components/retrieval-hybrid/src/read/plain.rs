//! Plain text: paragraphs are what blank lines part.

use super::{BlockKind, Outline, Outliner};

pub(super) fn read(text: &str) -> Outline {
    let mut outliner = Outliner::default();
    let mut paragraph = String::new();
    for line in text.lines() {
        if line.trim().is_empty() {
            outliner.block(BlockKind::Prose, &paragraph);
            paragraph.clear();
        } else {
            paragraph.push_str(line.trim_end());
            paragraph.push('\n');
        }
    }
    outliner.block(BlockKind::Prose, &paragraph);
    outliner.finish()
}
