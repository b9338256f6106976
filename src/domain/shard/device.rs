//! Everything that a shard knows about one device, and what follows from each of its messages.

use std::sync::Arc;

use hashbrown::HashMap;
use smallvec::SmallVec;

use super::super::connection_state::{ConnectionState, Expiry, Source};
use super::super::device_message::{Content, TelemetryMessage};
use super::super::hub_twin::HubTwin;
use super::super::id::{DeviceId, SessionId};
use super::super::last_value::KeyTable;
use super::super::raw_json::RawJson;
use super::super::snapshot::DeviceSnapshot;
use super::super::subscription::{Delivery, DeviceSubscriptions, Part, TelemetrySelection};
use super::super::telemetry::Telemetry;
use super::super::time::{Now, Stamp, Stamped};
use super::super::twin::NotATwin;
use super::super::update::{Update, UpdateBody};
use super::throttle::Window;
use super::timers::{Timer, Timers};
use super::twin_sight::TwinSight;
use super::views::Views;
use super::{Context, Recipients, ShardSettings};

/// Everything that a shard knows about one device.
#[derive(Debug)]
pub(super) struct Device<R> {
    id: DeviceId,
    pub(super) keys: KeyTable,
    pub(super) connection_state: ConnectionState,
    connection_state_timer: bool,
    pub(super) twin: TwinSight<R>,
    views: Views<R>,
    windows: HashMap<SessionId, SmallVec<[(Delivery, Window); 1]>>,
    state_recipients: Recipients<R>,
    message_recipients: Recipients<R>,
}

impl<R: Clone> Device<R> {
    pub(super) fn new(id: DeviceId) -> Self {
        Self {
            id,
            keys: KeyTable::default(),
            connection_state: ConnectionState::default(),
            connection_state_timer: false,
            twin: TwinSight::default(),
            views: Views::default(),
            windows: HashMap::new(),
            state_recipients: Recipients::default(),
            message_recipients: Recipients::default(),
        }
    }

    pub(super) fn apply<F: FnMut(&R, &Arc<Update>)>(
        &mut self,
        said: Content,
        stamp: Stamp,
        context: &mut Context<'_, F>,
    ) {
        match said {
            Content::Telemetry(TelemetryMessage {
                telemetry,
                connection_state,
                message,
            }) => {
                if let Some(telemetry) = telemetry {
                    self.apply_telemetry(telemetry, &stamp, context);
                }
                if let Some(connected) = connection_state {
                    self.apply_connection_state(connected, stamp.clone(), Source::Device, context);
                }
                if let Some(message) = message.filter(|_| !self.message_recipients.is_empty()) {
                    let update = self.update(stamp, UpdateBody::Message(message));
                    deliver_to_all(&self.message_recipients, &update, context);
                }
            }
            Content::ConnectionState {
                connected,
                sequence,
            } => {
                let source = Source::Hub(sequence);
                self.apply_connection_state(connected, stamp, source, context);
            }
            Content::Twin(event) => {
                let applied = self.twin.apply(&self.id, &event, stamp, context);
                context.stats.messages_dropped += u64::from(applied.is_err());
            }
        }
    }

    /// Replaces all that a session wants; nothing wanted ends it.
    pub(super) fn set_subscriptions(
        &mut self,
        session: SessionId,
        recipient: &R,
        wanted: &DeviceSubscriptions,
        timers: &mut Timers,
        now: Now,
    ) {
        self.views
            .set(session, recipient, &wanted.telemetry, &mut self.keys);
        self.rearrange_windows(session, &wanted.telemetry, timers, now);
        self.twin
            .set(session, recipient, wanted.device_twin.as_ref());
        for (recipients, wanted) in [
            (&mut self.state_recipients, wanted.connection_state),
            (&mut self.message_recipients, wanted.d2c_messages),
        ] {
            if wanted {
                recipients.insert(session, recipient.clone());
            } else {
                recipients.swap_remove(&session);
            }
        }
    }

    /// What is known of what `of` covers.
    pub(super) fn snapshot(&self, of: &DeviceSubscriptions) -> DeviceSnapshot {
        let telemetry = if of.telemetry.open_deliveries().next().is_some() {
            let covered = |key: &str| of.telemetry.covers(key);
            let mut values = self.keys.last_values();
            values.retain(|last| covered(last.key.as_str()));
            values
        } else {
            let names = of.telemetry.names();
            names
                .filter_map(|(key, _)| self.keys.last_value(key.as_str()))
                .collect()
        };
        DeviceSnapshot {
            device_id: self.id.clone(),
            telemetry,
            connection_state: of
                .covers(Part::ConnectionState)
                .then(|| self.connection_state.get())
                .flatten(),
            device_twin: (of.device_twin.as_ref()).and_then(|view| self.twin.shown(view)),
        }
    }

    /// About how many bytes that snapshot takes.
    pub(super) fn snapshot_bytes(&self, of: &DeviceSubscriptions) -> usize {
        let telemetry = if of.telemetry.open_deliveries().next().is_some() {
            self.keys.bytes()
        } else {
            let names = of.telemetry.names();
            names
                .map(|(key, _)| self.keys.value_bytes(key.as_str()))
                .sum()
        };
        let twin = (of.device_twin.as_ref()).and_then(|view| self.twin.shown(view));
        telemetry + twin.map_or(0, |twin| twin.value.as_str().len())
    }

    /// Drops what throttling holds back for a session of what `of` covers.
    pub(super) fn forget_pending(&mut self, session: SessionId, of: &DeviceSubscriptions) {
        for (_, window) in self.windows.get_mut(&session).into_iter().flatten() {
            window.retain(|key| !of.covers(Part::Key(key)));
        }
    }

    pub(super) fn expire_connection_state<F: FnMut(&R, &Arc<Update>)>(
        &mut self,
        context: &mut Context<'_, F>,
    ) {
        self.connection_state_timer = false;
        let can_ask = context.settings.reads_connection_states;
        match self.connection_state.expire(context.now, can_ask) {
            Expiry::NotYet => self.arm_connection_state_timer(context),
            Expiry::AskHub => context.reads.push(self.id.clone()),
            Expiry::Disconnected(stamp) => self.publish_connection_state(false, stamp, context),
        }
    }

    /// Takes what the hub says of the device and its twin, whoever asked for it. Returns the newest whole twin that is
    /// known then.
    pub(super) fn was_read<F: FnMut(&R, &Arc<Update>)>(
        &mut self,
        read: &HubTwin,
        stamp: Stamp,
        context: &mut Context<'_, F>,
    ) -> Result<Stamped<RawJson>, NotATwin> {
        self.answer_connection_state(Some(read.connected), context);
        self.twin.was_read(&self.id, &read.twin, stamp, context)
    }

    /// The hub gave no answer about the device.
    pub(super) fn was_not_read<F: FnMut(&R, &Arc<Update>)>(
        &mut self,
        context: &mut Context<'_, F>,
    ) {
        self.answer_connection_state(None, context);
        self.twin.was_not_read(&self.id, context);
    }

    /// Asks the hub once more for the twin.
    pub(super) fn retry_twin_read<F>(&mut self, context: &mut Context<'_, F>) {
        self.twin.retry_read(&self.id, context);
    }

    pub(super) fn end_throttling_window<F: FnMut(&R, &Arc<Update>)>(
        &mut self,
        session: SessionId,
        delivery: Delivery,
        context: &mut Context<'_, F>,
    ) {
        let now_ms = context.now.monotonic_ms;
        let Some(windows) = self.windows.get_mut(&session) else {
            return;
        };
        let ended =
            |(of, window): &(Delivery, Window)| *of == delivery && window.ends_at_ms() <= now_ms;
        let Some(place) = windows.iter().position(ended) else {
            return;
        };
        let (_, window) = windows.swap_remove(place);
        if windows.is_empty() {
            self.windows.remove(&session);
        }
        let recipient = self.views.recipient(session);
        let (Some(update), Some(recipient)) = (window.close(&self.id), recipient) else {
            return;
        };
        context.deliver(recipient, &update);
        let interval_ms = interval_ms(context.settings, delivery);
        if interval_ms > 0 {
            let windows = self.windows.entry(session).or_default();
            open_window(windows, &self.id, (session, delivery), interval_ms, context);
        }
    }

    /// Whether a timer that is due then still has something to do.
    pub(super) fn expects(&self, due_ms: u64, timer: Timer) -> bool {
        match timer {
            Timer::ConnectionState => self.connection_state_timer,
            Timer::TwinRead => self.twin.retries_at(due_ms),
            Timer::ThrottlingWindow(session, delivery) => {
                self.windows.get(&session).is_some_and(|windows| {
                    windows
                        .iter()
                        .any(|(of, window)| *of == delivery && window.ends_at_ms() == due_ms)
                })
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.keys.is_empty()
            && self.connection_state.is_empty()
            && self.twin.is_empty()
            && self.views.is_empty()
            && self.state_recipients.is_empty()
            && self.message_recipients.is_empty()
    }

    fn apply_telemetry<F: FnMut(&R, &Arc<Update>)>(
        &mut self,
        telemetry: Telemetry,
        stamp: &Stamp,
        context: &mut Context<'_, F>,
    ) {
        let before = self.keys.values();
        let values_max = context.settings.limits.keys_per_device_max;
        let recorded = self.keys.record(telemetry, stamp, values_max);
        context.stats.values_dropped += recorded.refused() as u64;
        for view in self.views.iter_mut() {
            let Some(selected) = view.select(&recorded) else {
                continue;
            };
            let delivery = view.place.delivery;
            let interval_ms = interval_ms(context.settings, delivery);
            if interval_ms == 0 && self.windows.is_empty() {
                let body = UpdateBody::Telemetry(selected);
                let update = Arc::new(Update::new(self.id.clone(), stamp.clone(), body));
                deliver_to_all(&view.members, &update, context);
                continue;
            }
            // Made for the first member whose window is not open; mostly there is none.
            let mut update = None;
            for (session, recipient) in &view.members {
                let windows = self.windows.get_mut(session);
                let mut windows = windows.into_iter().flatten();
                if let Some((_, window)) = windows.find(|(of, _)| *of == delivery) {
                    window.merge(&selected, stamp);
                    context.stats.throttled += 1;
                    continue;
                }
                let update = update.get_or_insert_with(|| {
                    let body = UpdateBody::Telemetry(selected.clone());
                    Arc::new(Update::new(self.id.clone(), stamp.clone(), body))
                });
                context.deliver(recipient, update);
                if interval_ms > 0 {
                    let windows = self.windows.entry(*session).or_default();
                    let of = (*session, delivery);
                    open_window(windows, &self.id, of, interval_ms, context);
                }
            }
        }
        context.stats.last_values += self.keys.values() - before;
    }

    /// Moves what is held back to where the selection now delivers it; what it does not want any more goes.
    fn rearrange_windows(
        &mut self,
        session: SessionId,
        selection: &TelemetrySelection,
        timers: &mut Timers,
        now: Now,
    ) {
        if selection.is_empty() {
            let windows = self.windows.remove(&session);
            timers.abandon(windows.map_or(0, |windows| windows.len()));
            return;
        }
        let Some(windows) = self.windows.get_mut(&session) else {
            return;
        };
        let mut moved = Vec::new();
        for (delivery, window) in windows.iter_mut() {
            let Some((telemetry, stamp)) = window.take() else {
                continue;
            };
            let here = telemetry.filter(|key| selection.delivery_of(key) == Some(*delivery));
            if let Some(here) = here {
                window.merge(&here, &stamp);
            }
            for way in selection.ways().filter(|way| way != delivery) {
                let there = telemetry.filter(|key| selection.delivery_of(key) == Some(way));
                moved.extend(there.map(|there| (way, there, stamp.clone())));
            }
        }
        let before = windows.len();
        windows.retain(|(of, _)| selection.ways().any(|way| way == *of));
        timers.abandon(before - windows.len());
        for (to, telemetry, stamp) in moved {
            let place = windows.iter().position(|(of, _)| *of == to);
            let place = place.unwrap_or_else(|| {
                windows.push((to, Window::open(now.monotonic_ms)));
                let timer = Timer::ThrottlingWindow(session, to);
                timers.add(now.monotonic_ms, self.id.clone(), timer);
                windows.len() - 1
            });
            windows[place].1.merge(&telemetry, &stamp);
        }
        if windows.is_empty() {
            self.windows.remove(&session);
        }
    }

    fn apply_connection_state<F: FnMut(&R, &Arc<Update>)>(
        &mut self,
        connected: bool,
        stamp: Stamp,
        source: Source,
        context: &mut Context<'_, F>,
    ) {
        let ttl_ms = context.settings.connection_state_ttl_ms;
        let counts =
            self.connection_state
                .set(connected, stamp.clone(), source, context.now, ttl_ms);
        if counts {
            self.arm_connection_state_timer(context);
            self.publish_connection_state(connected, stamp, context);
        }
    }

    fn answer_connection_state<F: FnMut(&R, &Arc<Update>)>(
        &mut self,
        connected: Option<bool>,
        context: &mut Context<'_, F>,
    ) {
        let ttl_ms = context.settings.connection_state_ttl_ms;
        let gone = self.connection_state.answer(connected, context.now, ttl_ms);
        self.arm_connection_state_timer(context);
        if let Some(stamp) = gone {
            self.publish_connection_state(false, stamp, context);
        }
    }

    fn publish_connection_state<F: FnMut(&R, &Arc<Update>)>(
        &self,
        connected: bool,
        stamp: Stamp,
        context: &mut Context<'_, F>,
    ) {
        if !self.state_recipients.is_empty() {
            let update = self.update(stamp, UpdateBody::ConnectionState(connected));
            deliver_to_all(&self.state_recipients, &update, context);
        }
    }

    /// One timer is enough: when it fires early because the state was renewed, it is set again.
    fn arm_connection_state_timer<F>(&mut self, context: &mut Context<'_, F>) {
        if let Some(expires_at_ms) = self
            .connection_state
            .expires_at_ms()
            .filter(|_| !self.connection_state_timer)
        {
            context
                .timers
                .add(expires_at_ms, self.id.clone(), Timer::ConnectionState);
            self.connection_state_timer = true;
        }
    }

    fn update(&self, stamp: Stamp, body: UpdateBody) -> Arc<Update> {
        Arc::new(Update::new(self.id.clone(), stamp, body))
    }
}

/// How long a session waits between two updates of a device that it gets in one way; 0 for not at all.
fn interval_ms(settings: &ShardSettings, delivery: Delivery) -> u64 {
    let configured_ms = settings.throttling_interval_ms.unwrap_or_default();
    configured_ms.max(delivery.min_interval_ms.into())
}

fn open_window<F>(
    windows: &mut SmallVec<[(Delivery, Window); 1]>,
    device: &DeviceId,
    (session, delivery): (SessionId, Delivery),
    interval_ms: u64,
    context: &mut Context<'_, F>,
) {
    let ends_at_ms = context.now.monotonic_ms.saturating_add(interval_ms);
    windows.push((delivery, Window::open(ends_at_ms)));
    let timer = Timer::ThrottlingWindow(session, delivery);
    context.timers.add(ends_at_ms, device.clone(), timer);
}

fn deliver_to_all<R, F: FnMut(&R, &Arc<Update>)>(
    recipients: &Recipients<R>,
    update: &Arc<Update>,
    context: &mut Context<'_, F>,
) {
    for recipient in recipients.values() {
        context.deliver(recipient, update);
    }
}
