//! The header of a frame: reading a client's, writing ours (RFC 6455 §5.2).

use std::ops::Deref;

use super::incoming::Violation;

/// The longest header that a server writes: no mask, a length in eight bytes.
pub(super) const HEADER_BYTES_MAX: usize = 10;

/// Longest payload of a control frame (RFC 6455 §5.5).
pub(super) const CONTROL_BYTES_MAX: usize = 125;

const FINAL: u8 = 0x80;
const RESERVED: u8 = 0x70;
const OPCODE: u8 = 0x0f;
const MASKED: u8 = 0x80;
const LENGTH: u8 = 0x7f;
/// Stand in the place of a length that follows in two or eight bytes.
const TWO_BYTES: u8 = 126;
const EIGHT_BYTES: u8 = 127;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opcode {
    /// The next part of a message.
    Continuation = 0,
    /// A text message, or the first part of one.
    Text = 1,
    /// A binary message, or the first part of one.
    Binary = 2,
    /// The end of what its sender says.
    Close = 8,
    /// A question for a sign of life.
    Ping = 9,
    /// The answer to that.
    Pong = 10,
}

impl Opcode {
    /// Control frames may come between the parts of a message.
    pub(super) fn is_control(self) -> bool {
        self as u8 >= Self::Close as u8
    }
}

/// What a client's frame begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameHeader {
    /// Whether the message ends with this frame.
    pub(super) is_final: bool,
    /// What the frame is.
    pub(super) opcode: Opcode,
    /// What its payload is masked with.
    pub(super) mask: [u8; 4],
    /// Length of the payload.
    pub(super) payload_bytes: u64,
    /// Length of the header itself.
    pub(super) header_bytes: usize,
}

impl FrameHeader {
    /// Reads the header at the beginning of `bytes`; `None` when it is not all there. What the first two bytes show to be
    /// wrong is refused by them alone.
    pub(super) fn read(bytes: &[u8]) -> Result<Option<Self>, Violation> {
        let [first, second, rest @ ..] = bytes else {
            return Ok(None);
        };
        if first & RESERVED != 0 || second & MASKED == 0 {
            return Err(Violation::Protocol);
        }
        let opcode = match first & OPCODE {
            0 => Opcode::Continuation,
            1 => Opcode::Text,
            2 => Opcode::Binary,
            8 => Opcode::Close,
            9 => Opcode::Ping,
            10 => Opcode::Pong,
            _ => return Err(Violation::Protocol),
        };
        let (is_final, short) = (first & FINAL != 0, second & LENGTH);
        if opcode.is_control() && (!is_final || usize::from(short) > CONTROL_BYTES_MAX) {
            return Err(Violation::Protocol);
        }
        let length = match short {
            TWO_BYTES => rest
                .split_first_chunk()
                .map(|(length, rest)| (u64::from(u16::from_be_bytes(*length)), rest)),
            EIGHT_BYTES => rest
                .split_first_chunk()
                .map(|(length, rest)| (u64::from_be_bytes(*length), rest)),
            short => Some((u64::from(short), rest)),
        };
        let Some((payload_bytes, rest)) = length else {
            return Ok(None);
        };
        Ok(rest.split_first_chunk().map(|(mask, payload)| Self {
            is_final,
            opcode,
            mask: *mask,
            payload_bytes,
            header_bytes: bytes.len() - payload.len(),
        }))
    }
}

/// The header of a whole message of ours.
pub(super) fn header_of(opcode: Opcode, payload_bytes: usize) -> OwnHeader {
    let first = FINAL | opcode as u8;
    let mut bytes = [0; HEADER_BYTES_MAX];
    let len = match (u8::try_from(payload_bytes), u16::try_from(payload_bytes)) {
        (Ok(length @ ..TWO_BYTES), _) => {
            bytes[..2].copy_from_slice(&[first, length]);
            2
        }
        (_, Ok(length)) => {
            bytes[..2].copy_from_slice(&[first, TWO_BYTES]);
            bytes[2..4].copy_from_slice(&length.to_be_bytes());
            4
        }
        _ => {
            bytes[..2].copy_from_slice(&[first, EIGHT_BYTES]);
            bytes[2..].copy_from_slice(&(payload_bytes as u64).to_be_bytes());
            HEADER_BYTES_MAX
        }
    };
    OwnHeader { bytes, len }
}

/// The bytes of a header of ours, which has no mask.
#[derive(Clone, Copy, Debug)]
pub(super) struct OwnHeader {
    bytes: [u8; HEADER_BYTES_MAX],
    len: usize,
}

impl Deref for OwnHeader {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// Masks or unmasks a payload (RFC 6455 §5.3).
pub(super) fn mask(payload: &mut [u8], mask: [u8; 4]) {
    let mut chunks = payload.chunks_exact_mut(4);
    for chunk in &mut chunks {
        for (byte, mask) in chunk.iter_mut().zip(mask) {
            *byte ^= mask;
        }
    }
    for (byte, mask) in chunks.into_remainder().iter_mut().zip(mask) {
        *byte ^= mask;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_take_the_shortest_form() {
        for (payload_bytes, expected) in [
            (0, &[0x81, 0][..]),
            (125, &[0x81, 125]),
            (126, &[0x81, 126, 0, 126]),
            (65_535, &[0x81, 126, 255, 255]),
            (65_536, &[0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ] {
            assert_eq!(*header_of(Opcode::Text, payload_bytes), *expected);
        }
    }

    #[test]
    fn a_header_is_read_when_it_is_all_there() {
        for (payload_bytes, length) in [
            (5, &[0x85_u8][..]),
            (126, &[0xfe, 0, 126]),
            (65_535, &[0xfe, 255, 255]),
            (65_536, &[0xff, 0, 0, 0, 0, 0, 1, 0, 0]),
        ] {
            let header = [&[0x02], length, &[1, 2, 3, 4]].concat();
            for bytes in 0..header.len() {
                assert_eq!(FrameHeader::read(&header[..bytes]), Ok(None));
            }
            let expected = FrameHeader {
                is_final: false,
                opcode: Opcode::Binary,
                mask: [1, 2, 3, 4],
                payload_bytes,
                header_bytes: header.len(),
            };
            let followed = [header.as_slice(), &[9; 3]].concat();
            assert_eq!(FrameHeader::read(&followed), Ok(Some(expected)));
        }
    }

    #[test]
    fn a_mask_is_its_own_inverse_and_goes_round() {
        let plain: Vec<u8> = (0..=20).collect();
        for bytes in 0..plain.len() {
            let mut payload = plain[..bytes].to_vec();
            mask(&mut payload, [1, 2, 4, 8]);
            for (place, byte) in payload.iter().enumerate() {
                assert_eq!(*byte, plain[place] ^ [1, 2, 4, 8][place % 4]);
            }
            mask(&mut payload, [1, 2, 4, 8]);
            assert_eq!(payload, plain[..bytes]);
        }
    }
}
