//! How packets travel: the seam between a connection and the bytes on its socket.
//!
//! A [`Transport`] is fed by [`queue`](Transport::queue) and driven by [`poll_event`](Transport::poll_event), which writes what
//! is queued and reads what comes, both at once, so that a client that does not read can still be heard. An upgrade
//! from long-polling to WebSocket happens inside: nothing above notices, and each packet goes out on one of the two
//! exactly once.

pub(super) mod polling;
pub(super) mod websocket;

use std::future::poll_fn;
use std::task::{Context, Poll, ready};

use bytes::Bytes;

use self::polling::Polling;
use self::websocket::WebSocket;
use super::close_reason::{CloseReason, Farewell};
use super::engine_io::{self, Packet};
use crate::push::websocket::{Burst, texts};
use crate::telemetry::metrics::TransportKind;

/// What a transport has to report.
#[derive(Debug)]
pub(super) enum Event {
    /// The client sent a packet.
    Packet(Packet),
    /// Something that was queued is written, or the client has become ready to take more.
    Progress,
    /// The transport has ended.
    Closed(CloseReason),
}

/// One client's packets, in both directions.
#[derive(Debug)]
pub(super) enum Transport {
    /// A WebSocket.
    WebSocket(WebSocket),
    /// HTTP long-polling, possibly on the way to a WebSocket.
    Polling(Box<Polling>),
}

impl Transport {
    /// What it is, for metrics.
    pub(super) fn kind(&self) -> TransportKind {
        match self {
            Self::WebSocket(_) => TransportKind::SocketIoWebSocket,
            Self::Polling(_) => TransportKind::SocketIoPolling,
        }
    }

    /// Takes an encoded packet; [`poll_event`](Self::poll_event) writes it as soon as the client can take it.
    pub(super) fn queue(&mut self, packet: Bytes) {
        match self {
            Self::WebSocket(websocket) => websocket.queue(packet),
            Self::Polling(polling) => polling.queue(packet),
        }
    }

    /// Packets queued and not yet given to a socket.
    pub(super) fn queued(&self) -> usize {
        match self {
            Self::WebSocket(websocket) => websocket.queued(),
            Self::Polling(polling) => polling.queued(),
        }
    }

    /// Whether nothing queued is left.
    fn is_drained(&self) -> bool {
        match self {
            Self::WebSocket(websocket) => websocket.is_drained(),
            Self::Polling(polling) => polling.is_drained(),
        }
    }

    /// Whether the socket has taken every byte of the updates that were queued. Packets of the protocol itself may
    /// still wait for a client's next poll.
    pub(super) fn is_settled(&self) -> bool {
        match self {
            Self::WebSocket(websocket) => websocket.is_drained(),
            Self::Polling(polling) => polling.is_settled(),
        }
    }

    /// Whether updates queued now would go out at once.
    pub(super) fn is_ready(&self) -> bool {
        match self {
            Self::WebSocket(websocket) => websocket.is_drained(),
            Self::Polling(polling) => polling.is_ready(),
        }
    }

    /// Takes the text packets that `fill` puts together. A WebSocket writes them at once, as far as it takes them. Returns
    /// how many bytes there are.
    pub(super) fn send(
        &mut self,
        cx: &mut Context<'_>,
        fill: impl FnOnce(&mut Burst<'_>),
    ) -> Result<usize, CloseReason> {
        match self {
            Self::WebSocket(websocket) => websocket.send(cx, fill),
            Self::Polling(polling) => {
                let mut bytes = 0;
                for packet in texts(fill) {
                    bytes += packet.len();
                    polling.queue(packet);
                }
                Ok(bytes)
            }
        }
    }

    /// Writes, reads, and returns with the next thing to know. All state is in `self`.
    pub(super) fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        match self {
            Self::WebSocket(websocket) => websocket.poll_event(cx),
            Self::Polling(polling) => match ready!(polling.poll_event(cx)) {
                polling::Event::Transport(event) => Poll::Ready(event),
                polling::Event::Upgraded(websocket) => {
                    *self = Self::WebSocket(*websocket);
                    Poll::Ready(Event::Progress)
                }
            },
        }
    }

    /// Ends the transport without another byte. Returns when none can leave any more.
    pub(super) async fn abort(mut self) {
        if let Self::Polling(polling) = &mut self {
            poll_fn(|cx| polling.poll_abort(cx)).await;
        }
    }

    /// Ends the transport with the given manners. May wait for the client; the caller bounds that.
    pub(super) async fn close(&mut self, farewell: Farewell) {
        if farewell == Farewell::Drop {
            return;
        }
        if let Self::Polling(polling) = self {
            match farewell {
                Farewell::Tell => polling.finish(engine_io::CLOSE),
                Farewell::Confirm => {
                    polling.confirm_post();
                    polling.finish(engine_io::NOOP);
                }
                Farewell::Deliver | Farewell::Drop => {}
            }
        }
        if self.write_until(Self::is_drained).await.is_err() {
            return;
        }
        match self {
            Self::WebSocket(websocket) => websocket.close().await,
            // The packets before must reach the application before it hears of the end, so the end goes in a payload of
            // its own.
            Self::Polling(polling) if farewell == Farewell::Deliver => {
                polling.queue(engine_io::CLOSE);
                let _ = self.write_until(Self::is_drained).await;
            }
            Self::Polling(_) => {}
        }
    }

    /// Writes on until [`is_settled`](Self::is_settled); what the client sends meanwhile is dropped.
    pub(super) async fn settle(&mut self) -> Result<(), CloseReason> {
        self.write_until(Self::is_settled).await
    }

    async fn write_until(&mut self, is_done: fn(&Self) -> bool) -> Result<(), CloseReason> {
        while !is_done(self) {
            match poll_fn(|cx| self.poll_event(cx)).await {
                Event::Packet(Packet::Close) => return Err(CloseReason::ClosedByClient),
                Event::Packet(_) | Event::Progress => {}
                Event::Closed(reason) => return Err(reason),
            }
        }
        Ok(())
    }
}
