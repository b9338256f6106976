//! A TLS stream that does not run ahead of its socket.
//!
//! TLS takes in tens of kilobytes that the socket has no room for. Whoever gives memory to a plain socket knows that it
//! has left when the write is done; a revocation answers on the strength of that. Here it holds for TLS as well.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A stream whose writes are done only when it has nothing left to pass on.
#[derive(Debug)]
pub(in crate::http) struct WrittenThrough<S> {
    stream: S,
    /// How much of the current write the stream has taken, while it still passes it on.
    taken: Option<usize>,
}

impl<S: AsyncWrite + Unpin> WrittenThrough<S> {
    pub(in crate::http) fn new(stream: S) -> Self {
        Self {
            stream,
            taken: None,
        }
    }

    /// A write that waits is asked for again with the same bytes first, so what was taken before still counts.
    fn poll_through(
        &mut self,
        context: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut S>, &mut Context<'_>) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        let taken = match self.taken {
            Some(taken) => taken,
            None => ready!(write(Pin::new(&mut self.stream), context))?,
        };
        self.taken = Some(taken);
        ready!(Pin::new(&mut self.stream).poll_flush(context))?;
        self.taken = None;
        Poll::Ready(Ok(taken))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for WrittenThrough<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for WrittenThrough<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_through(context, |stream, context| stream.poll_write(context, bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_through(context, |stream, context| {
            stream.poll_write_vectored(context, slices)
        })
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures_util::FutureExt as _;
    use rustls::crypto::aws_lc_rs;
    use rustls_pki_types::{PrivateKeyDer, ServerName};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
    use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

    use super::*;

    /// What the transport below TLS holds: less than one write.
    const SOCKET_BYTES: usize = 1024;
    const WRITE_BYTES: usize = 7 * 1024;

    type ServerStream = WrittenThrough<server::TlsStream<DuplexStream>>;

    async fn connected() -> (ServerStream, client::TlsStream<DuplexStream>) {
        let certified = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let provider = Arc::new(aws_lc_rs::default_provider());
        let key = PrivateKeyDer::try_from(certified.signing_key.serialize_der()).unwrap();
        let server = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certified.cert.der().clone()], key)
            .unwrap();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(certified.cert.der().clone()).unwrap();
        let client = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let (server_end, client_end) = duplex(SOCKET_BYTES);
        let name = ServerName::try_from("localhost").unwrap();
        let (server, client) = tokio::join!(
            TlsAcceptor::from(Arc::new(server)).accept(server_end),
            TlsConnector::from(Arc::new(client)).connect(name, client_end),
        );
        (WrittenThrough::new(server.unwrap()), client.unwrap())
    }

    #[tokio::test]
    async fn a_write_is_done_when_the_socket_has_all_of_it() {
        let (mut server, mut client) = connected().await;
        let sent = vec![7; WRITE_BYTES];
        let mut received = vec![0; WRITE_BYTES];
        let mut write = Box::pin(server.write_all(&sent));
        assert!(
            write.as_mut().now_or_never().is_none(),
            "a write was done that the socket has no room for"
        );
        let (written, read) = tokio::join!(write, client.read_exact(&mut received));
        written.unwrap();
        read.unwrap();
        assert_eq!(received, sent);
    }

    #[tokio::test]
    async fn vectored_writes_arrive_once_and_in_order() {
        let (mut server, mut client) = connected().await;
        assert!(server.is_write_vectored());
        let sent: Vec<u8> = (0..=u8::MAX).cycle().take(10 * WRITE_BYTES).collect();
        let write = async {
            let mut rest = sent.as_slice();
            while !rest.is_empty() {
                let (head, tail) = rest.split_at(rest.len().min(5));
                let slices = [IoSlice::new(head), IoSlice::new(tail)];
                let written = server.write_vectored(&slices).await.unwrap();
                rest = &rest[written..];
            }
            server.shutdown().await.unwrap();
        };
        let mut received = Vec::new();
        let (read, ()) = tokio::join!(client.read_to_end(&mut received), write);
        read.unwrap();
        assert!(received == sent);
    }
}
