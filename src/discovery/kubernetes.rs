//! From a Service with its slices and pods to the facts of one service.
//!
//! Pure. Must not know: gates, policies, subsets.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use super::{
    Finding, Identity, Place, Reason, Visibility, address,
    facts::{Distribution, Facts, PortFacts},
    per_pod::Hostnames,
    pods::{self, KnownLabels},
    pool::Pools,
    world::World,
};
use crate::{
    manifests::{
        Kind,
        kinds::{
            Endpoints, Pod, Service,
            endpoints::{AddressType, Conditions, EndpointPort},
            host::Address,
            service::{InternalTrafficPolicy, Transport},
        },
    },
    routing::{self, Host, ServiceKind},
};

/// Reads one Service.
pub(super) fn facts<'w>(
    service: &'w Arc<Service>,
    host: &Host,
    (world, identity): (&'w World, &Identity),
    pools: &mut Pools,
) -> Facts<'w> {
    let meta = &service.meta;
    let (visibility, unread) = Visibility::of_service(meta, world.mesh.services_to());
    let findings = unread.into_iter().map(|entry| {
        let message = format!("`{entry}` is not a namespace, `*`, `.` or `~`: it is ignored");
        Finding::new(Kind::Service, meta, "metadata.annotations", message)
    });
    let hostnames = (identity.per_pod_names && service.is_headless()).then(Vec::new);
    let mut reader = Reader { service, world, identity, pools, hostnames };
    let tcp = service.spec.ports.iter().filter(|port| port.protocol == Transport::Tcp);
    let ports = tcp.map(|port| reader.port(port.port, &port.name)).collect();
    let hostnames = reader.hostnames.take().unwrap_or_default();
    Facts {
        service: routing::Service {
            host: host.clone(),
            name: Arc::clone(&meta.name),
            namespace: pools.strings.share(&*meta.namespace),
            kind: ServiceKind::Kubernetes,
        },
        visibility,
        ports,
        distribution: Distribution::read(service.spec.traffic_distribution.as_deref(), meta),
        hostnames,
        findings: findings.collect(),
    }
}

struct Reader<'w, 'p> {
    service: &'w Service,
    world: &'w World,
    identity: &'p Identity,
    pools: &'p mut Pools,
    /// `None`: nobody asks for the names of pods.
    hostnames: Option<Hostnames>,
}

/// One endpoint as a slice, or an old Endpoints object, names it.
struct Named<'w> {
    ip: IpAddr,
    pod: Option<&'w str>,
    node: Option<&'w str>,
    hostname: Option<&'w str>,
    conditions: Conditions,
}

impl<'w> Reader<'w, '_> {
    /// Joins endpoints by the *name* of the port: a named target port may have other numbers on
    /// other pods.
    fn port(&mut self, number: u16, name: &str) -> PortFacts<'w> {
        let mut facts = PortFacts::new(number);
        let meta = &self.service.meta;
        let slices = self.world.slices_of(&meta.namespace, &meta.name);
        for slice in slices.iter().filter(|slice| slice.address_type != AddressType::Fqdn) {
            let Some(port) = target(&slice.ports, name) else { continue };
            for endpoint in &slice.endpoints {
                let Some(ip) = endpoint.addresses.first().and_then(ip) else { continue };
                let named = Named {
                    ip,
                    pod: endpoint.pod.as_deref(),
                    node: endpoint.node_name.as_deref(),
                    hostname: endpoint.hostname.as_deref(),
                    conditions: endpoint.conditions,
                };
                self.endpoint(&named, port, &mut facts);
            }
        }
        // Kubernetes mirrors one into the other; both would only say everything twice.
        if slices.is_empty()
            && let Some(endpoints) = self.world.endpoints.get(&meta.namespace, &meta.name)
        {
            self.old_endpoints(endpoints, name, &mut facts);
        }
        facts.finish();
        facts
    }

    fn old_endpoints(&mut self, endpoints: &'w Endpoints, name: &str, facts: &mut PortFacts<'w>) {
        for subset in &endpoints.subsets {
            let Some(port) = target(&subset.ports, name) else { continue };
            let ready = subset.addresses.iter().map(|address| (address, true));
            let waiting = subset.not_ready_addresses.iter().map(|address| (address, false));
            for (address, ready) in ready.chain(waiting) {
                let named = Named {
                    ip: address.ip,
                    pod: address.pod.as_deref(),
                    node: address.node_name.as_deref(),
                    hostname: address.hostname.as_deref(),
                    conditions: Conditions { ready: Some(ready), ..Conditions::default() },
                };
                self.endpoint(&named, port, facts);
            }
        }
    }

    fn endpoint(&mut self, named: &Named<'w>, port: u16, facts: &mut PortFacts<'w>) {
        let namespace = &*self.service.meta.namespace;
        let address = SocketAddr::new(named.ip, port);
        if let (Some(hostnames), Some(hostname)) = (&mut self.hostnames, named.hostname) {
            hostnames.push((hostname.into(), address));
        }
        let pod = self.world.pod_of(namespace, named.pod, named.ip);
        let pod = pod.map(|pod| (&**pod, KnownLabels::new(&pod.meta.labels)));
        match self.left_out(named, address, pod) {
            Some(reason) => facts.leave_out(Place::Address(address), reason),
            None => facts.candidates.push(pods::candidate(
                address,
                pod,
                (namespace, named.node),
                self.world,
                self.pools,
            )),
        }
    }

    fn left_out(
        &mut self,
        named: &Named<'_>,
        address: SocketAddr,
        pod: Option<(&Pod, KnownLabels<'_>)>,
    ) -> Option<Reason> {
        if named.conditions.terminating == Some(true) {
            return Some(Reason::Terminating);
        }
        if named.conditions.ready == Some(false) {
            return Some(Reason::NotReady);
        }
        if let Some(refusal) = address::refuse(address, self.identity) {
            return Some(Reason::Refused(refusal));
        }
        let network = pods::network(pod.and_then(|(_, labels)| labels.network), self.world);
        if !self.identity.sees_pod_network(network) {
            return Some(Reason::Network(self.pools.strings.share(network)));
        }
        let local = self.service.spec.internal_traffic_policy == InternalTrafficPolicy::Local;
        let own = self.identity.node.as_deref().filter(|_| local);
        let node = named.node.or_else(|| pod.and_then(|(pod, _)| pod.spec.node_name.as_deref()));
        own.is_some_and(|own| node != Some(own)).then_some(Reason::OtherNode)
    }
}

/// The IP of an address, if it is one.
pub(super) fn ip(address: &Address) -> Option<IpAddr> {
    match address {
        Address::Ip(ip) => Some(*ip),
        Address::Unix(_) | Address::Name(_) => None,
    }
}

/// The number of the port of this name; the port of a Service with one port may have none.
fn target(ports: &[EndpointPort], name: &str) -> Option<u16> {
    let tcp = ports.iter().filter(|port| port.protocol == Transport::Tcp);
    tcp.filter(|port| &*port.name == name).find_map(|port| port.port)
}
