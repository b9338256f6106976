//! One device's twin, as far as a shard knows it, and the sessions that see it, by how much of it they see.
//!
//! Subscribers get coherent twins: what an event says alone, because something between was missed, is held back while
//! the hub can be asked for the whole. Guarantees: one read is asked for however many events make it necessary; when the
//! hub does not answer, what is known is published after all, and the hub is asked again, ever more rarely, for as long as
//! somebody looks at less than the whole.

use std::sync::Arc;

use smallvec::SmallVec;

use super::super::device_message::TwinEvent;
use super::super::id::{DeviceId, SessionId};
use super::super::raw_json::RawJson;
use super::super::time::{Stamp, Stamped};
use super::super::twin::{NotATwin, Twin, TwinChange};
use super::super::twin_view::TwinView;
use super::super::update::{Update, UpdateBody};
use super::audience::deliver_to_all;
use super::timers::Timer;
use super::{Context, Recipients};

/// How often a twin is read again because an event was newer than the hub's answer.
const READS_MAX: u8 = 4;

/// Shortest and longest time after which a read that failed is tried again.
const RETRY_MS: std::ops::RangeInclusive<u64> = 5_000..=300_000;

/// One device's twin and the sessions that see it.
#[derive(Debug)]
pub(super) struct TwinSight<R> {
    twin: Option<Twin>,
    /// Whether what is known waits for the hub before it is published.
    held_back: bool,
    reading: Option<Reading>,
    retry: Option<Retry>,
    viewers: SmallVec<[(TwinView, Recipients<R>); 1]>,
}

/// Why the hub is being asked for the twin.
#[derive(Clone, Copy, Debug, Default)]
struct Reading {
    /// An event was older than what is known: the device may have been made anew.
    may_be_anew: bool,
    reads: u8,
}

/// When the hub is asked again after it gave no answer.
#[derive(Clone, Copy, Debug)]
struct Retry {
    due_ms: u64,
    /// How long was waited since the failure before.
    wait_ms: u64,
}

impl<R> Default for TwinSight<R> {
    fn default() -> Self {
        Self {
            twin: None,
            held_back: false,
            reading: None,
            retry: None,
            viewers: SmallVec::new(),
        }
    }
}

impl<R: Clone> TwinSight<R> {
    /// Lets a session see as much of the twin as `view` says; not at all with `None`.
    pub(super) fn set(&mut self, session: SessionId, recipient: &R, view: Option<&TwinView>) {
        for (_, recipients) in &mut self.viewers {
            recipients.swap_remove(&session);
        }
        if let Some(view) = view {
            let place = self.viewers.iter().position(|(of, _)| of == view);
            let place = place.unwrap_or_else(|| {
                self.viewers.push((view.clone(), Recipients::default()));
                self.viewers.len() - 1
            });
            self.viewers[place].1.insert(session, recipient.clone());
        }
        self.viewers
            .retain(|(_, recipients)| !recipients.is_empty());
    }

    /// Takes an event of the hub and publishes the twin after it.
    pub(super) fn apply<F: FnMut(&R, Arc<Update>)>(
        &mut self,
        device: &DeviceId,
        event: &TwinEvent,
        stamp: Stamp,
        context: &mut Context<'_, F>,
    ) -> Result<(), NotATwin> {
        let now_ms = context.now.monotonic_ms;
        let can_ask = context.settings.reads_twins;
        match Twin::after(self.twin.as_ref(), event, stamp, now_ms)? {
            TwinChange::Older if can_ask && !self.viewers.is_empty() => {
                self.read(device, true, context);
            }
            TwinChange::Known | TwinChange::Older => {}
            TwinChange::Next(twin) | TwinChange::Gap(twin) => {
                let coherent = twin.is_complete() || !can_ask;
                self.twin = Some(twin);
                self.held_back = !coherent;
                if coherent {
                    self.publish(device, context);
                } else if !self.viewers.is_empty() {
                    self.read(device, false, context);
                }
            }
        }
        Ok(())
    }

    /// Asks for the twin because somebody wants to see it, unless it is known.
    pub(super) fn want<F>(&mut self, device: &DeviceId, context: &mut Context<'_, F>) {
        if context.settings.reads_twins && self.whole().is_none() {
            self.read(device, false, context);
        }
    }

    /// Asks once more for a twin that the hub did not give, if it is time and somebody still looks at less.
    pub(super) fn retry_read<F>(&mut self, device: &DeviceId, context: &mut Context<'_, F>) {
        let now_ms = context.now.monotonic_ms;
        let is_due = self.retry.is_some_and(|retry| retry.due_ms <= now_ms);
        if is_due && !self.viewers.is_empty() {
            self.want(device, context);
        }
    }

    /// Whether a timer that is due then is the one to [`retry_read`](Self::retry_read).
    pub(super) fn retries_at(&self, due_ms: u64) -> bool {
        self.retry.is_some_and(|retry| retry.due_ms == due_ms)
    }

    /// Takes the hub's answer, whoever asked for it, and publishes what subscribers do not have yet. Returns the newest
    /// whole twin that is known then.
    pub(super) fn was_read<F: FnMut(&R, Arc<Update>)>(
        &mut self,
        device: &DeviceId,
        document: &RawJson,
        stamp: Stamp,
        context: &mut Context<'_, F>,
    ) -> Result<Stamped<RawJson>, NotATwin> {
        let read = Twin::whole(document, stamp, context.now.monotonic_ms)?;
        let answer = read.to_stamped();
        let may_be_anew = self.reading.is_some_and(|reading| reading.may_be_anew);
        match &self.twin {
            Some(known) if known.version() > read.version() && !may_be_anew => {
                if known.is_complete() {
                    // The hub answers from copies that lag behind its events now and then.
                    self.reading = None;
                    return Ok(known.to_stamped());
                }
                let reads = self.reading.map_or(0, |reading| reading.reads);
                if reads < READS_MAX && !self.viewers.is_empty() {
                    self.reading = Some(Reading {
                        may_be_anew,
                        reads: reads + 1,
                    });
                    context.reads.push(device.clone());
                } else {
                    self.reading = None;
                    self.hold_no_more(device, context);
                }
            }
            known => {
                let is_news = self.held_back
                    || known.as_ref().is_none_or(|known| {
                        !known.is_complete() || known.version() != read.version()
                    });
                self.twin = Some(read);
                self.reading = None;
                self.retry = None;
                self.held_back = false;
                if is_news {
                    self.publish(device, context);
                }
            }
        }
        Ok(answer)
    }

    /// The hub gave no answer: what is known has to do.
    pub(super) fn was_not_read<F: FnMut(&R, Arc<Update>)>(
        &mut self,
        device: &DeviceId,
        context: &mut Context<'_, F>,
    ) {
        if self.reading.take().is_none() {
            return;
        }
        self.hold_no_more(device, context);
        if !self.viewers.is_empty() && self.whole().is_none() {
            let wait_ms = self.retry.map_or(*RETRY_MS.start(), |before| {
                (before.wait_ms * 2).min(*RETRY_MS.end())
            });
            let due_ms = context.now.monotonic_ms.saturating_add(wait_ms);
            self.retry = Some(Retry { due_ms, wait_ms });
            let timers = &mut *context.timers;
            timers.add(due_ms, device.clone(), Timer::TwinRead);
        }
    }

    /// What a view shows of the twin, unless it is held back.
    pub(super) fn shown(&self, view: &TwinView) -> Option<Stamped<RawJson>> {
        let twin = self.twin.as_ref().filter(|_| !self.held_back)?;
        let Stamped { value, stamp } = twin.to_stamped();
        Some(Stamped {
            value: view.cut(&value),
            stamp,
        })
    }

    /// The whole twin, if it is known.
    pub(super) fn whole(&self) -> Option<&Twin> {
        self.twin.as_ref().filter(|twin| twin.is_complete())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.twin.is_none() && self.viewers.is_empty() && self.reading.is_none()
    }

    fn read<F>(&mut self, device: &DeviceId, may_be_anew: bool, context: &mut Context<'_, F>) {
        let reading = self.reading.get_or_insert_with(|| {
            context.reads.push(device.clone());
            Reading::default()
        });
        reading.may_be_anew |= may_be_anew;
    }

    fn hold_no_more<F: FnMut(&R, Arc<Update>)>(
        &mut self,
        device: &DeviceId,
        context: &mut Context<'_, F>,
    ) {
        if std::mem::take(&mut self.held_back) {
            self.publish(device, context);
        }
    }

    fn publish<F: FnMut(&R, Arc<Update>)>(&self, device: &DeviceId, context: &mut Context<'_, F>) {
        let Some(twin) = self.twin.as_ref().filter(|_| !self.viewers.is_empty()) else {
            return;
        };
        let Stamped { value, stamp } = twin.to_stamped();
        for (view, recipients) in &self.viewers {
            let body = UpdateBody::DeviceTwin(view.cut(&value));
            let update = Arc::new(Update::new(device.clone(), stamp.clone(), body));
            deliver_to_all(recipients, update, context);
        }
    }
}
