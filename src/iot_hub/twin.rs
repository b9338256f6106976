//! Twins as the IoT hub gives and takes them.

use std::borrow::Cow;

use serde::Deserialize;

use crate::domain::hub_twin::HubTwin;
use crate::domain::raw_json::RawJson;
use crate::domain::time::Timestamp;

/// A part of a twin that the back end may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TwinSection {
    /// What the device is to be.
    DesiredProperties,
    /// What the back end notes about the device; the device does not see it.
    Tags,
}

/// The body of a request that merges `patch`, the text of a JSON object, into a section.
pub(super) fn patch_to_json(section: TwinSection, patch: &str) -> String {
    match section {
        TwinSection::DesiredProperties => format!(r#"{{"properties":{{"desired":{patch}}}}}"#),
        TwinSection::Tags => format!(r#"{{"tags":{patch}}}"#),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    #[serde(borrow)]
    connection_state: Option<Cow<'a, str>>,
    #[serde(borrow)]
    last_activity_time: Option<Cow<'a, str>>,
}

/// Reads the hub's answer to a read or a patch; `None` when it is no JSON object.
pub(super) fn parse_twin(text: String) -> Option<HubTwin> {
    if !is_object(&text) {
        return None;
    }
    let document: Document<'_> = serde_json::from_str(&text).ok()?;
    let connected = document.connection_state.as_deref() == Some("Connected");
    let last_activity = document.last_activity_time.as_deref().and_then(moment);
    Some(HubTwin {
        connected,
        last_activity,
        twin: RawJson::from_valid(text),
    })
}

/// Whether a text is one JSON object, by grammar.
pub(super) fn is_object(text: &str) -> bool {
    text.trim_ascii_start().starts_with('{')
        && serde_json::from_str::<&serde_json::value::RawValue>(text).is_ok()
}

/// A time of the hub, of which the year 1 means never.
fn moment(text: &str) -> Option<Timestamp> {
    let unix_ms = text.parse::<jiff::Timestamp>().ok()?.as_millisecond();
    (unix_ms > 0).then_some(Timestamp::UnixMs(unix_ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_twin_tells_whether_and_when_its_device_was_there() {
        let text = r#"{"deviceId":"d","connectionState":"Connected","lastActivityTime":"2024-03-14T09:54:49.6536567Z","version":9007199254740993}"#;
        let twin = parse_twin(text.to_owned()).unwrap();
        assert_eq!(twin.twin.as_str(), text);
        assert!(twin.connected);
        assert_eq!(
            twin.last_activity,
            Some(Timestamp::UnixMs(1_710_410_089_653))
        );

        let never =
            r#"{"connectionState":"Disconnected","lastActivityTime":"0001-01-01T00:00:00Z"}"#;
        let twin = parse_twin(never.to_owned()).unwrap();
        assert!(!twin.connected);
        assert_eq!(twin.last_activity, None);
        let bare = parse_twin("{}".to_owned()).unwrap();
        assert_eq!((bare.connected, bare.last_activity), (false, None));
    }

    #[test]
    fn what_is_no_object_is_no_twin() {
        for text in [
            "",
            "[]",
            "[\"Connected\",\"\"]",
            "null",
            "{",
            "{} {}",
            "<html>",
            r#"{"connectionState":1}"#,
        ] {
            assert_eq!(parse_twin(text.to_owned()), None, "{text}");
        }
    }

    #[test]
    fn a_patch_goes_out_as_it_was_written() {
        let patch = r#"{ "n": 1.0e2, "gone": null }"#;
        assert_eq!(
            patch_to_json(TwinSection::DesiredProperties, patch),
            r#"{"properties":{"desired":{ "n": 1.0e2, "gone": null }}}"#
        );
        assert_eq!(
            patch_to_json(TwinSection::Tags, patch),
            r#"{"tags":{ "n": 1.0e2, "gone": null }}"#
        );
    }
}
