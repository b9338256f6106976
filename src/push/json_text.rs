//! JSON texts with device values, put together without a tree of values in between.
//!
//! Values and keys are written as they came in, byte for byte. Everything appends to a text that is given.

/// Appends a string.
pub(super) fn push_string(text: &mut Vec<u8>, value: &str) {
    if is_plain(value.as_bytes()) {
        text.push(b'"');
        text.extend_from_slice(value.as_bytes());
        text.push(b'"');
    } else {
        push_json(text, value);
    }
}

/// Whether a text is written as it is. Eight bytes are looked at at once; a mark may be wrong only above a right one.
fn is_plain(text: &[u8]) -> bool {
    const fn each(byte: u8) -> u64 {
        u64::from_ne_bytes([byte; 8])
    }
    let (words, rest) = text.as_chunks();
    let is_plain_word = |word: &[u8; 8]| {
        let word = u64::from_le_bytes(*word);
        let quotes = (word ^ each(b'"')).wrapping_sub(each(1));
        let backslashes = (word ^ each(b'\\')).wrapping_sub(each(1));
        let controls = word.wrapping_sub(each(b' '));
        (quotes | backslashes | controls) & !word & each(0x80) == 0
    };
    let is_plain_byte = |byte: &u8| *byte >= b' ' && *byte != b'"' && *byte != b'\\';
    words.iter().all(is_plain_word) && rest.iter().all(is_plain_byte)
}

/// Appends a whole number.
pub(super) fn push_integer(text: &mut Vec<u8>, value: i64) {
    push_json(text, &value);
}

/// Appends anything that is a part of the protocol and not of a device.
pub(super) fn push_json(text: &mut Vec<u8>, value: &(impl serde::Serialize + ?Sized)) {
    serde_json::to_writer(text, value).expect("messages can be written as JSON");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn strings_and_numbers_are_those_of_serde_json(value in any::<String>(), number in any::<i64>()) {
            let mut text = Vec::new();
            push_string(&mut text, &value);
            prop_assert_eq!(&text, &serde_json::to_vec(&value).unwrap());
            text.clear();
            push_integer(&mut text, number);
            prop_assert_eq!(text, serde_json::to_vec(&number).unwrap());
        }
    }
}
