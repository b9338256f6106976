//! Takes a JSON text apart at its top level only, as ranges of that text.
//!
//! The text is walked once: checked against the grammar (RFC 8259) and a bound on its depth, because the consumers
//! downstream parse values recursively. Nothing is built for the values. What is accepted is exactly what `serde_json`
//! accepts, which the tests hold it against; walking it with `serde_json` took more than twice as long.

use crate::domain::raw_json::{Span, offset};

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

/// One member of an object, as it is written. Others may have the same key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Member {
    /// The key's string literal with its quotes.
    pub(super) key: Span,
    pub(super) value: Span,
}

/// Tells the shape of a text from its first character; it may still turn out not to be JSON.
pub(super) fn shape(text: &str) -> Shape {
    match text.trim_ascii_start().as_bytes().first() {
        Some(b'{') => Shape::Object,
        Some(b'[') => Shape::Array,
        _ => Shape::Scalar,
    }
}

/// Appends the members of the object that `part` of `text` holds, in the order of the text.
pub(super) fn members(
    text: &str,
    part: Span,
    depth_max: usize,
    members: &mut Vec<Member>,
) -> Result<(), Unusable> {
    let mut walk = Walk::of(&text[..part.end as usize], part.start as usize);
    walk.space();
    let depth_left = depth_max.checked_sub(1).ok_or(Unusable::TooDeep)?;
    walk.object(depth_left, |key, value| members.push(Member { key, value }))?;
    walk.end()
}

/// Appends the elements of the array that the whole of `text` is.
pub(super) fn elements(
    text: &str,
    depth_max: usize,
    elements: &mut Vec<Span>,
) -> Result<(), Unusable> {
    let mut walk = Walk::of(text, 0);
    walk.space();
    let depth_left = depth_max.checked_sub(1).ok_or(Unusable::TooDeep)?;
    walk.array(depth_left, |element| elements.push(element))?;
    walk.end()
}

/// Checks that the whole of `text` is one JSON value.
pub(super) fn validate(text: &str, depth_max: usize) -> Result<(), Unusable> {
    let mut walk = Walk::of(text, 0);
    walk.space();
    walk.value(depth_max)?;
    walk.end()
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

/// A place in a text on the way from its beginning to its end.
struct Walk<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Walk<'a> {
    fn of(text: &'a str, at: usize) -> Self {
        let bytes = text.as_bytes();
        Self { bytes, at }
    }

    fn byte(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.byte() {
            self.at += 1;
        }
    }

    fn end(&mut self) -> Result<(), Unusable> {
        self.space();
        self.byte().map_or(Ok(()), |_| Err(Unusable::Malformed))
    }

    fn expect(&mut self, byte: u8) -> Result<(), Unusable> {
        if self.byte() == Some(byte) {
            self.at += 1;
            Ok(())
        } else {
            Err(Unusable::Malformed)
        }
    }

    /// Walks over a value in which arrays and objects may nest `depth_left` deep. Calls itself as often at most.
    fn value(&mut self, depth_left: usize) -> Result<(), Unusable> {
        match self.byte() {
            Some(b'"') => self.string(),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b'{') => {
                let depth_left = depth_left.checked_sub(1).ok_or(Unusable::TooDeep)?;
                self.object(depth_left, |_, _| {})
            }
            Some(b'[') => {
                let depth_left = depth_left.checked_sub(1).ok_or(Unusable::TooDeep)?;
                self.array(depth_left, |_| {})
            }
            Some(b't') => self.word(b"true"),
            Some(b'f') => self.word(b"false"),
            Some(b'n') => self.word(b"null"),
            _ => Err(Unusable::Malformed),
        }
    }

    fn spanned(
        &mut self,
        walk: impl FnOnce(&mut Self) -> Result<(), Unusable>,
    ) -> Result<Span, Unusable> {
        let start = offset(self.at);
        walk(self)?;
        let end = offset(self.at);
        Ok(Span { start, end })
    }

    #[inline]
    fn object(
        &mut self,
        depth_left: usize,
        mut member: impl FnMut(Span, Span),
    ) -> Result<(), Unusable> {
        self.expect(b'{')?;
        self.space();
        if self.byte() == Some(b'}') {
            self.at += 1;
            return Ok(());
        }
        loop {
            let key = self.spanned(Self::string)?;
            self.space();
            self.expect(b':')?;
            self.space();
            let value = self.spanned(|walk| walk.value(depth_left))?;
            member(key, value);
            self.space();
            match self.byte() {
                Some(b',') => self.at += 1,
                Some(b'}') => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return Err(Unusable::Malformed),
            }
            self.space();
        }
    }

    #[inline]
    fn array(&mut self, depth_left: usize, mut element: impl FnMut(Span)) -> Result<(), Unusable> {
        self.expect(b'[')?;
        self.space();
        if self.byte() == Some(b']') {
            self.at += 1;
            return Ok(());
        }
        loop {
            element(self.spanned(|walk| walk.value(depth_left))?);
            self.space();
            match self.byte() {
                Some(b',') => self.at += 1,
                Some(b']') => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return Err(Unusable::Malformed),
            }
            self.space();
        }
    }

    fn string(&mut self) -> Result<(), Unusable> {
        self.expect(b'"')?;
        loop {
            self.at += plain_bytes(&self.bytes[self.at..]);
            match self.byte() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'\\') => self.escape()?,
                // A control character, or the end.
                _ => return Err(Unusable::Malformed),
            }
        }
    }

    fn escape(&mut self) -> Result<(), Unusable> {
        let escape = self.bytes.get(self.at + 1);
        self.at += match escape {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => 2,
            // Half a surrogate pair passes: it is the reader's to make something of it.
            Some(b'u') => {
                let digits = self.bytes.get(self.at + 2..self.at + 6);
                digits
                    .filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))
                    .ok_or(Unusable::Malformed)?;
                6
            }
            _ => return Err(Unusable::Malformed),
        };
        Ok(())
    }

    fn number(&mut self) -> Result<(), Unusable> {
        if self.byte() == Some(b'-') {
            self.at += 1;
        }
        if self.byte() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.byte() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.byte() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.byte() {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    /// At least one.
    fn digits(&mut self) -> Result<(), Unusable> {
        let rest = &self.bytes[self.at..];
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.at += digits;
        if digits == 0 {
            return Err(Unusable::Malformed);
        }
        Ok(())
    }

    fn word(&mut self, word: &[u8]) -> Result<(), Unusable> {
        if !self.bytes[self.at..].starts_with(word) {
            return Err(Unusable::Malformed);
        }
        self.at += word.len();
        Ok(())
    }
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

/// How many bytes at the beginning are neither a quote, a backslash nor a control character. Eight are looked at at once.
fn plain_bytes(bytes: &[u8]) -> usize {
    let mut plain = 0;
    while let Some(chunk) = bytes[plain..].first_chunk::<8>() {
        let word = u64::from_le_bytes(*chunk);
        let found = less(word, b' ') | less(word ^ each(b'"'), 1) | less(word ^ each(b'\\'), 1);
        if found != 0 {
            return plain + found.trailing_zeros() as usize / 8;
        }
        plain += 8;
    }
    let is_plain = |byte: &&u8| **byte >= b' ' && **byte != b'"' && **byte != b'\\';
    plain + bytes[plain..].iter().take_while(is_plain).count()
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

    fn by_walk(text: &str) -> Option<Vec<(&str, &str)>> {
        let mut found = Vec::new();
        members(text, Span::whole(text), 100, &mut found).ok()?;
        let found = found.iter();
        Some(
            found
                .map(|member| (member.key.of(text), member.value.of(text)))
                .collect(),
        )
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
                prop_assert_eq!(by_walk(&text), by_oracle(&text), "{}", text);
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
            prop_assert_eq!(plain_bytes(&bytes), expected);
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
        let find = |depth_max| members(&object, Span::whole(&object), depth_max, &mut Vec::new());
        assert_eq!(find(3), Ok(()));
        assert_eq!(find(2), Err(Unusable::TooDeep));
    }
}
