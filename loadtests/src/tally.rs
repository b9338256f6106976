//! What a client got, held against what it should have got.

use crate::event_message::Delivery;
use crate::updates_frame::UpdatesFrame;

/// Counts of what one client, or all of them together, received.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Updates received.
    pub(crate) received: u64,
    /// Messages that are accounted for: received, or skipped by a newer one of the same device.
    pub(crate) accounted: u64,
    /// Messages that never came although newer ones of the same device did.
    pub(crate) skipped: u64,
    /// Updates that came once more right after themselves.
    pub(crate) duplicated: u64,
    /// Updates that came after newer ones of the same device.
    pub(crate) reordered: u64,
    /// Updates of devices that the client did not subscribe to, and whatever is not as it was sent.
    pub(crate) unexpected: u64,
    /// Frames of the native protocol whose number does not follow from the one before and their updates.
    pub(crate) misnumbered: u64,
    /// Values that the relay told native clients it had replaced by newer ones.
    pub(crate) told_conflated_values: u64,
    /// Microseconds from sending to receiving, for each update that was sent while measuring.
    pub(crate) latencies_us: Vec<u32>,
}

impl Tally {
    /// Adds the counts of another client.
    pub(crate) fn add(&mut self, other: Self) {
        self.received += other.received;
        self.accounted += other.accounted;
        self.skipped += other.skipped;
        self.duplicated += other.duplicated;
        self.reordered += other.reordered;
        self.unexpected += other.unexpected;
        self.misnumbered += other.misnumbered;
        self.told_conflated_values += other.told_conflated_values;
        self.latencies_us.extend(other.latencies_us);
    }
}

/// Follows what one client receives.
#[derive(Debug)]
pub(crate) struct Follower {
    tally: Tally,
    /// The newest number of each device the client subscribed to, by device.
    newest: Vec<Newest>,
    /// Number of the last update, in the native protocol.
    last_number: u64,
}

#[derive(Clone, Copy, Debug)]
struct Newest {
    device: usize,
    sequence: u64,
}

impl Follower {
    /// Follows these devices, whose numbers start at 1.
    pub(crate) fn new(devices: &[usize]) -> Self {
        let mut newest: Vec<_> = devices
            .iter()
            .map(|&device| Newest {
                device,
                sequence: 0,
            })
            .collect();
        newest.sort_unstable_by_key(|newest| newest.device);
        Self {
            tally: Tally::default(),
            newest,
            last_number: 0,
        }
    }

    /// The relay numbers the updates of this client from the one after this.
    pub(crate) fn number_from(&mut self, last_number: u64) {
        self.last_number = last_number;
    }

    /// Takes note of a frame of the native protocol, beside its updates.
    pub(crate) fn follow_frame(&mut self, frame: UpdatesFrame) {
        if frame.sequence != self.last_number + frame.updates {
            self.tally.misnumbered += 1;
        }
        self.last_number = frame.sequence;
        self.tally.told_conflated_values += frame.conflated_values;
    }

    /// Takes note of an update, or of one that could not be read. Returns how many more messages are accounted for.
    pub(crate) fn follow(&mut self, delivery: Option<Delivery>) -> u64 {
        self.tally.received += 1;
        let newest = delivery.and_then(|delivery| {
            let place = self
                .newest
                .binary_search_by_key(&delivery.device, |newest| newest.device)
                .ok()?;
            Some((&mut self.newest[place].sequence, delivery.sequence))
        });
        let Some((newest, sequence)) = newest else {
            self.tally.unexpected += 1;
            return 0;
        };
        let Some(step) = sequence.checked_sub(*newest) else {
            self.tally.reordered += 1;
            return 0;
        };
        if step == 0 {
            self.tally.duplicated += 1;
            return 0;
        }
        *newest = sequence;
        self.tally.skipped += step - 1;
        self.tally.accounted += step;
        step
    }

    pub(crate) fn latency_us(&mut self, latency_us: u32) {
        self.tally.latencies_us.push(latency_us);
    }

    pub(crate) fn into_tally(self) -> Tally {
        self.tally
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn follow(sequences: &[u64]) -> Tally {
        let mut follower = Follower::new(&[9, 3]);
        for &sequence in sequences {
            follower.follow(Some(Delivery {
                device: 3,
                sequence,
                sent_at_us: 0,
            }));
        }
        follower.into_tally()
    }

    #[test]
    fn each_once_and_in_order_is_all_that_is_expected() {
        let expected = Tally {
            received: 3,
            accounted: 3,
            ..Tally::default()
        };
        assert_eq!(follow(&[1, 2, 3]), expected);
    }

    #[test]
    fn gaps_repetitions_and_late_comers_are_told_apart() {
        let tally = follow(&[2, 5, 5, 4]);
        let expected = Tally {
            received: 4,
            accounted: 5,
            skipped: 3,
            duplicated: 1,
            reordered: 1,
            ..Tally::default()
        };
        assert_eq!(tally, expected);
    }

    #[test]
    fn numbers_of_frames_go_on_from_one_to_the_next() {
        let frame = |sequence, updates| UpdatesFrame {
            sequence,
            updates,
            conflated_values: 0,
        };
        let mut follower = Follower::new(&[3]);
        follower.number_from(2);
        for (sequence, updates) in [(5, 3), (6, 1), (6, 1), (9, 2), (10, 1)] {
            follower.follow_frame(frame(sequence, updates));
        }
        assert_eq!(follower.into_tally().misnumbered, 2);
    }

    #[test]
    fn what_nobody_asked_for_is_counted() {
        let mut follower = Follower::new(&[3]);
        follower.follow(None);
        let foreign = Delivery {
            device: 4,
            sequence: 1,
            sent_at_us: 0,
        };
        assert_eq!(follower.follow(Some(foreign)), 0);
        assert_eq!(follower.into_tally().unexpected, 2);
    }
}
