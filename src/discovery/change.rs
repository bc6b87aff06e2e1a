//! One change of an object, and which hosts have to be looked at again because of it.
//!
//! Must not know: how a host is translated.

use std::{collections::HashSet, net::IpAddr, sync::Arc};

use ahash::RandomState;

use super::world::World;
use crate::{
    manifests::{
        Changes, Kind, Object, ObjectRef, Objects,
        kinds::{
            DestinationRule, EndpointSlice, Endpoints, Labels, Node, Pod, ServiceEntry,
            WorkloadEntry,
        },
    },
    routing::{Host, HostPattern},
};

/// What happened to one object.
#[derive(Clone, Debug)]
pub enum Change {
    /// It is new or different.
    Put(Object),
    /// It is gone.
    Remove(ObjectRef),
    /// A name of [`super::Catalog::names_wanted`] has these addresses now.
    Resolved(Arc<str>, Arc<[IpAddr]>),
}

impl Change {
    /// The changes that a store reports, with the objects now in force.
    #[must_use]
    pub fn of_store(objects: &Objects, changes: &Changes) -> Vec<Self> {
        let change = |reference: &ObjectRef| match objects.get(reference) {
            Some(object) => Self::Put(object),
            None => Self::Remove(reference.clone()),
        };
        changes.iter().map(change).collect()
    }
}

/// What changes bear on.
#[derive(Debug, Default)]
pub(super) struct Affected {
    /// Every host.
    pub(super) all: bool,
    pub(super) hosts: HashSet<Host, RandomState>,
    /// The Gateways are to be read again.
    pub(super) exposure: bool,
    /// The DestinationRules are to be read again.
    pub(super) rules: bool,
    /// The PeerAuthentications are to be read again.
    pub(super) peers: bool,
    /// The mesh's ConfigMap is to be read again.
    pub(super) mesh: bool,
}

impl Affected {
    /// True when nothing that matters changed.
    pub(super) fn is_nothing(&self) -> bool {
        !self.all && self.hosts.is_empty() && !self.exposure && !self.rules && !self.peers
    }
}

/// Puts, replaces and removes alike: the old object, the new one, or both. One that is as it was
/// is left where it is: the indexes hold that very one.
macro_rules! swap {
    ($objects:expr, $new:expr, $reference:expr) => {{
        if $objects.get(&$reference.namespace, &$reference.name) == $new {
            return;
        }
        match $new {
            Some(new) => $objects.put(&new.meta, Arc::clone(new)),
            None => $objects.remove(&$reference.namespace, &$reference.name),
        }
    }};
}

impl World {
    /// Takes a change in and notes what it bears on.
    pub(super) fn apply(&mut self, change: &Change, affected: &mut Affected) {
        let (reference, object) = match change {
            Change::Put(object) => (object.reference(), Some(object)),
            Change::Remove(reference) => (reference.clone(), None),
            Change::Resolved(name, addresses) => {
                self.names.answer(name, addresses);
                return self.affected_by_name(name, affected);
            }
        };
        macro_rules! new {
            ($kind:ident) => {
                match object {
                    Some(Object::$kind(new)) => Some(new),
                    _ => None,
                }
            };
        }
        match reference.kind {
            Kind::Service => {
                swap!(self.services, new!(Service), reference);
                affected.hosts.extend(self.host_of(&reference.namespace, &reference.name));
            }
            Kind::EndpointSlice => self.swap_slice(new!(EndpointSlice), &reference, affected),
            Kind::Endpoints => self.swap_endpoints(new!(Endpoints), &reference, affected),
            Kind::Pod => self.swap_pod(new!(Pod), &reference, affected),
            Kind::Node => {
                let new = new!(Node);
                let old = swap!(self.nodes, new, reference);
                self.affected_by_node(old.as_ref(), new, affected);
            }
            Kind::Namespace => {
                swap!(self.namespaces, new!(Namespace), reference);
                affected.all |= self.read_network();
            }
            Kind::Gateway => {
                swap!(self.gateways, new!(Gateway), reference);
                affected.exposure = true;
            }
            Kind::ServiceEntry => self.swap_entry(new!(ServiceEntry), &reference, affected),
            Kind::DestinationRule => {
                let new = new!(DestinationRule);
                let old = swap!(self.destination_rules, new, reference);
                affected.rules = true;
                old.iter().chain(new).for_each(|rule| self.affected_by_rule(rule, affected));
            }
            Kind::WorkloadEntry => {
                self.swap_workload_entry(new!(WorkloadEntry), &reference, affected)
            }
            Kind::PeerAuthentication => {
                swap!(self.peer_authentications, new!(PeerAuthentication), reference);
                affected.peers = true;
                self.affected_by_peer(&reference.namespace, affected);
            }
            Kind::ConfigMap => {
                swap!(self.config_maps, new!(ConfigMap), reference);
                affected.mesh = true;
            }
            Kind::EnvoyFilter => {
                swap!(self.envoy_filters, new!(EnvoyFilter), reference);
            }
        }
    }

    fn swap_slice(
        &mut self,
        new: Option<&Arc<EndpointSlice>>,
        reference: &ObjectRef,
        affected: &mut Affected,
    ) {
        let old = swap!(self.slices, new, reference);
        old.iter().for_each(|old| self.index_slice(old, false));
        new.into_iter().for_each(|new| self.index_slice(new, true));
        for slice in old.iter().chain(new) {
            let service = slice.service().unwrap_or_default();
            affected.hosts.extend(self.host_of(&slice.meta.namespace, service));
        }
    }

    fn swap_endpoints(
        &mut self,
        new: Option<&Arc<Endpoints>>,
        reference: &ObjectRef,
        affected: &mut Affected,
    ) {
        let old = swap!(self.endpoints, new, reference);
        old.iter().for_each(|old| self.index_endpoints(old, false));
        new.into_iter().for_each(|new| self.index_endpoints(new, true));
        affected.hosts.extend(self.host_of(&reference.namespace, &reference.name));
    }

    fn swap_pod(&mut self, new: Option<&Arc<Pod>>, reference: &ObjectRef, affected: &mut Affected) {
        let old = swap!(self.pods, new, reference);
        old.iter().for_each(|old| self.index_pod(old, false));
        new.into_iter().for_each(|new| self.index_pod(new, true));
        old.iter().chain(new).for_each(|pod| self.affected_by_pod(pod, affected));
    }

    fn swap_entry(
        &mut self,
        new: Option<&Arc<ServiceEntry>>,
        reference: &ObjectRef,
        affected: &mut Affected,
    ) {
        let old = swap!(self.entries, new, reference);
        old.iter().for_each(|old| self.index_entry(old, false));
        new.into_iter().for_each(|new| self.index_entry(new, true));
        old.iter().chain(new).for_each(|entry| affected.add_entry(entry));
    }

    fn swap_workload_entry(
        &mut self,
        new: Option<&Arc<WorkloadEntry>>,
        reference: &ObjectRef,
        affected: &mut Affected,
    ) {
        let old = swap!(self.workload_entries, new, reference);
        old.iter().for_each(|old| self.names.index_workload(old, false));
        new.into_iter().for_each(|new| self.names.index_workload(new, true));
        for entry in old.iter().chain(new) {
            let labels = super::service_entry::labels_of(entry);
            self.affected_by_workload(&entry.meta.namespace, &labels, affected);
        }
    }

    fn affected_by_pod(&self, pod: &Pod, affected: &mut Affected) {
        for backing in self.users_of(pod) {
            let Some((namespace, name)) = backing.service() else { continue };
            affected.hosts.extend(self.host_of(namespace, name));
        }
        self.affected_by_workload(&pod.meta.namespace, &pod.meta.labels, affected);
    }

    /// ServiceEntries that select workloads of these labels.
    pub(super) fn affected_by_workload(
        &self,
        namespace: &str,
        labels: &Labels,
        affected: &mut Affected,
    ) {
        for entry in self.selecting.in_namespace(namespace) {
            let selector = entry.spec.workload_selector.as_ref();
            if selector.is_some_and(|selector| labels.matches(&selector.labels)) {
                affected.add_entry(entry);
            }
        }
    }

    fn affected_by_node(
        &self,
        old: Option<&Arc<Node>>,
        new: Option<&Arc<Node>>,
        affected: &mut Affected,
    ) {
        let locality = |node: Option<&Arc<Node>>| node.map(|n| super::pods::node_locality(n));
        let Some(node) = old.or(new) else { return };
        if locality(old) == locality(new) {
            return;
        }
        let name = &node.meta.name;
        for pod in self.pods.iter().filter(|pod| pod.spec.node_name.as_ref() == Some(name)) {
            self.affected_by_pod(pod, affected);
        }
        // An endpoint without a known pod names its node itself.
        for slice in self.slices.iter() {
            if slice.endpoints.iter().any(|endpoint| endpoint.node_name.as_ref() == Some(name)) {
                let service = slice.service().unwrap_or_default();
                affected.hosts.extend(self.host_of(&slice.meta.namespace, service));
            }
        }
        for endpoints in self.endpoints.iter() {
            let mut addresses = endpoints.subsets.iter().flat_map(|subset| &subset.addresses);
            if addresses.any(|address| address.node_name.as_ref() == Some(name)) {
                let meta = &endpoints.meta;
                affected.hosts.extend(self.host_of(&meta.namespace, &meta.name));
            }
        }
    }

    fn affected_by_rule(&self, rule: &DestinationRule, affected: &mut Affected) {
        match &rule.spec.host.0 {
            HostPattern::Any | HostPattern::Suffix(_) => affected.all = true,
            HostPattern::Exact(host) if host.as_str().contains('.') => {
                affected.hosts.insert(host.clone());
            }
            HostPattern::Exact(host) => {
                affected.hosts.extend(self.host_of(&rule.meta.namespace, host.as_str()));
            }
        }
    }

    fn affected_by_peer(&self, namespace: &str, affected: &mut Affected) {
        if self.is_root(namespace) {
            affected.all = true;
        }
        for service in self.services.in_namespace(namespace) {
            affected.hosts.extend(self.host_of(namespace, &service.meta.name));
        }
        self.entries.in_namespace(namespace).for_each(|entry| affected.add_entry(entry));
    }
}

impl Affected {
    pub(super) fn add_entry(&mut self, entry: &ServiceEntry) {
        let exact = |host: &HostPattern| match host {
            HostPattern::Exact(host) => Some(host.clone()),
            HostPattern::Any | HostPattern::Suffix(_) => None,
        };
        self.hosts.extend(entry.spec.hosts.iter().filter_map(|host| exact(&host.0)));
    }
}
