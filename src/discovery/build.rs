//! From the facts of one service to its routes.
//!
//! Pure: facts, rules and the routes that exist now in, planned routes out. Must not know: how the
//! facts were gathered, when anything is published.

use std::{sync::Arc, time::Instant};

use super::{
    Finding, Identity, LeftOut, Place, Reason, Role,
    destination_rule::{Rule, Rules, Subset},
    exposure::Exposure,
    facts::{Candidate, Distribution, Evidence, Facts, PortFacts},
    locality::{self, Target, Whereabouts, Written},
    mesh::Mesh,
    peer_authentication::PeerRules,
    policy,
    pool::Pools,
};
use crate::{
    manifests::kinds::destination_rule::ClientTlsMode,
    routing::{self, Endpoint, Locality, Policy, Service, ServiceKind, ServiceRoutes},
};

/// What all services are judged by.
#[derive(Debug)]
pub(super) struct Gates<'w> {
    pub(super) identity: &'w Identity,
    pub(super) exposure: &'w Exposure,
    pub(super) rules: &'w Rules,
    pub(super) peers: &'w PeerRules,
    /// Where the gateway runs.
    pub(super) locality: &'w Locality,
    pub(super) mesh: &'w Mesh,
    /// What joins, joins now.
    pub(super) now: Instant,
}

/// What a service is to become.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) service: Service,
    /// `exportTo` shows it to the gateway.
    pub(super) visible: bool,
    pub(super) exposed: bool,
    pub(super) exposed_as_alias: bool,
    /// Sorted by (port, subset).
    pub(super) routes: Vec<PlannedRoute>,
    pub(super) left_out: Vec<LeftOut>,
    pub(super) findings: Vec<Finding>,
}

/// What one route is to become.
#[derive(Debug)]
pub(super) struct PlannedRoute {
    pub(super) port: u16,
    pub(super) subset: Arc<str>,
    pub(super) endpoints: Vec<(Arc<Endpoint>, routing::Place)>,
    pub(super) policy: Arc<Policy>,
}

/// Decides everything about one service. `current` is what is published of it now: equal parts of
/// it are taken over, counters always.
pub(super) fn plan(
    facts: Facts<'_>,
    gates: &Gates<'_>,
    pools: &mut Pools,
    current: Option<&ServiceRoutes>,
) -> Plan {
    let Facts { service, visibility, mut ports, distribution, findings, .. } = facts;
    let visible = visibility.visible_to(&gates.identity.namespace);
    let (exposed, exposed_as_alias) =
        if visible { exposed(&service, gates) } else { (false, false) };
    let rule = gates.rules.find(service.host.as_str(), &service.namespace);
    let mut routes = Vec::new();
    let mut left_out = Vec::new();
    ports.sort_by_key(|port| port.number);
    for port in ports {
        let first = routes.len();
        let made = vec![None; port.candidates.len()];
        let mut part = Part { port: &port, rule, distribution, current, made };
        routes.push(part.route(None, gates, pools, &mut left_out));
        for subset in rule.iter().flat_map(|rule| &rule.subsets) {
            routes.push(part.route(Some(subset), gates, pools, &mut left_out));
        }
        routes[first..].sort_by(|a, b| a.subset.cmp(&b.subset));
        let number = port.number;
        left_out.extend(port.left_out.into_iter().map(|(place, reason)| LeftOut {
            port: number,
            subset: pools.strings.share(""),
            place,
            reason,
        }));
    }
    Plan { service, visible, exposed, exposed_as_alias, routes, left_out, findings }
}

/// Whether Gateway `hosts` cover the service under its own host, and under its alias.
pub(super) fn exposed(service: &Service, gates: &Gates<'_>) -> (bool, bool) {
    let covered = |host: &str| gates.exposure.covers(host, &service.namespace).is_some();
    let host = service.host.as_str();
    match (gates.identity.role, service.kind) {
        (Role::Ingress, ServiceKind::Kubernetes) => {
            let alias = gates.exposure.alias(host);
            (covered(host), alias.is_some_and(|alias| covered(&alias)))
        }
        // Under the suffix a ServiceEntry is never served: that would make us a transit.
        (Role::Ingress, ServiceKind::ServiceEntry) => {
            (!gates.exposure.under_suffix(host) && covered(host), false)
        }
        (Role::Egress | Role::Sidecar, ServiceKind::Kubernetes) => (false, false),
        (Role::Egress, ServiceKind::ServiceEntry) => (covered(host), false),
        (Role::Sidecar, ServiceKind::ServiceEntry) => (true, false),
    }
}

/// One port on its way to its routes.
struct Part<'a> {
    port: &'a PortFacts<'a>,
    rule: Option<&'a Rule>,
    distribution: Option<Distribution>,
    current: Option<&'a ServiceRoutes>,
    /// The endpoint made of each candidate: the whole port and its subsets share it and its
    /// counters.
    made: Vec<Option<Arc<Endpoint>>>,
}

impl Part<'_> {
    /// The route of the whole port (`None`) or of one subset.
    fn route(
        &mut self,
        subset: Option<&Subset>,
        gates: &Gates<'_>,
        pools: &mut Pools,
        left_out: &mut Vec<LeftOut>,
    ) -> PlannedRoute {
        let port = self.port.number;
        let mode = self.rule.and_then(|rule| rule.tls_mode(subset, port));
        let whole_mode = self.rule.and_then(|rule| rule.tls_mode(None, port));
        let name = subset.map_or_else(|| pools.strings.share(""), |s| Arc::clone(&s.name));
        let mut served = Vec::new();
        for (index, candidate) in self.port.candidates.iter().enumerate() {
            if subset.is_some_and(|subset| !candidate.labels.matches(&subset.labels)) {
                continue;
            }
            match tls_gate(mode.zip(self.rule), candidate, gates) {
                None => served.push(index),
                // What the whole port leaves out is told once, not again for each subset.
                Some(_) if subset.is_some() && mode == whole_mode => {}
                Some(reason) => left_out.push(LeftOut {
                    port,
                    subset: Arc::clone(&name),
                    place: Place::Address(candidate.address),
                    reason,
                }),
            }
        }
        let defaults = policy::Defaults {
            connect_timeout: gates.mesh.connect_timeout,
            keepalive: gates.mesh.keepalive,
            outlier: gates.identity.outlier.as_ref(),
        };
        let merged = policy::merge(self.rule, subset, port, defaults);
        let endpoints = self.placed(&served, &merged, gates, &name, left_out);
        PlannedRoute { port, subset: name, endpoints, policy: pools.policies.share(merged.policy) }
    }

    /// The endpoints of these candidates, each in its place by locality.
    fn placed(
        &mut self,
        served: &[usize],
        merged: &policy::Merged<'_>,
        gates: &Gates<'_>,
        subset: &Arc<str>,
        left_out: &mut Vec<LeftOut>,
    ) -> Vec<(Arc<Endpoint>, routing::Place)> {
        let Identity { labels, node, network, .. } = gates.identity;
        let node = node.as_deref().unwrap_or_default();
        let network = network.as_deref().unwrap_or_default();
        let origin = Whereabouts { locality: gates.locality, labels, node, network };
        let candidates = &self.port.candidates;
        let target = |index: &usize| {
            let Candidate { locality, labels, node, network, weight, .. } = &candidates[*index];
            let at = Whereabouts { locality, labels, node, network };
            Target { at, weight: *weight }
        };
        let targets: Vec<Target<'_>> = served.iter().map(target).collect();
        let written = Written {
            of_rule: merged.locality,
            of_service: self.distribution,
            of_mesh: gates.mesh.locality.as_ref(),
        };
        let places = locality::places(written, merged.detects, origin, &targets);
        let mut endpoints = Vec::with_capacity(served.len());
        for (index, place) in served.iter().zip(places) {
            match place {
                Some(place) => endpoints.push((self.endpoint(*index, gates.now), place)),
                None => left_out.push(LeftOut {
                    port: self.port.number,
                    subset: Arc::clone(subset),
                    place: Place::Address(self.port.candidates[*index].address),
                    reason: Reason::Distribute,
                }),
            }
        }
        endpoints
    }

    /// The endpoint of a candidate: the present one when it is the same, else a new one with the
    /// present counters.
    fn endpoint(&mut self, index: usize, now: Instant) -> Arc<Endpoint> {
        if let Some(made) = &self.made[index] {
            return Arc::clone(made);
        }
        let candidate = &self.port.candidates[index];
        let present =
            self.current.and_then(|current| present(current, self.port.number, candidate));
        let unchanged = |present: &Arc<Endpoint>| {
            present.weight == candidate.weight
                && present.locality == candidate.locality
                && present.workload == candidate.workload
                && present.instance == candidate.instance
        };
        let endpoint = match present {
            Some(present) if unchanged(&present) => present,
            other => Arc::new(Endpoint {
                // What is there when its service is first seen may be as old as the service.
                added: match &other {
                    Some(present) => present.added,
                    None => self.current.map(|_| now),
                },
                address: candidate.address,
                weight: candidate.weight,
                locality: Arc::clone(&candidate.locality),
                workload: Arc::clone(&candidate.workload),
                instance: Arc::clone(&candidate.instance),
                state: other.map(|present| Arc::clone(&present.state)).unwrap_or_default(),
            }),
        };
        self.made[index] = Some(Arc::clone(&endpoint));
        endpoint
    }
}

/// The endpoint of this address that the port has now, in whichever subset.
fn present(current: &ServiceRoutes, port: u16, candidate: &Candidate<'_>) -> Option<Arc<Endpoint>> {
    current.routes.iter().filter(|route| route.port == port).find_map(|route| {
        let set = route.endpoints.load();
        let at = set.endpoints().binary_search_by_key(&candidate.address, |e| e.address).ok()?;
        Some(Arc::clone(&set.endpoints()[at]))
    })
}

/// The mesh-TLS gate: why this candidate is left out, if it is. The first evidence that speaks
/// decides.
fn tls_gate(
    rule: Option<(ClientTlsMode, &Rule)>,
    candidate: &Candidate<'_>,
    gates: &Gates<'_>,
) -> Option<Reason> {
    if !gates.identity.require_mesh_tls {
        return None;
    }
    match rule {
        Some((ClientTlsMode::IstioMutual, _)) => return None,
        Some((mode, rule)) => {
            return Some(Reason::RuleTls {
                rule: Arc::clone(&rule.name),
                mode: policy::tls_mode_as_str(mode),
            });
        }
        // It speaks mutual TLS to whoever it is, or not at all.
        None if gates.identity.role == Role::Sidecar => return None,
        None => {}
    }
    let target_port = candidate.address.port();
    if let Some(policy) =
        gates.peers.disabled_by(candidate.namespace, &candidate.labels, target_port)
    {
        return Some(Reason::PeerAuthentication(policy));
    }
    match candidate.evidence {
        Evidence::Speaks => None,
        Evidence::LabelDenies => Some(Reason::TlsModeLabel),
        Evidence::None => Some(Reason::NoMeshTls),
    }
}
