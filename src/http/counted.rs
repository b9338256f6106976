//! A socket that holds a place among the open ones.
//!
//! The place goes with the socket and not with the task that serves it: an upgrade hands the socket to another owner,
//! and it counts until that owner drops it.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;

use crate::telemetry::metrics::ApiMetrics;

/// A TCP socket that frees its place when it is dropped.
pub(super) struct Counted {
    socket: TcpStream,
    metrics: Arc<ApiMetrics>,
    _place: OwnedSemaphorePermit,
}

impl Counted {
    pub(super) fn new(
        socket: TcpStream,
        place: OwnedSemaphorePermit,
        metrics: Arc<ApiMetrics>,
    ) -> Self {
        metrics.open_sockets.inc();
        Self { socket, metrics, _place: place }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.metrics.open_sockets.dec();
    }
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(context, buffer)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(context, slices)
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
