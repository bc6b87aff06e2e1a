//! Counters of queries. Must not know: how they are answered.

use super::wire::{Outcome, Transport};
use crate::metrics::{Counter, Gauge, Metrics, names};

/// Handles, found once.
#[derive(Clone, Debug)]
pub(super) struct Counters {
    udp: [Counter; Outcome::ALL.len()],
    tcp: [Counter; Outcome::ALL.len()],
    pub(super) names: Gauge,
    pub(super) connections: Gauge,
}

impl Counters {
    pub(super) fn register(metrics: &mut Metrics) -> Self {
        let queries = metrics.counters(&names::DNS_QUERIES);
        let of = |transport| Outcome::ALL.map(|o| queries.with(&[transport, o.as_str()]));
        Self {
            udp: of("udp"),
            tcp: of("tcp"),
            names: metrics.gauge(&names::DNS_NAMES),
            connections: metrics.gauge(&names::DNS_CONNECTIONS_ACTIVE),
        }
    }

    pub(super) fn count(&self, transport: Transport, outcome: Outcome) {
        let counters = match transport {
            Transport::Udp => &self.udp,
            Transport::Tcp => &self.tcp,
        };
        // `ALL` is in the order of the enum.
        if let Some(counter) = counters.get(outcome as usize) {
            counter.inc();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_outcome_is_counted_under_its_name() {
        let mut metrics = Metrics::default();
        let counters = Counters::register(&mut metrics);
        for (times, outcome) in Outcome::ALL.into_iter().enumerate() {
            (0..=times).for_each(|_| counters.count(Transport::Tcp, outcome));
        }
        let text = metrics.text();
        for (times, outcome) in Outcome::ALL.into_iter().enumerate() {
            let line = format!(
                "diolkos_dns_queries_total{{transport=\"tcp\",result=\"{}\"}} {}\n",
                outcome.as_str(),
                times + 1
            );
            assert!(text.contains(&line), "{line} in {text}");
        }
    }
}
