//! JSON pointers (RFC 6901), and what lists of them let be seen and written.
//!
//! A list of pointers narrows a grant to parts of a JSON document: each names a value, and with it everything below.
//! Guarantees: what no pointer names is never shown ([`Pointers::cut`]) and never written ([`Pointers::allow_patch`]), in
//! whatever order, spelling or repetition the members of a text stand; values pass through as they were written.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use serde::de::{Deserializer as _, MapAccess, Visitor};
use serde_json::value::RawValue;

/// Longest pointer in bytes.
pub const POINTER_BYTES_MAX: usize = 1024;

/// Most reference tokens in one pointer.
pub const POINTER_TOKENS_MAX: usize = 32;

/// Most pointers in one list.
pub const POINTERS_MAX: usize = 64;

/// Names one value in a JSON document.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pointer(Arc<[Box<str>]>);

/// Why a text is no pointer, or a list no list of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PointerError {
    /// It is neither empty nor begins with `/`, or has a `~` that stands for nothing (RFC 6901 §3).
    #[error("is not a JSON pointer")]
    Malformed,
    /// It is longer than [`POINTER_BYTES_MAX`] or has more than [`POINTER_TOKENS_MAX`] reference tokens.
    #[error("is a JSON pointer of more than 1024 bytes or 32 reference tokens")]
    TooLong,
    /// There are none, or more than [`POINTERS_MAX`].
    #[error("is not a list of 1 to 64 JSON pointers")]
    Count,
}

impl Pointer {
    /// Reads a pointer in its text form; the empty text names the whole document.
    pub fn parse(text: &str) -> Result<Self, PointerError> {
        if text.len() > POINTER_BYTES_MAX {
            return Err(PointerError::TooLong);
        }
        let Some(tokens) = text.strip_prefix('/') else {
            let whole = text.is_empty().then(|| Self(Arc::from([])));
            return whole.ok_or(PointerError::Malformed);
        };
        let tokens = tokens.split('/').map(unescape);
        let tokens: Vec<Box<str>> = tokens
            .collect::<Option<_>>()
            .ok_or(PointerError::Malformed)?;
        if tokens.len() > POINTER_TOKENS_MAX {
            return Err(PointerError::TooLong);
        }
        Ok(Self(tokens.into()))
    }

    /// The pointer that leads where this one does, and on from there as `rest` says.
    #[must_use]
    pub fn join(&self, rest: &Self) -> Self {
        Self(self.0.iter().chain(&*rest.0).cloned().collect())
    }

    /// Its reference tokens, unescaped.
    pub fn tokens(&self) -> &[Box<str>] {
        &self.0
    }
}

impl fmt::Debug for Pointer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for token in &*self.0 {
            let token = token.replace('~', "~0").replace('/', "~1");
            write!(formatter, "/{token}")?;
        }
        Ok(())
    }
}

/// Some pointers into one kind of document; none by default, which names nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pointers(Arc<[Pointer]>);

impl Pointers {
    /// Takes 1 to [`POINTERS_MAX`] pointers. Their order means nothing, nor does one below another.
    pub fn new(pointers: Vec<Pointer>) -> Result<Self, PointerError> {
        if pointers.is_empty() || pointers.len() > POINTERS_MAX {
            return Err(PointerError::Count);
        }
        Ok(pointers.into_iter().collect())
    }

    /// The pointers, sorted; none lies below another.
    pub fn iter(&self) -> impl Iterator<Item = &Pointer> {
        self.0.iter()
    }

    /// What they name of a valid JSON text: objects with only those members that lie on the way. Arrays are seen whole or
    /// not at all. `None` when they name nothing in it.
    pub fn cut(&self, json: &str) -> Option<String> {
        cut(json, &self.below_root())
    }

    /// Whether a JSON merge patch (RFC 7396) writes nothing but what they name. An empty object is a write too, but for
    /// the patch itself: it would replace what is no object. A patch that is no object is never allowed.
    pub fn allow_patch(&self, patch: &str) -> bool {
        let Some(members) = members(patch) else {
            return false;
        };
        let root = self.below_root();
        root.iter().any(|rest| rest.is_empty()) || allow_members(&members, &root)
    }

    fn below_root(&self) -> Vec<&[Box<str>]> {
        self.iter().map(Pointer::tokens).collect()
    }
}

impl FromIterator<Pointer> for Pointers {
    fn from_iter<I: IntoIterator<Item = Pointer>>(pointers: I) -> Self {
        let mut pointers: Vec<_> = pointers.into_iter().collect();
        // A pointer sorts right before those below it.
        pointers.sort_unstable();
        pointers.dedup_by(|below, above| below.0.starts_with(&above.0));
        Self(pointers.into())
    }
}

fn unescape(token: &str) -> Option<Box<str>> {
    let mut parts = token.split('~');
    let mut unescaped = String::from(parts.next().unwrap_or_default());
    for part in parts {
        let character = match part.as_bytes().first() {
            Some(b'0') => '~',
            Some(b'1') => '/',
            _ => return None,
        };
        unescaped.push(character);
        unescaped.push_str(&part[1..]);
    }
    Some(unescaped.into())
}

/// Each `rest` is what is left of a pointer that led to `json`.
fn cut(json: &str, pointers: &[&[Box<str>]]) -> Option<String> {
    if pointers.iter().any(|rest| rest.is_empty()) {
        return Some(json.to_owned());
    }
    let mut object = String::from("{");
    for (key, value) in members(json)? {
        let below = step(pointers, &key);
        let Some(part) = (!below.is_empty())
            .then(|| cut(value.get(), &below))
            .flatten()
        else {
            continue;
        };
        if object.len() > 1 {
            object.push(',');
        }
        object.push_str(&literal(&key));
        object.push(':');
        object.push_str(&part);
    }
    object.push('}');
    (object.len() > 2).then_some(object)
}

fn allow_members(members: &[(Cow<'_, str>, &RawValue)], pointers: &[&[Box<str>]]) -> bool {
    members.iter().all(|(key, value)| {
        let below = step(pointers, key);
        if below.iter().any(|rest| rest.is_empty()) {
            return true;
        }
        let inner = self::members(value.get()).filter(|inner| !inner.is_empty());
        !below.is_empty() && inner.is_some_and(|inner| allow_members(&inner, &below))
    })
}

/// Those pointers that lead on through a member.
fn step<'p>(pointers: &[&'p [Box<str>]], key: &str) -> Vec<&'p [Box<str>]> {
    let through = pointers.iter().filter_map(|rest| match rest.split_first() {
        Some((token, rest)) if **token == *key => Some(rest),
        _ => None,
    });
    through.collect()
}

/// A text as a JSON string.
pub(super) fn literal(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Every member of an object, those with the same key included, in the order of the text; `None` when it is no object.
pub(super) fn members(json: &str) -> Option<Vec<(Cow<'_, str>, &RawValue)>> {
    struct Members;

    impl<'de> Visitor<'de> for Members {
        type Value = Vec<(Cow<'de, str>, &'de RawValue)>;

        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut members = Vec::new();
            while let Some(Key(key)) = map.next_key()? {
                members.push((key, map.next_value()?));
            }
            Ok(members)
        }
    }

    let mut deserializer = serde_json::Deserializer::from_str(json);
    let members = deserializer.deserialize_map(Members).ok()?;
    deserializer.end().ok()?;
    Some(members)
}

/// A member's key, borrowed unless it has escapes.
struct Key<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> serde::Deserialize<'de> for Key<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl<'de> Visitor<'de> for Text {
            type Value = Key<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a string")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Key(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Key(Cow::Owned(text.to_owned())))
            }
        }

        deserializer.deserialize_str(Text)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    pub(crate) fn pointers(texts: &[&str]) -> Pointers {
        let parsed = texts.iter().map(|text| Pointer::parse(text).unwrap());
        Pointers::new(parsed.collect()).unwrap()
    }

    #[test]
    fn the_text_form_is_that_of_rfc_6901() {
        let tokens = |text: &str| {
            let pointer = Pointer::parse(text)?;
            Ok::<Vec<String>, PointerError>(
                pointer.tokens().iter().map(ToString::to_string).collect(),
            )
        };
        assert_eq!(tokens(""), Ok(vec![]));
        assert_eq!(tokens("/"), Ok(vec![String::new()]));
        assert_eq!(
            tokens("/a~1b/m~0n/ /~01"),
            Ok(["a/b", "m~n", " ", "~1"].map(String::from).to_vec())
        );
        for malformed in ["a", "#/a", "/a~", "/a~2", "/~/b"] {
            assert_eq!(
                tokens(malformed),
                Err(PointerError::Malformed),
                "{malformed}"
            );
        }
        assert_eq!(tokens(&"/a".repeat(33)), Err(PointerError::TooLong));
        assert_eq!(
            tokens(&format!("/{}", "a".repeat(1024))),
            Err(PointerError::TooLong)
        );
        assert_eq!(
            format!("{:?}", Pointer::parse("/a~1b/m~0n").unwrap()),
            "/a~1b/m~0n"
        );
    }

    #[test]
    fn a_list_is_bounded_and_forgets_what_lies_below_another() {
        assert_eq!(Pointers::new(vec![]), Err(PointerError::Count));
        let one = Pointer::parse("/a").unwrap();
        assert_eq!(Pointers::new(vec![one; 65]), Err(PointerError::Count));
        assert_eq!(
            pointers(&["/a/b", "/ab", "/a", "/a/c/d"]),
            pointers(&["/ab", "/a"])
        );
    }

    #[test]
    fn a_cut_shows_what_is_named_as_it_was_written() {
        let twin = r#"{"version":7,"properties":{"reported":{"a":1.50,"b":{"c":[1,2],"d":null}},"desired":{"x":1}},"tags":{"k/1":true}}"#;
        let cut = |texts: &[&str]| pointers(texts).cut(twin);
        assert_eq!(
            cut(&[
                "/properties/reported/a",
                "/properties/reported/b/d",
                "/tags/k~11"
            ])
            .as_deref(),
            Some(r#"{"properties":{"reported":{"a":1.50,"b":{"d":null}}},"tags":{"k/1":true}}"#)
        );
        assert_eq!(cut(&[""]).as_deref(), Some(twin));
        for nothing in [
            "/nothing",
            "/properties/reported/a/deeper",
            "/properties/reported/b/c/0",
        ] {
            assert_eq!(cut(&[nothing]), None, "{nothing}");
        }
        assert_eq!(Pointers::default().cut(twin), None);
    }

    #[test]
    fn a_patch_may_only_write_what_is_named() {
        let allowed = pointers(&["/interval", "/network/ssid"]);
        for patch in [
            "{}",
            r#"{"interval":5}"#,
            r#"{"interval":null}"#,
            r#"{"interval":{"any":{"thing":1}}}"#,
            r#"{"network":{"ssid":"x"},"interval":1}"#,
        ] {
            assert!(allowed.allow_patch(patch), "{patch}");
        }
        for patch in [
            r#"{"intervals":5}"#,
            r#"{"network":null}"#,
            r#"{"network":5}"#,
            r#"{"network":{}}"#,
            r#"{"network":{"ssid":"x","password":"y"}}"#,
            r#"{"network":{"ssid":"x"},"network":{"password":"y"}}"#,
            r#"{"network":{"ssid":"x"},"\u006eetwork":null}"#,
            "[]",
            "5",
            "null",
            "{",
            r#"{"interval":5} {"network":null}"#,
        ] {
            assert!(!allowed.allow_patch(patch), "{patch}");
        }
        assert!(pointers(&[""]).allow_patch(r#"{"anything":1}"#));
        assert!(!Pointers::default().allow_patch(r#"{"interval":5}"#));
    }

    /// RFC 7396 §2.
    fn merge(target: &mut Value, patch: &Value) {
        let Value::Object(patch) = patch else {
            *target = patch.clone();
            return;
        };
        if !target.is_object() {
            *target = json!({});
        }
        let target = target.as_object_mut().unwrap();
        for (key, value) in patch {
            if value.is_null() {
                target.remove(key);
            } else {
                merge(target.entry(key).or_insert(Value::Null), value);
            }
        }
    }

    fn object(inner: impl Strategy<Value = Value>) -> impl Strategy<Value = Value> {
        prop::collection::hash_map("[abc]", inner, 0..4)
            .prop_map(|members| Value::Object(members.into_iter().collect()))
    }

    fn document() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![Just(Value::Null), (0..3).prop_map(Value::from)];
        let value = leaf.prop_recursive(3, 16, 3, |inner| {
            prop_oneof![
                1 => prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
                3 => object(inner),
            ]
        });
        object(value)
    }

    /// Drops what an allowed patch may do on the way to something named: make objects, also in the place of what was none.
    fn strip(document: &mut Value, at: &mut Vec<String>, ways: &[Vec<String>]) {
        if let Value::Object(members) = document {
            members.retain(|key, value| {
                at.push(key.clone());
                strip(value, at, ways);
                let on_the_way = ways.contains(at);
                at.pop();
                let is_empty = value.as_object().is_some_and(serde_json::Map::is_empty);
                !(on_the_way && (is_empty || !value.is_object()))
            });
        }
    }

    /// The pointers of all values that have no members.
    fn leaves(value: &Value, at: String, found: &mut Vec<String>) {
        match value {
            Value::Object(members) if !members.is_empty() => {
                for (key, value) in members {
                    leaves(value, format!("{at}/{key}"), found);
                }
            }
            _ => found.push(at),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        /// Whatever an allowed patch does to any document of objects, what is not named stays as it was.
        #[test]
        fn what_is_not_named_survives_every_allowed_patch(
            document in document(),
            patch in document(),
            allowed in prop::collection::vec("(/[abc]){1,2}", 1..5),
        ) {
            let allowed: Vec<&str> = allowed.iter().map(String::as_str).collect();
            let allowed = pointers(&allowed);
            if !allowed.allow_patch(&patch.to_string()) {
                return Ok(());
            }
            let mut patched = document.clone();
            merge(&mut patched, &patch);
            let without_named = |mut document: Value| {
                for pointer in allowed.iter() {
                    let (last, parents) = pointer.tokens().split_last().unwrap();
                    let mut at = Some(&mut document);
                    for token in parents {
                        at = at.and_then(|at| at.get_mut(&**token));
                    }
                    if let Some(parent) = at.and_then(Value::as_object_mut) {
                        parent.remove(&**last);
                    }
                }
                document
            };
            let ways: Vec<Vec<String>> = allowed
                .iter()
                .flat_map(|pointer| {
                    let tokens = pointer.tokens();
                    (1..tokens.len())
                        .map(|end| tokens[..end].iter().map(ToString::to_string).collect())
                })
                .collect();
            let comparable = |document: Value| {
                let mut document = without_named(document);
                strip(&mut document, &mut Vec::new(), &ways);
                document
            };
            prop_assert_eq!(comparable(patched), comparable(document));
        }

        /// A cut holds nothing that no pointer names, and everything that one does.
        #[test]
        fn a_cut_holds_what_is_named_and_nothing_else(
            document in document(),
            named in prop::collection::vec("(/[abc]){1,3}", 1..4),
        ) {
            let names: Vec<&str> = named.iter().map(String::as_str).collect();
            let pointers = pointers(&names);
            let cut: Option<Value> = pointers
                .cut(&document.to_string())
                .map(|cut| serde_json::from_str(&cut).unwrap());
            let through_objects = |document: &Value, pointer: &Pointer| {
                let mut at = document.clone();
                for token in pointer.tokens() {
                    at = at.as_object()?.get(&**token)?.clone();
                }
                Some(at)
            };
            for pointer in pointers.iter() {
                let seen = cut.as_ref().and_then(|cut| through_objects(cut, pointer));
                prop_assert_eq!(seen, through_objects(&document, pointer));
            }
            let mut found = Vec::new();
            if let Some(cut) = &cut {
                leaves(cut, String::new(), &mut found);
            }
            for leaf in found {
                prop_assert!(
                    names.iter().any(|name| leaf == *name || leaf.starts_with(&format!("{name}/"))),
                    "{} in {:?}", leaf, cut
                );
            }
        }
    }
}
