//! Which payloads a direct method may be called with.
//!
//! A policy is a list of conditions on the payload, all of which must hold. What stands behind a device's method often
//! has another idea of JSON than we do, so a condition holds only for what every reader takes for the same: a pointer
//! that leads through a member whose key is there twice, be it in other letters (there are parsers that ignore case),
//! fails; and a text whose path could be read as another one never matches a pattern.

use std::sync::Arc;

use percent_encoding::percent_decode_str;
use serde_json::Value;

use super::json_pointer::{Pointer, members};
use super::subscription::KeyPattern;

/// Most conditions in one policy.
pub const CONDITIONS_MAX: usize = 32;

/// Most values in one [`Test::OneOf`].
pub const VALUES_MAX: usize = 32;

/// Longest value to compare with, as JSON text, in bytes.
pub const VALUE_BYTES_MAX: usize = 1024;

/// How often an escaped text is taken apart to find the path that it may stand for.
const DECODINGS_MAX: usize = 4;

/// Conditions on a payload, all of which must hold.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PayloadPolicy(Arc<[Condition]>);

/// One condition on a payload.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Condition {
    /// The value that it is about.
    pub pointer: Pointer,
    /// What is asked of it.
    pub test: Test,
}

/// What a condition asks of a value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Test {
    /// It is this one.
    Equals(Scalar),
    /// It is one of these.
    OneOf(Vec<Scalar>),
    /// It is a text that the pattern matches, in which each `*` stands for any text, or none; and no segment of it
    /// between slashes is `.` or `..`, nor has it a control character.
    Matches(KeyPattern),
}

/// A JSON value without parts. Numbers are the same when they are written alike.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scalar {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number, as it is written.
    Number(Box<str>),
    /// A string.
    Text(Box<str>),
}

/// A policy has 1 to [`CONDITIONS_MAX`] conditions, a [`Test::OneOf`] 1 to [`VALUES_MAX`] values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("has none or too many conditions or values")]
pub struct PolicySizeError;

impl Scalar {
    /// Reads a JSON text; `None` when it is an object, an array, no JSON or too long.
    pub fn parse(json: &str) -> Option<Self> {
        if json.len() > VALUE_BYTES_MAX {
            return None;
        }
        match serde_json::from_str(json).ok()? {
            Value::Null => Some(Self::Null),
            Value::Bool(value) => Some(Self::Bool(value)),
            Value::Number(_) => Some(Self::Number(json.trim_ascii().into())),
            Value::String(text) => Some(Self::Text(text.into())),
            Value::Array(_) | Value::Object(_) => None,
        }
    }
}

impl PayloadPolicy {
    /// Takes 1 to [`CONDITIONS_MAX`] conditions; their order means nothing.
    pub fn new(mut conditions: Vec<Condition>) -> Result<Self, PolicySizeError> {
        let fits = |count: usize, max| (1..=max).contains(&count);
        let values_fit = |condition: &Condition| match &condition.test {
            Test::OneOf(values) => fits(values.len(), VALUES_MAX),
            Test::Equals(_) | Test::Matches(_) => true,
        };
        if !fits(conditions.len(), CONDITIONS_MAX) || !conditions.iter().all(values_fit) {
            return Err(PolicySizeError);
        }
        conditions.sort_unstable();
        conditions.dedup();
        Ok(Self(conditions.into()))
    }

    /// Whether a payload, a JSON text, may be sent.
    pub fn allows(&self, payload: &str) -> bool {
        self.0.iter().all(|condition| condition.holds(payload))
    }
}

impl Condition {
    fn holds(&self, payload: &str) -> bool {
        let Some(value) = find(payload, self.pointer.tokens()).and_then(Scalar::parse) else {
            return false;
        };
        match &self.test {
            Test::Equals(expected) => value == *expected,
            Test::OneOf(expected) => expected.contains(&value),
            Test::Matches(pattern) => match value {
                Scalar::Text(text) => pattern.matches(&text) && stays_where_it_is(&text),
                Scalar::Null | Scalar::Bool(_) | Scalar::Number(_) => false,
            },
        }
    }
}

/// The value that a pointer names, if it is the same for every reader.
fn find<'a>(json: &'a str, tokens: &[Box<str>]) -> Option<&'a str> {
    let Some((token, rest)) = tokens.split_first() else {
        return Some(json);
    };
    if let Some(members) = members(json) {
        let folded = fold(token);
        let mut alike = members.iter().filter(|(key, _)| fold(key) == folded);
        let (key, value) = alike.next()?;
        if alike.next().is_some() || **key != **token {
            return None;
        }
        return find(value.get(), rest);
    }
    let elements: Vec<&serde_json::value::RawValue> = serde_json::from_str(json).ok()?;
    // RFC 6901 §4: no leading zeros.
    let is_index = token.bytes().all(|byte| byte.is_ascii_digit())
        && (token.len() == 1 || !token.starts_with('0'));
    let index: usize = is_index.then(|| token.parse().ok()).flatten()?;
    find(elements.get(index)?.get(), rest)
}

/// What readers compare that ignore case, or take a key to end at a NUL.
fn fold(key: &str) -> String {
    let key = key.split('\0').next().unwrap_or_default();
    key.to_uppercase().to_lowercase()
}

/// Whether nobody who takes the text for a path could end up elsewhere than it says. Readers of URLs drop tabs and line
/// ends (WHATWG URL, "basic URL parser"), and a line end that gets into a request by HTTP begins another one.
fn stays_where_it_is(text: &str) -> bool {
    let mut text = text.to_owned();
    for _ in 0..DECODINGS_MAX {
        let mut segments = text.split(['/', '\\', '?', '#', ';']);
        if segments.any(|segment| matches!(segment.trim(), "." | ".."))
            || text.chars().any(char::is_control)
        {
            return false;
        }
        let Ok(decoded) = percent_decode_str(&text).decode_utf8() else {
            return false;
        };
        if decoded == text {
            return true;
        }
        text = decoded.into_owned();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn condition(pointer: &str, test: Test) -> Condition {
        Condition {
            pointer: Pointer::parse(pointer).unwrap(),
            test,
        }
    }

    fn equals(pointer: &str, json: &str) -> Condition {
        condition(pointer, Test::Equals(Scalar::parse(json).unwrap()))
    }

    fn matches(pointer: &str, pattern: &str) -> Condition {
        condition(pointer, Test::Matches(KeyPattern::new(pattern).unwrap()))
    }

    fn policy(conditions: Vec<Condition>) -> PayloadPolicy {
        PayloadPolicy::new(conditions).unwrap()
    }

    /// Only `GET` on `/tags/*`.
    fn reads_of_tags() -> PayloadPolicy {
        policy(vec![
            equals("/method", r#""GET""#),
            matches("/path", "/tags/*"),
        ])
    }

    #[test]
    fn every_condition_must_hold() {
        let policy = reads_of_tags();
        assert!(policy.allows(r#"{"path":"/tags/monitor","method":"GET"}"#));
        assert!(policy.allows(r#"{"method":"GET","path":"/tags/a?streamInterval=5","body":{}}"#));
        for refused in [
            r#"{"path":"/tags/monitor","method":"PUT"}"#,
            r#"{"path":"/device/reboot","method":"GET"}"#,
            r#"{"path":"/tags","method":"GET"}"#,
            r#"{"method":"GET"}"#,
            r#"{"path":["/tags/a"],"method":"GET"}"#,
            r#"{"path":"/tags/a","method":"get"}"#,
            r#"[{"path":"/tags/a","method":"GET"}]"#,
            r#""GET /tags/a""#,
            "null",
            "",
        ] {
            assert!(!policy.allows(refused), "{refused}");
        }
    }

    #[test]
    fn what_readers_could_take_for_something_else_is_refused() {
        let policy = reads_of_tags();
        for refused in [
            r#"{"path":"/tags/a","method":"GET","method":"PUT"}"#,
            r#"{"path":"/tags/a","method":"GET","Method":"PUT"}"#,
            r#"{"path":"/tags/a","method":"GET","m\u0065thod":"PUT"}"#,
            r#"{"path":"/tags/a","Path":"/users","method":"GET"}"#,
            r#"{"path":"/tags/../device/reboot","method":"GET"}"#,
            r#"{"path":"/tags/./a","method":"GET"}"#,
            r#"{"path":"/tags/%2e%2E/users","method":"GET"}"#,
            r#"{"path":"/tags/%252e%252e/users","method":"GET"}"#,
            r#"{"path":"/tags/..%2fusers","method":"GET"}"#,
            r#"{"path":"/tags/..\\users","method":"GET"}"#,
            r#"{"path":"/tags/..;/users","method":"GET"}"#,
            r#"{"path":"/tags/a\u0000b","method":"GET"}"#,
            r#"{"path":"/tags/.\t./users","method":"GET"}"#,
            r#"{"path":"/tags/.%0a./users","method":"GET"}"#,
            r#"{"path":"/tags/a HTTP/1.1\r\n\r\nPUT /users","method":"GET"}"#,
            r#"{"path":"/tags/a","method":"GET","method\u0000":"PUT"}"#,
            r#"{"path":"/tags/%ff","method":"GET"}"#,
        ] {
            assert!(!policy.allows(refused), "{refused}");
        }
        assert!(policy.allows(r#"{"path":"/tags/a..b/%20c","method":"GET"}"#));
        // A Kelvin sign is a `k` to those who fold case.
        let by_key = self::policy(vec![equals("/key", "1")]);
        assert!(!by_key.allows("{\"key\":1,\"\u{212a}ey\":2}"));
    }

    #[test]
    fn values_are_compared_as_json_and_numbers_as_written() {
        for (json, same, other) in [
            ("5", "5", "5.0"),
            ("true", "true", "false"),
            ("null", "null", "0"),
            (r#""é""#, r#""\u00e9""#, r#""e""#),
        ] {
            let policy = policy(vec![equals("/a/0", json)]);
            assert!(policy.allows(&format!(r#"{{"a":[{same}]}}"#)), "{same}");
            assert!(!policy.allows(&format!(r#"{{"a":[{other}]}}"#)), "{other}");
        }
        let whole = policy(vec![equals("", "5")]);
        assert!(whole.allows(" 5 "));
        let some = vec![Scalar::parse("1").unwrap(), Scalar::parse("2").unwrap()];
        let one_of = policy(vec![condition("/n", Test::OneOf(some))]);
        assert!(one_of.allows(r#"{"n":2}"#));
        assert!(!one_of.allows(r#"{"n":3}"#));
        assert!(!policy(vec![equals("/a/00", "5")]).allows(r#"{"a":[5]}"#));
    }

    #[test]
    fn a_policy_has_bounds() {
        assert_eq!(PayloadPolicy::new(vec![]), Err(PolicySizeError));
        let many = vec![equals("/a", "1"); CONDITIONS_MAX + 1];
        assert_eq!(PayloadPolicy::new(many), Err(PolicySizeError));
        let none = condition("/a", Test::OneOf(vec![]));
        assert_eq!(PayloadPolicy::new(vec![none]), Err(PolicySizeError));
        assert_eq!(Scalar::parse("{}"), None);
        assert_eq!(Scalar::parse(&format!("\"{}\"", "x".repeat(1024))), None);
    }
}
