//! One endpoint: an address of a pod, and the counters that outlive a snapshot.
//!
//! Must not know: which set it is in, how it was found. The counters hang on the endpoint's
//! identity (service, port, address), are shared by all workers, and are carried over when the
//! table is built anew.

use std::{
    fmt,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU8, AtomicU32, Ordering},
    },
    time::Instant,
};

use super::outlier::{Fault, Health, Mark, Outlier};

/// An address that serves a key.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// Where to dial.
    pub address: SocketAddr,
    /// Share of connections, at least 1 (Istio reads 0 as 1).
    pub weight: u32,
    /// Region, zone and subzone; empty when unknown.
    pub locality: Arc<Locality>,
    /// What runs there, for metrics and the access log; shared by the pods of a Deployment.
    pub workload: Arc<Workload>,
    /// The pod's or entry's own name, for people; empty when unknown.
    pub instance: Arc<str>,
    /// When it joined a service that was there already; `None`: it was there from the start, and
    /// is as warm as the others.
    pub added: Option<Instant>,
    /// Live counters.
    pub state: Arc<EndpointState>,
}

/// Counters and health of an endpoint, kept across snapshots and shared by all workers.
#[derive(Debug, Default)]
pub struct EndpointState {
    connections: AtomicU32,
    /// [`Mark`] of the health, so that a pick need not lock.
    mark: AtomicU8,
    /// Made at the first failure.
    health: OnceLock<Box<Mutex<Health>>>,
}

impl EndpointState {
    /// Connections that hold a lease on this endpoint now, over all workers.
    #[must_use]
    pub fn connections(&self) -> u32 {
        self.connections.load(Ordering::Relaxed)
    }

    /// Counts a failure. True when it ejected the endpoint, or its probe failed. `may_eject` says
    /// whether the set can do without it, and is asked only then; use `EndpointSet::failed` where
    /// there is a set.
    pub fn failed(
        &self,
        fault: Fault,
        now: Instant,
        outlier: &Outlier,
        may_eject: impl FnOnce() -> bool,
    ) -> bool {
        self.health.get_or_init(Box::default);
        self.with_health(|health| health.failed(fault, now, outlier, may_eject)).unwrap_or(false)
    }

    /// Counts a success: failures in a row begin anew, and an ejection ends. True when it did.
    /// Costs one load when there is nothing to forget.
    pub fn succeeded(&self, now: Instant) -> bool {
        self.mark.load(Ordering::Relaxed) != Mark::Clean as u8
            && self.with_health(|health| health.succeeded(now)).unwrap_or(false)
    }

    /// True while nothing may be sent there: ejected, or its one probe is on the way.
    #[must_use]
    pub fn is_ejected(&self, now: Instant) -> bool {
        self.is_marked() && self.health().is_some_and(|health| health.is_closed(now))
    }

    /// Until when it is ejected, and how many ejections are not forgiven; `None` in service.
    #[must_use]
    pub fn ejection(&self) -> Option<(Instant, u16)> {
        self.health().and_then(|health| health.ejection())
    }

    /// True when it is not in full service, probes included: one load.
    pub(super) fn is_marked(&self) -> bool {
        self.mark.load(Ordering::Relaxed) == Mark::Ejected as u8
    }

    /// False while it is ejected; the first to ask after that is its probe.
    pub(super) fn claim(&self, now: Instant) -> bool {
        !self.is_marked() || self.with_health(|health| health.claim(now)).unwrap_or(true)
    }

    fn health(&self) -> Option<MutexGuard<'_, Health>> {
        // What a panic leaves is a few counters, each valid on its own.
        self.health.get().map(|health| health.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn with_health<T>(&self, change: impl FnOnce(&mut Health) -> T) -> Option<T> {
        let mut health = self.health()?;
        let result = change(&mut health);
        self.mark.store(health.mark() as u8, Ordering::Relaxed);
        Some(result)
    }

    pub(super) fn acquire(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn release(&self) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// `region/zone/subzone`, as Istio writes it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Locality {
    /// Region.
    pub region: Box<str>,
    /// Zone.
    pub zone: Box<str>,
    /// Subzone.
    pub subzone: Box<str>,
}

impl Locality {
    /// Reads `region/zone/subzone`; missing parts are empty.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut parts = text.splitn(3, '/').map(Box::from);
        let mut next = || parts.next().unwrap_or_default();
        Self { region: next(), zone: next(), subzone: next() }
    }
}

impl fmt::Display for Locality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.region, self.zone, self.subzone)
    }
}

/// The workload behind an endpoint, in the words of Istio's TCP metrics. Empty: unknown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Workload {
    /// `destination_workload`: the Deployment's (or other owner's) name.
    pub name: Arc<str>,
    /// `destination_workload_namespace`.
    pub namespace: Arc<str>,
    /// `destination_app`: label `app`.
    pub app: Arc<str>,
    /// `destination_version`: label `version`.
    pub version: Arc<str>,
    /// `destination_canonical_service`.
    pub canonical_name: Arc<str>,
    /// `destination_canonical_revision`.
    pub canonical_revision: Arc<str>,
}
