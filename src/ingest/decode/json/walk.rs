//! Walks over JSON texts by their grammar (RFC 8259).
//!
//! Each function takes the place where something should begin and returns the place behind it. A walk that goes wrong
//! ends behind every text, where nothing is found: whoever goes on from there ends there as well and need not ask at each
//! step whether all went well.

use super::Unusable;
use crate::domain::raw_json::Span;

/// Where walks end that met what is not JSON.
const MALFORMED: usize = usize::MAX;

/// Where walks end that met values that nest too deeply.
const TOO_DEEP: usize = usize::MAX - 1;

/// Checks that a walk went well up to `at`, and that nothing follows but white space.
pub(super) fn end(bytes: &[u8], at: usize) -> Result<(), Unusable> {
    match after_space(bytes, at) {
        at if at == bytes.len() => Ok(()),
        TOO_DEEP => Err(Unusable::TooDeep),
        _ => Err(Unusable::Malformed),
    }
}

/// Walks over a value in which arrays and objects may nest `depth_left` deep. Calls itself as often at most.
#[inline(always)]
#[expect(
    clippy::inline_always,
    reason = "most values are short: a call costs as much as they do"
)]
pub(super) fn value(bytes: &[u8], at: usize, depth_left: usize) -> usize {
    let Some(word) = word_at(bytes, at) else {
        return value_near_end(bytes, at, depth_left);
    };
    match byte(word, 0) {
        b'"' => short_string(word).map_or_else(|| long_string(bytes, at), |length| at + length),
        b'0'..=b'9' => {
            short_number(word).map_or_else(|| long_number(bytes, at), |length| at + length)
        }
        b'{' | b'[' => nested(bytes, at, depth_left),
        _ => other_value(bytes, at),
    }
}

/// Walks over a value that may be the last few bytes.
#[inline(never)]
fn value_near_end(bytes: &[u8], at: usize, depth_left: usize) -> usize {
    match bytes.get(at) {
        Some(b'"') => long_string(bytes, at),
        Some(b'0'..=b'9') => long_number(bytes, at),
        Some(b'{' | b'[') => nested(bytes, at, depth_left),
        _ => other_value(bytes, at),
    }
}

#[inline(never)]
fn nested(bytes: &[u8], at: usize, depth_left: usize) -> usize {
    match (bytes.get(at), depth_left.checked_sub(1)) {
        (_, None) => TOO_DEEP,
        (Some(b'{'), Some(depth_left)) => object(bytes, at, depth_left, |_| {}),
        (_, Some(depth_left)) => array(bytes, at, depth_left, |_| {}),
    }
}

#[inline(never)]
fn other_value(bytes: &[u8], at: usize) -> usize {
    match bytes.get(at) {
        Some(b'-') => long_number(bytes, at + 1),
        Some(b't') => word(bytes, at, b"true"),
        Some(b'f') => word(bytes, at, b"false"),
        Some(b'n') => word(bytes, at, b"null"),
        _ => lost(bytes, at),
    }
}

/// Walks over an object and tells its values.
#[inline]
pub(super) fn object(
    bytes: &[u8],
    at: usize,
    depth_left: usize,
    mut member: impl FnMut(Span),
) -> usize {
    if bytes.get(at) != Some(&b'{') {
        return lost(bytes, at);
    }
    let mut at = after_space(bytes, at + 1);
    if bytes.get(at) == Some(&b'}') {
        return at + 1;
    }
    loop {
        at = after_space(bytes, string(bytes, at));
        if bytes.get(at) != Some(&b':') {
            return lost(bytes, at);
        }
        let start = after_space(bytes, at + 1);
        let end = value(bytes, start, depth_left);
        member(span(start, end));
        at = after_space(bytes, end);
        match bytes.get(at) {
            Some(b',') => at = after_space(bytes, at + 1),
            _ => return closed(bytes, at, b'}'),
        }
    }
}

/// Walks over an array and tells its elements.
#[inline]
pub(super) fn array(
    bytes: &[u8],
    at: usize,
    depth_left: usize,
    mut element: impl FnMut(Span),
) -> usize {
    if bytes.get(at) != Some(&b'[') {
        return lost(bytes, at);
    }
    let mut at = after_space(bytes, at + 1);
    if bytes.get(at) == Some(&b']') {
        return at + 1;
    }
    loop {
        let end = value(bytes, at, depth_left);
        element(span(at, end));
        at = after_space(bytes, end);
        match bytes.get(at) {
            Some(b',') => at = after_space(bytes, at + 1),
            _ => return closed(bytes, at, b']'),
        }
    }
}

/// Walks over the bracket that ends an object or array, and white space before it.
#[inline]
pub(super) fn closed(bytes: &[u8], at: usize, bracket: u8) -> usize {
    let at = after_space(bytes, at);
    if bytes.get(at) == Some(&bracket) {
        at + 1
    } else {
        lost(bytes, at)
    }
}

/// A part of a text; means nothing after a walk that went wrong.
#[inline]
#[expect(
    clippy::cast_possible_truncation,
    reason = "texts are bounded far below 4 GiB"
)]
pub(super) fn span(start: usize, end: usize) -> Span {
    Span {
        start: start as u32,
        end: end as u32,
    }
}

/// Where a walk ends that does not find at `at` what must be there: where it ended before if it went wrong already.
#[cold]
fn lost(bytes: &[u8], at: usize) -> usize {
    if at > bytes.len() { at } else { MALFORMED }
}

#[inline]
fn after_space(bytes: &[u8], at: usize) -> usize {
    match bytes.get(at) {
        Some(..=b' ') => skip_space(bytes, at),
        _ => at,
    }
}

#[cold]
fn skip_space(bytes: &[u8], mut at: usize) -> usize {
    while let Some(b' ' | b'\t' | b'\n' | b'\r') = bytes.get(at) {
        at += 1;
    }
    at
}

#[inline]
fn string(bytes: &[u8], at: usize) -> usize {
    let short = word_at(bytes, at).and_then(short_string);
    short.map_or_else(|| long_string(bytes, at), |length| at + length)
}

/// How long the string literal is that a word begins with, if it is shorter than the word and has no escapes. Says nothing
/// of others.
#[inline]
fn short_string(word: u64) -> Option<usize> {
    // Another character takes the place of a quote at the beginning.
    let found = not_plain(word ^ u64::from(b'"' ^ b'_'));
    let end = first(found);
    (byte(word, 0) == b'"' && found != 0 && byte(word, end) == b'"').then_some(end + 1)
}

#[inline(never)]
fn long_string(bytes: &[u8], at: usize) -> usize {
    if bytes.get(at) != Some(&b'"') {
        return lost(bytes, at);
    }
    let mut at = at + 1;
    loop {
        at = after_plain(bytes, at);
        match bytes.get(at) {
            Some(b'"') => return at + 1,
            Some(b'\\') => at = escape(bytes, at),
            // A control character, or the end.
            _ => return lost(bytes, at),
        }
    }
}

#[cold]
fn escape(bytes: &[u8], at: usize) -> usize {
    match bytes.get(at + 1) {
        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => at + 2,
        // Half a surrogate pair passes: it is the reader's to make something of it.
        Some(b'u') => match bytes.get(at + 2..at + 6) {
            Some(digits) if digits.iter().all(u8::is_ascii_hexdigit) => at + 6,
            _ => MALFORMED,
        },
        _ => MALFORMED,
    }
}

/// The place of the first byte that is a quote, a backslash or a control character. Eight are looked at at once.
#[inline]
fn after_plain(bytes: &[u8], mut at: usize) -> usize {
    while let Some(word) = word_at(bytes, at) {
        let found = not_plain(word);
        if found != 0 {
            return at + first(found);
        }
        at += 8;
    }
    while let Some(byte) = bytes.get(at)
        && *byte >= b' '
        && *byte != b'"'
        && *byte != b'\\'
    {
        at += 1;
    }
    at
}

/// How long the number is that a word begins with, as nearly all are: without an exponent, and shorter than the word. Says
/// nothing of others. A digit must come first.
#[inline]
fn short_number(word: u64) -> Option<usize> {
    let mut others = not_digits(word);
    let integer = first(others);
    if byte(word, integer) == b'.' {
        others &= others.wrapping_sub(1);
        if first(others) == integer + 1 {
            return None;
        }
    }
    let length = first(others);
    let is_whole = length < 8 && !matches!(byte(word, length), b'e' | b'E');
    let is_plain = integer == 1 || byte(word, 0) != b'0';
    (is_whole && is_plain).then_some(length)
}

/// Walks over a number from its first digit on.
#[inline(never)]
fn long_number(bytes: &[u8], first: usize) -> usize {
    let mut at = digits(bytes, first);
    if bytes.get(first) == Some(&b'0') && at > first + 1 {
        return lost(bytes, at);
    }
    if bytes.get(at) == Some(&b'.') {
        at = digits(bytes, at + 1);
    }
    if let Some(b'e' | b'E') = bytes.get(at) {
        at += 1;
        if let Some(b'+' | b'-') = bytes.get(at) {
            at += 1;
        }
        at = digits(bytes, at);
    }
    at
}

/// At least one.
#[inline]
fn digits(bytes: &[u8], at: usize) -> usize {
    let mut end = at;
    while let Some(word) = word_at(bytes, end) {
        let others = not_digits(word);
        end += first(others);
        if others != 0 {
            return if end > at { end } else { lost(bytes, at) };
        }
    }
    while let Some(b'0'..=b'9') = bytes.get(end) {
        end += 1;
    }
    if end > at { end } else { lost(bytes, at) }
}

#[inline]
fn word<const N: usize>(bytes: &[u8], at: usize, word: &[u8; N]) -> usize {
    if bytes.get(at..).and_then(<[u8]>::first_chunk) == Some(word) {
        at + N
    } else {
        lost(bytes, at)
    }
}

/// Eight bytes of a text, the first one lowest.
#[inline]
fn word_at(bytes: &[u8], at: usize) -> Option<u64> {
    let word = bytes.get(at..at.checked_add(8)?)?;
    word.first_chunk().copied().map(u64::from_le_bytes)
}

/// The same byte in each place of a word.
const fn each(byte: u8) -> u64 {
    u64::from_ne_bytes([byte; 8])
}

/// Marks the highest bit of the bytes that are no digits.
const fn not_digits(word: u64) -> u64 {
    // Digits become 0 to 9, and only what is more gets its highest bit set.
    let digits = word ^ each(b'0');
    (((digits & each(0x7f)) + each(0x80 - 10)) | digits) & each(0x80)
}

/// Marks the highest bit of the bytes that are a quote, a backslash or a control character. A mark above the lowest one
/// may be wrong.
const fn not_plain(word: u64) -> u64 {
    let quotes = (word ^ each(b'"')).wrapping_sub(each(1));
    let backslashes = (word ^ each(b'\\')).wrapping_sub(each(1));
    let controls = word.wrapping_sub(each(b' '));
    (quotes | backslashes | controls) & !word & each(0x80)
}

/// The place of the lowest mark; 8 when there is none.
const fn first(marks: u64) -> usize {
    marks.trailing_zeros() as usize / 8
}

/// The byte at a place of a word; the first one for place 8.
#[inline]
const fn byte(word: u64, place: usize) -> u8 {
    (word >> (place % 8 * 8)).to_le_bytes()[0]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn plain_bytes_end_at_the_first_other_one(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let plain = |byte: &u8| *byte >= 0x20 && *byte != b'"' && *byte != b'\\';
            let expected = bytes.iter().position(|byte| !plain(byte)).unwrap_or(bytes.len());
            prop_assert_eq!(after_plain(&bytes, 0), expected);
        }

        #[test]
        fn digits_end_at_the_first_other_byte(number in "[0-9]{0,30}", behind in prop::collection::vec(any::<u8>(), 0..12)) {
            let bytes = [number.as_bytes(), &behind].concat();
            let expected = bytes.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(bytes.len());
            let expected = if expected == 0 { MALFORMED } else { expected };
            prop_assert_eq!(digits(&bytes, 0), expected);
        }

        #[test]
        fn a_short_number_is_as_long_as_by_the_grammar(number in "[0-9]{1,3}[.]?[0-9]{0,3}[eE]?[0-9]{0,3}", behind in "[,}.e\u{80}-\u{ff}]{8}") {
            let bytes = format!("{number}{behind}").into_bytes();
            let by_grammar = long_number(&bytes, 0);
            if let Some(short) = word_at(&bytes, 0).and_then(short_number) {
                prop_assert_eq!(short, by_grammar);
            }
            prop_assert_eq!(value(&bytes, 0, 0), by_grammar);
        }
    }
}
