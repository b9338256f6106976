//! Names of things. Each is a type of its own, so that one cannot stand in for another.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{BuildHasher as _, Hash, Hasher};
use std::sync::{Arc, LazyLock};

use hashbrown::{DefaultHashBuilder, Equivalent};
use uuid::Uuid;

use super::raw_json::offset;

/// Longest accepted device id in bytes. IoT Hub allows 128 characters; other sources may use longer names.
pub const DEVICE_ID_BYTES_MAX: usize = 1024;

/// Longest accepted telemetry key in bytes.
pub const TELEMETRY_KEY_BYTES_MAX: usize = 4096;

/// Longest accepted module id in bytes, as IoT Hub has it.
pub const MODULE_ID_BYTES_MAX: usize = 128;

/// The exact id of a device, or of a module of one; both are case-sensitive.
///
/// A module is like a device of its own: nothing that is said of its device holds for it, be it values or grants.
#[derive(Clone)]
pub struct DeviceId {
    /// The device's id and right behind it the module's, if it is one.
    text: Arc<str>,
    device_bytes: u32,
    /// Of the name. An id is looked up again and again in one map and another on its way; this saves reading its text.
    hash: u32,
}

impl DeviceId {
    /// Takes the id of a device: not empty and within the length limit; `None` otherwise.
    pub fn new(device: &str) -> Option<Self> {
        let module = None;
        DeviceName { device, module }.to_id()
    }

    /// Takes the ids of a device and of a module of it, both not empty and within their length limits; `None` otherwise.
    pub fn of_module(device: &str, module: &str) -> Option<Self> {
        let module = Some(module);
        DeviceName { device, module }.to_id()
    }

    /// The device's id, also that of the device that a module belongs to.
    pub fn as_str(&self) -> &str {
        &self.text[..self.device_bytes as usize]
    }

    /// The module's id, if it is one.
    pub fn module(&self) -> Option<&str> {
        Some(&self.text[self.device_bytes as usize..]).filter(|module| !module.is_empty())
    }

    fn parts(&self) -> (&str, u32) {
        (&self.text, self.device_bytes)
    }
}

impl PartialEq for DeviceId {
    fn eq(&self, other: &Self) -> bool {
        // Mostly it is the same one.
        let is_same =
            Arc::ptr_eq(&self.text, &other.text) && self.device_bytes == other.device_bytes;
        is_same || self.hash == other.hash && self.parts() == other.parts()
    }
}

impl Eq for DeviceId {}

impl PartialOrd for DeviceId {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for DeviceId {
    fn cmp(&self, other: &Self) -> Ordering {
        self.parts().cmp(&other.parts())
    }
}

/// Hashed like a [`DeviceName`] of the same parts.
impl Hash for DeviceId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u32(self.hash);
    }
}

impl fmt::Display for DeviceId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())?;
        self.module()
            .map_or(Ok(()), |module| write!(formatter, "/{module}"))
    }
}

impl fmt::Debug for DeviceId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.to_string(), formatter)
    }
}

/// The parts of a [`DeviceId`], to look one up by.
#[derive(Clone, Copy, Debug)]
pub struct DeviceName<'a> {
    /// The device's id.
    pub device: &'a str,
    /// The module's id, if it is one.
    pub module: Option<&'a str>,
}

impl DeviceName<'_> {
    /// The id of that name; `None` when a part is empty or too long.
    pub fn to_id(self) -> Option<DeviceId> {
        let Self { device, module } = self;
        let fits = is_within(device, DEVICE_ID_BYTES_MAX)
            && module.is_none_or(|module| is_within(module, MODULE_ID_BYTES_MAX));
        fits.then(|| DeviceId {
            text: match module {
                None => Arc::from(device),
                Some(module) => Arc::from(format!("{device}{module}")),
            },
            device_bytes: offset(device.len()),
            hash: self.short_hash(),
        })
    }

    /// What ids and names are hashed by, for as long as the process runs.
    fn short_hash(self) -> u32 {
        static HASHER: LazyLock<DefaultHashBuilder> = LazyLock::new(DefaultHashBuilder::default);
        let mut hasher = HASHER.build_hasher();
        hasher.write(self.device.as_bytes());
        if let Some(module) = self.module {
            hasher.write(module.as_bytes());
        }
        u32::try_from(hasher.finish() >> u32::BITS).expect("it has 64 bits")
    }
}

impl Hash for DeviceName<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u32(self.short_hash());
    }
}

impl Equivalent<DeviceId> for DeviceName<'_> {
    fn equivalent(&self, id: &DeviceId) -> bool {
        let (device, module) = id.text.as_bytes().split_at(id.device_bytes as usize);
        let names_module = match self.module {
            None => module.is_empty(),
            Some(name) => !module.is_empty() && name.as_bytes() == module,
        };
        self.device.as_bytes() == device && names_module
    }
}

/// The name of one top-level member of a device's telemetry.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TelemetryKey(Arc<str>);

impl TelemetryKey {
    /// Takes a non-empty name within the length limit; `None` otherwise.
    pub fn new(name: &str) -> Option<Self> {
        is_within(name, TELEMETRY_KEY_BYTES_MAX).then(|| Self(Arc::from(name)))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for TelemetryKey {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TelemetryKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Debug for TelemetryKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, formatter)
    }
}

fn is_within(name: &str, bytes_max: usize) -> bool {
    !name.is_empty() && name.len() <= bytes_max
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
    use proptest::prelude::*;

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
    fn a_module_is_neither_its_device_nor_a_device_of_a_like_name() {
        let module = DeviceId::of_module("d", "m").unwrap();
        assert_eq!((module.as_str(), module.module()), ("d", Some("m")));
        assert_eq!(format!("{module}"), "d/m");
        for other in [
            DeviceId::new("d"),
            DeviceId::new("dm"),
            DeviceId::new("d/m"),
        ] {
            assert_ne!(other.as_ref(), Some(&module));
            assert_eq!(other.unwrap().module(), None);
        }
        assert_ne!(
            DeviceId::of_module("a", "bc"),
            DeviceId::of_module("ab", "c")
        );
        assert_eq!(DeviceId::of_module("d", ""), None);
        assert_eq!(DeviceId::of_module("", "m"), None);
        assert_eq!(
            DeviceId::of_module("d", &"m".repeat(MODULE_ID_BYTES_MAX + 1)),
            None
        );
    }

    #[test]
    fn an_id_is_found_by_its_parts() {
        let ids: hashbrown::HashSet<_> = [DeviceId::new("d"), DeviceId::of_module("d", "m")]
            .into_iter()
            .flatten()
            .collect();
        let found = |module| {
            let name = DeviceName {
                device: "d",
                module,
            };
            ids.get(&name).map(ToString::to_string)
        };
        assert_eq!(found(None).as_deref(), Some("d"));
        assert_eq!(found(Some("m")).as_deref(), Some("d/m"));
        assert_eq!(found(Some("n")), None);
    }

    #[test]
    fn a_device_id_is_never_empty_nor_endless() {
        assert_eq!(DeviceId::new(""), None);
        assert!(DeviceId::new(&"d".repeat(DEVICE_ID_BYTES_MAX)).is_some());
        assert_eq!(DeviceId::new(&"d".repeat(DEVICE_ID_BYTES_MAX + 1)), None);
    }

    proptest! {
        #[test]
        fn ids_and_names_are_the_same_when_their_parts_are(
            (device, module) in ("[ab]{1,3}", prop::option::of("[ab]{0,2}")),
            (other_device, other_module) in ("[ab]{1,3}", prop::option::of("[ab]{0,2}")),
        ) {
            let (device, other_device) = (device.as_str(), other_device.as_str());
            let (module, other_module) = (module.as_deref(), other_module.as_deref());
            let other = DeviceName { device: other_device, module: other_module };
            let ids = (DeviceName { device, module }.to_id(), other.to_id());
            prop_assert_eq!(ids.0.is_none(), module == Some(""));
            let (Some(id), Some(other_id)) = ids else {
                return Ok(());
            };
            let is_same = (device, module) == (other_device, other_module);
            prop_assert_eq!(id == other_id, is_same);
            prop_assert_eq!(id.cmp(&other_id).is_eq(), is_same);
            prop_assert_eq!(other.equivalent(&id), is_same);
            let hasher = DefaultHashBuilder::default();
            prop_assert_eq!(hasher.hash_one(other), hasher.hash_one(&other_id));
        }
    }
}
