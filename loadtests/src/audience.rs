//! Who subscribes to what. Random where the scenario says so, but the same in every run and for every contender.

use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{Rng as _, SeedableRng as _};

use crate::contender::Wish;
use crate::message::KEYS;

const SEED: u64 = 0x6875_6272_656c_6179;

/// The wishes of each subscriber.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Audience {
    /// Devices that are published of.
    pub(crate) devices: usize,
    /// What each subscriber wants.
    pub(crate) wishes: Vec<Vec<Wish>>,
}

impl Audience {
    /// Everybody wants all of the only device.
    pub(crate) fn broadcast(sessions: usize) -> Self {
        let wish = Wish {
            device: 0,
            key: None,
        };
        Self {
            devices: 1,
            wishes: vec![vec![wish]; sessions],
        }
    }

    /// Everybody wants one key, or all with `whole`, of so many random devices.
    pub(crate) fn dashboards(devices: usize, sessions: usize, each: usize, whole: bool) -> Self {
        let mut random = StdRng::seed_from_u64(SEED);
        let wishes = (0..sessions)
            .map(|_| {
                let chosen = rand::seq::index::sample(&mut random, devices, each);
                let wish = |device| {
                    let key = random.random_range(0..KEYS);
                    Wish {
                        device,
                        key: (!whole).then_some(key),
                    }
                };
                chosen.into_iter().map(wish).collect()
            })
            .collect();
        Self { devices, wishes }
    }

    /// Each device is wanted by exactly two, who have the same number of random devices each.
    pub(crate) fn pairs(devices: usize, sessions: usize, whole: bool) -> Self {
        let mut random = StdRng::seed_from_u64(SEED);
        let half = sessions / 2;
        let mut wishes = vec![Vec::new(); half * 2];
        for side in 0..2 {
            let mut shuffled: Vec<_> = (0..devices).collect();
            shuffled.shuffle(&mut random);
            for (place, device) in shuffled.into_iter().enumerate() {
                let key = random.random_range(0..KEYS);
                wishes[side * half + place % half].push(Wish {
                    device,
                    key: (!whole).then_some(key),
                });
            }
        }
        Self { devices, wishes }
    }

    /// So many subscribers with a device each, spread over all devices.
    pub(crate) fn few(devices: usize, sessions: usize) -> Self {
        let wish = |session| Wish {
            device: session * devices / sessions,
            key: None,
        };
        Self {
            devices,
            wishes: (0..sessions).map(|session| vec![wish(session)]).collect(),
        }
    }

    /// The same with so many more subscribers, each with a device of its own that nothing is published of.
    pub(crate) fn with_onlookers(mut self, sessions: usize) -> Self {
        let wish = |session| Wish {
            device: self.devices + session,
            key: None,
        };
        let onlookers = (0..sessions).map(|session| vec![wish(session)]);
        self.wishes.extend(onlookers);
        self
    }

    /// Devices that are published of or subscribed to.
    pub(crate) fn devices_known(&self) -> usize {
        let wished = self.wishes.iter().flatten().map(|wish| wish.device + 1);
        wished.max().unwrap_or(0).max(self.devices)
    }

    /// Deliveries that a message has on average.
    #[expect(
        clippy::cast_precision_loss,
        reason = "counts of one run are far below 2^53"
    )]
    pub(crate) fn recipients(&self) -> f64 {
        let wishes = self.wishes.iter().flatten();
        let published = wishes.filter(|wish| wish.device < self.devices);
        published.count() as f64 / self.devices as f64
    }

    /// Deliveries that are due when so many messages of each device were sent.
    pub(crate) fn expected(&self, sent_of: impl Fn(usize) -> u64) -> u64 {
        self.wishes
            .iter()
            .flatten()
            .map(|wish| sent_of(wish.device))
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn dashboards_are_the_same_every_time_and_have_different_devices() {
        let audience = Audience::dashboards(1000, 500, 4, false);
        assert_eq!(audience, Audience::dashboards(1000, 500, 4, false));
        for wishes in &audience.wishes {
            let devices: HashSet<_> = wishes.iter().map(|wish| wish.device).collect();
            assert_eq!(devices.len(), 4);
            assert!(wishes.iter().all(|wish| wish.key.is_some()));
        }
        assert!((audience.recipients() - 2.0).abs() < f64::EPSILON);
        let whole = Audience::dashboards(1000, 500, 4, true);
        let devices = |audience: &Audience| {
            let wishes = audience.wishes.iter().flatten();
            wishes.map(|wish| wish.device).collect::<Vec<_>>()
        };
        assert_eq!(devices(&whole), devices(&audience));
    }

    #[test]
    fn every_device_of_pairs_is_wanted_twice() {
        let audience = Audience::pairs(1000, 500, false);
        let mut wanted = vec![0; 1000];
        for wishes in &audience.wishes {
            assert_eq!(wishes.len(), 4);
            for wish in wishes {
                wanted[wish.device] += 1;
            }
        }
        assert!(wanted.iter().all(|&times| times == 2));
    }

    #[test]
    fn a_few_subscribers_are_spread_over_all_devices() {
        let audience = Audience::few(1000, 10);
        let devices: Vec<_> = audience
            .wishes
            .iter()
            .map(|wishes| wishes[0].device)
            .collect();
        assert_eq!(devices, [0, 100, 200, 300, 400, 500, 600, 700, 800, 900]);
        assert_eq!(audience.expected(|device| u64::from(device < 150)), 2);
        let watched = audience.clone().with_onlookers(20);
        assert!((watched.recipients() - audience.recipients()).abs() < f64::EPSILON);
        assert_eq!((watched.wishes.len(), watched.devices_known()), (30, 1020));
    }
}
