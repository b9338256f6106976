//! The newest value of each telemetry key of one device.
//!
//! A device mostly sends the same keys again and again. Its last message is then kept as it came, and the next one of the
//! same [`Shape`] takes its place at once, whatever the number of keys: that costs neither a look-up nor a copy. Several
//! shapes are kept side by side for a device that sends different parts of its state in turn. The last message to arrive
//! wins; timestamps are carried, never compared.

use std::sync::Arc;

use hashbrown::HashMap;
use smallvec::SmallVec;

use super::id::TelemetryKey;
use super::raw_json::RawJson;
use super::shape::Shape;
use super::telemetry::Telemetry;
use super::time::Stamp;

/// Messages of one device that are kept as they came. Values of further ones are copied.
const LAYERS_MAX: usize = 4;

/// Longest text that is kept as it came: it stays in memory for as long as one of its values is a last value.
const LAYER_BODY_BYTES_MAX: usize = 4 * 1024;

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

/// A message that was recorded, and what became of its values.
#[derive(Debug)]
pub(super) struct Recorded<'a> {
    message: Message<'a>,
    outcome: Outcome<'a>,
}

#[derive(Debug)]
enum Message<'a> {
    Kept(&'a Telemetry),
    Passed(Telemetry),
}

#[derive(Debug)]
enum Outcome<'a> {
    /// Every value took the place of the one in the message before, which had the same keys.
    Replaced {
        slots: &'a [KeySlot],
        before: Telemetry,
    },
    Each(SmallVec<[Fate; 16]>),
}

/// What became of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It is now the last value.
    Stored {
        slot: KeySlot,
        /// Whether it is written differently from the one before, or there was none.
        changed: bool,
    },
    /// The device has too many keys; the slot is there only because a view holds the key.
    Refused(Option<KeySlot>),
}

impl Recorded<'_> {
    /// The message.
    pub(super) fn telemetry(&self) -> &Telemetry {
        match &self.message {
            Message::Kept(telemetry) => telemetry,
            Message::Passed(telemetry) => telemetry,
        }
    }

    /// The slot of a member's key, if it has one.
    pub(super) fn slot(&self, member: usize) -> Option<KeySlot> {
        match &self.outcome {
            Outcome::Replaced { slots, .. } => Some(slots[member]),
            Outcome::Each(fates) => match fates[member] {
                Fate::Stored { slot, .. } => Some(slot),
                Fate::Refused(slot) => slot,
            },
        }
    }

    /// Whether a member's value may be another than the one before; of one that is not remembered nobody knows.
    pub(super) fn may_have_changed(&self, member: usize) -> bool {
        match &self.outcome {
            Outcome::Replaced { before, .. } => {
                before.value(member) != self.telemetry().value(member)
            }
            Outcome::Each(fates) => match fates[member] {
                Fate::Stored { changed, .. } => changed,
                Fate::Refused(_) => true,
            },
        }
    }

    /// How many values were not remembered.
    pub(super) fn refused(&self) -> usize {
        match &self.outcome {
            Outcome::Replaced { .. } => 0,
            Outcome::Each(fates) => {
                let refused = |fate: &&Fate| matches!(fate, Fate::Refused(_));
                fates.iter().filter(refused).count()
            }
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
    /// Values point into it by place, so a place whose message is gone stays, empty.
    layers: SmallVec<[Option<Layer>; 1]>,
}

#[derive(Debug)]
struct Entry {
    key: TelemetryKey,
    /// How many views select the key by name.
    holds: u32,
    value: Value,
}

/// Where a last value is.
#[derive(Debug)]
enum Value {
    None,
    /// A member of a message that is kept.
    InLayer {
        layer: u32,
        member: u32,
    },
    Copied(Box<Copied>),
}

#[derive(Debug)]
struct Copied {
    json: String,
    stamp: Stamp,
}

/// A message that is kept as it came, because its values are last values.
#[derive(Debug)]
struct Layer {
    telemetry: Telemetry,
    stamp: Stamp,
    /// Of each member.
    slots: Box<[KeySlot]>,
    /// How many of its values are last values; never none.
    values: usize,
}

impl Layer {
    /// Whether a message of this shape can take its place as it is.
    fn gives_way_to(&self, shape: &Arc<Shape>) -> bool {
        self.values == self.slots.len() && self.has(shape)
    }

    fn has(&self, shape: &Arc<Shape>) -> bool {
        (self.telemetry.whole_shape()).is_some_and(|own| Arc::ptr_eq(own, shape))
    }
}

impl KeyTable {
    /// Reads what the next message will mostly replace, for nothing but that it is then at hand.
    pub(super) fn prefetch(&self) {
        if let Some(Some(layer)) = self.layers.first() {
            layer.telemetry.prefetch();
        }
    }

    /// Makes every member the last value of its key, unless the key is new and the device has `values_max` already.
    pub(super) fn record(
        &mut self,
        telemetry: Telemetry,
        stamp: &Stamp,
        values_max: usize,
    ) -> Recorded<'_> {
        let may_be_kept = telemetry.body_bytes() <= LAYER_BODY_BYTES_MAX;
        let shape = telemetry.whole_shape().filter(|_| may_be_kept);
        let like = shape.and_then(|shape| {
            let layers = self.layers.iter();
            let mut layers = layers.map(|layer| layer.as_ref());
            layers.position(|layer| layer.is_some_and(|layer| layer.gives_way_to(shape)))
        });
        if let Some(place) = like {
            let layer = self.layers[place].as_mut().expect("it was found there");
            let before = std::mem::replace(&mut layer.telemetry, telemetry);
            layer.stamp.clone_from(stamp);
            let slots = &*layer.slots;
            return Recorded {
                message: Message::Kept(&layer.telemetry),
                outcome: Outcome::Replaced { slots, before },
            };
        }
        let shape = shape.cloned();
        let fates = self.find_places(&telemetry, values_max);
        let slots: Option<Box<[KeySlot]>> = fates
            .iter()
            .map(|fate| match fate {
                Fate::Stored { slot, .. } => Some(*slot),
                Fate::Refused(_) => None,
            })
            .collect();
        let message = if let (Some(shape), Some(slots)) = (shape, slots) {
            Message::Kept(self.keep(&shape, telemetry, stamp.clone(), slots))
        } else {
            self.copy(&telemetry, stamp, &fates);
            Message::Passed(telemetry)
        };
        let outcome = Outcome::Each(fates);
        Recorded { message, outcome }
    }

    /// Gives every key a slot that can have one, and tells what will become of its value.
    fn find_places(&mut self, telemetry: &Telemetry, values_max: usize) -> SmallVec<[Fate; 16]> {
        let members = telemetry.iter();
        let place = |(key, _, value): (&str, &str, &str)| {
            let full = self.values >= values_max;
            let known = self.slots.get(key).copied();
            let new = || TelemetryKey::new(key).filter(|_| !full);
            let Some(slot) = known.or_else(|| Some(self.add(new()?))) else {
                return Fate::Refused(None);
            };
            let before = self.text(slot);
            if before.is_none() && full {
                return Fate::Refused(Some(slot));
            }
            let changed = before != Some(value);
            self.values += usize::from(before.is_none());
            Fate::Stored { slot, changed }
        };
        members.map(place).collect()
    }

    /// Keeps a message as it came.
    fn keep(
        &mut self,
        shape: &Arc<Shape>,
        telemetry: Telemetry,
        stamp: Stamp,
        slots: Box<[KeySlot]>,
    ) -> &Telemetry {
        let kept = || self.layers.iter().flatten();
        // One of the same shape is about to lose all its values to the new one.
        if kept().count() >= LAYERS_MAX && !kept().any(|layer| layer.has(shape)) {
            self.dissolve_smallest();
        }
        let vacant = self.layers.iter().position(Option::is_none);
        let place = vacant.unwrap_or_else(|| {
            self.layers.push(None);
            self.layers.len() - 1
        });
        let layer = u32::try_from(place).expect("there are a few layers");
        for (member, slot) in (0..).zip(&slots) {
            self.set(*slot, Value::InLayer { layer, member });
        }
        let values = slots.len();
        let layer = self.layers[place].insert(Layer {
            telemetry,
            stamp,
            slots,
            values,
        });
        &layer.telemetry
    }

    /// Copies the values of a message that is not kept.
    fn copy(&mut self, telemetry: &Telemetry, stamp: &Stamp, fates: &[Fate]) {
        for ((_, _, json), fate) in telemetry.iter().zip(fates) {
            let Fate::Stored { slot, .. } = *fate else {
                continue;
            };
            if let Value::Copied(copied) = &mut self.entries[slot.place()].value {
                copied.json.clear();
                copied.json.push_str(json);
                copied.stamp.clone_from(stamp);
                continue;
            }
            let copied = Copied {
                json: json.to_owned(),
                stamp: stamp.clone(),
            };
            self.set(slot, Value::Copied(Box::new(copied)));
        }
    }

    /// Copies what is left of the message with the fewest last values, and lets go of it.
    fn dissolve_smallest(&mut self) {
        let layers = (0..).zip(&self.layers);
        let kept = layers.filter_map(|(place, layer)| Some((place, layer.as_ref()?)));
        let Some((layer, _)) = kept.min_by_key(|(_, layer)| layer.values) else {
            return;
        };
        let Some(dissolved) = self.layers[layer as usize].take() else {
            return;
        };
        for (member, slot) in (0..).zip(&dissolved.slots) {
            let Some(entry) = self.entries.get_mut(slot.place()) else {
                continue;
            };
            if matches!(entry.value, Value::InLayer { layer: of, member: at } if (of, at) == (layer, member))
            {
                entry.value = Value::Copied(Box::new(Copied {
                    json: dissolved.telemetry.value(member as usize).to_owned(),
                    stamp: dissolved.stamp.clone(),
                }));
            }
        }
    }

    /// Replaces where a key's last value is; a message that none is left in is let go of.
    fn set(&mut self, slot: KeySlot, value: Value) {
        let before = std::mem::replace(&mut self.entries[slot.place()].value, value);
        let Value::InLayer { layer: place, .. } = before else {
            return;
        };
        let place = &mut self.layers[place as usize];
        if let Some(layer) = place {
            layer.values -= 1;
            if layer.values == 0 {
                *place = None;
            }
        }
    }

    /// A last value and its times.
    fn value(&self, slot: KeySlot) -> Option<(&str, &Stamp)> {
        match &self.entries[slot.place()].value {
            Value::None => None,
            Value::InLayer { layer, member } => {
                let layer = self.layers[*layer as usize].as_ref();
                let layer = layer.expect("a message stays while it holds a last value");
                Some((layer.telemetry.value(*member as usize), &layer.stamp))
            }
            Value::Copied(copied) => Some((&copied.json, &copied.stamp)),
        }
    }

    fn text(&self, slot: KeySlot) -> Option<&str> {
        self.value(slot).map(|(text, _)| text)
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
        self.last_value_at(*self.slots.get(key)?)
    }

    /// About how many bytes the last value of a key takes when it is handed out.
    pub(super) fn value_bytes(&self, key: &str) -> usize {
        let slot = self.slots.get(key);
        slot.map_or(0, |slot| self.value_bytes_at(*slot))
    }

    /// About how many bytes all last values take when they are handed out.
    pub(super) fn bytes(&self) -> usize {
        self.all_slots().map(|slot| self.value_bytes_at(slot)).sum()
    }

    /// All last values, in the order in which the keys first appeared.
    pub(super) fn last_values(&self) -> Vec<LastValue> {
        let values = self.all_slots().filter_map(|slot| self.last_value_at(slot));
        values.collect()
    }

    /// Forgets the last value of one key, or all of them. Returns what was forgotten.
    pub(super) fn remove(&mut self, key: Option<&TelemetryKey>) -> Vec<LastValue> {
        let slots: Vec<KeySlot> = match key {
            Some(key) => self.slots.get(key.as_str()).copied().into_iter().collect(),
            None => self.all_slots().collect(),
        };
        let mut removed = Vec::new();
        for slot in slots {
            if let Some(value) = self.last_value_at(slot) {
                self.set(slot, Value::None);
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
            value: Value::None,
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
            && matches!(entry.value, Value::None)
            && self.slots.remove(entry.key.as_str()).is_some()
        {
            self.free.push(slot);
        }
    }

    fn all_slots(&self) -> impl Iterator<Item = KeySlot> + use<> {
        (0..self.entries.len()).map(KeySlot::at)
    }

    fn last_value_at(&self, slot: KeySlot) -> Option<LastValue> {
        let (text, stamp) = self.value(slot)?;
        Some(LastValue {
            key: self.entries[slot.place()].key.clone(),
            value: RawJson::from_valid(text),
            stamp: stamp.clone(),
        })
    }

    fn value_bytes_at(&self, slot: KeySlot) -> usize {
        let key_bytes = self.entries[slot.place()].key.as_str().len();
        let text = self.text(slot);
        text.map_or(0, |text| VALUE_BYTES + key_bytes + text.len())
    }
}

/// Bytes that a last value takes beside its key and text.
const VALUE_BYTES: usize = 128;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::raw_json::Span;
    use super::super::telemetry::tests::telemetry;
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

    /// What became of a message of one member: its slot, and whether its value may have changed.
    fn record(
        keys: &mut KeyTable,
        key: &str,
        value: &str,
        stamp: &Stamp,
        values_max: usize,
    ) -> (Option<KeySlot>, bool, usize) {
        let recorded = keys.record(telemetry(&[(key, value)]), stamp, values_max);
        (
            recorded.slot(0),
            recorded.may_have_changed(0),
            recorded.refused(),
        )
    }

    #[test]
    fn the_newest_value_replaces_the_one_before() {
        let mut keys = KeyTable::default();
        let first = record(&mut keys, "t", "123456789", &NOW, 10);
        let second = record(&mut keys, "t", "0", &at(2), 10);
        assert_eq!(first, second);
        assert!(first.1);
        assert!(!record(&mut keys, "t", "0", &at(2), 10).1);
        let last = keys.last_value("t").unwrap();
        assert_eq!((last.value.as_str(), last.stamp), ("0", at(2)));
        assert_eq!(keys.values(), 1);
    }

    #[test]
    fn a_message_of_the_same_shape_takes_the_place_of_the_one_before() {
        let mut keys = KeyTable::default();
        let first = telemetry(&[("a", "1"), ("b", "2")]);
        let shape = first.whole_shape().unwrap().clone();
        let slots = |recorded: &Recorded<'_>| [recorded.slot(0), recorded.slot(1)];
        let before = slots(&keys.record(first, &NOW, 10));
        let values = [Span { start: 0, end: 1 }, Span { start: 1, end: 3 }];
        let second = Telemetry::new("122".into(), shape, values.into());
        let recorded = keys.record(second, &at(2), 10);
        assert!(matches!(recorded.outcome, Outcome::Replaced { .. }));
        assert_eq!(slots(&recorded), before);
        assert!(!recorded.may_have_changed(0) && recorded.may_have_changed(1));
        let last = keys.last_value("b").unwrap();
        assert_eq!((last.value.as_str(), last.stamp), ("22", at(2)));
    }

    #[test]
    fn a_full_table_refuses_new_keys_but_updates_known_ones() {
        let mut keys = KeyTable::default();
        record(&mut keys, "a", "1", &NOW, 1);
        assert_eq!(record(&mut keys, "b", "1", &NOW, 1), (None, true, 1));
        let held = keys.hold(&key("c"));
        assert_eq!(record(&mut keys, "c", "1", &NOW, 1), (Some(held), true, 1));
        assert_eq!(record(&mut keys, "a", "2", &NOW, 1).2, 0);
        assert_eq!(keys.last_values().len(), 1);
    }

    #[test]
    fn a_key_lives_while_it_has_a_value_or_is_held() {
        let mut keys = KeyTable::default();
        let held = keys.hold(&key("t"));
        record(&mut keys, "t", "1", &NOW, 10);
        assert_eq!(keys.remove(None).len(), 1);
        assert!(!keys.is_empty());
        assert_eq!(record(&mut keys, "t", "2", &NOW, 10).0, Some(held));
        keys.release(held);
        assert!(!keys.is_empty());
        keys.remove(Some(&key("t")));
        assert!(keys.is_empty());
        assert_eq!(keys.hold(&key("u")), held, "the slot is used again");
        assert_eq!(keys.remove(None), []);
    }

    #[test]
    fn a_long_message_is_not_kept_for_one_value() {
        let mut keys = KeyTable::default();
        let long = "9".repeat(LAYER_BODY_BYTES_MAX);
        keys.record(telemetry(&[("a", &long), ("b", "1")]), &NOW, 10);
        assert!(keys.layers.is_empty());
        assert_eq!(keys.last_value("a").unwrap().value.as_str(), long);
        keys.record(telemetry(&[("a", "1")]), &NOW, 10);
        assert_eq!(keys.last_value("a").unwrap().value.as_str(), "1");
        assert_eq!(keys.last_value("b").unwrap().value.as_str(), "1");
    }

    #[derive(Clone, Debug)]
    enum Step {
        /// A message of one of the shapes; some values are too long to be kept as they came.
        Message(usize, Vec<u16>, bool),
        Remove(Option<usize>),
        Hold(usize),
        Release,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            8 => (0..8_usize, prop::collection::vec(0..3_u16, 6), prop::bool::weighted(0.1))
                .prop_map(|(shape, values, long)| Step::Message(shape, values, long)),
            1 => prop::option::of(0..6_usize).prop_map(Step::Remove),
            1 => (0..6_usize).prop_map(Step::Hold),
            1 => Just(Step::Release),
        ]
    }

    const NAMES: [&str; 6] = ["a", "b", "c", "d", "e\"", "f"];

    /// Which of the names each shape has.
    const SHAPES: [&[usize]; 8] = [
        &[0, 1, 2],
        &[2, 3],
        &[0, 1, 2, 3, 4, 5],
        &[5],
        &[4, 0],
        &[1],
        &[3, 2],
        &[0, 1, 2, 5],
    ];

    proptest! {
        #[test]
        fn whatever_comes_the_table_holds_the_newest_values(
            steps in prop::collection::vec(step(), 1..60),
            values_max in 3..8_usize,
        ) {
            let shapes = SHAPES.map(|names| {
                let members: Vec<_> = names.iter().map(|name| (NAMES[*name], "0")).collect();
                telemetry(&members).whole_shape().unwrap().clone()
            });
            let mut keys = KeyTable::default();
            let mut model = std::collections::BTreeMap::<&str, (String, Stamp)>::new();
            let mut held = Vec::new();
            for (time, step) in (0..).zip(steps) {
                match step {
                    Step::Message(shape, values, long) => {
                        let stamp = at(time);
                        let mut body = String::new();
                        let mut texts = Vec::new();
                        let spans: Arc<[Span]> = SHAPES[shape].iter().zip(&values).map(|(_, value)| {
                            let start = u32::try_from(body.len()).unwrap();
                            let text = if long { "7".repeat(2000 + usize::from(*value)) } else { value.to_string() };
                            body.push_str(&text);
                            texts.push(text);
                            Span { start, end: u32::try_from(body.len()).unwrap() }
                        }).collect();
                        let message = Telemetry::new(body.into(), shapes[shape].clone(), spans);
                        let recorded = keys.record(message, &stamp, values_max);
                        for (member, (name, text)) in SHAPES[shape].iter().zip(texts).enumerate() {
                            let name = NAMES[*name];
                            let before = model.get(name);
                            let changed = before.is_none_or(|(before, _)| *before != text);
                            prop_assert_eq!(recorded.may_have_changed(member), changed);
                            if before.is_some() || model.len() < values_max {
                                prop_assert!(recorded.slot(member).is_some());
                                model.insert(name, (text, stamp.clone()));
                            }
                        }
                    }
                    Step::Remove(name) => {
                        let name = name.map(|name| NAMES[name]);
                        let removed = keys.remove(name.map(key).as_ref());
                        let before = model.len();
                        model.retain(|known, _| name.is_some_and(|name| name != *known));
                        prop_assert_eq!(removed.len(), before - model.len());
                    }
                    Step::Hold(name) => held.push(keys.hold(&key(NAMES[name]))),
                    Step::Release => {
                        if let Some(slot) = held.pop() {
                            keys.release(slot);
                        }
                    }
                }
                prop_assert_eq!(keys.values(), model.len());
                prop_assert!(keys.layers.iter().flatten().count() <= LAYERS_MAX);
                let mut known = keys.last_values();
                known.sort_by(|a, b| a.key.cmp(&b.key));
                let known: Vec<_> = known.iter()
                    .map(|last| (last.key.as_str(), (last.value.as_str().to_owned(), last.stamp.clone())))
                    .collect();
                prop_assert_eq!(known, model.clone().into_iter().collect::<Vec<_>>());
            }
        }
    }
}
