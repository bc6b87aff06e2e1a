//! Numbers that are read at each scrape instead of being kept.
//!
//! Must not know: what they count.

use std::fmt;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
};

use super::{Kind, Labels, Metric};

/// Takes the numbers of one metric during a scrape.
#[derive(Debug)]
pub struct Samples {
    metric: &'static Metric,
    taken: Vec<(Labels, Number)>,
}

impl Samples {
    /// One series: the values of the metric's labels in their order, and its number.
    pub fn put(&mut self, values: &[&str], number: impl Into<Number>) {
        self.taken.push((Labels::new(self.metric, values), number.into()));
    }
}

/// The number of a series.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    /// A count.
    Whole(u64),
    /// A measure.
    Real(f64),
}

impl From<u64> for Number {
    fn from(number: u64) -> Self {
        Self::Whole(number)
    }
}

impl From<usize> for Number {
    fn from(number: usize) -> Self {
        Self::Whole(u64::try_from(number).unwrap_or(u64::MAX))
    }
}

impl From<f64> for Number {
    fn from(number: f64) -> Self {
        Self::Real(number)
    }
}

/// Reads a metric by a function.
pub(super) fn collector(
    metric: &'static Metric,
    read: impl Fn(&mut Samples) + Send + Sync + 'static,
) -> Box<dyn Collector> {
    Box::new(Read { metric, read })
}

struct Read<F> {
    metric: &'static Metric,
    read: F,
}

impl<F> fmt::Debug for Read<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.metric.name)
    }
}

impl<F: Fn(&mut Samples) + Send + Sync + 'static> Collector for Read<F> {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let mut samples = Samples { metric: self.metric, taken: Vec::new() };
        (self.read)(&mut samples);
        let (stem, unit) = self.metric.stem();
        let (kind, help) = match self.metric.kind {
            Kind::Counter => (MetricType::Counter, self.metric.help),
            Kind::Gauge => (MetricType::Gauge, self.metric.help),
        };
        // The registry ends the help of what it keeps with a full stop; here it is ours to do.
        let help = format!("{help}.");
        let mut metric = encoder.encode_descriptor(stem, &help, unit.as_ref(), kind)?;
        for (labels, number) in &samples.taken {
            if self.metric.labels.is_empty() {
                encode(*number, self.metric.kind, metric)?;
                break;
            }
            encode(*number, self.metric.kind, metric.encode_family(labels)?)?;
        }
        Ok(())
    }
}

fn encode(number: Number, kind: Kind, encoder: MetricEncoder<'_>) -> fmt::Result {
    match (kind, number) {
        (Kind::Counter, Number::Whole(n)) => ConstCounter::new(n).encode(encoder),
        (Kind::Counter, Number::Real(n)) => ConstCounter::new(n).encode(encoder),
        (Kind::Gauge, Number::Whole(n)) => ConstGauge::new(n).encode(encoder),
        (Kind::Gauge, Number::Real(n)) => ConstGauge::new(n).encode(encoder),
    }
}
