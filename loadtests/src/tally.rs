//! What a subscriber got, held against what it should have got.

use crate::contender::Wish;
use crate::message::Delivery;

/// Counts of what one subscriber, or all of them together, received.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Deliveries received.
    pub(crate) received: u64,
    /// Messages that are accounted for: received, or skipped by a newer one of the same device.
    pub(crate) accounted: u64,
    /// Messages that never came although newer ones of the same device did.
    pub(crate) skipped: u64,
    /// Deliveries that came once more right after themselves.
    pub(crate) duplicated: u64,
    /// Deliveries that came after newer ones of the same device.
    pub(crate) reordered: u64,
    /// Deliveries of devices or keys that nobody asked for, and whatever is not as it was sent.
    pub(crate) unexpected: u64,
}

impl Tally {
    /// Adds the counts of another subscriber.
    pub(crate) fn add(&mut self, other: &Self) {
        self.received += other.received;
        self.accounted += other.accounted;
        self.skipped += other.skipped;
        self.duplicated += other.duplicated;
        self.reordered += other.reordered;
        self.unexpected += other.unexpected;
    }
}

/// Follows what one subscriber receives.
#[derive(Debug)]
pub(crate) struct Follower {
    pub(crate) tally: Tally,
    /// What was asked for, in the order of devices, with the newest number of each.
    newest: Vec<(Wish, u64)>,
}

impl Follower {
    /// Follows these wishes, of different devices, whose numbers start at 1. Keys are expected to be cut out only from a
    /// server that `selects_keys`.
    pub(crate) fn new(wishes: &[Wish], selects_keys: bool) -> Self {
        let mut newest: Vec<_> = wishes
            .iter()
            .map(|wish| {
                let key = wish.key.filter(|_| selects_keys);
                (Wish { key, ..*wish }, 0)
            })
            .collect();
        newest.sort_unstable();
        Self {
            tally: Tally::default(),
            newest,
        }
    }

    /// Takes note of a delivered object. Returns what it says if it is new and was asked for.
    pub(crate) fn follow(&mut self, object: &[u8]) -> Option<Delivery> {
        self.tally.received += 1;
        let delivery = Delivery::read(object);
        let newest = delivery.and_then(|delivery| Some((delivery, self.find(delivery)?)));
        let Some((delivery, place)) = newest else {
            self.tally.unexpected += 1;
            return None;
        };
        let newest = &mut self.newest[place].1;
        match delivery.sequence.checked_sub(*newest) {
            None => self.tally.reordered += 1,
            Some(0) => self.tally.duplicated += 1,
            Some(step) => {
                *newest = delivery.sequence;
                self.tally.accounted += step;
                self.tally.skipped += step - 1;
                return Some(delivery);
            }
        }
        None
    }

    /// The wish that a delivery fulfils.
    fn find(&self, delivery: Delivery) -> Option<usize> {
        /// Up to so many are found sooner by looking at each.
        const FEW: usize = 8;
        let place = if self.newest.len() <= FEW {
            (self.newest.iter()).position(|(wish, _)| wish.device == delivery.device)
        } else {
            self.newest
                .binary_search_by_key(&delivery.device, |(wish, _)| wish.device)
                .ok()
        }?;
        (self.newest[place].0.key == delivery.key).then_some(place)
    }

    /// How many of the messages that were sent of each device have not been accounted for.
    pub(crate) fn missing(&self, sent_of: impl Fn(usize) -> u64) -> u64 {
        (self.newest.iter())
            .map(|(wish, newest)| sent_of(wish.device).saturating_sub(*newest))
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Body;

    const WISH: Wish = Wish {
        device: 3,
        key: None,
    };

    fn follow(sequences: &[u64]) -> Tally {
        let mut follower = Follower::new(&[WISH], false);
        for &sequence in sequences {
            follower.follow(Body::new().set(3, sequence));
        }
        follower.tally
    }

    #[test]
    fn deliveries_in_order_are_all_accounted_for() {
        let expected = Tally {
            received: 3,
            accounted: 3,
            ..Tally::default()
        };
        assert_eq!(follow(&[1, 2, 3]), expected);
    }

    #[test]
    fn gaps_repetitions_and_late_comers_are_told_apart() {
        let expected = Tally {
            received: 4,
            accounted: 5,
            skipped: 3,
            duplicated: 1,
            reordered: 1,
            ..Tally::default()
        };
        assert_eq!(follow(&[2, 5, 5, 4]), expected);
    }

    #[test]
    fn what_nobody_asked_for_is_counted() {
        let mut follower = Follower::new(&[WISH], true);
        follower.follow(b"{}");
        follower.follow(Body::new().set(4, 1));
        follower.follow(br#"{"k3":10000300000001}"#);
        assert_eq!(
            (follower.tally.unexpected, follower.tally.accounted),
            (3, 0)
        );
    }

    #[test]
    fn a_key_is_expected_of_servers_that_select_keys() {
        let wish = Wish {
            device: 3,
            key: Some(3),
        };
        let (one, all) = (br#"{"k3":10000300000001}"#, *Body::new().set(3, 1));
        for (selects_keys, right, wrong) in [(true, &one[..], &all[..]), (false, &all, one)] {
            let mut follower = Follower::new(&[wish], selects_keys);
            assert!(follower.follow(wrong).is_none());
            assert!(follower.follow(right).is_some());
        }
    }

    #[test]
    fn many_devices_are_found_as_well() {
        let wishes: Vec<_> = (0..20).map(|device| Wish { device, key: None }).collect();
        let mut follower = Follower::new(&wishes, false);
        assert!(follower.follow(Body::new().set(13, 1)).is_some());
        assert_eq!(follower.missing(|device| u64::from(device == 13)), 0);
        assert_eq!(follower.missing(|_| 2), 39);
    }
}
