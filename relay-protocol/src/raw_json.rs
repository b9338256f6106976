//! JSON kept as text.

use std::fmt;

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, value::RawValue};

/// A JSON value kept exactly as it was written, digits and member order included.
///
/// Comparison is by text. Reading and writing work with `serde_json` only, for which the text is passed through.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RawJson(Box<RawValue>);

impl RawJson {
    /// Keeps `text` after checking that it is one JSON value.
    pub fn parse(text: impl Into<String>) -> Result<Self, serde_json::Error> {
        RawValue::from_string(text.into()).map(Self)
    }

    /// The text as it was written.
    pub fn as_str(&self) -> &str {
        self.0.get()
    }

    /// Reads the text as a value of type `T`.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_str(self.as_str())
    }

    /// The parsed tree. Numbers that fit neither 64-bit integers nor doubles lose digits here.
    pub fn to_value(&self) -> Value {
        serde_json::from_str(self.as_str()).expect("the text was checked when this value was made")
    }
}

impl From<&Value> for RawJson {
    fn from(value: &Value) -> Self {
        Self(RawValue::from_string(value.to_string()).expect("a JSON tree prints as JSON"))
    }
}

impl From<Value> for RawJson {
    fn from(value: Value) -> Self {
        Self::from(&value)
    }
}

impl PartialEq for RawJson {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for RawJson {}

impl fmt::Debug for RawJson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for RawJson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_and_member_order_survive_a_round_trip() {
        let text = r#"{"z":12345678901234567890123,"a":1.50}"#;
        let read: RawJson = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&read).unwrap(), text);
    }

    #[test]
    fn text_that_is_not_json_is_refused() {
        assert!(RawJson::parse("{").is_err());
    }
}
