//! Links: those on which a peer sends to devhub, and those on which devhub sends to a peer.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::{BufMut, Bytes, BytesMut};

use super::{
    error::{AmqpError, RESOURCE_LIMIT_EXCEEDED},
    frame::{Layer, put_frame},
    mailbox::Mailbox,
    performative::{LinkFlow, TRANSFER_LEN_MAX, put_transfer},
};
use crate::{
    address::Address,
    event_hub::{EventHub, Partition},
    readers::{Place, ReaderId},
};

/// The largest message that a sender may send, as in the standard tier.
pub(crate) const MESSAGE_SIZE_MAX: usize = 1024 * 1024;

/// Credit that a sender is kept at.
pub(crate) const SENDER_CREDIT: u32 = 1000;

/// Bytes of unfinished deliveries that one connection may hold.
const UNFINISHED_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Replies that wait for credit on one link; more are dropped, as nobody reads them.
const REPLIES_MAX: usize = 64;

/// How much one link may put out before the next one gets its turn.
const TURN_BYTES: usize = 32 * 1024;

/// Bytes that wait to be written before links stop adding to them.
pub(crate) const OUT_BYTES_FULL: usize = 256 * 1024;

#[derive(Debug)]
pub(crate) enum Link {
    Incoming(Incoming),
    Outgoing(Outgoing),
    /// Detached by devhub; what the peer still sends is ignored until it detaches too.
    Detached,
}

impl Link {
    /// The place that a token must cover for as long as the link lives.
    pub(crate) fn scope(&self) -> Option<&Address> {
        match self {
            Self::Incoming(link) => link.scope.as_ref(),
            Self::Outgoing(link) => link.scope.as_ref(),
            Self::Detached => None,
        }
    }
}

/// A node that answers requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RequestNode {
    Cbs,
    Management,
}

/// Where a peer's messages go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Destination {
    Requests(RequestNode),
    Hub,
    Partition(u16),
}

/// A link on which the peer sends.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub(crate) destination: Destination,
    pub(crate) scope: Option<Address>,
    pub(crate) delivery_count: u32,
    pub(crate) credit: u32,
    pub(crate) unfinished: Option<Unfinished>,
}

impl Incoming {
    pub(crate) fn flow(&self, handle: u32) -> LinkFlow {
        LinkFlow {
            handle,
            delivery_count: self.delivery_count,
            link_credit: self.credit,
            drain: false,
        }
    }
}

/// A delivery of which more frames are to come. Its bytes count towards the connection's budget.
#[derive(Debug)]
pub(crate) struct Unfinished {
    pub(crate) delivery_id: u32,
    pub(crate) message_format: u32,
    pub(crate) settled: bool,
    pub(crate) payload: Vec<u8>,
    budget: Arc<AtomicUsize>,
}

impl Unfinished {
    pub(crate) fn new(
        delivery_id: u32,
        message_format: u32,
        settled: bool,
        budget: &Arc<AtomicUsize>,
    ) -> Self {
        Self {
            delivery_id,
            message_format,
            settled,
            payload: Vec::new(),
            budget: Arc::clone(budget),
        }
    }

    pub(crate) fn append(&mut self, bytes: &[u8]) -> Result<(), AmqpError> {
        self.payload.extend_from_slice(bytes);
        let held = self.budget.fetch_add(bytes.len(), Ordering::Relaxed) + bytes.len();
        if held > UNFINISHED_BYTES_MAX {
            return Err(AmqpError::new(
                RESOURCE_LIMIT_EXCEEDED,
                format!("unfinished deliveries exceed {UNFINISHED_BYTES_MAX} bytes"),
            ));
        }
        Ok(())
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        self.budget.fetch_sub(self.payload.len(), Ordering::Relaxed);
    }
}

/// What a session may still send, and the ids that it gives out.
#[derive(Debug)]
pub(crate) struct SendWindow {
    pub(crate) channel: u16,
    pub(crate) next_outgoing_id: u32,
    pub(crate) remote_incoming_window: u32,
    pub(crate) next_delivery_id: u32,
    /// The largest frame that the peer takes.
    pub(crate) frame_size_max: usize,
}

impl SendWindow {
    /// How much payload fits into one transfer.
    fn room(&self) -> usize {
        self.frame_size_max - TRANSFER_LEN_MAX - 8
    }

    fn put(&mut self, out: &mut BytesMut, handle: u32, id: u32, parts: [&[u8]; 3], more: bool) {
        put_frame(out, Layer::Amqp, self.channel, |out| {
            put_transfer(out, handle, id, more);
            for part in parts {
                out.put_slice(part);
            }
        });
        self.next_outgoing_id = self.next_outgoing_id.wrapping_add(1);
        self.remote_incoming_window -= 1;
    }

    fn next_delivery_id(&mut self) -> u32 {
        let id = self.next_delivery_id;
        self.next_delivery_id = id.wrapping_add(1);
        id
    }
}

/// A link on which devhub sends.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) handle: u32,
    /// Name and target address: what a request's reply-to may mean.
    pub(crate) names: Vec<String>,
    pub(crate) scope: Option<Address>,
    pub(crate) feed: Feed,
    delivery_count: u32,
    credit: u32,
    drain: bool,
    current: Option<Delivery>,
}

/// Where an outgoing link takes its messages from.
#[derive(Debug)]
pub(crate) enum Feed {
    Replies {
        node: RequestNode,
        queue: VecDeque<Bytes>,
    },
    Events(Subscription),
}

/// A delivery that takes several frames, on its way.
#[derive(Debug)]
struct Delivery {
    id: u32,
    rest: Bytes,
}

/// A reader's place in a partition.
#[derive(Debug)]
pub(crate) struct Subscription {
    pub(crate) seat: Seat,
    pub(crate) next_sequence: i64,
    /// Whether every event brings the partition's newest position along.
    pub(crate) with_metrics: bool,
}

/// A reader's right to a partition; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    hub: EventHub,
    place: Place,
    partition: u16,
    id: ReaderId,
    mailbox: Arc<Mailbox>,
}

impl Seat {
    /// Takes a seat, perhaps somebody else's. `partition` must exist.
    pub(crate) fn take(
        hub: &EventHub,
        group: &str,
        partition: u16,
        epoch: Option<i64>,
        name: Option<&str>,
        mailbox: &Arc<Mailbox>,
    ) -> Result<Self, AmqpError> {
        let place = Place::new(group, partition);
        let id = hub.readers().admit(&place, epoch, name, mailbox)?;
        let seat = Self {
            hub: hub.clone(),
            place,
            partition,
            id,
            mailbox: Arc::clone(mailbox),
        };
        seat.partition().subscribe(&mailbox.bell);
        Ok(seat)
    }

    pub(crate) fn id(&self) -> ReaderId {
        self.id
    }

    fn partition(&self) -> &Partition {
        self.hub
            .partition(self.partition)
            .expect("a seat is taken in a partition that exists")
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.hub.readers().leave(&self.place, self.id);
        self.partition().unsubscribe(&self.mailbox.bell);
    }
}

impl Outgoing {
    pub(crate) fn new(handle: u32, names: Vec<String>, scope: Option<Address>, feed: Feed) -> Self {
        Self {
            handle,
            names,
            scope,
            feed,
            delivery_count: 0,
            credit: 0,
            drain: false,
            current: None,
        }
    }

    /// Takes over what the peer's flow says (AMQP 1.0 §2.6.7).
    pub(crate) fn on_flow(&mut self, delivery_count: Option<u32>, credit: u32, drain: bool) {
        let limit = delivery_count.unwrap_or(0).wrapping_add(credit);
        let left = limit.wrapping_sub(self.delivery_count);
        // A limit that was passed already, because the peer lowered it meanwhile, wraps around.
        self.credit = if left > i32::MAX.unsigned_abs() {
            0
        } else {
            left
        };
        self.drain = drain;
    }

    pub(crate) fn flow(&self) -> LinkFlow {
        LinkFlow {
            handle: self.handle,
            delivery_count: self.delivery_count,
            link_credit: self.credit,
            drain: self.drain,
        }
    }

    /// Queues a reply; `false` when too many wait for credit already.
    pub(crate) fn push_reply(&mut self, reply: Bytes) -> bool {
        match &mut self.feed {
            Feed::Replies { queue, .. } if queue.len() < REPLIES_MAX => {
                queue.push_back(reply);
                true
            }
            _ => false,
        }
    }

    /// Sends what there is, what the peer takes, and what a turn allows; whether it sent anything.
    pub(crate) fn send(&mut self, window: &mut SendWindow, out: &mut BytesMut) -> bool {
        let before = out.len();
        let full = (before + TURN_BYTES).min(OUT_BYTES_FULL);
        while out.len() < full && window.remote_incoming_window > 0 {
            if self.current.is_some() {
                self.send_piece(window, out);
            } else if self.credit == 0 || !self.send_next(window, out, full) {
                break;
            }
        }
        out.len() > before
    }

    /// Whether the peer asked for its credit to be used up and there is nothing to use it for; the
    /// credit is gone then.
    pub(crate) fn drained(&mut self) -> bool {
        if !self.drain || self.current.is_some() || (self.credit > 0 && self.has_next()) {
            return false;
        }
        self.delivery_count = self.delivery_count.wrapping_add(self.credit);
        self.credit = 0;
        true
    }

    /// Ends a drain that the peer has been told of.
    pub(crate) fn end_drain(&mut self) {
        self.drain = false;
    }

    fn has_next(&self) -> bool {
        match &self.feed {
            Feed::Replies { queue, .. } => !queue.is_empty(),
            Feed::Events(subscription) => subscription
                .seat
                .partition()
                .has(subscription.next_sequence),
        }
    }

    fn send_piece(&mut self, window: &mut SendWindow, out: &mut BytesMut) {
        let Some(delivery) = &mut self.current else {
            return;
        };
        let piece = delivery
            .rest
            .split_to(delivery.rest.len().min(window.room()));
        let more = !delivery.rest.is_empty();
        window.put(out, self.handle, delivery.id, [&piece, &[], &[]], more);
        if !more {
            self.current = None;
        }
    }

    /// Sends whole deliveries, or begins a large one; `false` when there is nothing to send.
    fn send_next(&mut self, window: &mut SendWindow, out: &mut BytesMut, full: usize) -> bool {
        let Self {
            handle,
            feed,
            delivery_count,
            credit,
            current,
            ..
        } = self;
        let mut count = || {
            *delivery_count = delivery_count.wrapping_add(1);
            *credit -= 1;
            *credit > 0
        };
        match feed {
            Feed::Replies { queue, .. } => {
                let Some(rest) = queue.pop_front() else {
                    return false;
                };
                count();
                let id = window.next_delivery_id();
                *current = Some(Delivery { id, rest });
                true
            }
            Feed::Events(subscription) => {
                let partition = subscription.seat.partition();
                if !partition.has(subscription.next_sequence) {
                    return false;
                }
                let now_ms = subscription.seat.hub.now_ms();
                let room = window.room();
                let mut metrics = BytesMut::new();
                let log = partition.log.lock();
                if subscription.with_metrics {
                    log.runtime_metrics(now_ms).put(&mut metrics);
                }
                for (sequence, event) in log.read_from(subscription.next_sequence) {
                    subscription.next_sequence = sequence + 1;
                    let id = window.next_delivery_id();
                    let (header, rest) = event.encoded.split_at(event.header_len);
                    let has_credit = count();
                    if event.encoded.len() + metrics.len() > room {
                        let rest = if metrics.is_empty() {
                            event.encoded.clone()
                        } else {
                            [header, &metrics, rest].concat().into()
                        };
                        *current = Some(Delivery { id, rest });
                        break;
                    }
                    window.put(out, *handle, id, [header, &metrics, rest], false);
                    if !has_credit || window.remote_incoming_window == 0 || out.len() >= full {
                        break;
                    }
                }
                true
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replies(count: usize) -> Outgoing {
        let queue = (0..count)
            .map(|_| Bytes::from_static(&[b'x'; 1000]))
            .collect();
        let node = RequestNode::Management;
        Outgoing::new(0, Vec::new(), None, Feed::Replies { node, queue })
    }

    fn window() -> SendWindow {
        SendWindow {
            channel: 0,
            next_outgoing_id: 1,
            remote_incoming_window: 100,
            next_delivery_id: 0,
            frame_size_max: 512,
        }
    }

    #[test]
    fn nothing_is_sent_without_credit_and_never_more_than_the_credit() {
        let (mut link, mut window, mut out) = (replies(5), window(), BytesMut::new());
        assert!(!link.send(&mut window, &mut out));
        link.on_flow(None, 2, false);
        assert!(link.send(&mut window, &mut out));
        assert_eq!((link.delivery_count, link.credit), (2, 0));
        link.on_flow(Some(1), 2, false);
        assert_eq!(link.credit, 1);
        link.on_flow(Some(0), 1, false);
        assert_eq!(link.credit, 0, "the limit was passed already");
    }

    #[test]
    fn a_delivery_waits_in_the_middle_for_the_session_window() {
        let (mut link, mut window, mut out) = (replies(1), window(), BytesMut::new());
        window.remote_incoming_window = 1;
        link.on_flow(None, 10, false);
        assert!(link.send(&mut window, &mut out));
        assert!(link.current.is_some());
        assert!(!link.send(&mut window, &mut out));
        window.remote_incoming_window = 10;
        assert!(link.send(&mut window, &mut out));
        assert!(link.current.is_none());
        assert_eq!(window.next_outgoing_id, 4, "1000 bytes take three frames");
    }

    #[test]
    fn a_drain_uses_up_the_credit_once_there_is_nothing_to_send() {
        let (mut link, mut window, mut out) = (replies(1), window(), BytesMut::new());
        link.on_flow(None, 10, true);
        assert!(!link.drained());
        link.send(&mut window, &mut out);
        assert!(link.drained());
        assert_eq!((link.delivery_count, link.credit), (10, 0));
    }

    #[test]
    fn unfinished_deliveries_share_a_budget_and_give_it_back() {
        let budget = Arc::default();
        let mut first = Unfinished::new(0, 0, false, &budget);
        first.append(&vec![0; UNFINISHED_BYTES_MAX]).unwrap();
        let mut second = Unfinished::new(1, 0, false, &budget);
        assert!(second.append(&[0]).is_err());
        drop((first, second));
        assert_eq!(budget.load(Ordering::Relaxed), 0);
    }
}
