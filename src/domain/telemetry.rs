//! The telemetry of one device message: the top-level members of a JSON object, as slices of its text.

use std::fmt;
use std::sync::Arc;

use super::id::TelemetryKey;
use super::raw_json::{RawJson, Span, offset};

/// One member of a telemetry object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The key's string literal with its quotes, as it was written.
    pub key: Span,
    /// The key without escapes; only when the literal has any.
    pub unescaped_key: Option<Box<str>>,
    /// The value as it was written.
    pub value: Span,
}

impl Member {
    /// The key, without quotes and escapes; `body` is the text that the member was found in.
    pub fn key<'a>(&'a self, body: &'a str) -> &'a str {
        match &self.unescaped_key {
            Some(key) => key,
            None => &body[self.key.start as usize + 1..self.key.end as usize - 1],
        }
    }
}

/// Members of a JSON object. Cloning shares the text, not copies it.
#[derive(Clone)]
pub struct Telemetry {
    body: Arc<str>,
    members: Arc<[Member]>,
}

impl Telemetry {
    /// Takes members that the caller found in the valid JSON text `body`; keys must differ from each other.
    pub fn new(body: Arc<str>, members: impl Into<Arc<[Member]>>) -> Self {
        Self {
            body,
            members: members.into(),
        }
    }

    /// One member.
    pub fn one(key: &TelemetryKey, value: &RawJson) -> Self {
        let mut body = serde_json::Value::from(key.as_str()).to_string();
        let key_span = Span::whole(&body);
        let escaped = body.len() != key.as_str().len() + 2;
        let member = Member {
            key: key_span,
            unescaped_key: escaped.then(|| key.as_str().into()),
            value: append(&mut body, value.as_str()),
        };
        Self::new(body.into(), vec![member])
    }

    /// Each member's key, the key's literal with its quotes, and its raw value, in the order of the text.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str, &str)> {
        self.members.iter().map(|member| {
            (
                member.key(&self.body),
                member.key.of(&self.body),
                member.value.of(&self.body),
            )
        })
    }

    /// The key of the member at a place.
    pub fn key(&self, place: usize) -> &str {
        self.members[place].key(&self.body)
    }

    /// How many members there are.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether there are no members.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Bytes of all keys and values together, as they will be written.
    pub fn bytes(&self) -> usize {
        self.members
            .iter()
            .map(|member| {
                (member.key.end - member.key.start + member.value.end - member.value.start) as usize
                    + 2
            })
            .sum()
    }

    /// The members at the given places.
    #[must_use]
    pub fn select(&self, places: impl IntoIterator<Item = usize>) -> Self {
        let members = places
            .into_iter()
            .map(|place| self.members[place].clone())
            .collect();
        Self {
            body: self.body.clone(),
            members,
        }
    }

    /// The members whose key satisfies `keep`; `None` when that is none of them.
    pub fn filter(&self, mut keep: impl FnMut(&str) -> bool) -> Option<Self> {
        let members: Arc<[Member]> = self
            .members
            .iter()
            .filter(|member| keep(member.key(&self.body)))
            .cloned()
            .collect();
        (!members.is_empty()).then(|| Self {
            body: self.body.clone(),
            members,
        })
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
        let members = self
            .values
            .into_iter()
            .map(|(key, MergedValue { key_literal, value })| {
                let key_span = append(&mut body, &key_literal);
                let value_span = append(&mut body, &value);
                let escaped = key_literal.len() != key.len() + 2;
                Member {
                    key: key_span,
                    unescaped_key: escaped.then_some(key),
                    value: value_span,
                }
            })
            .collect::<Vec<_>>();
        Telemetry::new(body.into(), members)
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
        let mut body = String::new();
        let members = members
            .iter()
            .map(|(key, value)| {
                let key_literal = serde_json::to_string(key).unwrap();
                let unescaped_key = (key_literal.len() != key.len() + 2).then(|| Box::from(*key));
                Member {
                    key: append(&mut body, &key_literal),
                    unescaped_key,
                    value: append(&mut body, value),
                }
            })
            .collect::<Vec<_>>();
        Telemetry::new(body.into(), members)
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
