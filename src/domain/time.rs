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
            && text.bytes().all(may_be_in_iso_8601);
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

/// Writes times one after the other, as the texts that [`Display`](fmt::Display) shows. Updates carry a time each, and those
/// that leave together are mostly of the same minute: that part is worked out once.
#[derive(Debug, Default)]
pub struct TimeWriter {
    minute: Option<(u64, [u8; MINUTE_BYTES])>,
}

impl TimeWriter {
    /// Appends a time.
    pub fn write(&mut self, timestamp: &Timestamp, text: &mut Vec<u8>) {
        match timestamp {
            Timestamp::UnixMs(unix_ms) if PLAIN_UNIX_MS.contains(unix_ms) => {
                self.write_plain(unix_ms.unsigned_abs(), text);
            }
            Timestamp::UnixMs(_) => text.extend_from_slice(timestamp.to_string().as_bytes()),
            Timestamp::Text(written) => text.extend_from_slice(written.as_bytes()),
        }
    }

    fn write_plain(&mut self, unix_ms: u64, text: &mut Vec<u8>) {
        let (minutes, ms) = (unix_ms / MINUTE_MS, unix_ms % MINUTE_MS);
        let minute = match self.minute {
            Some((known, minute)) if known == minutes => minute,
            _ => self.minute.insert((minutes, minute(minutes))).1,
        };
        text.extend_from_slice(&minute);
        let [second, [_, hundreds], rest] = [ms / 1000, ms % 1000 / 100, ms % 100].map(two_digits);
        text.extend_from_slice(&[second[0], second[1], b'.', hundreds, rest[0], rest[1], b'Z']);
    }
}

fn may_be_in_iso_8601(byte: u8) -> bool {
    let is_mark = |byte| {
        matches!(
            byte,
            b'-' | b'+' | b':' | b'.' | b',' | b'T' | b't' | b'Z' | b'z' | b' '
        )
    };
    byte.is_ascii_digit() || is_mark(byte)
}

/// The times from 1970 up to the end of those that there are, a day before the year 10000.
const PLAIN_UNIX_MS: std::ops::Range<i64> = 0..253_402_207_200_000;

const MINUTE_MS: u64 = 60_000;

const DAY_MINUTES: u64 = 24 * 60;

/// Of a text up to its seconds: `YYYY-MM-DDTHH:mm:`.
const MINUTE_BYTES: usize = 17;

/// Days from the beginning of March of the year 0, from which leap days are at the ends of years, to 1970.
const DAYS_BEFORE_1970: u64 = 719_468;

/// The text of a time up to its seconds, by the minutes since 1970.
fn minute(minutes: u64) -> [u8; MINUTE_BYTES] {
    let days = minutes / DAY_MINUTES + DAYS_BEFORE_1970;
    let minutes = minutes % DAY_MINUTES;
    // The calendar repeats every 400 years; within these, years end with their leap day if they have one.
    let (cycle, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    // From March on, five months have 153 days, again and again.
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next_year) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    let year = 400 * cycle + year + next_year;
    let [[y0, y1], [y2, y3], month, day] = [year / 100, year % 100, month, day].map(two_digits);
    let [hour, minute] = [minutes / 60, minutes % 60].map(two_digits);
    [
        y0, y1, y2, y3, b'-', month[0], month[1], b'-', day[0], day[1], b'T', hour[0], hour[1],
        b':', minute[0], minute[1], b':',
    ]
}

/// The last two digits of a number.
fn two_digits(number: u64) -> [u8; 2] {
    let digit = |number: u64| b'0' + number.to_le_bytes()[0] % 10;
    [digit(number / 10), digit(number)]
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
            let plain = unix_ms.rem_euclid(PLAIN_UNIX_MS.end);
            let mut times = TimeWriter::default();
            for unix_ms in [unix_ms, plain, plain ^ 0x3fff, -plain, plain, plain % 4_000_000_000_000] {
                let timestamp = Timestamp::UnixMs(unix_ms);
                let mut written = Vec::new();
                times.write(&timestamp, &mut written);
                proptest::prop_assert_eq!(String::from_utf8(written).unwrap(), timestamp.to_string());
            }
        }
    }

    #[test]
    fn every_day_is_written_as_it_is_shown() {
        // All days of the 400 years after which the calendar repeats itself, and some of the others.
        let days = (0..146_097).chain((146_097..2_932_896).step_by(97));
        let last = PLAIN_UNIX_MS.end - 1;
        let mut times = TimeWriter::default();
        for unix_ms in days.map(|day| day * 86_400_000).chain([last, last + 1, -1]) {
            let mut written = Vec::new();
            let timestamp = Timestamp::UnixMs(unix_ms);
            times.write(&timestamp, &mut written);
            assert_eq!(String::from_utf8(written).unwrap(), timestamp.to_string());
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
