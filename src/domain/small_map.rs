//! A map for what is mostly tiny: the devices of a session, the keys of a subscription.
//!
//! There are as many of these as clients are connected, and nearly all hold an entry or two. While there are few, they
//! stand in one sorted allocation without room to spare; a map that grows becomes a hash map, so that none gets slow.

use std::borrow::Borrow;
use std::fmt;
use std::hash::Hash;
use std::slice;

use hashbrown::DefaultHashBuilder;
use indexmap::{IndexMap, map};

/// Most entries that are searched and moved one by one.
const FEW_MAX: usize = 16;

/// A large map of which no more is left becomes a small one again: so far below the other bound that a map does not go
/// back and forth.
const FEW_AGAIN: usize = 4;

/// A map that takes next to no memory while it is small.
#[derive(Clone)]
pub struct SmallMap<K, V>(Entries<K, V>);

/// One that is large. Going through it is as fast as through a list.
type Large<K, V> = IndexMap<K, V, DefaultHashBuilder>;

/// A set that takes next to no memory while it is small.
pub type SmallSet<K> = SmallMap<K, ()>;

#[derive(Clone)]
enum Entries<K, V> {
    /// Sorted, and at most [`FEW_MAX`].
    Few(Vec<(K, V)>),
    Many(Box<Large<K, V>>),
}

/// The entries of a map.
enum Iter<'a, K, V> {
    Few(slice::Iter<'a, (K, V)>),
    Many(map::Iter<'a, K, V>),
}

impl<'a, K, V> Iterator for Iter<'a, K, V> {
    type Item = (&'a K, &'a V);

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::Few(few) => few.next().map(|(key, value)| (key, value)),
            Self::Many(many) => many.next(),
        }
    }
}

impl<K, V> Default for SmallMap<K, V> {
    fn default() -> Self {
        Self(Entries::Few(Vec::new()))
    }
}

impl<K, V> SmallMap<K, V> {
    /// How many entries there are.
    pub fn len(&self) -> usize {
        match &self.0 {
            Entries::Few(few) => few.len(),
            Entries::Many(many) => many.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The entries, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        match &self.0 {
            Entries::Few(few) => Iter::Few(few.iter()),
            Entries::Many(many) => Iter::Many(many.iter()),
        }
    }

    /// The values, in no order.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.iter().map(|(_, value)| value)
    }

    /// The keys, in no order.
    pub fn keys(&self) -> impl Iterator<Item = &K> {
        self.iter().map(|(key, _)| key)
    }
}

impl<K: Ord + Hash, V> SmallMap<K, V> {
    /// The value of a key.
    pub fn get<Q: Ord + Hash + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        match &self.0 {
            Entries::Few(few) => find(few, key).ok().map(|place| &few[place].1),
            Entries::Many(many) => many.get(key),
        }
    }

    /// The value of a key, to be changed.
    pub fn get_mut<Q: Ord + Hash + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        match &mut self.0 {
            Entries::Few(few) => find(few, key).ok().map(|place| &mut few[place].1),
            Entries::Many(many) => many.get_mut(key),
        }
    }

    /// Whether a key is there.
    pub fn contains_key<Q: Ord + Hash + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.get(key).is_some()
    }

    /// The value of a key, which is added with its default if it is not there.
    pub fn get_or_default(&mut self, key: &K) -> &mut V
    where
        K: Clone,
        V: Default,
    {
        // Looked up twice where it is new: an entry that is there must not cost a clone of its key.
        if !self.contains_key(key) {
            self.insert(key.clone(), V::default());
        }
        self.get_mut(key).expect("it has just been added")
    }

    /// Adds an entry. Returns the value that it replaces.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        match &mut self.0 {
            Entries::Few(few) => match find(few, &key) {
                Ok(place) => Some(std::mem::replace(&mut few[place].1, value)),
                Err(place) if few.len() < FEW_MAX => {
                    if few.len() == few.capacity() {
                        few.reserve_exact(few.len().max(1));
                    }
                    few.insert(place, (key, value));
                    None
                }
                Err(_) => {
                    let mut many: Large<K, V> = std::mem::take(few).into_iter().collect();
                    many.insert(key, value);
                    self.0 = Entries::Many(Box::new(many));
                    None
                }
            },
            Entries::Many(many) => many.insert(key, value),
        }
    }

    /// Takes an entry out. Returns its value.
    pub fn remove<Q: Ord + Hash + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        match &mut self.0 {
            Entries::Few(few) => {
                let removed = few.remove(find(few, key).ok()?).1;
                if few.is_empty() {
                    *few = Vec::new();
                }
                Some(removed)
            }
            Entries::Many(many) => {
                let removed = many.swap_remove(key);
                if many.len() <= FEW_AGAIN {
                    let mut few: Vec<_> = many.drain(..).collect();
                    few.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
                    self.0 = Entries::Few(few);
                }
                removed
            }
        }
    }
}

fn find<K: Borrow<Q>, V, Q: Ord + ?Sized>(few: &[(K, V)], key: &Q) -> Result<usize, usize> {
    few.binary_search_by(|(known, _)| known.borrow().cmp(key))
}

/// Two maps are the same when their entries are, whatever they went through before.
impl<K: Ord + Hash, V: PartialEq> PartialEq for SmallMap<K, V> {
    fn eq(&self, other: &Self) -> bool {
        let mut entries = self.iter();
        self.len() == other.len() && entries.all(|(key, value)| other.get(key) == Some(value))
    }
}

impl<K: Ord + Hash, V: Eq> Eq for SmallMap<K, V> {}

impl<K: fmt::Debug, V: fmt::Debug> fmt::Debug for SmallMap<K, V> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_map().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_does_what_a_map_does(
            changes in prop::collection::vec((any::<bool>(), 0_u8..40, any::<u8>()), 0..300),
        ) {
            let (mut map, mut model) = (SmallMap::default(), BTreeMap::new());
            for (add, key, value) in changes {
                if add {
                    prop_assert_eq!(map.insert(key, value), model.insert(key, value));
                } else {
                    prop_assert_eq!(map.remove(&key), model.remove(&key));
                }
                let mut entries: Vec<_> = map.iter().map(|(key, value)| (*key, *value)).collect();
                entries.sort_unstable();
                prop_assert_eq!(entries, model.clone().into_iter().collect::<Vec<_>>());
                prop_assert_eq!(map.len(), model.len());
                prop_assert_eq!(map.get(&key), model.get(&key));
            }
            let mut rebuilt = SmallMap::default();
            for (key, value) in model {
                *rebuilt.get_or_default(&key) = value;
            }
            prop_assert_eq!(map, rebuilt);
        }
    }

    #[test]
    fn one_entry_takes_the_room_of_one() {
        let mut map = SmallMap::default();
        map.insert(1_u64, 1_u64);
        let Entries::Few(few) = &map.0 else {
            panic!("one entry is few");
        };
        assert_eq!(few.capacity(), 1);
        map.remove(&1);
        let Entries::Few(few) = &map.0 else {
            panic!("none is few");
        };
        assert_eq!(few.capacity(), 0);
        assert_eq!(size_of_val(&map), size_of::<Vec<u64>>());
    }

    #[test]
    fn a_map_that_was_large_is_small_again() {
        let mut map: SmallSet<u32> = SmallMap::default();
        for key in 0..10_000 {
            map.insert(key, ());
        }
        assert!(matches!(map.0, Entries::Many(_)));
        for key in 0..9_999 {
            map.remove(&key);
        }
        assert!(matches!(map.0, Entries::Few(_)));
        assert!(map.contains_key(&9_999));
    }
}
