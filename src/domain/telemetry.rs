//! The telemetry of one device message: the top-level members of a JSON object, as slices of its text.

use std::fmt;
use std::hint::black_box;
use std::sync::Arc;

use arrayvec::ArrayString;

use super::id::TelemetryKey;
use super::raw_json::{RawJson, Span, offset};
use super::shape::{KEY_BYTES, Shape};

/// Longest value that is copied when it is all that is selected of a message.
const SHORT_VALUE_BYTES: usize = 20;

/// Longest text with its keys that is kept in memory for a small part of it.
const SHARED_BYTES_MAX: usize = 16 * 1024;

/// What memory comes in.
const CACHE_LINE_BYTES: usize = 64;

/// How much of a text and its values [`Telemetry::prefetch`] reads: all of it for most.
const PREFETCHED_LINES: usize = 6;

/// Members of a JSON object. Cloning shares the text, not copies it.
#[derive(Clone)]
pub struct Telemetry {
    shape: Arc<Shape>,
    members: Members,
}

/// The values, and which of the shape's keys they belong to.
#[derive(Clone)]
enum Members {
    /// One for each key, in the order of the shape.
    Whole { body: Arc<str>, values: Arc<[Span]> },
    Some {
        body: Arc<str>,
        values: Arc<[(u32, Span)]>,
    },
    /// One with a short value, as most have. What waits to be sent is then all in one place: it neither keeps a message in
    /// memory for a few of its bytes, nor has to go back to it.
    Short {
        place: u32,
        value: ArrayString<SHORT_VALUE_BYTES>,
    },
}

impl Telemetry {
    /// Takes the values that the caller found in the valid JSON text `body`, one for each key of the shape. Keys must
    /// differ from each other.
    pub fn new(body: Arc<str>, shape: Arc<Shape>, values: Arc<[Span]>) -> Self {
        debug_assert_eq!(shape.len(), values.len(), "one value for each key");
        let members = Members::Whole { body, values };
        Self { shape, members }
    }

    /// One member.
    pub fn one(key: &TelemetryKey, value: &RawJson) -> Self {
        let shape = Arc::new(Shape::of_one(key));
        let members = Members::short(0, value.as_str()).unwrap_or_else(|| {
            let body = value.to_shared();
            let values = [(0, Span::whole(&body))].into();
            Members::Some { body, values }
        });
        Self { shape, members }
    }

    /// Each member's key, the key's literal with its quotes, and its raw value, in the order of the text.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str, &str)> + Clone {
        (0..self.len()).map(|member| {
            let (place, value) = self.member(member);
            (self.shape.key(place), self.shape.literal(place), value)
        })
    }

    /// The key of a member.
    pub fn key(&self, member: usize) -> &str {
        self.shape.key(self.member(member).0)
    }

    /// The raw value of a member.
    pub fn value(&self, member: usize) -> &str {
        self.member(member).1
    }

    /// How many members there are.
    pub fn len(&self) -> usize {
        match &self.members {
            Members::Whole { values, .. } => values.len(),
            Members::Some { values, .. } => values.len(),
            Members::Short { .. } => 1,
        }
    }

    /// Whether there are no members.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of all keys and values together, as they will be written.
    pub fn bytes(&self) -> usize {
        let values = match &self.members {
            Members::Whole { values, .. } => {
                let values = values.iter().map(|value| value.bytes());
                return self.shape.literals_len() + values.sum::<usize>() + 2 * self.len();
            }
            Members::Some { values, .. } => values,
            Members::Short { place, value } => {
                return self.literal(*place).len() + value.len() + 2;
            }
        };
        let members = values.iter();
        members
            .map(|(place, value)| self.literal(*place).len() + value.bytes() + 2)
            .sum()
    }

    /// Appends the JSON object with these members, each as it was written.
    pub fn write_to(&self, text: &mut Vec<u8>) {
        text.push(b'{');
        let start = text.len();
        let mut member = |literal: &[u8], value: &[u8]| {
            text.extend_from_slice(literal);
            text.push(b':');
            text.extend_from_slice(value);
            text.push(b',');
        };
        match &self.members {
            Members::Whole { body, values } => {
                for (literal, value) in self.shape.literals().zip(values.iter()) {
                    member(literal, value.of_bytes(body));
                }
            }
            Members::Some { body, values } => {
                for (place, value) in values.iter() {
                    member(self.literal(*place), value.of_bytes(body));
                }
            }
            Members::Short { place, value } => member(self.literal(*place), value.as_bytes()),
        }
        // In place of the last comma.
        text.truncate(text.len().max(start + 1) - 1);
        text.push(b'}');
    }

    /// The text that the caller of [`new`](Self::new) found these members in; `None` of a part of them.
    pub(super) fn text(&self) -> Option<RawJson> {
        match &self.members {
            Members::Whole { body, .. } => Some(RawJson::from_valid(Arc::clone(body))),
            Members::Some { .. } | Members::Short { .. } => None,
        }
    }

    /// The keys that all messages of this kind have, when this is such a message and not a part of one.
    pub(super) fn whole_shape(&self) -> Option<&Arc<Shape>> {
        matches!(self.members, Members::Whole { .. }).then_some(&self.shape)
    }

    /// Reads a little of the beginning of what it consists of, for nothing but that it is then at hand.
    pub(super) fn prefetch(&self) {
        let Members::Whole { body, values } = &self.members else {
            return;
        };
        let body = body.as_bytes().iter().step_by(CACHE_LINE_BYTES);
        let values = values.iter().step_by(CACHE_LINE_BYTES / size_of::<Span>());
        black_box((
            body.take(PREFETCHED_LINES).fold(0, |all, byte| all ^ byte),
            values
                .take(PREFETCHED_LINES)
                .fold(0, |all, value| all ^ value.start),
        ));
    }

    /// Bytes of the text that the members are slices of; it stays in memory as a whole.
    pub(super) fn body_bytes(&self) -> usize {
        match &self.members {
            Members::Whole { body, .. } | Members::Some { body, .. } => body.len(),
            Members::Short { value, .. } => value.len(),
        }
    }

    /// Copies the members if they are a small part of a long text: it would stay in memory as a whole for as long as they do.
    pub(super) fn let_go_of_the_rest(&mut self) {
        let kept_bytes = self.body_bytes() + self.shape.memory_bytes();
        if kept_bytes > SHARED_BYTES_MAX && kept_bytes > 4 * (self.bytes() + self.len() * KEY_BYTES)
        {
            *self = Self::copied(self.iter());
        }
    }

    /// Members with their keys, the keys' literals and their raw values, in a text of their own.
    fn copied<'a>(members: impl Iterator<Item = (&'a str, &'a str, &'a str)> + Clone) -> Self {
        let mut body = String::new();
        let values = members
            .clone()
            .map(|(_, _, value)| append(&mut body, value));
        let values = values.collect();
        let shape = Shape::new(members.map(|(key, literal, _)| {
            let is_escaped = literal.len() != key.len() + 2;
            (literal, is_escaped.then(|| key.into()))
        }));
        Self::new(body.into(), Arc::new(shape), values)
    }

    /// The given members, in the order of the text; `None` when these are none.
    pub fn select(&self, members: impl IntoIterator<Item = usize>) -> Option<Self> {
        let mut members = members.into_iter();
        let first = members.next()?;
        let members = match &self.members {
            Members::Whole { body, values } => Members::part(body, first, members, |member| {
                (offset(member), values[member])
            }),
            Members::Some { body, values } => {
                Members::part(body, first, members, |member| values[member])
            }
            short @ Members::Short { .. } => short.clone(),
        };
        let shape = self.shape.clone();
        Some(Self { shape, members })
    }

    /// The members whose key satisfies `keep`; `None` when that is none of them.
    pub fn filter(&self, mut keep: impl FnMut(&str) -> bool) -> Option<Self> {
        self.select((0..self.len()).filter(|member| keep(self.key(*member))))
    }

    fn member(&self, member: usize) -> (usize, &str) {
        match &self.members {
            Members::Whole { body, values } => (member, values[member].of(body)),
            Members::Some { body, values } => {
                let (place, value) = values[member];
                (place as usize, value.of(body))
            }
            Members::Short { place, value } => {
                assert_eq!(member, 0, "there is one member");
                (*place as usize, value)
            }
        }
    }

    fn literal(&self, place: u32) -> &[u8] {
        self.shape.literal_bytes(place as usize)
    }
}

impl Members {
    /// Of a text, what `find` says of the members given.
    fn part(
        body: &Arc<str>,
        first: usize,
        mut others: impl Iterator<Item = usize>,
        find: impl Fn(usize) -> (u32, Span),
    ) -> Self {
        let second = others.next();
        if second.is_none() {
            let (place, value) = find(first);
            if let Some(short) = Self::short(place, value.of(body)) {
                return short;
            }
        }
        let members = std::iter::once(first).chain(second).chain(others);
        Self::Some {
            body: body.clone(),
            values: members.map(find).collect(),
        }
    }

    fn short(place: u32, value: &str) -> Option<Self> {
        let value = ArrayString::from(value).ok()?;
        Some(Self::Short { place, value })
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
        let values = self.values.iter();
        Telemetry::copied(
            values.map(|(key, merged)| (&**key, &*merged.key_literal, &*merged.value)),
        )
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
        let literal = |(key, _): &(&str, _)| serde_json::to_string(key).unwrap();
        let literals: Vec<_> = members.iter().map(literal).collect();
        let members = members.iter().zip(&literals);
        Telemetry::copied(members.map(|((key, value), literal)| (*key, &**literal, *value)))
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
        assert_eq!(written(&whole.select([1]).unwrap()), r#"{"b\"":[1, 2]}"#);
        assert_eq!(
            written(&whole.select([0, 2]).unwrap()),
            r#"{"a":1.50,"c":null}"#
        );
        assert_eq!(written(&telemetry(&[])), "{}");
    }

    #[test]
    fn what_is_selected_is_the_same_by_itself() {
        let long = format!("\"{}\"", "x".repeat(SHORT_VALUE_BYTES));
        let whole = telemetry(&[("a", "1"), ("b", &long), ("c", "[1, 2]"), ("d", "\"é\"")]);
        for members in [&[0][..], &[1], &[3], &[0, 1], &[1, 2, 3], &[0, 1, 2, 3]] {
            let part = whole.select(members.iter().copied()).unwrap();
            let all: Vec<_> = whole.iter().collect();
            let expected: Vec<_> = members.iter().map(|member| all[*member]).collect();
            assert_eq!(part.iter().collect::<Vec<_>>(), expected);
            let again = part.select(0..part.len()).unwrap();
            assert_eq!(again.iter().collect::<Vec<_>>(), expected);
            let last = part.select([part.len() - 1]).unwrap();
            assert_eq!(last.iter().next(), expected.last().copied());
            let mut text = Vec::new();
            part.write_to(&mut text);
            assert_eq!(
                text.len(),
                part.bytes() + 1,
                "a comma less and two braces more"
            );
        }
        assert!(whole.select([]).is_none());
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
