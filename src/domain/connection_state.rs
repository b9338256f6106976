//! Whether one device is connected, as far as its messages and the hub's events tell.
//!
//! A `true` runs out when nothing renews it within the time to live; the device then counts as disconnected from that
//! moment. A `false` stays until something says otherwise.

use super::time::{Now, Stamp, Stamped, Timestamp};

/// What is known about one device being connected.
#[derive(Debug, Default)]
pub(super) struct ConnectionState {
    known: Option<Known>,
}

#[derive(Debug)]
struct Known {
    connected: bool,
    stamp: Stamp,
    expires_at_ms: Option<u64>,
}

impl ConnectionState {
    /// Takes what a message or event says. `ttl_ms` is how long a `true` holds; `None` for ever.
    pub(super) fn set(&mut self, connected: bool, stamp: Stamp, now: Now, ttl_ms: Option<u64>) {
        let expires_at_ms = ttl_ms
            .filter(|_| connected)
            .map(|ttl_ms| now.monotonic_ms.saturating_add(ttl_ms));
        self.known = Some(Known {
            connected,
            stamp,
            expires_at_ms,
        });
    }

    /// The state and its times.
    pub(super) fn get(&self) -> Option<Stamped<bool>> {
        self.known.as_ref().map(|known| Stamped {
            value: known.connected,
            stamp: known.stamp.clone(),
        })
    }

    /// When the state runs out, on the monotonic clock.
    pub(super) fn expires_at_ms(&self) -> Option<u64> {
        self.known.as_ref().and_then(|known| known.expires_at_ms)
    }

    /// Turns a `true` that has run out into `false`, with the moment it ran out as its time, which is returned.
    pub(super) fn expire(&mut self, now: Now) -> Option<Stamp> {
        let known = self.known.as_mut()?;
        let overdue_ms = now.monotonic_ms.checked_sub(known.expires_at_ms?)?;
        let stamp = Stamp {
            timestamp: Timestamp::UnixMs(now.unix_ms.saturating_sub_unsigned(overdue_ms)),
            received_unix_ms: now.unix_ms,
        };
        *known = Known {
            connected: false,
            stamp: stamp.clone(),
            expires_at_ms: None,
        };
        Some(stamp)
    }

    /// Whether nothing is known.
    pub(super) fn is_empty(&self) -> bool {
        self.known.is_none()
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

    #[test]
    fn true_runs_out_once_and_false_stays() {
        let mut state = ConnectionState::default();
        state.set(true, stamp(5), at(0), Some(100));
        assert_eq!(state.expire(at(99)), None);
        let ran_out = Stamp {
            timestamp: Timestamp::UnixMs(1_000_100),
            received_unix_ms: 1_000_130,
        };
        assert_eq!(state.expire(at(130)), Some(ran_out.clone()));
        let known = state.get().unwrap();
        assert_eq!((known.value, known.stamp), (false, ran_out));
        assert_eq!(state.expire(at(10_000)), None);
    }

    #[test]
    fn every_message_renews_the_time_to_live() {
        let mut state = ConnectionState::default();
        state.set(true, stamp(1), at(0), Some(100));
        state.set(true, stamp(2), at(90), Some(100));
        assert_eq!(state.expire(at(189)), None);
        assert!(state.expire(at(190)).is_some());
    }

    #[test]
    fn without_a_time_to_live_true_holds_for_ever() {
        let mut state = ConnectionState::default();
        state.set(true, stamp(1), at(0), None);
        assert_eq!(state.expires_at_ms(), None);
        assert_eq!(state.expire(at(u64::MAX / 4)), None);
    }
}
