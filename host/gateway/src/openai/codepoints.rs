//! UTF-8 byte offsets, which the WIT packages use, to Unicode code points, which HTTP clients count.

/// Converts `(start, end)` byte ranges of `text` in one pass over the text, however many ranges there are. An offset inside a
/// character moves outward to that character's border, one past the end to the end, so that a range never shows less than was meant.
pub(crate) fn from_bytes(text: &str, ranges: &[(u64, u64)]) -> Vec<(usize, usize)> {
    let clamp = |offset: u64| {
        usize::try_from(offset)
            .unwrap_or(usize::MAX)
            .min(text.len())
    };
    let mut offsets: Vec<usize> = ranges
        .iter()
        .flat_map(|&(start, end)| {
            [
                text.floor_char_boundary(clamp(start)),
                text.ceil_char_boundary(clamp(end)),
            ]
        })
        .collect();
    let as_bytes = offsets.clone();
    offsets.sort_unstable();
    offsets.dedup();
    let (mut position, mut points) = (0, 0);
    let counted: Vec<usize> = offsets
        .iter()
        .map(|&offset| {
            points += text[position..offset].chars().count();
            position = offset;
            points
        })
        .collect();
    let points_at = |byte: usize| offsets.binary_search(&byte).map_or(0, |i| counted[i]);
    as_bytes
        .chunks_exact(2)
        .map(|pair| (points_at(pair[0]), points_at(pair[1])))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::from_bytes;

    fn check(text: &str, bytes: (u64, u64), points: (usize, usize)) {
        assert_eq!(from_bytes(text, &[bytes]), [points], "{text:?} {bytes:?}");
    }

    #[test]
    fn counts_code_points_not_bytes_or_utf16() {
        check("abc", (1, 3), (1, 3));
        check("äbc", (2, 3), (1, 2));
        check("🦀 x", (5, 6), (2, 3));
        check("e\u{301}x", (3, 4), (2, 3));
        check("", (0, 0), (0, 0));
    }

    #[test]
    fn moves_offsets_inside_a_character_outward_and_past_the_end_to_it() {
        check("a🦀b", (2, 3), (1, 2));
        check("ab", (1, 99), (1, 2));
        check("ab", (u64::MAX, u64::MAX), (2, 2));
    }

    #[test]
    fn agrees_with_counting_each_offset_alone() {
        let text = "a\u{200b}ß🦀日本 e\u{301}".repeat(50);
        let boundaries: Vec<usize> = text
            .char_indices()
            .map(|(i, _)| i)
            .chain([text.len()])
            .collect();
        // Out of order on purpose: findings of several detectors need not be sorted.
        let ranges: Vec<(u64, u64)> = boundaries
            .iter()
            .rev()
            .zip(&boundaries)
            .map(|(a, b)| (*a.min(b) as u64, *a.max(b) as u64))
            .collect();
        for (&(start, end), got) in ranges.iter().zip(from_bytes(&text, &ranges)) {
            assert_eq!(
                got,
                (
                    text[..start as usize].chars().count(),
                    text[..end as usize].chars().count()
                )
            );
        }
    }
}
