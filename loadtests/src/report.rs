//! The result of a run: for each contender the medians of its passes, as a table and as JSON.

use std::fmt::Write as _;
use std::io::{self, Write as _};

use serde_json::{Map, Value};

use crate::contender::About;
use crate::figures::Figures;
use crate::scenario::Scenario;
use crate::tally::Tally;

const WRITABLE: &str = "writing to a text cannot fail";

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
    name: &'static str,
    /// Unknown of one that failed before it was measured.
    about: Option<About>,
    passes: Vec<Figures>,
    is_sound: bool,
    /// Why it could not be measured to the end.
    failure: Option<String>,
}

impl Entry {
    fn new(name: &'static str) -> Self {
        Self {
            name,
            about: None,
            passes: Vec::new(),
            is_sound: true,
            failure: None,
        }
    }
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
        let entry = self.entry(about.name);
        entry.about = Some(about);
        entry.passes.push(figures);
        entry.is_sound &= is_sound;
    }

    /// Says that a contender could not be measured to the end. What it came to before is kept.
    pub(crate) fn add_failure(&mut self, name: &'static str, reason: String) {
        self.entry(name).failure = Some(reason);
    }

    fn entry(&mut self, name: &'static str) -> &mut Entry {
        let known = self.entries.iter().position(|entry| entry.name == name);
        let place = known.unwrap_or_else(|| {
            self.entries.push(Entry::new(name));
            self.entries.len() - 1
        });
        &mut self.entries[place]
    }

    /// Whether nothing was measured or tried.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The contenders whose deliveries were not as promised.
    pub(crate) fn unsound(&self) -> impl Iterator<Item = &'static str> + '_ {
        let unsound = self.entries.iter().filter(|entry| !entry.is_sound);
        unsound.map(|entry| entry.name)
    }

    /// The contenders that could not be measured to the end.
    pub(crate) fn failed(&self) -> impl Iterator<Item = &'static str> + '_ {
        let failed = self.entries.iter().filter(|entry| entry.failure.is_some());
        failed.map(|entry| entry.name)
    }

    /// The medians of each contender, and the ratio of its main figure to that of the first contender.
    fn compared(&self) -> impl Iterator<Item = (&Entry, Figures, Option<f64>)> {
        let main = self.scenario.columns.first().map(|column| column.figure);
        let mut first = None;
        self.entries.iter().map(move |entry| {
            let medians = Figures::medians(&entry.passes);
            let figure = main.and_then(|main| medians.get(main));
            let first = *first.get_or_insert(figure);
            let ratio = figure.zip(first).map(|(figure, first)| figure / first);
            (entry, medians, ratio)
        })
    }

    /// A line for each contender, with the figures that the scenario is about. The ratio is that of the main figure to
    /// the first contender's. Below, why contenders failed.
    pub(crate) fn table(&self) -> String {
        let columns = self.scenario.columns;
        let mut rows = vec![vec![self.scenario.name.to_owned()]];
        rows[0].extend(columns.iter().map(|column| column.header.to_owned()));
        rows[0].push("ratio".to_owned());
        let mut failures = String::new();
        for (entry, medians, ratio) in self.compared() {
            let mut row = vec![entry.name.to_owned()];
            row.extend(columns.iter().map(|column| {
                medians
                    .get(column.figure)
                    .map_or_else(|| "-".to_owned(), shown)
            }));
            row.push(ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}")));
            if !entry.is_sound {
                row.push("NOT AS PROMISED".to_owned());
            }
            if let Some(reason) = &entry.failure {
                row.push("FAILED".to_owned());
                writeln!(failures, "{} failed: {reason}", entry.name).expect(WRITABLE);
            }
            rows.push(row);
        }
        aligned(&rows) + &failures
    }

    /// One JSON object: the scenario's name, how it was run, the figures of the first contender, and `contenders` with
    /// the figures of each: medians, and every pass; `failed` is there if it could not be measured to the end, and why.
    pub(crate) fn json(&self) -> String {
        let mut object = Map::new();
        object.insert("scenario".to_owned(), self.scenario.name.into());
        object.extend(self.settings.clone());
        let mut contenders = Vec::new();
        for (entry, medians, ratio) in self.compared() {
            let mut contender = Map::new();
            contender.insert("name".to_owned(), entry.name.into());
            if let Some(About {
                version, settings, ..
            }) = &entry.about
            {
                contender.insert("version".to_owned(), version.clone().into());
                contender.insert("settings".to_owned(), settings.clone().into());
            }
            if let Some(reason) = &entry.failure {
                contender.insert("failed".to_owned(), reason.clone().into());
            }
            if contenders.is_empty() {
                object.extend([("contender".to_owned(), entry.name.into())]);
                medians.add_to(&mut object);
            }
            medians.add_to(&mut contender);
            if let Some((main, ratio)) = self.scenario.columns.first().zip(ratio) {
                let mut figures = Figures::default();
                figures.add(format!("{}_ratio_to_first", main.figure), ratio);
                figures.add_to(&mut contender);
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
            report.add(pass(name, deliveries));
        }
        report
    }

    fn pass(name: &'static str, deliveries: f64) -> Pass {
        let mut pass = Pass::new(About {
            name,
            version: "1".to_owned(),
            settings: String::new(),
        });
        let figure = "deliveries_per_server_core_second";
        pass.figures.add(figure, deliveries);
        pass
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
    fn a_contender_that_fails_is_told_beside_the_others() {
        let mut report = report(&[("a", 1e6), ("b", 5e5)]);
        report.add_failure("b", "it hung up".to_owned());
        report.add_failure("c", "it did not start".to_owned());
        assert_eq!(report.failed().collect::<Vec<_>>(), ["b", "c"]);
        let json: Value = serde_json::from_str(&report.json()).unwrap();
        let contenders = &json["contenders"];
        assert_eq!(contenders[0]["failed"], Value::Null);
        assert_eq!(contenders[1]["failed"], "it hung up");
        let figure = "deliveries_per_server_core_second";
        assert_eq!(contenders[1][figure], 500_000);
        assert_eq!(contenders[2]["passes"].as_array().unwrap().len(), 0);
        let table = report.table();
        assert_eq!(table.matches("FAILED").count(), 2);
        assert!(table.ends_with("b failed: it hung up\nc failed: it did not start\n"));
    }

    #[test]
    fn nothing_is_compared_to_a_first_contender_that_failed() {
        let scenario = scenario::find("broadcast").unwrap();
        let mut report = Report::new(scenario, Map::new());
        report.add_failure("a", "it did not start".to_owned());
        report.add(pass("b", 5e5));
        let json: Value = serde_json::from_str(&report.json()).unwrap();
        assert_eq!(json["contender"], "a");
        let ratio = "deliveries_per_server_core_second_ratio_to_first";
        assert_eq!(json["contenders"][1][ratio], Value::Null);
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
