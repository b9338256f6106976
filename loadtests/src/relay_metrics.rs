//! What the relay counts, read from its metrics page.

use std::collections::HashMap;

/// The relay's metrics at one moment; those with labels are summed.
#[derive(Clone, Debug, Default)]
pub(crate) struct RelayMetrics(HashMap<String, f64>);

impl RelayMetrics {
    pub(crate) fn parse(page: &str) -> Self {
        let mut metrics = HashMap::new();
        for line in page.lines().filter(|line| !line.starts_with('#')) {
            let Some((series, value)) = line.rsplit_once(' ') else {
                continue;
            };
            let name = series.split('{').next().unwrap_or(series);
            if let Ok(value) = value.parse::<f64>() {
                *metrics.entry(name.to_owned()).or_insert(0.0) += value;
            }
        }
        Self(metrics)
    }

    /// The sum of a metric's series; 0 when there are none.
    pub(crate) fn value(&self, name: &str) -> f64 {
        self.0.get(name).copied().unwrap_or(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_of_one_metric_are_summed() {
        let page = "# TYPE a counter\na_total{x=\"1 2\"} 3\na_total{x=\"b\"} 4\nb 1.5\n# EOF\n";
        let metrics = RelayMetrics::parse(page);
        assert!((metrics.value("a_total") - 7.0).abs() < f64::EPSILON);
        assert!(metrics.value("c").abs() < f64::EPSILON);
    }
}
