//! JSON texts with device values, put together without a tree of values in between.
//!
//! Values and keys are written as they came in, byte for byte. Everything appends to a text that is given.

/// Appends a string.
pub(super) fn push_string(text: &mut Vec<u8>, value: &str) {
    let is_special = |byte: &u8| *byte < b' ' || *byte == b'"' || *byte == b'\\';
    // Counted to the end, which costs less than to look for a way out at each byte.
    if value
        .as_bytes()
        .iter()
        .filter(|byte| is_special(byte))
        .count()
        == 0
    {
        text.push(b'"');
        text.extend_from_slice(value.as_bytes());
        text.push(b'"');
    } else {
        push_json(text, value);
    }
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
