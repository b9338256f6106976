//! JSON Merge Patch (RFC 7396) on the objects that make up a twin.

use serde_json::{Map, Value};

/// Applies a patch: objects merge, `null` removes, everything else replaces.
pub(super) fn merge(target: &mut Map<String, Value>, patch: &Map<String, Value>) {
    for (key, change) in patch {
        match (change, target.get_mut(key)) {
            (Value::Null, _) => {
                target.remove(key);
            }
            (Value::Object(change), Some(Value::Object(inner))) => merge(inner, change),
            (Value::Object(change), _) => {
                target.insert(key.clone(), without_nulls(change).into());
            }
            (change, _) => {
                target.insert(key.clone(), change.clone());
            }
        }
    }
}

/// What a patch makes of nothing.
pub(super) fn without_nulls(patch: &Map<String, Value>) -> Map<String, Value> {
    let mut result = Map::new();
    merge(&mut result, patch);
    result
}

/// A patch that leads from `old` to `new`, which holds no `null`.
pub(super) fn difference(old: &Map<String, Value>, new: &Map<String, Value>) -> Map<String, Value> {
    let mut patch = Map::new();
    for (key, value) in new {
        match (old.get(key), value) {
            (Some(before), _) if before == value => {}
            (Some(Value::Object(before)), Value::Object(after)) => {
                patch.insert(key.clone(), difference(before, after).into());
            }
            _ => {
                patch.insert(key.clone(), value.clone());
            }
        }
    }
    for key in old.keys().filter(|key| !new.contains_key(*key)) {
        patch.insert(key.clone(), Value::Null);
    }
    patch
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn object(value: &Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    /// The cases of RFC 7396, appendix A, whose target and patch are objects.
    #[test]
    fn the_cases_of_the_rfc_hold() {
        let cases = [
            (json!({"a":"b"}), json!({"a":"c"}), json!({"a":"c"})),
            (json!({"a":"b"}), json!({"b":"c"}), json!({"a":"b","b":"c"})),
            (json!({"a":"b"}), json!({"a":null}), json!({})),
            (
                json!({"a":"b","b":"c"}),
                json!({"a":null}),
                json!({"b":"c"}),
            ),
            (json!({"a":["b"]}), json!({"a":"c"}), json!({"a":"c"})),
            (json!({"a":"c"}), json!({"a":["b"]}), json!({"a":["b"]})),
            (
                json!({"a":{"b":"c"}}),
                json!({"a":{"b":"d","c":null}}),
                json!({"a":{"b":"d"}}),
            ),
            (json!({"a":[{"b":"c"}]}), json!({"a":[1]}), json!({"a":[1]})),
            (
                json!({}),
                json!({"a":{"bb":{"ccc":null}}}),
                json!({"a":{"bb":{}}}),
            ),
        ];
        for (target, patch, expected) in cases {
            let mut result = object(&target);
            merge(&mut result, &object(&patch));
            assert_eq!(Value::from(result), expected, "{target} with {patch}");
        }
    }

    fn members() -> impl Strategy<Value = Map<String, Value>> {
        let leaf = prop_oneof![
            any::<i8>().prop_map(Value::from),
            any::<bool>().prop_map(Value::from)
        ];
        let value = leaf.prop_recursive(3, 20, 4, |inner| {
            proptest::collection::btree_map("[ab-d]", inner, 0..4)
                .prop_map(|members| members.into_iter().collect::<Map<_, _>>().into())
        });
        proptest::collection::btree_map("[ab-d]", value, 0..4)
            .prop_map(|members| members.into_iter().collect())
    }

    proptest! {
        #[test]
        fn the_difference_leads_from_old_to_new(old in members(), new in members()) {
            let mut result = old.clone();
            merge(&mut result, &difference(&old, &new));
            prop_assert_eq!(result, new);
        }
    }
}
