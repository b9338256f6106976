//! The part of the IoT Hub query language that devhub knows:
//! `SELECT * FROM devices|devices.modules [WHERE path = literal | path IN [literal, ..] [AND ..]]`, where a path leads
//! into the twin document. See "IoT Hub query language" in the Azure documentation. Everything else is refused by name.

use std::cmp::Ordering;

use serde_json::Value;

use super::error::HubError;
use super::identity_id::IdentityId;

const TEXT_BYTES_MAX: usize = 8 * 1024;

/// A parsed query.
#[derive(Clone, Debug, PartialEq)]
pub struct Query {
    source: Source,
    conditions: Vec<Condition>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Devices,
    Modules,
}

/// The value at a path is one of these.
#[derive(Clone, Debug, PartialEq)]
struct Condition {
    path: Vec<String>,
    one_of: Vec<Value>,
}

/// Some of the twins that a query finds.
#[derive(Clone, Debug, PartialEq)]
pub struct QueryPage {
    /// Twin documents, in the order of their ids.
    pub twins: Vec<Value>,
    /// The last of them, when there are more behind it.
    pub continues_after: Option<IdentityId>,
}

impl Query {
    /// Parses a query; the error says what was expected.
    pub fn parse(text: &str) -> Result<Self, HubError> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(HubError::invalid("the query is longer than 8 KB"));
        }
        let mut tokens = Tokens { rest: text };
        for keyword in ["SELECT", "*", "FROM"] {
            tokens.keyword(keyword)?;
        }
        let source = match tokens.path()?.as_slice() {
            [devices] if devices.eq_ignore_ascii_case("devices") => Source::Devices,
            [devices, modules]
                if devices.eq_ignore_ascii_case("devices")
                    && modules.eq_ignore_ascii_case("modules") =>
            {
                Source::Modules
            }
            _ => return Err(expected("devices or devices.modules after FROM")),
        };
        let mut conditions = Vec::new();
        if !tokens.is_empty() {
            tokens.keyword("WHERE")?;
            conditions.push(tokens.condition()?);
            while !tokens.is_empty() {
                tokens.keyword("AND")?;
                conditions.push(tokens.condition()?);
            }
        }
        Ok(Self { source, conditions })
    }

    /// Whether it asks for identities of this kind at all.
    pub(super) fn is_about(&self, id: &IdentityId) -> bool {
        match self.source {
            Source::Devices => id.module_id().is_none(),
            Source::Modules => id.module_id().is_some(),
        }
    }

    pub(super) fn matches(&self, twin: &Value) -> bool {
        self.conditions.iter().all(|condition| {
            let found = condition
                .path
                .iter()
                .try_fold(twin, |value, key| value.get(key));
            found.is_some_and(|found| condition.one_of.iter().any(|value| equal(value, found)))
        })
    }
}

/// Numbers are equal by value, however they are written.
fn equal(left: &Value, right: &Value) -> bool {
    match (left.as_f64(), right.as_f64()) {
        (Some(left), Some(right)) => left.partial_cmp(&right).is_some_and(Ordering::is_eq),
        _ => left == right,
    }
}

fn expected(what: &str) -> HubError {
    HubError::invalid(format!("the query is not understood: expected {what}"))
}

/// What is left of the text.
struct Tokens<'a> {
    rest: &'a str,
}

impl<'a> Tokens<'a> {
    fn skip_space(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn is_empty(&mut self) -> bool {
        self.skip_space();
        self.rest.is_empty()
    }

    /// The longest run of characters of a name.
    fn name(&mut self) -> &'a str {
        self.skip_space();
        let is_of_name =
            |character: char| character.is_alphanumeric() || "_-$#*+:@%".contains(character);
        let end = self
            .rest
            .find(|character| !is_of_name(character))
            .unwrap_or(self.rest.len());
        let (name, rest) = self.rest.split_at(end);
        self.rest = rest;
        name
    }

    fn keyword(&mut self, keyword: &str) -> Result<(), HubError> {
        if self.name().eq_ignore_ascii_case(keyword) {
            return Ok(());
        }
        Err(expected(keyword))
    }

    /// Takes a sign, if it is next.
    fn sign(&mut self, sign: &str) -> bool {
        self.skip_space();
        match self.rest.strip_prefix(sign) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn path(&mut self) -> Result<Vec<String>, HubError> {
        let mut path = Vec::new();
        loop {
            let name = if self.sign("[[") {
                let (name, rest) = self.rest.split_once("]]").ok_or_else(|| expected("]]"))?;
                self.rest = rest;
                name
            } else {
                self.name()
            };
            if name.is_empty() {
                return Err(expected("the path of a property"));
            }
            path.push(name.to_owned());
            if !self.sign(".") {
                return Ok(path);
            }
        }
    }

    fn condition(&mut self) -> Result<Condition, HubError> {
        let path = self.path()?;
        if self.sign("=") {
            return Ok(Condition {
                path,
                one_of: vec![self.literal()?],
            });
        }
        self.keyword("IN")
            .map_err(|_| expected("= or IN behind a path"))?;
        if !self.sign("[") {
            return Err(expected("[ behind IN"));
        }
        let mut one_of = vec![self.literal()?];
        while self.sign(",") {
            one_of.push(self.literal()?);
        }
        if !self.sign("]") {
            return Err(expected(", or ] in a list"));
        }
        Ok(Condition { path, one_of })
    }

    fn literal(&mut self) -> Result<Value, HubError> {
        for quote in ["'", "\""] {
            if self.sign(quote) {
                let (text, rest) = self
                    .rest
                    .split_once(quote)
                    .ok_or_else(|| expected("the end of a text"))?;
                self.rest = rest;
                return Ok(text.into());
            }
        }
        let end = self
            .rest
            .find(|character: char| character.is_whitespace() || ",]".contains(character))
            .unwrap_or(self.rest.len());
        let (literal, rest) = self.rest.split_at(end);
        self.rest = rest;
        let value = match literal.to_ascii_lowercase().as_str() {
            "true" => Value::Bool(true),
            "false" => Value::Bool(false),
            "null" => Value::Null,
            _ => literal
                .parse::<serde_json::Number>()
                .map(Value::Number)
                .map_err(|_| expected("a text in quotes, a number, true, false or null"))?,
        };
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn finds(query: &str, twin: &Value) -> bool {
        Query::parse(query).unwrap().matches(twin)
    }

    #[test]
    fn equality_in_and_and_lead_into_the_twin() {
        let twin = json!({
            "deviceId": "press-01",
            "tags": { "site": "Ulm", "a.b": 1, "line": { "number": 4 } },
            "properties": { "reported": { "rpm": 1500, "on": true, "fault": null } },
        });
        for query in [
            "SELECT * FROM devices",
            "select * from devices where deviceId = 'press-01'",
            "SELECT * FROM devices WHERE tags.site = \"Ulm\" AND tags.line.number = 4",
            "SELECT * FROM devices WHERE properties.reported.rpm=1.5e3 AND properties.reported.on = TRUE",
            "SELECT * FROM devices WHERE deviceId IN ['a', 'press-01'] AND properties.reported.fault = null",
            "SELECT * FROM devices WHERE tags.[[a.b]] = 1",
        ] {
            assert!(finds(query, &twin), "{query}");
        }
        for query in [
            "SELECT * FROM devices WHERE deviceId = 'Press-01'",
            "SELECT * FROM devices WHERE tags.site = 'Ulm' AND tags.line.number = 5",
            "SELECT * FROM devices WHERE properties.reported.rpm = '1500'",
            "SELECT * FROM devices WHERE properties.desired.rpm = null",
            "SELECT * FROM devices WHERE deviceId IN ['a']",
        ] {
            assert!(!finds(query, &twin), "{query}");
        }
    }

    #[test]
    fn the_source_tells_devices_from_modules() {
        let (device, module) = (
            IdentityId::device("d").unwrap(),
            IdentityId::module("d", "m").unwrap(),
        );
        let about = |query: &str| {
            let query = Query::parse(query).unwrap();
            (query.is_about(&device), query.is_about(&module))
        };
        assert_eq!(about("SELECT * FROM devices"), (true, false));
        assert_eq!(about("SELECT * FROM Devices.Modules"), (false, true));
    }

    #[test]
    fn what_is_not_known_is_refused_with_what_was_expected() {
        for (query, message) in [
            ("", "expected SELECT"),
            ("SELECT deviceId FROM devices", "expected *"),
            (
                "SELECT * FROM devices.jobs",
                "expected devices or devices.modules",
            ),
            ("SELECT * FROM devices ORDER BY x", "expected WHERE"),
            ("SELECT * FROM devices WHERE", "expected the path"),
            ("SELECT * FROM devices WHERE a > 1", "expected = or IN"),
            (
                "SELECT * FROM devices WHERE a = b",
                "expected a text in quotes",
            ),
            (
                "SELECT * FROM devices WHERE a = 'b",
                "expected the end of a text",
            ),
            ("SELECT * FROM devices WHERE a IN [1 2]", "expected , or ]"),
            ("SELECT * FROM devices WHERE a = 1 OR b = 1", "expected AND"),
        ] {
            let error = Query::parse(query).unwrap_err();
            assert!(error.message().contains(message), "{query}: {error}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC{0,60}") {
            let _ = Query::parse(&text);
            let _ = Query::parse(&format!("SELECT * FROM devices WHERE {text}"));
        }
    }
}
