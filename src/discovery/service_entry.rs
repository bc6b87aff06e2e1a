//! From a ServiceEntry with its endpoints, or the workloads it selects, to the facts of a service.
//!
//! Pure. Must not know: gates, policies, subsets.

use std::{borrow::Cow, net::SocketAddr, sync::Arc};

use super::{
    Finding, Identity, Place, Reason, Visibility, address,
    facts::{Candidate, Evidence, Facts, PortFacts},
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
    let ports = served.map(|port| reader.port(port)).collect();
    Some(Facts {
        service: routing::Service {
            host: host.clone(),
            name: Arc::clone(&meta.name),
            namespace: reader.pools.strings.share(&*meta.namespace),
            kind: ServiceKind::ServiceEntry,
        },
        visibility: Visibility::new(&spec.export_to, &meta.namespace),
        ports,
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
    let named = |workload: &&Workload| matches!(workload.address, Some(Address::Name(_)));
    if spec.endpoints.iter().any(|workload| named(&workload)) {
        note("spec.endpoints", "host names are not resolved: only IP addresses are used".into());
    } else if spec.endpoints.is_empty() && spec.workload_selector.is_none() {
        let message = match spec.resolution {
            Resolution::Static => return found,
            Resolution::None => "NONE without endpoints gives no address to connect to",
            Resolution::Dns | Resolution::DnsRoundRobin | Resolution::DynamicDns => {
                "DNS without endpoints means the host itself, and names are not resolved"
            }
        };
        note("spec.resolution", message.into());
    }
    found
}

/// The labels of a WorkloadEntry: those of its metadata go before those of its spec.
pub(super) fn labels_of(entry: &WorkloadEntry) -> Labels {
    entry.spec.labels.iter().chain(entry.meta.labels.iter()).collect()
}

struct Reader<'w, 'p> {
    entry: &'w ServiceEntry,
    world: &'w World,
    identity: &'p Identity,
    pools: &'p mut Pools,
}

impl<'w> Reader<'w, '_> {
    fn port(&mut self, port: &EntryPort) -> PortFacts<'w> {
        let mut facts = PortFacts::new(port.number);
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
            if entry.healthy == Some(false) {
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
        let address = match place(workload, port) {
            Place::Address(address) => address,
            named @ Place::Name(..) => return facts.leave_out(named, Reason::Hostname),
        };
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
