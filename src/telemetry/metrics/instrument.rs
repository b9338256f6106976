//! The kinds of metric, and the two macros that declare metrics and labels.

use std::fmt;

use std::time::Duration;

use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

pub use prometheus_client::metrics::counter::Counter;
pub use prometheus_client::metrics::gauge::Gauge;

/// What a metric is, for the reference.
#[derive(Clone, Copy, Debug)]
pub struct MetricSpec {
    /// Its name, as a scraper sees it.
    pub name: &'static str,
    /// How it behaves.
    pub kind: MetricKind,
    /// Its labels, each with the values it can take.
    pub labels: &'static [(&'static str, LabelValues)],
    /// What it tells, in one line.
    pub help: &'static str,
}

/// How the number of a metric behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// Only grows while the process lives.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts values in ranges.
    Histogram,
}

/// Values that a label can take.
#[derive(Clone, Copy)]
pub enum LabelValues {
    /// These.
    Fixed(fn() -> Vec<&'static str>),
    /// Whatever this describes.
    Described(&'static str),
}

impl fmt::Debug for LabelValues {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(values) => formatter.debug_tuple("Fixed").field(&values()).finish(),
            Self::Described(text) => formatter.debug_tuple("Described").field(text).finish(),
        }
    }
}

/// A metric that can be registered.
pub(super) trait Instrument: Sized {
    const KIND: MetricKind;
    const LABELS: &'static [(&'static str, LabelValues)];

    fn register(registry: &mut Registry, name: &'static str, help: &'static str) -> Self;
}

/// A label with a fixed set of values.
pub trait Label: Copy + fmt::Debug + 'static {
    /// Name of the label.
    const NAME: &'static str;
    /// Every value, in the order of [`Label::index`].
    const ALL: &'static [Self];

    /// The value as a scraper sees it.
    fn as_str(self) -> &'static str;

    /// Place of the value in [`Label::ALL`].
    fn index(self) -> usize;
}

/// Upper ends of the ranges in which durations are counted, in seconds: from what a hub close by takes to the longest
/// that a direct method may.
const DURATION_BOUNDS_S: [f64; 14] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0, 600.0,
];

type FixedLabel = [(&'static str, &'static str); 1];

/// A counter for each value of a label. All of them show from the start, at zero.
#[derive(Debug)]
pub struct CounterBy<L> {
    counters: Box<[Counter]>,
    label: std::marker::PhantomData<L>,
}

impl<L: Label> CounterBy<L> {
    /// The counter for `value`.
    pub fn get(&self, value: L) -> &Counter {
        &self.counters[value.index()]
    }

    /// Counts one.
    pub fn inc(&self, value: L) {
        self.get(value).inc();
    }

    /// Counts `number`.
    pub fn inc_by(&self, value: L, number: u64) {
        self.get(value).inc_by(number);
    }
}

/// A counter for each pair of values of two labels. All of them show from the start, at zero.
#[derive(Debug)]
pub struct CounterByTwo<A, B> {
    counters: Box<[CounterBy<B>]>,
    label: std::marker::PhantomData<A>,
}

impl<A: Label, B: Label> CounterByTwo<A, B> {
    /// Counts one.
    pub fn inc(&self, first: A, second: B) {
        self.counters[first.index()].inc(second);
    }
}

/// Durations for each value of a label, in seconds. All of them show from the start.
#[derive(Debug)]
pub struct DurationsBy<L> {
    histograms: Box<[Histogram]>,
    label: std::marker::PhantomData<L>,
}

impl<L: Label> DurationsBy<L> {
    /// Counts one that took `duration`.
    pub fn observe(&self, value: L, duration: Duration) {
        self.histograms[value.index()].observe(duration.as_secs_f64());
    }
}

/// A gauge for each value of a label. All of them show from the start, at zero.
#[derive(Debug)]
pub struct GaugeBy<L> {
    gauges: Box<[Gauge]>,
    label: std::marker::PhantomData<L>,
}

impl<L: Label> GaugeBy<L> {
    /// The gauge for `value`.
    pub fn get(&self, value: L) -> &Gauge {
        &self.gauges[value.index()]
    }
}

/// A gauge for each partition of the event hub.
#[derive(Debug)]
pub struct GaugeByPartition {
    family: Family<[(&'static str, String); 1], Gauge>,
}

impl GaugeByPartition {
    /// The gauge of one partition. Look it up once and keep it: the look-up takes a lock.
    pub fn get(&self, partition: &str) -> Gauge {
        self.family
            .get_or_create(&[("partition", partition.to_owned())])
            .clone()
    }
}

/// Requests by route, method and class of status.
#[derive(Debug)]
pub struct RequestCounter {
    family: Family<[(&'static str, &'static str); 3], Counter>,
}

impl RequestCounter {
    /// Counts one answered request. `route` is the template of the route (`/lastValue/{deviceId}`), never the path of
    /// the request, and `method` one of the standard ones.
    pub fn inc(&self, method: &'static str, route: &'static str, status: u16) {
        let status = match status {
            100..200 => "1xx",
            200..300 => "2xx",
            300..400 => "3xx",
            400..500 => "4xx",
            _ => "5xx",
        };
        self.family
            .get_or_create(&[("method", method), ("route", route), ("status", status)])
            .inc();
    }
}

impl Instrument for Counter {
    const KIND: MetricKind = MetricKind::Counter;
    const LABELS: &'static [(&'static str, LabelValues)] = &[];

    fn register(registry: &mut Registry, name: &'static str, help: &'static str) -> Self {
        let counter = Self::default();
        registry.register(counter_stem(name), help, counter.clone());
        counter
    }
}

impl Instrument for Gauge {
    const KIND: MetricKind = MetricKind::Gauge;
    const LABELS: &'static [(&'static str, LabelValues)] = &[];

    fn register(registry: &mut Registry, name: &'static str, help: &'static str) -> Self {
        let gauge = Self::default();
        registry.register(name, help, gauge.clone());
        gauge
    }
}

impl<L: Label> Instrument for CounterBy<L> {
    const KIND: MetricKind = MetricKind::Counter;
    const LABELS: &'static [(&'static str, LabelValues)] =
        &[(L::NAME, LabelValues::Fixed(words::<L>))];

    fn register(registry: &mut Registry, name: &'static str, help: &'static str) -> Self {
        let family = Family::<FixedLabel, Counter>::default();
        registry.register(counter_stem(name), help, family.clone());
        let counter = |value: &L| family.get_or_create(&[(L::NAME, value.as_str())]).clone();
        Self {
            counters: L::ALL.iter().map(counter).collect(),
            label: std::marker::PhantomData,
        }
    }
}

impl<A: Label, B: Label> Instrument for CounterByTwo<A, B> {
    const KIND: MetricKind = MetricKind::Counter;
    const LABELS: &'static [(&'static str, LabelValues)] = &[
        (A::NAME, LabelValues::Fixed(words::<A>)),
        (B::NAME, LabelValues::Fixed(words::<B>)),
    ];

    fn register(registry: &mut Registry, name: &'static str, help: &'static str) -> Self {
        let family = Family::<[(&'static str, &'static str); 2], Counter>::default();
        registry.register(counter_stem(name), help, family.clone());
        let of_both = |first: &A, second: &B| {
            let labels = [(A::NAME, first.as_str()), (B::NAME, second.as_str())];
            family.get_or_create(&labels).clone()
        };
        let of_first = |first: &A| CounterBy {
            counters: B::ALL.iter().map(|second| of_both(first, second)).collect(),
            label: std::marker::PhantomData,
        };
        Self {
            counters: A::ALL.iter().map(of_first).collect(),
            label: std::marker::PhantomData,
        }
    }
}

impl<L: Label> Instrument for DurationsBy<L> {
    const KIND: MetricKind = MetricKind::Histogram;
    const LABELS: &'static [(&'static str, LabelValues)] =
        &[(L::NAME, LabelValues::Fixed(words::<L>))];

    fn register(registry: &mut Registry, name: &'static str, help: &'static str) -> Self {
        let family =
            Family::<FixedLabel, Histogram, fn() -> Histogram>::new_with_constructor(|| {
                Histogram::new(DURATION_BOUNDS_S)
            });
        registry.register(name, help, family.clone());
        let histogram = |value: &L| family.get_or_create(&[(L::NAME, value.as_str())]).clone();
        Self {
            histograms: L::ALL.iter().map(histogram).collect(),
            label: std::marker::PhantomData,
        }
    }
}

impl<L: Label> Instrument for GaugeBy<L> {
    const KIND: MetricKind = MetricKind::Gauge;
    const LABELS: &'static [(&'static str, LabelValues)] =
        &[(L::NAME, LabelValues::Fixed(words::<L>))];

    fn register(registry: &mut Registry, name: &'static str, help: &'static str) -> Self {
        let family = Family::<FixedLabel, Gauge>::default();
        registry.register(name, help, family.clone());
        let gauge = |value: &L| family.get_or_create(&[(L::NAME, value.as_str())]).clone();
        Self {
            gauges: L::ALL.iter().map(gauge).collect(),
            label: std::marker::PhantomData,
        }
    }
}

impl Instrument for GaugeByPartition {
    const KIND: MetricKind = MetricKind::Gauge;
    const LABELS: &'static [(&'static str, LabelValues)] = &[(
        "partition",
        LabelValues::Described("id of a partition of the event hub"),
    )];

    fn register(registry: &mut Registry, name: &'static str, help: &'static str) -> Self {
        let family = Family::default();
        registry.register(name, help, family.clone());
        Self { family }
    }
}

impl Instrument for RequestCounter {
    const KIND: MetricKind = MetricKind::Counter;
    const LABELS: &'static [(&'static str, LabelValues)] = &[
        ("method", LabelValues::Described("HTTP method")),
        ("route", LabelValues::Described("template of the route")),
        (
            "status",
            LabelValues::Fixed(|| vec!["1xx", "2xx", "3xx", "4xx", "5xx"]),
        ),
    ];

    fn register(registry: &mut Registry, name: &'static str, help: &'static str) -> Self {
        let family = Family::default();
        registry.register(counter_stem(name), help, family.clone());
        Self { family }
    }
}

/// The name of a counter without `_total`, which the encoder adds.
fn counter_stem(name: &'static str) -> &'static str {
    name.strip_suffix("_total")
        .expect("the name of a counter ends in `_total`")
}

fn words<L: Label>() -> Vec<&'static str> {
    L::ALL.iter().map(|value| value.as_str()).collect()
}

/// Declares a group of metrics: `field: kind = name, help;` for each.
macro_rules! metrics {
    ($(#[$meta:meta])* $group:ident { $($field:ident: $kind:ty = $name:literal, $help:literal;)+ }) => {
        $(#[$meta])*
        #[derive(Debug)]
        pub struct $group {
            $(#[doc = concat!("`", $name, "`: ", $help, ".")] pub $field: $kind,)+
        }

        impl $group {
            const SPECS: &[MetricSpec] = &[$(MetricSpec {
                name: $name,
                kind: <$kind as Instrument>::KIND,
                labels: <$kind as Instrument>::LABELS,
                help: $help,
            },)+];

            fn register(registry: &mut Registry) -> Self {
                Self {
                    $($field: Instrument::register(registry, $name, $help),)+
                }
            }
        }
    };
}

/// Declares a label and its values: `Variant = "value"` for each.
macro_rules! label {
    ($(#[$meta:meta])* $label:ident in $name:literal { $($(#[$value_meta:meta])* $value:ident = $word:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $label {
            $($(#[$value_meta])* $value,)+
        }

        impl Label for $label {
            const NAME: &'static str = $name;
            const ALL: &'static [Self] = &[$(Self::$value),+];

            fn as_str(self) -> &'static str {
                match self {
                    $(Self::$value => $word,)+
                }
            }

            fn index(self) -> usize {
                self as usize
            }
        }
    };
}

pub(super) use {label, metrics};
