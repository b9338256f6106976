//! Takes a JSON text apart at its top level only, as ranges of that text.
//!
//! The text is walked once: checked against the grammar (RFC 8259) and a bound on its depth, because the consumers
//! downstream parse values recursively. Nothing is built for the values. What is accepted is exactly what `serde_json`
//! accepts, which the tests hold it against; walking it with `serde_json` took more than twice as long.

use crate::domain::raw_json::{Span, offset};
use crate::domain::shape::Shape as Keys;

/// Why a text is not JSON that the relay takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unusable {
    /// It is not JSON.
    Malformed,
    /// Its values nest too deeply.
    TooDeep,
}

/// What a JSON text is at its top.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Object,
    Array,
    Scalar,
}

/// Tells the shape of a text from its first character; it may still turn out not to be JSON.
pub(super) fn shape(text: &str) -> Shape {
    match text.trim_ascii_start().as_bytes().first() {
        Some(b'{') => Shape::Object,
        Some(b'[') => Shape::Array,
        _ => Shape::Scalar,
    }
}

/// The members of an object, as they are written; several may have the same key.
#[derive(Debug, Default)]
pub(super) struct Members {
    /// Each key's string literal with its quotes.
    pub(super) keys: Vec<Span>,
    pub(super) values: Vec<Span>,
}

/// Finds the members of the object that `part` of `text` holds, in the order of the text. Returns whether their keys are
/// written as those of `guess`, which costs less to find out than where a key ends.
pub(super) fn members(
    text: &str,
    part: Span,
    depth_max: usize,
    guess: Option<&Keys>,
    members: &mut Members,
) -> Result<bool, Unusable> {
    members.keys.clear();
    members.values.clear();
    let bytes = &text.as_bytes()[..part.end as usize];
    let depth_left = depth_max.checked_sub(1).ok_or(Unusable::TooDeep)?;
    let start = after_space(bytes, part.start as usize);
    let mut expectations = guess.map(Keys::literals);
    let mut as_guessed = guess.is_some();
    let object_end = object(
        bytes,
        start,
        depth_left,
        |at| {
            let expected = expectations.as_mut().and_then(Iterator::next);
            if let Some(literal) = expected.filter(|literal| bytes[at..].starts_with(literal)) {
                return Ok(at + literal.len());
            }
            as_guessed = false;
            string(bytes, at)
        },
        |key, value| {
            members.keys.push(key);
            members.values.push(value);
        },
    )?;
    end(bytes, object_end)?;
    Ok(as_guessed && expectations.is_some_and(|mut rest| rest.next().is_none()))
}

/// Appends the elements of the array that the whole of `text` is.
pub(super) fn elements(
    text: &str,
    depth_max: usize,
    elements: &mut Vec<Span>,
) -> Result<(), Unusable> {
    let bytes = text.as_bytes();
    let depth_left = depth_max.checked_sub(1).ok_or(Unusable::TooDeep)?;
    let start = after_space(bytes, 0);
    let array_end = array(bytes, start, depth_left, |element| elements.push(element))?;
    end(bytes, array_end)
}

/// Checks that the whole of `text` is one JSON value.
pub(super) fn validate(text: &str, depth_max: usize) -> Result<(), Unusable> {
    let bytes = text.as_bytes();
    let value_end = value(bytes, after_space(bytes, 0), depth_max)?;
    end(bytes, value_end)
}

/// The text that a string literal stands for; a literal with half a surrogate pair stands for itself.
pub(super) fn unescape(literal: &str) -> String {
    serde_json::from_str(literal).unwrap_or_else(|_| inner(literal).to_owned())
}

/// A string literal without its quotes.
pub(super) fn inner(literal: &str) -> &str {
    literal
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
        .unwrap_or(literal)
}

/// A text as a JSON string literal.
pub(super) fn literal(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Checks that nothing follows.
fn end(bytes: &[u8], at: usize) -> Result<(), Unusable> {
    (after_space(bytes, at) == bytes.len())
        .then_some(())
        .ok_or(Unusable::Malformed)
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

/// Where something ends that was walked over.
type Walked = Result<usize, Unusable>;

/// Walks over a value in which arrays and objects may nest `depth_left` deep. Calls itself as often at most.
fn value(bytes: &[u8], at: usize, depth_left: usize) -> Walked {
    match bytes.get(at) {
        Some(b'"') => string(bytes, at),
        Some(b'-' | b'0'..=b'9') => number(bytes, at),
        Some(b't') => word(bytes, at, b"true"),
        Some(b'f') => word(bytes, at, b"false"),
        Some(b'n') => word(bytes, at, b"null"),
        Some(b'{') => {
            let depth_left = depth_left.checked_sub(1).ok_or(Unusable::TooDeep)?;
            object(bytes, at, depth_left, |at| string(bytes, at), |_, _| {})
        }
        Some(b'[') => {
            let depth_left = depth_left.checked_sub(1).ok_or(Unusable::TooDeep)?;
            array(bytes, at, depth_left, |_| {})
        }
        _ => Err(Unusable::Malformed),
    }
}

#[inline]
fn object(
    bytes: &[u8],
    at: usize,
    depth_left: usize,
    mut key: impl FnMut(usize) -> Walked,
    mut member: impl FnMut(Span, Span),
) -> Walked {
    if bytes.get(at) != Some(&b'{') {
        return Err(Unusable::Malformed);
    }
    let mut at = after_space(bytes, at + 1);
    if bytes.get(at) == Some(&b'}') {
        return Ok(at + 1);
    }
    loop {
        let key_end = key(at)?;
        let key = span(at, key_end);
        at = after_space(bytes, key_end);
        if bytes.get(at) != Some(&b':') {
            return Err(Unusable::Malformed);
        }
        at = after_space(bytes, at + 1);
        let value_end = value(bytes, at, depth_left)?;
        member(key, span(at, value_end));
        at = after_space(bytes, value_end);
        match bytes.get(at) {
            Some(b',') => at = after_space(bytes, at + 1),
            Some(b'}') => return Ok(at + 1),
            _ => return Err(Unusable::Malformed),
        }
    }
}

#[inline]
fn array(bytes: &[u8], at: usize, depth_left: usize, mut element: impl FnMut(Span)) -> Walked {
    if bytes.get(at) != Some(&b'[') {
        return Err(Unusable::Malformed);
    }
    let mut at = after_space(bytes, at + 1);
    if bytes.get(at) == Some(&b']') {
        return Ok(at + 1);
    }
    loop {
        let value_end = value(bytes, at, depth_left)?;
        element(span(at, value_end));
        at = after_space(bytes, value_end);
        match bytes.get(at) {
            Some(b',') => at = after_space(bytes, at + 1),
            Some(b']') => return Ok(at + 1),
            _ => return Err(Unusable::Malformed),
        }
    }
}

#[inline]
fn span(start: usize, end: usize) -> Span {
    Span {
        start: offset(start),
        end: offset(end),
    }
}

#[inline]
fn string(bytes: &[u8], at: usize) -> Walked {
    if bytes.get(at) != Some(&b'"') {
        return Err(Unusable::Malformed);
    }
    let mut at = at + 1;
    loop {
        at = after_plain(bytes, at);
        match bytes.get(at) {
            Some(b'"') => return Ok(at + 1),
            Some(b'\\') => at = escape(bytes, at)?,
            // A control character, or the end.
            _ => return Err(Unusable::Malformed),
        }
    }
}

#[cold]
fn escape(bytes: &[u8], at: usize) -> Walked {
    match bytes.get(at + 1) {
        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Ok(at + 2),
        // Half a surrogate pair passes: it is the reader's to make something of it.
        Some(b'u') => {
            let digits = bytes.get(at + 2..at + 6);
            let valid = digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit));
            valid.then_some(at + 6).ok_or(Unusable::Malformed)
        }
        _ => Err(Unusable::Malformed),
    }
}

#[inline]
fn number(bytes: &[u8], at: usize) -> Walked {
    let first = at + usize::from(bytes.get(at) == Some(&b'-'));
    let mut at = digits(bytes, first)?;
    if bytes[first] == b'0' && at > first + 1 {
        return Err(Unusable::Malformed);
    }
    if bytes.get(at) == Some(&b'.') {
        at = digits(bytes, at + 1)?;
    }
    if let Some(b'e' | b'E') = bytes.get(at) {
        at += 1;
        if let Some(b'+' | b'-') = bytes.get(at) {
            at += 1;
        }
        at = digits(bytes, at)?;
    }
    Ok(at)
}

/// At least one.
#[inline]
fn digits(bytes: &[u8], at: usize) -> Walked {
    let mut end = at;
    while let Some(word) = word_at(bytes, end) {
        let digits = word ^ each(b'0');
        // Digits are now 0 to 9, and only what is more gets its highest bit set. A mark above the lowest one may be wrong.
        let others = (digits | digits.wrapping_add(each(0x80 - 10))) & each(0x80);
        if others != 0 {
            end += others.trailing_zeros() as usize / 8;
            return if end > at {
                Ok(end)
            } else {
                Err(Unusable::Malformed)
            };
        }
        end += 8;
    }
    while let Some(b'0'..=b'9') = bytes.get(end) {
        end += 1;
    }
    if end > at {
        Ok(end)
    } else {
        Err(Unusable::Malformed)
    }
}

fn word(bytes: &[u8], at: usize, word: &[u8]) -> Walked {
    let matches = bytes[at..].starts_with(word);
    matches
        .then_some(at + word.len())
        .ok_or(Unusable::Malformed)
}

/// The same byte in each place of a word.
const fn each(byte: u8) -> u64 {
    u64::from_ne_bytes([byte; 8])
}

/// Marks the highest bit of the bytes that are less than `limit`, which is at most 128. A mark above the lowest one may be
/// wrong.
const fn less(word: u64, limit: u8) -> u64 {
    word.wrapping_sub(each(limit)) & !word & each(0x80)
}

#[inline]
fn word_at(bytes: &[u8], at: usize) -> Option<u64> {
    let word = bytes.get(at..)?.first_chunk()?;
    Some(u64::from_le_bytes(*word))
}

/// The place of the first byte that is a quote, a backslash or a control character. Eight are looked at at once.
#[inline]
fn after_plain(bytes: &[u8], mut at: usize) -> usize {
    while let Some(word) = word_at(bytes, at) {
        let found = less(word, b' ') | less(word ^ each(b'"'), 1) | less(word ^ each(b'\\'), 1);
        if found != 0 {
            return at + found.trailing_zeros() as usize / 8;
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::Deserializer as _;
    use serde::de::{IgnoredAny, MapAccess, Visitor};
    use serde_json::value::RawValue;

    use super::*;

    /// The members as `serde_json` finds them.
    struct Oracle;

    impl<'de> Visitor<'de> for Oracle {
        type Value = Vec<(&'de str, &'de str)>;

        fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            formatter.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut members = Vec::new();
            while let Some((key, value)) = map.next_entry::<&'de RawValue, &'de RawValue>()? {
                members.push((key.get(), value.get()));
            }
            Ok(members)
        }
    }

    fn by_oracle(text: &str) -> Option<Vec<(&str, &str)>> {
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let members = deserializer.deserialize_map(Oracle).ok()?;
        deserializer.end().ok()?;
        Some(members)
    }

    fn by_walk<'a>(text: &'a str, guess: Option<&Keys>) -> Option<(bool, Vec<(&'a str, &'a str)>)> {
        let mut found = Members::default();
        let as_guessed = members(text, Span::whole(text), 100, guess, &mut found).ok()?;
        let keys = found.keys.iter().map(|key| key.of(text));
        let values = found.values.iter().map(|value| value.of(text));
        Some((as_guessed, keys.zip(values).collect()))
    }

    /// Pieces of JSON texts, and what breaks them.
    fn pieces() -> impl Strategy<Value = String> {
        let piece = prop::sample::select(vec![
            "{",
            "}",
            "[",
            "]",
            ":",
            ",",
            "\"",
            "\\",
            "\"a\"",
            "\"a\":",
            "\"ü\\u00e9\":1,",
            "\\u12",
            "\\ud800",
            "\\n",
            "\u{1}",
            " ",
            "\n",
            "\t",
            "0",
            "1",
            "-",
            "01",
            "1.5",
            ".",
            "e",
            "1e5",
            "1E-7",
            "+",
            "true",
            "false",
            "null",
            "tru",
            "nul",
            "{}",
            "[]",
            "[1,2]",
            "{\"b\":[{}]}",
            "\"long enough for a word of eight\"",
            "é",
            "\u{7f}",
        ]);
        prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        #[test]
        fn what_nearly_is_an_object_is_taken_apart_as_serde_json_does(inner in pieces()) {
            for text in [format!("{{{inner}}}"), format!("{{\"k\":{inner}}}"), format!("{{\"{inner}\":0}}"), inner] {
                let expected = by_oracle(&text);
                let found = by_walk(&text, None);
                prop_assert_eq!(found.as_ref().map(|(_, members)| members), expected.as_ref(), "{}", text);
            }
        }

        #[test]
        fn a_guess_changes_nothing_but_is_told_right(inner in pieces(), other in pieces()) {
            let (text, other) = (format!("{{{inner}}}"), format!("{{{other}}}"));
            let found = by_walk(&text, None);
            for guessed in [&text, &other].into_iter().filter_map(|text| by_walk(text, None)) {
                let keys = || guessed.1.iter().map(|(key, _)| *key);
                let guess = Keys::new(keys().map(|key| (key, None)));
                let by_guess = by_walk(&text, Some(&guess));
                prop_assert_eq!(by_guess.as_ref().map(|found| &found.1), found.as_ref().map(|found| &found.1));
                if let Some((as_guessed, members)) = by_guess {
                    prop_assert_eq!(as_guessed, members.iter().map(|(key, _)| *key).eq(keys()));
                }
            }
        }

        #[test]
        fn what_nearly_is_a_value_is_judged_as_serde_json_does(text in pieces()) {
            let valid = serde_json::from_str::<IgnoredAny>(&text).is_ok();
            prop_assert_eq!(validate(&text, 100).is_ok(), valid, "{}", text);
        }

        #[test]
        fn any_string_is_walked_to_its_end(content in any::<String>()) {
            let text = literal(&content);
            prop_assert_eq!(validate(&text, 0), Ok(()));
            let cut = text.trim_end_matches('"');
            prop_assert_eq!(validate(cut, 0).is_ok(), serde_json::from_str::<IgnoredAny>(cut).is_ok());
        }

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
            prop_assert_eq!(digits(&bytes, 0).unwrap_or(0), expected);
        }
    }

    #[test]
    fn depth_is_bounded() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert_eq!(validate(&nested(3), 3), Ok(()));
        assert_eq!(validate(&nested(4), 3), Err(Unusable::TooDeep));
        assert_eq!(
            validate(&"[".repeat(1_000_000), 120),
            Err(Unusable::TooDeep)
        );
        let object = format!("{{\"a\":{}}}", nested(2));
        let mut found = Members::default();
        let mut find = |depth_max| {
            members(&object, Span::whole(&object), depth_max, None, &mut found).map(drop)
        };
        assert_eq!(find(3), Ok(()));
        assert_eq!(find(2), Err(Unusable::TooDeep));
    }
}
