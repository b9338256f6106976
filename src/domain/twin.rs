//! The twin of one device, put together from the hub's twin events.
//!
//! Clients replace what they have by what they get, so an update always carries the whole twin as far as it is
//! known. Numbers keep their digits: values are merged as JSON text, never as floating point.

use indexmap::IndexMap;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::device_message::{TwinEvent, TwinEventKind};
use super::raw_json::RawJson;
use super::time::Stamp;

/// Deepest nesting that a merge follows; below it a patch replaces. The hub allows ten levels.
const MERGE_DEPTH_MAX: usize = 32;

/// What is known of one device's twin.
#[derive(Debug)]
pub(super) struct Twin {
    version: Option<u64>,
    reported: String,
    desired: String,
    tags: Option<String>,
    /// Whether it started from a full twin and missed nothing since.
    complete: bool,
    pub(super) stamp: Stamp,
    /// When it was last changed, on the monotonic clock.
    pub(super) changed_at_ms: u64,
}

#[derive(Deserialize)]
struct EventBody<'a> {
    version: Option<u64>,
    #[serde(borrow)]
    tags: Option<&'a RawValue>,
    #[serde(borrow, default)]
    properties: Properties<'a>,
}

#[derive(Default, Deserialize)]
struct Properties<'a> {
    #[serde(borrow)]
    reported: Option<&'a RawValue>,
    #[serde(borrow)]
    desired: Option<&'a RawValue>,
}

/// The event's body is not a twin or a part of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NotATwin;

impl Twin {
    /// The twin after an event. A patch that follows the known twin's version is merged into it; one that does not is
    /// all that is known.
    pub(super) fn after(
        known: Option<&Self>,
        event: &TwinEvent,
        stamp: Stamp,
        now_ms: u64,
    ) -> Result<Self, NotATwin> {
        let body: EventBody<'_> =
            serde_json::from_str(event.body.as_str()).map_err(|_| NotATwin)?;
        let base = match event.kind {
            TwinEventKind::Replace => None,
            TwinEventKind::Update => known.filter(|twin| {
                matches!((twin.version, body.version), (Some(known), Some(next)) if known.checked_add(1) == Some(next))
            }),
        };
        let section = |base: Option<&str>, patch: Option<&RawValue>| {
            let base = base.unwrap_or("{}");
            patch.map_or_else(
                || base.to_owned(),
                |patch| merge_patch(base, patch.get(), 0),
            )
        };
        let tags_base = base.and_then(|twin| twin.tags.as_deref());
        Ok(Self {
            version: body.version,
            reported: section(
                base.map(|twin| twin.reported.as_str()),
                body.properties.reported,
            ),
            desired: section(
                base.map(|twin| twin.desired.as_str()),
                body.properties.desired,
            ),
            tags: (tags_base.is_some() || body.tags.is_some())
                .then(|| section(tags_base, body.tags)),
            complete: event.kind == TwinEventKind::Replace
                || base.is_some_and(|twin| twin.complete),
            stamp,
            changed_at_ms: now_ms,
        })
    }

    /// Whether this is the whole twin, as a read of the hub would give it.
    pub(super) fn is_complete(&self) -> bool {
        self.complete
    }

    /// The twin as clients get it: `{"version", "properties": {"reported", "desired"}, "tags"?}`.
    pub(super) fn to_json(&self) -> RawJson {
        let version = self
            .version
            .map_or_else(|| "null".to_owned(), |version| version.to_string());
        let mut json = format!(
            r#"{{"version":{version},"properties":{{"reported":{},"desired":{}}}"#,
            self.reported, self.desired
        );
        if let Some(tags) = &self.tags {
            json.push_str(",\"tags\":");
            json.push_str(tags);
        }
        json.push('}');
        RawJson::from_valid(json)
    }
}

/// JSON merge patch (RFC 7396) on texts: objects merge, `null` removes, everything else replaces.
fn merge_patch(target: &str, patch: &str, depth: usize) -> String {
    let object = |text| serde_json::from_str::<IndexMap<String, &RawValue>>(text).ok();
    let Some(patch_members) = object(patch).filter(|_| depth < MERGE_DEPTH_MAX) else {
        return patch.to_owned();
    };
    let mut members: IndexMap<String, String> = object(target)
        .unwrap_or_default()
        .into_iter()
        .map(|(key, value)| (key, value.get().to_owned()))
        .collect();
    for (key, value) in patch_members {
        if value.get() == "null" {
            members.shift_remove(&key);
        } else {
            let base = members.get(&key).map_or("null", String::as_str);
            let merged = merge_patch(base, value.get(), depth + 1);
            members.insert(key, merged);
        }
    }
    let mut json = String::from("{");
    for (place, (key, value)) in members.iter().enumerate() {
        if place > 0 {
            json.push(',');
        }
        json.push_str(&serde_json::Value::from(key.as_str()).to_string());
        json.push(':');
        json.push_str(value);
    }
    json.push('}');
    json
}

#[cfg(test)]
mod tests {
    use super::super::time::Timestamp;
    use super::*;

    fn stamp() -> Stamp {
        Stamp {
            timestamp: Timestamp::UnixMs(1),
            received_unix_ms: 1,
        }
    }

    fn event(kind: TwinEventKind, body: &str) -> TwinEvent {
        TwinEvent {
            kind,
            body: RawJson::from_valid(body),
        }
    }

    fn after(known: Option<&Twin>, kind: TwinEventKind, body: &str) -> Twin {
        Twin::after(known, &event(kind, body), stamp(), 0).unwrap()
    }

    const FULL: &str = r#"{"deviceId":"d1","version":3,"tags":{"site":5},
        "properties":{"desired":{"interval":10,"$version":1},"reported":{"a":{"b":1,"c":2},"$version":1}}}"#;

    #[test]
    fn a_patch_that_follows_is_merged_into_the_whole_twin() {
        let full = after(None, TwinEventKind::Replace, FULL);
        let next = after(
            Some(&full),
            TwinEventKind::Update,
            r#"{"version":4,"properties":{"reported":{"a":{"b":null,"d":9007199254740993},"$version":2}}}"#,
        );
        assert!(next.is_complete());
        assert_eq!(
            next.to_json().as_str(),
            r#"{"version":4,"properties":{"reported":{"a":{"c":2,"d":9007199254740993},"$version":2},"desired":{"interval":10,"$version":1}},"tags":{"site":5}}"#
        );
    }

    #[test]
    fn a_patch_after_a_gap_is_all_that_is_known() {
        let full = after(None, TwinEventKind::Replace, FULL);
        let next = after(
            Some(&full),
            TwinEventKind::Update,
            r#"{"version":6,"properties":{"desired":{"x":1}}}"#,
        );
        assert!(!next.is_complete());
        assert_eq!(
            next.to_json().as_str(),
            r#"{"version":6,"properties":{"reported":{},"desired":{"x":1}}}"#
        );
    }

    #[test]
    fn what_is_not_a_twin_is_refused() {
        for body in ["[]", "1", r#"{"version":"x"}"#, r#"{"properties":[]}"#] {
            let event = event(TwinEventKind::Update, body);
            assert_eq!(
                Twin::after(None, &event, stamp(), 0).err(),
                Some(NotATwin),
                "{body}"
            );
        }
    }

    #[test]
    fn deep_patches_end_in_replacement_not_in_recursion() {
        let deep = format!("{}1{}", r#"{"a":"#.repeat(100), "}".repeat(100));
        assert!(merge_patch(&deep, &deep, 0).len() >= 100);
    }
}
