//! Requests on connections of their own, for a server that closes each after its answer.
//!
//! The generator writes to one connection. A thread, on the generator's core like the generator itself, takes the
//! requests off it, sends one after the other to the server, so that their order holds, and hands the answers back. It
//! ends with the generator's connection, or when the server fails to answer.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// How long a server may take to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// The thread that forwards. Ended when dropped.
#[derive(Debug)]
pub(super) struct Forwarder {
    stream: TcpStream,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        // It may be closed already, which ends the thread as well.
        let _ = self.stream.shutdown(Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Starts forwarding to the server; requests are written to the returned connection with [`put`].
pub(super) fn start(server: SocketAddr) -> io::Result<(TcpStream, Forwarder)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let generator = TcpStream::connect(listener.local_addr()?)?;
    let (stream, _) = listener.accept()?;
    for end in [&generator, &stream] {
        end.set_nodelay(true)?;
    }
    generator.set_nonblocking(true)?;
    let thread_end = stream.try_clone()?;
    let thread = thread::Builder::new().spawn(move || {
        // Whatever ended it, the generator finds its connection closed and says so.
        let _ = forward(&thread_end, server);
        let _ = thread_end.shutdown(Shutdown::Both);
    })?;
    let forwarder = Forwarder {
        stream,
        thread: Some(thread),
    };
    Ok((generator, forwarder))
}

/// Appends one request, of these parts.
pub(super) fn put(request: &[&[u8]], out: &mut Vec<u8>) {
    let length: usize = request.iter().map(|part| part.len()).sum();
    let length = u32::try_from(length).expect("a request is small");
    out.extend_from_slice(&length.to_be_bytes());
    for part in request {
        out.extend_from_slice(part);
    }
}

fn forward(mut generator: &TcpStream, server: SocketAddr) -> io::Result<()> {
    let mut length = [0; 4];
    let mut request = Vec::new();
    let mut answer = Vec::new();
    loop {
        generator.read_exact(&mut length)?;
        request.resize(u32::from_be_bytes(length) as usize, 0);
        generator.read_exact(&mut request)?;
        let mut connection = TcpStream::connect(server)?;
        connection.set_nodelay(true)?;
        connection.set_read_timeout(Some(ANSWER_LIMIT))?;
        connection.write_all(&request)?;
        answer.clear();
        connection.read_to_end(&mut answer)?;
        generator.write_all(&answer)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_request_gets_a_connection_and_its_answer_comes_back() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let (mut generator, forwarder) = start(listener.local_addr().unwrap()).unwrap();
        generator.set_nonblocking(false).unwrap();
        let mut requests = Vec::new();
        put(&[b"on", b"e"], &mut requests);
        put(&[b"two"], &mut requests);
        generator.write_all(&requests).unwrap();
        for expected in [b"one", b"two"] {
            let (mut connection, _) = listener.accept().unwrap();
            let mut request = [0; 3];
            connection.read_exact(&mut request).unwrap();
            assert_eq!(&request, expected);
            connection.write_all(&request).unwrap();
            drop(connection);
            let mut answer = [0; 3];
            generator.read_exact(&mut answer).unwrap();
            assert_eq!(&answer, expected);
        }
        drop(forwarder);
        assert_eq!(generator.read(&mut [0]).unwrap(), 0);
    }
}
