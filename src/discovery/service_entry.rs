//! From a ServiceEntry with its endpoints, or the workloads it selects, to the facts of a service.
//!
//! Pure. Must not know: gates, policies, subsets.

use std::{borrow::Cow, net::SocketAddr, sync::Arc};

use super::{
    Finding, Identity, Place, Reason, address,
    facts::{Candidate, Distribution, Evidence, Facts, PortFacts},
    names,
    pods::{self, KnownLabels},
    pool::Pools,
    world::World,
};
use crate::{
    manifests::{
        Kind,
        kinds::{
            Labels, Pod, ServiceEntry, WorkloadEntry,
            host::Address,
            meta::Meta,
            pod::Phase,
            service_entry::{
                EntryPort, Location, Protocol, Resolution, Workload, WorkloadSelector,
            },
        },
    },
    routing::{self, Host, HostPattern, Locality, ServiceKind},
};

/// Reads one host of a ServiceEntry. `None` outside the mesh: such a host is never served.
pub(super) fn facts<'w>(
    entry: &'w Arc<ServiceEntry>,
    host: &Host,
    (world, identity): (&'w World, &Identity),
    pools: &mut Pools,
) -> Option<Facts<'w>> {
    let ServiceEntry { meta, spec } = &**entry;
    if spec.location != Location::MeshInternal {
        return None;
    }
    let mut reader = Reader { entry, world, identity, pools };
    let served = spec.ports.iter().filter(|port| port.protocol != Protocol::Udp);
    let ports = served.map(|port| reader.port(host, port)).collect();
    Some(Facts {
        service: routing::Service {
            host: host.clone(),
            name: Arc::clone(&meta.name),
            namespace: reader.pools.strings.share(&*meta.namespace),
            kind: ServiceKind::ServiceEntry,
        },
        visibility: world.mesh.entry_visibility(entry),
        ports,
        distribution: Distribution::read(None, meta),
        hostnames: Vec::new(),
        findings: Vec::new(),
    })
}

/// What of an entry is not served, though it is in the mesh. Told of the entry, not of its hosts:
/// it may have none that names a service.
pub(super) fn findings(entry: &ServiceEntry) -> Vec<Finding> {
    let ServiceEntry { meta, spec } = entry;
    let mut found = Vec::new();
    if spec.location != Location::MeshInternal {
        return found;
    }
    let mut note = |field, message: String| {
        found.push(Finding::new(Kind::ServiceEntry, meta, field, message));
    };
    for host in spec.hosts.iter().filter(|host| !matches!(host.0, HostPattern::Exact(_))) {
        note("spec.hosts", format!("{} is a wildcard, which names no service: skipped", host.0));
    }
    let nothing = spec.endpoints.is_empty() && spec.workload_selector.is_none();
    if nothing && spec.resolution == Resolution::None {
        let message = "NONE without endpoints gives no address to connect to";
        note("spec.resolution", message.into());
    }
    found
}

/// The labels of a WorkloadEntry: those of its metadata go before those of its spec.
pub(super) fn labels_of(entry: &WorkloadEntry) -> Labels {
    entry.spec.labels.iter().chain(entry.meta.labels.iter()).collect()
}

/// False for a workload that says so, and for one whose health is checked and not yet known.
fn is_healthy(entry: &WorkloadEntry) -> bool {
    let checked = || entry.meta.annotations.get("proxy.istio.io/health-checks-enabled");
    entry.healthy.unwrap_or_else(|| checked() != Some("true"))
}

struct Reader<'w, 'p> {
    entry: &'w ServiceEntry,
    world: &'w World,
    identity: &'p Identity,
    pools: &'p mut Pools,
}

impl<'w> Reader<'w, '_> {
    fn port(&mut self, host: &Host, port: &EntryPort) -> PortFacts<'w> {
        let mut facts = PortFacts::new(port.number);
        if names::stands_for_itself(self.entry) {
            let address = Some(Address::Name(host.as_str().into()));
            let itself = Workload { address, ..Workload::default() };
            let labels = Cow::Borrowed(&self.entry.meta.labels);
            self.workload(&itself, (&self.entry.meta, labels), port, &mut facts);
        }
        for workload in &self.entry.spec.endpoints {
            let labels = Cow::Borrowed(&workload.labels);
            self.workload(workload, (&self.entry.meta, labels), port, &mut facts);
        }
        if let Some(selector) = &self.entry.spec.workload_selector {
            self.selected(selector, port, &mut facts);
        }
        facts.finish();
        facts
    }

    /// Pods and WorkloadEntries of the namespace that have the labels.
    fn selected(
        &mut self,
        selector: &WorkloadSelector,
        port: &EntryPort,
        facts: &mut PortFacts<'w>,
    ) {
        let namespace = &*self.entry.meta.namespace;
        for pod in self.world.pods.in_namespace(namespace) {
            if pod.meta.labels.matches(&selector.labels) {
                self.pod(pod, port.target_port.unwrap_or(port.number), facts);
            }
        }
        for entry in self.world.workload_entries.in_namespace(namespace) {
            let labels = labels_of(entry);
            if !labels.matches(&selector.labels) {
                continue;
            }
            if !is_healthy(entry) {
                facts.leave_out(place(&entry.spec, port), Reason::NotReady);
            } else {
                self.workload(&entry.spec, (&entry.meta, Cow::Owned(labels)), port, facts);
            }
        }
    }

    fn pod(&mut self, pod: &'w Pod, port: u16, facts: &mut PortFacts<'w>) {
        if matches!(pod.status.phase, Phase::Succeeded | Phase::Failed) {
            return;
        }
        for ip in pod.ips() {
            let address = SocketAddr::new(ip, port);
            let labels = KnownLabels::new(&pod.meta.labels);
            let network = pods::network(labels.network, self.world);
            let reason = if pod.status.ready == Some(false) {
                Some(Reason::NotReady)
            } else if let Some(refusal) = address::refuse(address, self.identity) {
                Some(Reason::Refused(refusal))
            } else if !self.identity.sees_pod_network(network) {
                Some(Reason::Network(self.pools.strings.share(network)))
            } else {
                None
            };
            match reason {
                Some(reason) => facts.leave_out(Place::Address(address), reason),
                None => {
                    let at = (&*pod.meta.namespace, None);
                    let candidate =
                        pods::candidate(address, Some((pod, labels)), at, self.world, self.pools);
                    facts.candidates.push(candidate);
                }
            }
        }
    }

    /// An endpoint written in the ServiceEntry, or in a WorkloadEntry of its own.
    fn workload(
        &mut self,
        workload: &Workload,
        (meta, labels): (&'w Meta, Cow<'w, Labels>),
        port: &EntryPort,
        facts: &mut PortFacts<'w>,
    ) {
        let addresses = match self.addresses(workload, port) {
            Ok(addresses) => addresses,
            Err(reason) => return facts.leave_out(place(workload, port), reason),
        };
        for address in addresses {
            self.address(address, workload, (meta, labels.clone()), facts);
        }
    }

    /// The addresses of an endpoint: its own, or those that its name stands for.
    fn addresses(
        &mut self,
        workload: &Workload,
        port: &EntryPort,
    ) -> Result<Vec<SocketAddr>, Reason> {
        match (&workload.address, place(workload, port)) {
            (_, Place::Address(address)) => Ok(vec![address]),
            (Some(Address::Name(name)), Place::Name(_, number))
                if names::is_resolved(self.entry.spec.resolution) =>
            {
                let found = self.world.resolve(name, number, self.identity, self.pools);
                found.filter(|found| !found.is_empty()).ok_or(Reason::Unresolved)
            }
            (_, Place::Name(..)) => Err(Reason::Hostname),
        }
    }

    fn address(
        &mut self,
        address: SocketAddr,
        workload: &Workload,
        (meta, labels): (&'w Meta, Cow<'w, Labels>),
        facts: &mut PortFacts<'w>,
    ) {
        let known = KnownLabels::new(&labels);
        let network = workload.network.as_deref().or(known.network);
        let network = network.unwrap_or_default();
        let reason = if let Some(refusal) = address::refuse(address, self.identity) {
            Some(Reason::Refused(refusal))
        } else if !self.identity.sees_entry_network(network) {
            Some(Reason::Network(self.pools.strings.share(network)))
        } else {
            None
        };
        if let Some(reason) = reason {
            return facts.leave_out(Place::Address(address), reason);
        }
        let network = self.pools.strings.share(network);
        let locality = workload.locality.as_deref().map(Locality::parse).unwrap_or_default();
        facts.candidates.push(Candidate {
            address,
            weight: workload.weight.max(1),
            locality: self.pools.localities.share(locality),
            workload: pods::workload(meta, &known, self.pools),
            instance: Arc::clone(&meta.name),
            evidence: Evidence::from_label(known.tls_mode, || workload.service_account.is_some()),
            labels,
            namespace: &meta.namespace,
            node: "",
            network,
        });
    }
}

/// Where an endpoint is: `ports[name]` before `targetPort` before `number`.
fn place(workload: &Workload, port: &EntryPort) -> Place {
    let of_name = workload.ports.get(&port.name);
    let number = of_name.or(port.target_port).unwrap_or(port.number);
    match &workload.address {
        Some(Address::Ip(ip)) => Place::Address(SocketAddr::new(*ip, number)),
        Some(Address::Unix(name) | Address::Name(name)) => Place::Name((&**name).into(), number),
        None => Place::Name("(no address)".into(), number),
    }
}
