//! Charts of results, as SVG that stands for itself: bars side by side, light or dark as the reader's screen is.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use serde_json::Value;

use crate::progress;

/// What is drawn of one scenario: panels under each other.
struct Chart {
    scenario: &'static str,
    title: &'static str,
    panels: &'static [Panel],
}

/// Bars of one figure on a linear axis, the best on top. Where smaller is better, one server that is out of step would
/// shrink all others to nothing: bars that are many times the median are cut, and drawn so.
struct Panel {
    heading: &'static str,
    figure: &'static str,
    smaller_is_better: bool,
}

const CHARTS: [Chart; 5] = [
    Chart {
        scenario: "broadcast",
        title: "broadcast: 1 device, 500 sessions",
        panels: &[DELIVERIES],
    },
    Chart {
        scenario: "dashboards",
        title: "dashboards: 1,000 devices, 500 sessions with 4 devices each",
        panels: &[DELIVERIES],
    },
    Chart {
        scenario: "firehose",
        title: "firehose: 1,000 devices, 10 subscribed to",
        panels: &[Panel {
            heading: "messages in per second of server core (more is better)",
            figure: "messages_in_per_server_core_second",
            smaller_is_better: false,
        }],
    },
    Chart {
        scenario: "latency",
        title: "latency: 20,000 deliveries/s",
        panels: &LATENCIES,
    },
    Chart {
        scenario: "idle",
        title: "idle: 10,000 quiet connections",
        panels: &[Panel {
            heading: "KiB resident for each connection (less is better)",
            figure: "rss_per_connection_kib",
            smaller_is_better: true,
        }],
    },
];

const DELIVERIES: Panel = Panel {
    heading: "deliveries per second of server core (more is better)",
    figure: "deliveries_per_server_core_second",
    smaller_is_better: false,
};

const LATENCIES: [Panel; 2] = [
    Panel {
        heading: "p50, ms (less is better)",
        figure: "latency_p50_ms",
        smaller_is_better: true,
    },
    Panel {
        heading: "p99, ms (less is better)",
        figure: "latency_p99_ms",
        smaller_is_better: true,
    },
];

const WIDTH: f64 = 700.0;
const MARGIN: f64 = 16.0;
const LABEL: f64 = 176.0;
const VALUE: f64 = 76.0;
const ROW: f64 = 26.0;
const BAR: f64 = 16.0;

/// Where smaller is better the axis ends at so many times the median.
const MEDIANS_MAX: f64 = 4.0;

/// Where the gap of a bar that was cut begins, before its end, and how wide it is.
const GAP_PLACE: f64 = 24.0;
const GAP: f64 = 5.0;
const TITLE: f64 = 40.0;
const HEADING: f64 = 30.0;

/// Light first; the colours were chosen to be told apart by people who see few.
const STYLE: &str = "
  svg { font-family: system-ui, -apple-system, 'Segoe UI', sans-serif; background: #ffffff }
  text { fill: #1f2328; font-size: 13px }
  .title { font-size: 16px; font-weight: 600 }
  .heading, .value { fill: #59636e; font-size: 12px }
  .value { font-variant-numeric: tabular-nums }
  .own { fill: #0072b2 } .own-label { font-weight: 600 }
  .peer { fill: #9aa4ae }
  .floor { fill: none; stroke: #9aa4ae; stroke-dasharray: 3 2 }
  .axis { stroke: #d1d9e0 }
  .gap { fill: #ffffff }
  @media (prefers-color-scheme: dark) {
    svg { background: #0d1117 }
    text { fill: #e6edf3 }
    .heading, .value { fill: #9198a1 }
    .own { fill: #56b4e9 }
    .peer { fill: #656c76 }
    .floor { stroke: #656c76 }
    .axis { stroke: #3d444d }
    .gap { fill: #0d1117 }
  }
";

const WRITABLE: &str = "writing to a text cannot fail";

/// One contender.
#[derive(Clone, Debug, PartialEq)]
struct Bar {
    name: String,
    /// Nothing when the contender failed.
    value: Option<f64>,
}

/// Draws a chart for each result file of a scenario that has one, into `out`.
pub(crate) fn draw_all(results: &[PathBuf], out: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(out).with_context(|| format!("cannot make {}", out.display()))?;
    for path in results {
        let text =
            fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let result: Value = serde_json::from_str(&text)
            .with_context(|| format!("{} is no JSON", path.display()))?;
        let scenario = result["scenario"].as_str().unwrap_or_default();
        let Some(chart) = CHARTS.iter().find(|chart| chart.scenario == scenario) else {
            let scenarios: Vec<_> = CHARTS.iter().map(|chart| chart.scenario).collect();
            bail!(
                "{} is no result of {}",
                path.display(),
                scenarios.join(", ")
            );
        };
        let file = out.join(format!("{scenario}.svg"));
        fs::write(&file, chart.draw(&result))
            .with_context(|| format!("cannot write {}", file.display()))?;
        progress::Progress::new().step(&format!("wrote {}", file.display()));
    }
    Ok(())
}

impl Chart {
    fn draw(&self, result: &Value) -> String {
        let mut body = String::new();
        let mut y = TITLE;
        for panel in self.panels {
            y = panel.draw(&panel.bars(result), y, &mut body);
        }
        let height = y + MARGIN / 2.0;
        let title = self.title;
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
             viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{title}\">\n\
             <style>{STYLE}</style>\n\
             <text class=\"title\" x=\"{MARGIN}\" y=\"28\">{title}</text>\n\
             {body}</svg>\n"
        )
    }
}

impl Panel {
    /// The contenders that have the figure, the best first, and those that failed.
    fn bars(&self, result: &Value) -> Vec<Bar> {
        let contenders = result["contenders"].as_array().into_iter().flatten();
        let mut bars: Vec<_> = contenders
            .filter_map(|contender| {
                let value = contender[self.figure].as_f64();
                let is_told = value.is_some() || contender["failed"].is_string();
                is_told.then_some(Bar {
                    name: contender["name"].as_str()?.to_owned(),
                    value,
                })
            })
            .collect();
        bars.sort_by(|one, other| match (one.value, other.value) {
            (Some(one), Some(other)) if self.smaller_is_better => one.total_cmp(&other),
            (Some(one), Some(other)) => other.total_cmp(&one),
            (one, other) => other.is_some().cmp(&one.is_some()),
        });
        bars
    }

    /// The value at the end of the axis.
    fn axis_end(&self, bars: &[Bar]) -> f64 {
        let mut values: Vec<_> = bars.iter().filter_map(|bar| bar.value).collect();
        values.sort_by(f64::total_cmp);
        let most = values.last().copied().unwrap_or(1.0);
        match values.get(values.len() / 2) {
            Some(median) if self.smaller_is_better => most.min(median * MEDIANS_MAX),
            _ => most,
        }
    }

    /// Draws the bars from `y` down; returns where they end.
    fn draw(&self, bars: &[Bar], y: f64, out: &mut String) -> f64 {
        let left = MARGIN + LABEL;
        let space = WIDTH - left - VALUE - MARGIN;
        let axis_end = self.axis_end(bars);
        writeln!(
            out,
            "<text class=\"heading\" x=\"{MARGIN}\" y=\"{}\">{}</text>",
            y + 12.0,
            self.heading
        )
        .expect(WRITABLE);
        let top = y + HEADING - 8.0;
        for (row, bar) in (0_u16..).zip(bars) {
            let y = top + f64::from(row) * ROW;
            let value = bar.value.unwrap_or(0.0);
            let width = (value / axis_end).min(1.0) * space;
            let (class, label_class) = match bar.name.as_str() {
                name if name.starts_with("hubrelay") => ("own", "own-label"),
                name if name.starts_with("floor") => ("floor", ""),
                _ => ("peer", ""),
            };
            writeln!(
                out,
                "<text class=\"{label_class}\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\n\
                 <rect class=\"{class}\" x=\"{left:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{BAR}\" rx=\"2\"/>\n\
                 <text class=\"value\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
                left - 8.0,
                y + 12.5,
                escaped(&bar.name),
                width.max(1.0),
                left + width + 6.0,
                y + 12.5,
                bar.value.map_or_else(|| "failed".to_owned(), shown),
            )
            .expect(WRITABLE);
            if value > axis_end {
                draw_gap(left + width - GAP_PLACE, y, out);
            }
        }
        let end = top + f64::from(u16::try_from(bars.len()).expect("few bars")) * ROW;
        writeln!(
            out,
            "<line class=\"axis\" x1=\"{left:.1}\" y1=\"{:.1}\" x2=\"{left:.1}\" y2=\"{:.1}\"/>",
            top - 4.0,
            end - 4.0
        )
        .expect(WRITABLE);
        end + 6.0
    }
}

/// What shows that a bar goes on: a slanted piece of it is missing.
fn draw_gap(x: f64, y: f64, out: &mut String) {
    let (top, bottom) = (y - 1.0, y + BAR + 1.0);
    writeln!(
        out,
        "<polygon class=\"gap\" points=\"{:.1},{top:.1} {:.1},{top:.1} {:.1},{bottom:.1} {x:.1},{bottom:.1}\"/>",
        x + GAP,
        x + GAP * 2.0,
        x + GAP,
    )
    .expect(WRITABLE);
}

fn shown(value: f64) -> String {
    match value {
        1e6.. => format!("{:.2} M", value / 1e6),
        1e4.. => format!("{:.0} k", value / 1e3),
        100.0.. => format!("{value:.0}"),
        1.0.. => format!("{value:.1}"),
        _ => format!("{value:.3}"),
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn result() -> Value {
        json!({
            "scenario": "latency",
            "contenders": [
                {"name": "a<b", "latency_p50_ms": 0.5, "latency_p99_ms": 1.0},
                {"name": "hubrelay-native", "latency_p50_ms": 0.25, "latency_p99_ms": 2.0},
                {"name": "without"},
                {"name": "sick", "failed": "cannot keep up"},
            ],
        })
    }

    #[test]
    fn the_best_is_on_top() {
        let chart = CHARTS
            .iter()
            .find(|chart| chart.scenario == "latency")
            .unwrap();
        let names = |panel: &Panel| -> Vec<_> {
            let bars = panel.bars(&result()).into_iter();
            bars.map(|bar| bar.name).collect()
        };
        assert_eq!(names(&chart.panels[0]), ["hubrelay-native", "a<b", "sick"]);
        assert_eq!(names(&chart.panels[1]), ["a<b", "hubrelay-native", "sick"]);
        assert_eq!(names(&DELIVERIES), ["sick"]);
    }

    #[test]
    fn a_bar_is_cut_only_where_less_is_better() {
        let bars: Vec<_> = [1.0, 2.0, 1000.0]
            .map(|value| Bar {
                name: value.to_string(),
                value: Some(value),
            })
            .into();
        let [latency, _] = LATENCIES;
        let mut drawn = String::new();
        latency.draw(&bars, 0.0, &mut drawn);
        assert_eq!(drawn.matches("class=\"gap\"").count(), 1);
        assert!((latency.axis_end(&bars) - 8.0).abs() < f64::EPSILON);
        assert!((DELIVERIES.axis_end(&bars) - 1000.0).abs() < f64::EPSILON);
    }

    #[test]
    fn a_file_is_written_for_each_result() {
        let dir = tempfile::tempdir().unwrap();
        let (input, out) = (dir.path().join("in.json"), dir.path().join("charts"));
        fs::write(&input, result().to_string()).unwrap();
        draw_all(std::slice::from_ref(&input), &out).unwrap();
        let svg = fs::read_to_string(out.join("latency.svg")).unwrap();
        assert!(svg.contains("a&lt;b") && svg.contains("0.250") && !svg.contains("without"));
        assert!(draw_all(&[dir.path().join("none")], &out).is_err());
    }
}
