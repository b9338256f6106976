//! The twin engine: tags, desired and reported properties of one identity, with versions, metadata and limits.
//!
//! Everything that changes a twin goes through here, whether it came by REST, by MQTT or in process, and gives
//! one [`TwinChange`], from which the event and the device's notification are made. A change that is refused
//! changes nothing. See "Understand and use device twins" and, for events, "IoT Hub non-telemetry event schemas"
//! in the Azure documentation.

mod limits;
mod merge;
mod properties;

use std::fmt;

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Map, Value, json};

use self::merge::{difference, merge, without_nulls};
use self::properties::{Properties, Stamps};
use super::error::{ErrorCode, HubError};

/// A part of a twin with limits of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Section {
    Tags,
    Desired,
    Reported,
}

impl fmt::Display for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tags => "tags",
            Self::Desired => "properties.desired",
            Self::Reported => "properties.reported",
        })
    }
}

/// What a caller requires of the etag before something is changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IfMatch {
    /// Nothing.
    Any,
    /// That it is this one, without quotes.
    Etag(String),
}

impl IfMatch {
    pub(super) fn check(&self, etag: &str) -> Result<(), HubError> {
        match self {
            Self::Etag(required) if required != etag => Err(HubError::new(
                ErrorCode::PreconditionFailed,
                "Precondition failed: the etag in If-Match is not that of the stored resource",
            )),
            Self::Any | Self::Etag(_) => Ok(()),
        }
    }
}

/// The twin of one identity.
#[derive(Clone, Debug)]
pub struct Twin {
    version: u64,
    /// Counts what the service side changed.
    etag: u64,
    tags: Map<String, Value>,
    desired: Properties,
    reported: Properties,
}

/// What one change did.
#[derive(Clone, Debug, PartialEq)]
pub struct TwinChange {
    /// The body of the event of operation `updateTwin`: what changed, with metadata and versions. `null` stands
    /// for what was removed.
    pub event_body: Value,
    /// What a device that listens for desired properties is told.
    pub desired: Option<DesiredPatch>,
}

/// New desired properties.
#[derive(Clone, Debug, PartialEq)]
pub struct DesiredPatch {
    /// The `$version` of the desired properties from now on.
    pub version: u64,
    /// What changed, with `null` for what was removed; without `$version`.
    pub patch: Map<String, Value>,
}

impl Twin {
    /// The twin of an identity created at `at_ms` (milliseconds since the Unix epoch).
    pub fn new(at_ms: i64) -> Self {
        Self {
            version: 2,
            etag: 1,
            tags: Map::new(),
            desired: Properties::new(Stamps::TimeAndVersion, at_ms),
            reported: Properties::new(Stamps::Time, at_ms),
        }
    }

    /// Counts every change.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Another one after each change from the service side; without quotes.
    pub fn etag(&self) -> String {
        etag_text(self.etag)
    }

    /// The `$version` of the reported properties.
    pub fn reported_version(&self) -> u64 {
        self.reported.version()
    }

    /// Merges `{"tags": {..}, "properties": {"desired": {..}}}`, of which each part may be missing. `None` when it
    /// holds nothing to merge. Reported properties and other members are ignored: the service side may send back
    /// what it has read.
    pub fn update(&mut self, patch: &Value, at_ms: i64) -> Result<Option<TwinChange>, HubError> {
        let ServiceSections { tags, desired } = ServiceSections::of(patch)?;
        if tags.is_none() && desired.is_none() {
            return Ok(None);
        }
        let new_tags = tags
            .as_ref()
            .map(|patch| {
                let mut values = self.tags.clone();
                merge(&mut values, patch);
                checked(Section::Tags, patch, values)
            })
            .transpose()?;
        let new_desired = desired
            .as_ref()
            .map(|patch| checked(Section::Desired, patch, self.desired.patched(patch)))
            .transpose()?;

        self.version += 1;
        self.etag += 1;
        let mut event_body = json!({ "version": self.version });
        if let Some((values, patch)) = new_tags.zip(tags) {
            self.tags = values;
            event_body["tags"] = patch.into();
        }
        let desired = new_desired.zip(desired).map(|(values, patch)| {
            self.desired.set_patched(values, &patch, at_ms);
            event_body["properties"]["desired"] = self.desired.told_change(&patch, at_ms).into();
            DesiredPatch {
                version: self.desired.version(),
                patch,
            }
        });
        Ok(Some(TwinChange {
            event_body,
            desired,
        }))
    }

    /// Replaces tags and desired properties by those of a document like that of [`Twin::update`]; what is missing
    /// there is removed.
    pub fn replace(&mut self, twin: &Value, at_ms: i64) -> Result<DesiredPatch, HubError> {
        let ServiceSections { tags, desired } = ServiceSections::of(twin)?;
        let section = |section, given: Option<Map<String, Value>>| {
            let given = given.unwrap_or_default();
            checked(section, &given, without_nulls(&given))
        };
        let tags = section(Section::Tags, tags)?;
        let desired = section(Section::Desired, desired)?;

        self.version += 1;
        self.etag += 1;
        self.tags = tags;
        let patch = difference(self.desired.values(), &desired);
        self.desired.replace(&desired, at_ms);
        Ok(DesiredPatch {
            version: self.desired.version(),
            patch,
        })
    }

    /// Merges what the device says of itself.
    pub fn report(
        &mut self,
        patch: &Map<String, Value>,
        at_ms: i64,
    ) -> Result<TwinChange, HubError> {
        let values = checked(Section::Reported, patch, self.reported.patched(patch))?;
        self.version += 1;
        self.reported.set_patched(values, patch, at_ms);
        Ok(TwinChange {
            event_body: json!({
                "version": self.version,
                "properties": { "reported": self.reported.told_change(patch, at_ms) },
            }),
            desired: None,
        })
    }

    /// The members of a twin document that are the twin's own: `etag`, `version`, `tags` unless they are empty, and
    /// `properties` with metadata.
    pub fn document(&self) -> Map<String, Value> {
        let mut document = Map::new();
        document.insert("etag".to_owned(), self.etag().into());
        document.insert("version".to_owned(), self.version.into());
        if !self.tags.is_empty() {
            document.insert("tags".to_owned(), self.tags.clone().into());
        }
        document.insert(
            "properties".to_owned(),
            json!({
                "desired": self.desired.document_with_metadata(),
                "reported": self.reported.document_with_metadata(),
            }),
        );
        document
    }

    /// Desired and reported properties with `$version` and without metadata, as a device reads them.
    pub fn device_document(&self) -> Value {
        json!({ "desired": self.desired.document(), "reported": self.reported.document() })
    }
}

/// An etag from a counter: its 8 bytes in base64.
pub(super) fn etag_text(count: u64) -> String {
    BASE64_STANDARD.encode(count.to_be_bytes())
}

/// What the service side may change.
struct ServiceSections {
    tags: Option<Map<String, Value>>,
    desired: Option<Map<String, Value>>,
}

impl ServiceSections {
    fn of(document: &Value) -> Result<Self, HubError> {
        let Value::Object(members) = document else {
            return Err(HubError::invalid("the twin must be a JSON object"));
        };
        let tags = object(members.get("tags"), "tags")?;
        let desired = object(members.get("properties"), "properties")?
            .map(|mut properties| {
                object(properties.remove("desired").as_ref(), "properties.desired")
            })
            .transpose()?
            .flatten()
            .map(|mut desired| {
                desired.retain(|key, _| key != "$metadata" && key != "$version");
                desired
            });
        Ok(Self { tags, desired })
    }
}

fn object(value: Option<&Value>, name: &str) -> Result<Option<Map<String, Value>>, HubError> {
    match value {
        None => Ok(None),
        Some(Value::Object(members)) => Ok(Some(members.clone())),
        Some(_) => Err(HubError::invalid(format!("{name} must be a JSON object"))),
    }
}

fn checked(
    section: Section,
    patch: &Map<String, Value>,
    result: Map<String, Value>,
) -> Result<Map<String, Value>, HubError> {
    limits::check(section, patch)
        .and_then(|()| limits::check(section, &result))
        .and_then(|()| limits::check_size(section, &result))
        .map_err(|violation| HubError::invalid(violation.to_string()))?;
    Ok(result)
}

#[cfg(test)]
mod tests;
