//! The newest value of each telemetry key of one device.
//!
//! Values are overwritten in place, so a device that keeps sending the same keys costs no allocation. The last message
//! to arrive wins; timestamps are carried, never compared.

use std::sync::Arc;

use hashbrown::HashMap;

use super::id::TelemetryKey;
use super::raw_json::RawJson;
use super::time::Stamp;

/// The newest value of one telemetry key.
#[derive(Clone, Debug, PartialEq)]
pub struct LastValue {
    /// The telemetry key.
    pub key: TelemetryKey,
    /// The value as the device wrote it.
    pub value: RawJson,
    /// The times of the message that carried it.
    pub stamp: Stamp,
}

/// Stands for a telemetry key of one device, for as long as the key has a value or is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct KeySlot(u32);

impl KeySlot {
    fn at(place: usize) -> Self {
        Self(u32::try_from(place).expect("keys are bounded far below 4 billion"))
    }

    fn place(self) -> usize {
        self.0 as usize
    }
}

/// What became of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Recorded {
    /// It is now the last value.
    Stored {
        slot: KeySlot,
        /// Whether it is written differently from the one before, or there was none.
        changed: bool,
    },
    /// The device has too many keys; the slot is there only because a view holds the key.
    Refused(Option<KeySlot>),
}

impl Recorded {
    pub(super) fn slot(self) -> Option<KeySlot> {
        match self {
            Self::Stored { slot, .. } => Some(slot),
            Self::Refused(slot) => slot,
        }
    }

    /// Whether the value may be another than the one before; of one that is not remembered nobody knows.
    pub(super) fn may_have_changed(self) -> bool {
        match self {
            Self::Stored { changed, .. } => changed,
            Self::Refused(_) => true,
        }
    }
}

/// The telemetry keys of one device: those with a last value and those that views hold.
#[derive(Debug, Default)]
pub(super) struct KeyTable {
    slots: HashMap<TelemetryKey, KeySlot>,
    entries: Vec<Entry>,
    free: Vec<KeySlot>,
    values: usize,
}

#[derive(Debug)]
struct Entry {
    key: TelemetryKey,
    /// How many views select the key by name.
    holds: u32,
    value: Option<StoredValue>,
}

#[derive(Debug)]
struct StoredValue {
    json: String,
    stamp: Stamp,
}

impl KeyTable {
    /// Makes `value` the last value of `key`, unless the key is new and the device has `values_max` already.
    pub(super) fn record(
        &mut self,
        key: &str,
        value: &str,
        stamp: &Stamp,
        values_max: usize,
    ) -> Recorded {
        let known = self.slots.get(key).copied();
        let full = self.values >= values_max;
        let slot = match known {
            Some(slot) => slot,
            None if full => return Recorded::Refused(None),
            None => match TelemetryKey::new(key) {
                Some(key) => self.add(key),
                None => return Recorded::Refused(None),
            },
        };
        let mut changed = true;
        match &mut self.entries[slot.place()].value {
            Some(stored) => {
                changed = stored.json != value;
                if changed {
                    stored.json.clear();
                    stored.json.push_str(value);
                }
                stored.stamp.clone_from(stamp);
            }
            None if full => return Recorded::Refused(Some(slot)),
            empty @ None => {
                *empty = Some(StoredValue {
                    json: value.to_owned(),
                    stamp: stamp.clone(),
                });
                self.values += 1;
            }
        }
        Recorded::Stored { slot, changed }
    }

    /// Keeps a slot for a key on behalf of a view, until [`release`](Self::release).
    pub(super) fn hold(&mut self, key: &TelemetryKey) -> KeySlot {
        let slot = match self.slots.get(key.as_str()) {
            Some(slot) => *slot,
            None => self.add(key.clone()),
        };
        self.entries[slot.place()].holds += 1;
        slot
    }

    /// Undoes one [`hold`](Self::hold).
    pub(super) fn release(&mut self, slot: KeySlot) {
        let entry = &mut self.entries[slot.place()];
        entry.holds -= 1;
        self.forget_if_unused(slot);
    }

    /// The last value of a key.
    pub(super) fn last_value(&self, key: &str) -> Option<LastValue> {
        let slot = self.slots.get(key)?;
        self.entries[slot.place()].last_value()
    }

    /// About how many bytes the last value of a key takes when it is handed out.
    pub(super) fn value_bytes(&self, key: &str) -> usize {
        let slot = self.slots.get(key);
        slot.map_or(0, |slot| self.entries[slot.place()].bytes())
    }

    /// About how many bytes all last values take when they are handed out.
    pub(super) fn bytes(&self) -> usize {
        self.entries.iter().map(Entry::bytes).sum()
    }

    /// All last values, in the order in which the keys first appeared.
    pub(super) fn last_values(&self) -> Vec<LastValue> {
        self.entries.iter().filter_map(Entry::last_value).collect()
    }

    /// Forgets the last value of one key, or all of them. Returns what was forgotten.
    pub(super) fn remove(&mut self, key: Option<&TelemetryKey>) -> Vec<LastValue> {
        let slots: Vec<KeySlot> = match key {
            Some(key) => self.slots.get(key.as_str()).copied().into_iter().collect(),
            None => (0..self.entries.len()).map(KeySlot::at).collect(),
        };
        let mut removed = Vec::new();
        for slot in slots {
            let entry = &mut self.entries[slot.place()];
            if let Some(value) = entry.last_value() {
                entry.value = None;
                self.values -= 1;
                removed.push(value);
                self.forget_if_unused(slot);
            }
        }
        removed
    }

    /// How many last values there are.
    pub(super) fn values(&self) -> usize {
        self.values
    }

    /// Whether there is neither a value nor a held key.
    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    fn add(&mut self, key: TelemetryKey) -> KeySlot {
        let entry = Entry {
            key: key.clone(),
            holds: 0,
            value: None,
        };
        let slot = if let Some(slot) = self.free.pop() {
            self.entries[slot.place()] = entry;
            slot
        } else {
            self.entries.push(entry);
            KeySlot::at(self.entries.len() - 1)
        };
        self.slots.insert(key, slot);
        slot
    }

    fn forget_if_unused(&mut self, slot: KeySlot) {
        let entry = &self.entries[slot.place()];
        if entry.holds == 0
            && entry.value.is_none()
            && self.slots.remove(entry.key.as_str()).is_some()
        {
            self.free.push(slot);
        }
    }
}

/// Bytes that a last value takes beside its key and text.
const VALUE_BYTES: usize = 128;

impl Entry {
    fn bytes(&self) -> usize {
        let value = self.value.as_ref();
        value.map_or(0, |value| {
            VALUE_BYTES + self.key.as_str().len() + value.json.len()
        })
    }

    fn last_value(&self) -> Option<LastValue> {
        let stored = self.value.as_ref()?;
        Some(LastValue {
            key: self.key.clone(),
            value: RawJson::from_valid(Arc::<str>::from(stored.json.as_str())),
            stamp: stored.stamp.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::time::Timestamp;
    use super::*;

    const NOW: Stamp = at(1);

    const fn at(unix_ms: i64) -> Stamp {
        Stamp {
            timestamp: Timestamp::UnixMs(unix_ms),
            received_unix_ms: unix_ms,
        }
    }

    fn key(name: &str) -> TelemetryKey {
        TelemetryKey::new(name).unwrap()
    }

    #[test]
    fn the_newest_value_replaces_the_one_before() {
        let mut keys = KeyTable::default();
        let first = keys.record("t", "123456789", &NOW, 10);
        let second = keys.record("t", "0", &at(2), 10);
        assert_eq!(first.slot(), second.slot());
        assert!(first.may_have_changed() && second.may_have_changed());
        assert!(!keys.record("t", "0", &at(2), 10).may_have_changed());
        let last = keys.last_value("t").unwrap();
        assert_eq!((last.value.as_str(), last.stamp), ("0", at(2)));
        assert_eq!(keys.values(), 1);
    }

    #[test]
    fn a_full_table_refuses_new_keys_but_updates_known_ones() {
        let mut keys = KeyTable::default();
        keys.record("a", "1", &NOW, 1);
        assert_eq!(keys.record("b", "1", &NOW, 1), Recorded::Refused(None));
        let held = keys.hold(&key("c"));
        assert_eq!(
            keys.record("c", "1", &NOW, 1),
            Recorded::Refused(Some(held))
        );
        assert!(matches!(
            keys.record("a", "2", &NOW, 1),
            Recorded::Stored { changed: true, .. }
        ));
        assert_eq!(keys.last_values().len(), 1);
    }

    #[test]
    fn a_key_lives_while_it_has_a_value_or_is_held() {
        let mut keys = KeyTable::default();
        let held = keys.hold(&key("t"));
        keys.record("t", "1", &NOW, 10);
        assert_eq!(keys.remove(None).len(), 1);
        assert!(!keys.is_empty());
        assert_eq!(keys.record("t", "2", &NOW, 10).slot(), Some(held));
        keys.release(held);
        assert!(!keys.is_empty());
        keys.remove(Some(&key("t")));
        assert!(keys.is_empty());
        assert_eq!(keys.hold(&key("u")), held, "the slot is used again");
        assert_eq!(keys.remove(None), []);
    }
}
