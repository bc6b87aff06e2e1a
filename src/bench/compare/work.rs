//! The works that gateways are compared by, and what each is judged by. Must not know: gateways.

use std::time::Duration;

use serde::Serialize;

use super::{Comparison, results::Sample};
use crate::bench::{Plan, Scenario};

/// Operations begun each second while routes change, half of them new connections: what each of the
/// gateways carries easily, so that what fails fails for the changes.
const CHURN_RATE: f64 = 2_000.0;

/// One kind of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Work {
    /// New connections: hello, 100 bytes back, both ends closed; 64 at a time.
    Connect,
    /// 64-byte requests and answers on 32 connections.
    Request,
    /// 16 KiB requests and answers on 16 connections.
    Request16k,
    /// 64-byte requests on one connection, for the time of a round trip.
    Latency,
    /// 8 streams of large answers.
    Download,
    /// 8 streams of large requests.
    Upload,
    /// 8,000 connections that do nothing.
    Hold,
    /// 9,000 clients at once, in mutual TLS.
    Storm,
    /// 64-byte requests that begin at a rate, on 64 connections.
    Paced,
    /// Requests and new connections while routes and endpoints change.
    Churn,
}

impl Work {
    /// As it is given on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Request => "request",
            Self::Request16k => "request16k",
            Self::Latency => "latency",
            Self::Download => "download",
            Self::Upload => "upload",
            Self::Hold => "hold",
            Self::Storm => "storm",
            Self::Paced => "paced",
            Self::Churn => "churn",
        }
    }

    /// In a few words.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Connect => "new connections, 64 at a time: hello, 100 B back, both FINs",
            Self::Request => "64 B requests on 32 open connections",
            Self::Request16k => "16 KiB requests on 16 open connections",
            Self::Latency => "64 B requests on one connection: its round trip",
            Self::Download => "8 streams of large answers",
            Self::Upload => "8 streams of large requests",
            Self::Hold => "idle connections",
            Self::Storm => "mutual-TLS clients, all at once, until the last is established",
            Self::Paced => "64 B requests at a given rate (open loop) on 64 connections",
            Self::Churn => {
                "1,000 new connections and 1,000 requests on 32 open ones each second, while \
                 routes and endpoints change"
            }
        }
    }

    /// What it is judged by, with its unit.
    #[must_use]
    pub fn unit(self) -> &'static str {
        match self {
            Self::Connect => "CPU µs per connection",
            Self::Request | Self::Request16k | Self::Paced => "CPU µs per request",
            Self::Churn => "CPU µs per operation",
            Self::Latency => "p50 of a round trip, µs",
            Self::Download | Self::Upload => "CPU s per GB",
            Self::Hold => "resident bytes per connection",
            Self::Storm => "s until all are established",
        }
    }

    /// That value of a sample; `None` when it could not be read or nothing went well.
    #[must_use]
    pub fn value(self, sample: &Sample) -> Option<f64> {
        let totals = &sample.report.totals;
        let cpu_ns = sample.cost.as_ref().map(|cost| cost.cpu_ns as f64);
        let value = match self {
            Self::Connect | Self::Request | Self::Request16k | Self::Paced | Self::Churn => {
                cpu_ns? / 1e3 / totals.operations as f64
            }
            Self::Download | Self::Upload => cpu_ns? / totals.bytes as f64,
            Self::Latency => totals.latency_us?.p50,
            Self::Hold => {
                let (first, last) = (sample.memory.first()?, sample.memory.last()?);
                last.1.saturating_sub(first.1) as f64 / last.0 as f64
            }
            Self::Storm => sample.report.seconds,
        };
        value.is_finite().then_some(value)
    }

    pub(super) fn scenario(self) -> Scenario {
        match self {
            Self::Connect => Scenario::Connect,
            Self::Request | Self::Request16k | Self::Latency | Self::Paced => Scenario::Request,
            Self::Download => Scenario::Download,
            Self::Upload => Scenario::Upload,
            Self::Hold => Scenario::Hold,
            Self::Storm => Scenario::Storm,
            Self::Churn => Scenario::Churn,
        }
    }

    /// How much of it there is.
    pub(super) fn fill(self, plan: Plan, what: &Comparison) -> Plan {
        let pick = |full: u64, quick: u64| Some(if what.quick { quick } else { full });
        let clients = |full: usize, quick: usize| if what.quick { quick } else { full };
        match self {
            Self::Connect => Plan { count: pick(30_000, 300), ..plan },
            Self::Request => Plan { count: pick(300_000, 2_000), ..plan },
            Self::Request16k => {
                Plan { count: pick(60_000, 500), size: Some(16 << 10), concurrency: 16, ..plan }
            }
            Self::Latency => Plan { count: pick(30_000, 500), concurrency: 1, ..plan },
            Self::Download | Self::Upload => {
                Plan { count: pick(256, 16), size: pick(16 << 20, 1 << 20), ..plan }
            }
            Self::Hold => Plan { concurrency: clients(8_000, 64), ..plan },
            Self::Storm => {
                Plan { concurrency: clients(9_000, 32), timeout: Duration::from_secs(180), ..plan }
            }
            Self::Paced => {
                let duration = Duration::from_millis(pick(10_000, 300).unwrap_or_default());
                let (rate, duration) = (Some(what.rate), Some(duration));
                Plan { concurrency: 64, rate, duration, ..plan }
            }
            Self::Churn => {
                let duration = Duration::from_secs(pick(10, 1).unwrap_or_default());
                let (rate, duration) = (Some(CHURN_RATE), Some(duration));
                Plan { concurrency: 64, rate, duration, ..plan }
            }
        }
    }

    /// Operations before anything is read.
    pub(super) fn warm_up(self, quick: bool) -> u64 {
        match self {
            _ if quick => 16,
            Self::Connect | Self::Hold | Self::Churn => 2_000,
            Self::Request | Self::Request16k | Self::Paced => 5_000,
            Self::Latency => 2_000,
            Self::Download | Self::Upload => 16,
            Self::Storm => 64,
        }
    }
}
