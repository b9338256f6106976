//! Drives a [`Connection`] over a byte stream: reads, writes, heartbeats, time-outs, and the end.
//!
//! Reading stops while the peer does not take what it is sent, so a peer can make the process hold
//! one bounded buffer in each direction and no more.

use std::{io, sync::Arc, time::Duration};

use bytes::{Buf, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf},
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    connection::{self, Connection},
    error::{AmqpError, CONNECTION_FORCED, FRAMING_ERROR},
    frame::{Frame, Layer, put_heartbeat},
    handshake::{self, FRAME_SIZE_MAX, shake_hands},
    mailbox::Mailbox,
    server::Shared,
};

/// From the first byte to `open`.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(20);

/// A peer that takes nothing for this long is cut off.
const WRITE_TIMEOUT: Duration = Duration::from_mins(1);

/// What is left for the peer to take a close, and to hang up.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Answers that wait to be written before no more frames are taken in.
const OUT_BYTES_MAX: usize = 1024 * 1024;

/// When to look at tokens again that hold for longer, or for ever.
const LAPSE_MAX: Duration = Duration::from_hours(24);

const READ_BYTES: usize = 32 * 1024;

/// Serves one connection until either side ends it. `start` is what was read of it already.
pub(crate) async fn serve<S>(
    mut stream: S,
    start: &[u8],
    shared: Arc<Shared>,
    mailbox: Arc<Mailbox>,
    stop: CancellationToken,
) -> Result<(), handshake::Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut input = BytesMut::with_capacity(READ_BYTES);
    input.extend_from_slice(start);
    let idle_timeout_ms = u32::try_from(shared.idle_timeout.as_millis()).unwrap_or(u32::MAX);
    let open = tokio::select! {
        open = timeout(
            HANDSHAKE_TIMEOUT,
            shake_hands(&mut stream, &mut input, &shared.container_id, idle_timeout_ms),
        ) => open.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??,
        () = stop.cancelled() => return Ok(()),
    };
    let (reader, writer) = tokio::io::split(stream);
    let now = Instant::now();
    let transport = Transport {
        reader,
        writer,
        input,
        heartbeat: open
            .idle_timeout_ms
            .map(|ms| Duration::from_millis(u64::from(ms) / 2)),
        // AMQP 1.0 §2.4.5: what is advertised is half of what is granted.
        silence_max: shared.idle_timeout * 2,
        last_read: now,
        last_write: now,
        needs_flush: false,
        connection: Connection::new(
            Arc::clone(&shared),
            Arc::clone(&mailbox),
            open.max_frame_size as usize,
            BytesMut::new(),
        ),
        mailbox,
        shared,
    };
    Ok(transport.run(stop).await?)
}

struct Transport<S> {
    reader: ReadHalf<S>,
    writer: WriteHalf<S>,
    input: BytesMut,
    /// How often the peer wants to hear something.
    heartbeat: Option<Duration>,
    /// How long the peer may say nothing.
    silence_max: Duration,
    last_read: Instant,
    /// When bytes last went out, or the first byte to go out was put there.
    last_write: Instant,
    needs_flush: bool,
    connection: Connection,
    mailbox: Arc<Mailbox>,
    shared: Arc<Shared>,
}

impl<S> Transport<S>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    async fn run(mut self, stop: CancellationToken) -> io::Result<()> {
        let bell = Arc::clone(&self.mailbox.bell);
        loop {
            let was_idle = self.connection.out.is_empty();
            self.take_frames();
            self.connection.on_verdicts();
            self.connection.send();
            if self.connection.is_closed() {
                return self.finish().await;
            }
            if was_idle && !self.connection.out.is_empty() {
                self.last_write = Instant::now();
            }
            let deadline = self.deadline();
            let out = &mut self.connection.out;
            let takes_more = out.len() < OUT_BYTES_MAX;
            let has_output = !out.is_empty() || self.needs_flush;
            self.input.reserve(READ_BYTES);
            tokio::select! {
                read = self.reader.read_buf(&mut self.input), if takes_more => {
                    if read? == 0 {
                        return Ok(());
                    }
                    self.last_read = Instant::now();
                }
                written = write_some(&mut self.writer, out, &mut self.needs_flush), if has_output => {
                    written?;
                    self.last_write = Instant::now();
                }
                () = bell.notified() => {}
                () = sleep_until(deadline) => self.on_deadline()?,
                () = stop.cancelled() => self.connection.close(Some(&AmqpError::new(
                    CONNECTION_FORCED,
                    "The server is shutting down.",
                ))),
            }
        }
    }

    /// Hands all complete frames to the connection, while there is room for its answers.
    fn take_frames(&mut self) {
        while self.connection.out.len() < OUT_BYTES_MAX && !self.connection.is_closed() {
            let frame = match Frame::parse(&self.input, FRAME_SIZE_MAX as usize) {
                Ok(Some(frame)) => frame,
                Ok(None) => return,
                Err(error) => return self.connection.close(Some(&error)),
            };
            let taken = match frame.layer {
                Layer::Amqp if frame.body.is_empty() => Ok(()),
                Layer::Amqp => self.connection.on_frame(frame.channel, frame.body),
                Layer::Sasl => Err(AmqpError::new(FRAMING_ERROR, "SASL is over")),
            };
            let len = frame.len;
            self.input.advance(len);
            if let Err(error) = taken {
                tracing::debug!(error.message = %error, "closed a connection");
                self.connection.close(Some(&error));
            }
        }
    }

    fn deadline(&self) -> Instant {
        let lapse = self.connection.next_token_expiry_ms().map(|at_ms| {
            let left_ms = at_ms.saturating_sub(self.shared.hub.now_ms());
            Instant::now() + Duration::from_millis(left_ms.try_into().unwrap_or(0)).min(LAPSE_MAX)
        });
        let mut deadline = self.last_read + self.silence_max;
        if !self.connection.out.is_empty() {
            deadline = deadline.min(self.last_write + WRITE_TIMEOUT);
        } else if let Some(heartbeat) = self.heartbeat {
            deadline = deadline.min(self.last_write + heartbeat);
        }
        lapse.map_or(deadline, |lapse| deadline.min(lapse))
    }

    fn on_deadline(&mut self) -> io::Result<()> {
        let now = Instant::now();
        self.connection.on_token_time(self.shared.hub.now_ms());
        if now >= self.last_read + self.silence_max {
            self.connection.close(Some(&connection::idle()));
        } else if !self.connection.out.is_empty() {
            if now >= self.last_write + WRITE_TIMEOUT {
                return Err(io::ErrorKind::TimedOut.into());
            }
        } else if self
            .heartbeat
            .is_some_and(|heartbeat| now >= self.last_write + heartbeat)
        {
            put_heartbeat(&mut self.connection.out);
        }
        Ok(())
    }

    /// Writes what is left and waits for the peer to hang up, so that it gets to read the close.
    async fn finish(mut self) -> io::Result<()> {
        let last_words = async {
            self.writer.write_all_buf(&mut self.connection.out).await?;
            self.writer.shutdown().await?;
            let mut ignored = [0; 4096];
            while self.reader.read(&mut ignored).await? > 0 {}
            Ok(())
        };
        timeout(CLOSE_TIMEOUT, last_words).await.unwrap_or(Ok(()))
    }
}

async fn write_some<W: AsyncWrite + Unpin>(
    writer: &mut W,
    out: &mut BytesMut,
    needs_flush: &mut bool,
) -> io::Result<()> {
    if out.is_empty() {
        writer.flush().await?;
        *needs_flush = false;
    } else {
        if writer.write_buf(out).await? == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        *needs_flush = true;
    }
    Ok(())
}
