//! Frames that leave together, in the making.

use bytes::{Buf as _, Bytes};

use super::frame_header::{HEADER_BYTES_MAX, Opcode, header_of};

/// Frames one behind the other, in memory that is lent. They leave in one write.
#[derive(Debug)]
pub(in crate::push) struct Burst<'a> {
    bytes: &'a mut Vec<u8>,
}

impl<'a> Burst<'a> {
    /// None yet, in front of which `bytes` may hold others.
    pub(in crate::push) fn new(bytes: &'a mut Vec<u8>) -> Self {
        Self { bytes }
    }

    /// How many bytes there are.
    pub(in crate::push) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Makes room for about so many bytes more.
    pub(in crate::push) fn reserve(&mut self, bytes: usize) {
        self.bytes.reserve(bytes);
    }

    /// What was added since there were that many bytes.
    pub(in crate::push) fn since(&self, len: usize) -> &[u8] {
        &self.bytes[len..]
    }

    /// Adds a frame that was written before.
    pub(in crate::push) fn frame(&mut self, frame: &[u8]) {
        self.bytes.extend_from_slice(frame);
    }

    /// Adds the frame of a text that `write` appends to what it is given. It must be UTF-8, and should have about
    /// `expected_bytes`.
    pub(in crate::push) fn text(
        &mut self,
        expected_bytes: usize,
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        let bytes = &mut *self.bytes;
        let start = bytes.len();
        let expected = header_of(Opcode::Text, expected_bytes);
        bytes.extend_from_slice(&expected);
        let text = bytes.len();
        write(bytes);
        // How long the header is depends on the length that is only known now.
        let header = header_of(Opcode::Text, bytes.len() - text);
        if header.len() > expected.len() {
            bytes.splice(start..text, header.iter().copied());
            return;
        }
        if header.len() < expected.len() {
            bytes.copy_within(text.., start + header.len());
            bytes.truncate(bytes.len() - (expected.len() - header.len()));
        }
        bytes[start..start + header.len()].copy_from_slice(&header);
    }
}

/// The texts of a burst, for those who get them without a WebSocket.
pub(in crate::push) fn texts(fill: impl FnOnce(&mut Burst<'_>)) -> Vec<Bytes> {
    let mut bytes = Vec::new();
    fill(&mut Burst::new(&mut bytes));
    let (mut rest, mut texts) = (Bytes::from(bytes), Vec::new());
    while !rest.is_empty() {
        let (header_bytes, text_bytes) = lengths(&rest);
        rest.advance(header_bytes);
        texts.push(rest.split_to(text_bytes));
    }
    texts
}

/// How long header and payload are of a frame of ours.
fn lengths(frame: &[u8]) -> (usize, usize) {
    let as_usize = |bytes: &[u8]| {
        bytes
            .iter()
            .fold(0, |sum, byte| sum << 8 | usize::from(*byte))
    };
    match frame[1] {
        126 => (4, as_usize(&frame[2..4])),
        127 => (HEADER_BYTES_MAX, as_usize(&frame[2..HEADER_BYTES_MAX])),
        short => (2, usize::from(short)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_has_the_header_of_its_length_whatever_was_expected() {
        for expected_bytes in [0, 126, 65_536] {
            let mut bytes = Vec::new();
            let mut burst = Burst::new(&mut bytes);
            let mut expected = Vec::new();
            for text_bytes in [0, 1, 125, 126, 65_535, 65_536, 3] {
                let text = vec![b'x'; text_bytes];
                let write = |bytes: &mut Vec<u8>| bytes.extend_from_slice(&text);
                let before = burst.len();
                burst.text(expected_bytes, write);
                let header = header_of(Opcode::Text, text_bytes);
                let frame = [&*header, &text].concat();
                assert_eq!(burst.since(before), frame);
                assert_eq!(lengths(&frame), (header.len(), text_bytes));
                expected.extend(frame);
            }
            assert_eq!(bytes, expected);
        }
    }

    #[test]
    fn texts_come_out_as_they_were_written() {
        let written = ["", "a", &"b".repeat(126), &"c".repeat(70_000), "d"];
        let texts = texts(|burst| {
            for text in written {
                burst.text(0, |bytes| bytes.extend_from_slice(text.as_bytes()));
            }
        });
        assert_eq!(texts, written);
    }
}
