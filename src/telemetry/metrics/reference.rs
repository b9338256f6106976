//! The reference of all metrics, written from their declarations.

use std::fmt::Write as _;

use super::instrument::LabelValues;
use super::{MetricKind, MetricSpec, Metrics};

/// The text of `docs/metrics.md`.
pub fn reference_markdown() -> String {
    let mut text = String::from(
        "# Metrics\n\n\
         <!-- Written from `src/telemetry/metrics.rs`; after a change there run `UPDATE_DOCS=1 cargo test -p hubrelay committed`. -->\n\n\
         The OpenMetrics text format. Counters start at zero with the process.\n\n\
         | Metric | Kind | Labels | Meaning |\n|---|---|---|---|\n",
    );
    for spec in Metrics::specs() {
        write_row(&mut text, spec).expect("a string takes any text");
    }
    text
}

fn write_row(text: &mut String, spec: &MetricSpec) -> std::fmt::Result {
    let kind = match spec.kind {
        MetricKind::Counter => "counter",
        MetricKind::Gauge => "gauge",
        MetricKind::Histogram => "histogram",
    };
    let labels: Vec<_> = spec
        .labels
        .iter()
        .map(|(name, values)| match values {
            LabelValues::Fixed(values) => format!("`{name}`: {}", values().join(", ")),
            LabelValues::Described(description) => format!("`{name}`: {description}"),
        })
        .collect();
    writeln!(
        text,
        "| `{}` | {kind} | {} | {} |",
        spec.name,
        labels.join("; "),
        spec.help
    )
}
