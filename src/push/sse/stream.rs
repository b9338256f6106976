//! The body of an event stream: one payload after the other, each of which is known to have left before the next one.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame};
use tokio::sync::mpsc;

use crate::push::payload_body::{Aborted, Delivery, InFlight, PayloadBody, payload_body};

/// A payload is written in parts of this size, so that a client on a slow line is seen to make progress.
const PART_BYTES: usize = 64 * 1024;

/// The stream as its connection sees it. Dropping it ends the body: in order when all has left, otherwise by giving the
/// connection up.
#[derive(Debug)]
pub(super) struct Stream {
    parts: mpsc::Sender<PayloadBody>,
    in_flight: Option<InFlight>,
    rest: Bytes,
}

/// What happened to a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// A part of what is being written has left.
    Progress,
    /// All that was written has left.
    Written,
    /// The client went away.
    Closed,
}

/// The stream as the HTTP server sees it.
#[derive(Debug)]
pub(super) struct StreamBody {
    part: Option<PayloadBody>,
    parts: mpsc::Receiver<PayloadBody>,
}

/// A stream on which nothing has been written, and its body.
pub(super) fn stream() -> (Stream, StreamBody) {
    let (sender, receiver) = mpsc::channel(1);
    let stream = Stream {
        parts: sender,
        in_flight: None,
        rest: Bytes::new(),
    };
    let body = StreamBody {
        part: None,
        parts: receiver,
    };
    (stream, body)
}

impl Stream {
    /// Starts to write, when all that was written before has left.
    pub(super) fn write(&mut self, bytes: Bytes) {
        debug_assert!(self.is_written(), "one payload is written at a time");
        self.rest = bytes;
        self.start_part();
    }

    /// Whether everything has left.
    pub(super) fn is_written(&self) -> bool {
        self.in_flight.is_none()
    }

    /// Waits for the next thing to happen. May be dropped while it waits.
    pub(super) async fn event(&mut self) -> Event {
        let Some(in_flight) = &mut self.in_flight else {
            self.parts.closed().await;
            return Event::Closed;
        };
        match poll_fn(|cx| in_flight.poll_delivery(cx)).await {
            Delivery::Broken => Event::Closed,
            Delivery::Left => {
                self.in_flight = None;
                if self.rest.is_empty() {
                    return Event::Written;
                }
                self.start_part();
                Event::Progress
            }
        }
    }

    /// Waits until all that was written has left. `false` when the client went away first.
    pub(super) async fn written(&mut self) -> bool {
        while !self.is_written() {
            if self.event().await == Event::Closed {
                return false;
            }
        }
        true
    }

    /// Keeps back what has not left, and waits until nothing can leave any more.
    pub(super) async fn abort(&mut self) {
        if let Some(in_flight) = &mut self.in_flight {
            in_flight.abort();
            poll_fn(|cx| in_flight.poll_gone(cx)).await;
        }
    }

    fn start_part(&mut self) {
        let bytes = self.rest.split_to(self.rest.len().min(PART_BYTES));
        let (part, in_flight) = payload_body(bytes);
        // When the client has gone, dropping the part says so.
        let _ = self.parts.try_send(part);
        self.in_flight = Some(in_flight);
    }
}

impl Body for StreamBody {
    type Data = Bytes;
    type Error = Aborted;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Aborted>>> {
        loop {
            if let Some(part) = &mut self.part {
                if let Some(frame) = ready!(Pin::new(part).poll_frame(cx)) {
                    return Poll::Ready(Some(frame));
                }
                self.part = None;
            }
            match ready!(self.parts.poll_recv(cx)) {
                Some(part) => self.part = Some(part),
                None => return Poll::Ready(None),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use http_body_util::BodyExt as _;

    use super::*;

    fn chunk(body: &mut StreamBody) -> Bytes {
        let frame = body.frame().now_or_never().expect("there is something");
        frame.unwrap().unwrap().into_data().unwrap()
    }

    fn event(stream: &mut Stream) -> Option<Event> {
        stream.event().now_or_never()
    }

    #[test]
    fn one_payload_follows_the_other() {
        let (mut stream, mut body) = stream();
        assert!(body.frame().now_or_never().is_none());
        for text in ["one", "two"] {
            stream.write(Bytes::from_static(text.as_bytes()));
            let written = chunk(&mut body);
            assert_eq!(written, text);
            assert!(body.frame().now_or_never().is_none());
            assert_eq!(event(&mut stream), None, "it has not left");
            assert!(!stream.is_written());
            drop(written);
            assert_eq!(event(&mut stream), Some(Event::Written));
            assert!(stream.is_written());
        }
        drop(stream);
        assert!(body.frame().now_or_never().unwrap().is_none());
    }

    #[test]
    fn a_long_payload_shows_its_progress() {
        let (mut stream, mut body) = stream();
        stream.write(Bytes::from(vec![b'x'; PART_BYTES + 1]));
        let mut bytes = 0;
        let mut events = Vec::new();
        while !stream.is_written() {
            while let Some(frame) = body.frame().now_or_never() {
                bytes += frame.unwrap().unwrap().into_data().unwrap().len();
            }
            events.extend(event(&mut stream));
        }
        assert_eq!(bytes, PART_BYTES + 1);
        assert_eq!(events, [Event::Progress, Event::Written]);
    }

    #[test]
    fn a_client_that_goes_away_is_noticed_at_any_time() {
        let (mut idle, body) = stream();
        drop(body);
        assert_eq!(event(&mut idle), Some(Event::Closed));
        idle.write(Bytes::from_static(b"late"));
        assert_eq!(event(&mut idle), Some(Event::Closed));

        let (mut writing, mut body) = stream();
        writing.write(Bytes::from_static(b"text"));
        let _written = chunk(&mut body);
        drop(body);
        assert_eq!(event(&mut writing), Some(Event::Closed));
    }

    #[test]
    fn an_abort_waits_until_the_server_has_let_go() {
        let (mut stream, mut body) = stream();
        stream.write(Bytes::from_static(b"text"));
        let _written = chunk(&mut body);
        assert!(stream.abort().now_or_never().is_none());
        assert!(body.frame().now_or_never().unwrap().unwrap().is_err());
        drop(body);
        assert!(stream.abort().now_or_never().is_some());
    }

    #[test]
    fn a_stream_that_is_dropped_half_way_ends_with_an_error() {
        let (mut stream, mut body) = stream();
        stream.write(Bytes::from_static(b"text"));
        let _written = chunk(&mut body);
        drop(stream);
        assert!(body.frame().now_or_never().unwrap().unwrap().is_err());
    }
}
