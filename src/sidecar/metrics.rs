//! Counters of connections and handshakes. Must not know: how they go.

use std::{sync::Arc, time::SystemTime};

use super::{
    handshake::Cause,
    keyring::Keyring,
    listeners::Listeners,
    outcome::{Direction, Outcome},
};
use crate::metrics::{Counter, Gauge, Metrics, names};

/// Handles, found once.
#[derive(Clone, Debug)]
pub(super) struct Counters {
    outbound: Way,
    inbound: Way,
}

/// Those of one direction.
#[derive(Clone, Debug)]
pub(super) struct Way {
    outcomes: [Counter; Outcome::ALL.len()],
    handshakes: [Counter; Cause::ALL.len()],
    pub(super) active: Gauge,
    pub(super) received: Counter,
    pub(super) sent: Counter,
}

impl Counters {
    pub(super) fn register(
        metrics: &mut Metrics,
        keyring: &Arc<Keyring>,
        listeners: &Listeners,
    ) -> Self {
        let outcomes = metrics.counters(&names::SIDECAR_CONNECTIONS);
        let active = metrics.gauges(&names::SIDECAR_CONNECTIONS_ACTIVE);
        let handshakes = metrics.counters(&names::SIDECAR_HANDSHAKE_FAILURES);
        let received = metrics.counters(&names::SIDECAR_RECEIVED_BYTES);
        let sent = metrics.counters(&names::SIDECAR_SENT_BYTES);
        let way = |direction: Direction| {
            let way = direction.as_str();
            Way {
                outcomes: Outcome::ALL.map(|outcome| outcomes.with(&[way, outcome.as_str()])),
                handshakes: Cause::ALL.map(|cause| handshakes.with(&[way, cause.as_str()])),
                active: active.with(&[way]),
                received: received.with(&[way]),
                sent: sent.with(&[way]),
            }
        };
        let counters =
            Self { outbound: way(Direction::Outbound), inbound: way(Direction::Inbound) };
        let listeners = listeners.clone();
        metrics.collect(&names::SIDECAR_LISTENERS, move |samples| {
            let (bound, failed) = listeners.counts();
            samples.put(&["bound"], bound as u64);
            samples.put(&["failed"], failed as u64);
        });
        let keyring = Arc::clone(keyring);
        metrics.collect(&names::SIDECAR_CERTIFICATE_END_SECONDS, move |samples| {
            let end = keyring.current().not_after();
            let end = end.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            samples.put(&[], end.as_secs());
        });
        counters
    }

    pub(super) fn of(&self, direction: Direction) -> &Way {
        match direction {
            Direction::Outbound => &self.outbound,
            Direction::Inbound => &self.inbound,
        }
    }
}

impl Way {
    pub(super) fn ended(&self, outcome: Outcome) {
        // `ALL` is in the order of the enum, here and below.
        if let Some(counter) = self.outcomes.get(outcome as usize) {
            counter.inc();
        }
    }

    pub(super) fn handshake_failed(&self, cause: Cause) {
        if let Some(counter) = self.handshakes.get(cause as usize) {
            counter.inc();
        }
    }
}
