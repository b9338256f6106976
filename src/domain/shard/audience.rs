//! The sessions that want telemetry, connection states or messages of a device, and what is held back for them.

use std::sync::Arc;

use hashbrown::HashMap;
use smallvec::SmallVec;

use super::super::id::{DeviceId, SessionId};
use super::super::last_value::Recorded;
use super::super::subscription::{Delivery, TelemetrySelection};
use super::super::time::{Now, Stamp};
use super::super::update::{Update, UpdateBody};
use super::throttle::Window;
use super::timers::{Timer, Timers};
use super::views::Views;
use super::{Context, Recipients, ShardSettings};

/// The sessions that want something of a device other than its twin.
#[derive(Debug)]
pub(super) struct Audience<R> {
    pub(super) views: Views<R>,
    pub(super) windows: HashMap<SessionId, SmallVec<[(Delivery, Window); 1]>>,
    pub(super) state_recipients: Recipients<R>,
    pub(super) message_recipients: Recipients<R>,
}

impl<R> Default for Audience<R> {
    fn default() -> Self {
        Self {
            views: Views::default(),
            windows: HashMap::new(),
            state_recipients: Recipients::default(),
            message_recipients: Recipients::default(),
        }
    }
}

impl<R: Clone> Audience<R> {
    pub(super) fn is_empty(&self) -> bool {
        self.views.is_empty()
            && self.state_recipients.is_empty()
            && self.message_recipients.is_empty()
    }

    /// Hands out what its views get of a message.
    pub(super) fn publish<F: FnMut(&R, Arc<Update>)>(
        &mut self,
        device: &DeviceId,
        recorded: &Recorded<'_>,
        stamp: &Stamp,
        context: &mut Context<'_, F>,
    ) {
        for view in self.views.iter_mut() {
            let Some(selected) = view.select(recorded) else {
                continue;
            };
            let delivery = view.place.delivery;
            let interval_ms = interval_ms(context.settings, delivery);
            if interval_ms == 0 && self.windows.is_empty() {
                let body = UpdateBody::Telemetry(selected);
                let update = Arc::new(Update::new(device.clone(), stamp.clone(), body));
                deliver_to_all(&view.members, update, context);
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
                    Arc::new(Update::new(device.clone(), stamp.clone(), body))
                });
                context.deliver(recipient, update.clone());
                if interval_ms > 0 {
                    let windows = self.windows.entry(*session).or_default();
                    let of = (*session, delivery);
                    open_window(windows, device, of, interval_ms, context);
                }
            }
        }
    }

    /// Moves what is held back to where the selection now delivers it; what it does not want any more goes.
    pub(super) fn rearrange_windows(
        &mut self,
        device: &DeviceId,
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
                timers.add(now.monotonic_ms, device.clone(), timer);
                windows.len() - 1
            });
            windows[place].1.merge(&telemetry, &stamp);
        }
        if windows.is_empty() {
            self.windows.remove(&session);
        }
    }

    /// Hands out what a window held back, and opens the next one.
    pub(super) fn end_window<F: FnMut(&R, Arc<Update>)>(
        &mut self,
        device: &DeviceId,
        (session, delivery): (SessionId, Delivery),
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
        let (Some(update), Some(recipient)) = (window.close(device), recipient) else {
            return;
        };
        context.deliver(recipient, update);
        let interval_ms = interval_ms(context.settings, delivery);
        if interval_ms > 0 {
            let windows = self.windows.entry(session).or_default();
            open_window(windows, device, (session, delivery), interval_ms, context);
        }
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

/// Hands an update to all recipients. The last one gets it as it is: mostly there is only one, and counting who shares an
/// update that nobody shares costs as much as everything else about handing it over.
pub(super) fn deliver_to_all<R, F: FnMut(&R, Arc<Update>)>(
    recipients: &Recipients<R>,
    update: Arc<Update>,
    context: &mut Context<'_, F>,
) {
    let mut recipients = recipients.values();
    let Some(last) = recipients.next_back() else {
        return;
    };
    for recipient in recipients {
        context.deliver(recipient, Arc::clone(&update));
    }
    context.deliver(last, update);
}
