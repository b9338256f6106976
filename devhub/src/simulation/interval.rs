//! How long a device waits between two measurements: left to itself, told by a method, or told by the
//! desired property `telemetryInterval`.
//!
//! The reported side says what came of it in the form of IoT Plug and Play for writable properties
//! (`value`, `ac`, `av`, `ad`; see "IoT Plug and Play conventions" in the Azure documentation).

use serde_json::{Value, json};

/// The desired and reported property.
pub(super) const PROPERTY: &str = "telemetryInterval";

/// The shortest and the longest interval; what is asked beyond is brought back to them.
const MS_MIN: i64 = 100;
const MS_MAX: i64 = 60_000;

/// Codes of a reported `ac`: applied, the device's own default, refused.
const APPLIED: u16 = 200;
const DEFAULT: u16 = 203;
const REFUSED: u16 = 400;

/// The interval of one device, and how it came to be.
#[derive(Clone, Debug)]
pub(super) struct Interval {
    own_ms: i64,
    /// What somebody wants instead of the device's own.
    told: Option<Told>,
    code: u16,
    /// The `$version` of the desired properties that were looked at last; 0 when none were.
    desired_version: u64,
    description: &'static str,
}

#[derive(Clone, Copy, Debug)]
struct Told {
    ms: i64,
    by: Teller,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Teller {
    Method,
    DesiredProperty,
}

impl Interval {
    pub(super) fn new(own_ms: i64) -> Self {
        Self {
            own_ms,
            told: None,
            code: DEFAULT,
            desired_version: 0,
            description: "the device's own",
        }
    }

    pub(super) fn ms(&self) -> i64 {
        self.told.map_or(self.own_ms, |told| told.ms)
    }

    /// Whether somebody has told the device how often to measure.
    pub(super) fn is_told(&self) -> bool {
        self.told.is_some()
    }

    /// Forgets what it was told, as a device does that starts anew.
    pub(super) fn forget(&mut self) {
        *self = Self::new(self.own_ms);
    }

    /// Takes an interval from a direct method, within bounds; `false` when it is no interval.
    pub(super) fn set(&mut self, wanted: &Value) -> bool {
        let Some(ms) = bounded_ms(wanted) else {
            return false;
        };
        self.told = Some(Told {
            ms,
            by: Teller::Method,
        });
        self.code = APPLIED;
        self.description = "set by a direct method";
        true
    }

    /// Takes all desired properties of this `$version`, as a device reads them when it connects. Whether
    /// there is something to report.
    pub(super) fn catch_up(&mut self, version: u64, desired: &Value) -> bool {
        let told_before = self
            .told
            .is_some_and(|told| told.by == Teller::DesiredProperty);
        match desired.get(PROPERTY) {
            Some(wanted) => self.desire(version, wanted),
            None if told_before => self.desire(version, &Value::Null),
            None => false,
        }
    }

    /// Takes the desired properties that changed with this `$version`. Whether there is something to
    /// report.
    pub(super) fn follow(&mut self, version: u64, patch: &Value) -> bool {
        patch
            .get(PROPERTY)
            .is_some_and(|wanted| self.desire(version, wanted))
    }

    /// Takes the desired interval; one that is older than what has been seen changes nothing.
    fn desire(&mut self, version: u64, wanted: &Value) -> bool {
        if version <= self.desired_version {
            return false;
        }
        self.desired_version = version;
        if wanted.is_null() {
            self.told = None;
            self.code = DEFAULT;
            self.description = "the device's own";
        } else if let Some(ms) = bounded_ms(wanted) {
            self.told = Some(Told {
                ms,
                by: Teller::DesiredProperty,
            });
            self.code = APPLIED;
            self.description = if wanted.as_f64() == Some(as_f64(ms)) {
                "applied"
            } else {
                "applied, brought into 100 to 60000"
            };
        } else {
            self.code = REFUSED;
            self.description = "expected a positive number of milliseconds";
        }
        true
    }

    /// The reported property's value.
    pub(super) fn reported(&self) -> Value {
        json!({
            "value": self.ms(),
            "ac": self.code,
            "av": self.desired_version,
            "ad": self.description,
        })
    }
}

/// A positive number of milliseconds, whole and within the bounds.
fn bounded_ms(wanted: &Value) -> Option<i64> {
    let ms = wanted.as_f64().filter(|ms| *ms > 0.0)?;
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the bounds are far inside of an i64"
    )]
    let whole = ms.round().clamp(as_f64(MS_MIN), as_f64(MS_MAX)) as i64;
    Some(whole)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "intervals are at most a minute of milliseconds"
)]
fn as_f64(ms: i64) -> f64 {
    ms as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_desired_interval_is_applied_within_bounds_and_acknowledged_with_its_version() {
        for (wanted, value, code) in [
            (json!(250), 250, 200),
            (json!(250.4), 250, 200),
            (json!(1), 100, 200),
            (json!(1e300), 60_000, 200),
            (json!(0), 5_000, 400),
            (json!(-1), 5_000, 400),
            (json!("fast"), 5_000, 400),
            (json!({ "ms": 250 }), 5_000, 400),
            (json!(null), 5_000, 203),
        ] {
            let mut interval = Interval::new(5_000);
            assert!(interval.follow(7, &json!({ "telemetryInterval": wanted })));
            let reported = interval.reported();
            assert_eq!(reported["value"], value, "{wanted}");
            assert_eq!(reported["ac"], code, "{wanted}");
            assert_eq!(reported["av"], 7, "{wanted}");
            assert!(reported["ad"].is_string());
        }
    }

    #[test]
    fn older_and_unrelated_desired_properties_change_nothing() {
        let mut interval = Interval::new(5_000);
        assert!(interval.follow(4, &json!({ "telemetryInterval": 200 })));
        assert!(!interval.follow(4, &json!({ "telemetryInterval": 300 })));
        assert!(!interval.follow(3, &json!({ "telemetryInterval": 300 })));
        assert!(!interval.follow(9, &json!({ "other": 1 })));
        assert_eq!(interval.ms(), 200);
    }

    #[test]
    fn a_removed_desired_interval_gives_the_device_its_own_back() {
        let mut interval = Interval::new(5_000);
        assert!(interval.set(&json!(300)));
        assert_eq!((interval.ms(), interval.is_told()), (300, true));
        assert!(interval.follow(2, &json!({ "telemetryInterval": null })));
        assert_eq!((interval.ms(), interval.is_told()), (5_000, false));
    }

    #[test]
    fn what_was_desired_meanwhile_is_caught_up_with() {
        let mut interval = Interval::new(5_000);
        assert!(interval.catch_up(3, &json!({ "telemetryInterval": 200 })));
        assert!(!interval.catch_up(3, &json!({ "telemetryInterval": 200 })));
        assert!(interval.catch_up(5, &json!({ "other": 1 })), "removed");
        assert_eq!(interval.ms(), 5_000);

        assert!(interval.set(&json!(300)));
        assert!(!interval.catch_up(6, &json!({ "other": 2 })));
        assert_eq!(interval.ms(), 300, "nobody desires anything else");
    }

    #[test]
    fn a_method_that_gives_no_interval_changes_nothing() {
        let mut interval = Interval::new(5_000);
        assert!(interval.set(&json!(300)));
        assert!(!interval.set(&json!("soon")));
        assert_eq!(interval.ms(), 300);
        interval.forget();
        assert_eq!(interval.ms(), 5_000);
    }
}
