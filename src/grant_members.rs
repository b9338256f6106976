//! The members that say what is granted, alike in grant requests and in grant tokens.
//!
//! Whatever narrows a grant is understood as a whole or refused, also when it is `null`: a narrowing that was passed over
//! would grant more than was meant. What the callers owe those who sent it differs, so an error says both which member is
//! wrong and why.

use std::borrow::Cow;
use std::sync::Arc;

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::domain::grant::{Grant, METHOD_NAME_BYTES_MAX};
use crate::domain::id::TelemetryKey;
use crate::domain::json_pointer::{POINTERS_MAX, Pointer, Pointers};
use crate::domain::payload_policy::{CONDITIONS_MAX, Condition, PayloadPolicy, Scalar, Test};
use crate::domain::subscription::KeyPattern;

/// What is wrong with a name.
pub(crate) const NOT_A_NAME: &str = "is empty, too long or no text";

/// What is wrong with a member that another type has.
pub(crate) const MISPLACED: &str = "does not go with the type of the grant";

const NOT_A_TYPE: &str = "is none of telemetry, connectionState, deviceTwin, d2cMessages, desiredProperties, tags, directMethod";
const NOT_POINTERS: &str =
    "is not a list of 1 to 64 JSON pointers, each of at most 1024 bytes and 32 reference tokens";
const NOT_A_POLICY: &str = "is not a list of 1 to 32 conditions, each a JSON pointer as `pointer` and one of `equals`, `oneOf` and `matches`";

/// What beside the type says what is granted. A member that is absent is `None`; of `telemetry_key` and
/// `direct_method_name`, `null` may be as well.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct GrantMembers<'a> {
    pub(crate) telemetry_key: Option<&'a RawValue>,
    pub(crate) direct_method_name: Option<&'a RawValue>,
    pub(crate) pointers: Option<&'a RawValue>,
    pub(crate) payload_policy: Option<&'a RawValue>,
}

/// A member is not what it must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WrongMember {
    /// Its name.
    pub(crate) member: &'static str,
    /// What is wrong with it, as the end of a sentence.
    pub(crate) problem: &'static str,
}

impl GrantMembers<'_> {
    /// The grant of that type. A narrowing that does not go with the type is refused; so a telemetry key or method name
    /// is not, which clients of ux4iot send with other types too.
    pub(crate) fn grant(self, kind: &str) -> Result<Grant, WrongMember> {
        let narrowed_by = match kind {
            "deviceTwin" | "desiredProperties" | "tags" => Some("pointers"),
            "directMethod" => Some("payloadPolicy"),
            _ => None,
        };
        for (member, value) in [
            ("pointers", self.pointers),
            ("payloadPolicy", self.payload_policy),
        ] {
            if value.is_some() && narrowed_by != Some(member) {
                return Err(WrongMember {
                    member,
                    problem: MISPLACED,
                });
            }
        }
        Ok(match kind {
            "telemetry" => Grant::Telemetry(telemetry_key(self.telemetry_key)?),
            "connectionState" => Grant::ConnectionState,
            "deviceTwin" => Grant::DeviceTwin(self.pointers()?),
            "d2cMessages" => Grant::D2cMessages,
            "desiredProperties" => Grant::DesiredProperties(self.pointers()?),
            "tags" => Grant::Tags(self.pointers()?),
            "directMethod" => Grant::DirectMethod(self.method_name()?, self.payload_policy()?),
            _ => {
                return Err(WrongMember {
                    member: "type",
                    problem: NOT_A_TYPE,
                });
            }
        })
    }

    fn method_name(self) -> Result<Option<Arc<str>>, WrongMember> {
        let name = unless_null(self.direct_method_name);
        read(name, "directMethodName", NOT_A_NAME, |value| {
            let name = text(value)?;
            let fits = (1..=METHOD_NAME_BYTES_MAX).contains(&name.len());
            fits.then(|| Arc::from(&*name))
        })
    }

    fn pointers(self) -> Result<Option<Pointers>, WrongMember> {
        read(self.pointers, "pointers", NOT_POINTERS, read_pointers)
    }

    fn payload_policy(self) -> Result<Option<PayloadPolicy>, WrongMember> {
        read(
            self.payload_policy,
            "payloadPolicy",
            NOT_A_POLICY,
            read_policy,
        )
    }
}

/// The telemetry key of a grant or subscription; `null` and absent mean every key.
pub(crate) fn telemetry_key(
    member: Option<&RawValue>,
) -> Result<Option<TelemetryKey>, WrongMember> {
    read(unless_null(member), "telemetryKey", NOT_A_NAME, |value| {
        TelemetryKey::new(&text(value)?)
    })
}

/// Reads a member, also one that is `null`; for members where that is not the same as leaving them out. With
/// `#[serde(default)]`.
pub(crate) fn even_null<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

fn read<T>(
    value: Option<&RawValue>,
    member: &'static str,
    problem: &'static str,
    read: impl FnOnce(&RawValue) -> Option<T>,
) -> Result<Option<T>, WrongMember> {
    let read = |value| read(value).ok_or(WrongMember { member, problem });
    value.map(read).transpose()
}

fn unless_null(value: Option<&RawValue>) -> Option<&RawValue> {
    value.filter(|value| value.get() != "null")
}

/// The text in a JSON string.
pub(crate) fn text(value: &RawValue) -> Option<Cow<'_, str>> {
    #[derive(Deserialize)]
    struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

    serde_json::from_str(value.get())
        .ok()
        .map(|Text(text)| text)
}

fn read_pointers(value: &RawValue) -> Option<Pointers> {
    let texts: Vec<&RawValue> = serde_json::from_str(value.get()).ok()?;
    if texts.len() > POINTERS_MAX {
        return None;
    }
    let pointers = texts
        .into_iter()
        .map(|value| Pointer::parse(&text(value)?).ok());
    Pointers::new(pointers.collect::<Option<_>>()?).ok()
}

fn read_policy(value: &RawValue) -> Option<PayloadPolicy> {
    let conditions: Vec<&RawValue> = serde_json::from_str(value.get()).ok()?;
    if conditions.len() > CONDITIONS_MAX {
        return None;
    }
    let conditions = conditions.into_iter().map(read_condition);
    PayloadPolicy::new(conditions.collect::<Option<_>>()?).ok()
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ConditionMembers<'a> {
    #[serde(borrow)]
    pointer: &'a RawValue,
    #[serde(borrow, default, deserialize_with = "even_null")]
    equals: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "even_null")]
    one_of: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "even_null")]
    matches: Option<&'a RawValue>,
}

fn read_condition(value: &RawValue) -> Option<Condition> {
    // Serde by itself would also take an array with the members in order.
    let object = Some(value.get()).filter(|text| text.starts_with('{'))?;
    let members: ConditionMembers<'_> = serde_json::from_str(object).ok()?;
    let test = match (members.equals, members.one_of, members.matches) {
        (Some(value), None, None) => Test::Equals(Scalar::parse(value.get())?),
        (None, Some(values), None) => {
            let values: Vec<&RawValue> = serde_json::from_str(values.get()).ok()?;
            let values = values.into_iter().map(|value| Scalar::parse(value.get()));
            Test::OneOf(values.collect::<Option<_>>()?)
        }
        (None, None, Some(pattern)) => Test::Matches(KeyPattern::new(&text(pattern)?)?),
        _ => return None,
    };
    let pointer = Pointer::parse(&text(members.pointer)?).ok()?;
    Some(Condition { pointer, test })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Body<'a> {
        #[serde(borrow, default, deserialize_with = "even_null")]
        telemetry_key: Option<&'a RawValue>,
        #[serde(borrow, default, deserialize_with = "even_null")]
        direct_method_name: Option<&'a RawValue>,
        #[serde(borrow, default, deserialize_with = "even_null")]
        pointers: Option<&'a RawValue>,
        #[serde(borrow, default, deserialize_with = "even_null")]
        payload_policy: Option<&'a RawValue>,
    }

    fn grant(kind: &str, members: &serde_json::Value) -> Result<Grant, &'static str> {
        let text = members.to_string();
        let body: Body<'_> = serde_json::from_str(&text).unwrap();
        let members = GrantMembers {
            telemetry_key: body.telemetry_key,
            direct_method_name: body.direct_method_name,
            pointers: body.pointers,
            payload_policy: body.payload_policy,
        };
        members.grant(kind).map_err(|wrong| wrong.member)
    }

    fn pointers<const N: usize>(texts: [&str; N]) -> Pointers {
        let pointers = texts.map(|text| Pointer::parse(text).unwrap());
        Pointers::new(pointers.into()).unwrap()
    }

    #[test]
    fn what_narrows_a_grant_is_read_with_the_types_that_have_it() {
        let narrowed = json!({"pointers": ["/b", "/a~1b/c"]});
        let parts = || Some(pointers(["/a~1b/c", "/b"]));
        for (kind, read) in [
            ("deviceTwin", Grant::DeviceTwin(parts())),
            ("desiredProperties", Grant::DesiredProperties(parts())),
            ("tags", Grant::Tags(parts())),
        ] {
            assert_eq!(grant(kind, &narrowed), Ok(read));
        }
        for kind in [
            "telemetry",
            "connectionState",
            "d2cMessages",
            "directMethod",
        ] {
            assert_eq!(grant(kind, &narrowed), Err("pointers"), "{kind}");
        }
        for kind in ["telemetry", "deviceTwin", "tags", "desiredProperties"] {
            let policy = json!({"payloadPolicy": [{"pointer": "", "equals": 1}]});
            assert_eq!(grant(kind, &policy), Err("payloadPolicy"), "{kind}");
        }
        assert_eq!(grant("twin", &json!({})), Err("type"));
        assert_eq!(
            grant("telemetry", &json!({"telemetryKey": null})),
            Ok(Grant::Telemetry(None))
        );
    }

    #[test]
    fn a_policy_is_a_list_of_conditions() {
        let condition = |pointer, test| Condition {
            pointer: Pointer::parse(pointer).unwrap(),
            test,
        };
        let text = |text: &str| Scalar::Text(text.into());
        let policy = PayloadPolicy::new(vec![
            condition("/method", Test::OneOf(vec![text("GET"), text("HEAD")])),
            condition("/path", Test::Matches(KeyPattern::new("/tags/*").unwrap())),
            condition("", Test::Equals(Scalar::Null)),
            condition("/n", Test::Equals(Scalar::Number("1.50".into()))),
        ]);
        let members = r#"{"directMethodName":"api","payloadPolicy":[
            {"pointer":"/method","oneOf":["GET","HEAD"]},{"pointer":"/path","matches":"/tags/*"},
            {"pointer":"","equals":null},{"pointer":"/n","equals":1.50}]}"#;
        let body: Body<'_> = serde_json::from_str(members).unwrap();
        let members = GrantMembers {
            direct_method_name: body.direct_method_name,
            payload_policy: body.payload_policy,
            ..GrantMembers::default()
        };
        let read = Grant::DirectMethod(Some("api".into()), Some(policy.unwrap()));
        assert_eq!(members.grant("directMethod"), Ok(read));
    }

    #[test]
    fn a_narrowing_that_is_not_understood_is_never_passed_over() {
        let long = format!("/{}", "a".repeat(1024));
        let many = vec!["/a"; 65];
        for wrong in [
            json!(null),
            json!([]),
            json!({}),
            json!("/a"),
            json!([null]),
            json!([["/a"]]),
            json!(["a"]),
            json!(["/a", "/~"]),
            json!([long]),
            json!(["/a".repeat(33)]),
            json!(many),
        ] {
            let members = json!({"pointers": wrong});
            for kind in ["deviceTwin", "desiredProperties", "tags"] {
                assert_eq!(grant(kind, &members), Err("pointers"), "{members}");
            }
        }
        let good = json!({"pointer": "/a", "equals": 1});
        let long = "a".repeat(1024);
        for wrong in [
            json!(null),
            json!([]),
            json!({}),
            good.clone(),
            json!([good, null]),
            json!([good, ["/a", 1]]),
            json!([good, {"pointer": "/a"}]),
            json!([{"equals": 1}]),
            json!([{"pointer": null, "equals": 1}]),
            json!([{"pointer": "a", "equals": 1}]),
            json!([{"pointer": "/a", "equals": {}}]),
            json!([{"pointer": "/a", "equals": [1]}]),
            json!([{"pointer": "/a", "equals": long}]),
            json!([{"pointer": "/a", "oneOf": []}]),
            json!([{"pointer": "/a", "oneOf": 1}]),
            json!([{"pointer": "/a", "oneOf": vec![1; 33]}]),
            json!([{"pointer": "/a", "oneOf": null, "equals": 1}]),
            json!([{"pointer": "/a", "matches": 1}]),
            json!([{"pointer": "/a", "matches": ""}]),
            json!([{"pointer": "/a", "matches": "*********"}]),
            json!([{"pointer": "/a", "equals": 1, "matches": "*"}]),
            json!([{"pointer": "/a", "equals": 1, "not": true}]),
            json!(vec![good; 33]),
        ] {
            let members = json!({"payloadPolicy": wrong});
            assert_eq!(
                grant("directMethod", &members),
                Err("payloadPolicy"),
                "{members}"
            );
        }
    }
}
