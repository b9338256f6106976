//! Which grants of a session run out, and when.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::domain::grant::Grant;
use crate::domain::id::DeviceId;
use crate::domain::small_map::SmallMap;

/// Stale moments, beside as many as there are others, below which it is not worth while to look for them.
const STALE_MIN: usize = 8;

/// Which grants of a session run out, and when. A grant that is not in here holds until it is revoked.
#[derive(Debug, Default)]
pub(super) struct Expiries(Option<Box<Timed>>);

/// The grants that run out: at least one, or there would be no allocation for them.
#[derive(Debug, Default)]
struct Timed {
    by_grant: SmallMap<(DeviceId, Grant), i64>,
    /// One for each of the above, and stale ones that are dropped when they come up. The first is never stale.
    moments: BinaryHeap<Reverse<(i64, DeviceId, Grant)>>,
}

impl Expiries {
    /// Notes that a grant was given, until a moment or for good. `new` says that it was not there before.
    pub(super) fn granted(
        &mut self,
        device: &DeviceId,
        grant: Grant,
        expires_at_unix_ms: Option<i64>,
        new: bool,
    ) {
        let Some(expires_at) = expires_at_unix_ms else {
            self.revoked(device, &grant);
            return;
        };
        let grant = (device.clone(), grant);
        let before = self
            .0
            .as_deref()
            .and_then(|timed| timed.by_grant.get(&grant));
        match before {
            // Given for good before.
            None if !new => return,
            Some(later) if !new && *later >= expires_at => return,
            _ => {}
        }
        let timed = self.0.get_or_insert_default();
        timed.by_grant.insert(grant.clone(), expires_at);
        if timed.moments.len() == timed.moments.capacity() {
            timed.moments.reserve_exact(timed.moments.len().max(1));
        }
        let (device, grant) = grant;
        timed.moments.push(Reverse((expires_at, device, grant)));
        self.tidy();
    }

    /// Notes that a grant was revoked.
    pub(super) fn revoked(&mut self, device: &DeviceId, grant: &Grant) {
        if let Some(timed) = &mut self.0 {
            timed.by_grant.remove(&(device.clone(), grant.clone()));
            self.tidy();
        }
    }

    /// The first moment at which a grant runs out.
    pub(super) fn next(&self) -> Option<i64> {
        let Reverse((unix_ms, ..)) = self.0.as_deref()?.moments.peek()?;
        Some(*unix_ms)
    }

    /// Takes out one grant that has run out.
    pub(super) fn pop_due(&mut self, now_unix_ms: i64) -> Option<(DeviceId, Grant)> {
        if self.next()? > now_unix_ms {
            return None;
        }
        let timed = self.0.as_deref_mut()?;
        let Reverse((_, device, grant)) = timed.moments.pop()?;
        let due = (device, grant);
        timed.by_grant.remove(&due);
        self.tidy();
        Some(due)
    }

    /// Drops the stale moments before the first that counts, all of them when they are too many, and everything when
    /// nothing runs out any more.
    fn tidy(&mut self) {
        let Some(Timed { by_grant, moments }) = self.0.as_deref_mut() else {
            return;
        };
        if by_grant.is_empty() {
            self.0 = None;
            return;
        }
        let is_stale = |(unix_ms, device, grant): &(i64, DeviceId, Grant)| {
            // Cheap: both are shared texts.
            let grant = (device.clone(), grant.clone());
            by_grant.get(&grant) != Some(unix_ms)
        };
        while moments
            .peek()
            .is_some_and(|Reverse(moment)| is_stale(moment))
        {
            moments.pop();
        }
        if moments.len() > 2 * by_grant.len() + STALE_MIN {
            moments.retain(|Reverse(moment)| !is_stale(moment));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(number: u32) -> DeviceId {
        DeviceId::new(&format!("d{number}")).unwrap()
    }

    #[test]
    fn a_grant_runs_out_at_the_last_of_its_moments_and_once() {
        let mut expiries = Expiries::default();
        for (number, unix_ms, new) in [
            (1, 20, true),
            (2, 10, true),
            (1, 15, false),
            (2, 30, false),
            (3, 5, true),
        ] {
            expiries.granted(&device(number), Grant::ConnectionState, Some(unix_ms), new);
        }
        expiries.revoked(&device(3), &Grant::ConnectionState);
        assert_eq!(expiries.next(), Some(20));
        assert_eq!(expiries.pop_due(19), None);
        assert_eq!(
            expiries.pop_due(40),
            Some((device(1), Grant::ConnectionState))
        );
        assert_eq!(
            expiries.pop_due(40),
            Some((device(2), Grant::ConnectionState))
        );
        assert_eq!(expiries.pop_due(40), None);
        assert!(expiries.0.is_none(), "nothing is kept for what is over");
    }

    #[test]
    fn a_grant_that_is_prolonged_for_ever_takes_no_more_room() {
        let mut expiries = Expiries::default();
        for unix_ms in 0..1000 {
            expiries.granted(
                &device(1),
                Grant::ConnectionState,
                Some(unix_ms),
                unix_ms == 0,
            );
            // Given early, so that what is stale does not come up by itself.
            expiries.granted(&device(2), Grant::ConnectionState, Some(-1), unix_ms == 0);
        }
        let timed = expiries.0.as_deref().unwrap();
        assert!(timed.moments.len() <= 2 * timed.by_grant.len() + STALE_MIN);
        assert_eq!(expiries.next(), Some(-1));
    }
}
