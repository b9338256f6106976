//! Whether one device is connected, as far as its messages and the hub's events tell.
//!
//! A `true` runs out when nothing renews it within the time to live; the device then counts as disconnected from that
//! moment. What an event of the hub said is no sign of life, so when the hub can be asked, it is, before its word runs
//! out. A `false` stays until something says otherwise; for a read, though, it is only as good as its age.

use super::time::{Now, Stamp, Stamped, Timestamp};

/// What is known about one device being connected.
#[derive(Debug, Default)]
pub(super) struct ConnectionState {
    known: Option<Known>,
    /// That of the newest event.
    sequence: Option<Box<ConnectionSequence>>,
}

/// Numbers the hub's events about one device being connected. They may come in another order than they happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConnectionSequence([u8; 64]);

impl ConnectionSequence {
    /// Reads a hexadecimal number of up to 256 bits.
    pub fn parse(text: &str) -> Option<Self> {
        let fits =
            (1..=64).contains(&text.len()) && text.bytes().all(|digit| digit.is_ascii_hexdigit());
        fits.then(|| {
            let mut digits = [b'0'; 64];
            digits[64 - text.len()..].copy_from_slice(text.as_bytes());
            digits.make_ascii_uppercase();
            Self(digits)
        })
    }
}

/// Who said it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Source {
    /// The device itself, by a message.
    Device,
    /// The hub, by an event.
    Hub(Option<ConnectionSequence>),
}

#[derive(Debug)]
struct Known {
    connected: bool,
    stamp: Stamp,
    by_hub: bool,
    expires_at_ms: Option<u64>,
    /// Since when it is too old for a read.
    stale_at_ms: Option<u64>,
    /// Whether the hub is being asked if it still holds.
    in_question: bool,
}

/// What happens when a state may have run out.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Expiry {
    /// It has not.
    NotYet,
    /// The hub must be asked whether it still holds.
    AskHub,
    /// The device counts as disconnected since then.
    Disconnected(Stamp),
}

impl ConnectionState {
    /// Takes what a message or event says. `ttl_ms` is how long it holds; `None` for ever. Returns whether it counts: an
    /// event that is older than one before does not.
    pub(super) fn set(
        &mut self,
        connected: bool,
        stamp: Stamp,
        source: Source,
        now: Now,
        ttl_ms: Option<u64>,
    ) -> bool {
        if let Source::Hub(Some(sequence)) = source {
            if (self.sequence.as_deref()).is_some_and(|newest| sequence <= *newest) {
                return false;
            }
            self.sequence = Some(Box::new(sequence));
        }
        let ends_at_ms = ttl_ms.map(|ttl_ms| now.monotonic_ms.saturating_add(ttl_ms));
        self.known = Some(Known {
            connected,
            stamp,
            by_hub: matches!(source, Source::Hub(_)),
            expires_at_ms: ends_at_ms.filter(|_| connected),
            stale_at_ms: ends_at_ms,
            in_question: false,
        });
        true
    }

    /// The state and its times.
    pub(super) fn get(&self) -> Option<Stamped<bool>> {
        self.known.as_ref().map(|known| Stamped {
            value: known.connected,
            stamp: known.stamp.clone(),
        })
    }

    /// Whether the state is too old to be taken for the truth when the hub could be asked instead.
    pub(super) fn is_stale(&self, now: Now) -> bool {
        let stale_at_ms = self.known.as_ref().and_then(|known| known.stale_at_ms);
        stale_at_ms.is_some_and(|stale_at_ms| stale_at_ms <= now.monotonic_ms)
    }

    /// When the state runs out, on the monotonic clock.
    pub(super) fn expires_at_ms(&self) -> Option<u64> {
        self.known.as_ref().and_then(|known| known.expires_at_ms)
    }

    /// Turns a `true` that has run out into `false`, with the moment it ran out as its time; but one that the hub said,
    /// and that it `can_ask` about, comes into question first.
    pub(super) fn expire(&mut self, now: Now, can_ask: bool) -> Expiry {
        let due = |known: &Known| now.monotonic_ms.checked_sub(known.expires_at_ms?);
        let Some((known, overdue_ms)) = self
            .known
            .as_mut()
            .and_then(|known| due(known).map(|overdue_ms| (known, overdue_ms)))
        else {
            return Expiry::NotYet;
        };
        known.expires_at_ms = None;
        if known.by_hub && can_ask {
            known.in_question = true;
            return Expiry::AskHub;
        }
        Expiry::Disconnected(known.disconnect(now, overdue_ms))
    }

    /// Takes the hub's answer to whether the state still holds; `None` when there is none. Returns since when the device
    /// counts as disconnected, if it does by this.
    pub(super) fn answer(
        &mut self,
        connected: Option<bool>,
        now: Now,
        ttl_ms: Option<u64>,
    ) -> Option<Stamp> {
        let known = self.known.as_mut().filter(|known| known.in_question)?;
        known.in_question = false;
        if connected == Some(true) {
            known.expires_at_ms = ttl_ms.map(|ttl_ms| now.monotonic_ms.saturating_add(ttl_ms));
            known.stale_at_ms = known.expires_at_ms;
            return None;
        }
        Some(known.disconnect(now, 0))
    }

    /// Whether nothing is known.
    pub(super) fn is_empty(&self) -> bool {
        self.known.is_none()
    }
}

impl Known {
    fn disconnect(&mut self, now: Now, overdue_ms: u64) -> Stamp {
        let stamp = Stamp {
            timestamp: Timestamp::UnixMs(now.unix_ms.saturating_sub_unsigned(overdue_ms)),
            received_unix_ms: now.unix_ms,
        };
        self.connected = false;
        self.stamp = stamp.clone();
        self.stale_at_ms = Some(now.monotonic_ms);
        stamp
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(unix_ms: i64) -> Stamp {
        Stamp {
            timestamp: Timestamp::UnixMs(unix_ms),
            received_unix_ms: unix_ms,
        }
    }

    fn at(ms: u64) -> Now {
        Now {
            monotonic_ms: ms,
            unix_ms: 1_000_000 + i64::try_from(ms).unwrap(),
        }
    }

    fn connected_at(ms: u64, source: Source) -> ConnectionState {
        let mut state = ConnectionState::default();
        assert!(state.set(true, stamp(5), source, at(ms), Some(100)));
        state
    }

    #[test]
    fn true_runs_out_once_and_false_stays() {
        let mut state = connected_at(0, Source::Device);
        assert_eq!(state.expire(at(99), true), Expiry::NotYet);
        let ran_out = Stamp {
            timestamp: Timestamp::UnixMs(1_000_100),
            received_unix_ms: 1_000_130,
        };
        let disconnected = Expiry::Disconnected(ran_out.clone());
        assert_eq!(state.expire(at(130), true), disconnected);
        let known = state.get().unwrap();
        assert_eq!((known.value, known.stamp), (false, ran_out));
        assert_eq!(state.expire(at(10_000), true), Expiry::NotYet);
        assert!(state.is_stale(at(130)), "the hub may know better");
    }

    #[test]
    fn every_message_renews_the_time_to_live() {
        let mut state = connected_at(0, Source::Device);
        state.set(true, stamp(2), Source::Device, at(90), Some(100));
        assert_eq!(state.expire(at(189), false), Expiry::NotYet);
        assert_ne!(state.expire(at(190), false), Expiry::NotYet);
    }

    #[test]
    fn without_a_time_to_live_nothing_runs_out() {
        let mut state = ConnectionState::default();
        state.set(true, stamp(1), Source::Device, at(0), None);
        assert_eq!(state.expires_at_ms(), None);
        assert_eq!(state.expire(at(u64::MAX / 4), true), Expiry::NotYet);
        assert!(!state.is_stale(at(u64::MAX / 4)));
    }

    #[test]
    fn what_the_hub_said_is_asked_about_before_it_runs_out() {
        let mut state = connected_at(0, Source::Hub(None));
        assert_eq!(state.expire(at(100), true), Expiry::AskHub);
        assert!(
            state.get().unwrap().value,
            "nothing is known to have changed"
        );
        assert_eq!(state.answer(Some(true), at(110), Some(100)), None);
        assert_eq!(state.expires_at_ms(), Some(210));

        assert_eq!(state.expire(at(210), true), Expiry::AskHub);
        let gone = state.answer(Some(false), at(220), Some(100));
        assert_eq!(gone.unwrap().timestamp, Timestamp::UnixMs(1_000_220));
        assert!(!state.get().unwrap().value);
        assert_eq!(
            state.answer(Some(true), at(230), Some(100)),
            None,
            "nobody asked"
        );
        assert!(!state.get().unwrap().value);
    }

    #[test]
    fn a_message_answers_the_question_itself() {
        let mut state = connected_at(0, Source::Hub(None));
        assert_eq!(state.expire(at(100), true), Expiry::AskHub);
        state.set(true, stamp(6), Source::Device, at(105), Some(100));
        assert_eq!(state.answer(None, at(110), Some(100)), None);
        assert!(state.get().unwrap().value);
    }

    #[test]
    fn an_older_event_does_not_overtake_a_newer_one() {
        let number = |text| ConnectionSequence::parse(text).unwrap();
        assert!(number("0a") > number("9"));
        assert_eq!(number("0A"), number("a"));
        for bad in ["", "g", "-1", &"0".repeat(65)] {
            assert_eq!(ConnectionSequence::parse(bad), None, "{bad}");
        }
        let mut state = ConnectionState::default();
        let mut event = |connected, sequence| {
            let source = Source::Hub(Some(number(sequence)));
            state.set(connected, stamp(1), source, at(0), None)
        };
        assert!(event(true, "10"));
        assert!(!event(false, "0f"));
        assert!(!event(false, "10"), "a repetition");
        assert!(event(false, "11"));
        assert!(!state.get().unwrap().value);
    }

    #[test]
    fn an_old_false_is_good_for_subscribers_but_not_for_a_read() {
        let mut state = ConnectionState::default();
        state.set(false, stamp(1), Source::Device, at(0), Some(100));
        assert!(!state.is_stale(at(99)));
        assert!(state.is_stale(at(100)));
        assert_eq!(state.expires_at_ms(), None);
        assert!(!state.get().unwrap().value);
    }
}
