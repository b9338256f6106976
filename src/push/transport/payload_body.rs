//! The body of an answer to a poll, which knows when its bytes have really left.
//!
//! Handing a body to the HTTP server says nothing about the socket. Here the payload's memory tells: the server keeps it until the
//! last byte of it was taken by the socket (it writes vectored, from the memory it was given) and drops it then. Until that
//! moment the body does not end, so the server keeps listening to it, and an abort can make it drop the HTTP connection with
//! whatever is still unwritten. That needs a payload smaller than the server's own write buffer, see [`PAYLOAD_BYTES_MAX`].

use std::error::Error;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame};
use tokio_util::sync::{CancellationToken, DropGuard, WaitForCancellationFutureOwned};

/// Payloads are made no longer than this by much. An HTTP/1 server buffers up to about 400 KiB and ignores the body beyond that.
pub(in crate::push) const PAYLOAD_BYTES_MAX: usize = 256 * 1024;

/// A payload on its way, seen from the connection. Dropping it aborts what has not left.
#[derive(Debug)]
pub(super) struct InFlight {
    left: Pin<Box<WaitForCancellationFutureOwned>>,
    is_gone: CancellationToken,
    broken: Pin<Box<WaitForCancellationFutureOwned>>,
    abort: DropGuard,
}

/// How the way of a payload ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Delivery {
    /// The socket has all of it.
    Left,
    /// The client went away first.
    Broken,
}

impl InFlight {
    /// Whether the last byte has left, asked without waiting.
    pub(super) fn has_left(&self) -> bool {
        self.is_gone.is_cancelled()
    }

    /// Lets the payload go its way without anybody watching.
    pub(super) fn detach(self) {
        self.abort.disarm();
    }

    pub(super) fn poll_delivery(&mut self, cx: &mut Context<'_>) -> Poll<Delivery> {
        if self.broken.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Delivery::Broken);
        }
        self.left.as_mut().poll(cx).map(|()| Delivery::Left)
    }
}

/// The body as the HTTP server sees it.
pub(in crate::push) struct PayloadBody {
    payload: Option<Bytes>,
    left: Pin<Box<WaitForCancellationFutureOwned>>,
    abort: Pin<Box<WaitForCancellationFutureOwned>>,
    broken: CancellationToken,
    has_ended: bool,
}

/// Makes the body of a non-empty payload and the view on its delivery.
pub(super) fn payload_body(payload: Bytes) -> (PayloadBody, InFlight) {
    let left = CancellationToken::new();
    let abort = CancellationToken::new();
    let broken = CancellationToken::new();
    let payload = Tracked { payload, _left: left.clone().drop_guard() };
    let body = PayloadBody {
        payload: Some(Bytes::from_owner(payload)),
        left: Box::pin(left.clone().cancelled_owned()),
        abort: Box::pin(abort.clone().cancelled_owned()),
        broken: broken.clone(),
        has_ended: false,
    };
    let in_flight = InFlight {
        left: Box::pin(left.clone().cancelled_owned()),
        is_gone: left,
        broken: Box::pin(broken.cancelled_owned()),
        abort: abort.drop_guard(),
    };
    (body, in_flight)
}

/// The payload's memory; its end is the sign that nothing of it is left to write.
struct Tracked {
    payload: Bytes,
    _left: DropGuard,
}

impl AsRef<[u8]> for Tracked {
    fn as_ref(&self) -> &[u8] {
        &self.payload
    }
}

/// Makes the HTTP server give the connection up.
#[derive(Debug)]
pub(in crate::push) struct Aborted;

impl fmt::Display for Aborted {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the connection was cut")
    }
}

impl Error for Aborted {}

impl Body for PayloadBody {
    type Data = Bytes;
    type Error = Aborted;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Aborted>>> {
        // Checked first: an abort before the first byte keeps even that one back.
        if self.left.as_mut().poll(cx).is_ready() {
            self.has_ended = true;
            return Poll::Ready(None);
        }
        if self.abort.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Some(Err(Aborted)));
        }
        match self.payload.take() {
            Some(payload) => Poll::Ready(Some(Ok(Frame::data(payload)))),
            None => Poll::Pending,
        }
    }
}

impl Drop for PayloadBody {
    fn drop(&mut self) {
        if !self.has_ended {
            self.broken.cancel();
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;
    use tokio::time::{Duration, timeout};

    use super::*;

    fn poll_now(in_flight: &mut InFlight) -> Poll<Delivery> {
        in_flight.poll_delivery(&mut Context::from_waker(std::task::Waker::noop()))
    }

    #[tokio::test]
    async fn a_payload_has_left_when_its_memory_is_given_back() {
        let (mut body, mut in_flight) = payload_body(Bytes::from_static(b"4hello"));
        let payload = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(payload, "4hello");
        assert!(timeout(Duration::from_millis(1), body.frame()).await.is_err(), "the body ended too early");
        assert!(poll_now(&mut in_flight).is_pending() && !in_flight.has_left());
        drop(payload);
        assert!(in_flight.has_left());
        assert_eq!(poll_now(&mut in_flight), Poll::Ready(Delivery::Left));
        assert!(body.frame().await.is_none());
    }

    #[tokio::test]
    async fn a_client_that_goes_away_is_noticed() {
        let (body, mut in_flight) = payload_body(Bytes::from_static(b"2"));
        drop(body);
        assert_eq!(poll_now(&mut in_flight), Poll::Ready(Delivery::Broken));
    }

    #[tokio::test]
    async fn an_abort_ends_the_http_connection_with_an_error() {
        let (mut body, in_flight) = payload_body(Bytes::from_static(b"2"));
        let _payload = body.frame().await.unwrap().unwrap();
        drop(in_flight);
        assert!(body.frame().await.unwrap().is_err());
    }

    #[tokio::test]
    async fn an_abort_before_the_first_byte_keeps_it_back() {
        let (mut body, in_flight) = payload_body(Bytes::from_static(b"2"));
        drop(in_flight);
        assert!(body.frame().await.unwrap().is_err());
    }
}
