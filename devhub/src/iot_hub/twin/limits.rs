//! What a section of a twin may hold, by "Understand and use device twins: format and size limits" in the
//! Azure documentation.

use serde_json::{Map, Value};

use super::Section;

const DEPTH_MAX: usize = 10;
const KEY_BYTES_MAX: usize = 1024;
const STRING_BYTES_MAX: usize = 4096;
const INTEGER_MAX: i64 = 4_503_599_627_370_496;
const NUMBER_BYTES: usize = 8;
const BOOLEAN_BYTES: usize = 4;

/// What a section may not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Violation {
    #[error("a key in {0} is longer than 1 KB")]
    LongKey(Section),
    #[error("a key in {0} is empty or has a control character, '.', '$' or a space")]
    KeyCharacter(Section),
    #[error("{0} is nested deeper than 10 levels")]
    Depth(Section),
    #[error("a string in {0} is longer than 4 KB")]
    LongString(Section),
    #[error("an integer in {0} is beyond \u{b1}4503599627370496")]
    Integer(Section),
    #[error("{0} is larger than {1} KB")]
    Size(Section, usize),
}

/// Checks what a patch or a whole section says. The size is that of the result, see [`check_size`].
pub(super) fn check(section: Section, members: &Map<String, Value>) -> Result<(), Violation> {
    check_object(section, members, 1)
}

/// Checks what a section has become.
pub(super) fn check_size(section: Section, members: &Map<String, Value>) -> Result<(), Violation> {
    let kb_max = match section {
        Section::Tags => 8,
        Section::Desired | Section::Reported => 32,
    };
    if object_bytes(members) > kb_max * 1024 {
        return Err(Violation::Size(section, kb_max));
    }
    Ok(())
}

fn check_object(
    section: Section,
    members: &Map<String, Value>,
    depth: usize,
) -> Result<(), Violation> {
    if depth > DEPTH_MAX {
        return Err(Violation::Depth(section));
    }
    for (key, value) in members {
        if key.len() > KEY_BYTES_MAX {
            return Err(Violation::LongKey(section));
        }
        let is_refused = |character: char| character.is_control() || ".$ ".contains(character);
        if key.is_empty() || key.contains(is_refused) {
            return Err(Violation::KeyCharacter(section));
        }
        check_value(section, value, depth)?;
    }
    Ok(())
}

fn check_value(section: Section, value: &Value, depth: usize) -> Result<(), Violation> {
    match value {
        Value::Object(members) => check_object(section, members, depth + 1),
        Value::Array(items) => {
            if depth >= DEPTH_MAX {
                return Err(Violation::Depth(section));
            }
            items
                .iter()
                .try_for_each(|item| check_value(section, item, depth + 1))
        }
        Value::String(text) if text.len() > STRING_BYTES_MAX => Err(Violation::LongString(section)),
        Value::Number(number) => {
            let in_range = match (number.as_i64(), number.as_u64()) {
                (Some(integer), _) => integer.unsigned_abs() <= INTEGER_MAX.unsigned_abs(),
                (None, Some(_)) => false,
                (None, None) => true,
            };
            if in_range {
                Ok(())
            } else {
                Err(Violation::Integer(section))
            }
        }
        Value::String(_) | Value::Null | Value::Bool(_) => Ok(()),
    }
}

fn object_bytes(members: &Map<String, Value>) -> usize {
    members
        .iter()
        .map(|(key, value)| key.len() + value_bytes(value))
        .sum()
}

fn value_bytes(value: &Value) -> usize {
    match value {
        Value::Null => 0,
        Value::Bool(_) => BOOLEAN_BYTES,
        Value::Number(_) => NUMBER_BYTES,
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(value_bytes).sum(),
        Value::Object(members) => object_bytes(members),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn checked(value: &Value) -> Result<(), Violation> {
        check(Section::Desired, value.as_object().unwrap())
    }

    fn nested(depth: usize) -> Value {
        (0..depth).fold(json!(1), |inner, _| json!({ "a": inner }))
    }

    #[test]
    fn each_limit_holds_up_to_its_edge() {
        use Violation as V;
        let section = Section::Desired;
        let cases = [
            (nested(10), Ok(())),
            (nested(11), Err(V::Depth(section))),
            (json!({ "a": "x".repeat(4096) }), Ok(())),
            (
                json!({ "a": "x".repeat(4097) }),
                Err(V::LongString(section)),
            ),
            (json!({ "a": 4_503_599_627_370_496_i64 }), Ok(())),
            (
                json!({ "a": 4_503_599_627_370_497_i64 }),
                Err(V::Integer(section)),
            ),
            (
                json!({ "a": [-4_503_599_627_370_497_i64] }),
                Err(V::Integer(section)),
            ),
            (json!({ "a": u64::MAX }), Err(V::Integer(section))),
            (json!({ "a": 1e300 }), Ok(())),
            (json!({ "x".repeat(1024): 1 }), Ok(())),
            (json!({ "x".repeat(1025): 1 }), Err(V::LongKey(section))),
            (json!({ "a b": 1 }), Err(V::KeyCharacter(section))),
            (json!({ "a": { "$b": 1 } }), Err(V::KeyCharacter(section))),
            (
                json!({ "a": [{ "b.c": 1 }] }),
                Err(V::KeyCharacter(section)),
            ),
            (json!({ "": 1 }), Err(V::KeyCharacter(section))),
            (json!({ "a\u{7}": null }), Err(V::KeyCharacter(section))),
        ];
        for (value, expected) in cases {
            assert_eq!(checked(&value), expected, "{value}");
        }
    }

    #[test]
    fn the_size_counts_keys_and_values() {
        let size = |section, kb: usize, beyond: usize| {
            let mut members = Map::new();
            // 8 bytes of key for each string of 1016.
            for number in 0..kb {
                members.insert(format!("{number:08}"), "x".repeat(1016).into());
            }
            if beyond > 0 {
                members.insert("z".repeat(beyond), Value::Null);
            }
            check_size(section, &members)
        };
        assert_eq!(size(Section::Tags, 8, 0), Ok(()));
        assert_eq!(
            size(Section::Tags, 8, 1),
            Err(Violation::Size(Section::Tags, 8))
        );
        assert_eq!(size(Section::Reported, 32, 0), Ok(()));
        assert_eq!(
            size(Section::Reported, 32, 1),
            Err(Violation::Size(Section::Reported, 32))
        );
    }
}
