//! What an IoT hub takes, by tier and units: the throttles of the Azure documentation, "IoT Hub quotas and throttling".

use crate::config::IotHubTier;

/// Bytes that the hub meters as one direct method; a larger payload counts as several.
const METHOD_METER_BYTES: usize = 4096;

/// More units than any hub has.
const UNITS_MAX: u32 = 1000;

/// Calls that a hub takes each second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CallsPerSecond {
    pub(super) direct_methods: u32,
    pub(super) twin_reads: u32,
    pub(super) twin_updates: u32,
}

impl CallsPerSecond {
    /// The rates of a hub; `None` when there is no budget.
    pub(super) fn of(tier: IotHubTier, units: u32) -> Option<Self> {
        let units = units.clamp(1, UNITS_MAX);
        let rates = match tier {
            // 160 KB of direct methods each second and unit, in steps of 4 KB.
            IotHubTier::Free | IotHubTier::B1 | IotHubTier::S1 => Self {
                direct_methods: 40 * units,
                twin_reads: 100,
                twin_updates: 50,
            },
            // 480 KB each second and unit.
            IotHubTier::S2 => Self {
                direct_methods: 120 * units,
                twin_reads: (10 * units).max(100),
                twin_updates: (5 * units).max(50),
            },
            // 24 MB each second and unit.
            IotHubTier::S3 => Self {
                direct_methods: 6000 * units,
                twin_reads: 500 * units,
                twin_updates: 250 * units,
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
        let s1 = CallsPerSecond::of(IotHubTier::S1, 3).unwrap();
        assert_eq!(
            s1,
            CallsPerSecond {
                direct_methods: 120,
                twin_reads: 100,
                twin_updates: 50
            }
        );
        let few = CallsPerSecond::of(IotHubTier::S2, 2).unwrap();
        assert_eq!((few.twin_reads, few.twin_updates), (100, 50));
        let many = CallsPerSecond::of(IotHubTier::S2, 20).unwrap();
        assert_eq!((many.twin_reads, many.twin_updates), (200, 100));
        assert_eq!(
            CallsPerSecond::of(IotHubTier::S3, 1).unwrap().twin_reads,
            500
        );
        assert_eq!(CallsPerSecond::of(IotHubTier::Unlimited, 1), None);
    }

    #[test]
    fn a_method_costs_by_four_kilobytes_begun() {
        for (bytes, cost) in [(0, 1), (1, 1), (4096, 1), (4097, 2), (128 * 1024, 32)] {
            assert_eq!(method_cost(bytes), cost, "{bytes}");
        }
    }
}
