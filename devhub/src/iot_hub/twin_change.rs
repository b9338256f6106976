//! Bodies of twin change events of operation `updateTwin`: only what changed, with its metadata and
//! the versions the twin has then.

use serde_json::{Map, Value, json};

use super::built_in_endpoint::timestamp_text;

/// The two sides of a twin's properties.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TwinSide {
    /// What the cloud asks of the device.
    Desired,
    /// What the device says of itself.
    Reported,
}

impl TwinSide {
    fn member(self) -> &'static str {
        match self {
            Self::Desired => "desired",
            Self::Reported => "reported",
        }
    }
}

/// The versions of one twin: one for the whole, one for each side. They start as those of a twin just
/// created.
#[derive(Clone, Debug)]
pub struct TwinVersions {
    twin: u64,
    desired: u64,
    reported: u64,
}

impl Default for TwinVersions {
    fn default() -> Self {
        Self {
            twin: 2,
            desired: 1,
            reported: 1,
        }
    }
}

impl TwinVersions {
    /// Counts a merge patch of one side, taken in at `at_ms` (milliseconds since the Unix epoch), and
    /// tells it as a change. A `null` removes a property.
    pub fn update(&mut self, side: TwinSide, patch: Map<String, Value>, at_ms: i64) -> TwinChange {
        self.twin += 1;
        let side_version = match side {
            TwinSide::Desired => &mut self.desired,
            TwinSide::Reported => &mut self.reported,
        };
        *side_version += 1;
        let stamp = Stamp {
            updated_at: timestamp_text(at_ms),
            // Only the desired side tells in which version a property last changed.
            version: (side == TwinSide::Desired).then_some(*side_version),
        };
        let metadata = stamp.metadata_of(&patch);
        let mut changed = patch;
        changed.insert("$metadata".to_owned(), metadata);
        changed.insert("$version".to_owned(), (*side_version).into());
        TwinChange(json!({
            "version": self.twin,
            "properties": { side.member(): changed },
        }))
    }
}

/// One change of a twin, as its event tells it.
#[derive(Clone, Debug, PartialEq)]
pub struct TwinChange(Value);

impl TwinChange {
    /// The event's body.
    pub fn to_json(&self) -> String {
        self.0.to_string()
    }
}

/// When, and in which version, the properties of one patch were written.
struct Stamp {
    updated_at: String,
    version: Option<u64>,
}

impl Stamp {
    fn metadata_of(&self, properties: &Map<String, Value>) -> Value {
        let mut metadata = Map::new();
        metadata.insert("$lastUpdated".to_owned(), self.updated_at.clone().into());
        if let Some(version) = self.version {
            metadata.insert("$lastUpdatedVersion".to_owned(), version.into());
        }
        let empty = Map::new();
        for (name, value) in properties.iter().filter(|(_, value)| !value.is_null()) {
            let inner = value.as_object().unwrap_or(&empty);
            metadata.insert(name.clone(), self.metadata_of(inner));
        }
        metadata.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2022-01-16T16:36:53.814Z
    const AT_MS: i64 = 1_642_351_013_814;

    fn object(value: &Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn a_desired_change_holds_only_its_side_with_versions_in_the_metadata() {
        let change = TwinVersions::default().update(
            TwinSide::Desired,
            object(&json!({ "interval": 55 })),
            AT_MS,
        );
        assert_eq!(
            change.0,
            json!({
                "version": 3,
                "properties": { "desired": {
                    "interval": 55,
                    "$metadata": {
                        "$lastUpdated": "2022-01-16T16:36:53.8140000Z",
                        "$lastUpdatedVersion": 2,
                        "interval": {
                            "$lastUpdated": "2022-01-16T16:36:53.8140000Z",
                            "$lastUpdatedVersion": 2,
                        },
                    },
                    "$version": 2,
                } },
            })
        );
    }

    #[test]
    fn a_reported_change_has_metadata_for_nested_properties_and_none_for_removed_ones() {
        let change = TwinVersions::default().update(
            TwinSide::Reported,
            object(&json!({ "network": { "rssi": -61 }, "fault": null })),
            AT_MS,
        );
        let stamp = "2022-01-16T16:36:53.8140000Z";
        assert_eq!(
            change.0["properties"]["reported"],
            json!({
                "network": { "rssi": -61 },
                "fault": null,
                "$metadata": {
                    "$lastUpdated": stamp,
                    "network": { "$lastUpdated": stamp, "rssi": { "$lastUpdated": stamp } },
                },
                "$version": 2,
            })
        );
    }

    #[test]
    fn each_side_counts_its_own_changes_and_the_twin_counts_all() {
        let mut versions = TwinVersions::default();
        let mut update = |side| {
            let change = versions.update(side, object(&json!({ "a": 1 })), AT_MS).0;
            let side_version = change["properties"][side.member()]["$version"].clone();
            (change["version"].clone(), side_version)
        };
        assert_eq!(update(TwinSide::Reported), (json!(3), json!(2)));
        assert_eq!(update(TwinSide::Desired), (json!(4), json!(2)));
        assert_eq!(update(TwinSide::Reported), (json!(5), json!(3)));
    }
}
