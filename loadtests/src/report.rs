//! The result of a scenario: named figures, as a table and as JSON.

use std::borrow::Cow;
use std::io::{self, Write as _};

use serde_json::{Map, Number, Value};

use crate::tally::Tally;
use crate::transport::Transport;

/// Named figures in the order they were added. Each name ends in its unit.
#[derive(Debug)]
pub(crate) struct Report {
    scenario: &'static str,
    figures: Vec<(Cow<'static, str>, Value)>,
    is_sound: bool,
}

impl Report {
    pub(crate) fn new(scenario: &'static str) -> Self {
        Self {
            scenario,
            figures: Vec::new(),
            is_sound: true,
        }
    }

    /// Adds a figure that counts something.
    pub(crate) fn count(&mut self, name: impl Into<Cow<'static, str>>, count: u64) {
        self.figures.push((name.into(), count.into()));
    }

    /// Says how the clients connected.
    pub(crate) fn transport(&mut self, transport: Transport) {
        self.figures
            .push(("transport".into(), transport.name().into()));
    }

    /// Adds a measured figure, rounded to what it is worth; one that could not be measured is left out.
    pub(crate) fn measure(&mut self, name: impl Into<Cow<'static, str>>, value: f64) {
        let scale = match value.abs() {
            100.0.. => 1.0,
            1.0.. => 100.0,
            _ => 10_000.0,
        };
        self.figures.extend(
            Number::from_f64((value * scale).round() / scale)
                .map(|value| (name.into(), value.into())),
        );
    }

    /// Adds what the audience got, and remembers whether that was as promised. `conflated` is how many deliveries the
    /// relay says it merged into newer ones.
    pub(crate) fn deliveries(&mut self, tally: &Tally, expected: u64, conflated: u64) {
        let unseen = tally.skipped + expected.saturating_sub(tally.accounted);
        let lost = unseen.saturating_sub(conflated);
        self.count("expected_deliveries", expected);
        self.count("received_deliveries", tally.received);
        self.count("conflated_deliveries", conflated);
        self.count("lost_deliveries", lost);
        self.count("duplicated_deliveries", tally.duplicated);
        self.count("reordered_deliveries", tally.reordered);
        self.count("unexpected_deliveries", tally.unexpected);
        self.count("misnumbered_frames", tally.misnumbered);
        let wrong = tally.duplicated + tally.reordered + tally.unexpected + tally.misnumbered;
        self.is_sound = lost + wrong == 0;
    }

    /// Adds how many values native clients were told they skipped, and remembers whether these are all that the relay
    /// says it conflated.
    pub(crate) fn told_conflated_values(&mut self, tally: &Tally, conflated: u64) {
        let told = tally.told_conflated_values;
        self.count("told_conflated_values", told);
        self.is_sound &= told == conflated;
    }

    /// Whether every delivery was as promised.
    pub(crate) fn is_sound(&self) -> bool {
        self.is_sound
    }

    /// The figures, one to a line.
    pub(crate) fn table(&self) -> String {
        let width = self
            .figures
            .iter()
            .map(|(name, _)| name.len())
            .max()
            .unwrap_or(0);
        let rows = self.figures.iter().map(|(name, figure)| {
            let figure = figure
                .as_str()
                .map_or_else(|| figure.to_string(), str::to_owned);
            format!("{name:<width$} {figure:>14}\n")
        });
        std::iter::once(format!("scenario: {}\n", self.scenario))
            .chain(rows)
            .collect()
    }

    /// One JSON object: the scenario's name and every figure.
    pub(crate) fn json(&self) -> String {
        let mut object = Map::new();
        object.insert("scenario".to_owned(), self.scenario.into());
        for (name, figure) in &self.figures {
            object.insert(name.clone().into_owned(), figure.clone());
        }
        format!("{:#}\n", Value::from(object))
    }
}

/// Writes a result on standard output.
pub(crate) fn print(text: &str) {
    // A reader that has gone has seen what it wanted.
    let _ = io::stdout().lock().write_all(text.as_bytes());
}

/// The value below which `share` of the samples lie; sorts them.
pub(crate) fn percentile(samples: &mut [u32], share: f64) -> Option<u32> {
    samples.sort_unstable();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a place among samples, of which there are far fewer than 2^53"
    )]
    let place = (samples.len() as f64 * share) as usize;
    samples
        .get(place.min(samples.len().saturating_sub(1)))
        .copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deliveries_that_the_relay_says_it_conflated_are_not_lost() {
        let tally = Tally {
            received: 7,
            accounted: 10,
            skipped: 3,
            ..Tally::default()
        };
        for (expected, conflated, lost) in [(10, 3, 0), (10, 2, 1), (12, 3, 2)] {
            let mut report = Report::new("test");
            report.deliveries(&tally, expected, conflated);
            assert_eq!(report.is_sound(), lost == 0);
            let json: Value = serde_json::from_str(&report.json()).unwrap();
            assert_eq!(json["lost_deliveries"], lost);
            assert_eq!(json["scenario"], "test");
        }
    }

    #[test]
    fn clients_are_told_of_every_conflated_value() {
        let tally = Tally {
            told_conflated_values: 3,
            ..Tally::default()
        };
        for conflated in [3, 4] {
            let mut report = Report::new("test");
            report.told_conflated_values(&tally, conflated);
            assert_eq!(report.is_sound(), conflated == 3);
        }
    }

    #[test]
    fn percentiles_are_samples() {
        let mut samples: Vec<u32> = (1..=100).rev().collect();
        assert_eq!(percentile(&mut samples, 0.5), Some(51));
        assert_eq!(percentile(&mut samples, 0.999), Some(100));
        assert_eq!(percentile(&mut [], 0.5), None);
    }
}
