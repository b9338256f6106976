//! What an IoT hub takes, by tier and units: the throttles of the Azure documentation, "IoT Hub quotas and throttling".

use crate::config::IotHubTier;

/// Bytes that the hub meters as one direct method; a larger payload counts as several.
const METHOD_METER_BYTES: usize = 4096;

/// Calls a second that a hub takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Rates {
    pub(super) direct_methods_per_s: f64,
    pub(super) twin_reads_per_s: f64,
    pub(super) twin_updates_per_s: f64,
}

impl Rates {
    /// The rates of a hub; `None` when there is no budget.
    pub(super) fn of(tier: IotHubTier, units: u32) -> Option<Self> {
        let units = f64::from(units.max(1));
        let rates = match tier {
            // 160 KB of direct methods each second and unit, in steps of 4 KB.
            IotHubTier::Free | IotHubTier::B1 | IotHubTier::S1 => Self {
                direct_methods_per_s: 40.0 * units,
                twin_reads_per_s: 100.0,
                twin_updates_per_s: 50.0,
            },
            // 480 KB each second and unit.
            IotHubTier::S2 => Self {
                direct_methods_per_s: 120.0 * units,
                twin_reads_per_s: (10.0 * units).max(100.0),
                twin_updates_per_s: (5.0 * units).max(50.0),
            },
            // 24 MB each second and unit.
            IotHubTier::S3 => Self {
                direct_methods_per_s: 6000.0 * units,
                twin_reads_per_s: 500.0 * units,
                twin_updates_per_s: 250.0 * units,
            },
            IotHubTier::Unlimited => return None,
        };
        Some(rates)
    }
}

/// What a direct method with a payload of so many bytes takes of the budget.
pub(super) fn method_cost(payload_bytes: usize) -> u32 {
    u32::try_from(payload_bytes.div_ceil(METHOD_METER_BYTES))
        .unwrap_or(u32::MAX)
        .max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_throttles_grow_with_the_units_and_some_do_not() {
        let s1 = Rates::of(IotHubTier::S1, 3).unwrap();
        assert_eq!(
            s1,
            Rates {
                direct_methods_per_s: 120.0,
                twin_reads_per_s: 100.0,
                twin_updates_per_s: 50.0
            }
        );
        let few = Rates::of(IotHubTier::S2, 2).unwrap();
        assert_eq!(
            (few.twin_reads_per_s, few.twin_updates_per_s),
            (100.0, 50.0)
        );
        let many = Rates::of(IotHubTier::S2, 20).unwrap();
        assert_eq!(
            (many.twin_reads_per_s, many.twin_updates_per_s),
            (200.0, 100.0)
        );
        assert_eq!(
            Rates::of(IotHubTier::S3, 1).unwrap().twin_reads_per_s,
            500.0
        );
        assert_eq!(Rates::of(IotHubTier::Unlimited, 1), None);
    }

    #[test]
    fn a_method_costs_by_four_kilobytes_begun() {
        for (bytes, cost) in [(0, 1), (1, 1), (4096, 1), (4097, 2), (128 * 1024, 32)] {
            assert_eq!(method_cost(bytes), cost, "{bytes}");
        }
    }
}
