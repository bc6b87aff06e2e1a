//! One endpoint: an address of a pod, and the counters that outlive a snapshot.
//!
//! Must not know: which set it is in, how it was found. The counters hang on the endpoint's
//! identity (service, port, address), are shared by all workers, and are carried over when the
//! table is built anew.

use std::{
    fmt,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

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
    /// Live counters.
    pub state: Arc<EndpointState>,
}

/// Counters of an endpoint, kept across snapshots.
#[derive(Debug, Default)]
pub struct EndpointState {
    connections: AtomicU32,
}

impl EndpointState {
    /// Connections that hold a lease on this endpoint now, over all workers.
    #[must_use]
    pub fn connections(&self) -> u32 {
        self.connections.load(Ordering::Relaxed)
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
