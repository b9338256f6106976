//! How much of a twin is shown.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::json_pointer::Pointers;
use super::raw_json::RawJson;

/// How much of a twin is shown; nothing but its version by default.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TwinView {
    /// All of it.
    Whole,
    /// Its version and what these pointers name in it.
    Parts(Pointers),
}

impl Default for TwinView {
    fn default() -> Self {
        Self::Parts(Pointers::default())
    }
}

#[derive(Default, Deserialize)]
struct Document<'a> {
    #[serde(borrow, default)]
    version: Option<&'a RawValue>,
    #[serde(borrow, default)]
    properties: Properties<'a>,
    #[serde(borrow, default)]
    tags: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
struct Properties<'a> {
    #[serde(borrow, default)]
    reported: Option<&'a RawValue>,
    #[serde(borrow, default)]
    desired: Option<&'a RawValue>,
}

impl TwinView {
    /// What is shown of a twin in the form that clients get: `{"version", "properties": {"reported", "desired"},
    /// "tags"?}`. Both sides of the properties are always there, if only as empty objects. Cutting what was cut before
    /// for a view that shows more is the same as cutting the whole.
    pub fn cut(&self, twin: &RawJson) -> RawJson {
        let Self::Parts(pointers) = self else {
            return twin.clone();
        };
        let whole: Document<'_> = serde_json::from_str(twin.as_str()).unwrap_or_default();
        let version = whole.version.map_or("null", RawValue::get);
        let cut = pointers.cut(twin.as_str()).unwrap_or_default();
        let cut: Document<'_> = serde_json::from_str(&cut).unwrap_or_default();
        let side = |side: Option<&RawValue>| side.map_or("{}", RawValue::get).to_owned();
        let mut json = format!(
            r#"{{"version":{version},"properties":{{"reported":{},"desired":{}}}"#,
            side(cut.properties.reported),
            side(cut.properties.desired)
        );
        if let Some(tags) = cut.tags {
            json.push_str(",\"tags\":");
            json.push_str(tags.get());
        }
        json.push('}');
        RawJson::from_valid(json)
    }
}

#[cfg(test)]
mod tests {
    use super::super::json_pointer::tests::pointers;
    use super::*;

    const TWIN: &str = r#"{"version":7,"properties":{"reported":{"a":1.0,"b":{"c":2},"$version":3},"desired":{"a":1,"$version":2}},"tags":{"site":"x","owner":"y"}}"#;

    fn cut(view: &TwinView) -> String {
        view.cut(&RawJson::from_valid(TWIN)).as_str().to_owned()
    }

    #[test]
    fn only_what_is_named_is_shown_in_the_form_of_a_twin() {
        let view = TwinView::Parts(pointers(&[
            "/properties/reported/a",
            "/properties/desired",
            "/tags/site",
        ]));
        assert_eq!(
            cut(&view),
            r#"{"version":7,"properties":{"reported":{"a":1.0},"desired":{"a":1,"$version":2}},"tags":{"site":"x"}}"#
        );
        assert_eq!(cut(&TwinView::Whole), TWIN);
        let nothing = r#"{"version":7,"properties":{"reported":{},"desired":{}}}"#;
        assert_eq!(cut(&TwinView::default()), nothing);
        assert_eq!(
            cut(&TwinView::Parts(pointers(&["/properties/reported/x"]))),
            nothing
        );
        assert_eq!(
            cut(&TwinView::Parts(pointers(&["/properties"]))).find("tags"),
            None
        );
    }

    #[test]
    fn cutting_again_for_less_is_like_cutting_once() {
        let more = TwinView::Parts(pointers(&["/properties/reported", "/tags"]));
        let less = TwinView::Parts(pointers(&["/properties/reported/b/c", "/tags/owner"]));
        let twin = RawJson::from_valid(TWIN);
        assert_eq!(less.cut(&more.cut(&twin)), less.cut(&twin));
    }
}
