//! Which telemetry keys of a device a session wants, and how each is to be delivered.
//!
//! A key may be asked for by its name, by patterns and with all others at once. It is delivered once all the same, in
//! the way that the most exact of these says: its name before a pattern, a pattern before all.

use std::collections::BTreeMap;
use std::sync::Arc;

use smallvec::SmallVec;

use super::{Added, Delivery, Subscription};
use crate::domain::id::TelemetryKey;
use crate::domain::small_map::SmallMap;

/// Longest pattern in bytes.
const PATTERN_BYTES_MAX: usize = 256;

/// Most different ways of delivery in one selection. Each is cut from every message of the device by itself.
const WAYS_MAX: usize = 8;

/// Most patterns in one selection. Keys that nobody named are held against each of them, in every message of the device.
const PATTERNS_MAX: usize = 32;

/// Most wildcards in one pattern.
const WILDCARDS_MAX: usize = 8;

/// Names of telemetry keys in which each `*` stands for any text, or none. Everything else stands for itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyPattern(Arc<str>);

impl KeyPattern {
    /// Takes a pattern of 1 to 256 bytes with at most 8 wildcards; `None` otherwise.
    pub fn new(pattern: &str) -> Option<Self> {
        let fits = !pattern.is_empty() && pattern.len() <= PATTERN_BYTES_MAX;
        let wildcards = pattern.bytes().filter(|byte| *byte == b'*').count();
        (fits && wildcards <= WILDCARDS_MAX).then(|| Self(pattern.into()))
    }

    /// The pattern as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the pattern matches the whole of `key`.
    pub fn matches(&self, key: &str) -> bool {
        let mut parts = self.0.split('*');
        let Some(mut rest) = parts.next().and_then(|first| key.strip_prefix(first)) else {
            return false;
        };
        let Some(last) = parts.next_back() else {
            return rest.is_empty();
        };
        // Each part at its first occurrence leaves the most for those after it.
        for part in parts {
            let Some(place) = rest.find(part) else {
                return false;
            };
            rest = &rest[place + part.len()..];
        }
        rest.ends_with(last)
    }
}

/// Which telemetry keys of a device a session wants, and how each is to be delivered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TelemetrySelection {
    all: Option<Delivery>,
    patterns: BTreeMap<KeyPattern, Delivery>,
    names: SmallMap<TelemetryKey, Delivery>,
    /// The different ways of delivery, sorted, with the number of entries above that each has.
    ways: SmallVec<[(Delivery, u32); 1]>,
}

impl TelemetrySelection {
    /// Whether anything can be delivered in this way: there may be up to eight different ones.
    pub fn has_room_for(&self, delivery: Delivery) -> bool {
        self.ways.len() < WAYS_MAX || self.ways.iter().any(|(way, _)| *way == delivery)
    }

    /// Whether a pattern can be added, or is there: there may be up to 32.
    pub fn has_room_for_pattern(&self, pattern: &KeyPattern) -> bool {
        self.patterns.len() < PATTERNS_MAX || self.contains_pattern(pattern)
    }

    /// Adds one key, or every key with `None`.
    pub fn insert(&mut self, key: Option<TelemetryKey>, delivery: Delivery) -> Added {
        let before = match key {
            Some(key) => self.names.insert(key, delivery),
            None => self.all.replace(delivery),
        };
        self.count(before, Some(delivery));
        added(before, delivery)
    }

    /// Adds the keys that a pattern matches.
    pub fn insert_pattern(&mut self, pattern: KeyPattern, delivery: Delivery) -> Added {
        let before = self.patterns.insert(pattern, delivery);
        self.count(before, Some(delivery));
        added(before, delivery)
    }

    /// Takes away what was added for one key, or for every key with `None`. Returns whether it was there.
    pub fn remove(&mut self, key: Option<&str>) -> bool {
        let before = match key {
            Some(key) => self.names.remove(key),
            None => self.all.take(),
        };
        self.count(before, None);
        before.is_some()
    }

    /// Takes a pattern away. Returns whether it was there.
    pub fn remove_pattern(&mut self, pattern: &KeyPattern) -> bool {
        let before = self.patterns.remove(pattern);
        self.count(before, None);
        before.is_some()
    }

    /// Whether one key was added by its name; with `None`, whether every key was.
    pub fn contains(&self, key: Option<&str>) -> bool {
        match key {
            Some(key) => self.names.contains_key(key),
            None => self.all.is_some(),
        }
    }

    /// Whether this very pattern was added.
    pub fn contains_pattern(&self, pattern: &KeyPattern) -> bool {
        self.patterns.contains_key(pattern)
    }

    /// Whether a key is wanted, in whatever way.
    pub fn covers(&self, key: &str) -> bool {
        self.delivery_of(key).is_some()
    }

    /// How a key is to be delivered, if it is wanted.
    pub fn delivery_of(&self, key: &str) -> Option<Delivery> {
        let by_pattern = || {
            let mut patterns = self.patterns.iter();
            patterns.find_map(|(pattern, delivery)| pattern.matches(key).then_some(*delivery))
        };
        self.names
            .get(key)
            .copied()
            .or_else(by_pattern)
            .or(self.all)
    }

    /// Whether every key is wanted.
    pub fn is_all(&self) -> bool {
        self.all.is_some()
    }

    /// The keys added by name, in no order, with the way in which each is to be delivered.
    pub fn names(&self) -> impl Iterator<Item = (&TelemetryKey, Delivery)> {
        self.names.iter().map(|(key, delivery)| (key, *delivery))
    }

    /// The different ways of delivery.
    pub fn ways(&self) -> impl ExactSizeIterator<Item = Delivery> {
        self.ways.iter().map(|(way, _)| *way)
    }

    /// The ways of delivery of everything that was not added by name; the same may come more than once.
    pub fn open_deliveries(&self) -> impl Iterator<Item = Delivery> {
        self.patterns.values().copied().chain(self.all)
    }

    /// Every subscription that makes up the selection, in no order.
    pub fn iter(&self) -> impl Iterator<Item = Subscription> + '_ {
        let all = self.all.map(|_| Subscription::Telemetry(None));
        let patterns = self.patterns.keys().cloned();
        let names = self.names.keys().cloned();
        all.into_iter()
            .chain(patterns.map(Subscription::TelemetryPattern))
            .chain(names.map(|key| Subscription::Telemetry(Some(key))))
    }

    /// How many subscriptions make it up.
    pub fn len(&self) -> usize {
        self.names.len() + self.patterns.len() + usize::from(self.all.is_some())
    }

    /// Whether nothing is wanted.
    pub fn is_empty(&self) -> bool {
        self.ways.is_empty()
    }

    fn count(&mut self, before: Option<Delivery>, now: Option<Delivery>) {
        if before == now {
            return;
        }
        if let Some(now) = now {
            match self.ways.binary_search_by_key(&now, |(way, _)| *way) {
                Ok(place) => self.ways[place].1 += 1,
                Err(place) => self.ways.insert(place, (now, 1)),
            }
        }
        let place = before.and_then(|before| self.ways.iter().position(|(way, _)| *way == before));
        if let Some(place) = place {
            self.ways[place].1 -= 1;
            if self.ways[place].1 == 0 {
                self.ways.remove(place);
            }
        }
    }
}

fn added(before: Option<Delivery>, now: Delivery) -> Added {
    match before {
        None => Added::New,
        Some(before) if before == now => Added::Known,
        Some(_) => Added::Redirected,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT_ONCE: Delivery = Delivery {
        min_interval_ms: 0,
        changes_only: false,
    };
    const SLOWLY: Delivery = Delivery {
        min_interval_ms: 1000,
        changes_only: false,
    };
    const CHANGES: Delivery = Delivery {
        min_interval_ms: 0,
        changes_only: true,
    };

    fn pattern(text: &str) -> KeyPattern {
        KeyPattern::new(text).unwrap()
    }

    #[test]
    fn a_wildcard_stands_for_any_text_and_the_rest_for_itself() {
        for (text, matching, other) in [
            ("*", &["", "a", "a.b"][..], &[][..]),
            ("temp*", &["temp", "temperature"], &["tem", "atemp"]),
            ("*_c", &["t_c", "_c"], &["t_cc", "c"]),
            (
                "a*b*c",
                &["abc", "a1b2c", "abbcc", "abcbc"],
                &["ab", "acb", "abcd"],
            ),
            ("a**c", &["ac", "abc"], &["a"]),
            ("ab*ba", &["abba", "abxba"], &["aba", "ab"]),
            ("a.c", &["a.c"], &["abc", "a.cc"]),
            ("ü*ß", &["üß", "ü—ß"], &["u*ß"]),
        ] {
            for key in matching {
                assert!(pattern(text).matches(key), "{text} {key}");
            }
            for key in other {
                assert!(!pattern(text).matches(key), "{text} {key}");
            }
        }
    }

    #[test]
    fn a_pattern_has_bounds() {
        assert_eq!(KeyPattern::new(""), None);
        assert_eq!(KeyPattern::new(&"x".repeat(257)), None);
        assert_eq!(KeyPattern::new(&"*".repeat(9)), None);
        assert!(KeyPattern::new(&"*".repeat(8)).is_some());
    }

    #[test]
    fn the_most_exact_wish_says_how_a_key_is_delivered() {
        let mut selection = TelemetrySelection::default();
        assert_eq!(selection.insert(None, SLOWLY), Added::New);
        assert_eq!(selection.insert_pattern(pattern("t*"), CHANGES), Added::New);
        assert_eq!(
            selection.insert(TelemetryKey::new("t1"), AT_ONCE),
            Added::New
        );
        assert_eq!(selection.delivery_of("t1"), Some(AT_ONCE));
        assert_eq!(selection.delivery_of("t2"), Some(CHANGES));
        assert_eq!(selection.delivery_of("u"), Some(SLOWLY));
        assert_eq!(selection.len(), 3);
        assert_eq!(selection.insert(None, SLOWLY), Added::Known);
        assert_eq!(selection.insert(None, CHANGES), Added::Redirected);
        assert!(selection.remove(None));
        assert!(selection.remove_pattern(&pattern("t*")));
        assert_eq!(selection.delivery_of("t2"), None);
    }

    #[test]
    fn patterns_are_bounded_and_a_known_one_always_has_room() {
        let mut selection = TelemetrySelection::default();
        for number in 0..PATTERNS_MAX {
            let new = pattern(&format!("t{number}*"));
            assert!(selection.has_room_for_pattern(&new));
            selection.insert_pattern(new, AT_ONCE);
        }
        assert!(!selection.has_room_for_pattern(&pattern("u*")));
        assert!(selection.has_room_for_pattern(&pattern("t0*")));
        selection.remove_pattern(&pattern("t0*"));
        assert!(selection.has_room_for_pattern(&pattern("u*")));
    }

    #[test]
    fn the_ways_of_delivery_are_counted_and_bounded() {
        let mut selection = TelemetrySelection::default();
        let way = |min_interval_ms| Delivery {
            min_interval_ms,
            changes_only: false,
        };
        for number in 0..8 {
            assert!(selection.has_room_for(way(number)));
            selection.insert(TelemetryKey::new(&format!("t{number}")), way(number));
        }
        assert!(!selection.has_room_for(way(8)));
        assert!(selection.has_room_for(way(7)));
        selection.insert(TelemetryKey::new("t7"), way(6));
        assert!(selection.has_room_for(way(8)));
        assert_eq!(selection.ways().len(), 7);
        for number in 0..8 {
            assert!(!selection.is_empty());
            assert!(selection.remove(Some(&format!("t{number}"))));
        }
        assert!(selection.is_empty());
    }
    #[test]
    fn patterns_are_bounded() {
        let mut selection = TelemetrySelection::default();
        for number in 0..32 {
            let pattern = pattern(&format!("t{number}*"));
            assert!(selection.has_room_for_pattern(&pattern));
            selection.insert_pattern(pattern, AT_ONCE);
        }
        assert!(!selection.has_room_for_pattern(&pattern("u*")));
        assert!(selection.has_room_for_pattern(&pattern("t7*")));
        assert!(selection.remove_pattern(&pattern("t7*")));
        assert!(selection.has_room_for_pattern(&pattern("u*")));
    }
}
