//! Named figures in the order they were added, and the medians of several passes. Each name ends in its unit.

use std::borrow::Cow;

use serde_json::{Map, Number, Value};

/// Figures of one pass, or medians of several.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Figures(Vec<(Cow<'static, str>, f64)>);

impl Figures {
    /// Adds a figure; one that could not be measured is left out.
    pub(crate) fn add(&mut self, name: impl Into<Cow<'static, str>>, value: f64) {
        if value.is_finite() {
            self.0.push((name.into(), value));
        }
    }

    /// Adds a figure that counts something.
    #[expect(
        clippy::cast_precision_loss,
        reason = "counts of one run are far below 2^53"
    )]
    pub(crate) fn count(&mut self, name: impl Into<Cow<'static, str>>, count: u64) {
        self.add(name, count as f64);
    }

    /// The figure of this name.
    pub(crate) fn get(&self, name: &str) -> Option<f64> {
        let mut named = self.0.iter().filter(|(figure, _)| figure == name);
        named.next().map(|(_, value)| *value)
    }

    /// Takes a figure out, to add it again with another value.
    pub(crate) fn take(&mut self, name: &str) -> Option<f64> {
        let place = self.0.iter().position(|(figure, _)| figure == name)?;
        Some(self.0.remove(place).1)
    }

    /// The median of each figure over several passes.
    pub(crate) fn medians(passes: &[Self]) -> Self {
        let Some(first) = passes.first() else {
            return Self::default();
        };
        let medians = first.0.iter().map(|(name, _)| {
            let values = passes.iter().filter_map(|pass| pass.get(name));
            (name.clone(), median(values.collect()))
        });
        Self(medians.collect())
    }

    /// As members of a JSON object, rounded to what they are worth.
    pub(crate) fn add_to(&self, object: &mut Map<String, Value>) {
        for (name, value) in &self.0 {
            object.insert(name.clone().into_owned(), number(*value));
        }
    }
}

/// The value in the middle, or between the two there.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 {
        values[middle]
    } else {
        f64::midpoint(values[middle - 1], values[middle])
    }
}

/// A number with four digits that mean something, and whole from a thousand on.
fn number(value: f64) -> Value {
    let scale = match value.abs() {
        1000.0.. => 1.0,
        100.0.. => 10.0,
        10.0.. => 100.0,
        1.0.. => 1000.0,
        _ => 1e5,
    };
    let rounded = (value * scale).round() / scale;
    #[expect(clippy::cast_possible_truncation, reason = "whole, and far below 2^53")]
    if rounded.fract() == 0.0 {
        Value::from(rounded as i64)
    } else {
        Number::from_f64(rounded).map_or(Value::Null, Value::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(values: &[(&'static str, f64)]) -> Figures {
        let mut figures = Figures::default();
        for &(name, value) in values {
            figures.add(name, value);
        }
        figures
    }

    #[test]
    fn medians_are_taken_figure_by_figure() {
        let passes = [
            figures(&[("a", 1.0), ("b", 4.0)]),
            figures(&[("a", 9.0), ("b", 2.0)]),
            figures(&[("a", 5.0), ("b", 3.0)]),
        ];
        assert_eq!(
            Figures::medians(&passes),
            figures(&[("a", 5.0), ("b", 3.0)])
        );
        assert_eq!(Figures::medians(&passes[..2]).get("a"), Some(5.0));
        assert_eq!(Figures::medians(&[]), Figures::default());
    }

    #[test]
    fn a_figure_that_some_passes_lack_has_the_median_of_the_others() {
        let passes = [figures(&[("a", 1.0)]), figures(&[])];
        assert_eq!(Figures::medians(&passes).get("a"), Some(1.0));
    }

    #[test]
    fn figures_are_rounded_to_what_they_are_worth() {
        let values = [1_234_567.8, 123.456, 1.0, 0.059_93, f64::NAN];
        let mut object = Map::new();
        for (name, value) in ["a", "b", "c", "d", "e"].into_iter().zip(values) {
            figures(&[(name, value)]).add_to(&mut object);
        }
        let text = Value::from(object).to_string();
        assert_eq!(text, r#"{"a":1234568,"b":123.5,"c":1,"d":0.05993}"#);
    }
}
