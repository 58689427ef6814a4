//! Numbers with a form of their own: payment cards, social security numbers, telephone numbers.
//!
//! A *span* is a run of digit groups with short separators. Cards prove themselves by their checksum, social security
//! numbers by their groups; a telephone number has neither, so its shape has to be one that nothing else has, or a word
//! nearby has to say what it is. Dates, versions, amounts and identifiers look alike and are let go.

use super::context::is_phone_word;
use super::{Candidate, Context};
use crate::category;
use crate::fold::is_word_byte;

/// Groups of one span that are looked at together: a card written digit by digit has 19.
const MAX_GROUPS: usize = 19;

#[derive(Clone, Copy, Debug)]
struct Group {
    start: usize,
    end: usize,
}

impl Group {
    fn len(self) -> usize {
        self.end - self.start
    }
}

/// One run of digit groups.
struct Span<'a> {
    text: &'a [u8],
    groups: &'a [Group],
    /// Where an extension (`x123`) after the last group ends.
    extension_end: Option<usize>,
}

pub(crate) fn scan(text: &[u8], context: &Context, lookahead: &[u8], found: &mut Vec<Candidate>) {
    let mut groups = Vec::with_capacity(8);
    let mut at = 0;
    while at < text.len() {
        if !text[at].is_ascii_digit() {
            at += 1;
            continue;
        }
        groups.clear();
        let end = read_groups(text, at, &mut groups);
        let span = Span {
            text,
            groups: &groups,
            extension_end: extension(text, end),
        };
        let whole = span.boundary_is_clean();
        let after = next_word(text, span.extension_end.unwrap_or(end), lookahead);
        judge(&span, whole, context, after, found);
        at = span.extension_end.unwrap_or(end).max(at + 1);
    }
}

/// Reads groups from `at`; answers the end of the last.
fn read_groups(text: &[u8], mut at: usize, groups: &mut Vec<Group>) -> usize {
    loop {
        let start = at;
        while at < text.len() && text[at].is_ascii_digit() {
            at += 1;
        }
        groups.push(Group { start, end: at });
        let separators = text[at..]
            .iter()
            .take(4)
            .take_while(|byte| matches!(byte, b' ' | b'-' | b'.' | b'(' | b')' | b'/'))
            .count();
        if separators == 0
            || separators > 3
            || !text.get(at + separators).is_some_and(u8::is_ascii_digit)
        {
            return at;
        }
        at += separators;
    }
}

/// The end of an extension like `x123`, ` ext. 12` or `#7` after a number.
fn extension(text: &[u8], end: usize) -> Option<usize> {
    let rest = &text[end..];
    let spaces = rest
        .iter()
        .take(2)
        .take_while(|byte| matches!(byte, b' ' | b','))
        .count();
    let rest = &rest[spaces..];
    let name = [&b"extension"[..], b"ext", b"x", b"#"]
        .into_iter()
        .find(|name| rest.len() > name.len() && rest[..name.len()].eq_ignore_ascii_case(name))?;
    let rest = &rest[name.len()..];
    let gap = rest
        .iter()
        .take(3)
        .take_while(|byte| matches!(byte, b' ' | b'.' | b':'))
        .count();
    let digits = rest[gap..]
        .iter()
        .take(7)
        .take_while(|byte| byte.is_ascii_digit())
        .count();
    let closed = !rest.get(gap + digits).copied().is_some_and(is_word_byte);
    ((1..=6).contains(&digits) && closed).then_some(end + spaces + name.len() + gap + digits)
}

/// The word after a number, in the clause or as far as the next clause is known.
fn next_word<'a>(text: &'a [u8], end: usize, lookahead: &'a [u8]) -> &'a [u8] {
    let rest = &text[end..];
    let skip = rest.iter().take_while(|byte| !is_word_byte(**byte)).count();
    let rest = if skip < rest.len() {
        &rest[skip..]
    } else {
        lookahead
    };
    let length = rest
        .iter()
        .take(15)
        .take_while(|byte| byte.is_ascii_alphabetic())
        .count();
    &rest[..length]
}

fn judge(
    span: &Span<'_>,
    whole: bool,
    context: &Context,
    after: &[u8],
    found: &mut Vec<Candidate>,
) {
    let n = span.groups.len();
    let near_phone = context.near_phone()
        || is_phone_word(after)
        || context.near_number() && !context.near_other_number();
    let mut first = 0;
    while first < n {
        let Some((used, candidate)) = longest(span, first, whole, near_phone, context) else {
            first += 1;
            continue;
        };
        found.push(candidate);
        first += used;
    }
}

/// The longest number that starts at group `first`, and how many groups it has.
fn longest(
    span: &Span<'_>,
    first: usize,
    whole: bool,
    near_phone: bool,
    context: &Context,
) -> Option<(usize, Candidate)> {
    let groups = span.groups;
    for last in (first..groups.len().min(first + MAX_GROUPS)).rev() {
        let part = &groups[first..=last];
        let is_all = first == 0 && last + 1 == groups.len();
        let clean =
            (first > 0 || span.starts_clean()) && (last + 1 < groups.len() || span.ends_clean());
        let (start, end) = (part[0].start, part[part.len() - 1].end);
        if span.is_apart(start, end) && !span.is_fraction(start) && is_card(span.text, part, is_all)
        {
            return Some((
                part.len(),
                Candidate::new(start, end, category::CREDIT_CARD, 80),
            ));
        }
        if span.is_apart(start, end) && is_ssn(span, part, is_all, context) {
            return Some((part.len(), Candidate::new(start, end, category::US_SSN, 70)));
        }
        if part.len() <= 8 {
            let is_last = last + 1 == groups.len();
            let extended = is_last.then_some(span.extension_end).flatten();
            if let Some(start) = phone(
                span,
                part,
                is_all && whole,
                clean,
                extended.is_some(),
                near_phone,
                context,
            ) {
                return Some((
                    part.len(),
                    Candidate::new(start, extended.unwrap_or(end), category::PHONE, 40),
                ));
            }
        }
    }
    None
}

impl Span<'_> {
    fn starts_clean(&self) -> bool {
        let start = self.groups[0].start;
        let before = start.checked_sub(1).map(|at| self.text[at]);
        let before_that = start.checked_sub(2).map(|at| self.text[at]);
        match before {
            None => true,
            Some(b'.' | b'-' | b'_' | b'/') => {
                !before_that.is_some_and(|byte| is_word_byte(byte) || byte == b'/' || byte == b'.')
            }
            Some(b',') => !before_that.is_some_and(|byte| byte.is_ascii_digit()),
            Some(byte) => !is_word_byte(byte),
        }
    }

    fn ends_clean(&self) -> bool {
        if self.extension_end.is_some() {
            return true;
        }
        let rest = &self.text[self.groups[self.groups.len() - 1].end..];
        match rest.first() {
            Some(b'_' | b'%') => false,
            Some(b',') => !rest.get(1).is_some_and(u8::is_ascii_digit),
            Some(b':' | b'/' | b'-' | b'=') => !rest.get(1).copied().is_some_and(is_word_byte),
            Some(byte) => !is_word_byte(*byte),
            None => true,
        }
    }

    /// No letter, digit or underscore touches this part: enough for numbers that prove themselves.
    fn is_apart(&self, start: usize, end: usize) -> bool {
        let touches = |byte: &u8| is_word_byte(*byte) || *byte == b'_';
        !self.text[..start].last().is_some_and(touches) && !self.text.get(end).is_some_and(touches)
    }

    /// Digits after a decimal point.
    fn is_fraction(&self, start: usize) -> bool {
        matches!(&self.text[..start], [.., b'0'..=b'9', b'.'] | [b'.'])
    }

    fn boundary_is_clean(&self) -> bool {
        self.starts_clean() && self.ends_clean()
    }
}

fn digits<'a>(text: &'a [u8], part: &'a [Group]) -> impl DoubleEndedIterator<Item = u8> + 'a {
    part.iter()
        .flat_map(move |group| text[group.start..group.end].iter().map(|byte| byte - b'0'))
}

fn separator<'a>(text: &'a [u8], part: &[Group], at: usize) -> &'a [u8] {
    &text[part[at].end..part[at + 1].start]
}

fn is_card(text: &[u8], part: &[Group], is_all: bool) -> bool {
    let n_digits: usize = part.iter().map(|group| group.len()).sum();
    if !(12..=19).contains(&n_digits) {
        return false;
    }
    if part.len() > 1 {
        let first = separator(text, part, 0);
        let even = first.len() == 1
            && matches!(first, b" " | b"-" | b".")
            && (1..part.len() - 1).all(|at| separator(text, part, at) == first);
        let blocks = part[..part.len() - 1]
            .iter()
            .all(|group| (4..=6).contains(&group.len()));
        if !even || !(is_all || blocks) {
            return false;
        }
    }
    let mut number = [0; 6];
    number
        .iter_mut()
        .zip(digits(text, part))
        .for_each(|(place, digit)| *place = digit);
    let prefix = number
        .iter()
        .fold(0u32, |prefix, digit| prefix * 10 + u32::from(*digit));
    issuer_allows(prefix, n_digits) && luhn(digits(text, part))
}

/// Does an issuer with this six-digit prefix make numbers of this length?
fn issuer_allows(prefix: u32, n_digits: usize) -> bool {
    let (two, three, four) = (prefix / 10_000, prefix / 1_000, prefix / 100);
    match n_digits {
        12 => {
            matches!(four, 5018 | 5020 | 5038 | 6304 | 6390 | 6759 | 6761..=6763)
                || matches!(two, 56..=58)
        }
        13 => two / 10 == 4 || matches!(four, 5018 | 5020 | 5038 | 6304 | 6759 | 6761..=6763),
        14 => matches!(three, 300..=305 | 309) || matches!(two, 36 | 38 | 39),
        15 => matches!(two, 34 | 37) || matches!(four, 1800 | 2131 | 2014 | 2149),
        16 | 19 | 18 => {
            matches!(two, 40..=49 | 50..=59 | 60..=69 | 35 | 30 | 36 | 38 | 39 | 81)
                || matches!(four, 2200..=2204 | 2221..=2720)
        }
        17 => matches!(two, 50 | 56..=69),
        _ => false,
    }
}

fn luhn(digits: impl DoubleEndedIterator<Item = u8>) -> bool {
    let (mut sum, mut any) = (0u32, 0u8);
    for (place, digit) in digits.rev().enumerate() {
        any |= digit;
        let doubled = u32::from(digit) * if place % 2 == 1 { 2 } else { 1 };
        sum += if doubled > 9 { doubled - 9 } else { doubled };
    }
    sum.is_multiple_of(10) && any != 0
}

fn is_ssn(span: &Span<'_>, part: &[Group], is_all: bool, context: &Context) -> bool {
    let text = span.text;
    let value = |group: Group| {
        text[group.start..group.end]
            .iter()
            .fold(0u32, |value, digit| value * 10 + u32::from(digit - b'0'))
    };
    let (area, group, serial) = match part {
        [area, group, serial] if area.len() == 3 && group.len() == 2 && serial.len() == 4 => {
            let separator = (
                self::separator(text, part, 0),
                self::separator(text, part, 1),
            );
            let known = separator == (b"-", b"-")
                || context.near_ssn() && separator.0 == separator.1 && separator.0.len() == 1;
            if !known {
                return false;
            }
            (value(*area), value(*group), value(*serial))
        }
        [single]
            if single.len() == 9
                && is_all
                && context.near_ssn()
                && !context.near_other_number() =>
        {
            let value = value(*single);
            (value / 1_000_000, value / 10_000 % 100, value % 10_000)
        }
        _ => return false,
    };
    area != 0 && area != 666 && (area < 900 || context.near_ssn()) && group != 0 && serial != 0
}

/// Is this a telephone number? Answers where it starts, with its `+` or `(`.
fn phone(
    span: &Span<'_>,
    part: &[Group],
    is_whole: bool,
    clean: bool,
    extended: bool,
    near_phone: bool,
    context: &Context,
) -> Option<usize> {
    let text = span.text;
    let start = part[0].start;
    let n_digits: usize = part.iter().map(|group| group.len()).sum();
    let before = text[..start].last().copied();
    let plus = match before {
        Some(b'+') => true,
        Some(b'(') => text[..start - 1].ends_with(b"+") || text[..start].ends_with(b"(+"),
        _ => false,
    };
    let paren = before == Some(b'(') && text.get(part[0].end) == Some(&b')') && part.len() > 1
        || (0..part.len().saturating_sub(1)).any(|at| separator(text, part, at).contains(&b'('))
            && plus;
    let lead = match before {
        Some(b'+') if text[..start - 1].ends_with(b"(") && text.get(part[0].end) == Some(&b')') => {
            2
        }
        Some(b'+') => 1,
        Some(b'(') if paren => 1 + usize::from(text[..start - 1].ends_with(b"+")),
        _ => 0,
    };
    let begin = start - lead;
    if lead > 0 {
        let outside = begin.checked_sub(1).map(|at| text[at]);
        if outside.is_some_and(|byte| is_word_byte(byte) || byte == b'$') {
            return None;
        }
    } else if !clean || matches!(before, Some(b'$' | b'#' | b'<' | b'[')) && !near_phone {
        return None;
    }
    if !(7..=15).contains(&n_digits) || is_date(text, part) {
        return None;
    }
    let separators: Vec<&[u8]> = (0..part.len() - 1)
        .map(|at| separator(text, part, at))
        .collect();
    let odd = separators.iter().any(|separator| {
        let body = separator.strip_prefix(b")").unwrap_or(separator);
        !matches!(
            body,
            b"" | b" " | b"-" | b"." | b"/" | b" - " | b"(" | b" (" | b"/ " | b"-(" | b".(" | b")-"
        )
    });
    if odd {
        return None;
    }
    let sizes: Vec<usize> = part.iter().map(|group| group.len()).collect();
    let zero = text[start] == b'0';
    let slash = separators.iter().any(|separator| separator.contains(&b'/'));
    let dotted = separators.iter().any(|separator| separator.contains(&b'.'));
    let one_kind = separators.windows(2).all(|pair| pair[0] == pair[1]);
    let american =
        matches!(sizes[..], [3, 3, 4] | [1, 3, 3, 4]) && (sizes[0] == 3 || text[start] == b'1');
    if plus && n_digits >= 8
        || paren
            && lead > 0
            && sizes[0] >= 2
            && n_digits >= 8
            && sizes[1..].iter().all(|size| *size >= 2)
    {
        return Some(begin);
    }
    if extended && n_digits >= 8
        || american && !slash && (one_kind || !dotted) && !context.near_other_number()
    {
        return Some(begin);
    }
    if !is_whole || context.near_other_number() && !near_phone {
        return None;
    }
    if near_phone {
        let plausible = part.len() > 1
            && sizes.iter().all(|size| *size <= 8)
            && (n_digits >= 8 || sizes.len() <= 3);
        let plain = part.len() == 1 && n_digits <= 13;
        return (plausible || plain || paren).then_some(begin);
    }
    let years = sizes.iter().zip(part).any(|(size, group)| {
        *size == 4 && matches!(&text[group.start..group.start + 2], b"19" | b"20")
    });
    let thousands = sizes.len() > 1 && sizes[0] <= 3 && sizes[1..].iter().all(|size| *size == 3);
    let international =
        text[start..].starts_with(b"00") && n_digits >= 10 && sizes.len() >= 2 && !dotted;
    let national = zero
        && (9..=11).contains(&n_digits)
        && (2..=5).contains(&sizes[0])
        && sizes.len() >= 2
        && !dotted
        && !(slash && years);
    let mixed = sizes.len() >= 3
        && (9..=12).contains(&n_digits)
        && sizes.iter().all(|size| (2..=4).contains(size))
        && sizes.iter().any(|size| *size != sizes[0])
        && !thousands
        && !years
        && !dotted
        && !slash;
    (international || national || mixed || thousands && zero && n_digits == 9).then_some(begin)
}

/// Day, month and year in any usual order, perhaps with more behind.
fn is_date(text: &[u8], part: &[Group]) -> bool {
    let value = |at: usize| {
        text[part[at].start..part[at].end]
            .iter()
            .take(9)
            .fold(0u32, |value, digit| value * 10 + u32::from(digit - b'0'))
    };
    if part.len() < 3 {
        return part.len() == 2
            && part.iter().all(|group| group.len() == 4)
            && (0..2).all(|at| (1500..2200).contains(&value(at)));
    }
    let same = separator(text, part, 0) == separator(text, part, 1);
    let (a, b, c) = (value(0), value(1), value(2));
    let is_year = |value: u32, length: usize| length == 4 && (1500..2200).contains(&value);
    let day_month = |day: u32, month: u32| {
        (1..=31).contains(&day) && (1..=12).contains(&month)
            || (1..=12).contains(&day) && (1..=31).contains(&month)
    };
    same && (is_year(a, part[0].len())
        && part[1].len() <= 2
        && part[2].len() <= 2
        && day_month(c, b)
        || is_year(c, part[2].len()) && part[0].len() <= 2 && part[1].len() <= 2 && day_month(a, b))
}
