//! Everything that a shard knows about one device, and what follows from each of its messages.

use std::sync::Arc;

use super::super::connection_state::{ConnectionState, Expiry, Source};
use super::super::device_message::{Content, DeviceMessage, TelemetryMessage};
use super::super::hub_twin::HubTwin;
use super::super::id::{DeviceId, SessionId};
use super::super::last_value::KeyTable;
use super::super::raw_json::RawJson;
use super::super::snapshot::DeviceSnapshot;
use super::super::subscription::{Delivery, DeviceSubscriptions, Part};
use super::super::telemetry::Telemetry;
use super::super::time::{Now, Stamp, Stamped};
use super::super::twin::{NotATwin, Twin};
use super::super::twin_view::TwinView;
use super::super::update::{Update, UpdateBody};
use super::Context;
use super::audience::{Audience, deliver_to_all};
use super::timers::{Timer, Timers};
use super::twin_sight::TwinSight;

/// Everything that a shard knows about one device. Small for a device that nobody looks at: what each message touches is
/// all that there is.
#[derive(Debug)]
pub(super) struct Device<R> {
    id: DeviceId,
    pub(super) keys: KeyTable,
    pub(super) connection_state: ConnectionState,
    connection_state_timer: bool,
    /// There when somebody wants telemetry, connection states or messages.
    audience: Option<Box<Audience<R>>>,
    /// There when something of the twin is known or wanted.
    twin: Option<Box<TwinSight<R>>>,
}

impl<R: Clone> Device<R> {
    pub(super) fn new(id: DeviceId) -> Self {
        Self {
            id,
            keys: KeyTable::default(),
            connection_state: ConnectionState::default(),
            connection_state_timer: false,
            audience: None,
            twin: None,
        }
    }

    /// Reads what [`apply`](Self::apply) will need for the next message, for nothing but that it is then at hand.
    pub(super) fn prefetch(&self, recipient: impl Fn(&R)) {
        self.keys.prefetch();
        if let Some(audience) = &self.audience {
            audience.views.first_recipients().for_each(recipient);
        }
    }

    pub(super) fn apply<F: FnMut(&R, Arc<Update>)>(
        &mut self,
        message: DeviceMessage,
        now: Now,
        context: &mut Context<'_, F>,
    ) {
        let stamp = Stamp {
            timestamp: message.timestamp,
            received_unix_ms: now.unix_ms,
        };
        match message.content {
            Content::Telemetry(said) => {
                let text = self.wants_messages().then(|| said.text()).flatten();
                let TelemetryMessage {
                    telemetry,
                    connection_state,
                    message: _,
                } = said;
                if let Some(telemetry) = telemetry {
                    self.apply_telemetry(telemetry, &stamp, context);
                }
                if let Some(connected) = connection_state {
                    self.apply_connection_state(connected, stamp.clone(), Source::Device, context);
                }
                if let (Some(audience), Some(text)) = (self.audience.as_deref(), text) {
                    let update = self.update(stamp, UpdateBody::Message(text));
                    deliver_to_all(&audience.message_recipients, update, context);
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
                let twin = self.twin.get_or_insert_default();
                let applied = twin.apply(&self.id, &event, stamp, context);
                self.forget_empty_twin();
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
        if wanted.device_twin.is_some() || self.twin.is_some() {
            let twin = self.twin.get_or_insert_default();
            twin.set(session, recipient, wanted.device_twin.as_ref());
            self.forget_empty_twin();
        }
        let wants = !wanted.telemetry.is_empty() || wanted.connection_state || wanted.d2c_messages;
        if !wants && self.audience.is_none() {
            return;
        }
        let audience = self.audience.get_or_insert_default();
        audience
            .views
            .set(session, recipient, &wanted.telemetry, &mut self.keys);
        audience.rearrange_windows(&self.id, session, &wanted.telemetry, timers, now);
        for (recipients, wanted) in [
            (&mut audience.state_recipients, wanted.connection_state),
            (&mut audience.message_recipients, wanted.d2c_messages),
        ] {
            if wanted {
                recipients.insert(session, recipient.clone());
            } else {
                recipients.swap_remove(&session);
            }
        }
        if audience.is_empty() {
            self.audience = None;
        }
    }

    /// What a view shows of the twin, unless it is held back.
    fn shown_twin(&self, view: &TwinView) -> Option<Stamped<RawJson>> {
        self.twin.as_ref()?.shown(view)
    }

    /// The whole twin, if it is known.
    pub(super) fn whole_twin(&self) -> Option<&Twin> {
        self.twin.as_ref()?.whole()
    }

    /// Asks for the twin because somebody wants to see it, unless it is known.
    pub(super) fn want_twin<F>(&mut self, context: &mut Context<'_, F>) {
        let twin = self.twin.get_or_insert_default();
        twin.want(&self.id, context);
        self.forget_empty_twin();
    }

    /// Whether somebody is to get complete messages.
    fn wants_messages(&self) -> bool {
        let audience = self.audience.as_deref();
        audience.is_some_and(|audience| !audience.message_recipients.is_empty())
    }

    fn forget_empty_twin(&mut self) {
        self.twin.take_if(|twin| twin.is_empty());
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
            device_twin: (of.device_twin.as_ref()).and_then(|view| self.shown_twin(view)),
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
        let twin = (of.device_twin.as_ref()).and_then(|view| self.shown_twin(view));
        telemetry + twin.map_or(0, |twin| twin.value.as_str().len())
    }

    /// Drops what throttling holds back for a session of what `of` covers.
    pub(super) fn forget_pending(&mut self, session: SessionId, of: &DeviceSubscriptions) {
        let windows = self.audience.as_mut().map(|audience| &mut audience.windows);
        let of_session = windows.and_then(|windows| windows.get_mut(&session));
        for (_, window) in of_session.into_iter().flatten() {
            window.retain(|key| !of.covers(Part::Key(key)));
        }
    }

    pub(super) fn expire_connection_state<F: FnMut(&R, Arc<Update>)>(
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
    pub(super) fn was_read<F: FnMut(&R, Arc<Update>)>(
        &mut self,
        read: &HubTwin,
        stamp: Stamp,
        context: &mut Context<'_, F>,
    ) -> Result<Stamped<RawJson>, NotATwin> {
        self.answer_connection_state(Some(read.connected), context);
        let twin = self.twin.get_or_insert_default();
        let newest = twin.was_read(&self.id, &read.twin, stamp, context);
        self.forget_empty_twin();
        newest
    }

    /// The hub gave no answer about the device.
    pub(super) fn was_not_read<F: FnMut(&R, Arc<Update>)>(&mut self, context: &mut Context<'_, F>) {
        self.answer_connection_state(None, context);
        if let Some(twin) = &mut self.twin {
            twin.was_not_read(&self.id, context);
            self.forget_empty_twin();
        }
    }

    /// Asks the hub once more for the twin.
    pub(super) fn retry_twin_read<F>(&mut self, context: &mut Context<'_, F>) {
        if let Some(twin) = &mut self.twin {
            twin.retry_read(&self.id, context);
        }
    }

    pub(super) fn end_throttling_window<F: FnMut(&R, Arc<Update>)>(
        &mut self,
        session: SessionId,
        delivery: Delivery,
        context: &mut Context<'_, F>,
    ) {
        if let Some(audience) = &mut self.audience {
            audience.end_window(&self.id, (session, delivery), context);
        }
    }

    /// Whether a timer that is due then still has something to do.
    pub(super) fn expects(&self, due_ms: u64, timer: Timer) -> bool {
        match timer {
            Timer::ConnectionState => self.connection_state_timer,
            Timer::TwinRead => (self.twin.as_ref()).is_some_and(|twin| twin.retries_at(due_ms)),
            Timer::ThrottlingWindow(session, delivery) => {
                let windows = self.audience.as_ref().map(|audience| &audience.windows);
                let windows = windows.and_then(|windows| windows.get(&session));
                windows.is_some_and(|windows| {
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
            && self.twin.is_none()
            && self.audience.is_none()
    }

    fn apply_telemetry<F: FnMut(&R, Arc<Update>)>(
        &mut self,
        telemetry: Telemetry,
        stamp: &Stamp,
        context: &mut Context<'_, F>,
    ) {
        let before = self.keys.values();
        let values_max = context.settings.limits.keys_per_device_max;
        let recorded = self.keys.record(telemetry, stamp, values_max);
        context.stats.values_dropped += recorded.refused() as u64;
        if let Some(audience) = &mut self.audience {
            audience.publish(&self.id, &recorded, stamp, context);
        }
        context.stats.last_values += self.keys.values() - before;
    }

    fn apply_connection_state<F: FnMut(&R, Arc<Update>)>(
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

    fn answer_connection_state<F: FnMut(&R, Arc<Update>)>(
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

    fn publish_connection_state<F: FnMut(&R, Arc<Update>)>(
        &self,
        connected: bool,
        stamp: Stamp,
        context: &mut Context<'_, F>,
    ) {
        let audience = self.audience.as_deref();
        let recipients = audience.map(|audience| &audience.state_recipients);
        if let Some(recipients) = recipients.filter(|recipients| !recipients.is_empty()) {
            let update = self.update(stamp, UpdateBody::ConnectionState(connected));
            deliver_to_all(recipients, update, context);
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
