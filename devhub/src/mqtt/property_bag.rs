//! The properties of a message at the end of its topic: `name=value&name=value`, both percent-encoded,
//! a space as `%20` and never as `+`. A name alone is a property without a value. See "Communicate with an IoT hub using the MQTT protocol" in the Azure
//! documentation.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// What `encodeURIComponent` leaves alone, less what has a meaning in topics and topic filters.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// Why a text is not a property bag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    /// There is a value without a name.
    #[error("a property has no name")]
    NoName,
    /// What is percent-encoded is not text.
    #[error("a property is not utf-8")]
    NotUtf8,
}

/// Reads a bag. Node's SDK ends the bags of module outputs with a slash, which is not part of them.
pub(crate) fn parse(bag: &str) -> Result<Vec<(String, String)>, Error> {
    let bag = bag.strip_suffix('/').unwrap_or(bag);
    let properties = bag.split('&').filter(|property| !property.is_empty());
    let properties = properties.map(|property| {
        let (name, value) = property.split_once('=').unwrap_or((property, ""));
        if name.is_empty() {
            return Err(Error::NoName);
        }
        Ok((decode(name)?, decode(value)?))
    });
    properties.collect()
}

/// Writes a bag.
pub(crate) fn format(properties: &[(String, String)]) -> String {
    let mut bag = String::new();
    for (name, value) in properties {
        if !bag.is_empty() {
            bag.push('&');
        }
        bag.extend(utf8_percent_encode(name, PLAIN));
        bag.push('=');
        bag.extend(utf8_percent_encode(value, PLAIN));
    }
    bag
}

fn decode(text: &str) -> Result<String, Error> {
    let decoded = percent_decode_str(text).decode_utf8();
    Ok(decoded.map_err(|_| Error::NotUtf8)?.into_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
        let own = |text: &&str| (*text).to_owned();
        expected.iter().map(|(n, v)| (own(n), own(v))).collect()
    }

    #[test]
    fn names_and_values_are_percent_decoded() {
        assert_eq!(
            parse("%24.ct=application%2Fjson&$.ce=utf-8&a%20b=c+d&caf%C3%A9=%E2%82%AC"),
            Ok(pairs(&[
                ("$.ct", "application/json"),
                ("$.ce", "utf-8"),
                ("a b", "c+d"),
                ("café", "€"),
            ]))
        );
    }

    #[test]
    fn values_may_be_empty_or_absent_or_contain_an_equals_sign() {
        assert_eq!(
            parse("a=&b&c=d=e"),
            Ok(pairs(&[("a", ""), ("b", ""), ("c", "d=e")]))
        );
    }

    #[test]
    fn a_bag_may_be_empty_and_may_end_with_a_slash() {
        assert_eq!(parse(""), Ok(Vec::new()));
        assert_eq!(parse("/"), Ok(Vec::new()));
        assert_eq!(parse("a=b/"), Ok(pairs(&[("a", "b")])));
        assert_eq!(parse("&&a=b&"), Ok(pairs(&[("a", "b")])));
    }

    #[test]
    fn a_value_without_a_name_and_bytes_that_are_no_text_are_refused() {
        assert_eq!(parse("=b"), Err(Error::NoName));
        assert_eq!(parse("a=%ff"), Err(Error::NotUtf8));
        assert_eq!(parse("a=%zz"), Ok(pairs(&[("a", "%zz")])));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(
            properties in prop::collection::vec((".+", ".*"), 0..5)
        ) {
            let bag = format(&properties);
            prop_assert!(!bag.contains(['/', '#', '+']));
            prop_assert_eq!(parse(&bag), Ok(properties));
        }

        #[test]
        fn no_text_makes_it_panic(bag in ".*") {
            let _ = parse(&bag);
        }
    }
}
