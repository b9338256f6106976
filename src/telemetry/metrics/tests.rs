use std::collections::BTreeSet;

use super::*;
use crate::committed_document::assert_committed;

/// A registry whose metrics all have at least one series.
fn touched() -> Metrics {
    let metrics = Metrics::new();
    metrics.ingest.last_sequence.get("0").set(41);
    metrics.ingest.lag_messages.get("0").set(1);
    metrics.api.requests.inc("PUT", "/grants", 204);
    metrics
}

#[test]
fn every_metric_is_rendered_under_the_name_and_kind_it_is_listed_with() {
    let text = touched().render();
    let mut listed = BTreeSet::new();
    for spec in Metrics::specs() {
        let (stem, kind) = match spec.kind {
            MetricKind::Counter => (spec.name.strip_suffix("_total").unwrap(), "counter"),
            MetricKind::Gauge => (spec.name, "gauge"),
            MetricKind::Histogram => (spec.name, "histogram"),
        };
        assert!(text.contains(&format!("# TYPE {stem} {kind}\n")), "{stem}");
        assert!(
            text.contains(&format!("# HELP {stem} {}.\n", spec.help)),
            "{stem}"
        );
        let series = match spec.kind {
            MetricKind::Histogram => &["_bucket", "_count", "_sum"][..],
            MetricKind::Counter | MetricKind::Gauge => &[""],
        };
        for ending in series {
            let is_new = listed.insert(format!("{}{ending}", spec.name));
            assert!(is_new, "{} is listed twice", spec.name);
        }
    }
    let rendered: BTreeSet<_> = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split(['{', ' ']).next())
        .map(str::to_owned)
        .collect();
    assert_eq!(rendered, listed);
    assert!(text.ends_with("# EOF\n"));
}

#[test]
fn names_follow_the_convention() {
    for spec in Metrics::specs() {
        let words = spec.name.strip_prefix("hubrelay_").expect(spec.name);
        assert!(
            words
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte == b'_'),
            "{}",
            spec.name
        );
        assert_eq!(
            spec.kind == MetricKind::Counter,
            spec.name.ends_with("_total"),
            "{}",
            spec.name
        );
    }
}

#[test]
fn labelled_metrics_show_every_value_from_the_start_and_count_apart() {
    let metrics = Metrics::new();
    metrics.ingest.dropped.inc(MessageDrop::TooDeep);
    metrics.ingest.dropped.inc_by(MessageDrop::TooDeep, 2);
    metrics
        .push
        .connections
        .get(TransportKind::SocketIoPolling)
        .inc();
    let text = metrics.render();
    for line in [
        "hubrelay_ingest_dropped_messages_total{reason=\"too_deep\"} 3\n",
        "hubrelay_ingest_dropped_messages_total{reason=\"no_device_id\"} 0\n",
        "hubrelay_push_connections{transport=\"socket_io_polling\"} 1\n",
        "hubrelay_push_connections{transport=\"socket_io_websocket\"} 0\n",
    ] {
        assert!(text.contains(line), "{line}{text}");
    }
}

#[test]
fn calls_to_the_hub_are_counted_by_kind_and_outcome_and_timed_by_kind() {
    let metrics = Metrics::new();
    let hub = &metrics.iot_hub;
    hub.calls
        .inc(HubCall::DirectMethod, HubCallOutcome::DeviceOffline);
    hub.durations
        .observe(HubCall::TwinRead, std::time::Duration::from_millis(20));
    let text = metrics.render();
    for line in [
        "hubrelay_iot_hub_calls_total{call=\"direct_method\",outcome=\"device_offline\"} 1\n",
        "hubrelay_iot_hub_calls_total{call=\"twin_read\",outcome=\"device_offline\"} 0\n",
        "hubrelay_iot_hub_call_duration_seconds_bucket{le=\"0.01\",call=\"twin_read\"} 0\n",
        "hubrelay_iot_hub_call_duration_seconds_bucket{le=\"0.025\",call=\"twin_read\"} 1\n",
    ] {
        assert!(text.contains(line), "{line}{text}");
    }
}

#[test]
fn requests_are_counted_by_class_of_status() {
    let metrics = Metrics::new();
    for status in [200, 204, 404, 503, 999] {
        metrics.api.requests.inc("GET", "/status", status);
    }
    let text = metrics.render();
    for (class, count) in [("2xx", 2), ("4xx", 1), ("5xx", 2)] {
        let line = format!(
            "hubrelay_api_requests_total{{method=\"GET\",route=\"/status\",status=\"{class}\"}} {count}\n"
        );
        assert!(text.contains(&line), "{line}{text}");
    }
}

#[test]
fn clones_count_into_the_same_metrics() {
    let metrics = Metrics::new();
    metrics.clone().push.frames.inc_by(7);
    assert!(
        metrics
            .render()
            .contains("hubrelay_push_written_frames_total 7\n")
    );
}

#[test]
fn labels_know_their_place() {
    fn check<L: Label + PartialEq>() {
        for (index, value) in L::ALL.iter().enumerate() {
            assert_eq!(value.index(), index, "{value:?}");
        }
    }
    check::<MessageClass>();
    check::<MessageDrop>();
    check::<SessionRefusal>();
    check::<TransportKind>();
    check::<ConnectionRefusal>();
    check::<RequestRejection>();
    check::<HubCall>();
    check::<HubCallOutcome>();
}

#[test]
fn the_committed_reference_is_current() {
    assert_committed("docs/metrics.md", &reference_markdown());
}
