//! Performatives (AMQP 1.0 §2.7): decoded into views of the frame, encoded with **every** field.
//!
//! A peer may leave trailing null fields out, and [`Fields`] reads them as null. What is written here
//! never leaves any out: the Python SDK, up to 5.15.1 at least, reads fields by position and fails on
//! a shorter list.

use bytes::{BufMut, BytesMut};

use super::{
    codec::{
        self, Array, DecodeError, Map, Reader, Value, put_bool, put_descriptor, put_list, put_null,
        put_string, put_symbol, put_ubyte, put_uint, put_ulong, put_ushort,
    },
    error::AmqpError,
};

pub(crate) const OPEN: u8 = 0x10;
pub(crate) const BEGIN: u8 = 0x11;
pub(crate) const ATTACH: u8 = 0x12;
pub(crate) const FLOW: u8 = 0x13;
pub(crate) const TRANSFER: u8 = 0x14;
pub(crate) const DISPOSITION: u8 = 0x15;
pub(crate) const DETACH: u8 = 0x16;
pub(crate) const END: u8 = 0x17;
pub(crate) const CLOSE: u8 = 0x18;
const ERROR: u8 = 0x1d;
const ACCEPTED: u8 = 0x24;
const REJECTED: u8 = 0x25;

pub(crate) const SASL_MECHANISMS: u8 = 0x40;
pub(crate) const SASL_INIT: u8 = 0x41;
pub(crate) const SASL_OUTCOME: u8 = 0x44;

/// One performative of a peer.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Performative<'a> {
    Open(Open),
    Begin(Begin),
    Attach(Attach<'a>),
    Flow(Flow),
    /// With the payload that follows it in the frame.
    Transfer(Transfer, &'a [u8]),
    Disposition,
    Detach(Detach),
    End,
    Close,
}

impl<'a> Performative<'a> {
    /// Decodes the body of an AMQP frame.
    pub(crate) fn decode(body: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(body);
        let code = u8::try_from(reader.descriptor()?)
            .map_err(|_| DecodeError::Unexpected("a performative"))?;
        let mut fields = Fields::new(reader.list()?.bytes);
        Ok(match code {
            OPEN => Self::Open(Open::decode(&mut fields)?),
            BEGIN => Self::Begin(Begin::decode(&mut fields)?),
            ATTACH => Self::Attach(Attach::decode(&mut fields)?),
            FLOW => Self::Flow(Flow::decode(&mut fields)?),
            TRANSFER => Self::Transfer(Transfer::decode(&mut fields)?, reader.rest()),
            DISPOSITION => Self::Disposition,
            DETACH => Self::Detach(Detach::decode(&mut fields)?),
            END => Self::End,
            CLOSE => Self::Close,
            _ => return Err(DecodeError::Unexpected("a performative")),
        })
    }
}

/// The fields of a composite value; those that the peer left out read as null.
#[derive(Debug)]
pub(crate) struct Fields<'a>(Reader<'a>);

impl<'a> Fields<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(Reader::new(bytes))
    }

    pub(crate) fn value(&mut self) -> Result<Value<'a>, DecodeError> {
        if self.0.is_empty() {
            return Ok(Value::Null);
        }
        self.0.value()
    }

    fn skip(&mut self, count: usize) -> Result<(), DecodeError> {
        for _ in 0..count {
            self.raw()?;
        }
        Ok(())
    }

    /// A field as it is encoded, checked to the bottom.
    fn raw(&mut self) -> Result<Option<&'a [u8]>, DecodeError> {
        if self.0.is_empty() {
            return Ok(None);
        }
        codec::validate(self.0.rest())?;
        let raw = self.0.raw()?;
        Ok((raw != [0x40]).then_some(raw))
    }

    fn bool(&mut self, name: &'static str) -> Result<bool, DecodeError> {
        match self.value()? {
            Value::Null => Ok(false),
            Value::Boolean(value) => Ok(value),
            _ => Err(DecodeError::Unexpected(name)),
        }
    }

    fn uint(&mut self, name: &'static str) -> Result<Option<u32>, DecodeError> {
        match self.value()? {
            Value::Null => Ok(None),
            Value::Uint(value) => Ok(Some(value)),
            _ => Err(DecodeError::Unexpected(name)),
        }
    }

    fn must<T>(value: Option<T>, name: &'static str) -> Result<T, DecodeError> {
        value.ok_or(DecodeError::Unexpected(name))
    }

    fn ubyte(&mut self, name: &'static str) -> Result<Option<u8>, DecodeError> {
        match self.value()? {
            Value::Null => Ok(None),
            Value::Ubyte(value) => Ok(Some(value)),
            _ => Err(DecodeError::Unexpected(name)),
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Open {
    pub(crate) max_frame_size: u32,
    pub(crate) idle_timeout_ms: Option<u32>,
}

impl Open {
    fn decode(fields: &mut Fields<'_>) -> Result<Self, DecodeError> {
        fields.skip(2)?;
        let max_frame_size = fields.uint("max-frame-size")?.unwrap_or(u32::MAX);
        fields.skip(1)?;
        Ok(Self {
            max_frame_size,
            idle_timeout_ms: fields.uint("idle-time-out")?.filter(|ms| *ms > 0),
        })
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Begin {
    pub(crate) next_outgoing_id: u32,
    pub(crate) incoming_window: u32,
}

impl Begin {
    fn decode(fields: &mut Fields<'_>) -> Result<Self, DecodeError> {
        fields.skip(1)?;
        Ok(Self {
            next_outgoing_id: Fields::must(fields.uint("next-outgoing-id")?, "next-outgoing-id")?,
            incoming_window: Fields::must(fields.uint("incoming-window")?, "incoming-window")?,
        })
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Attach<'a> {
    pub(crate) name: &'a str,
    pub(crate) handle: u32,
    /// Whether the peer is the receiver.
    pub(crate) is_receiver: bool,
    pub(crate) snd_settle_mode: Option<u8>,
    /// Source and target as the peer encoded them, to be echoed.
    pub(crate) source: Option<&'a [u8]>,
    pub(crate) target: Option<&'a [u8]>,
    pub(crate) initial_delivery_count: Option<u32>,
    pub(crate) desired_capabilities: Option<Value<'a>>,
    pub(crate) properties: Option<Map<'a>>,
}

impl<'a> Attach<'a> {
    fn decode(fields: &mut Fields<'a>) -> Result<Self, DecodeError> {
        let Value::String(name) = fields.value()? else {
            return Err(DecodeError::Unexpected("name"));
        };
        let handle = Fields::must(fields.uint("handle")?, "handle")?;
        let is_receiver = fields.bool("role")?;
        let snd_settle_mode = fields.ubyte("snd-settle-mode")?;
        fields.ubyte("rcv-settle-mode")?;
        let source = fields.raw()?;
        let target = fields.raw()?;
        fields.skip(2)?;
        let initial_delivery_count = fields.uint("initial-delivery-count")?;
        fields.skip(2)?;
        let desired_capabilities = match fields.value()? {
            Value::Null => None,
            value => Some(value),
        };
        let properties = match fields.value()? {
            Value::Null => None,
            Value::Map(map) => Some(map),
            _ => return Err(DecodeError::Unexpected("properties")),
        };
        Ok(Self {
            name,
            handle,
            is_receiver,
            snd_settle_mode,
            source,
            target,
            initial_delivery_count,
            desired_capabilities,
            properties,
        })
    }

    /// Whether the peer would like this capability.
    pub(crate) fn desires(&self, capability: &str) -> bool {
        match self.desired_capabilities {
            Some(Value::Symbol(symbol)) => symbol == capability,
            Some(Value::Array(array)) => Array::texts(array).any(|symbol| symbol == capability),
            _ => false,
        }
    }

    /// The address of the end that is the server's: the source for a receiver, the target for a
    /// sender.
    pub(crate) fn node_address(&self) -> Option<&'a str> {
        terminus_field(if self.is_receiver {
            self.source
        } else {
            self.target
        })
    }

    /// The address of the target, to which a receiver has replies sent.
    pub(crate) fn target_address(&self) -> Option<&'a str> {
        terminus_field(self.target)
    }

    /// The selector filter in the source: `Ok(None)` without one.
    pub(crate) fn selector(&self, key: &str) -> Result<Option<&'a str>, DecodeError> {
        let Some(source) = self.source else {
            return Ok(None);
        };
        let mut reader = Reader::new(source);
        reader.descriptor()?;
        let mut fields = Fields::new(reader.list()?.bytes);
        fields.skip(7)?;
        let filter = match fields.value()? {
            Value::Null => return Ok(None),
            Value::Map(filter) => filter,
            _ => return Err(DecodeError::Unexpected("the filter of the source")),
        };
        match filter.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            // SDKs use three descriptors for the same thing, and the key says it all.
            Some(Value::Described(_, value)) => match Reader::new(value).value()? {
                Value::String(text) => Ok(Some(text)),
                _ => Err(DecodeError::Unexpected("the selector filter")),
            },
            Some(_) => Err(DecodeError::Unexpected("the selector filter")),
        }
    }
}

fn terminus_field(terminus: Option<&[u8]>) -> Option<&str> {
    let mut reader = Reader::new(terminus?);
    reader.descriptor().ok()?;
    let list = reader.list().ok()?;
    Fields::new(list.bytes).value().ok()?.text()
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Flow {
    pub(crate) next_incoming_id: Option<u32>,
    pub(crate) incoming_window: u32,
    pub(crate) handle: Option<u32>,
    pub(crate) delivery_count: Option<u32>,
    pub(crate) link_credit: Option<u32>,
    pub(crate) drain: bool,
    pub(crate) echo: bool,
}

impl Flow {
    fn decode(fields: &mut Fields<'_>) -> Result<Self, DecodeError> {
        let next_incoming_id = fields.uint("next-incoming-id")?;
        let incoming_window = Fields::must(fields.uint("incoming-window")?, "incoming-window")?;
        fields.skip(2)?;
        let handle = fields.uint("handle")?;
        let delivery_count = fields.uint("delivery-count")?;
        let link_credit = fields.uint("link-credit")?;
        fields.skip(1)?;
        Ok(Self {
            next_incoming_id,
            incoming_window,
            handle,
            delivery_count,
            link_credit,
            drain: fields.bool("drain")?,
            echo: fields.bool("echo")?,
        })
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Transfer {
    pub(crate) handle: u32,
    pub(crate) delivery_id: Option<u32>,
    pub(crate) message_format: Option<u32>,
    pub(crate) settled: bool,
    pub(crate) more: bool,
    pub(crate) aborted: bool,
}

impl Transfer {
    fn decode(fields: &mut Fields<'_>) -> Result<Self, DecodeError> {
        let handle = Fields::must(fields.uint("handle")?, "handle")?;
        let delivery_id = fields.uint("delivery-id")?;
        fields.skip(1)?;
        let message_format = fields.uint("message-format")?;
        let settled = fields.bool("settled")?;
        let more = fields.bool("more")?;
        fields.skip(3)?;
        Ok(Self {
            handle,
            delivery_id,
            message_format,
            settled,
            more,
            aborted: fields.bool("aborted")?,
        })
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Detach {
    pub(crate) handle: u32,
    pub(crate) closed: bool,
}

impl Detach {
    fn decode(fields: &mut Fields<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            handle: Fields::must(fields.uint("handle")?, "handle")?,
            closed: fields.bool("closed")?,
        })
    }
}

/// The mechanism that a `sasl-init` names.
pub(crate) fn decode_sasl_init(body: &[u8]) -> Result<&str, DecodeError> {
    let mut reader = Reader::new(body);
    if reader.descriptor()? != u64::from(SASL_INIT) {
        return Err(DecodeError::Unexpected("sasl-init"));
    }
    let list = reader.list()?;
    match Fields::new(list.bytes).value()? {
        Value::Symbol(mechanism) => Ok(mechanism),
        _ => Err(DecodeError::Unexpected("mechanism")),
    }
}

pub(crate) fn put_sasl_mechanisms(out: &mut BytesMut, mechanisms: &[&str]) {
    put_descriptor(out, SASL_MECHANISMS);
    put_list(out, |out| {
        codec::put_symbol_array(out, mechanisms);
        1
    });
}

pub(crate) fn put_sasl_outcome(out: &mut BytesMut, code: u8) {
    put_descriptor(out, SASL_OUTCOME);
    put_list(out, |out| {
        put_ubyte(out, code);
        put_null(out);
        2
    });
}

pub(crate) fn put_open(
    out: &mut BytesMut,
    container_id: &str,
    max_frame_size: u32,
    channel_max: u16,
    idle_timeout_ms: u32,
) {
    put_descriptor(out, OPEN);
    put_list(out, |out| {
        put_string(out, container_id);
        put_null(out);
        put_uint(out, max_frame_size);
        put_ushort(out, channel_max);
        put_uint(out, idle_timeout_ms);
        put_nulls(out, 5);
        10
    });
}

/// Windows and ids of a session as its flows state them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Windows {
    pub(crate) next_incoming_id: u32,
    pub(crate) incoming_window: u32,
    pub(crate) next_outgoing_id: u32,
    pub(crate) outgoing_window: u32,
}

pub(crate) fn put_begin(out: &mut BytesMut, channel: u16, windows: Windows, handle_max: u32) {
    put_descriptor(out, BEGIN);
    put_list(out, |out| {
        put_ushort(out, channel);
        put_uint(out, windows.next_outgoing_id);
        put_uint(out, windows.incoming_window);
        put_uint(out, windows.outgoing_window);
        put_uint(out, handle_max);
        put_nulls(out, 3);
        8
    });
}

/// Answers an attach. A refusal has neither source nor target, and a detach follows it.
pub(crate) fn put_attach(
    out: &mut BytesMut,
    attach: &Attach<'_>,
    refused: bool,
    max_message_size: u64,
) {
    let terminus = |out: &mut BytesMut, raw: Option<&[u8]>| match raw.filter(|_| !refused) {
        Some(raw) => out.put_slice(raw),
        None => put_null(out),
    };
    put_descriptor(out, ATTACH);
    put_list(out, |out| {
        put_string(out, attach.name);
        put_uint(out, attach.handle);
        put_bool(out, !attach.is_receiver);
        match attach.snd_settle_mode {
            Some(mode) => put_ubyte(out, mode),
            None => put_null(out),
        }
        // First, whatever was asked: devhub settles at once and never waits for a second round.
        put_ubyte(out, 0);
        terminus(out, attach.source);
        terminus(out, attach.target);
        put_null(out);
        put_bool(out, false);
        if attach.is_receiver {
            put_uint(out, 0);
        } else {
            put_null(out);
        }
        put_ulong(out, max_message_size);
        put_nulls(out, 3);
        14
    });
}

/// The state of a link as a flow tells it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LinkFlow {
    pub(crate) handle: u32,
    pub(crate) delivery_count: u32,
    pub(crate) link_credit: u32,
    pub(crate) drain: bool,
}

pub(crate) fn put_flow(out: &mut BytesMut, windows: Windows, link: Option<LinkFlow>) {
    put_descriptor(out, FLOW);
    put_list(out, |out| {
        put_uint(out, windows.next_incoming_id);
        put_uint(out, windows.incoming_window);
        put_uint(out, windows.next_outgoing_id);
        put_uint(out, windows.outgoing_window);
        if let Some(link) = link {
            put_uint(out, link.handle);
            put_uint(out, link.delivery_count);
            put_uint(out, link.link_credit);
            put_null(out);
            put_bool(out, link.drain);
        } else {
            put_nulls(out, 4);
            put_bool(out, false);
        }
        put_bool(out, false);
        put_null(out);
        11
    });
}

/// The most bytes that [`put_transfer`] appends.
pub(crate) const TRANSFER_LEN_MAX: usize = 40;

/// Appends a settled transfer of message format 0, without its payload. The delivery tag is the
/// delivery id.
pub(crate) fn put_transfer(out: &mut BytesMut, handle: u32, delivery_id: u32, more: bool) {
    put_descriptor(out, TRANSFER);
    out.put_u8(0xc0);
    let size_at = out.len();
    out.put_slice(&[0, 11]);
    put_uint(out, handle);
    put_uint(out, delivery_id);
    out.put_slice(&[0xa0, 4]);
    out.put_u32(delivery_id);
    put_uint(out, 0);
    put_bool(out, true);
    put_bool(out, more);
    // rcv-settle-mode, state; resume, aborted, batchable
    out.put_slice(&[0x40, 0x40, 0x42, 0x42, 0x42]);
    out[size_at] = u8::try_from(out.len() - size_at - 1).expect("under TRANSFER_LEN_MAX");
}

/// Settles what a sender sent, from `first` to `last`.
pub(crate) fn put_disposition(
    out: &mut BytesMut,
    first: u32,
    last: u32,
    rejected: Option<&AmqpError>,
) {
    put_descriptor(out, DISPOSITION);
    put_list(out, |out| {
        put_bool(out, true);
        put_uint(out, first);
        put_uint(out, last);
        put_bool(out, true);
        match rejected {
            None => {
                put_descriptor(out, ACCEPTED);
                // An empty list8: the Python SDK does not know list0.
                out.put_slice(&[0xc0, 1, 0]);
            }
            Some(error) => {
                put_descriptor(out, REJECTED);
                put_list(out, |out| {
                    put_error(out, Some(error));
                    1
                });
            }
        }
        put_bool(out, false);
        6
    });
}

pub(crate) fn put_detach(out: &mut BytesMut, handle: u32, closed: bool, error: Option<&AmqpError>) {
    put_descriptor(out, DETACH);
    put_list(out, |out| {
        put_uint(out, handle);
        put_bool(out, closed);
        put_error(out, error);
        3
    });
}

pub(crate) fn put_end(out: &mut BytesMut, error: Option<&AmqpError>) {
    put_ending(out, END, error);
}

pub(crate) fn put_close(out: &mut BytesMut, error: Option<&AmqpError>) {
    put_ending(out, CLOSE, error);
}

fn put_ending(out: &mut BytesMut, code: u8, error: Option<&AmqpError>) {
    put_descriptor(out, code);
    put_list(out, |out| {
        put_error(out, error);
        1
    });
}

fn put_error(out: &mut BytesMut, error: Option<&AmqpError>) {
    let Some(error) = error else {
        return put_null(out);
    };
    put_descriptor(out, ERROR);
    put_list(out, |out| {
        put_symbol(out, &error.condition);
        put_string(out, &error.description);
        put_null(out);
        3
    });
}

fn put_nulls(out: &mut BytesMut, count: usize) {
    out.put_bytes(0x40, count);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Descriptor code and number of fields, after checking that the whole is well-formed.
    fn shape(write: impl FnOnce(&mut BytesMut)) -> (u64, u32) {
        let mut out = BytesMut::new();
        write(&mut out);
        assert_eq!(codec::validate(&out), Ok(out.len()));
        assert_eq!(&out[..2], [0x00, 0x53], "the descriptor is a smallulong");
        assert!(matches!(out[3], 0xc0 | 0xd0), "the list is no list0");
        let mut reader = Reader::new(&out);
        let code = reader.descriptor().unwrap();
        (code, reader.list().unwrap().count)
    }

    const WINDOWS: Windows = Windows {
        next_incoming_id: 1,
        incoming_window: 2,
        next_outgoing_id: 3,
        outgoing_window: 4,
    };

    #[test]
    fn every_performative_has_all_its_fields() {
        let error = AmqpError::new("amqp:not-found", "text");
        let attach = Attach {
            name: "n",
            handle: 1,
            is_receiver: true,
            snd_settle_mode: None,
            source: None,
            target: None,
            initial_delivery_count: None,
            desired_capabilities: None,
            properties: None,
        };
        assert_eq!(
            shape(|out| put_open(out, "c", 65_536, 255, 1000)),
            (0x10, 10)
        );
        assert_eq!(shape(|out| put_begin(out, 1, WINDOWS, 255)), (0x11, 8));
        assert_eq!(shape(|out| put_attach(out, &attach, false, 9)), (0x12, 14));
        assert_eq!(shape(|out| put_flow(out, WINDOWS, None)), (0x13, 11));
        let link = LinkFlow {
            handle: 1,
            delivery_count: 2,
            link_credit: 3,
            drain: true,
        };
        assert_eq!(shape(|out| put_flow(out, WINDOWS, Some(link))), (0x13, 11));
        assert_eq!(shape(|out| put_transfer(out, 1, 2, true)), (0x14, 11));
        assert_eq!(shape(|out| put_disposition(out, 1, 2, None)), (0x15, 6));
        assert_eq!(
            shape(|out| put_disposition(out, 1, 2, Some(&error))),
            (0x15, 6)
        );
        assert_eq!(shape(|out| put_detach(out, 1, true, None)), (0x16, 3));
        assert_eq!(
            shape(|out| put_detach(out, 1, true, Some(&error))),
            (0x16, 3)
        );
        assert_eq!(shape(|out| put_end(out, None)), (0x17, 1));
        assert_eq!(shape(|out| put_close(out, Some(&error))), (0x18, 1));
    }

    #[test]
    fn the_largest_transfer_fits_its_stated_length() {
        let mut out = BytesMut::new();
        put_transfer(&mut out, u32::MAX, u32::MAX, true);
        assert!(out.len() <= TRANSFER_LEN_MAX, "{}", out.len());
    }

    #[test]
    fn fields_left_out_read_as_null() {
        // flow with the four session fields only, and an empty detach
        let flow = [0x00, 0x53, 0x13, 0xc0, 6, 4, 0x40, 0x52, 9, 0x43, 0x43];
        let Ok(Performative::Flow(flow)) = Performative::decode(&flow) else {
            panic!("not a flow")
        };
        assert_eq!((flow.incoming_window, flow.handle), (9, None));
        assert!(Performative::decode(&[0x00, 0x53, 0x16, 0x45]).is_err());
    }

    proptest! {
        #[test]
        fn random_bodies_never_panic(body in proptest::collection::vec(any::<u8>(), 0..200), code in 0x10u8..0x19) {
            let _ = Performative::decode(&body);
            let mut framed = vec![0x00, 0x53, code];
            framed.extend(body);
            if let Ok(Performative::Attach(attach)) = Performative::decode(&framed) {
                let _ = (attach.desires("x"), attach.node_address(), attach.selector("x"));
            }
        }
    }
}
