//! How objects with certain keys in a certain order are read; worked out once and then found again.
//!
//! Devices send the same keys in the same order for as long as they live. For such an object nothing has to be looked for:
//! which keys repeat, where device id and time are, and the [`Shape`] that all its messages share.

use std::hash::{BuildHasher as _, Hasher as _};
use std::sync::{Arc, OnceLock};

use hashbrown::{DefaultHashBuilder, HashMap, HashSet};

use super::json::{self, Members, Unusable};
use crate::config::DecodingConfig;
use crate::domain::raw_json::Span;
use crate::domain::shape::Shape;
use crate::domain::telemetry::Telemetry;

/// Memory that layouts may take, roughly. When it is used up the cache starts over: it saves work and holds no state.
const LAYOUTS_BYTES_MAX: usize = 1024 * 1024;

/// Objects with more members are not remembered.
const MEMBERS_MAX: usize = 512;

/// What a layout costs beside its keys.
const LAYOUT_BYTES: usize = 512;

/// How objects with these keys, in this order, are read.
#[derive(Debug)]
pub(super) struct Layout {
    keys: Shape,
    /// The members that count, in order: of those with the same key the last. All of them, mostly.
    kept: Box<[usize]>,
    /// The members that have a meaning of their own.
    pub(super) device_id: Option<usize>,
    pub(super) time: Option<usize>,
    pub(super) connection_state: Option<usize>,
    /// The shapes of what is left, by what was taken away.
    shapes: [OnceLock<Arc<Shape>>; 4],
}

/// The members that are used up and so are no telemetry.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Taken {
    pub(super) device_id: bool,
    pub(super) time: bool,
}

impl Layout {
    fn new(text: &str, keys: &[Span], options: &DecodingConfig) -> Self {
        let keys = Shape::new(keys.iter().map(|key| {
            let literal = key.of(text);
            let escaped = literal.contains('\\');
            (literal, escaped.then(|| json::unescape(literal).into()))
        }));
        let mut seen = HashSet::with_capacity(keys.len());
        let mut kept: Vec<_> = (0..keys.len())
            .rev()
            .filter(|member| seen.insert(keys.key(*member)))
            .collect();
        drop(seen);
        kept.reverse();
        let find = |key: &Option<String>| {
            let key = key.as_deref()?;
            kept.iter().copied().find(|member| keys.key(*member) == key)
        };
        let [device_id, time, connection_state] = [
            find(&options.custom_device_id_key),
            find(&options.custom_timestamp_key),
            find(&options.custom_connection_state_key),
        ];
        Self {
            keys,
            kept: kept.into(),
            device_id,
            time,
            connection_state,
            shapes: Default::default(),
        }
    }

    /// The telemetry of such an object: what is left of it. `None` when nothing is.
    pub(super) fn telemetry(
        &self,
        body: &Arc<str>,
        taken: Taken,
        values: &[Span],
    ) -> Option<Telemetry> {
        let is_taken = |member: usize| {
            taken.device_id && self.device_id == Some(member)
                || taken.time && self.time == Some(member)
        };
        let left = || {
            self.kept
                .iter()
                .copied()
                .filter(|member| !is_taken(*member))
        };
        let shape = usize::from(taken.device_id) + 2 * usize::from(taken.time);
        let shape = self.shapes[shape].get_or_init(|| {
            let key = |member| {
                let (literal, key) = (self.keys.literal(member), self.keys.key(member));
                let escaped = literal.len() != key.len() + 2;
                (literal, escaped.then(|| Box::from(key)))
            };
            Arc::new(Shape::new(left().map(key)))
        });
        let values: Arc<[Span]> = if shape.len() == values.len() {
            values.into()
        } else {
            let mut left = left().map(|member| values[member]);
            // Its length is known, so the values are collected where they stay.
            (0..shape.len())
                .map(|_| left.next().expect("as many as the shape has keys"))
                .collect()
        };
        (!shape.is_empty()).then(|| Telemetry::new(body.clone(), shape.clone(), values))
    }

    fn is_of(&self, text: &str, keys: &[Span]) -> bool {
        self.keys.len() == keys.len()
            && (keys.iter().zip(self.keys.literals()))
                .all(|(key, literal)| key.of(text).as_bytes() == literal)
    }
}

/// The layouts that were met lately.
#[derive(Debug, Default)]
pub(super) struct Layouts {
    last: Option<Arc<Layout>>,
    /// By the hash of the keys. Of two with the same hash the later one stays.
    known: HashMap<u64, Arc<Layout>>,
    hasher: DefaultHashBuilder,
    bytes: usize,
}

impl Layouts {
    /// Finds the members of the object that `part` of `text` holds, and its layout. The options must be the same each time.
    pub(super) fn read(
        &mut self,
        text: &str,
        part: Span,
        options: &DecodingConfig,
        members: &mut Members,
    ) -> Result<Arc<Layout>, Unusable> {
        let guess = self.last.as_ref();
        let keys = guess.map(|last| &last.keys);
        let as_guessed = json::members(text, part, options.json_depth_max, keys, members)?;
        if let Some(last) = guess.filter(|_| as_guessed) {
            return Ok(last.clone());
        }
        let layout = self.of(text, &members.keys, options);
        self.last = Some(layout.clone());
        Ok(layout)
    }

    fn of(&mut self, text: &str, keys: &[Span], options: &DecodingConfig) -> Arc<Layout> {
        if keys.len() > MEMBERS_MAX {
            return Arc::new(Layout::new(text, keys, options));
        }
        let mut hasher = self.hasher.build_hasher();
        for key in keys {
            hasher.write(key.of(text).as_bytes());
        }
        let hash = hasher.finish();
        if let Some(known) = self
            .known
            .get(&hash)
            .filter(|known| known.is_of(text, keys))
        {
            return known.clone();
        }
        let new = Arc::new(Layout::new(text, keys, options));
        self.remember(hash, &new);
        new
    }

    fn remember(&mut self, hash: u64, layout: &Arc<Layout>) {
        // Up to four shapes are made of the keys.
        let bytes = LAYOUT_BYTES + 5 * layout.keys.bytes();
        if self.bytes + bytes > LAYOUTS_BYTES_MAX {
            self.known.clear();
            self.bytes = 0;
        }
        self.bytes += bytes;
        self.known.insert(hash, layout.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(layouts: &mut Layouts, text: &str) -> Arc<Layout> {
        let options = DecodingConfig::default();
        let whole = Span::whole(text);
        layouts
            .read(text, whole, &options, &mut Members::default())
            .unwrap()
    }

    #[test]
    fn objects_with_the_same_keys_share_a_layout() {
        let mut layouts = Layouts::default();
        let first = layout(&mut layouts, r#"{"a":1,"b":2}"#);
        assert!(Arc::ptr_eq(
            &first,
            &layout(&mut layouts, r#" { "a" :[], "b":{} } "#)
        ));
        for other in [
            r#"{"b":2,"a":1}"#,
            r#"{"a":1}"#,
            r#"{"a":1,"b":2,"b":3}"#,
            r#"{"\u0061":1,"b":2}"#,
        ] {
            assert!(
                !Arc::ptr_eq(&first, &layout(&mut layouts, other)),
                "{other}"
            );
        }
        assert!(
            Arc::ptr_eq(&first, &layout(&mut layouts, r#"{"a":3,"b":4}"#)),
            "it is found again"
        );
    }

    #[test]
    fn of_members_with_the_same_key_the_last_counts() {
        let mut layouts = Layouts::default();
        let layout = layout(&mut layouts, r#"{"a":1,"\u0061":2,"b":3,"b":4}"#);
        assert_eq!(*layout.kept, [1, 3]);
    }

    #[test]
    fn memory_is_bounded() {
        let mut layouts = Layouts::default();
        for number in 0..4000 {
            layout(
                &mut layouts,
                &format!(r#"{{"{number}{}":1}}"#, "x".repeat(100)),
            );
            assert!(layouts.bytes <= LAYOUTS_BYTES_MAX);
        }
        assert!(layouts.known.len() < 2000);
        let wide: Vec<_> = (0..=MEMBERS_MAX)
            .map(|key| format!("\"{key}\":0"))
            .collect();
        let before = layouts.known.len();
        let layout = layout(&mut layouts, &format!("{{{}}}", wide.join(",")));
        assert_eq!(
            (layout.kept.len(), layouts.known.len()),
            (MEMBERS_MAX + 1, before)
        );
    }
}
