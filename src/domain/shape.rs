//! The keys of a telemetry object, kept once for all messages that have the same ones in the same order.
//!
//! A device sends the same keys again and again. Whoever has worked something out for a shape, such as which of its
//! keys a view selects, recognizes the next message of that shape by its pointer and need not look at a key.

use super::id::TelemetryKey;
use super::raw_json::{Span, offset};

/// The keys of an object, in the order in which they were written. In one that [`Telemetry`](super::telemetry::Telemetry)
/// has they differ from each other.
#[derive(Debug, PartialEq, Eq)]
pub struct Shape {
    /// The string literals of all keys, one behind the other.
    literals: Box<str>,
    keys: Box<[Key]>,
}

/// What a key takes in memory beside its literal.
pub(super) const KEY_BYTES: usize = size_of::<Key>();

#[derive(Debug, PartialEq, Eq)]
struct Key {
    literal: Span,
    /// The key without escapes; only when the literal has any.
    unescaped: Option<Box<str>>,
}

impl Shape {
    /// Takes each key's string literal with its quotes and, if it has escapes, the text that it stands for.
    pub fn new<'a>(keys: impl IntoIterator<Item = (&'a str, Option<Box<str>>)>) -> Self {
        let mut literals = String::new();
        let keys = keys
            .into_iter()
            .map(|(literal, unescaped)| {
                let start = offset(literals.len());
                literals.push_str(literal);
                let end = offset(literals.len());
                let literal = Span { start, end };
                Key { literal, unescaped }
            })
            .collect();
        let literals = literals.into();
        Self { literals, keys }
    }

    /// The shape of an object with one key.
    pub fn of_one(key: &TelemetryKey) -> Self {
        let literal = serde_json::Value::from(key.as_str()).to_string();
        let escaped = literal.len() != key.as_str().len() + 2;
        Self::new([(literal.as_str(), escaped.then(|| key.as_str().into()))])
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there are no keys.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The key at a place, without quotes and escapes.
    pub fn key(&self, place: usize) -> &str {
        let key = &self.keys[place];
        match &key.unescaped {
            Some(unescaped) => unescaped,
            None => &self.literals[key.literal.start as usize + 1..key.literal.end as usize - 1],
        }
    }

    /// The string literal of the key at a place, with its quotes, as it was written.
    pub fn literal(&self, place: usize) -> &str {
        self.keys[place].literal.of(&self.literals)
    }

    /// The same, as bytes.
    pub fn literal_bytes(&self, place: usize) -> &[u8] {
        self.keys[place].literal.of_bytes(&self.literals)
    }

    /// The string literals of all keys, as bytes.
    pub fn literals(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        let spans = self.keys.iter().map(|key| key.literal);
        spans.map(|span| span.of_bytes(&self.literals))
    }

    /// Bytes of all keys' string literals together.
    pub(super) fn literals_len(&self) -> usize {
        self.literals.len()
    }

    /// The keys, without quotes and escapes.
    pub fn keys(&self) -> impl ExactSizeIterator<Item = &str> {
        (0..self.keys.len()).map(|place| self.key(place))
    }

    /// About how many bytes of memory it takes, but for keys with escapes.
    pub(super) fn memory_bytes(&self) -> usize {
        self.literals.len() + self.keys.len() * KEY_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_found_by_their_places() {
        let shape = Shape::new([
            ("\"a\"", None),
            ("\"b\\\"\"", Some("b\"".into())),
            ("\"\"", None),
        ]);
        assert_eq!(shape.len(), 3);
        assert_eq!(shape.keys().collect::<Vec<_>>(), ["a", "b\"", ""]);
        assert_eq!(shape.literal(1), "\"b\\\"\"");
        assert_eq!(shape.literal(2), "\"\"");
    }

    #[test]
    fn one_key_is_escaped_where_it_must_be() {
        for (key, literal) in [("a", "\"a\""), ("a\n", "\"a\\n\"")] {
            let shape = Shape::of_one(&TelemetryKey::new(key).unwrap());
            assert_eq!((shape.key(0), shape.literal(0)), (key, literal));
        }
    }
}
