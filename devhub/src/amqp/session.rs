//! Sessions: flow control between the two ends, and the links of one session.

use std::{
    collections::BTreeMap,
    ops::Bound::{Excluded, Included, Unbounded},
    sync::{Arc, atomic::AtomicUsize},
};

use bytes::BytesMut;

use super::{
    attach,
    codec::DecodeError,
    error::{
        AmqpError, HANDLE_IN_USE, MESSAGE_SIZE_EXCEEDED, NOT_ALLOWED, TRANSFER_LIMIT_EXCEEDED,
        UNATTACHED_HANDLE,
    },
    frame::{Layer, put_frame},
    link::{
        Destination, Feed, Link, MESSAGE_SIZE_MAX, OUT_BYTES_FULL, Outgoing, RequestNode,
        SENDER_CREDIT, SendWindow, Unfinished,
    },
    mailbox::Mailbox,
    message::{BATCH_FORMAT, Draft, Message},
    performative::{
        Attach, Begin, Detach, Flow, LinkFlow, Transfer, Windows, put_attach, put_begin,
        put_detach, put_disposition, put_end, put_flow,
    },
    server::Shared,
};
use crate::{cbs::Tokens, event_hub::EventHub, readers::ReaderId};

/// Transfers that a peer may send before it hears of the window again.
const INCOMING_WINDOW: u32 = 5000;
const OUTGOING_WINDOW: u32 = 65_536;
const HANDLE_MAX: u32 = 255;

/// What a session needs of its connection.
pub(crate) struct Context<'a> {
    pub(crate) shared: &'a Shared,
    pub(crate) tokens: &'a Tokens,
    pub(crate) mailbox: &'a Arc<Mailbox>,
    pub(crate) unfinished_bytes: &'a Arc<AtomicUsize>,
    /// Links of all sessions; counted for an attach only.
    pub(crate) link_count: usize,
    pub(crate) out: &'a mut BytesMut,
}

/// A message for `$cbs` or `$management`, checked to be well-formed.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) node: RequestNode,
    pub(crate) payload: Vec<u8>,
}

#[derive(Debug)]
pub(crate) struct Session {
    window: SendWindow,
    next_incoming_id: u32,
    /// Transfers taken since the peer last heard of the window.
    incoming_since_flow: u32,
    links: BTreeMap<u32, Link>,
    /// The link whose turn to send it is.
    turn: u32,
    /// Deliveries taken and not yet settled with the peer, first to last.
    accepted: Option<(u32, u32)>,
    /// Ended by devhub; what the peer still sends is ignored until it ends the session too.
    ended: bool,
}

impl Session {
    /// Begins a session on the peer's channel and answers on the same one.
    pub(crate) fn begin(
        channel: u16,
        begin: Begin,
        frame_size_max: usize,
        out: &mut BytesMut,
    ) -> Self {
        let session = Self {
            window: SendWindow {
                channel,
                next_outgoing_id: 1,
                remote_incoming_window: begin.incoming_window,
                next_delivery_id: 0,
                frame_size_max,
            },
            next_incoming_id: begin.next_outgoing_id,
            incoming_since_flow: 0,
            links: BTreeMap::new(),
            turn: 0,
            accepted: None,
            ended: false,
        };
        let windows = session.windows();
        put_frame(out, Layer::Amqp, channel, |out| {
            put_begin(out, channel, windows, HANDLE_MAX);
        });
        session
    }

    pub(crate) fn is_ended(&self) -> bool {
        self.ended
    }

    /// Ends the session, with an error or in answer to the peer's end.
    pub(crate) fn end(&mut self, error: Option<&AmqpError>, out: &mut BytesMut) {
        self.ended = true;
        self.links.clear();
        self.accepted = None;
        put_frame(out, Layer::Amqp, self.window.channel, |out| {
            put_end(out, error);
        });
    }

    /// How many links take up room.
    pub(crate) fn link_count(&self) -> usize {
        self.links.len()
    }

    /// Answers an attach, with a link or with a refusal. An error ends the session.
    pub(crate) fn on_attach(
        &mut self,
        attach: &Attach<'_>,
        cx: &mut Context<'_>,
    ) -> Result<(), AmqpError> {
        let handle = attach.handle;
        if handle > HANDLE_MAX {
            let text = format!("the handle {handle} exceeds handle-max, which is {HANDLE_MAX}");
            return Err(AmqpError::new(NOT_ALLOWED, text));
        }
        if !matches!(self.links.get(&handle), None | Some(Link::Detached)) {
            let text = format!("the handle {handle} is attached already");
            return Err(AmqpError::new(HANDLE_IN_USE, text));
        }
        let link = attach::open(attach, cx);
        self.put(cx.out, |out| {
            put_attach(out, attach, link.is_err(), MESSAGE_SIZE_MAX as u64);
        });
        match link {
            Ok(link) => {
                if let Link::Incoming(incoming) = &link {
                    self.put_flow(cx.out, Some(incoming.flow(handle)));
                }
                self.links.insert(handle, link);
            }
            Err(error) => {
                tracing::debug!(link.name = attach.name, error.message = %error, "refused a link");
                self.detach(handle, &error, cx.out);
            }
        }
        Ok(())
    }

    pub(crate) fn on_detach(&mut self, detach: Detach, out: &mut BytesMut) {
        // A link that devhub detached is answered for already.
        if let Some(Link::Incoming(_) | Link::Outgoing(_)) = self.links.remove(&detach.handle) {
            self.settle(out);
            self.put(out, |out| {
                put_detach(out, detach.handle, detach.closed, None);
            });
        }
    }

    /// Takes over windows and credit (AMQP 1.0 §2.5.6). An error ends the session.
    pub(crate) fn on_flow(&mut self, flow: Flow, out: &mut BytesMut) -> Result<(), AmqpError> {
        let expected = flow.next_incoming_id.unwrap_or(1);
        let in_flight = self.window.next_outgoing_id.wrapping_sub(expected);
        self.window.remote_incoming_window = flow.incoming_window.saturating_sub(in_flight);
        let link = match flow.handle {
            None => None,
            Some(handle) => match self.links.get_mut(&handle) {
                Some(Link::Outgoing(link)) => {
                    if let Some(credit) = flow.link_credit {
                        link.on_flow(flow.delivery_count, credit, flow.drain);
                    }
                    Some(link.flow())
                }
                Some(Link::Incoming(link)) => Some(link.flow(handle)),
                Some(Link::Detached) => return Ok(()),
                None => return Err(unattached(handle)),
            },
        };
        if flow.echo {
            self.put_flow(out, link);
        }
        Ok(())
    }

    /// Takes a transfer. A complete message is stored, or handed back when it is a request. An error
    /// ends the session; what is wrong with a link or a message ends only that.
    pub(crate) fn on_transfer(
        &mut self,
        transfer: Transfer,
        payload: &[u8],
        cx: &mut Context<'_>,
    ) -> Result<Option<Request>, AmqpError> {
        self.next_incoming_id = self.next_incoming_id.wrapping_add(1);
        self.incoming_since_flow += 1;
        if self.incoming_since_flow >= INCOMING_WINDOW / 2 {
            self.put_flow(cx.out, None);
        }
        let handle = transfer.handle;
        match self.links.get(&handle) {
            Some(Link::Incoming(_)) => {}
            Some(Link::Detached) => return Ok(None),
            Some(Link::Outgoing(_)) | None => return Err(unattached(handle)),
        }
        match self.receive(transfer, payload, cx) {
            Ok(request) => Ok(request),
            Err(error) => {
                self.detach(handle, &error, cx.out);
                Ok(None)
            }
        }
    }

    /// Tells the peer of all deliveries taken.
    pub(crate) fn settle(&mut self, out: &mut BytesMut) {
        if let Some((first, last)) = self.accepted.take() {
            self.put(out, |out| put_disposition(out, first, last, None));
        }
    }

    /// Gives every link a turn to send; whether any did.
    pub(crate) fn send(&mut self, out: &mut BytesMut) -> bool {
        let mut sent = false;
        let mut drained = Vec::new();
        let turn = self.turn;
        for half in [(Included(turn), Unbounded), (Unbounded, Excluded(turn))] {
            for (handle, link) in self.links.range_mut(half) {
                if out.len() >= OUT_BYTES_FULL {
                    self.turn = *handle;
                    break;
                }
                if let Link::Outgoing(link) = link {
                    sent |= link.send(&mut self.window, out);
                    if link.drained() {
                        drained.push(link.flow());
                        link.end_drain();
                    }
                }
            }
        }
        for flow in drained {
            self.put_flow(out, Some(flow));
        }
        sent
    }

    /// A link on which replies of a node go out: one with this name, when a name is given.
    pub(crate) fn reply_link(
        &mut self,
        node: RequestNode,
        reply_to: Option<&str>,
    ) -> Option<&mut Outgoing> {
        self.links.values_mut().rev().find_map(|link| match link {
            Link::Outgoing(link) if link.answers(node, reply_to) => Some(link),
            _ => None,
        })
    }

    /// Whether [`Session::reply_link`] would find one.
    pub(crate) fn has_reply_link(&self, node: RequestNode, reply_to: Option<&str>) -> bool {
        self.links.values().any(|link| match link {
            Link::Outgoing(link) => link.answers(node, reply_to),
            Link::Incoming(_) | Link::Detached => false,
        })
    }

    /// Detaches the link of a reader, if it is of this session.
    pub(crate) fn detach_reader(
        &mut self,
        reader: ReaderId,
        error: &AmqpError,
        out: &mut BytesMut,
    ) -> bool {
        let handle = self.links.iter().find_map(|(handle, link)| match link {
            Link::Outgoing(link) if link.reader() == Some(reader) => Some(*handle),
            _ => None,
        });
        if let Some(handle) = handle {
            self.detach(handle, error, out);
        }
        handle.is_some()
    }

    /// Detaches links that no token opens any more.
    pub(crate) fn detach_unauthorized(&mut self, tokens: &Tokens, now_ms: i64, out: &mut BytesMut) {
        let lapsed: Vec<u32> = self
            .links
            .iter()
            .filter(|(_, link)| {
                link.scope()
                    .is_some_and(|scope| !tokens.open(scope, now_ms))
            })
            .map(|(handle, _)| *handle)
            .collect();
        for handle in lapsed {
            self.detach(handle, &attach::token_lapsed(), out);
        }
    }

    fn receive(
        &mut self,
        transfer: Transfer,
        payload: &[u8],
        cx: &mut Context<'_>,
    ) -> Result<Option<Request>, AmqpError> {
        let Some(Link::Incoming(link)) = self.links.get_mut(&transfer.handle) else {
            return Ok(None);
        };
        if transfer.aborted {
            link.unfinished = None;
            return Ok(None);
        }
        let unfinished = link.unfinished.take();
        let held = unfinished.as_ref().map_or(0, |held| held.payload.len());
        if held + payload.len() > MESSAGE_SIZE_MAX {
            return Err(AmqpError::new(
                MESSAGE_SIZE_EXCEEDED,
                format!(
                    "The received message (delivery-id:{}, size:{} bytes) exceeds the limit \
                     ({MESSAGE_SIZE_MAX} bytes) currently allowed on the link.",
                    transfer.delivery_id.unwrap_or_default(),
                    held + payload.len(),
                ),
            ));
        }
        if unfinished.is_none() && link.credit == 0 {
            return Err(AmqpError::new(
                TRANSFER_LIMIT_EXCEEDED,
                "a transfer came without credit",
            ));
        }
        let mut delivery = match unfinished {
            Some(delivery) => delivery,
            None => Unfinished::new(
                transfer
                    .delivery_id
                    .ok_or(DecodeError::Unexpected("delivery-id"))?,
                transfer.message_format.unwrap_or(0),
                transfer.settled,
                cx.unfinished_bytes,
            ),
        };
        delivery.settled |= transfer.settled;
        // The usual message comes in one frame and is not copied together.
        let whole = if transfer.more || !delivery.payload.is_empty() {
            delivery.append(payload)?;
            if transfer.more {
                link.unfinished = Some(delivery);
                return Ok(None);
            }
            &delivery.payload
        } else {
            payload
        };
        link.delivery_count = link.delivery_count.wrapping_add(1);
        link.credit -= 1;
        let credit_low = link.credit <= SENDER_CREDIT / 2;
        if credit_low {
            link.credit = SENDER_CREDIT;
        }
        let flow = link.flow(transfer.handle);
        let destination = link.destination;
        let taken = take(destination, delivery.message_format, whole, &cx.shared.hub);
        if !delivery.settled {
            self.dispose(delivery.delivery_id, taken.as_ref().err(), cx.out);
        }
        if credit_low {
            self.put_flow(cx.out, Some(flow));
        }
        Ok(taken.unwrap_or_default())
    }

    /// Remembers that a delivery was accepted, or rejects it at once.
    fn dispose(&mut self, id: u32, rejected: Option<&AmqpError>, out: &mut BytesMut) {
        if let Some(error) = rejected {
            self.settle(out);
            self.put(out, |out| put_disposition(out, id, id, Some(error)));
            return;
        }
        match &mut self.accepted {
            Some((_, last)) if last.wrapping_add(1) == id => *last = id,
            _ => {
                self.settle(out);
                self.accepted = Some((id, id));
            }
        }
    }

    fn detach(&mut self, handle: u32, error: &AmqpError, out: &mut BytesMut) {
        self.settle(out);
        self.links.insert(handle, Link::Detached);
        self.put(out, |out| put_detach(out, handle, true, Some(error)));
    }

    fn windows(&self) -> Windows {
        Windows {
            next_incoming_id: self.next_incoming_id,
            incoming_window: INCOMING_WINDOW,
            next_outgoing_id: self.window.next_outgoing_id,
            outgoing_window: OUTGOING_WINDOW,
        }
    }

    fn put_flow(&mut self, out: &mut BytesMut, link: Option<LinkFlow>) {
        self.incoming_since_flow = 0;
        let windows = self.windows();
        self.put(out, |out| put_flow(out, windows, link));
    }

    fn put(&self, out: &mut BytesMut, write: impl FnOnce(&mut BytesMut)) {
        put_frame(out, Layer::Amqp, self.window.channel, write);
    }
}

/// Stores a message, or hands back a request.
fn take(
    destination: Destination,
    message_format: u32,
    payload: &[u8],
    hub: &EventHub,
) -> Result<Option<Request>, AmqpError> {
    let message = Message::decode(payload)?;
    let partition = match destination {
        Destination::Requests(node) => {
            let payload = payload.to_vec();
            return Ok(Some(Request { node, payload }));
        }
        Destination::Hub => None,
        Destination::Partition(partition) => Some(partition),
    };
    let envelope_key = message.partition_key();
    let mut key = envelope_key;
    let drafts = if message_format == BATCH_FORMAT {
        message
            .data()
            .map(|data| {
                let message = Message::decode(data)?;
                key = key.or(message.partition_key());
                Draft::from_message(&message, envelope_key)
            })
            .collect::<Result<Vec<_>, _>>()?
    } else {
        vec![Draft::from_message(&message, None)?]
    };
    let partition = partition.unwrap_or_else(|| match key {
        Some(key) => hub.partition_of_key(key),
        None => hub.next_partition(),
    });
    hub.append(partition, &drafts);
    Ok(None)
}

fn unattached(handle: u32) -> AmqpError {
    let text = format!("no link that takes this frame is attached to the handle {handle}");
    AmqpError::new(UNATTACHED_HANDLE, text)
}

impl Outgoing {
    fn answers(&self, node: RequestNode, reply_to: Option<&str>) -> bool {
        matches!(&self.feed, Feed::Replies { node: mine, .. } if *mine == node)
            && reply_to.is_none_or(|to| self.names.iter().any(|name| name == to))
    }

    fn reader(&self) -> Option<ReaderId> {
        match &self.feed {
            Feed::Events(subscription) => Some(subscription.seat.id()),
            Feed::Replies { .. } => None,
        }
    }
}
