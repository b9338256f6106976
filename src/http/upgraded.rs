//! A client's socket after the upgrade of its HTTP connection, without anything of HTTP around it.
//!
//! What hyper hands over is a boxed trait object in front of which it puts the bytes that it read too far. Both cost a
//! connection that lives for days, so the socket that this server accepted is taken out again.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::server::TlsStream;

use super::client_socket::ClientSocket;
use super::tls::WrittenThrough;

type TlsSocket = WrittenThrough<TlsStream<ClientSocket>>;

/// The socket of an upgraded connection. A write is done when the operating system has taken its bytes, with TLS as well.
pub struct UpgradedSocket(Kind);

enum Kind {
    Plain(ClientSocket),
    Tls(Box<TlsSocket>),
    /// Of a server that is not this one.
    Foreign(Box<TokioIo<Upgraded>>),
}

impl UpgradedSocket {
    /// Takes the socket out, and what was read from it after the request.
    pub fn take(upgraded: Upgraded) -> (Self, Bytes) {
        let upgraded = match upgraded.downcast::<TokioIo<ClientSocket>>() {
            Ok(parts) => return (Self(Kind::Plain(parts.io.into_inner())), parts.read_buf),
            Err(upgraded) => upgraded,
        };
        match upgraded.downcast::<TokioIo<TlsSocket>>() {
            Ok(parts) => {
                let socket = Box::new(parts.io.into_inner());
                (Self(Kind::Tls(socket)), parts.read_buf)
            }
            Err(upgraded) => {
                let socket = Box::new(TokioIo::new(upgraded));
                (Self(Kind::Foreign(socket)), Bytes::new())
            }
        }
    }
}

impl std::fmt::Debug for UpgradedSocket {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match &self.0 {
            Kind::Plain(_) => "UpgradedSocket(plain)",
            Kind::Tls(_) => "UpgradedSocket(TLS)",
            Kind::Foreign(_) => "UpgradedSocket(foreign)",
        })
    }
}

/// Calls a method of whichever socket it is.
macro_rules! of_socket {
    ($self:ident, $method:ident($($argument:expr),*)) => {
        match &mut $self.get_mut().0 {
            Kind::Plain(socket) => Pin::new(socket).$method($($argument),*),
            Kind::Tls(socket) => Pin::new(socket).$method($($argument),*),
            Kind::Foreign(socket) => Pin::new(socket).$method($($argument),*),
        }
    };
}

impl AsyncRead for UpgradedSocket {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        of_socket!(self, poll_read(context, buffer))
    }
}

impl AsyncWrite for UpgradedSocket {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        of_socket!(self, poll_write(context, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        of_socket!(self, poll_write_vectored(context, slices))
    }

    fn is_write_vectored(&self) -> bool {
        match &self.0 {
            Kind::Plain(socket) => socket.is_write_vectored(),
            Kind::Tls(socket) => socket.is_write_vectored(),
            Kind::Foreign(socket) => socket.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        of_socket!(self, poll_flush(context))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        of_socket!(self, poll_shutdown(context))
    }
}

#[cfg(test)]
impl UpgradedSocket {
    /// As if a connection on this socket had been upgraded.
    pub(crate) fn of(socket: tokio::net::TcpStream) -> Self {
        use std::time::Duration;

        use super::client_socket::Sockets;
        use crate::telemetry::Metrics;

        let sockets = Sockets::new(1, Duration::from_mins(1), Metrics::new().api);
        Self(Kind::Plain(
            sockets.admit(socket).expect("nobody else has the place"),
        ))
    }

    /// Whether it is a socket that this server accepted, with nothing of HTTP around it.
    pub(super) fn is_bare(&self) -> bool {
        !matches!(self.0, Kind::Foreign(_))
    }
}
