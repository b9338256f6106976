//! One side of a twin's properties: values, when each was last written, and a version.

use serde_json::{Map, Value};

use super::merge::{merge, without_nulls};
use crate::iot_hub::built_in_endpoint::timestamp_text;

/// Whether metadata tells the version in which a property last changed; only that of desired properties does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stamps {
    Time,
    TimeAndVersion,
}

#[derive(Clone, Debug)]
pub(super) struct Properties {
    stamps: Stamps,
    values: Map<String, Value>,
    metadata: Map<String, Value>,
    version: u64,
}

impl Properties {
    pub(super) fn new(stamps: Stamps, at_ms: i64) -> Self {
        let mut metadata = Map::new();
        metadata.insert("$lastUpdated".to_owned(), timestamp_text(at_ms).into());
        Self {
            stamps,
            values: Map::new(),
            metadata,
            version: 1,
        }
    }

    pub(super) fn version(&self) -> u64 {
        self.version
    }

    pub(super) fn values(&self) -> &Map<String, Value> {
        &self.values
    }

    /// What the values are after a patch.
    pub(super) fn patched(&self, patch: &Map<String, Value>) -> Map<String, Value> {
        let mut values = self.values.clone();
        merge(&mut values, patch);
        values
    }

    /// Takes over the values that [`Properties::patched`] gave for `patch`.
    pub(super) fn set_patched(
        &mut self,
        values: Map<String, Value>,
        patch: &Map<String, Value>,
        at_ms: i64,
    ) {
        self.version += 1;
        self.values = values;
        let stamp = self.stamp(at_ms);
        stamp.renew(&mut self.metadata, patch, &self.values);
    }

    /// Replaces all values.
    pub(super) fn replace(&mut self, values: &Map<String, Value>, at_ms: i64) {
        self.version += 1;
        self.values = without_nulls(values);
        self.metadata = self.stamp(at_ms).of(&self.values);
    }

    /// The values with `$version`.
    pub(super) fn document(&self) -> Map<String, Value> {
        let mut document = self.values.clone();
        document.insert("$version".to_owned(), self.version.into());
        document
    }

    /// The values with `$metadata` and `$version`.
    pub(super) fn document_with_metadata(&self) -> Map<String, Value> {
        let mut document = self.document();
        document.insert("$metadata".to_owned(), self.metadata.clone().into());
        document
    }

    /// The change that has just been made, as its event tells it.
    pub(super) fn told_change(&self, patch: &Map<String, Value>, at_ms: i64) -> Map<String, Value> {
        let mut told = patch.clone();
        told.insert(
            "$metadata".to_owned(),
            self.stamp(at_ms).of(&without_nulls(patch)).into(),
        );
        told.insert("$version".to_owned(), self.version.into());
        told
    }

    fn stamp(&self, at_ms: i64) -> Stamp {
        Stamp {
            updated_at: timestamp_text(at_ms),
            version: (self.stamps == Stamps::TimeAndVersion).then_some(self.version),
        }
    }
}

/// When, and in which version, something was written.
struct Stamp {
    updated_at: String,
    version: Option<u64>,
}

impl Stamp {
    /// Metadata of values that were all written now.
    fn of(&self, values: &Map<String, Value>) -> Map<String, Value> {
        let mut metadata = Map::new();
        self.mark(&mut metadata);
        for (key, value) in values {
            metadata.insert(key.clone(), self.of_value(value).into());
        }
        metadata
    }

    fn of_value(&self, value: &Value) -> Map<String, Value> {
        match value {
            Value::Object(members) => self.of(members),
            _ => self.of(&Map::new()),
        }
    }

    /// Marks what `patch` touched and forgets what it removed; `values` is what came of it.
    fn renew(
        &self,
        metadata: &mut Map<String, Value>,
        patch: &Map<String, Value>,
        values: &Map<String, Value>,
    ) {
        self.mark(metadata);
        for (key, change) in patch {
            let Some(value) = values.get(key) else {
                metadata.remove(key);
                continue;
            };
            match (change, value, metadata.get_mut(key)) {
                (Value::Object(change), Value::Object(members), Some(Value::Object(inner))) => {
                    self.renew(inner, change, members);
                }
                _ => {
                    metadata.insert(key.clone(), self.of_value(value).into());
                }
            }
        }
    }

    fn mark(&self, metadata: &mut Map<String, Value>) {
        metadata.insert("$lastUpdated".to_owned(), self.updated_at.clone().into());
        if let Some(version) = self.version {
            metadata.insert("$lastUpdatedVersion".to_owned(), version.into());
        }
    }
}
