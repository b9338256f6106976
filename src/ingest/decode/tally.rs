//! What was decoded and what was dropped, counted on the decoder's own thread and handed over batch by batch.

use super::class::{Class, Ignored};

/// Why an event, or part of it, goes nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropReason {
    /// Nothing says which device it is about.
    MissingDeviceId,
    /// The device id is longer than the relay takes.
    InvalidDeviceId,
    /// The body is not JSON. Its text still goes to subscribers of D2C messages; its telemetry is lost.
    Undecodable,
    /// The body nests deeper than configured; otherwise as [`Undecodable`](Self::Undecodable).
    TooDeep,
    /// The body is larger than configured.
    TooLarge,
    /// Connection states come from a telemetry member, by configuration.
    ConnectionStateUnused,
    /// A connection-state or twin event with an operation that the relay does not know.
    UnknownOperation,
    /// A known kind of event that the relay has no use for.
    OtherEvent,
    /// An unknown kind of event.
    UnknownEvent,
}

impl DropReason {
    /// Every reason, in the order of [`Tally::dropped`].
    pub const ALL: [Self; 9] = [
        Self::MissingDeviceId,
        Self::InvalidDeviceId,
        Self::Undecodable,
        Self::TooDeep,
        Self::TooLarge,
        Self::ConnectionStateUnused,
        Self::UnknownOperation,
        Self::OtherEvent,
        Self::UnknownEvent,
    ];
}

/// Counts since the last [`take`](Tally::take).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Events classed as telemetry.
    pub telemetry: u64,
    /// Events classed as connection state.
    pub connection_state: u64,
    /// Events classed as twin change.
    pub twin: u64,
    /// Events of no use to the relay.
    pub ignored: u64,
    /// Bytes of all bodies.
    pub body_bytes: u64,
    dropped: [u64; DropReason::ALL.len()],
}

impl Tally {
    /// Events, or elements of an array body, dropped for `reason`.
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.dropped[reason as usize]
    }

    /// The counts; they start again at zero.
    #[must_use]
    pub fn take(&mut self) -> Self {
        std::mem::take(self)
    }

    pub(super) fn count(&mut self, class: Class, body_bytes: usize) {
        self.body_bytes += body_bytes as u64;
        match class {
            Class::Telemetry => self.telemetry += 1,
            Class::ConnectionState => self.connection_state += 1,
            Class::Twin => self.twin += 1,
            Class::Ignored(why) => {
                self.ignored += 1;
                self.drop(match why {
                    Ignored::OtherEvent => DropReason::OtherEvent,
                    Ignored::UnknownEvent => DropReason::UnknownEvent,
                });
            }
        }
    }

    pub(super) fn drop(&mut self, reason: DropReason) {
        self.dropped[reason as usize] += 1;
    }
}
