//! What a client sends: bytes in, whole messages out.
//!
//! Pure and total: any input gives messages or a [`Violation`], and how the input is cut into pieces makes no difference.
//! Text is checked with each fragment. Memory is kept only for what is not a whole message yet.

use super::frame_header::{FrameHeader, Opcode, mask};

/// A whole message, or a control frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::push) enum Message {
    /// A text message.
    Text(String),
    /// A binary message.
    Binary(Vec<u8>),
    /// A ping, with the payload of its answer.
    Ping(Box<[u8]>),
    /// A pong.
    Pong,
    /// The client sends nothing more. With the payload of the close frame that answers it.
    Close(Box<[u8]>),
}

/// How a client broke the protocol or its bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::push) enum Violation {
    /// A frame is not as RFC 6455 wants it.
    #[error("malformed frame")]
    Protocol,
    /// A text is no UTF-8.
    #[error("text is not UTF-8")]
    NotUtf8,
    /// A message is longer than allowed.
    #[error("message too long")]
    TooLong,
}

impl Violation {
    /// What the client is told (RFC 6455 §7.4.1).
    pub(in crate::push) fn close_code(self) -> u16 {
        match self {
            Self::Protocol => 1002,
            Self::NotUtf8 => 1007,
            Self::TooLong => 1009,
        }
    }
}

/// What came from a client and is not a whole message yet.
#[derive(Debug, Default)]
pub(super) struct Incoming {
    /// Frames as they came.
    bytes: Vec<u8>,
    /// Where the first frame begins that has not been read.
    start: usize,
    /// The message of which not all frames were read.
    unfinished: Option<Box<Unfinished>>,
}

#[derive(Debug, Default)]
struct Unfinished {
    is_text: bool,
    payload: Vec<u8>,
    /// How much of it is known to be UTF-8.
    valid_bytes: usize,
}

impl Incoming {
    /// Takes the next bytes.
    pub(super) fn add(&mut self, bytes: &[u8]) {
        self.bytes.drain(..self.start);
        self.start = 0;
        self.bytes.extend_from_slice(bytes);
    }

    /// Whether nothing is kept.
    #[cfg(test)]
    pub(super) fn holds_nothing(&self) -> bool {
        self.bytes.capacity() == 0 && self.unfinished.is_none()
    }

    /// The next message; `None` when more bytes are needed. After a violation there is none.
    pub(super) fn next(&mut self, message_bytes_max: usize) -> Result<Option<Message>, Violation> {
        loop {
            let bytes = &mut self.bytes[self.start..];
            let Some(header) = FrameHeader::read(bytes)? else {
                break;
            };
            if !header.opcode.is_control() {
                self.check(header, message_bytes_max)?;
            }
            let bytes = &mut self.bytes[self.start..];
            let payload_bytes = usize::try_from(header.payload_bytes);
            let payload_bytes = payload_bytes.map_err(|_| Violation::TooLong)?;
            let Some(payload) = bytes[header.header_bytes..].get_mut(..payload_bytes) else {
                break;
            };
            mask(payload, header.mask);
            let message = match header.opcode {
                Opcode::Text | Opcode::Binary | Opcode::Continuation => {
                    data(&mut self.unfinished, header, payload)?
                }
                Opcode::Ping => Some(Message::Ping((&*payload).into())),
                Opcode::Pong => Some(Message::Pong),
                Opcode::Close => Some(Message::Close(answer_to_close(payload)?)),
            };
            self.start += header.header_bytes + payload_bytes;
            if message.is_some() {
                self.give_back();
                return Ok(message);
            }
        }
        self.give_back();
        Ok(None)
    }

    /// Whether the frame may come now, and is not too long for its message.
    fn check(&self, header: FrameHeader, message_bytes_max: usize) -> Result<(), Violation> {
        let is_continuation = header.opcode == Opcode::Continuation;
        if is_continuation != self.unfinished.is_some() {
            return Err(Violation::Protocol);
        }
        let before = self.unfinished.as_ref();
        let before = before.map_or(0, |unfinished| unfinished.payload.len());
        if header.payload_bytes > (message_bytes_max - before) as u64 {
            return Err(Violation::TooLong);
        }
        Ok(())
    }

    /// Keeps no memory when nothing is left in it.
    fn give_back(&mut self) {
        if self.start == self.bytes.len() {
            self.bytes = Vec::new();
            self.start = 0;
        }
    }
}

/// Takes the payload of a data frame. Returns the message that it completes.
fn data(
    unfinished: &mut Option<Box<Unfinished>>,
    header: FrameHeader,
    payload: &[u8],
) -> Result<Option<Message>, Violation> {
    let is_text = header.opcode == Opcode::Text;
    if header.is_final && header.opcode != Opcode::Continuation {
        return whole(is_text, payload.to_vec()).map(Some);
    }
    let message = unfinished.get_or_insert_with(|| {
        Box::new(Unfinished {
            is_text,
            ..Unfinished::default()
        })
    });
    message.payload.extend_from_slice(payload);
    if message.is_text {
        match std::str::from_utf8(&message.payload[message.valid_bytes..]) {
            Ok(_) => message.valid_bytes = message.payload.len(),
            // The rest of a character may come with the next fragment.
            Err(error) if error.error_len().is_none() => {
                message.valid_bytes += error.valid_up_to();
            }
            Err(_) => return Err(Violation::NotUtf8),
        }
    }
    if !header.is_final {
        return Ok(None);
    }
    let Some(message) = unfinished.take() else {
        return Ok(None);
    };
    whole(message.is_text, message.payload).map(Some)
}

fn whole(is_text: bool, payload: Vec<u8>) -> Result<Message, Violation> {
    if !is_text {
        return Ok(Message::Binary(payload));
    }
    String::from_utf8(payload)
        .map(Message::Text)
        .map_err(|_| Violation::NotUtf8)
}

/// The payload of the frame that answers a close frame: the same, unless its code must not be sent (RFC 6455 §5.5.1,
/// §7.4).
fn answer_to_close(payload: &[u8]) -> Result<Box<[u8]>, Violation> {
    let Some((code, reason)) = payload.split_first_chunk() else {
        return match payload {
            [] => Ok(Box::default()),
            _ => Err(Violation::Protocol),
        };
    };
    std::str::from_utf8(reason).map_err(|_| Violation::NotUtf8)?;
    match u16::from_be_bytes(*code) {
        1000..=1003 | 1007..=1014 | 3000..=4999 => Ok(payload.into()),
        _ => Ok(Violation::Protocol.close_code().to_be_bytes().into()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::push::websocket_conformance::Frame;

    const BYTES_MAX: usize = 100_000;

    /// Everything that comes of the bytes, added in pieces of these lengths.
    fn read(
        bytes: &[u8],
        pieces: impl IntoIterator<Item = usize>,
    ) -> (Vec<Message>, Option<Violation>, Incoming) {
        let (mut incoming, mut all) = (Incoming::default(), Vec::new());
        let (mut rest, mut pieces) = (bytes, pieces.into_iter());
        loop {
            loop {
                match incoming.next(BYTES_MAX) {
                    Ok(Some(message)) => all.push(message),
                    Ok(None) => break,
                    Err(violation) => return (all, Some(violation), incoming),
                }
            }
            if rest.is_empty() {
                return (all, None, incoming);
            }
            let bytes = pieces.next().unwrap_or(rest.len()).clamp(1, rest.len());
            let (piece, others) = rest.split_at(bytes);
            incoming.add(piece);
            rest = others;
        }
    }

    #[test]
    fn messages_of_every_length_come_out_and_leave_nothing_behind() {
        for bytes in [0, 1, 125, 126, 127, 65_535, 65_536, BYTES_MAX] {
            let payload = vec![b'x'; bytes];
            let text = Frame::last(Frame::TEXT, &payload).bytes();
            for pieces in [vec![], vec![1; 20], vec![7; text.len()]] {
                let (all, violation, incoming) = read(&text, pieces);
                let expected = String::from_utf8(payload.clone()).unwrap();
                assert_eq!((all, violation), (vec![Message::Text(expected)], None));
                assert!(incoming.holds_nothing());
            }
        }
    }

    #[test]
    fn what_is_unfinished_is_kept_and_no_more() {
        let frames = [
            Frame::text("whole").bytes(),
            Frame::unfinished(Frame::TEXT, "begun").bytes(),
        ];
        let (all, violation, mut incoming) = read(&frames.concat(), []);
        assert_eq!((all.len(), violation), (1, None));
        assert!(!incoming.holds_nothing());
        incoming.add(&Frame::last(Frame::CONTINUATION, "ended").bytes());
        let whole = Message::Text("begunended".to_owned());
        assert_eq!(incoming.next(BYTES_MAX), Ok(Some(whole)));
        assert!(incoming.holds_nothing());
    }

    fn any_frame() -> impl Strategy<Value = Frame> {
        let payload = prop_oneof![
            "[a-zé日🚀]{0,40}".prop_map(String::into_bytes),
            prop::collection::vec(any::<u8>(), 0..300),
            (65_530..65_540_usize).prop_map(|bytes| vec![b'y'; bytes]),
        ];
        let head = prop_oneof![
            8 => prop::sample::select(vec![0x80, 0x81, 0x82, 0x00, 0x01, 0x02, 0x89, 0x8a]),
            1 => any::<u8>(),
        ];
        (head, payload, prop::bool::weighted(0.98)).prop_map(|(head, payload, is_masked)| Frame {
            head,
            is_masked,
            payload,
        })
    }

    proptest! {
        #[test]
        fn it_makes_no_difference_how_the_bytes_are_cut(
            frames in prop::collection::vec(any_frame(), 0..12),
            pieces in prop::collection::vec(1..200_usize, 0..60),
        ) {
            let bytes: Vec<u8> = frames.iter().flat_map(Frame::bytes).collect();
            let (whole, whole_violation, _) = read(&bytes, []);
            let (cut, cut_violation, _) = read(&bytes, pieces);
            prop_assert_eq!(cut, whole);
            prop_assert_eq!(cut_violation, whole_violation);
        }

        #[test]
        fn fragments_give_the_message_that_was_cut(text in ".{0,60}", cuts in prop::collection::vec(0..60_usize, 0..6)) {
            let mut places: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            places.sort_unstable();
            let (mut bytes, mut from, mut opcode) = (Vec::new(), 0, Frame::TEXT);
            for place in places {
                bytes.extend(Frame::unfinished(opcode, &text.as_bytes()[from..place]).bytes());
                bytes.extend(Frame::last(Frame::PONG, "between").bytes());
                (from, opcode) = (place, Frame::CONTINUATION);
            }
            bytes.extend(Frame::last(opcode, &text.as_bytes()[from..]).bytes());
            let (mut all, violation, incoming) = read(&bytes, []);
            all.retain(|message| *message != Message::Pong);
            prop_assert_eq!((all, violation), (vec![Message::Text(text)], None));
            prop_assert!(incoming.holds_nothing());
        }

        #[test]
        fn reading_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            read(&bytes, [3, 1, 4]);
        }
    }
}
