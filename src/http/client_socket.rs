//! The TCP socket of one client, which holds a place among the open ones and does not wait for ever to be read from.
//!
//! Both go with the socket and not with the task that serves it: an upgrade hands the socket to another owner, and it
//! counts until that owner drops it.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{Sleep, sleep};

use crate::telemetry::metrics::ApiMetrics;

/// The sockets that a server has open: the places for them, and what holds for each.
pub(super) struct Sockets {
    places: Semaphore,
    stall_timeout: Duration,
    metrics: Arc<ApiMetrics>,
}

/// A TCP socket that frees its place when it is dropped, and whose writes fail once the client has taken nothing for
/// the time-out.
pub(super) struct ClientSocket {
    socket: TcpStream,
    /// Behind the socket, so that it is free when that is closed.
    place: Place,
    /// Runs while a write waits for the client.
    stall: Option<Pin<Box<Sleep>>>,
}

struct Place(Arc<Sockets>);

impl Sockets {
    pub(super) fn new(
        places: usize,
        stall_timeout: Duration,
        metrics: Arc<ApiMetrics>,
    ) -> Arc<Self> {
        Arc::new(Self {
            places: Semaphore::new(places),
            stall_timeout,
            metrics,
        })
    }

    /// Gives a socket a place; drops it when there is none.
    pub(super) fn admit(self: &Arc<Self>, socket: TcpStream) -> Option<ClientSocket> {
        self.places.try_acquire().ok()?.forget();
        self.metrics.open_sockets.inc();
        Some(ClientSocket {
            socket,
            place: Place(Arc::clone(self)),
            stall: None,
        })
    }
}

impl ClientSocket {
    fn watch(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.stall = None;
            return written;
        }
        let stall_timeout = self.place.0.stall_timeout;
        let stall = self
            .stall
            .get_or_insert_with(|| Box::pin(sleep(stall_timeout)));
        stall
            .as_mut()
            .poll(context)
            .map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.metrics.open_sockets.dec();
        self.0.places.add_permits(1);
    }
}

impl AsyncRead for ClientSocket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(context, buffer)
    }
}

impl AsyncWrite for ClientSocket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write(context, bytes);
        self.watch(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write_vectored(context, slices);
        self.watch(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}
