//! The body of an answer, or a part of one, which knows when its bytes have really left.
//!
//! Handing a body to the HTTP server says nothing about the socket. Here the payload's memory tells: the server keeps
//! each chunk until the last byte of it was taken by the socket (it writes vectored, from the memory it was given) and
//! drops it then. The next chunk is handed over only after that, and the body does not end before the last one has
//! left. So at any time the server holds less than one write buffer of it, keeps listening to the body, and an abort
//! makes it drop the HTTP connection at once, with whatever is still unwritten.

use std::error::Error;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use hyper::body::{Body, Frame};

/// Less than the smallest write buffer that an HTTP server can be given (8 KiB), with room for the head.
const CHUNK_BYTES: usize = 7 * 1024;

/// The way of a payload, shared by the connection, the body and the chunk that is being written.
#[derive(Debug, Default)]
struct Progress {
    state: AtomicU8,
    chunk_is_out: AtomicBool,
    body_is_gone: AtomicBool,
    body: AtomicWaker,
    connection: AtomicWaker,
}

const GOING: u8 = 0;
const LEFT: u8 = 1;
const BROKEN: u8 = 2;
const ABORTED: u8 = 3;

impl Progress {
    fn state(&self) -> u8 {
        self.state.load(Ordering::Acquire)
    }

    /// Whatever ends the way first decides.
    fn end(&self, state: u8) {
        if self
            .state
            .compare_exchange(GOING, state, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
        {
            self.body.wake();
            self.connection.wake();
        }
    }
}

/// A payload on its way, seen from the connection. Dropping it aborts what has not left.
#[derive(Debug)]
pub(super) struct InFlight(Arc<Progress>);

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
        self.0.state() == LEFT
    }

    /// Keeps back what has not left.
    pub(super) fn abort(&self) {
        self.0.end(ABORTED);
    }

    /// Waits until the server has let go of the body, and so of the connection if the body was aborted. Then no byte
    /// can leave any more.
    pub(super) fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.0.connection.register(cx.waker());
        if self.0.body_is_gone.load(Ordering::Acquire) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }

    pub(super) fn poll_delivery(&mut self, cx: &mut Context<'_>) -> Poll<Delivery> {
        self.0.connection.register(cx.waker());
        match self.0.state() {
            GOING => Poll::Pending,
            LEFT => Poll::Ready(Delivery::Left),
            _ => Poll::Ready(Delivery::Broken),
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.abort();
    }
}

/// The body as the HTTP server sees it.
#[derive(Debug)]
pub(super) struct PayloadBody {
    rest: Bytes,
    progress: Arc<Progress>,
}

/// Makes the body of a non-empty payload and the view on its delivery.
pub(super) fn payload_body(payload: Bytes) -> (PayloadBody, InFlight) {
    let progress = Arc::<Progress>::default();
    (
        PayloadBody {
            rest: payload,
            progress: Arc::clone(&progress),
        },
        InFlight(progress),
    )
}

/// Memory that the server writes from.
struct Chunk {
    bytes: Bytes,
    is_last: bool,
    progress: Arc<Progress>,
}

impl AsRef<[u8]> for Chunk {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        if self.is_last {
            self.progress.end(LEFT);
        }
        self.progress.chunk_is_out.store(false, Ordering::Release);
        self.progress.body.wake();
    }
}

/// Makes the HTTP server give the connection up.
#[derive(Debug)]
pub(super) struct Aborted;

impl fmt::Display for Aborted {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the connection was cut")
    }
}

impl Error for Aborted {}

impl Body for PayloadBody {
    type Data = Bytes;
    type Error = Aborted;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Aborted>>> {
        self.progress.body.register(cx.waker());
        match self.progress.state() {
            GOING if self.progress.chunk_is_out.load(Ordering::Acquire) => Poll::Pending,
            GOING => {
                let bytes_max = self.rest.len().min(CHUNK_BYTES);
                let bytes = self.rest.split_to(bytes_max);
                self.progress.chunk_is_out.store(true, Ordering::Release);
                let chunk = Chunk {
                    bytes,
                    is_last: self.rest.is_empty(),
                    progress: Arc::clone(&self.progress),
                };
                Poll::Ready(Some(Ok(Frame::data(Bytes::from_owner(chunk)))))
            }
            LEFT => Poll::Ready(None),
            _ => Poll::Ready(Some(Err(Aborted))),
        }
    }
}

impl Drop for PayloadBody {
    fn drop(&mut self) {
        self.progress.end(BROKEN);
        self.progress.body_is_gone.store(true, Ordering::Release);
        self.progress.connection.wake();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use http_body_util::BodyExt as _;

    use super::*;

    fn poll_now(in_flight: &mut InFlight) -> Poll<Delivery> {
        in_flight.poll_delivery(&mut Context::from_waker(std::task::Waker::noop()))
    }

    fn next_chunk(body: &mut PayloadBody) -> Bytes {
        body.frame()
            .now_or_never()
            .unwrap()
            .unwrap()
            .unwrap()
            .into_data()
            .unwrap()
    }

    #[test]
    fn a_payload_has_left_when_its_memory_is_given_back() {
        let (mut body, mut in_flight) = payload_body(Bytes::from_static(b"4hello"));
        let chunk = next_chunk(&mut body);
        assert_eq!(chunk, "4hello");
        assert!(
            body.frame().now_or_never().is_none(),
            "the body ended too early"
        );
        assert!(poll_now(&mut in_flight).is_pending() && !in_flight.has_left());
        drop(chunk);
        assert!(in_flight.has_left());
        assert_eq!(poll_now(&mut in_flight), Poll::Ready(Delivery::Left));
        assert!(body.frame().now_or_never().unwrap().is_none());
    }

    #[test]
    fn a_long_payload_goes_out_chunk_by_chunk() {
        let payload = Bytes::from(vec![b'x'; 3 * CHUNK_BYTES + 1]);
        let (mut body, in_flight) = payload_body(payload);
        for bytes in [CHUNK_BYTES, CHUNK_BYTES, CHUNK_BYTES, 1] {
            assert!(!in_flight.has_left());
            let chunk = next_chunk(&mut body);
            assert_eq!(chunk.len(), bytes);
            assert!(
                body.frame().now_or_never().is_none(),
                "two chunks are out at once"
            );
        }
        assert!(in_flight.has_left());
    }

    #[test]
    fn a_client_that_goes_away_is_noticed() {
        let (body, mut in_flight) = payload_body(Bytes::from_static(b"2"));
        drop(body);
        assert_eq!(poll_now(&mut in_flight), Poll::Ready(Delivery::Broken));
    }

    #[test]
    fn an_abort_ends_the_http_connection_with_an_error() {
        let (mut body, in_flight) = payload_body(Bytes::from_static(b"2"));
        let _chunk = next_chunk(&mut body);
        drop(in_flight);
        assert!(body.frame().now_or_never().unwrap().unwrap().is_err());
    }

    #[test]
    fn an_aborted_payload_is_gone_when_the_server_has_let_go_of_it() {
        let (mut body, mut in_flight) = payload_body(Bytes::from_static(b"2"));
        let _chunk = next_chunk(&mut body);
        let mut cx = Context::from_waker(std::task::Waker::noop());
        in_flight.abort();
        assert!(in_flight.poll_gone(&mut cx).is_pending());
        drop(body);
        assert!(in_flight.poll_gone(&mut cx).is_ready());
    }

    #[test]
    fn an_abort_before_the_first_byte_keeps_it_back() {
        let (mut body, in_flight) = payload_body(Bytes::from_static(b"2"));
        drop(in_flight);
        assert!(body.frame().now_or_never().unwrap().unwrap().is_err());
    }
}
