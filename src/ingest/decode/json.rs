//! Takes a JSON text apart at its top level only, as ranges of that text.
//!
//! `serde_json` walks and validates the whole text once; nothing is built for the values. Values that nest are
//! walked a second time to bound their depth, because the consumers downstream parse them recursively.

use std::collections::HashSet;
use std::fmt;

use serde::Deserializer as _;
use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::domain::raw_json::Span;
use crate::domain::telemetry::Member;

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

/// Appends the members of the object that `part` of `text` holds. Of members with the same key only the last stays.
pub(super) fn members(
    text: &str,
    part: Span,
    depth_max: usize,
    members: &mut Vec<Member>,
) -> Result<(), Unusable> {
    let mut deserializer = serde_json::Deserializer::from_str(part.of(text));
    let visitor = Members { text, members };
    deserializer
        .deserialize_map(visitor)
        .map_err(|_| Unusable::Malformed)?;
    deserializer.end().map_err(|_| Unusable::Malformed)?;
    if members
        .iter()
        .any(|member| is_deeper(member.value.of(text), depth_max.saturating_sub(1)))
    {
        return Err(Unusable::TooDeep);
    }
    remove_duplicates(text, members);
    Ok(())
}

/// Appends the elements of the array that the whole of `text` is.
pub(super) fn elements(
    text: &str,
    depth_max: usize,
    elements: &mut Vec<Span>,
) -> Result<(), Unusable> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    deserializer
        .deserialize_seq(Elements { text, elements })
        .map_err(|_| Unusable::Malformed)?;
    deserializer.end().map_err(|_| Unusable::Malformed)?;
    if elements
        .iter()
        .any(|element| is_deeper(element.of(text), depth_max.saturating_sub(1)))
    {
        return Err(Unusable::TooDeep);
    }
    Ok(())
}

/// Checks that the whole of `text` is one JSON value.
pub(super) fn validate(text: &str, depth_max: usize) -> Result<(), Unusable> {
    serde_json::from_str::<IgnoredAny>(text).map_err(|_| Unusable::Malformed)?;
    if is_deeper(text.trim_ascii_start(), depth_max) {
        Err(Unusable::TooDeep)
    } else {
        Ok(())
    }
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

struct Members<'a> {
    text: &'a str,
    members: &'a mut Vec<Member>,
}

impl<'de> Visitor<'de> for Members<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some((key, value)) = map.next_entry::<&'de RawValue, &'de RawValue>()? {
            let literal = key.get();
            self.members.push(Member {
                key: Span::of_part(literal, self.text),
                unescaped_key: literal.contains('\\').then(|| unescape(literal).into()),
                value: Span::of_part(value.get(), self.text),
            });
        }
        Ok(())
    }
}

struct Elements<'a> {
    text: &'a str,
    elements: &'a mut Vec<Span>,
}

impl<'de> Visitor<'de> for Elements<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<(), A::Error> {
        while let Some(element) = sequence.next_element::<&'de RawValue>()? {
            self.elements.push(Span::of_part(element.get(), self.text));
        }
        Ok(())
    }
}

/// Whether a valid JSON value nests arrays and objects more than `depth_max` deep; a scalar has depth 0.
fn is_deeper(value: &str, depth_max: usize) -> bool {
    let bytes = value.as_bytes();
    if !matches!(bytes.first(), Some(b'{' | b'[')) {
        return false;
    }
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for &byte in bytes {
        if in_string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'{' | b'[' => {
                depth += 1;
                if depth > depth_max {
                    return true;
                }
            }
            b'}' | b']' => depth -= 1,
            _ => {}
        }
    }
    false
}

/// Objects up to this size are compared pairwise, which costs less than hashing.
const PAIRWISE_MAX: usize = 16;

fn remove_duplicates(text: &str, members: &mut Vec<Member>) {
    if members.len() <= PAIRWISE_MAX {
        let mut place = 0;
        while place < members.len() {
            let key_here = members[place].key(text);
            if members[place + 1..]
                .iter()
                .any(|later| later.key(text) == key_here)
            {
                members.remove(place);
            } else {
                place += 1;
            }
        }
        return;
    }
    let mut seen = HashSet::with_capacity(members.len());
    let mut newest: Vec<bool> = members
        .iter()
        .rev()
        .map(|member| seen.insert(member.key(text)))
        .collect();
    drop(seen);
    members.retain(|_| newest.pop().expect("one entry for each member"));
}
