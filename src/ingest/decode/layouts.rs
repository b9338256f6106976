//! How objects that are written alike are read; worked out once and then found again.
//!
//! Devices send the same keys in the same order for as long as they live. For such an object nothing has to be looked for:
//! which keys repeat, where device id and time are, and the [`Shape`] that all its messages share.

use std::hash::{BuildHasher as _, Hasher as _};
use std::sync::{Arc, OnceLock};

use hashbrown::{DefaultHashBuilder, HashMap, HashSet};

use super::json::{self, Gaps, Unusable};
use crate::config::DecodingConfig;
use crate::domain::raw_json::Span;
use crate::domain::shape::Shape;
use crate::domain::telemetry::Telemetry;

/// Memory that layouts may take, roughly. When it is used up the cache starts over: it saves work and holds no state.
const LAYOUTS_BYTES_MAX: usize = 1024 * 1024;

/// Objects with more members are not remembered.
const MEMBERS_MAX: usize = 512;

/// How many layouts are tried before an object is read without one: so many kinds of devices may send by turns.
const RECENT_MAX: usize = 4;

/// What a layout costs beside its gaps, and a member in what is worked out of it.
const LAYOUT_BYTES: usize = 512;
const MEMBER_BYTES: usize = 32;

/// How objects are read that have the same written between their values.
#[derive(Debug, Default)]
struct Layout {
    gaps: Gaps,
    /// The members that count, in order: of those with the same key the last. All of them, mostly.
    kept: Box<[usize]>,
    /// The members that have a meaning of their own.
    device_id: Option<usize>,
    time: Option<usize>,
    connection_state: Option<usize>,
    /// What is left as telemetry, by what was taken away.
    left: [OnceLock<Left>; 4],
}

/// The members that are telemetry.
#[derive(Debug)]
struct Left {
    members: Box<[usize]>,
    shape: Arc<Shape>,
}

/// The members that are used up and so are no telemetry.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Taken {
    pub(super) device_id: bool,
    pub(super) time: bool,
}

impl Layout {
    fn new(gaps: Gaps, options: &DecodingConfig) -> Self {
        let keys = shape(gaps.keys());
        let mut seen = HashSet::with_capacity(keys.len());
        let mut kept: Vec<_> = (0..keys.len())
            .rev()
            .filter(|member| seen.insert(keys.key(*member)))
            .collect();
        kept.reverse();
        let find = |key: &Option<String>| {
            let key = key.as_deref()?;
            kept.iter().copied().find(|member| keys.key(*member) == key)
        };
        Self {
            device_id: find(&options.custom_device_id_key),
            time: find(&options.custom_timestamp_key),
            connection_state: find(&options.custom_connection_state_key),
            gaps,
            kept: kept.into(),
            left: Default::default(),
        }
    }

    /// Whether it is small enough to be remembered.
    fn is_remembered(&self) -> bool {
        self.gaps.len() <= MEMBERS_MAX && self.bytes() <= LAYOUTS_BYTES_MAX
    }

    /// About how many bytes of memory it takes when all is worked out.
    fn bytes(&self) -> usize {
        // The keys are in up to four shapes as well.
        LAYOUT_BYTES + 5 * (self.gaps.bytes() + self.gaps.len() * MEMBER_BYTES)
    }

    /// What is left of such an object.
    fn left(&self, taken: Taken) -> &Left {
        let place = usize::from(taken.device_id) + 2 * usize::from(taken.time);
        self.left[place].get_or_init(|| {
            let is_taken = |member| {
                taken.device_id && self.device_id == Some(member)
                    || taken.time && self.time == Some(member)
            };
            let members = self.kept.iter().copied();
            let members: Box<[usize]> = members.filter(|member| !is_taken(*member)).collect();
            let keys: Vec<_> = self.gaps.keys().collect();
            let shape = shape(members.iter().map(|member| keys[*member]));
            Left {
                members,
                shape: Arc::new(shape),
            }
        })
    }
}

/// The shape of an object with these keys, which are string literals.
fn shape<'a>(keys: impl Iterator<Item = &'a str>) -> Shape {
    Shape::new(keys.map(|literal| {
        let escaped = literal.contains('\\');
        (literal, escaped.then(|| json::unescape(literal).into()))
    }))
}

/// The layouts that were met lately, and the object that was read last.
#[derive(Debug, Default)]
pub(super) struct Layouts {
    /// The latest comes first.
    recent: Vec<Arc<Layout>>,
    values: Vec<Span>,
    /// By the hash of the gaps. Of two with the same hash the later one stays.
    known: HashMap<u64, Arc<Layout>>,
    hasher: DefaultHashBuilder,
    bytes: usize,
}

impl Layouts {
    /// Finds the members of the object that `part` of `text` is. The options must be the same each time.
    #[inline]
    pub(super) fn read(
        &mut self,
        text: &str,
        part: Span,
        options: &DecodingConfig,
    ) -> Result<(), Unusable> {
        let (values, depth_max) = (&mut self.values, options.json_depth_max);
        let is_like_last =
            (self.recent.first()).is_some_and(|last| last.gaps.find(text, part, depth_max, values));
        if is_like_last {
            return Ok(());
        }
        self.read_unlike_last(text, part, options)
    }

    fn read_unlike_last(
        &mut self,
        text: &str,
        part: Span,
        options: &DecodingConfig,
    ) -> Result<(), Unusable> {
        // One that is too large to be remembered serves as long as objects are like the last.
        let is_kept = |last: &Arc<Layout>| last.is_remembered();
        let tried = usize::from(self.recent.first().is_some_and(is_kept));
        self.recent.retain(is_kept);
        let (values, depth_max) = (&mut self.values, options.json_depth_max);
        let mut others = self.recent.iter().skip(tried);
        if let Some(other) = others.position(|one| one.gaps.find(text, part, depth_max, values)) {
            self.recent[..=tried + other].rotate_right(1);
            return Ok(());
        }
        json::values(text, part, depth_max, values)?;
        let layout = self.layout_of(text, part, options);
        self.recent.truncate(RECENT_MAX - 1);
        self.recent.insert(0, layout);
        Ok(())
    }

    /// The object that was read last, which must have been in `text`.
    pub(super) fn object<'t>(&self, text: &'t str) -> Object<'_, 't> {
        Object {
            layout: self.last(),
            values: &self.values,
            text,
        }
    }

    /// What is left as telemetry of the object that was read last, which must have been in `body`. When nothing is, the
    /// body comes back.
    #[inline]
    pub(super) fn telemetry(&self, taken: Taken, body: Arc<str>) -> Result<Telemetry, Arc<str>> {
        let Left { members, shape } = self.last().left(taken);
        if members.is_empty() {
            return Err(body);
        }
        let values: Arc<[Span]> = if members.len() == self.values.len() {
            self.values.as_slice().into()
        } else {
            members.iter().map(|member| self.values[*member]).collect()
        };
        Ok(Telemetry::new(body, shape.clone(), values))
    }

    fn last(&self) -> &Layout {
        self.recent.first().expect("an object was read")
    }

    fn layout_of(&mut self, text: &str, part: Span, options: &DecodingConfig) -> Arc<Layout> {
        let values = &*self.values;
        let mut hasher = self.hasher.build_hasher();
        for gap in json::between(part, values) {
            hasher.write(gap.of(text).as_bytes());
        }
        let hash = hasher.finish();
        let known = self.known.get(&hash);
        if let Some(known) = known.filter(|known| known.gaps.are_in(text, part, values)) {
            return known.clone();
        }
        let new = Arc::new(Layout::new(Gaps::new(text, part, values), options));
        self.remember(hash, &new);
        new
    }

    fn remember(&mut self, hash: u64, layout: &Arc<Layout>) {
        if !layout.is_remembered() {
            return;
        }
        let bytes = layout.bytes();
        if self.bytes + bytes > LAYOUTS_BYTES_MAX {
            self.known.clear();
            self.bytes = 0;
        }
        self.bytes += bytes;
        self.known.insert(hash, layout.clone());
    }
}

/// An object whose members were found.
#[derive(Clone, Copy, Debug)]
pub(super) struct Object<'o, 't> {
    layout: &'o Layout,
    values: &'o [Span],
    text: &'t str,
}

impl<'t> Object<'_, 't> {
    /// The value of the member that may hold the device id, if there is one.
    pub(super) fn device_id(self) -> Option<&'t str> {
        Some(self.value(self.layout.device_id?))
    }

    /// The value of the member that may hold the time, if there is one.
    pub(super) fn time(self) -> Option<&'t str> {
        Some(self.value(self.layout.time?))
    }

    /// The value of the member that may hold the connection state, if there is one.
    pub(super) fn connection_state(self) -> Option<&'t str> {
        Some(self.value(self.layout.connection_state?))
    }

    fn value(self, member: usize) -> &'t str {
        self.values[member].of(self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(layouts: &mut Layouts, text: &str) -> Arc<Layout> {
        let options = DecodingConfig::default();
        let whole = Span::whole(text);
        layouts.read(text, whole, &options).unwrap();
        layouts.recent[0].clone()
    }

    #[test]
    fn objects_that_are_written_alike_share_a_layout() {
        let mut layouts = Layouts::default();
        let first = layout(&mut layouts, r#"{"a":1,"b":2}"#);
        assert!(Arc::ptr_eq(
            &first,
            &layout(&mut layouts, r#"{"a":[],"b":{} } "#)
        ));
        for other in [
            r#"{"b":2,"a":1}"#,
            r#"{"a":1}"#,
            r#"{"a":1,"b":2,"b":3}"#,
            r#"{"\u0061":1,"b":2}"#,
            r#"{"a":1, "b":2}"#,
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
        let before = layouts.known.len();
        let wide: Vec<_> = (0..=MEMBERS_MAX)
            .map(|key| format!("\"{key}\":0"))
            .collect();
        let wide = layout(&mut layouts, &format!("{{{}}}", wide.join(",")));
        assert_eq!(wide.kept.len(), MEMBERS_MAX + 1);
        let spaces = " ".repeat(LAYOUTS_BYTES_MAX / 5);
        layout(&mut layouts, &format!("{{{spaces}\"a\":0}}"));
        assert_eq!(layouts.known.len(), before, "neither is remembered");
        layout(&mut layouts, r#"{"a":0}"#);
        let mut recent = layouts.recent.iter();
        assert!(recent.all(|one| one.is_remembered()), "nor tried again");
    }

    #[test]
    fn the_layouts_that_were_met_last_are_tried_in_that_order() {
        let mut layouts = Layouts::default();
        let kinds = ["a", "b", "c", "d", "e"].map(|key| format!("{{\"{key}\":0}}"));
        let met: Vec<_> = kinds
            .iter()
            .map(|text| layout(&mut layouts, text))
            .collect();
        layout(&mut layouts, &kinds[2]);
        let expected = [2, 4, 3, 1].map(|kind| &met[kind]);
        assert_eq!(layouts.recent.len(), expected.len());
        assert!(
            (layouts.recent.iter().zip(expected)).all(|(recent, met)| Arc::ptr_eq(recent, met))
        );
    }
}
