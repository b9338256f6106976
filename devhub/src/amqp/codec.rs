//! AMQP 1.0 values (AMQP 1.0 §1): a decoder that borrows from the frame, and an encoder that appends
//! to a buffer.
//!
//! Decoding allocates nothing and never looks past the bytes it was given: a compound value is a view
//! that is walked lazily. [`validate`] walks a value to the bottom, to a fixed depth, and is called
//! on everything that will be kept or passed on.

use bytes::{BufMut, BytesMut};

/// How deeply lists, maps, arrays and described values may nest.
pub(crate) const DEPTH_MAX: u32 = 16;

/// Why bytes are not an AMQP value, or not the one that was expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DecodeError {
    #[error("the encoding ends in the middle of a value")]
    Truncated,
    #[error("0x{0:02x} is not an AMQP format code")]
    UnknownFormatCode(u8),
    #[error("a string is not UTF-8")]
    NotUtf8,
    #[error("a symbol is not ASCII")]
    NotAscii,
    #[error("a boolean is neither 0 nor 1")]
    NotBoolean,
    #[error("a compound value does not fill its stated size")]
    WrongSize,
    #[error("values are nested too deeply")]
    TooDeep,
    #[error("{0} has the wrong type or is missing")]
    Unexpected(&'static str),
}

/// One AMQP value, borrowing from its encoding.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Value<'a> {
    Null,
    Boolean(bool),
    Ubyte(u8),
    Ushort(u16),
    Uint(u32),
    Ulong(u64),
    Byte(i8),
    Short(i16),
    Int(i32),
    Long(i64),
    Float(f32),
    Double(f64),
    Decimal(&'a [u8]),
    Char(u32),
    TimestampMs(i64),
    Uuid(&'a [u8]),
    Binary(&'a [u8]),
    String(&'a str),
    Symbol(&'a str),
    List(Sequence<'a>),
    Map(Map<'a>),
    Array(Array<'a>),
    /// Descriptor and described value, both still encoded.
    Described(&'a [u8], &'a [u8]),
}

impl<'a> Value<'a> {
    /// The text of a string or a symbol.
    pub(crate) fn text(&self) -> Option<&'a str> {
        match *self {
            Self::String(text) | Self::Symbol(text) => Some(text),
            _ => None,
        }
    }

    /// Any integer that fits into 64 signed bits.
    pub(crate) fn integer(&self) -> Option<i64> {
        Some(match *self {
            Self::Ubyte(n) => n.into(),
            Self::Ushort(n) => n.into(),
            Self::Uint(n) => n.into(),
            Self::Ulong(n) => return n.try_into().ok(),
            Self::Byte(n) => n.into(),
            Self::Short(n) => n.into(),
            Self::Int(n) => n.into(),
            Self::Long(n) => n,
            _ => return None,
        })
    }
}

/// The members of a list, still encoded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Sequence<'a> {
    pub(crate) count: u32,
    pub(crate) bytes: &'a [u8],
}

/// The entries of a map, still encoded: key, value, key, value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Map<'a> {
    /// Keys and values together, so always even.
    pub(crate) count: u32,
    pub(crate) bytes: &'a [u8],
}

impl<'a> Map<'a> {
    /// Key, value, and the bytes that hold both.
    pub(crate) fn entries(
        self,
    ) -> impl Iterator<Item = Result<(Value<'a>, Value<'a>, &'a [u8]), DecodeError>> {
        let mut reader = Reader::new(self.bytes);
        let mut left = self.count / 2;
        std::iter::from_fn(move || {
            if left == 0 {
                return None;
            }
            left -= 1;
            let entry = reader.entry();
            if entry.is_err() {
                left = 0;
            }
            Some(entry)
        })
    }

    /// The value under a string or symbol key. An entry that does not decode counts as absent.
    pub(crate) fn get(self, key: &str) -> Option<Value<'a>> {
        self.entries()
            .map_while(Result::ok)
            .find(|(k, _, _)| k.text() == Some(key))
            .map(|(_, value, _)| value)
    }

    /// The text under a key.
    pub(crate) fn text(self, key: &str) -> Option<&'a str> {
        self.get(key).and_then(|value| value.text())
    }
}

/// The elements of an array, still encoded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Array<'a> {
    pub(crate) count: u32,
    /// The format code of every element; described elements are not looked into.
    pub(crate) constructor: u8,
    pub(crate) bytes: &'a [u8],
}

impl<'a> Array<'a> {
    /// The elements of an array of strings or symbols; empty for any other.
    pub(crate) fn texts(self) -> impl Iterator<Item = &'a str> {
        let mut reader = Reader::new(self.bytes);
        let is_text = matches!(self.constructor, 0xa1 | 0xb1 | 0xa3 | 0xb3);
        let mut left = if is_text { self.count } else { 0 };
        std::iter::from_fn(move || {
            if left == 0 {
                return None;
            }
            left -= 1;
            reader.value_of(self.constructor).ok()?.text()
        })
    }
}

/// A cursor over encoded values.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// What has not been read yet.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.bytes
    }

    /// Reads one value.
    pub(crate) fn value(&mut self) -> Result<Value<'a>, DecodeError> {
        let code = self.byte()?;
        self.value_of(code)
    }

    /// Steps over one value and returns its encoding.
    pub(crate) fn raw(&mut self) -> Result<&'a [u8], DecodeError> {
        let start = self.bytes;
        self.skip(0)?;
        Ok(&start[..start.len() - self.bytes.len()])
    }

    /// Reads the descriptor of a described value as a number, leaving the cursor at the value.
    /// Symbolic descriptors are not used by any Event Hubs client for what this is called on.
    pub(crate) fn descriptor(&mut self) -> Result<u64, DecodeError> {
        if self.byte()? != 0x00 {
            return Err(DecodeError::Unexpected("a descriptor"));
        }
        match self.value()? {
            Value::Ulong(code) => Ok(code),
            _ => Err(DecodeError::Unexpected("a descriptor")),
        }
    }

    /// Reads a list.
    pub(crate) fn list(&mut self) -> Result<Sequence<'a>, DecodeError> {
        match self.value()? {
            Value::List(list) => Ok(list),
            _ => Err(DecodeError::Unexpected("a list")),
        }
    }

    fn entry(&mut self) -> Result<(Value<'a>, Value<'a>, &'a [u8]), DecodeError> {
        let start = self.bytes;
        let key = self.value()?;
        let value = self.value()?;
        Ok((key, value, &start[..start.len() - self.bytes.len()]))
    }

    fn byte(&mut self) -> Result<u8, DecodeError> {
        let (&byte, rest) = self.bytes.split_first().ok_or(DecodeError::Truncated)?;
        self.bytes = rest;
        Ok(byte)
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self
            .bytes
            .split_at_checked(len)
            .ok_or(DecodeError::Truncated)?;
        self.bytes = rest;
        Ok(taken)
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (taken, rest) = self
            .bytes
            .split_first_chunk()
            .ok_or(DecodeError::Truncated)?;
        self.bytes = rest;
        Ok(*taken)
    }

    /// The bytes of a value whose size is written in one byte (`wide` false) or four.
    fn sized(&mut self, wide: bool) -> Result<&'a [u8], DecodeError> {
        let len = self.length(wide)?;
        self.take(len as usize)
    }

    fn length(&mut self, wide: bool) -> Result<u32, DecodeError> {
        Ok(if wide {
            u32::from_be_bytes(self.fixed()?)
        } else {
            self.byte()?.into()
        })
    }

    fn value_of(&mut self, code: u8) -> Result<Value<'a>, DecodeError> {
        Ok(match code {
            0x00 => {
                let start = self.bytes;
                self.skip(1)?;
                let descriptor = &start[..start.len() - self.bytes.len()];
                Value::Described(descriptor, self.raw()?)
            }
            0x40 => Value::Null,
            0x41 => Value::Boolean(true),
            0x42 => Value::Boolean(false),
            0x56 => match self.byte()? {
                0 => Value::Boolean(false),
                1 => Value::Boolean(true),
                _ => return Err(DecodeError::NotBoolean),
            },
            0x50 => Value::Ubyte(self.byte()?),
            0x60 => Value::Ushort(u16::from_be_bytes(self.fixed()?)),
            0x43 => Value::Uint(0),
            0x52 => Value::Uint(self.byte()?.into()),
            0x70 => Value::Uint(u32::from_be_bytes(self.fixed()?)),
            0x44 => Value::Ulong(0),
            0x53 => Value::Ulong(self.byte()?.into()),
            0x80 => Value::Ulong(u64::from_be_bytes(self.fixed()?)),
            0x51 => Value::Byte(i8::from_be_bytes(self.fixed()?)),
            0x61 => Value::Short(i16::from_be_bytes(self.fixed()?)),
            0x54 => Value::Int(i8::from_be_bytes(self.fixed()?).into()),
            0x71 => Value::Int(i32::from_be_bytes(self.fixed()?)),
            0x55 => Value::Long(i8::from_be_bytes(self.fixed()?).into()),
            0x81 => Value::Long(i64::from_be_bytes(self.fixed()?)),
            0x72 => Value::Float(f32::from_be_bytes(self.fixed()?)),
            0x82 => Value::Double(f64::from_be_bytes(self.fixed()?)),
            0x74 => Value::Decimal(self.take(4)?),
            0x84 => Value::Decimal(self.take(8)?),
            0x94 => Value::Decimal(self.take(16)?),
            0x73 => Value::Char(u32::from_be_bytes(self.fixed()?)),
            0x83 => Value::TimestampMs(i64::from_be_bytes(self.fixed()?)),
            0x98 => Value::Uuid(self.take(16)?),
            0xa0 | 0xb0 => Value::Binary(self.sized(code == 0xb0)?),
            0xa1 | 0xb1 => Value::String(
                std::str::from_utf8(self.sized(code == 0xb1)?).map_err(|_| DecodeError::NotUtf8)?,
            ),
            0xa3 | 0xb3 => {
                let symbol = self.sized(code == 0xb3)?;
                if !symbol.is_ascii() {
                    return Err(DecodeError::NotAscii);
                }
                Value::Symbol(std::str::from_utf8(symbol).map_err(|_| DecodeError::NotAscii)?)
            }
            0x45 => Value::List(Sequence {
                count: 0,
                bytes: &[],
            }),
            0xc0 | 0xd0 => Value::List(self.compound(code == 0xd0)?),
            0xc1 | 0xd1 => {
                let Sequence { count, bytes } = self.compound(code == 0xd1)?;
                if count % 2 != 0 {
                    return Err(DecodeError::WrongSize);
                }
                Value::Map(Map { count, bytes })
            }
            0xe0 | 0xf0 => {
                let wide = code == 0xf0;
                let mut inside = Reader::new(self.sized(wide)?);
                let count = inside.length(wide)?;
                let constructor = inside.byte()?;
                Value::Array(Array {
                    count,
                    constructor,
                    bytes: inside.bytes,
                })
            }
            _ => return Err(DecodeError::UnknownFormatCode(code)),
        })
    }

    /// Size, count and members of a list or a map. Every member takes a byte at least, so a count
    /// past the size is a lie and is refused before anyone loops over it.
    fn compound(&mut self, wide: bool) -> Result<Sequence<'a>, DecodeError> {
        let mut inside = Reader::new(self.sized(wide)?);
        let count = inside.length(wide)?;
        if count as usize > inside.bytes.len() {
            return Err(DecodeError::WrongSize);
        }
        Ok(Sequence {
            count,
            bytes: inside.bytes,
        })
    }

    fn skip(&mut self, depth: u32) -> Result<(), DecodeError> {
        if depth > DEPTH_MAX {
            return Err(DecodeError::TooDeep);
        }
        let code = self.byte()?;
        if code == 0x00 {
            self.skip(depth + 1)?;
            return self.skip(depth + 1);
        }
        self.skip_value_of(code)
    }

    /// AMQP 1.0 §1.2: the upper half of a format code says how wide the value is.
    fn skip_value_of(&mut self, code: u8) -> Result<(), DecodeError> {
        let len = match code >> 4 {
            0x4 => 0,
            0x5 => 1,
            0x6 => 2,
            0x7 => 4,
            0x8 => 8,
            0x9 => 16,
            0xa | 0xc | 0xe => self.byte()?.into(),
            0xb | 0xd | 0xf => self.length(true)? as usize,
            _ => return Err(DecodeError::UnknownFormatCode(code)),
        };
        self.take(len).map(drop)
    }

    fn validate(&mut self, depth: u32) -> Result<(), DecodeError> {
        if depth > DEPTH_MAX {
            return Err(DecodeError::TooDeep);
        }
        let code = self.byte()?;
        if code == 0x00 {
            self.validate(depth + 1)?;
            return self.validate(depth + 1);
        }
        self.validate_value_of(code, depth)
    }

    fn validate_value_of(&mut self, code: u8, depth: u32) -> Result<(), DecodeError> {
        match self.value_of(code)? {
            Value::List(Sequence { count, bytes }) | Value::Map(Map { count, bytes }) => {
                let mut members = Reader::new(bytes);
                for _ in 0..count {
                    members.validate(depth + 1)?;
                }
                members.end()
            }
            Value::Array(array) => array.validate(depth + 1),
            _ => Ok(()),
        }
    }

    fn end(&self) -> Result<(), DecodeError> {
        if self.is_empty() {
            Ok(())
        } else {
            Err(DecodeError::WrongSize)
        }
    }
}

impl Array<'_> {
    fn validate(self, depth: u32) -> Result<(), DecodeError> {
        if depth > DEPTH_MAX {
            return Err(DecodeError::TooDeep);
        }
        let mut elements = Reader::new(self.bytes);
        let mut constructor = self.constructor;
        // A described element states its descriptor once, before the format code of the values.
        for _ in 0..DEPTH_MAX {
            if constructor != 0x00 {
                break;
            }
            elements.validate(depth + 1)?;
            constructor = elements.byte()?;
        }
        // Elements without any bytes could be claimed by the billion; they need no walk.
        if constructor >> 4 == 0x4 {
            return elements.end();
        }
        for _ in 0..self.count {
            elements.validate_value_of(constructor, depth)?;
        }
        elements.end()
    }
}

/// Checks that `bytes` hold one well-formed value at their start, to the bottom, and returns its
/// length.
pub(crate) fn validate(bytes: &[u8]) -> Result<usize, DecodeError> {
    let mut reader = Reader::new(bytes);
    reader.validate(0)?;
    Ok(bytes.len() - reader.bytes.len())
}

pub(crate) fn put_null(out: &mut BytesMut) {
    out.put_u8(0x40);
}

pub(crate) fn put_bool(out: &mut BytesMut, value: bool) {
    out.put_u8(if value { 0x41 } else { 0x42 });
}

pub(crate) fn put_ubyte(out: &mut BytesMut, value: u8) {
    out.put_slice(&[0x50, value]);
}

pub(crate) fn put_ushort(out: &mut BytesMut, value: u16) {
    out.put_u8(0x60);
    out.put_u16(value);
}

pub(crate) fn put_uint(out: &mut BytesMut, value: u32) {
    match u8::try_from(value) {
        Ok(0) => out.put_u8(0x43),
        Ok(small) => out.put_slice(&[0x52, small]),
        Err(_) => {
            out.put_u8(0x70);
            out.put_u32(value);
        }
    }
}

pub(crate) fn put_ulong(out: &mut BytesMut, value: u64) {
    out.put_u8(0x80);
    out.put_u64(value);
}

pub(crate) fn put_int(out: &mut BytesMut, value: i32) {
    out.put_u8(0x71);
    out.put_i32(value);
}

pub(crate) fn put_long(out: &mut BytesMut, value: i64) {
    out.put_u8(0x81);
    out.put_i64(value);
}

pub(crate) fn put_timestamp(out: &mut BytesMut, ms: i64) {
    out.put_u8(0x83);
    out.put_i64(ms);
}

pub(crate) fn put_string(out: &mut BytesMut, value: &str) {
    put_sized(out, 0xa1, value.as_bytes());
}

pub(crate) fn put_symbol(out: &mut BytesMut, value: &str) {
    put_sized(out, 0xa3, value.as_bytes());
}

pub(crate) fn put_binary(out: &mut BytesMut, value: &[u8]) {
    put_sized(out, 0xa0, value);
}

/// A descriptor of the AMQP specification, as `smallulong`: the Python SDK reads no other form.
pub(crate) fn put_descriptor(out: &mut BytesMut, code: u8) {
    out.put_slice(&[0x00, 0x53, code]);
}

/// Writes `narrow` with a length of one byte, or its wide twin with one of four.
fn put_sized(out: &mut BytesMut, narrow: u8, bytes: &[u8]) {
    if let Ok(len) = u8::try_from(bytes.len()) {
        out.put_slice(&[narrow, len]);
    } else {
        out.put_u8(narrow + 0x10);
        out.put_u32(length(bytes.len()));
    }
    out.put_slice(bytes);
}

/// Appends a list (`list32`). `write` appends the members and returns how many.
pub(crate) fn put_list(out: &mut BytesMut, write: impl FnOnce(&mut BytesMut) -> u32) {
    put_compound(out, 0xd0, write);
}

/// Appends a map (`map32`). `write` appends keys and values and returns how many entries.
pub(crate) fn put_map(out: &mut BytesMut, write: impl FnOnce(&mut BytesMut) -> u32) {
    put_compound(out, 0xd1, |out| 2 * write(out));
}

/// Appends an array of symbols.
pub(crate) fn put_symbol_array(out: &mut BytesMut, symbols: &[&str]) {
    put_text_array(out, 0xb3, symbols);
}

/// Appends an array of strings.
pub(crate) fn put_string_array(out: &mut BytesMut, strings: &[&str]) {
    put_text_array(out, 0xb1, strings);
}

fn put_text_array(out: &mut BytesMut, constructor: u8, texts: &[&str]) {
    put_compound(out, 0xf0, |out| {
        out.put_u8(constructor);
        for text in texts {
            out.put_u32(length(text.len()));
            out.put_slice(text.as_bytes());
        }
        length(texts.len())
    });
}

fn put_compound(out: &mut BytesMut, code: u8, write: impl FnOnce(&mut BytesMut) -> u32) {
    out.put_u8(code);
    let size_at = out.len();
    out.put_bytes(0, 8);
    let count = write(out);
    let size = length(out.len() - size_at - 4);
    out[size_at..size_at + 4].copy_from_slice(&size.to_be_bytes());
    out[size_at + 4..size_at + 8].copy_from_slice(&count.to_be_bytes());
}

fn length(len: usize) -> u32 {
    u32::try_from(len).expect("nothing of 4 GiB is ever encoded")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encode(write: impl FnOnce(&mut BytesMut)) -> BytesMut {
        let mut out = BytesMut::new();
        write(&mut out);
        out
    }

    #[test]
    fn a_count_larger_than_the_bytes_is_refused() {
        let list = [0xd0, 0, 0, 0, 5, 0xff, 0xff, 0xff, 0xff, 0x40];
        assert_eq!(Reader::new(&list).value(), Err(DecodeError::WrongSize));
    }

    #[test]
    fn an_array_of_four_billion_nulls_costs_nothing() {
        let array = [0xf0, 0, 0, 0, 5, 0xff, 0xff, 0xff, 0xff, 0x40];
        assert_eq!(validate(&array), Ok(array.len()));
    }

    #[test]
    fn nesting_past_the_limit_is_refused() {
        let mut value = vec![0x40];
        for _ in 0..=DEPTH_MAX {
            let mut outer = vec![0xd0];
            outer.extend(u32::try_from(value.len() + 4).unwrap().to_be_bytes());
            outer.extend([0, 0, 0, 1]);
            outer.extend(&value);
            value = outer;
        }
        assert_eq!(validate(&value), Err(DecodeError::TooDeep));
        assert_eq!(validate(&[0x00; 10_000]), Err(DecodeError::TooDeep));
        assert_eq!(
            Reader::new(&[0x00; 10_000]).value(),
            Err(DecodeError::TooDeep)
        );
    }

    #[test]
    fn a_map_is_searched_by_key() {
        let map = encode(|out| {
            put_map(out, |out| {
                put_symbol(out, "a");
                put_long(out, -7);
                put_string(out, "b");
                put_string(out, "text");
                2
            });
        });
        let Ok(Value::Map(map)) = Reader::new(&map).value() else {
            panic!("not a map")
        };
        assert_eq!(map.get("a"), Some(Value::Long(-7)));
        assert_eq!(map.text("b"), Some("text"));
        assert_eq!(map.get("c"), None);
    }

    #[test]
    fn an_array_of_symbols_is_read_back() {
        let array = encode(|out| put_symbol_array(out, &["MSSBCBS", "ANONYMOUS"]));
        assert_eq!(validate(&array), Ok(array.len()));
        let Ok(Value::Array(array)) = Reader::new(&array).value() else {
            panic!("not an array")
        };
        assert_eq!(array.texts().collect::<Vec<_>>(), ["MSSBCBS", "ANONYMOUS"]);
    }

    proptest! {
        #[test]
        fn random_bytes_neither_panic_nor_read_past_their_end(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(len) = validate(&bytes) {
                prop_assert!(len <= bytes.len());
            }
            let mut reader = Reader::new(&bytes);
            while let Ok(value) = reader.value() {
                if let Value::Map(map) = value {
                    map.entries().take(1000).for_each(drop);
                }
                if let Value::Array(array) = value {
                    array.texts().take(1000).for_each(drop);
                }
            }
        }

        #[test]
        fn what_is_written_is_read_back(uint: u32, long: i64, text: String, bytes: Vec<u8>, flag: bool) {
            let encoded = encode(|out| put_list(out, |out| {
                put_uint(out, uint);
                put_long(out, long);
                put_string(out, &text);
                put_binary(out, &bytes);
                put_bool(out, flag);
                5
            }));
            prop_assert_eq!(validate(&encoded), Ok(encoded.len()));
            let list = Reader::new(&encoded).list().unwrap();
            let mut members = Reader::new(list.bytes);
            prop_assert_eq!(members.value(), Ok(Value::Uint(uint)));
            prop_assert_eq!(members.value(), Ok(Value::Long(long)));
            prop_assert_eq!(members.value(), Ok(Value::String(&text)));
            prop_assert_eq!(members.value(), Ok(Value::Binary(&bytes)));
            prop_assert_eq!(members.value(), Ok(Value::Boolean(flag)));
            prop_assert!(members.is_empty());
        }

        #[test]
        fn skipping_and_validating_agree_on_the_length(text: String, long: i64) {
            let encoded = encode(|out| {
                put_descriptor(out, 0x74);
                put_map(out, |out| {
                    put_string(out, &text);
                    put_long(out, long);
                    1
                });
            });
            let len = validate(&encoded).unwrap();
            prop_assert_eq!(Reader::new(&encoded).raw().map(<[u8]>::len), Ok(len));
        }
    }
}
