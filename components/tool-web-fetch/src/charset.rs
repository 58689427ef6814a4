//! Bytes to text: UTF-8, and the Latin-1 family as browsers read it.

/// The text, or the name of a charset that is not known here. `declared` is what the server said.
///
/// # Errors
/// The charset's name.
pub fn decode(bytes: &[u8], declared: Option<&str>) -> Result<String, String> {
    if let Some(rest) = bytes.strip_prefix(b"\xEF\xBB\xBF") {
        return Ok(String::from_utf8_lossy(rest).into_owned());
    }
    let charset = declared
        .map(str::to_owned)
        .or_else(|| in_document(bytes))
        .unwrap_or_else(|| "utf-8".to_owned());
    match charset.trim().to_ascii_lowercase().as_str() {
        "utf-8" | "utf8" | "us-ascii" | "ascii" => Ok(String::from_utf8_lossy(bytes).into_owned()),
        "iso-8859-1" | "latin1" | "latin-1" | "windows-1252" | "cp1252" | "iso-8859-15" => {
            Ok(bytes.iter().map(|byte| windows_1252(*byte)).collect())
        }
        other => Err(other.chars().take(40).collect()),
    }
}

/// What the document says of itself (`<meta charset=…>`, `<?xml … encoding=…>`) in its first KiB.
fn in_document(bytes: &[u8]) -> Option<String> {
    let head = String::from_utf8_lossy(&bytes[..bytes.len().min(1024)]).to_ascii_lowercase();
    let after = |key: &str| head.find(key).map(|start| &head[start + key.len()..]);
    let value = after("charset=").or_else(|| after("encoding="))?;
    let value = value.trim_start_matches(['"', '\'', ' ']);
    let end = value
        .find(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '-' | '_'))
        .unwrap_or(value.len());
    (end > 0).then(|| value[..end].to_owned())
}

/// WHATWG's reading of Latin-1: the control characters 0x80 to 0x9f are typography.
fn windows_1252(byte: u8) -> char {
    const TYPOGRAPHY: [char; 32] = [
        '€', '\u{81}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{8d}', 'Ž',
        '\u{8f}', '\u{90}', '‘', '’', '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\u{9d}',
        'ž', 'Ÿ',
    ];
    match byte {
        0x80..=0x9f => TYPOGRAPHY[usize::from(byte - 0x80)],
        byte => char::from(byte),
    }
}

#[cfg(test)]
mod tests {
    use super::decode;

    #[test]
    fn charsets() {
        assert_eq!(decode("Grüße €".as_bytes(), None).unwrap(), "Grüße €");
        assert_eq!(
            decode(b"Gr\xfc\xdfe \x80", Some("ISO-8859-1")).unwrap(),
            "Grüße €"
        );
        assert_eq!(
            decode(b"<meta charset='windows-1252'>\xfc", None).unwrap(),
            "<meta charset='windows-1252'>ü"
        );
        assert_eq!(
            decode(
                b"<meta http-equiv=x content=\"text/html; charset=latin1\">\xfc",
                None
            )
            .unwrap()
            .chars()
            .last(),
            Some('ü')
        );
        assert_eq!(decode(b"\xEF\xBB\xBFx", Some("latin1")).unwrap(), "x");
        assert_eq!(decode(b"a\xffb", None).unwrap(), "a\u{fffd}b");
        assert_eq!(decode(b"x", Some("Shift_JIS")), Err("shift_jis".to_owned()));
        assert_eq!(decode(b"", None).unwrap(), "");
    }
}
