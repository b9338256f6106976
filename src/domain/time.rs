//! Points in time: the present, as it is handed in, and the times that updates carry out.

use std::fmt;
use std::sync::Arc;

/// The present. Deadlines are kept on the monotonic clock, output uses wall time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds on a clock that never goes back; its zero has no meaning.
    pub monotonic_ms: u64,
    /// Milliseconds since the Unix epoch.
    pub unix_ms: i64,
}

/// The time of an update or last value, as it is sent out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Timestamp {
    /// Milliseconds since the Unix epoch; written as `YYYY-MM-DDTHH:mm:ss.sssZ`.
    UnixMs(i64),
    /// An ISO 8601 text that a device sent; written as it came.
    Text(Arc<str>),
}

/// The two times of what came in: when it was, and when the relay took it in.
///
/// The first is for people; the second tells how old something is without trusting a device's clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The time of the message.
    pub timestamp: Timestamp,
    /// When the relay took the message in, in milliseconds since the Unix epoch.
    pub received_unix_ms: i64,
}

/// Something that is known since a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamped<T> {
    /// What is known.
    pub value: T,
    /// Since when.
    pub stamp: Stamp,
}

/// Numbers below this are seconds since the Unix epoch, others milliseconds.
const SECONDS_BELOW: f64 = 1e11;

/// Longest text taken for a time.
const TEXT_BYTES_MAX: usize = 64;

impl Timestamp {
    /// Takes a text that is a date, or a date and time with or without an offset, in ISO 8601. `None` for anything
    /// else, so whatever is accepted needs no escaping in JSON.
    pub fn iso_8601(text: &str) -> Option<Self> {
        let plausible = text.len() <= TEXT_BYTES_MAX
            && text
                .starts_with(|first: char| first.is_ascii_digit() || first == '+' || first == '-')
            && text
                .bytes()
                .all(|byte| byte.is_ascii_digit() || b"-+:.,TtZz ".contains(&byte));
        let parses = || {
            text.parse::<jiff::Timestamp>().is_ok() || text.parse::<jiff::civil::DateTime>().is_ok()
        };
        (plausible && parses()).then(|| Self::Text(Arc::from(text)))
    }

    /// Takes a number of seconds (below 1e11) or milliseconds since the Unix epoch. `None` for zero, for what is not
    /// a number and for times outside the years that ISO 8601 writes with four digits.
    pub fn number(number: f64) -> Option<Self> {
        if !number.is_finite() || number == 0.0 {
            return None;
        }
        let unix_ms = if number.abs() < SECONDS_BELOW {
            number * 1000.0
        } else {
            number
        };
        // Year 0001 to 9999, far inside the exact range of a 64-bit integer.
        if !(-6.21e13..=2.534e14).contains(&unix_ms) {
            return None;
        }
        #[expect(clippy::cast_possible_truncation, reason = "bounded just above")]
        Some(Self::UnixMs(unix_ms as i64))
    }
}

impl Timestamp {
    /// Appends the text that [`Display`](fmt::Display) shows. Updates carry a time each, so this is made to cost little.
    pub fn write_to(&self, text: &mut Vec<u8>) {
        match self {
            Self::UnixMs(unix_ms) => write_iso_8601(*unix_ms, text),
            Self::Text(written) => text.extend_from_slice(written.as_bytes()),
        }
    }
}

fn write_iso_8601(unix_ms: i64, text: &mut Vec<u8>) {
    let timestamp = jiff::Timestamp::from_millisecond(unix_ms).unwrap_or_default();
    let time = jiff::tz::Offset::UTC.to_datetime(timestamp);
    let Ok(year @ 0..=9999) = u16::try_from(time.year()) else {
        text.extend_from_slice(format!("{timestamp:.3}").as_bytes());
        return;
    };
    let two = |number: i8| two_digits(number.unsigned_abs());
    let [century, year] = [year / 100, year % 100]
        .map(|part| two_digits(u8::try_from(part).expect("a year of four digits has two of two")));
    let (month, day) = (two(time.month()), two(time.day()));
    let (hour, minute, second) = (two(time.hour()), two(time.minute()), two(time.second()));
    let ms = time.millisecond().unsigned_abs();
    let tenths = two_digits(u8::try_from(ms / 10).expect("a second has a thousand milliseconds"));
    let thousandth = b'0' + u8::try_from(ms % 10).expect("one digit");
    text.extend_from_slice(&[
        century[0], century[1], year[0], year[1], b'-', month[0], month[1], b'-', day[0], day[1],
        b'T', hour[0], hour[1], b':', minute[0], minute[1], b':', second[0], second[1], b'.',
        tenths[0], tenths[1], thousandth, b'Z',
    ]);
}

fn two_digits(number: u8) -> [u8; 2] {
    [b'0' + number / 10, b'0' + number % 10]
}

impl fmt::Display for Timestamp {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnixMs(unix_ms) => {
                let timestamp = jiff::Timestamp::from_millisecond(*unix_ms).unwrap_or_default();
                write!(formatter, "{timestamp:.3}")
            }
            Self::Text(text) => formatter.write_str(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn iso_8601_texts_pass_through_as_they_came() {
        for text in [
            "2024-05-01T10:00:00Z",
            "2024-05-01T10:00:00.1234567Z",
            "2024-05-01T10:00:00.000+02:00",
            "2024-05-01T10:00:00",
            "2024-05-01",
        ] {
            assert_eq!(Timestamp::iso_8601(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn other_texts_are_no_time() {
        for text in [
            "",
            "now",
            "12",
            "2024-13-01",
            "2024-05-01T10:00:00Z\"",
            "2024-05-01T10:00:00[UTC]",
            "99:99",
        ] {
            assert_eq!(Timestamp::iso_8601(text), None, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn a_time_is_written_as_it_is_shown(unix_ms in proptest::prelude::any::<i64>()) {
            for unix_ms in [unix_ms, unix_ms % 400_000_000_000_000, unix_ms % 4_000_000_000_000] {
                let timestamp = Timestamp::UnixMs(unix_ms);
                let mut written = Vec::new();
                timestamp.write_to(&mut written);
                proptest::prop_assert_eq!(String::from_utf8(written).unwrap(), timestamp.to_string());
            }
        }
    }

    #[test]
    fn numbers_are_seconds_or_milliseconds_by_their_size() {
        assert_eq!(
            Timestamp::number(1_714_557_600.0).unwrap().to_string(),
            "2024-05-01T10:00:00.000Z"
        );
        assert_eq!(
            Timestamp::number(1_714_557_600_123.0).unwrap().to_string(),
            "2024-05-01T10:00:00.123Z"
        );
        for number in [0.0, f64::NAN, f64::INFINITY, 1e300, -1e300] {
            assert_eq!(Timestamp::number(number), None, "{number}");
        }
    }
}
