//! How a connection starts: SASL, which is a formality as tokens come later, then `open`.
//!
//! Clients send ahead without waiting for answers, so everything is read from one buffer, and what
//! follows the `open` stays in it.

use std::io;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::{
    connection::CHANNEL_MAX,
    error::{AmqpError, FRAMING_ERROR},
    frame::{AMQP_HEADER, FRAME_SIZE_MIN, Frame, Layer, SASL_HEADER, put_frame},
    performative::{
        Open, Performative, decode_sasl_init, put_close, put_open, put_sasl_mechanisms,
        put_sasl_outcome,
    },
};

/// The largest frame that devhub takes.
pub(crate) const FRAME_SIZE_MAX: u32 = 65_536;

/// What the .NET client looks for, and what all others use.
const MECHANISMS: [&str; 2] = ["MSSBCBS", "ANONYMOUS"];

const SASL_OK: u8 = 0;
const SASL_AUTH: u8 = 1;

/// Why no connection came about.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("the peer speaks something other than AMQP 1.0 with SASL")]
    Protocol,
    #[error("the peer chose a SASL mechanism that was not offered")]
    Mechanism,
    #[error(transparent)]
    Amqp(#[from] AmqpError),
}

/// Leads a peer up to its `open` and answers that. Bytes read beyond it are left in `input`.
pub(crate) async fn shake_hands<S>(
    stream: &mut S,
    input: &mut BytesMut,
    container_id: &str,
    idle_timeout_ms: u32,
) -> Result<Open, Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut out = BytesMut::new();
    if read_header(stream, input).await? != SASL_HEADER {
        // AMQP 1.0 §2.2: tell the peer what would be spoken here, and hang up.
        stream.write_all(&SASL_HEADER).await?;
        stream.shutdown().await?;
        return Err(Error::Protocol);
    }
    out.extend_from_slice(&SASL_HEADER);
    put_frame(&mut out, Layer::Sasl, 0, |out| {
        put_sasl_mechanisms(out, &MECHANISMS);
    });
    write(stream, &mut out).await?;

    let offered = read_frame(stream, input, Layer::Sasl, |body| {
        let mechanism = decode_sasl_init(body)?;
        Ok(MECHANISMS.contains(&mechanism))
    })
    .await?;
    put_frame(&mut out, Layer::Sasl, 0, |out| {
        put_sasl_outcome(out, if offered { SASL_OK } else { SASL_AUTH });
    });
    write(stream, &mut out).await?;
    if !offered {
        stream.shutdown().await?;
        return Err(Error::Mechanism);
    }

    if read_header(stream, input).await? != AMQP_HEADER {
        return Err(Error::Protocol);
    }
    out.extend_from_slice(&AMQP_HEADER);
    write(stream, &mut out).await?;
    let open = read_frame(
        stream,
        input,
        Layer::Amqp,
        |body| match Performative::decode(body)? {
            Performative::Open(open) if (open.max_frame_size as usize) < FRAME_SIZE_MIN => {
                Err(framing("max-frame-size is below 512"))
            }
            Performative::Open(open) => Ok(open),
            _ => Err(framing("the first frame is not an open")),
        },
    )
    .await;
    put_frame(&mut out, Layer::Amqp, 0, |out| {
        put_open(
            out,
            container_id,
            FRAME_SIZE_MAX,
            CHANNEL_MAX,
            idle_timeout_ms,
        );
    });
    if let Err(Error::Amqp(error)) = &open {
        put_frame(&mut out, Layer::Amqp, 0, |out| {
            put_close(out, Some(error));
        });
    }
    write(stream, &mut out).await?;
    open
}

async fn read_header<S>(stream: &mut S, input: &mut BytesMut) -> Result<[u8; 8], Error>
where
    S: AsyncRead + Unpin,
{
    loop {
        if let Some(header) = input.first_chunk::<8>() {
            let header = *header;
            input.advance(header.len());
            return Ok(header);
        }
        more(stream, input).await?;
    }
}

async fn read_frame<S, T>(
    stream: &mut S,
    input: &mut BytesMut,
    layer: Layer,
    take: impl FnOnce(&[u8]) -> Result<T, AmqpError>,
) -> Result<T, Error>
where
    S: AsyncRead + Unpin,
{
    loop {
        if let Some(frame) = Frame::parse(input, FRAME_SIZE_MAX as usize)? {
            let len = frame.len;
            let taken = if frame.layer == layer {
                take(frame.body)
            } else {
                Err(framing("a frame of the other layer came"))
            };
            input.advance(len);
            return Ok(taken?);
        }
        more(stream, input).await?;
    }
}

async fn more<S: AsyncRead + Unpin>(stream: &mut S, input: &mut BytesMut) -> io::Result<()> {
    match stream.read_buf(input).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}

async fn write<S: AsyncWrite + Unpin>(stream: &mut S, out: &mut BytesMut) -> io::Result<()> {
    stream.write_all_buf(out).await?;
    stream.flush().await
}

fn framing(description: &str) -> AmqpError {
    AmqpError::new(FRAMING_ERROR, description)
}
