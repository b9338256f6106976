//! Everything that a shard knows about one device, and what follows from each of its messages.

use std::sync::Arc;

use hashbrown::HashMap;
use smallvec::SmallVec;

use super::super::connection_state::ConnectionState;
use super::super::device_message::{Content, TelemetryMessage, TwinEvent};
use super::super::id::{DeviceId, SessionId};
use super::super::last_value::{KeySlot, KeyTable, Recorded};
use super::super::subscription::DeviceSubscriptions;
use super::super::telemetry::Telemetry;
use super::super::time::Timestamp;
use super::super::twin::Twin;
use super::super::update::{Update, UpdateBody};
use super::throttle::Window;
use super::timers::Timer;
use super::views::{Keys, Views};
use super::{Context, Recipients};

/// Everything that a shard knows about one device.
#[derive(Debug)]
pub(super) struct Device<R> {
    id: DeviceId,
    pub(super) keys: KeyTable,
    pub(super) connection_state: ConnectionState,
    connection_state_timer: bool,
    pub(super) twin: Option<Twin>,
    views: Views<R>,
    windows: HashMap<SessionId, Window>,
    state_recipients: Recipients<R>,
    twin_recipients: Recipients<R>,
    message_recipients: Recipients<R>,
}

impl<R: Clone> Device<R> {
    pub(super) fn new(id: DeviceId) -> Self {
        Self {
            id,
            keys: KeyTable::default(),
            connection_state: ConnectionState::default(),
            connection_state_timer: false,
            twin: None,
            views: Views::default(),
            windows: HashMap::new(),
            state_recipients: Recipients::default(),
            twin_recipients: Recipients::default(),
            message_recipients: Recipients::default(),
        }
    }

    pub(super) fn apply<F: FnMut(&R, &Arc<Update>)>(
        &mut self,
        said: Content,
        timestamp: Timestamp,
        context: &mut Context<'_, F>,
    ) {
        match said {
            Content::Telemetry(TelemetryMessage {
                telemetry,
                connection_state,
                message,
            }) => {
                if let Some(telemetry) = telemetry {
                    self.apply_telemetry(&telemetry, &timestamp, context);
                }
                if let Some(connected) = connection_state {
                    self.apply_connection_state(connected, timestamp.clone(), context);
                }
                if let Some(message) = message.filter(|_| !self.message_recipients.is_empty()) {
                    let update = self.update(timestamp, UpdateBody::Message(message));
                    deliver_to_all(&self.message_recipients, &update, context);
                }
            }
            Content::ConnectionState(connected) => {
                self.apply_connection_state(connected, timestamp, context);
            }
            Content::Twin(event) => self.apply_twin(&event, timestamp, context),
        }
    }

    /// Replaces all that a session wants; nothing wanted ends it.
    pub(super) fn set_subscriptions(
        &mut self,
        session: SessionId,
        recipient: &R,
        wanted: &DeviceSubscriptions,
    ) {
        self.views
            .set(session, recipient, &wanted.telemetry, &mut self.keys);
        if wanted.telemetry.is_empty() {
            self.windows.remove(&session);
        } else if let Some(window) = self.windows.get_mut(&session) {
            window.retain(&wanted.telemetry);
        }
        for (recipients, wanted) in [
            (&mut self.state_recipients, wanted.connection_state),
            (&mut self.twin_recipients, wanted.device_twin),
            (&mut self.message_recipients, wanted.d2c_messages),
        ] {
            if wanted {
                recipients.insert(session, recipient.clone());
            } else {
                recipients.swap_remove(&session);
            }
        }
    }

    pub(super) fn expire_connection_state<F: FnMut(&R, &Arc<Update>)>(
        &mut self,
        context: &mut Context<'_, F>,
    ) {
        self.connection_state_timer = false;
        if let Some(timestamp) = self.connection_state.expire(context.now) {
            let update = self.update(timestamp, UpdateBody::ConnectionState(false));
            deliver_to_all(&self.state_recipients, &update, context);
        } else {
            self.arm_connection_state_timer(context);
        }
    }

    pub(super) fn end_throttling_window<F: FnMut(&R, &Arc<Update>)>(
        &mut self,
        session: SessionId,
        context: &mut Context<'_, F>,
    ) {
        let now_ms = context.now.monotonic_ms;
        let Some(window) = self
            .windows
            .get_mut(&session)
            .filter(|window| window.ends_at_ms() <= now_ms)
        else {
            return;
        };
        let ended = std::mem::replace(window, Window::open(0));
        let recipient = self.views.recipient(session);
        let (Some(update), Some(recipient)) = (ended.close(&self.id), recipient) else {
            self.windows.remove(&session);
            return;
        };
        context.deliver(recipient, &update);
        if let Some(interval_ms) = context.settings.throttling_interval_ms {
            open_window(&mut self.windows, &self.id, session, interval_ms, context);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.keys.is_empty()
            && self.connection_state.is_empty()
            && self.twin.is_none()
            && self.views.is_empty()
            && self.state_recipients.is_empty()
            && self.twin_recipients.is_empty()
            && self.message_recipients.is_empty()
    }

    fn apply_telemetry<F: FnMut(&R, &Arc<Update>)>(
        &mut self,
        telemetry: &Telemetry,
        timestamp: &Timestamp,
        context: &mut Context<'_, F>,
    ) {
        let slots = self.record(telemetry, timestamp, context);
        for view in self.views.iter() {
            let selected = match &view.keys {
                Keys::All => telemetry.clone(),
                keys @ Keys::Some(_) => telemetry.select(
                    slots
                        .iter()
                        .enumerate()
                        .filter(|(_, slot)| keys.contains(**slot))
                        .map(|(place, _)| place),
                ),
            };
            if selected.is_empty() {
                continue;
            }
            match context.settings.throttling_interval_ms {
                None => {
                    let update = self.update(timestamp.clone(), UpdateBody::Telemetry(selected));
                    deliver_to_all(&view.members, &update, context);
                }
                Some(interval_ms) => {
                    // Made for the first member whose window is not open; mostly there is none.
                    let mut update = None;
                    for (session, recipient) in &view.members {
                        if let Some(window) = self.windows.get_mut(session) {
                            window.merge(&selected, timestamp);
                            context.stats.throttled += 1;
                        } else {
                            let update = update.get_or_insert_with(|| {
                                let body = UpdateBody::Telemetry(selected.clone());
                                Arc::new(Update::new(self.id.clone(), timestamp.clone(), body))
                            });
                            context.deliver(recipient, update);
                            open_window(
                                &mut self.windows,
                                &self.id,
                                *session,
                                interval_ms,
                                context,
                            );
                        }
                    }
                }
            }
        }
    }

    /// Makes every member the last value of its key. Returns the members' slots.
    fn record<F>(
        &mut self,
        telemetry: &Telemetry,
        timestamp: &Timestamp,
        context: &mut Context<'_, F>,
    ) -> SmallVec<[Option<KeySlot>; 16]> {
        let before = self.keys.values();
        let values_max = context.settings.limits.keys_per_device_max;
        let slots = telemetry
            .iter()
            .map(|(key, _, value)| {
                let recorded = self.keys.record(key, value, timestamp, values_max);
                context.stats.values_dropped += u64::from(matches!(recorded, Recorded::Refused(_)));
                recorded.slot()
            })
            .collect();
        context.stats.last_values += self.keys.values() - before;
        slots
    }

    fn apply_connection_state<F: FnMut(&R, &Arc<Update>)>(
        &mut self,
        connected: bool,
        timestamp: Timestamp,
        context: &mut Context<'_, F>,
    ) {
        let ttl_ms = context.settings.connection_state_ttl_ms;
        self.connection_state
            .set(connected, timestamp.clone(), context.now, ttl_ms);
        self.arm_connection_state_timer(context);
        if !self.state_recipients.is_empty() {
            let update = self.update(timestamp, UpdateBody::ConnectionState(connected));
            deliver_to_all(&self.state_recipients, &update, context);
        }
    }

    fn apply_twin<F: FnMut(&R, &Arc<Update>)>(
        &mut self,
        event: &TwinEvent,
        timestamp: Timestamp,
        context: &mut Context<'_, F>,
    ) {
        let now_ms = context.now.monotonic_ms;
        let Ok(twin) = Twin::after(self.twin.as_ref(), event, timestamp.clone(), now_ms) else {
            context.stats.messages_dropped += 1;
            return;
        };
        if !self.twin_recipients.is_empty() {
            let update = self.update(timestamp, UpdateBody::DeviceTwin(twin.to_json()));
            deliver_to_all(&self.twin_recipients, &update, context);
        }
        self.twin = Some(twin);
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

    fn update(&self, timestamp: Timestamp, body: UpdateBody) -> Arc<Update> {
        Arc::new(Update::new(self.id.clone(), timestamp, body))
    }
}

fn open_window<F>(
    windows: &mut HashMap<SessionId, Window>,
    device: &DeviceId,
    session: SessionId,
    interval_ms: u64,
    context: &mut Context<'_, F>,
) {
    let ends_at_ms = context.now.monotonic_ms.saturating_add(interval_ms);
    windows.insert(session, Window::open(ends_at_ms));
    context
        .timers
        .add(ends_at_ms, device.clone(), Timer::ThrottlingWindow(session));
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
