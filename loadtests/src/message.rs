//! The messages that are sent and how they come back: 201 bytes of JSON whose ten values all say device and number.
//!
//! A value is 10^13 + device * 10^8 + number, so it has the same width in every message: a message is a template with
//! digits put in, a delivery of one key can be checked as well as one of all, and a value that was mixed up with another
//! is noticed.

/// Keys in each message, `k0` to `k9`.
pub(crate) const KEYS: usize = 10;

/// Devices that can be told apart.
pub(crate) const DEVICES_MAX: usize = 100_000;

/// Bytes of each message.
pub(crate) const BODY_BYTES: usize = 1 + KEYS * MEMBER_BYTES;

/// Digits of a value: a one, the device, the number.
const DEVICE_DIGITS: usize = 5;
const SEQUENCE_DIGITS: usize = 8;
const VALUE_BYTES: usize = 1 + DEVICE_DIGITS + SEQUENCE_DIGITS;

/// `"k0":` before a value, and a comma or bracket behind it.
const NAME_BYTES: usize = 5;
const MEMBER_BYTES: usize = NAME_BYTES + VALUE_BYTES + 1;

const DEVICE_ID_PREFIX: &[u8; 7] = b"device-";
const DEVICE_ID_BYTES: usize = DEVICE_ID_PREFIX.len() + DEVICE_DIGITS;

/// The name of a key.
pub(crate) fn key_name(key: usize) -> String {
    format!("k{key}")
}

/// The name of a device.
pub(crate) fn device_id(device: usize) -> String {
    String::from_utf8(device_id_bytes(device).to_vec()).expect("letters and digits")
}

/// The same as bytes.
pub(crate) fn device_id_bytes(device: usize) -> [u8; DEVICE_ID_BYTES] {
    let mut id = [0; DEVICE_ID_BYTES];
    let (prefix, digits) = id.split_at_mut(DEVICE_ID_PREFIX.len());
    prefix.copy_from_slice(DEVICE_ID_PREFIX);
    put_digits(digits, device as u64);
    id
}

/// The device with this name; `None` when it is none of ours.
pub(crate) fn device_of_id(id: &[u8]) -> Option<usize> {
    let digits = id.strip_prefix(DEVICE_ID_PREFIX)?;
    let digits: &[u8; DEVICE_DIGITS] = digits.try_into().ok()?;
    usize::try_from(read_digits(digits)?).ok()
}

/// Makes one message after the other in the same place.
#[derive(Clone, Debug)]
pub(crate) struct Body {
    bytes: [u8; BODY_BYTES],
    sequence: u64,
    value: [u8; VALUE_BYTES],
}

impl Body {
    pub(crate) fn new() -> Self {
        let mut bytes = [b'0'; BODY_BYTES];
        bytes[0] = b'{';
        for (key, member) in (b'0'..).zip(bytes[1..].chunks_exact_mut(MEMBER_BYTES)) {
            member[..NAME_BYTES].copy_from_slice(&[b'"', b'k', key, b'"', b':']);
            member[MEMBER_BYTES - 1] = b',';
        }
        bytes[BODY_BYTES - 1] = b'}';
        let mut value = [b'0'; VALUE_BYTES];
        value[0] = b'1';
        Self {
            bytes,
            sequence: 0,
            value,
        }
    }

    /// Message number `sequence` of the device, counted from 1.
    pub(crate) fn set(&mut self, device: usize, sequence: u64) -> &[u8; BODY_BYTES] {
        put_digits(&mut self.value[1..=DEVICE_DIGITS], device as u64);
        if sequence != self.sequence {
            self.sequence = sequence;
            put_digits(&mut self.value[1 + DEVICE_DIGITS..], sequence);
        }
        for member in self.bytes[1..].chunks_exact_mut(MEMBER_BYTES) {
            member[NAME_BYTES..MEMBER_BYTES - 1].copy_from_slice(&self.value);
        }
        &self.bytes
    }
}

/// What a delivered object says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Delivery {
    pub(crate) device: usize,
    pub(crate) sequence: u64,
    /// The key that it holds, unless it holds all.
    pub(crate) key: Option<usize>,
}

impl Delivery {
    /// Reads a delivered object; `None` unless it is what was sent, byte for byte: all keys, or one.
    pub(crate) fn read(object: &[u8]) -> Option<Self> {
        let (b'{', members) = object.split_first()? else {
            return None;
        };
        let (members, []) = members.as_chunks::<MEMBER_BYTES>() else {
            return None;
        };
        let value = value(members.first()?);
        let key = match members {
            [member] => {
                let key = usize::from(member[2].wrapping_sub(b'0'));
                (key < KEYS && is_member(member, key, b'}')).then_some(Some(key))?
            }
            members => {
                let are_members = members.iter().enumerate().all(|(key, member)| {
                    let end = if key == KEYS - 1 { b'}' } else { b',' };
                    is_member(member, key, end) && self::value(member) == value
                });
                (are_members && members.len() == KEYS).then_some(None)?
            }
        };
        Self::of_value(value, key)
    }

    /// Where the number of the device begins in an object of any keys.
    pub(crate) fn device_digits(object: &[u8]) -> Option<&[u8; DEVICE_DIGITS]> {
        object.get(1 + NAME_BYTES + 1..)?.first_chunk()
    }

    fn of_value(value: &[u8; VALUE_BYTES], key: Option<usize>) -> Option<Self> {
        let (&first, digits) = value.split_first()?;
        let (device, sequence) = digits.split_first_chunk::<DEVICE_DIGITS>()?;
        let sequence: &[u8; SEQUENCE_DIGITS] = sequence.try_into().ok()?;
        (first == b'1').then_some(())?;
        Some(Self {
            device: usize::try_from(read_digits(device)?).ok()?,
            sequence: read_digits(sequence)?,
            key,
        })
    }
}

fn is_member(member: &[u8; MEMBER_BYTES], key: usize, end: u8) -> bool {
    let [quote, letter, digit, quote_after, colon, ..] = *member;
    [quote, letter, quote_after, colon] == *b"\"k\":"
        && usize::from(digit) == usize::from(b'0') + key
        && member[MEMBER_BYTES - 1] == end
}

fn value(member: &[u8; MEMBER_BYTES]) -> &[u8; VALUE_BYTES] {
    member[NAME_BYTES..]
        .first_chunk()
        .expect("a member is longer than name and value")
}

fn put_digits(place: &mut [u8], mut number: u64) {
    for digit in place.iter_mut().rev() {
        *digit = b'0' + u8::try_from(number % 10).expect("a remainder of ten");
        number /= 10;
    }
}

fn read_digits<const DIGITS: usize>(digits: &[u8; DIGITS]) -> Option<u64> {
    let are_digits = digits.iter().all(u8::is_ascii_digit);
    are_digits.then(|| {
        digits.iter().fold(0, |number, digit| {
            number * 10 + u64::from(digit.wrapping_sub(b'0'))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DELIVERY: Delivery = Delivery {
        device: 42,
        sequence: 7,
        key: None,
    };

    fn body() -> Vec<u8> {
        let mut body = Body::new();
        body.set(9, 9);
        body.set(42, 7).to_vec()
    }

    #[test]
    fn a_message_comes_back_as_it_was_sent() {
        assert_eq!(Delivery::read(&body()), Some(DELIVERY));
        let one = br#"{"k3":10004200000007}"#;
        let key = Some(3);
        assert_eq!(Delivery::read(one), Some(Delivery { key, ..DELIVERY }));
        assert_eq!(Delivery::device_digits(one), Some(b"00042"));
    }

    #[test]
    fn a_message_is_json_with_ten_numbers() {
        let body: serde_json::Value = serde_json::from_slice(&body()).unwrap();
        let members = body.as_object().unwrap();
        assert_eq!(members.len(), KEYS);
        for key in 0..KEYS {
            assert_eq!(members[&key_name(key)], 10_004_200_000_007_u64);
        }
    }

    #[test]
    fn some_of_the_keys_are_no_delivery() {
        for object in [
            &br#"{"k1":10004200000007,"k2":10004200000007}"#[..],
            br#"{"k:":10004200000007}"#,
            b"{}",
            b"",
        ] {
            assert_eq!(Delivery::read(object), None);
        }
    }

    #[test]
    fn every_changed_byte_is_noticed() {
        let body = body();
        for place in 0..body.len() {
            let mut changed = body.clone();
            changed[place] ^= 1;
            let read = Delivery::read(&changed);
            assert_ne!(read, Some(DELIVERY), "byte {place}");
        }
    }

    #[test]
    fn names_of_devices_are_read_back() {
        assert_eq!(device_id(17), "device-00017");
        assert_eq!(device_of_id(b"device-00017"), Some(17));
        for foreign in [&b"device-0017"[..], b"device-0001x", b"bevice-00017"] {
            assert_eq!(device_of_id(foreign), None);
        }
    }
}
