//! What came of many operations: how long each took, and why some failed.
//!
//! Must not know: what an operation is.

use std::{collections::BTreeMap, time::Duration};

use hdrhistogram::Histogram;
use serde::Serialize;

/// Three significant digits, from a nanosecond to an hour.
const LATENCY_MAX_NS: u64 = 3_600_000_000_000;

/// Counts and latencies.
#[derive(Clone, Debug)]
pub struct Tally {
    latency_ns: Histogram<u64>,
    errors: BTreeMap<String, u64>,
    bytes: u64,
}

impl Default for Tally {
    fn default() -> Self {
        let latency_ns = Histogram::new_with_bounds(1, LATENCY_MAX_NS, 3);
        let latency_ns = latency_ns.expect("the bounds and digits are sound");
        Self { latency_ns, errors: BTreeMap::new(), bytes: 0 }
    }
}

impl Tally {
    /// Counts one operation that went well.
    pub fn good(&mut self, latency: Duration, bytes: u64) {
        let ns = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        self.latency_ns.saturating_record(ns.max(1));
        self.bytes += bytes;
    }

    /// Counts one that did not.
    pub fn failed(&mut self, cause: impl Into<String>) {
        *self.errors.entry(cause.into()).or_default() += 1;
    }

    /// How many went well.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.latency_ns.len()
    }

    /// How many did not.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.errors.values().sum()
    }

    /// Causes and how often each was seen.
    #[must_use]
    pub fn errors(&self) -> &BTreeMap<String, u64> {
        &self.errors
    }

    /// Bytes moved by operations that went well, requests and answers together.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Takes over what another has counted.
    pub fn add(&mut self, other: &Self) {
        self.latency_ns += &other.latency_ns;
        self.bytes += other.bytes;
        for (cause, count) in &other.errors {
            *self.errors.entry(cause.clone()).or_default() += count;
        }
    }

    /// The latencies' percentiles; `None` when nothing went well.
    #[must_use]
    pub fn latency(&self) -> Option<Latency> {
        let h = &self.latency_ns;
        let us = |ns: u64| ns as f64 / 1000.0;
        let at = |percentile| us(h.value_at_percentile(percentile));
        (!h.is_empty()).then(|| Latency {
            min: us(h.min()),
            mean: h.mean() / 1000.0,
            p50: at(50.0),
            p90: at(90.0),
            p99: at(99.0),
            p99_9: at(99.9),
            p99_99: at(99.99),
            max: us(h.max()),
        })
    }
}

/// Percentiles in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Latency {
    /// The shortest.
    pub min: f64,
    /// The mean.
    pub mean: f64,
    /// Half took at most this.
    pub p50: f64,
    /// 90 % took at most this.
    pub p90: f64,
    /// 99 %.
    pub p99: f64,
    /// 99.9 %.
    #[serde(rename = "p99.9")]
    pub p99_9: f64,
    /// 99.99 %.
    #[serde(rename = "p99.99")]
    pub p99_99: f64,
    /// The longest.
    pub max: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_and_causes_add_up() {
        let mut one = Tally::default();
        assert!(one.latency().is_none());
        (1..=1000).for_each(|us| one.good(Duration::from_micros(us), 2));
        let mut two = Tally::default();
        two.failed("reset");
        two.failed("reset");
        one.add(&two);
        assert_eq!((one.operations(), one.failures(), one.bytes()), (1000, 2, 2000));
        assert_eq!(one.errors()["reset"], 2);
        let latency = one.latency().unwrap();
        let near = |value: f64, expected: f64| (value / expected - 1.0).abs() < 0.002;
        assert!(near(latency.p50, 500.0) && near(latency.p99_9, 999.0), "{latency:?}");
        assert!(near(latency.max, 1000.0) && near(latency.min, 1.0), "{latency:?}");
    }
}
