//! Payload policies: which payloads a grant for a direct method allows.

use serde::{Deserialize, Serialize};
use serde_json::Number;

/// One condition on the payload of a direct method. A policy is a list of them, and all of them must hold.
///
/// ```json
/// {"pointer":"/method","equals":"GET"}
/// {"pointer":"/method","oneOf":["GET","HEAD"]}
/// {"pointer":"/path","matches":"/tags/*"}
/// ```
///
/// A pointer that points nowhere in the payload, or through a member that is there twice, fails its condition. So a
/// policy can only allow what it names.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Members", into = "Members")]
pub struct Condition {
    /// JSON pointer into the payload (RFC 6901); empty for the payload itself.
    pub pointer: String,
    /// What must be true of the value there.
    pub test: Test,
}

/// What a [`Condition`] asks of a value.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Test {
    /// It is this value.
    Equals(Scalar),
    /// It is one of these values.
    OneOf(Vec<Scalar>),
    /// It is a string that this pattern matches as a whole: `*` stands for any run of characters, also none, and
    /// everything else for itself. A string with `.` or `..` between slashes never matches.
    Matches(String),
}

/// A JSON value that is neither an object nor an array.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Scalar {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A number that fits 64-bit integers or doubles.
    Number(Number),
    /// A string.
    String(String),
}

impl Condition {
    /// The value that `pointer` points to is `value`.
    pub fn equals(pointer: impl Into<String>, value: impl Into<Scalar>) -> Self {
        Self {
            pointer: pointer.into(),
            test: Test::Equals(value.into()),
        }
    }

    /// The value that `pointer` points to is one of `values`.
    pub fn one_of<V: Into<Scalar>>(
        pointer: impl Into<String>,
        values: impl IntoIterator<Item = V>,
    ) -> Self {
        Self {
            pointer: pointer.into(),
            test: Test::OneOf(values.into_iter().map(Into::into).collect()),
        }
    }

    /// The value that `pointer` points to is a string that `pattern` matches, in which `*` stands for any characters.
    pub fn matches(pointer: impl Into<String>, pattern: impl Into<String>) -> Self {
        Self {
            pointer: pointer.into(),
            test: Test::Matches(pattern.into()),
        }
    }
}

impl From<bool> for Scalar {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<i64> for Scalar {
    fn from(value: i64) -> Self {
        Self::Number(value.into())
    }
}

impl From<i32> for Scalar {
    fn from(value: i32) -> Self {
        Self::Number(value.into())
    }
}

impl From<u64> for Scalar {
    fn from(value: u64) -> Self {
        Self::Number(value.into())
    }
}

impl From<u32> for Scalar {
    fn from(value: u32) -> Self {
        Self::Number(value.into())
    }
}

impl From<Number> for Scalar {
    fn from(value: Number) -> Self {
        Self::Number(value)
    }
}

impl From<String> for Scalar {
    fn from(value: String) -> Self {
        Self::String(value)
    }
}

impl From<&str> for Scalar {
    fn from(value: &str) -> Self {
        Self::String(value.to_owned())
    }
}

/// A condition as it is written. What is not understood is refused: a test left out would allow more.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Members {
    pointer: String,
    #[serde(
        default,
        deserialize_with = "crate::data_event::present",
        skip_serializing_if = "Option::is_none"
    )]
    equals: Option<Scalar>,
    #[serde(
        default,
        deserialize_with = "crate::data_event::present",
        skip_serializing_if = "Option::is_none"
    )]
    one_of: Option<Vec<Scalar>>,
    #[serde(
        default,
        deserialize_with = "crate::data_event::present",
        skip_serializing_if = "Option::is_none"
    )]
    matches: Option<String>,
}

impl From<Condition> for Members {
    fn from(condition: Condition) -> Self {
        let mut members = Self {
            pointer: condition.pointer,
            equals: None,
            one_of: None,
            matches: None,
        };
        match condition.test {
            Test::Equals(value) => members.equals = Some(value),
            Test::OneOf(values) => members.one_of = Some(values),
            Test::Matches(pattern) => members.matches = Some(pattern),
        }
        members
    }
}

impl TryFrom<Members> for Condition {
    type Error = &'static str;

    fn try_from(members: Members) -> Result<Self, Self::Error> {
        let test = match (members.equals, members.one_of, members.matches) {
            (Some(value), None, None) => Test::Equals(value),
            (None, Some(values), None) => Test::OneOf(values),
            (None, None, Some(pattern)) => Test::Matches(pattern),
            _ => return Err("a condition has exactly one of equals, oneOf and matches"),
        };
        Ok(Self {
            pointer: members.pointer,
            test,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_test_reads_and_writes_its_documented_shape() {
        for (text, condition) in [
            (
                r#"{"pointer":"/method","equals":"GET"}"#,
                Condition::equals("/method", "GET"),
            ),
            (
                r#"{"pointer":"","equals":null}"#,
                Condition::equals("", Scalar::Null),
            ),
            (
                r#"{"pointer":"/n","equals":18446744073709551615}"#,
                Condition::equals("/n", u64::MAX),
            ),
            (
                r#"{"pointer":"/b","oneOf":[true,-1]}"#,
                Condition::one_of("/b", [Scalar::from(true), Scalar::from(-1)]),
            ),
            (
                r#"{"pointer":"/path","matches":"/tags/*"}"#,
                Condition::matches("/path", "/tags/*"),
            ),
        ] {
            assert_eq!(serde_json::to_string(&condition).unwrap(), text);
            let read: Condition = serde_json::from_str(text).unwrap();
            assert_eq!(read, condition);
        }
    }

    #[test]
    fn a_condition_that_is_not_understood_as_a_whole_is_refused() {
        for text in [
            r#"{"pointer":"/a"}"#,
            r#"{"equals":1}"#,
            r#"{"pointer":"/a","equals":1,"matches":"*"}"#,
            r#"{"pointer":"/a","equals":{}}"#,
            r#"{"pointer":"/a","equals":[]}"#,
            r#"{"pointer":"/a","oneOf":null,"matches":"*"}"#,
            r#"{"pointer":"/a","matches":1}"#,
            r#"{"pointer":"/a","equals":1,"not":true}"#,
        ] {
            assert!(serde_json::from_str::<Condition>(text).is_err(), "{text}");
        }
    }
}
