//! The twin of one device, put together from the hub's twin events.
//!
//! Clients replace what they have by what they get, so an update always carries the whole twin as far as it is
//! known. Numbers keep their digits: values are merged as JSON text, never as floating point.

use indexmap::IndexMap;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::device_message::{TwinEvent, TwinEventKind};
use super::json_pointer::literal;
use super::raw_json::RawJson;
use super::time::{Stamp, Stamped};

/// Deepest nesting that a merge follows; below it a patch replaces. The hub allows ten levels.
const MERGE_DEPTH_MAX: usize = 32;

/// The member of a side that tells when each of its properties was last written.
const METADATA: &str = "$metadata";

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
    /// When it was last changed or read, on the monotonic clock.
    pub(super) changed_at_ms: u64,
}

#[derive(Deserialize)]
struct Document<'a> {
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

/// The text is not a twin or a part of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotATwin;

/// What an event makes of what is known.
#[derive(Debug)]
pub(super) enum TwinChange {
    /// The twin after it: as complete as the one before, or whole.
    Next(Twin),
    /// Something between is missing. This is all that the event tells.
    Gap(Twin),
    /// It is known already.
    Known,
    /// It is older than what is known, unless the device was made anew.
    Older,
}

impl Twin {
    /// What becomes of the twin by an event.
    pub(super) fn after(
        known: Option<&Self>,
        event: &TwinEvent,
        stamp: Stamp,
        now_ms: u64,
    ) -> Result<TwinChange, NotATwin> {
        let body = Document::parse(event.body.as_str())?;
        let (before, now) = (known.and_then(|twin| twin.version), body.version);
        Ok(match event.kind {
            TwinEventKind::Replace => {
                if now.is_some() && before == now && known.is_some_and(Self::is_complete) {
                    TwinChange::Known
                } else {
                    TwinChange::Next(Self::from_document(&body, stamp, now_ms))
                }
            }
            TwinEventKind::Update => match (known, before, now) {
                (Some(base), Some(before), Some(now)) if before.checked_add(1) == Some(now) => {
                    TwinChange::Next(base.merged(&body, stamp, now_ms))
                }
                (_, Some(before), Some(now)) if before == now => TwinChange::Known,
                (_, Some(before), Some(now)) if before > now => TwinChange::Older,
                _ => {
                    let mut told = Self::from_document(&body, stamp, now_ms);
                    told.complete = false;
                    TwinChange::Gap(told)
                }
            },
        })
    }

    /// The whole twin, as the hub gave it.
    pub(super) fn whole(document: &RawJson, stamp: Stamp, now_ms: u64) -> Result<Self, NotATwin> {
        let document = Document::parse(document.as_str())?;
        Ok(Self::from_document(&document, stamp, now_ms))
    }

    fn from_document(document: &Document<'_>, stamp: Stamp, now_ms: u64) -> Self {
        let section = |section: Option<&RawValue>| {
            section.map_or_else(
                || "{}".to_owned(),
                |section| merge_patch("{}", section.get(), 0),
            )
        };
        Self {
            version: document.version,
            reported: section(document.properties.reported),
            desired: section(document.properties.desired),
            tags: document.tags.map(|tags| section(Some(tags))),
            complete: true,
            stamp,
            changed_at_ms: now_ms,
        }
    }

    fn merged(&self, patch: &Document<'_>, stamp: Stamp, now_ms: u64) -> Self {
        let side = |base: &str, patch: Option<&RawValue>| {
            patch.map_or_else(
                || base.to_owned(),
                |patch| prune_metadata(&merge_patch(base, patch.get(), 0)),
            )
        };
        let tags = patch.tags.map(|patch| {
            let base = self.tags.as_deref().unwrap_or("{}");
            merge_patch(base, patch.get(), 0)
        });
        Self {
            version: patch.version,
            reported: side(&self.reported, patch.properties.reported),
            desired: side(&self.desired, patch.properties.desired),
            tags: tags.or_else(|| self.tags.clone()),
            complete: self.complete,
            stamp,
            changed_at_ms: now_ms,
        }
    }

    /// As [`to_json`](Self::to_json), with its times.
    pub(super) fn to_stamped(&self) -> Stamped<RawJson> {
        Stamped {
            value: self.to_json(),
            stamp: self.stamp.clone(),
        }
    }

    /// Its version, of which every change makes a new one.
    pub(super) fn version(&self) -> Option<u64> {
        self.version
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

impl<'a> Document<'a> {
    fn parse(text: &'a str) -> Result<Self, NotATwin> {
        serde_json::from_str(text).map_err(|_| NotATwin)
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
    object_text(&members)
}

/// Drops from a side's `$metadata` what is about properties that are not there any more: an event tells by `null` that a
/// property is gone, and says nothing of its metadata.
fn prune_metadata(side: &str) -> String {
    let Ok(mut members) = serde_json::from_str::<IndexMap<String, &RawValue>>(side) else {
        return side.to_owned();
    };
    let Some(metadata) = members.get(METADATA) else {
        return side.to_owned();
    };
    let pruned = prune(metadata.get(), side, 0);
    let Ok(pruned) = serde_json::from_str::<&RawValue>(&pruned) else {
        return side.to_owned();
    };
    members.insert(METADATA.to_owned(), pruned);
    let members = members
        .into_iter()
        .map(|(key, value)| (key, value.get().to_owned()));
    object_text(&members.collect())
}

/// The members of `metadata` that are about members of `of`, and those about `of` itself, whose names begin with `$`.
fn prune(metadata: &str, of: &str, depth: usize) -> String {
    let object = |text| serde_json::from_str::<IndexMap<String, &RawValue>>(text).ok();
    let Some(metadata_members) = object(metadata).filter(|_| depth < MERGE_DEPTH_MAX) else {
        return metadata.to_owned();
    };
    let of = object(of).unwrap_or_default();
    let kept = metadata_members.into_iter().filter_map(|(key, value)| {
        let kept = if key.starts_with('$') {
            value.get().to_owned()
        } else {
            prune(value.get(), of.get(&key)?.get(), depth + 1)
        };
        Some((key, kept))
    });
    object_text(&kept.collect())
}

fn object_text(members: &IndexMap<String, String>) -> String {
    let mut json = String::from("{");
    for (place, (key, value)) in members.iter().enumerate() {
        if place > 0 {
            json.push(',');
        }
        json.push_str(&literal(key));
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

    fn change(known: Option<&Twin>, kind: TwinEventKind, body: &str) -> TwinChange {
        Twin::after(known, &event(kind, body), stamp(), 0).unwrap()
    }

    fn next(known: Option<&Twin>, kind: TwinEventKind, body: &str) -> Twin {
        match change(known, kind, body) {
            TwinChange::Next(twin) => twin,
            other => panic!("{other:?}"),
        }
    }

    const FULL: &str = r#"{"deviceId":"d1","version":3,"tags":{"site":5},
        "properties":{"desired":{"interval":10,"$version":1},"reported":{"a":{"b":1,"c":2},"$version":1}}}"#;

    #[test]
    fn a_patch_that_follows_is_merged_into_the_whole_twin() {
        let full = next(None, TwinEventKind::Replace, FULL);
        let next = next(
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
    fn a_removed_property_takes_its_metadata_with_it() {
        let full = next(
            None,
            TwinEventKind::Replace,
            r#"{"version":1,"properties":{"reported":{"a":{"b":1,"c":2},"x":3,"$metadata":{"$lastUpdated":"t1","a":{"$lastUpdated":"t1","b":{"$lastUpdated":"t1"},"c":{"$lastUpdated":"t1"}},"x":{"$lastUpdated":"t1"}},"$version":1}}}"#,
        );
        let next = next(
            Some(&full),
            TwinEventKind::Update,
            r#"{"version":2,"properties":{"reported":{"a":{"b":null},"x":null,"$metadata":{"$lastUpdated":"t2","a":{"$lastUpdated":"t2"}},"$version":2}}}"#,
        );
        assert_eq!(
            next.to_json().as_str(),
            r#"{"version":2,"properties":{"reported":{"a":{"c":2},"$metadata":{"$lastUpdated":"t2","a":{"$lastUpdated":"t2","c":{"$lastUpdated":"t1"}}},"$version":2},"desired":{}}}"#
        );
    }

    #[test]
    fn a_patch_after_a_gap_tells_only_itself() {
        let full = next(None, TwinEventKind::Replace, FULL);
        let body = r#"{"version":6,"properties":{"desired":{"x":1}}}"#;
        for known in [Some(&full), None] {
            let TwinChange::Gap(told) = change(known, TwinEventKind::Update, body) else {
                panic!("there is a gap");
            };
            assert!(!told.is_complete());
            assert_eq!(
                told.to_json().as_str(),
                r#"{"version":6,"properties":{"reported":{},"desired":{"x":1}}}"#
            );
        }
    }

    #[test]
    fn what_is_known_and_what_is_older_is_told_apart() {
        let full = next(None, TwinEventKind::Replace, FULL);
        let of_version = |version: u64| {
            let body = format!(r#"{{"version":{version},"properties":{{}}}}"#);
            change(Some(&full), TwinEventKind::Update, &body)
        };
        assert!(matches!(of_version(3), TwinChange::Known));
        assert!(matches!(of_version(2), TwinChange::Older));
        let again = change(Some(&full), TwinEventKind::Replace, FULL);
        assert!(matches!(again, TwinChange::Known));
        // The hub says what the whole is, so one with a lower version is that of a device made anew.
        let anew = next(Some(&full), TwinEventKind::Replace, r#"{"version":1}"#);
        assert_eq!(anew.version(), Some(1));
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
