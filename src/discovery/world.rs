//! All objects, and who refers to whom.
//!
//! The indexes are what makes one change cost one service and not a hundred thousand. Must not
//! know: what becomes of the objects.

use std::{collections::HashMap, hash::Hash, net::IpAddr, sync::Arc};

use ahash::RandomState;

use super::{
    Identity,
    facts::NETWORK,
    mesh::Mesh,
    names::Names,
    objects::{ByName, Objects, age},
};
use crate::{
    manifests::kinds::{
        ConfigMap, DestinationRule, EndpointSlice, Endpoints, EnvoyFilter, Gateway, Namespace,
        Node, PeerAuthentication, Pod, Service, ServiceEntry, WorkloadEntry, pod::Phase,
    },
    routing::{Host, HostPattern},
};

/// The objects of this moment.
#[derive(Debug, Default)]
pub(super) struct World {
    /// `.svc.cluster.local`.
    domain: String,
    /// The mesh's defaults.
    pub(super) mesh: Mesh,
    /// The cluster's own network: a label of the mesh's root namespace; empty when unknown.
    network: Box<str>,
    pub(super) services: Objects<Service>,
    pub(super) endpoints: Objects<Endpoints>,
    pub(super) pods: Objects<Pod>,
    pub(super) nodes: Objects<Node>,
    pub(super) namespaces: Objects<Namespace>,
    pub(super) gateways: Objects<Gateway>,
    pub(super) entries: Objects<ServiceEntry>,
    pub(super) workload_entries: Objects<WorkloadEntry>,
    pub(super) destination_rules: Objects<DestinationRule>,
    pub(super) peer_authentications: Objects<PeerAuthentication>,
    pub(super) envoy_filters: Objects<EnvoyFilter>,
    pub(super) config_maps: Objects<ConfigMap>,
    pub(super) slices: Objects<EndpointSlice>,
    slices_of: ByName<ByName<Vec<Arc<EndpointSlice>>>>,
    entries_of: HashMap<Host, Vec<Arc<ServiceEntry>>, RandomState>,
    /// ServiceEntries with a `workloadSelector`.
    pub(super) selecting: Objects<ServiceEntry>,
    pods_by_ip: HashMap<IpAddr, Arc<Pod>, RandomState>,
    users: HashMap<u64, Vec<Backing>, RandomState>,
    /// Endpoints of ServiceEntries and WorkloadEntries that are host names.
    pub(super) names: Names,
}

/// What names endpoints of a Service.
#[derive(Clone, Debug)]
pub(super) enum Backing {
    Slice(Arc<EndpointSlice>),
    Endpoints(Arc<Endpoints>),
}

/// What defines a host.
#[derive(Debug)]
pub(super) enum Definition<'w> {
    Service(&'w Arc<Service>, Vec<&'w Arc<ServiceEntry>>),
    Entry(&'w Arc<ServiceEntry>, Vec<&'w Arc<ServiceEntry>>),
}

impl World {
    /// An empty world.
    pub(super) fn new(identity: &Identity) -> Self {
        Self {
            domain: format!(".svc.{}", identity.cluster_domain.to_ascii_lowercase()),
            mesh: Mesh::new(&Objects::default(), identity),
            ..Self::default()
        }
    }

    /// Reads the mesh's ConfigMap again; true when it says something else than before.
    pub(super) fn read_mesh(&mut self, identity: &Identity) -> bool {
        let mesh = Mesh::new(&self.config_maps, identity);
        let changed = std::mem::replace(&mut self.mesh, mesh) != self.mesh;
        if changed {
            self.read_network();
        }
        changed
    }

    /// The host of a Service.
    pub(super) fn host_of(&self, namespace: &str, name: &str) -> Option<Host> {
        Host::parse(&[name, ".", namespace, &self.domain].concat())
    }

    /// The namespace and name that a Service of this host would have.
    pub(super) fn service_of<'h>(&self, host: &'h str) -> Option<(&'h str, &'h str)> {
        let (name, namespace) = host.strip_suffix(&*self.domain)?.split_once('.')?;
        Some((namespace, name))
    }

    /// What defines `host`: a Service before ServiceEntries, those in the order in which they
    /// are preferred. The rest is what it puts in the shade.
    pub(super) fn definition(&self, host: &str, own_namespace: &str) -> Option<Definition<'_>> {
        let mut entries: Vec<_> = self.entries_of.get(host).into_iter().flatten().collect();
        let rank =
            |entry: &ServiceEntry| !self.mesh.entry_visibility(entry).visible_to(own_namespace);
        entries.sort_by(|a, b| (rank(a), age(&a.meta)).cmp(&(rank(b), age(&b.meta))));
        let service = self.service_of(host).and_then(|(ns, name)| self.services.get(ns, name));
        if let Some(service) = service.filter(|service| is_served(service)) {
            return Some(Definition::Service(service, entries));
        }
        let first = (!entries.is_empty()).then(|| entries.remove(0))?;
        Some(Definition::Entry(first, entries))
    }

    /// The ServiceEntries that have this host.
    pub(super) fn entries_of(&self, host: &str) -> &[Arc<ServiceEntry>] {
        self.entries_of.get(host).map_or(&[], Vec::as_slice)
    }

    /// Every host that something defines.
    pub(super) fn hosts(&self) -> Vec<Host> {
        let services = self.services.iter().filter(|service| is_served(service));
        let services = services.filter_map(|s| self.host_of(&s.meta.namespace, &s.meta.name));
        let entries = self.entries_of.keys().cloned();
        let mut hosts: Vec<Host> = services.chain(entries).collect();
        hosts.sort_unstable();
        hosts.dedup();
        hosts
    }

    /// The slices of a Service, by name.
    pub(super) fn slices_of(&self, namespace: &str, service: &str) -> &[Arc<EndpointSlice>] {
        let slices = self.slices_of.get(namespace).and_then(|services| services.get(service));
        slices.map_or(&[], Vec::as_slice)
    }

    /// The pod that an endpoint names or, when it names none, the one that has its address.
    pub(super) fn pod_of(
        &self,
        namespace: &str,
        name: Option<&str>,
        ip: IpAddr,
    ) -> Option<&Arc<Pod>> {
        match name {
            Some(name) => self.pods.get(namespace, name),
            None => self.pods_by_ip.get(&ip),
        }
    }

    /// The cluster's own network.
    pub(super) fn network(&self) -> &str {
        &self.network
    }

    /// Reads the cluster's network again; true when it is another than before.
    pub(super) fn read_network(&mut self) -> bool {
        let root = self.namespaces.get("", &self.mesh.root_namespace);
        let label = root.and_then(|namespace| namespace.meta.labels.get(NETWORK));
        let network = label.unwrap_or_default().into();
        std::mem::replace(&mut self.network, network) != self.network
    }

    /// True for the mesh's root namespace.
    pub(super) fn is_root(&self, namespace: &str) -> bool {
        *self.mesh.root_namespace == *namespace
    }

    /// What names endpoints that depend on this pod, by its name or its addresses.
    pub(super) fn users_of<'w>(&'w self, pod: &Pod) -> impl Iterator<Item = &'w Backing> {
        let name = self.users_key((&*pod.meta.namespace, &*pod.meta.name));
        let keys = std::iter::once(name).chain(pod.ips().map(|ip| self.users_key(ip)));
        let keys: Vec<u64> = keys.collect();
        keys.into_iter().filter_map(|key| self.users.get(&key)).flatten()
    }

    /// A key of `users`. Two pods may share one: that costs a service looked at for nothing.
    fn users_key(&self, of: impl Hash) -> u64 {
        self.users.hasher().hash_one(of)
    }
}

/// True for a Service that can have endpoints.
pub(super) fn is_served(service: &Service) -> bool {
    use crate::manifests::kinds::service::ServiceType;
    service.spec.service_type != ServiceType::ExternalName
}

/// The indexes: each object is entered when it comes and taken out when it goes.
impl World {
    pub(super) fn index_slice(&mut self, slice: &Arc<EndpointSlice>, present: bool) {
        let Some(service) = slice.service() else { return };
        let services = self.slices_of.entry(Arc::clone(&slice.meta.namespace)).or_default();
        if present {
            let slices = services.entry(service.into()).or_insert_with(|| Vec::with_capacity(1));
            let at = slices.partition_point(|other| other.meta.name < slice.meta.name);
            slices.insert(at, Arc::clone(slice));
        } else if let Some(slices) = services.get_mut(service) {
            slices.retain(|other| !Arc::ptr_eq(other, slice));
            if slices.is_empty() {
                services.remove(service);
            }
        }
        let backing = Backing::Slice(Arc::clone(slice));
        let namespace = &*slice.meta.namespace;
        for endpoint in &slice.endpoints {
            let ip = endpoint.addresses.first().and_then(super::kubernetes::ip);
            self.index_user(namespace, endpoint.pod.as_deref(), ip, &backing, present);
        }
    }

    pub(super) fn index_endpoints(&mut self, endpoints: &Arc<Endpoints>, present: bool) {
        let backing = Backing::Endpoints(Arc::clone(endpoints));
        let namespace = &*endpoints.meta.namespace;
        for subset in &endpoints.subsets {
            for address in subset.addresses.iter().chain(&subset.not_ready_addresses) {
                let pod = address.pod.as_deref();
                self.index_user(namespace, pod, Some(address.ip), &backing, present);
            }
        }
    }

    fn index_user(
        &mut self,
        namespace: &str,
        pod: Option<&str>,
        ip: Option<IpAddr>,
        backing: &Backing,
        present: bool,
    ) {
        let key = match (pod, ip) {
            (Some(pod), _) => self.users_key((namespace, pod)),
            (None, Some(ip)) => self.users_key(ip),
            (None, None) => return,
        };
        let users = self.users.entry(key).or_insert_with(|| Vec::with_capacity(1));
        if present {
            users.push(backing.clone());
        } else {
            users.retain(|other| !other.is(backing));
        }
        if users.is_empty() {
            self.users.remove(&key);
        }
    }

    pub(super) fn index_pod(&mut self, pod: &Arc<Pod>, present: bool) {
        let over = matches!(pod.status.phase, Phase::Succeeded | Phase::Failed);
        if over || pod.spec.host_network {
            return;
        }
        for ip in pod.ips() {
            if present {
                self.pods_by_ip.insert(ip, Arc::clone(pod));
            } else if self.pods_by_ip.get(&ip).is_some_and(|other| Arc::ptr_eq(other, pod)) {
                self.pods_by_ip.remove(&ip);
            }
        }
    }

    pub(super) fn index_entry(&mut self, entry: &Arc<ServiceEntry>, present: bool) {
        self.names.index_entry(entry, present);
        for host in &entry.spec.hosts {
            let HostPattern::Exact(host) = &host.0 else { continue };
            if present {
                let entries = self.entries_of.entry(host.clone()).or_default();
                if !entries.iter().any(|other| Arc::ptr_eq(other, entry)) {
                    entries.push(Arc::clone(entry));
                }
            } else if let Some(entries) = self.entries_of.get_mut(host) {
                entries.retain(|other| !Arc::ptr_eq(other, entry));
                if entries.is_empty() {
                    self.entries_of.remove(host);
                }
            }
        }
        if present && entry.spec.workload_selector.is_some() {
            self.selecting.put(&entry.meta, Arc::clone(entry));
        } else {
            self.selecting.remove(&entry.meta.namespace, &entry.meta.name);
        }
    }
}

impl Backing {
    fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Slice(a), Self::Slice(b)) => Arc::ptr_eq(a, b),
            (Self::Endpoints(a), Self::Endpoints(b)) => Arc::ptr_eq(a, b),
            (Self::Slice(_), Self::Endpoints(_)) | (Self::Endpoints(_), Self::Slice(_)) => false,
        }
    }

    /// Namespace and name of the Service.
    pub(super) fn service(&self) -> Option<(&str, &str)> {
        match self {
            Self::Slice(slice) => Some((&slice.meta.namespace, slice.service()?)),
            Self::Endpoints(endpoints) => Some((&endpoints.meta.namespace, &endpoints.meta.name)),
        }
    }
}
