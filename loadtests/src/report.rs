//! The result of a run: for each contender the medians of its passes, as a table and as JSON.

use std::fmt::Write as _;
use std::io::{self, Write as _};

use serde_json::{Map, Value};

use crate::contender::About;
use crate::figures::Figures;
use crate::scenario::Scenario;
use crate::tally::Tally;

/// What one pass of one contender came to.
#[derive(Clone, Debug)]
pub(crate) struct Pass {
    pub(crate) about: About,
    pub(crate) figures: Figures,
    /// Whether every delivery was as promised.
    pub(crate) is_sound: bool,
}

impl Pass {
    pub(crate) fn new(about: About) -> Self {
        Self {
            about,
            figures: Figures::default(),
            is_sound: true,
        }
    }

    /// Adds what subscribers got, and remembers whether that was as promised. `missing` is how much of the expected had
    /// not come when nothing came any more.
    pub(crate) fn deliveries(&mut self, tally: &Tally, expected: u64, missing: u64) {
        let lost = tally.skipped + missing;
        for (name, count) in [
            ("expected_deliveries", expected),
            ("received_deliveries", tally.received),
            ("lost_deliveries", lost),
            ("duplicated_deliveries", tally.duplicated),
            ("reordered_deliveries", tally.reordered),
            ("unexpected_deliveries", tally.unexpected),
        ] {
            self.figures.count(name, count);
        }
        let wrong = lost + tally.duplicated + tally.reordered + tally.unexpected;
        self.is_sound &= wrong == 0;
    }
}

/// All passes of one contender.
#[derive(Debug)]
struct Entry {
    about: About,
    passes: Vec<Figures>,
    is_sound: bool,
}

/// What a run came to.
#[derive(Debug)]
pub(crate) struct Report {
    scenario: &'static Scenario,
    settings: Map<String, Value>,
    entries: Vec<Entry>,
}

impl Report {
    /// `settings` say how the scenario was run.
    pub(crate) fn new(scenario: &'static Scenario, settings: Map<String, Value>) -> Self {
        Self {
            scenario,
            settings,
            entries: Vec::new(),
        }
    }

    /// Adds a pass to those of its contender.
    pub(crate) fn add(&mut self, pass: Pass) {
        let Pass {
            about,
            figures,
            is_sound,
        } = pass;
        let known = (self.entries.iter_mut()).find(|entry| entry.about.name == about.name);
        if let Some(entry) = known {
            entry.passes.push(figures);
            entry.is_sound &= is_sound;
        } else {
            self.entries.push(Entry {
                about,
                passes: vec![figures],
                is_sound,
            });
        }
    }

    /// Whether anything was measured.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The contenders whose deliveries were not as promised.
    pub(crate) fn unsound(&self) -> impl Iterator<Item = &'static str> + '_ {
        let unsound = self.entries.iter().filter(|entry| !entry.is_sound);
        unsound.map(|entry| entry.about.name)
    }

    /// A line for each contender, with the figures that the scenario is about. The ratio is that of the main figure to
    /// the first contender's.
    pub(crate) fn table(&self) -> String {
        let columns = self.scenario.columns;
        let mut rows = vec![vec![self.scenario.name.to_owned()]];
        rows[0].extend(columns.iter().map(|column| column.header.to_owned()));
        rows[0].push("ratio".to_owned());
        let main = columns.first().map(|column| column.figure);
        let mut first = None;
        for entry in &self.entries {
            let medians = Figures::medians(&entry.passes);
            let mut row = vec![entry.about.name.to_owned()];
            row.extend(columns.iter().map(|column| {
                medians
                    .get(column.figure)
                    .map_or_else(|| "-".to_owned(), shown)
            }));
            let figure = main.and_then(|main| medians.get(main));
            first = first.or(figure);
            let ratio = figure.zip(first).map(|(figure, first)| figure / first);
            row.push(ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}")));
            if !entry.is_sound {
                row.push("NOT AS PROMISED".to_owned());
            }
            rows.push(row);
        }
        aligned(&rows)
    }

    /// One JSON object: the scenario's name, how it was run, the figures of the first contender, and `contenders` with
    /// the figures of each: medians, and every pass.
    pub(crate) fn json(&self) -> String {
        let mut object = Map::new();
        object.insert("scenario".to_owned(), self.scenario.name.into());
        object.extend(self.settings.clone());
        let mut contenders = Vec::new();
        let main = self.scenario.columns.first().map(|column| column.figure);
        let mut first = None;
        for entry in &self.entries {
            let medians = Figures::medians(&entry.passes);
            let About {
                name,
                version,
                settings,
            } = &entry.about;
            let mut contender = Map::new();
            contender.insert("name".to_owned(), (*name).into());
            contender.insert("version".to_owned(), version.clone().into());
            contender.insert("settings".to_owned(), settings.clone().into());
            if first.is_none() {
                object.extend([("contender".to_owned(), (*name).into())]);
                medians.add_to(&mut object);
            }
            medians.add_to(&mut contender);
            let figure = main.and_then(|main| medians.get(main));
            first = first.or(figure);
            if let Some((main, figure, first)) = main
                .zip(figure)
                .zip(first)
                .map(|((main, figure), first)| (main, figure, first))
            {
                let mut ratio = Figures::default();
                ratio.add(format!("{main}_ratio_to_first"), figure / first);
                ratio.add_to(&mut contender);
            }
            let passes = entry.passes.iter().map(|pass| {
                let mut figures = Map::new();
                pass.add_to(&mut figures);
                Value::from(figures)
            });
            contender.insert("passes".to_owned(), passes.collect());
            contenders.push(Value::from(contender));
        }
        object.insert("contenders".to_owned(), contenders.into());
        format!("{:#}\n", Value::from(object))
    }
}

/// Writes a result on standard output.
pub(crate) fn print(text: &str) {
    // A reader that has gone has seen what it wanted.
    let _ = io::stdout().lock().write_all(text.as_bytes());
}

fn shown(value: f64) -> String {
    match value.abs() {
        1e6.. => format!("{:.2} M", value / 1e6),
        1e4.. => format!("{:.0} k", value / 1e3),
        100.0.. => format!("{value:.0}"),
        1.0.. => format!("{value:.2}"),
        0.0 => "0".to_owned(),
        _ => format!("{value:.3}"),
    }
}

/// Rows with columns under each other, the first to the left.
fn aligned(rows: &[Vec<String>]) -> String {
    const WRITABLE: &str = "writing to a text cannot fail";
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<_> = (0..columns)
        .map(|column| {
            let cells = rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        })
        .collect();
    let mut text = String::new();
    for row in rows {
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            if column == 0 {
                write!(text, "{cell:<width$}").expect(WRITABLE);
            } else {
                write!(text, "  {cell:>width$}").expect(WRITABLE);
            }
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario;

    fn report(figures: &[(&'static str, f64)]) -> Report {
        let scenario = scenario::find("broadcast").unwrap();
        let mut report = Report::new(scenario, Map::new());
        for &(name, deliveries) in figures {
            let about = About {
                name,
                version: "1".to_owned(),
                settings: String::new(),
            };
            let mut pass = Pass::new(about);
            let name = "deliveries_per_server_core_second";
            pass.figures.add(name, deliveries);
            report.add(pass);
        }
        report
    }

    #[test]
    fn ratios_are_those_of_medians_to_the_first_contender() {
        let report = report(&[("a", 1e6), ("b", 5e5), ("a", 3e6), ("b", 5e5)]);
        let json: Value = serde_json::from_str(&report.json()).unwrap();
        assert_eq!(json["scenario"], "broadcast");
        assert_eq!(json["deliveries_per_server_core_second"], 2_000_000);
        let [a, b] = json["contenders"].as_array().unwrap().as_slice() else {
            panic!("{json}")
        };
        assert_eq!(a["passes"].as_array().unwrap().len(), 2);
        let ratio = "deliveries_per_server_core_second_ratio_to_first";
        assert_eq!((&a[ratio], &b[ratio]), (&1.into(), &0.25.into()));
        assert!(report.table().contains("0.25"));
    }

    #[test]
    fn a_delivery_that_is_not_as_promised_makes_a_run_unsound() {
        let about = About {
            name: "a",
            version: String::new(),
            settings: String::new(),
        };
        for (tally, missing, is_sound) in [
            (Tally::default(), 0, true),
            (Tally::default(), 1, false),
            (
                Tally {
                    reordered: 1,
                    ..Tally::default()
                },
                0,
                false,
            ),
        ] {
            let mut pass = Pass::new(about.clone());
            pass.deliveries(&tally, 10, missing);
            assert_eq!(pass.is_sound, is_sound);
        }
    }
}
