//! Takes a JSON text apart at its top level only, as ranges of that text.
//!
//! The text is [walked](walk) once: checked against the grammar (RFC 8259) and a bound on its depth, because the
//! consumers downstream parse values recursively. Nothing is built for the values. What is accepted is exactly what
//! `serde_json` accepts, which the tests hold it against; walking it with `serde_json` took more than twice as long.
//!
//! Most objects are written like one before but for their values, and [`Gaps`] find these with less work.

mod gaps;
mod walk;

pub(super) use self::gaps::{Gaps, between};
use crate::domain::raw_json::Span;

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
pub(super) enum Kind {
    Object,
    Array,
    Scalar,
}

/// Tells the kind of a text, without white space before it, from its first character; it may still turn out not to be
/// JSON.
pub(super) fn kind(text: &str) -> Kind {
    match text.as_bytes().first() {
        Some(b'{') => Kind::Object,
        Some(b'[') => Kind::Array,
        _ => Kind::Scalar,
    }
}

/// Finds the values of the object that `part` of `text` is, in the order of the text. Several may have the same key.
pub(super) fn values(
    text: &str,
    part: Span,
    depth_max: usize,
    values: &mut Vec<Span>,
) -> Result<(), Unusable> {
    values.clear();
    let bytes = &text.as_bytes()[..part.end as usize];
    let depth_left = depth_max.checked_sub(1).ok_or(Unusable::TooDeep)?;
    let start = part.start as usize;
    let object_end = walk::object(bytes, start, depth_left, |value| values.push(value));
    walk::end(bytes, object_end)
}

/// Appends the elements of the array that the whole of `text` is, without white space before it.
pub(super) fn elements(
    text: &str,
    depth_max: usize,
    elements: &mut Vec<Span>,
) -> Result<(), Unusable> {
    let bytes = text.as_bytes();
    let depth_left = depth_max.checked_sub(1).ok_or(Unusable::TooDeep)?;
    let array_end = walk::array(bytes, 0, depth_left, |element| elements.push(element));
    walk::end(bytes, array_end)
}

/// Checks that the whole of `text`, without white space before it, is one JSON value.
pub(super) fn validate(text: &str, depth_max: usize) -> Result<(), Unusable> {
    let bytes = text.as_bytes();
    walk::end(bytes, walk::value(bytes, 0, depth_max))
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

    fn by_walk(text: &str) -> Option<Vec<Span>> {
        let mut found = Vec::new();
        values(text, Span::whole(text), 100, &mut found).ok()?;
        Some(found)
    }

    fn members<'a>(text: &'a str, values: &[Span]) -> Vec<(String, &'a str)> {
        let gaps = Gaps::new(text, Span::whole(text), values);
        let keys = gaps.keys().map(str::to_owned);
        keys.zip(values.iter().map(|value| value.of(text)))
            .collect()
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
                let text = text.trim_ascii_start();
                let found = by_walk(text).map(|found| members(text, &found));
                let expected = by_oracle(text).map(|members| {
                    members.into_iter().map(|(key, value)| (key.to_owned(), value)).collect::<Vec<_>>()
                });
                prop_assert_eq!(found, expected, "{}", text);
            }
        }

        #[test]
        fn gaps_find_what_the_walk_finds_where_they_are(inner in pieces(), other in pieces(), values in prop::collection::vec(pieces(), 3)) {
            let object = |inner: &str| format!("{{{inner}}}");
            let pretty = |values: &[String]| format!("{{ \"a\": {},\"a long key\" :{}\n,\"b\":{}}} ", values[0], values[1], values[2]);
            let plain = ["0", "{\"c\":[ ]}", "\"d\""].map(str::to_owned);
            let texts = [object(&inner), object(&other), pretty(&values), pretty(&plain)];
            for (text, like) in texts.iter().flat_map(|text| texts.iter().map(move |like| (text, like))) {
                let Some(of_like) = by_walk(like) else { continue };
                let gaps = Gaps::new(like, Span::whole(like), &of_like);
                let expected = by_walk(text).filter(|found| gaps.are_in(text, Span::whole(text), found) && !found.is_empty());
                let mut found = Vec::new();
                let found = gaps.find(text, Span::whole(text), 100, &mut found).then_some(found);
                prop_assert_eq!(found, expected, "{} like {}", text, like);
            }
        }

        #[test]
        fn what_nearly_is_a_value_is_judged_as_serde_json_does(text in pieces()) {
            let text = text.trim_ascii_start();
            let valid = serde_json::from_str::<IgnoredAny>(text).is_ok();
            prop_assert_eq!(validate(text, 100).is_ok(), valid, "{}", text);
        }

        #[test]
        fn any_string_is_walked_to_its_end(content in any::<String>()) {
            let text = literal(&content);
            prop_assert_eq!(validate(&text, 0), Ok(()));
            let cut = text.trim_end_matches('"');
            prop_assert_eq!(validate(cut, 0).is_ok(), serde_json::from_str::<IgnoredAny>(cut).is_ok());
        }
    }

    #[test]
    fn gaps_differ_when_their_white_space_is_on_another_side_of_a_value() {
        let [like, text] = ["{\"a\": 1,\"b\":2}", "{\"a\":1 ,\"b\":2}"];
        let of = |text| Gaps::new(text, Span::whole(text), &by_walk(text).unwrap());
        let is_in =
            |gaps: Gaps, text| gaps.are_in(text, Span::whole(text), &by_walk(text).unwrap());
        assert!(is_in(of(like), like));
        assert!(!is_in(of(like), text));
        assert!(!of(like).find(text, Span::whole(text), 100, &mut Vec::new()));
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
        let whole = Span::whole(&object);
        let mut found = Vec::new();
        assert_eq!(values(&object, whole, 3, &mut found), Ok(()));
        let gaps = Gaps::new(&object, whole, &found);
        assert!(gaps.find(&object, whole, 3, &mut found));
        assert!(!gaps.find(&object, whole, 2, &mut found));
        assert_eq!(
            values(&object, whole, 2, &mut found),
            Err(Unusable::TooDeep)
        );
    }
}
