//! The telemetry of one device message: the top-level members of a JSON object, as slices of its text.

use std::fmt;
use std::sync::Arc;

use super::id::TelemetryKey;
use super::raw_json::{RawJson, Span, offset};
use super::shape::Shape;

/// Members of a JSON object. Cloning shares the text, not copies it.
#[derive(Clone)]
pub struct Telemetry {
    body: Arc<str>,
    shape: Arc<Shape>,
    values: Values,
}

/// Where the values lie in the body, and which of the shape's keys they belong to.
#[derive(Clone)]
enum Values {
    /// One for each key, in the order of the shape.
    Whole(Arc<[Span]>),
    One(u32, Span),
    Some(Arc<[(u32, Span)]>),
}

impl Telemetry {
    /// Takes the values that the caller found in the valid JSON text `body`, one for each key of the shape. Keys must
    /// differ from each other.
    pub fn new(body: Arc<str>, shape: Arc<Shape>, values: Arc<[Span]>) -> Self {
        debug_assert_eq!(shape.len(), values.len(), "one value for each key");
        let values = Values::Whole(values);
        Self {
            body,
            shape,
            values,
        }
    }

    /// One member.
    pub fn one(key: &TelemetryKey, value: &RawJson) -> Self {
        let body = value.to_shared();
        let values = Values::One(0, Span::whole(&body));
        let shape = Arc::new(Shape::of_one(key));
        Self {
            body,
            shape,
            values,
        }
    }

    /// Each member's key, the key's literal with its quotes, and its raw value, in the order of the text.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str, &str)> {
        (0..self.len()).map(|member| {
            let (place, value) = self.member(member);
            let shape = &self.shape;
            (shape.key(place), shape.literal(place), value.of(&self.body))
        })
    }

    /// The key of a member.
    pub fn key(&self, member: usize) -> &str {
        self.shape.key(self.member(member).0)
    }

    /// The raw value of a member.
    pub fn value(&self, member: usize) -> &str {
        self.member(member).1.of(&self.body)
    }

    /// How many members there are.
    pub fn len(&self) -> usize {
        match &self.values {
            Values::Whole(values) => values.len(),
            Values::One(..) => 1,
            Values::Some(values) => values.len(),
        }
    }

    /// Whether there are no members.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of all keys and values together, as they will be written.
    pub fn bytes(&self) -> usize {
        let member = |place: usize, value: Span| {
            self.shape.literal(place).len() + (value.end - value.start) as usize + 2
        };
        match &self.values {
            Values::Whole(values) => {
                let values = values
                    .iter()
                    .map(|value| (value.end - value.start) as usize);
                self.shape.literals_len() + values.sum::<usize>() + 2 * self.shape.len()
            }
            Values::One(place, value) => member(*place as usize, *value),
            Values::Some(values) => {
                let values = values.iter();
                values
                    .map(|(place, value)| member(*place as usize, *value))
                    .sum()
            }
        }
    }

    /// Appends the JSON object with these members, each as it was written.
    pub fn write_to(&self, text: &mut Vec<u8>) {
        text.push(b'{');
        let start = text.len();
        let body = self.body.as_bytes();
        let mut member = |literal: &[u8], value: Span| {
            text.extend_from_slice(literal);
            text.push(b':');
            text.extend_from_slice(&body[value.start as usize..value.end as usize]);
            text.push(b',');
        };
        match &self.values {
            Values::One(place, value) => member(self.shape.literal_bytes(*place as usize), *value),
            Values::Some(values) => {
                for (place, value) in values.iter() {
                    member(self.shape.literal_bytes(*place as usize), *value);
                }
            }
            Values::Whole(values) => {
                for (literal, value) in self.shape.literals().zip(values.iter()) {
                    member(literal, *value);
                }
            }
        }
        // In place of the last comma.
        text.truncate(text.len().max(start + 1) - 1);
        text.push(b'}');
    }

    /// The same members without the rest of the text that they are slices of, when that is most of it: for what is kept.
    #[must_use]
    pub fn compact(&self) -> Self {
        let bytes: usize = (0..self.len()).map(|member| self.value(member).len()).sum();
        if bytes * 2 >= self.body.len() {
            return self.clone();
        }
        let mut body = String::with_capacity(bytes);
        let values = match &self.values {
            Values::One(place, value) => {
                Values::One(*place, append(&mut body, value.of(&self.body)))
            }
            Values::Some(values) => {
                let values = values.iter();
                let copy = |(place, value): &(u32, Span)| {
                    (*place, append(&mut body, value.of(&self.body)))
                };
                Values::Some(values.map(copy).collect())
            }
            Values::Whole(values) => {
                let values = values.iter();
                Values::Whole(
                    values
                        .map(|value| append(&mut body, value.of(&self.body)))
                        .collect(),
                )
            }
        };
        Self {
            body: body.into(),
            shape: self.shape.clone(),
            values,
        }
    }

    /// The keys that all messages of this kind have, when this is such a message and not a part of one.
    pub(super) fn whole_shape(&self) -> Option<&Arc<Shape>> {
        matches!(self.values, Values::Whole(_)).then_some(&self.shape)
    }

    /// The text that the members are slices of.
    pub(super) fn text(&self) -> RawJson {
        RawJson::from_valid(self.body.clone())
    }

    /// Bytes of the text that the members are slices of; it stays in memory as a whole.
    pub(super) fn body_bytes(&self) -> usize {
        self.body.len()
    }

    /// The given members, in the order of the text.
    #[must_use]
    pub fn select(&self, members: impl IntoIterator<Item = usize>) -> Self {
        let mut members = members.into_iter();
        let compact = |member| {
            let (place, value) = self.member(member);
            (offset(place), value)
        };
        let values = match (members.next(), members.next()) {
            (Some(one), None) => {
                let (place, value) = compact(one);
                Values::One(place, value)
            }
            (first, second) => {
                let members = first.into_iter().chain(second).chain(members);
                Values::Some(members.map(compact).collect())
            }
        };
        Self {
            body: self.body.clone(),
            shape: self.shape.clone(),
            values,
        }
    }

    /// The members whose key satisfies `keep`; `None` when that is none of them.
    pub fn filter(&self, mut keep: impl FnMut(&str) -> bool) -> Option<Self> {
        let kept = self.select((0..self.len()).filter(|member| keep(self.key(*member))));
        (!kept.is_empty()).then_some(kept)
    }

    fn member(&self, member: usize) -> (usize, Span) {
        match &self.values {
            Values::Whole(values) => (member, values[member]),
            Values::One(place, value) => {
                assert_eq!(member, 0, "there is one member");
                (*place as usize, *value)
            }
            Values::Some(values) => {
                let (place, value) = values[member];
                (place as usize, value)
            }
        }
    }
}

impl fmt::Debug for Telemetry {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_map()
            .entries(self.iter().map(|(key, _, value)| (key, value)))
            .finish()
    }
}

/// Newest values by key, gathered from several messages of one device: a telemetry object in the making.
///
/// Keeps copies of the values, not the messages they came in, so its memory is what [`bytes`](Self::bytes) says.
#[derive(Debug, Default)]
pub struct MergedTelemetry {
    values: indexmap::IndexMap<Box<str>, MergedValue>,
    bytes: usize,
}

/// Bytes that a value costs beside its texts.
const MERGED_VALUE_BYTES: usize = 96;

#[derive(Debug)]
struct MergedValue {
    key_literal: Box<str>,
    value: Box<str>,
}

impl MergedTelemetry {
    /// Adds the members of a newer message. Returns how many older values they replaced.
    pub fn merge(&mut self, newer: &Telemetry) -> usize {
        let mut replaced = 0;
        for (key, key_literal, value) in newer.iter() {
            if let Some(merged) = self.values.get_mut(key) {
                self.bytes = self.bytes - merged.value.len() + value.len();
                merged.value = value.into();
                replaced += 1;
            } else {
                self.bytes += key.len() + key_literal.len() + value.len();
                let merged = MergedValue {
                    key_literal: key_literal.into(),
                    value: value.into(),
                };
                self.values.insert(key.into(), merged);
            }
        }
        replaced
    }

    /// Keeps only the keys that satisfy `keep`.
    pub fn retain(&mut self, mut keep: impl FnMut(&str) -> bool) {
        let bytes = &mut self.bytes;
        self.values.retain(|key, merged| {
            let kept = keep(key);
            if !kept {
                *bytes -= key.len() + merged.key_literal.len() + merged.value.len();
            }
            kept
        });
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// About how many bytes of memory it takes.
    pub fn bytes(&self) -> usize {
        self.bytes + self.values.len() * MERGED_VALUE_BYTES
    }

    /// The telemetry object with all values.
    pub fn into_telemetry(self) -> Telemetry {
        let mut body = String::with_capacity(self.bytes);
        let values = self.values.values();
        let values = values
            .map(|merged| append(&mut body, &merged.value))
            .collect();
        let shape = Shape::new(self.values.iter().map(|(key, merged)| {
            let escaped = merged.key_literal.len() != key.len() + 2;
            (&*merged.key_literal, escaped.then(|| key.clone()))
        }));
        Telemetry::new(body.into(), Arc::new(shape), values)
    }
}

fn append(body: &mut String, text: &str) -> Span {
    let start = offset(body.len());
    body.push_str(text);
    Span {
        start,
        end: offset(body.len()),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Telemetry from keys and raw values, for tests.
    pub(crate) fn telemetry(members: &[(&str, &str)]) -> Telemetry {
        let keys: Vec<_> = members
            .iter()
            .map(|(key, _)| (serde_json::to_string(key).unwrap(), *key))
            .collect();
        let shape = Shape::new(keys.iter().map(|(literal, key)| {
            let escaped = literal.len() != key.len() + 2;
            (literal.as_str(), escaped.then(|| Box::from(*key)))
        }));
        let mut body = String::new();
        let values = members
            .iter()
            .map(|(_, value)| append(&mut body, value))
            .collect();
        Telemetry::new(body.into(), Arc::new(shape), values)
    }

    #[test]
    fn members_are_written_as_they_came() {
        let written = |telemetry: &Telemetry| {
            let mut text = Vec::new();
            telemetry.write_to(&mut text);
            String::from_utf8(text).unwrap()
        };
        let whole = telemetry(&[("a", "1.50"), ("b\"", "[1, 2]"), ("c", "null")]);
        assert_eq!(written(&whole), r#"{"a":1.50,"b\"":[1, 2],"c":null}"#);
        assert_eq!(written(&whole.select([1])), r#"{"b\"":[1, 2]}"#);
        assert_eq!(written(&whole.select([0, 2])), r#"{"a":1.50,"c":null}"#);
        assert_eq!(written(&whole.select([])), "{}");
        assert_eq!(written(&telemetry(&[])), "{}");
    }

    #[test]
    fn a_small_part_that_is_kept_does_not_keep_the_rest() {
        let whole = telemetry(&[
            ("a", "1"),
            ("b", "2"),
            ("c", "123456789012345678901234567890"),
        ]);
        for members in [&[0][..], &[0, 1], &[2], &[0, 1, 2]] {
            let part = whole.select(members.iter().copied());
            let compact = part.compact();
            assert!(compact.iter().eq(part.iter()));
            let bytes: usize = part.iter().map(|(_, _, value)| value.len()).sum();
            assert!(compact.body_bytes() <= 2 * bytes);
        }
    }

    #[test]
    fn merging_keeps_the_newest_value_of_each_key() {
        let mut merged = MergedTelemetry::default();
        assert_eq!(merged.merge(&telemetry(&[("a", "1"), ("b\"", "2")])), 0);
        assert_eq!(merged.merge(&telemetry(&[("b\"", "33"), ("c", "null")])), 1);
        let telemetry = merged.into_telemetry();
        let members: Vec<_> = telemetry.iter().collect();
        assert_eq!(
            members,
            [
                ("a", "\"a\"", "1"),
                ("b\"", "\"b\\\"\"", "33"),
                ("c", "\"c\"", "null")
            ]
        );
    }

    #[test]
    fn a_merge_knows_its_size() {
        let mut merged = MergedTelemetry::default();
        merged.merge(&telemetry(&[("a", "12345"), ("b", "1")]));
        merged.merge(&telemetry(&[("a", "1")]));
        merged.retain(|key| key == "a");
        assert_eq!(
            merged.bytes(),
            "a".len() + "\"a\"".len() + "1".len() + MERGED_VALUE_BYTES
        );
        merged.retain(|_| false);
        assert_eq!(merged.bytes(), 0);
    }
}
