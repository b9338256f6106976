//! Frames (AMQP 1.0 §2.3): found in a buffer that grows as bytes come in, and appended to one.

use bytes::{BufMut, BytesMut};

use super::error::{AmqpError, FRAMING_ERROR};

/// What a peer may be asked to put up with at least, and what SASL frames are limited to.
pub(crate) const FRAME_SIZE_MIN: usize = 512;

const HEADER_LEN: usize = 8;

/// What starts a connection, or a layer of it.
pub(crate) const AMQP_HEADER: [u8; 8] = *b"AMQP\x00\x01\x00\x00";
pub(crate) const SASL_HEADER: [u8; 8] = *b"AMQP\x03\x01\x00\x00";

/// What a frame belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layer {
    Amqp,
    Sasl,
}

/// One frame, borrowing from the buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    pub(crate) layer: Layer,
    pub(crate) channel: u16,
    /// Empty in a heartbeat.
    pub(crate) body: &'a [u8],
    /// How many bytes of the buffer the frame takes.
    pub(crate) len: usize,
}

impl<'a> Frame<'a> {
    /// The frame at the start of `bytes`; `None` when more bytes are needed.
    pub(crate) fn parse(bytes: &'a [u8], size_max: usize) -> Result<Option<Self>, AmqpError> {
        let Some((header, _)) = bytes.split_first_chunk::<HEADER_LEN>() else {
            return Ok(None);
        };
        let [s0, s1, s2, s3, doff, frame_type, c0, c1] = *header;
        let len = u32::from_be_bytes([s0, s1, s2, s3]) as usize;
        let body_at = usize::from(doff) * 4;
        if len > size_max {
            return Err(framing(format!(
                "a frame of {len} bytes exceeds the limit of {size_max}"
            )));
        }
        if body_at < HEADER_LEN || body_at > len {
            return Err(framing("the data offset of a frame lies outside of it"));
        }
        let layer = match frame_type {
            0 => Layer::Amqp,
            1 => Layer::Sasl,
            _ => return Err(framing("a frame has an unknown type")),
        };
        Ok(bytes.get(body_at..len).map(|body| Self {
            layer,
            channel: u16::from_be_bytes([c0, c1]),
            body,
            len,
        }))
    }
}

/// Appends a frame whose body `write` appends.
pub(crate) fn put_frame(
    out: &mut BytesMut,
    layer: Layer,
    channel: u16,
    write: impl FnOnce(&mut BytesMut),
) {
    let at = out.len();
    out.put_u32(0);
    out.put_u8(2);
    out.put_u8(match layer {
        Layer::Amqp => 0,
        Layer::Sasl => 1,
    });
    out.put_u16(channel);
    write(out);
    let len = u32::try_from(out.len() - at).expect("frames are far smaller than 4 GiB");
    out[at..at + 4].copy_from_slice(&len.to_be_bytes());
}

/// Appends the empty frame that keeps a connection alive.
pub(crate) fn put_heartbeat(out: &mut BytesMut) {
    put_frame(out, Layer::Amqp, 0, |_| {});
}

fn framing(description: impl Into<String>) -> AmqpError {
    AmqpError::new(FRAMING_ERROR, description)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_frame_is_found_once_it_is_complete() {
        let mut out = BytesMut::new();
        put_frame(&mut out, Layer::Amqp, 7, |out| out.put_slice(b"body"));
        for len in 0..out.len() {
            assert_eq!(Frame::parse(&out[..len], 512), Ok(None));
        }
        let frame = Frame::parse(&out, 512).unwrap().unwrap();
        assert_eq!(
            (frame.channel, frame.body, frame.len),
            (7, &b"body"[..], 12)
        );
    }

    #[test]
    fn frames_that_lie_are_refused() {
        for frame in [
            [0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0],
            [0, 0, 0, 8, 1, 0, 0, 0],
            [0, 0, 0, 8, 3, 0, 0, 0],
            [0, 0, 0, 4, 2, 0, 0, 0],
            [0, 0, 0, 8, 2, 9, 0, 0],
        ] {
            assert!(Frame::parse(&frame, 512).is_err(), "{frame:?}");
        }
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = Frame::parse(&bytes, 512);
        }
    }
}
