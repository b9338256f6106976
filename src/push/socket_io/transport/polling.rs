//! Packets over HTTP long-polling, and the upgrade to a WebSocket.
//!
//! HTTP handlers and the connection's own task talk through a bounded mailbox. At most one poll (`GET`) is open and at
//! most one `POST` is being worked on; a second one of either closes the connection, as the Engine.IO protocol demands
//! to keep packets in order.
//!
//! ```text
//!   client            HTTP handlers             connection
//!     │ GET ──────────────► Poll ──────────────────►│ held until there is something to say
//!     │ ◄──── 42[…]\x1e42[…] ◄──────── PayloadBody ─│ everything ready, in one payload
//!     │ POST 40 ──────────► Post ──────────────────►│ `ok` once the packets were worked on
//!     │ WebSocket ────────► Probe ─────────────────►│
//!     │ 2probe ──────────── on the WebSocket ──────►│ no more updates on polls from here
//!     │ ◄────────────────────────────────── 3probe ─│ an open poll is released with `6`
//!     │ 5 ─────────────────────────────────────────►│ all further packets on the WebSocket
//! ```
//!
//! Updates are asked for only while a poll is open, so between polls they wait, bounded and conflated, in the outbox.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Sleep, sleep};

use super::websocket::WebSocket;
use crate::push::payload_body::{Delivery, InFlight, PayloadBody, payload_body};
use crate::push::socket_io::close_reason::CloseReason;
use crate::push::socket_io::engine_io::{self, Packet};
use crate::push::socket_io::registry::Entry;

/// Requests that wait for a connection. There are two of a well-behaved client at most.
pub(in crate::push) const MAILBOX_CAPACITY: usize = 4;

/// What HTTP handlers hand to a connection.
#[derive(Debug)]
pub(in crate::push) enum Mail {
    /// A `GET`. Dropping the sender refuses it.
    Poll(oneshot::Sender<PayloadBody>),
    /// The packets of a `POST`. Answered when all were worked on; dropping the sender refuses it.
    Post(Vec<Packet>, oneshot::Sender<()>),
    /// A WebSocket on which the client wants to go on.
    Probe(Box<WebSocket>),
    /// The client broke the protocol.
    Violation,
}

/// What long-polling has to report.
#[derive(Debug)]
pub(super) enum Event {
    /// What every transport may report.
    Transport(super::Event),
    /// The client has moved to this WebSocket, which has taken over what was queued.
    Upgraded(Box<WebSocket>),
}

/// One client's long-polling.
#[derive(Debug)]
pub(in crate::push) struct Polling {
    mail: mpsc::Receiver<Mail>,
    /// Keeps the connection known to the HTTP handlers; moves on with the client.
    entry: Option<Entry>,
    upgrade_timeout: Duration,
    queue: VecDeque<Bytes>,
    poll: Option<oneshot::Sender<PayloadBody>>,
    in_flight: Option<InFlight>,
    post: Option<Post>,
    probe: Option<Probe>,
}

#[derive(Debug)]
struct Post {
    packets: std::vec::IntoIter<Packet>,
    done: oneshot::Sender<()>,
}

#[derive(Debug)]
struct Probe {
    websocket: Box<WebSocket>,
    /// Whether `2probe` came.
    is_answered: bool,
    timeout: Pin<Box<Sleep>>,
}

impl Polling {
    /// Long-polling of a client that `entry` makes known and whose requests come in by `mail`.
    pub(in crate::push) fn new(
        mail: mpsc::Receiver<Mail>,
        entry: Entry,
        upgrade_timeout: Duration,
    ) -> Self {
        Self {
            mail,
            entry: Some(entry),
            upgrade_timeout,
            queue: VecDeque::new(),
            poll: None,
            in_flight: None,
            post: None,
            probe: None,
        }
    }

    pub(super) fn queue(&mut self, packet: Bytes) {
        self.queue.push_back(packet);
    }

    pub(super) fn queued(&self) -> usize {
        self.queue.len()
    }

    pub(super) fn is_drained(&self) -> bool {
        self.queue.is_empty() && self.in_flight.is_none()
    }

    /// Updates are queued only while a poll is open, which then takes the whole queue.
    pub(super) fn is_settled(&self) -> bool {
        self.in_flight.is_none() && (self.queue.is_empty() || self.poll.is_none())
    }

    pub(super) fn is_ready(&self) -> bool {
        self.is_drained() && self.poll.is_some() && !self.is_upgrading()
    }

    /// Confirms the `POST` in work.
    pub(super) fn confirm_post(&mut self) {
        if let Some(post) = self.post.take() {
            let _ = post.done.send(());
        }
    }

    /// Refuses the `POST` in work, and answers the poll that is open, if one is, with what is queued and `last`. What
    /// then cannot be sent is given up.
    pub(super) fn finish(&mut self, last: Bytes) {
        self.post = None;
        self.queue.push_back(last);
        let _ = self.answer();
        self.queue.clear();
    }

    /// Keeps back what has not left, and waits until nothing can leave any more.
    pub(super) fn poll_abort(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.poll = None;
        self.post = None;
        match &mut self.in_flight {
            Some(in_flight) => {
                in_flight.abort();
                in_flight.poll_gone(cx)
            }
            None => Poll::Ready(()),
        }
    }

    pub(super) fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        if let Some(packet) = self.next_posted() {
            return Poll::Ready(Event::Transport(super::Event::Packet(packet)));
        }
        if let Some(in_flight) = &mut self.in_flight
            && let Poll::Ready(delivery) = in_flight.poll_delivery(cx)
        {
            self.in_flight = None;
            return Poll::Ready(Event::Transport(match delivery {
                Delivery::Left => super::Event::Progress,
                Delivery::Broken => super::Event::Closed(CloseReason::TransportFailed),
            }));
        }
        if let Poll::Ready(event) = self.poll_mail(cx) {
            return Poll::Ready(Event::Transport(event));
        }
        if let Poll::Ready(upgraded) = self.poll_probe(cx) {
            return Poll::Ready(upgraded);
        }
        if self.poll.is_some() && self.queue.is_empty() && self.is_upgrading() {
            self.queue.push_back(engine_io::NOOP);
        }
        if self.answer().is_err() {
            return Poll::Ready(Event::Transport(super::Event::Closed(
                CloseReason::TransportClosed,
            )));
        }
        if let Some(in_flight) = &mut self.in_flight
            && in_flight.poll_delivery(cx).is_ready()
        {
            cx.waker().wake_by_ref();
        }
        if let Some(poll) = &mut self.poll
            && poll.poll_closed(cx).is_ready()
        {
            return Poll::Ready(Event::Transport(super::Event::Closed(
                CloseReason::TransportClosed,
            )));
        }
        Poll::Pending
    }

    fn is_upgrading(&self) -> bool {
        self.probe.as_ref().is_some_and(|probe| probe.is_answered)
    }

    /// The next packet of the `POST` in work, which is answered after its last one.
    fn next_posted(&mut self) -> Option<Packet> {
        let mut post = self.post.take()?;
        let packet = post.packets.next();
        if packet.is_some() {
            self.post = Some(post);
        } else {
            let _ = post.done.send(());
        }
        packet
    }

    fn poll_mail(&mut self, cx: &mut Context<'_>) -> Poll<super::Event> {
        loop {
            match ready!(self.mail.poll_recv(cx)) {
                Some(Mail::Poll(poll)) => {
                    // A client polls again only after it has the whole last payload, which then has left here before.
                    self.settle();
                    if self.poll.is_some() || self.in_flight.is_some() {
                        drop(poll);
                        return Poll::Ready(super::Event::Closed(CloseReason::ProtocolViolation));
                    }
                    self.poll = Some(poll);
                    return Poll::Ready(super::Event::Progress);
                }
                Some(Mail::Post(packets, done)) => {
                    self.post = Some(Post {
                        packets: packets.into_iter(),
                        done,
                    });
                    if let Some(packet) = self.next_posted() {
                        return Poll::Ready(super::Event::Packet(packet));
                    }
                }
                // A second WebSocket is closed by dropping it; the first goes on.
                Some(Mail::Probe(_)) if self.probe.is_some() => {}
                Some(Mail::Probe(websocket)) => {
                    let timeout = Box::pin(sleep(self.upgrade_timeout));
                    self.probe = Some(Probe {
                        websocket,
                        is_answered: false,
                        timeout,
                    });
                }
                Some(Mail::Violation) | None => {
                    return Poll::Ready(super::Event::Closed(CloseReason::ProtocolViolation));
                }
            }
        }
    }

    /// Drives the WebSocket that the client wants to move to. Whatever goes wrong with it, polling goes on.
    fn poll_probe(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        while let Some(probe) = &mut self.probe {
            if probe.timeout.as_mut().poll(cx).is_ready() {
                self.probe = None;
                break;
            }
            match ready!(probe.websocket.poll_event(cx)) {
                super::Event::Progress => {}
                super::Event::Packet(Packet::Ping(data))
                    if data == engine_io::PROBE && !probe.is_answered =>
                {
                    probe.is_answered = true;
                    probe.websocket.queue(engine_io::PROBE_PONG);
                }
                super::Event::Packet(Packet::Upgrade) if probe.is_answered => {
                    // The client waits for the end of its last poll before it moves, so nothing can be in flight then.
                    self.settle();
                    if let Some(probe) = self.probe.take()
                        && self.in_flight.is_none()
                    {
                        return Poll::Ready(Event::Upgraded(self.move_to(probe.websocket)));
                    }
                }
                super::Event::Packet(_) | super::Event::Closed(_) => self.probe = None,
            }
        }
        Poll::Pending
    }

    /// Forgets a payload that has left.
    fn settle(&mut self) {
        if self.in_flight.as_ref().is_some_and(InFlight::has_left) {
            self.in_flight = None;
        }
    }

    fn move_to(&mut self, mut websocket: Box<WebSocket>) -> Box<WebSocket> {
        // The open poll of a client that does not wait for its end is refused by dropping it.
        self.poll = None;
        websocket.entry = self.entry.take().map(Box::new);
        for packet in self.queue.drain(..) {
            websocket.queue(packet);
        }
        websocket
    }

    /// Answers the open poll with all that is queued, if both exist. An error means that the client has gone.
    fn answer(&mut self) -> Result<(), PayloadBody> {
        if self.queue.is_empty() {
            return Ok(());
        }
        let Some(poll) = self.poll.take() else {
            return Ok(());
        };
        let (body, in_flight) = payload_body(engine_io::encode_payload(self.queue.drain(..)));
        self.in_flight = Some(in_flight);
        poll.send(body)
    }
}
