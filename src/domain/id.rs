//! Names of things. Each is a type of its own, so that one cannot stand in for another.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use uuid::Uuid;

/// Longest accepted device id in bytes. IoT Hub allows 128 characters; other sources may use longer names.
pub const DEVICE_ID_BYTES_MAX: usize = 1024;

/// Longest accepted telemetry key in bytes.
pub const TELEMETRY_KEY_BYTES_MAX: usize = 4096;

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $bytes_max:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Takes a non-empty name within the length limit; `None` otherwise.
            pub fn new(name: &str) -> Option<Self> {
                (!name.is_empty() && name.len() <= $bytes_max).then(|| Self(Arc::from(name)))
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, formatter)
            }
        }
    };
}

text_id! {
    /// The exact id of a device; case-sensitive.
    DeviceId, DEVICE_ID_BYTES_MAX
}

text_id! {
    /// The name of one top-level member of a device's telemetry.
    TelemetryKey, TELEMETRY_KEY_BYTES_MAX
}

/// The id of a session, which is also its bearer secret: a UUID version 7 with 74 random bits.
///
/// The time in it lets a restarted relay tell an id it must once have issued from one that nobody ever did.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(Uuid);

impl SessionId {
    /// Makes the id of a session created at `unix_ms` from random bytes.
    pub fn issue(unix_ms: i64, random: [u8; 10]) -> Self {
        let unix_ms = u64::try_from(unix_ms).unwrap_or(0);
        Self(uuid::Builder::from_unix_timestamp_millis(unix_ms, &random).into_uuid())
    }

    /// Reads the text form that [`Display`](fmt::Display) writes; any other text names no session.
    pub fn parse(text: &str) -> Option<Self> {
        let uuid = Uuid::try_parse(text).ok()?;
        let mut canonical = Uuid::encode_buffer();
        (uuid.hyphenated().encode_lower(&mut canonical) == text).then_some(Self(uuid))
    }

    /// When the session was created, in milliseconds since the Unix epoch; `None` for a UUID that carries no
    /// such time and so was never issued here.
    pub fn issued_unix_ms(self) -> Option<i64> {
        if self.0.get_version_num() != 7 {
            return None;
        }
        let (seconds, nanoseconds) = self.0.get_timestamp()?.to_unix();
        i64::try_from(seconds * 1000 + u64::from(nanoseconds / 1_000_000)).ok()
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// Shows only the time half: the rest is a bearer secret and must not reach a log.
impl fmt::Debug for SessionId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.to_string();
        write!(formatter, "{}…", &text[..13])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_id_reads_back_and_tells_its_time() {
        let id = SessionId::issue(1_700_000_000_123, [7; 10]);
        assert_eq!(SessionId::parse(&id.to_string()), Some(id));
        assert_eq!(id.issued_unix_ms(), Some(1_700_000_000_123));
    }

    #[test]
    fn other_spellings_of_a_session_id_name_no_session() {
        let text = SessionId::issue(1_700_000_000_123, [0xab; 10]).to_string();
        assert_eq!(SessionId::parse(&text.to_uppercase()), None);
        assert_eq!(SessionId::parse(&text.replace('-', "")), None);
        assert_eq!(SessionId::parse(&format!("{{{text}}}")), None);
        assert_eq!(SessionId::parse(""), None);
    }

    #[test]
    fn the_debug_form_of_a_session_id_hides_its_random_half() {
        let id = SessionId::issue(1_700_000_000_123, [0x5a; 10]);
        assert!(!format!("{id:?}").contains("5a5a5a"));
    }

    #[test]
    fn a_device_id_is_never_empty_nor_endless() {
        assert_eq!(DeviceId::new(""), None);
        assert!(DeviceId::new(&"d".repeat(DEVICE_ID_BYTES_MAX)).is_some());
        assert_eq!(DeviceId::new(&"d".repeat(DEVICE_ID_BYTES_MAX + 1)), None);
    }
}
