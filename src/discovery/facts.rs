//! What the objects say of one service, before any gate has looked at it.
//!
//! Both kinds of definition, Service and ServiceEntry, come to this form; from here on they are
//! treated alike. Must not know: which routes become of it.

use std::{borrow::Cow, net::SocketAddr, sync::Arc};

use super::{Finding, Place, Reason, Visibility, per_pod::Hostnames};
use crate::{
    manifests::kinds::{Labels, Meta},
    routing::{Locality, Service, Workload},
};

/// One service.
#[derive(Debug)]
pub(super) struct Facts<'w> {
    pub(super) service: Service,
    pub(super) visibility: Visibility,
    pub(super) ports: Vec<PortFacts<'w>>,
    /// Which endpoints it prefers.
    pub(super) distribution: Option<Distribution>,
    /// Endpoints that have names of their own, where those are asked for.
    pub(super) hostnames: Hostnames,
    pub(super) findings: Vec<Finding>,
}

/// A Service's `trafficDistribution`, or the annotation that says the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Distribution {
    /// `PreferSameZone`, or `PreferClose`, its older name.
    SameZone,
    /// `PreferSameNode`.
    SameNode,
}

/// Says what `trafficDistribution` does, where the field itself does not.
const DISTRIBUTION: &str = "networking.istio.io/traffic-distribution";

impl Distribution {
    /// What an object asks for; a value that nobody knows asks for nothing.
    pub(super) fn read(field: Option<&str>, meta: &Meta) -> Option<Self> {
        match field.or_else(|| meta.annotations.get(DISTRIBUTION))? {
            "PreferClose" | "PreferSameZone" => Some(Self::SameZone),
            "PreferSameNode" => Some(Self::SameNode),
            _ => None,
        }
    }

    /// The labels that make an endpoint near, as Istio lists them.
    pub(super) fn priority(self) -> &'static [&'static str] {
        const NEAR: [&str; 5] = [NETWORK, REGION, ZONE, SUBZONE, HOSTNAME];
        match self {
            Self::SameZone => &NEAR[..4],
            Self::SameNode => &NEAR,
        }
    }

    /// As manifests write it.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::SameZone => "PreferSameZone",
            Self::SameNode => "PreferSameNode",
        }
    }
}

/// One of its ports.
#[derive(Debug)]
pub(super) struct PortFacts<'w> {
    pub(super) number: u16,
    /// Sorted by address, each address once.
    pub(super) candidates: Vec<Candidate<'w>>,
    pub(super) left_out: Vec<(Place, Reason)>,
}

/// What may become an endpoint.
#[derive(Clone, Debug)]
pub(super) struct Candidate<'w> {
    pub(super) address: SocketAddr,
    pub(super) weight: u32,
    pub(super) locality: Arc<Locality>,
    pub(super) workload: Arc<Workload>,
    /// The name of the pod or entry.
    pub(super) instance: Arc<str>,
    pub(super) labels: Cow<'w, Labels>,
    /// The namespace of the pod or entry, whose PeerAuthentications hold.
    pub(super) namespace: &'w str,
    /// The node it runs on, and the network it is in; empty: unknown.
    pub(super) node: &'w str,
    pub(super) network: Arc<str>,
    pub(super) evidence: Evidence,
}

/// What is known of an endpoint's mesh mutual TLS besides policies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Evidence {
    /// Label `security.istio.io/tlsMode: istio`, a sidecar, or an entry's `serviceAccount`.
    Speaks,
    /// The label has another value.
    LabelDenies,
    /// Nothing.
    None,
}

impl Evidence {
    /// The label `security.istio.io/tlsMode`, which the injector puts on every pod with a sidecar
    /// since Istio 1.5, decides where there is one; else `otherwise`.
    pub(super) fn from_label(label: Option<&str>, otherwise: impl FnOnce() -> bool) -> Self {
        match label {
            Some("istio") => Self::Speaks,
            Some(_) => Self::LabelDenies,
            None if otherwise() => Self::Speaks,
            None => Self::None,
        }
    }
}

/// A label that says in which network an endpoint is.
pub(super) const NETWORK: &str = "topology.istio.io/network";
/// Labels that say where it runs.
pub(super) const REGION: &str = "topology.kubernetes.io/region";
pub(super) const ZONE: &str = "topology.kubernetes.io/zone";
pub(super) const SUBZONE: &str = "topology.istio.io/subzone";
pub(super) const HOSTNAME: &str = "kubernetes.io/hostname";

impl PortFacts<'_> {
    pub(super) fn new(number: u16) -> Self {
        Self { number, candidates: Vec::new(), left_out: Vec::new() }
    }

    pub(super) fn leave_out(&mut self, place: Place, reason: Reason) {
        self.left_out.push((place, reason));
    }

    /// Orders the candidates and keeps the last of those with one address. An address that is
    /// served was not left out, whatever another object says of it.
    pub(super) fn finish(&mut self) {
        self.candidates.sort_by_key(|candidate| candidate.address);
        self.candidates.reverse();
        self.candidates.dedup_by_key(|candidate| candidate.address);
        self.candidates.reverse();
        let Self { candidates, left_out, .. } = self;
        left_out.retain(|(place, _)| match place {
            Place::Address(address) => {
                candidates.binary_search_by_key(address, |candidate| candidate.address).is_err()
            }
            Place::Name(..) => true,
        });
    }
}
