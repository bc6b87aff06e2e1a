//! The metric registry, its text exposition, and process metrics.
//!
//! Must not know: what is being counted.
//!
//! A component asks for handles by a name of [`names`] once, at start, and then only adds to them:
//! no text is touched on the path of a connection. Numbers that stand somewhere anyway (per-worker
//! atomics, sizes of a table) are read at each scrape by [`Metrics::collect`].

use std::collections::BTreeSet;

pub use prometheus_client::metrics::{counter::Counter, gauge::Gauge};
use prometheus_client::{
    encoding::{EncodeMetric, text},
    metrics::{TypedMetric, family::Family as Series},
    registry::{self, Registry},
};

pub mod names;

mod collect;
mod labels;
mod process;

pub use collect::{Number, Samples};
use labels::Labels;
pub use names::{Kind, Metric, Unit};

/// The content type of [`Metrics::text`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// All metrics of this process, filled at start and then only read.
#[derive(Debug, Default)]
pub struct Metrics {
    registry: Registry,
    registered: BTreeSet<&'static str>,
}

impl Metrics {
    /// Holds the process metrics only.
    #[must_use]
    pub fn new() -> Self {
        let mut metrics = Self::default();
        process::register(&mut metrics);
        metrics
    }

    /// A counter without labels.
    pub fn counter(&mut self, metric: &'static Metric) -> Counter {
        let counter = Counter::default();
        self.expect(metric, Kind::Counter, 0);
        self.register(metric, counter.clone());
        counter
    }

    /// A gauge without labels.
    pub fn gauge(&mut self, metric: &'static Metric) -> Gauge {
        let gauge = Gauge::default();
        self.expect(metric, Kind::Gauge, 0);
        self.register(metric, gauge.clone());
        gauge
    }

    /// Counters told apart by labels.
    pub fn counters(&mut self, metric: &'static Metric) -> Family<Counter> {
        self.family(metric, Kind::Counter)
    }

    /// Gauges told apart by labels.
    pub fn gauges(&mut self, metric: &'static Metric) -> Family<Gauge> {
        self.family(metric, Kind::Gauge)
    }

    /// Numbers read at each scrape. `read` runs on the control thread and must not block.
    pub fn collect(
        &mut self,
        metric: &'static Metric,
        read: impl Fn(&mut Samples) + Send + Sync + 'static,
    ) {
        self.claim(metric);
        self.registry.register_collector(collect::collector(metric, read));
    }

    /// The text that a scrape answers, in the OpenMetrics format that [`CONTENT_TYPE`] names.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::with_capacity(16 * 1024);
        text::encode(&mut text, &self.registry).expect("a String takes any text");
        text
    }

    /// Names of [`names::ALL`] that nobody registered.
    pub fn unregistered(&self) -> impl Iterator<Item = &'static str> {
        names::ALL.iter().map(|metric| metric.name).filter(|name| !self.registered.contains(name))
    }

    fn family<M>(&mut self, metric: &'static Metric, kind: Kind) -> Family<M>
    where
        M: registry::Metric + TypedMetric + EncodeMetric + Default + Clone,
    {
        let series = Series::default();
        self.expect(metric, kind, metric.labels.len());
        self.register(metric, series.clone());
        Family { metric, series }
    }

    fn register(&mut self, metric: &'static Metric, value: impl registry::Metric) {
        self.claim(metric);
        let (stem, unit) = metric.stem();
        match unit {
            Some(unit) => self.registry.register_with_unit(stem, metric.help, unit, value),
            None => self.registry.register(stem, metric.help, value),
        }
    }

    /// Names come from `names.rs` and are registered at start: a wrong one is seen by any test.
    fn expect(&self, metric: &Metric, kind: Kind, labels: usize) {
        assert_eq!(metric.kind, kind, "{} is registered as another kind", metric.name);
        assert_eq!(metric.labels.len(), labels, "{} has labels", metric.name);
    }

    fn claim(&mut self, metric: &'static Metric) {
        assert!(self.registered.insert(metric.name), "{} is registered twice", metric.name);
    }
}

/// Series of one metric, told apart by the values of its labels.
#[derive(Clone, Debug)]
pub struct Family<M> {
    metric: &'static Metric,
    series: Series<Labels, M>,
}

impl<M: Default + Clone> Family<M> {
    /// The series with these values, in the order of the metric's labels; made when it is new.
    /// Keep it: finding it costs a lock and a hash over all values.
    #[must_use]
    pub fn with(&self, values: &[&str]) -> M {
        self.series.get_or_create_owned(&Labels::new(self.metric, values))
    }

    /// Drops the series with these values; who still holds it counts unseen.
    pub fn forget(&self, values: &[&str]) {
        self.series.remove(&Labels::new(self.metric, values));
    }
}

#[cfg(test)]
mod tests;
