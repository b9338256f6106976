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

/// Bars of one figure, the best on top.
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
        panels: &[
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
        ],
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

const WIDTH: f64 = 700.0;
const MARGIN: f64 = 16.0;
const LABEL: f64 = 176.0;
const VALUE: f64 = 76.0;
const ROW: f64 = 26.0;
const BAR: f64 = 16.0;
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
  @media (prefers-color-scheme: dark) {
    svg { background: #0d1117 }
    text { fill: #e6edf3 }
    .heading, .value { fill: #9198a1 }
    .own { fill: #56b4e9 }
    .peer { fill: #656c76 }
    .floor { stroke: #656c76 }
    .axis { stroke: #3d444d }
  }
";

/// One bar.
#[derive(Clone, Debug, PartialEq)]
struct Bar {
    name: String,
    value: f64,
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
    /// The contenders that have the figure, the best first.
    fn bars(&self, result: &Value) -> Vec<Bar> {
        let contenders = result["contenders"].as_array().into_iter().flatten();
        let mut bars: Vec<_> = contenders
            .filter_map(|contender| {
                Some(Bar {
                    name: contender["name"].as_str()?.to_owned(),
                    value: contender[self.figure].as_f64()?,
                })
            })
            .collect();
        bars.sort_by(|one, other| one.value.total_cmp(&other.value));
        if !self.smaller_is_better {
            bars.reverse();
        }
        bars
    }

    /// Draws the bars from `y` down; returns where they end.
    fn draw(&self, bars: &[Bar], y: f64, out: &mut String) -> f64 {
        const WRITABLE: &str = "writing to a text cannot fail";
        let left = MARGIN + LABEL;
        let space = WIDTH - left - VALUE - MARGIN;
        let most = bars.iter().map(|bar| bar.value).fold(0.0, f64::max);
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
            let width = (bar.value / most * space).max(1.0);
            let (class, label_class) = match bar.name.as_str() {
                name if name.starts_with("hubrelay") => ("own", "own-label"),
                name if name.starts_with("floor") => ("floor", ""),
                _ => ("peer", ""),
            };
            writeln!(
                out,
                "<text class=\"{label_class}\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\n\
                 <rect class=\"{class}\" x=\"{left:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{BAR}\" rx=\"2\"/>\n\
                 <text class=\"value\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
                left - 8.0,
                y + 12.5,
                escaped(&bar.name),
                left + width + 6.0,
                y + 12.5,
                shown(bar.value),
            )
            .expect(WRITABLE);
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

fn shown(value: f64) -> String {
    match value {
        1e6.. => format!("{:.2} M", value / 1e6),
        1e4.. => format!("{:.0} k", value / 1e3),
        100.0.. => format!("{value:.0}"),
        1.0.. => format!("{value:.1}"),
        _ => format!("{value:.2}"),
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
        assert_eq!(names(&chart.panels[0]), ["hubrelay-native", "a<b"]);
        assert_eq!(names(&chart.panels[1]), ["a<b", "hubrelay-native"]);
        assert_eq!(DELIVERIES.bars(&result()), []);
    }

    #[test]
    fn a_file_is_written_for_each_result() {
        let dir = tempfile::tempdir().unwrap();
        let (input, out) = (dir.path().join("in.json"), dir.path().join("charts"));
        fs::write(&input, result().to_string()).unwrap();
        draw_all(std::slice::from_ref(&input), &out).unwrap();
        let svg = fs::read_to_string(out.join("latency.svg")).unwrap();
        assert!(svg.contains("a&lt;b") && svg.contains("0.25") && !svg.contains("without"));
        assert!(draw_all(&[dir.path().join("none")], &out).is_err());
    }
}
