//! What is still to be sent to one client, within a bound.
//!
//! While the client keeps up, updates leave in the order they came. When the queue is full, the outbox conflates: for
//! each device it keeps only the newest value of each telemetry key, the newest connection state and the newest twin,
//! and hands them out once the queue has drained. Device-to-cloud messages cannot be conflated; the oldest are dropped.
//!
//! For a client that can tell what it got, updates are numbered as they leave and the latest are remembered, so that one
//! that lost its connection is sent what it missed instead of everything.
//!
//! Guarantees: the last thing a client gets for a (device, key) is the newest that was pushed; updates of one device
//! and kind never go back in time; memory stays under [`OutboxLimits`]; what was conflated or dropped is counted.

mod backlog;
mod replay;

use std::collections::{BTreeMap, VecDeque};
use std::ops::AddAssign;
use std::sync::Arc;

use self::backlog::Backlog;
use self::replay::Replay;
use super::id::DeviceId;
use super::limits::OutboxLimits;
use super::subscription::{DeviceSubscriptions, Part};
use super::twin_view::TwinView;
use super::update::{Update, UpdateBody};

/// About what a connection writes at once. More of it at a time would cost memory and win nothing.
const BURST_BYTES: usize = 64 * 1024;

/// What is still to be sent to one client.
#[derive(Debug)]
pub struct Outbox {
    limits: Arc<OutboxLimits>,
    queue: VecDeque<Arc<Update>>,
    queue_bytes: usize,
    /// What came after the queue was full. Never empty: most outboxes have none.
    backlog: Option<Box<Backlog>>,
    skipped: Skipped,
    /// What left lately; only for a client that can come back for it.
    replay: Option<Box<Replay>>,
}

/// How many values and messages a client did not get because newer ones overtook them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Skipped {
    /// Telemetry values, connection states and twins replaced by newer ones.
    pub conflated: u64,
    /// Device-to-cloud messages dropped.
    pub dropped: u64,
}

impl AddAssign for Skipped {
    fn add_assign(&mut self, other: Self) {
        self.conflated += other.conflated;
        self.dropped += other.dropped;
    }
}

/// Even the newest values do not fit into the bound; the client must be disconnected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overflow;

impl Outbox {
    /// An empty outbox.
    pub fn new(limits: impl Into<Arc<OutboxLimits>>) -> Self {
        Self {
            limits: limits.into(),
            queue: VecDeque::new(),
            queue_bytes: 0,
            backlog: None,
            skipped: Skipped::default(),
            replay: None,
        }
    }

    /// Empties the outbox and begins to number what leaves it, from 1.
    pub fn start_numbering(&mut self) {
        self.clear();
        self.replay = Some(Box::default());
    }

    /// The number of the last update that left; 0 when none did, or when they are not numbered.
    pub fn sequence(&self) -> u64 {
        self.replay.as_ref().map_or(0, |replay| replay.sequence())
    }

    /// The number of the first update that it is possible to go back to; 0 when they are not numbered.
    pub fn remembers_after(&self) -> u64 {
        self.replay
            .as_ref()
            .map_or(0, |replay| replay.remembers_after())
    }

    /// Goes back to the moment when the update with this number had left: those after it are sent again, before
    /// everything else, and what was skipped before them is told again. Returns `false`, and does nothing, when they are not all remembered or the number is none.
    pub fn rewind(&mut self, sequence: u64) -> bool {
        let Some((missed, skipped)) =
            (self.replay.as_mut()).and_then(|replay| replay.rewind(sequence, &self.limits))
        else {
            return false;
        };
        self.skipped += skipped;
        for update in missed.into_iter().rev() {
            self.queue_bytes += update.bytes();
            self.queue.push_front(update);
        }
        true
    }

    /// Adds an update.
    pub fn push(&mut self, update: Arc<Update>) -> Result<(), Overflow> {
        let bytes = update.bytes();
        let behind = self.backlog.is_some();
        let fits = self.queue.len() < self.limits.frames_max
            && self.queue_bytes + bytes <= self.limits.bytes_max;
        // A single update over the bound still gets through to a client that has nothing else waiting.
        if !behind && (fits || self.queue.is_empty()) {
            self.queue_bytes += bytes;
            self.queue.push_back(update);
            return Ok(());
        }
        let backlog = self.backlog.get_or_insert_default();
        let pushed = backlog.push(&update, &self.limits, &mut self.skipped);
        // A message may be over the bound by itself.
        self.drop_empty_backlog();
        pushed
    }

    /// Whether as much queues as a connection writes at once, or half of what fits.
    pub fn has_burst(&self) -> bool {
        self.queue_bytes >= BURST_BYTES.min(self.limits.bytes_max / 2)
            || self.queue.len() >= self.limits.frames_max / 2
    }

    /// Takes what is to be sent next: updates until they reach `bytes_max`, so at least one if there is any.
    pub fn take(&mut self, bytes_max: usize) -> Vec<Arc<Update>> {
        let mut taken = Vec::new();
        let mut left_bytes = bytes_max;
        if self.queue_bytes < bytes_max {
            taken = std::mem::take(&mut self.queue).into();
            left_bytes -= std::mem::take(&mut self.queue_bytes);
        }
        while (left_bytes > 0 || taken.is_empty())
            && let Some(update) = self.pop()
        {
            left_bytes = left_bytes.saturating_sub(update.bytes());
            taken.push(update);
        }
        if let Some(replay) = self.replay.as_mut().filter(|_| !taken.is_empty()) {
            replay.left(&taken, &self.limits);
        }
        taken
    }

    /// Drops what is not covered by what the session still wants of the devices in `wanted`; what waits of others
    /// stays. Updates with some telemetry keys still wanted are cut down to those, twins to what is still shown of them.
    /// One pass, however many devices there are.
    pub fn retain(&mut self, wanted: &BTreeMap<DeviceId, DeviceSubscriptions>) {
        let cut = |update: &Arc<Update>| match wanted.get(&update.device_id) {
            Some(wanted) => cut_down(update, wanted),
            None => Some(update.clone()),
        };
        cut_updates(&mut self.queue, &mut self.queue_bytes, cut);
        if let Some(replay) = &mut self.replay {
            replay.cut(&self.limits, cut);
        }
        self.narrow_backlog(|backlog| {
            backlog.cut_messages(cut);
            backlog.narrow(|device, conflated| {
                let Some(wanted) = wanted.get(device) else {
                    return;
                };
                conflated.retain(|part| wanted.covers(part));
                if let Some(twin) = &mut conflated.device_twin
                    && let Some(shown) = cut_down(twin, wanted)
                {
                    *twin = shown;
                }
            });
        });
    }

    /// Drops what is in a snapshot, or older than it: all that waits of what `fresh` covers, but messages, which no
    /// snapshot holds.
    pub fn supersede(&mut self, fresh: &BTreeMap<DeviceId, DeviceSubscriptions>) {
        if self.is_empty() {
            return;
        }
        let keep = |device: &DeviceId, part: Part<'_>| {
            part == Part::Message || !fresh.get(device).is_some_and(|fresh| fresh.covers(part))
        };
        cut_updates(&mut self.queue, &mut self.queue_bytes, |update| {
            retain_parts(update, |part| keep(&update.device_id, part))
        });
        self.narrow_backlog(|backlog| {
            backlog.narrow(|device, conflated| conflated.retain(|part| keep(device, part)));
        });
    }

    /// Drops everything, also what left already.
    pub fn clear(&mut self) {
        self.queue = VecDeque::new();
        self.queue_bytes = 0;
        self.backlog = None;
        self.replay = None;
    }

    fn narrow_backlog(&mut self, change: impl FnOnce(&mut Backlog)) {
        if let Some(backlog) = &mut self.backlog {
            change(backlog);
        }
        self.drop_empty_backlog();
    }

    fn drop_empty_backlog(&mut self) {
        let empty = self.backlog.take_if(|backlog| backlog.is_empty());
        debug_assert!(empty.is_none_or(|backlog| backlog.bytes() == 0));
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.backlog.is_none()
    }

    /// What was skipped since it was last taken.
    pub fn skipped(&self) -> Skipped {
        self.skipped
    }

    /// The same, for the client to be told, and begins anew.
    pub fn take_skipped(&mut self) -> Skipped {
        let skipped = std::mem::take(&mut self.skipped);
        if let Some(replay) = &mut self.replay
            && skipped != Skipped::default()
        {
            replay.told(skipped);
        }
        skipped
    }

    fn pop(&mut self) -> Option<Arc<Update>> {
        if let Some(update) = self.queue.pop_front() {
            self.queue_bytes -= update.bytes();
            if self.queue.is_empty() {
                // An idle client should not keep the memory that a burst needed.
                self.queue = VecDeque::new();
            }
            return Some(update);
        }
        let update = self.backlog.as_mut()?.pop();
        self.drop_empty_backlog();
        update
    }
}

fn cut_updates(
    queue: &mut VecDeque<Arc<Update>>,
    queue_bytes: &mut usize,
    cut: impl Fn(&Arc<Update>) -> Option<Arc<Update>>,
) {
    queue.retain_mut(|update| cut_update(update, queue_bytes, &cut));
    if queue.is_empty() {
        *queue = VecDeque::new();
    }
}

/// Replaces an update by what `cut` leaves of it, and counts its bytes anew. Returns whether anything is left.
fn cut_update(
    update: &mut Arc<Update>,
    bytes: &mut usize,
    cut: impl Fn(&Arc<Update>) -> Option<Arc<Update>>,
) -> bool {
    *bytes -= update.bytes();
    let left = cut(update);
    if let Some(left) = &left {
        *bytes += left.bytes();
        *update = left.clone();
    }
    left.is_some()
}

/// What is still wanted of an update; itself when that is all of it, `None` when it is nothing.
fn cut_down(update: &Arc<Update>, wanted: &DeviceSubscriptions) -> Option<Arc<Update>> {
    if let (UpdateBody::DeviceTwin(twin), Some(view @ TwinView::Parts(_))) =
        (&update.body, &wanted.device_twin)
    {
        let body = UpdateBody::DeviceTwin(view.cut(twin));
        let (device, stamp) = (update.device_id.clone(), update.stamp.clone());
        return Some(Arc::new(Update::new(device, stamp, body)));
    }
    retain_parts(update, |part| wanted.covers(part))
}

/// The parts of an update that satisfy `keep`; itself when these are all, `None` when there are none.
fn retain_parts(update: &Arc<Update>, keep: impl Fn(Part<'_>) -> bool) -> Option<Arc<Update>> {
    let part = match &update.body {
        UpdateBody::Telemetry(_) => return update.filter_keys(|key| keep(Part::Key(key))),
        UpdateBody::ConnectionState(_) => Part::ConnectionState,
        UpdateBody::DeviceTwin(_) => Part::DeviceTwin,
        UpdateBody::Message(_) => Part::Message,
    };
    keep(part).then(|| update.clone())
}

#[cfg(test)]
mod tests {
    use super::super::id::TelemetryKey;
    use super::super::raw_json::RawJson;
    use super::super::subscription::{Delivery, Subscription};
    use super::super::telemetry::tests::telemetry;
    use super::super::time::{Stamp, Timestamp};
    use super::*;

    const LIMITS: OutboxLimits = OutboxLimits {
        frames_max: 2,
        bytes_max: 10_000,
        replay_frames_max: 10,
        replay_bytes_max: 10_000,
    };

    fn update(device: &str, body: UpdateBody) -> Arc<Update> {
        Arc::new(Update::new(
            DeviceId::new(device).unwrap(),
            Stamp {
                timestamp: Timestamp::UnixMs(1),
                received_unix_ms: 1,
            },
            body,
        ))
    }

    fn values(device: &str, members: &[(&str, &str)]) -> Arc<Update> {
        update(device, UpdateBody::Telemetry(telemetry(members)))
    }

    fn message(body: &str) -> Arc<Update> {
        update("d1", UpdateBody::Message(RawJson::from_valid(body)))
    }

    fn wanted(device: &str, key: &str) -> BTreeMap<DeviceId, DeviceSubscriptions> {
        let mut wanted = DeviceSubscriptions::default();
        let subscription = Subscription::Telemetry(TelemetryKey::new(key));
        wanted.insert(subscription, Delivery::default());
        BTreeMap::from([(DeviceId::new(device).unwrap(), wanted)])
    }

    fn drain(outbox: &mut Outbox) -> Vec<String> {
        let taken = outbox.take(usize::MAX);
        taken
            .iter()
            .map(|update| format!("{} {:?}", update.device_id, update.body))
            .collect()
    }

    #[test]
    fn updates_leave_in_order_while_there_is_room() {
        let mut outbox = Outbox::new(LIMITS);
        outbox.push(values("d1", &[("t", "1")])).unwrap();
        outbox.push(values("d2", &[("t", "2")])).unwrap();
        assert_eq!(
            drain(&mut outbox),
            [r#"d1 Telemetry({"t": "1"})"#, r#"d2 Telemetry({"t": "2"})"#]
        );
        assert!(outbox.is_empty());
    }

    #[test]
    fn a_full_outbox_keeps_the_newest_value_of_each_key() {
        let mut outbox = Outbox::new(LIMITS);
        for value in ["1", "2", "3", "4"] {
            outbox.push(values("d1", &[("t", value)])).unwrap();
        }
        outbox.push(values("d1", &[("u", "9")])).unwrap();
        assert_eq!(
            drain(&mut outbox),
            [
                r#"d1 Telemetry({"t": "1"})"#,
                r#"d1 Telemetry({"t": "2"})"#,
                r#"d1 Telemetry({"t": "4", "u": "9"})"#
            ]
        );
        assert_eq!(
            outbox.take_skipped(),
            Skipped {
                conflated: 1,
                dropped: 0
            }
        );
        assert_eq!(outbox.queue_bytes, 0);
        assert!(outbox.backlog.is_none());
    }

    #[test]
    fn connection_state_and_twin_conflate_and_messages_drop_the_oldest() {
        let mut outbox = Outbox::new(LIMITS);
        for _ in 0..2 {
            outbox.push(values("d1", &[("t", "1")])).unwrap();
        }
        for connected in [true, false] {
            outbox
                .push(update("d1", UpdateBody::ConnectionState(connected)))
                .unwrap();
        }
        for body in ["1", "2", "3"] {
            outbox.push(message(body)).unwrap();
        }
        assert_eq!(
            drain(&mut outbox)[2..],
            [
                "d1 ConnectionState(false)",
                "d1 Message(2)",
                "d1 Message(3)"
            ]
        );
        assert_eq!(
            outbox.take_skipped(),
            Skipped {
                conflated: 1,
                dropped: 1
            }
        );
    }

    #[test]
    fn more_newest_values_than_fit_are_an_overflow() {
        let mut outbox = Outbox::new(OutboxLimits {
            frames_max: 1,
            bytes_max: 1000,
            ..LIMITS
        });
        let long = format!("\"{}\"", "x".repeat(400));
        outbox.push(values("d1", &[("t", "1")])).unwrap();
        outbox.push(values("d1", &[("t", &long)])).unwrap();
        outbox.push(values("d1", &[("t", &long)])).unwrap();
        assert_eq!(outbox.push(values("d1", &[("u", &long)])), Err(Overflow));
    }

    #[test]
    fn a_lone_update_over_the_bound_still_gets_through() {
        let mut outbox = Outbox::new(OutboxLimits {
            frames_max: 1,
            bytes_max: 10,
            ..LIMITS
        });
        outbox
            .push(values(
                "d1",
                &[("t", "\"a long text, longer than the bound\"")],
            ))
            .unwrap();
        assert_eq!(drain(&mut outbox).len(), 1);
    }

    #[test]
    fn what_is_no_longer_wanted_is_dropped_and_the_rest_is_cut() {
        let mut outbox = Outbox::new(LIMITS);
        outbox
            .push(values("d1", &[("t", "1"), ("u", "2")]))
            .unwrap();
        outbox.push(values("d2", &[("t", "1")])).unwrap();
        outbox
            .push(values("d1", &[("t", "3"), ("u", "4")]))
            .unwrap();
        outbox
            .push(update("d1", UpdateBody::ConnectionState(true)))
            .unwrap();
        outbox.push(message("5")).unwrap();
        outbox.retain(&wanted("d1", "u"));
        assert_eq!(
            drain(&mut outbox),
            [
                r#"d1 Telemetry({"u": "2"})"#,
                r#"d2 Telemetry({"t": "1"})"#,
                r#"d1 Telemetry({"u": "4"})"#
            ]
        );
        assert!(outbox.is_empty());
        assert_eq!(outbox.queue_bytes, 0);
        assert!(outbox.backlog.is_none());
    }

    #[test]
    fn a_take_stops_at_its_bound_but_gives_at_least_one() {
        let mut outbox = Outbox::new(LIMITS);
        outbox.push(values("d1", &[("t", "1")])).unwrap();
        outbox.push(values("d1", &[("t", "2")])).unwrap();
        assert_eq!(outbox.take(1).len(), 1);
    }

    #[test]
    fn what_a_snapshot_holds_is_not_sent_after_it() {
        let mut outbox = Outbox::new(LIMITS);
        outbox
            .push(values("d1", &[("t", "1"), ("u", "2")]))
            .unwrap();
        for value in ["3", "4"] {
            outbox
                .push(values("d1", &[("t", value), ("u", value)]))
                .unwrap();
        }
        outbox.push(message("5")).unwrap();
        outbox.supersede(&wanted("d1", "t"));
        assert_eq!(
            drain(&mut outbox),
            [
                r#"d1 Telemetry({"u": "2"})"#,
                r#"d1 Telemetry({"u": "3"})"#,
                r#"d1 Telemetry({"u": "4"})"#,
                "d1 Message(5)"
            ]
        );
    }

    #[test]
    fn a_rewound_outbox_sends_what_was_missed_and_then_the_rest() {
        let mut outbox = Outbox::new(LIMITS);
        outbox.start_numbering();
        outbox.push(values("d1", &[("t", "1")])).unwrap();
        outbox.push(values("d1", &[("t", "2")])).unwrap();
        assert_eq!(drain(&mut outbox).len(), 2);
        assert_eq!(outbox.sequence(), 2);
        outbox.push(values("d1", &[("t", "3")])).unwrap();
        assert!(outbox.rewind(1));
        assert_eq!(
            drain(&mut outbox),
            [r#"d1 Telemetry({"t": "2"})"#, r#"d1 Telemetry({"t": "3"})"#]
        );
        assert_eq!(outbox.sequence(), 3);
        assert!(!outbox.rewind(4), "no such update has left");
        assert!(outbox.rewind(3));
        assert!(outbox.is_empty());
    }

    #[test]
    fn what_was_skipped_is_told_again_to_whoever_missed_it() {
        let mut outbox = Outbox::new(LIMITS);
        outbox.start_numbering();
        for value in ["1", "2", "3", "4", "5"] {
            outbox.push(values("d1", &[("t", value)])).unwrap();
        }
        let skipped = Skipped {
            conflated: 2,
            dropped: 0,
        };
        assert_eq!(drain(&mut outbox).len(), 3);
        assert_eq!(outbox.take_skipped(), skipped);
        assert!(outbox.rewind(1));
        assert_eq!(drain(&mut outbox).len(), 2);
        assert_eq!(outbox.take_skipped(), skipped);
        assert!(outbox.rewind(3));
        assert_eq!(
            outbox.take_skipped(),
            Skipped::default(),
            "the client has heard of it"
        );
    }

    #[test]
    fn what_was_revoked_is_not_sent_again() {
        let mut outbox = Outbox::new(LIMITS);
        outbox.start_numbering();
        outbox
            .push(values("d1", &[("t", "1"), ("u", "2")]))
            .unwrap();
        outbox.push(values("d1", &[("t", "3")])).unwrap();
        drain(&mut outbox);
        outbox.retain(&wanted("d1", "u"));
        assert!(outbox.rewind(0));
        assert_eq!(drain(&mut outbox), [r#"d1 Telemetry({"u": "2"})"#]);
    }

    #[test]
    fn an_update_that_is_no_longer_remembered_cannot_be_missed_quietly() {
        let mut outbox = Outbox::new(OutboxLimits {
            replay_frames_max: 2,
            ..LIMITS
        });
        outbox.start_numbering();
        for value in ["1", "2", "3"] {
            outbox.push(values("d1", &[("t", value)])).unwrap();
            drain(&mut outbox);
        }
        assert!(!outbox.rewind(0));
        assert!(outbox.rewind(1));
        assert_eq!(drain(&mut outbox).len(), 2);
        outbox.clear();
        assert!(!outbox.rewind(3), "nothing is numbered any more");
    }
}
