//! Host names that stand where an endpoint's address would: who uses them, and what they resolve
//! to.
//!
//! A name of a Service of this cluster is what the manifests say of that Service; every other one
//! waits for an answer from outside. Must not know: how names are looked up.

use std::{
    collections::{BTreeSet, HashMap},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use ahash::RandomState;

use super::{
    Identity,
    change::Affected,
    kubernetes,
    pool::Pools,
    service_entry,
    world::{World, is_served},
};
use crate::{
    manifests::kinds::{
        Service, ServiceEntry, WorkloadEntry,
        host::Address,
        service_entry::{Resolution, Workload},
    },
    routing::{Host, HostPattern},
};

/// The names in use.
#[derive(Debug, Default)]
pub(super) struct Names {
    users: HashMap<Arc<str>, Vec<User>, RandomState>,
    answers: HashMap<Arc<str>, Arc<[IpAddr]>, RandomState>,
}

/// An object with an endpoint that is a name.
#[derive(Clone, Debug, PartialEq, Eq)]
enum User {
    Entry(Arc<ServiceEntry>),
    Workload(Arc<WorkloadEntry>),
}

impl Names {
    /// What the outside says of a name. Nobody asks: forgotten at once.
    pub(super) fn answer(&mut self, name: &str, addresses: &Arc<[IpAddr]>) {
        if let Some((name, _)) = self.users.get_key_value(name) {
            self.answers.insert(Arc::clone(name), Arc::clone(addresses));
        }
    }

    pub(super) fn index_entry(&mut self, entry: &Arc<ServiceEntry>, present: bool) {
        let user = User::Entry(Arc::clone(entry));
        for name in names_of(entry) {
            self.index(&name, &user, present);
        }
    }

    pub(super) fn index_workload(&mut self, entry: &Arc<WorkloadEntry>, present: bool) {
        if let Some(name) = name_of(&entry.spec) {
            self.index(&name, &User::Workload(Arc::clone(entry)), present);
        }
    }

    fn index(&mut self, name: &str, user: &User, present: bool) {
        if present {
            let users = self.users.entry(name.into()).or_default();
            if !users.contains(user) {
                users.push(user.clone());
            }
        } else if let Some(users) = self.users.get_mut(name) {
            users.retain(|other| other != user);
            if users.is_empty() {
                self.users.remove(name);
                self.answers.remove(name);
            }
        }
    }
}

impl World {
    /// The addresses of a name at a port; `None`: nobody has said yet.
    pub(super) fn resolve(
        &self,
        name: &str,
        port: u16,
        identity: &Identity,
        pools: &mut Pools,
    ) -> Option<Vec<SocketAddr>> {
        let name = canonical(name);
        if let Some(service) = self.service_named(&name) {
            let host = self.host_of(&service.meta.namespace, &service.meta.name)?;
            return Some(of_service(service, &host, port, (self, identity), pools));
        }
        let answer = self.names.answers.get(&*name)?;
        Some(answer.iter().map(|ip| SocketAddr::new(*ip, port)).collect())
    }

    /// Names that nothing in the manifests answers.
    pub(super) fn names_wanted(&self) -> BTreeSet<Arc<str>> {
        let names = self.names.users.keys();
        names.filter(|name| self.service_named(name).is_none()).cloned().collect()
    }

    /// Takes in whoever uses this name.
    pub(super) fn affected_by_name(&self, name: &str, affected: &mut Affected) {
        for user in self.names.users.get(name).into_iter().flatten() {
            match user {
                User::Entry(entry) => affected.add_entry(entry),
                User::Workload(entry) => {
                    let labels = service_entry::labels_of(entry);
                    self.affected_by_workload(&entry.meta.namespace, &labels, affected);
                }
            }
        }
    }

    /// Takes in whoever names one of the hosts that are affected already.
    pub(super) fn affected_by_hosts(&self, affected: &mut Affected) {
        if self.names.users.is_empty() {
            return;
        }
        let named = |host: &&Host| self.names.users.contains_key(host.as_str());
        let hosts: Vec<Host> = affected.hosts.iter().filter(named).cloned().collect();
        for host in hosts {
            self.affected_by_name(host.as_str(), affected);
        }
    }

    fn service_named(&self, name: &str) -> Option<&Arc<Service>> {
        let (namespace, service) = self.service_of(name)?;
        self.services.get(namespace, service).filter(|service| is_served(service))
    }
}

/// A Service as an address: its endpoints behind the port or, where the manifests name none, its
/// cluster IP, which is the node's business to spread.
fn of_service(
    service: &Arc<Service>,
    host: &Host,
    port: u16,
    at: (&World, &Identity),
    pools: &mut Pools,
) -> Vec<SocketAddr> {
    let facts = kubernetes::facts(service, host, at, pools);
    let behind = facts.ports.into_iter().filter(|facts| facts.number == port);
    let addresses: Vec<_> =
        behind.flat_map(|facts| facts.candidates).map(|candidate| candidate.address).collect();
    if !addresses.is_empty() {
        return addresses;
    }
    let spec = &service.spec;
    let first = spec.cluster_ip.iter().filter(|_| spec.cluster_ips.is_empty());
    let ips = spec.cluster_ips.iter().chain(first).filter_map(|ip| ip.parse().ok());
    ips.map(|ip| SocketAddr::new(ip, port)).collect()
}

/// True when endpoints of this resolution may be names.
pub(super) fn is_resolved(resolution: Resolution) -> bool {
    match resolution {
        Resolution::Dns | Resolution::DnsRoundRobin | Resolution::DynamicDns => true,
        Resolution::None | Resolution::Static => false,
    }
}

/// Lower case and without the dot at the end: as names are compared.
pub(super) fn canonical(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase()
}

fn names_of(entry: &ServiceEntry) -> Vec<String> {
    if !is_resolved(entry.spec.resolution) {
        return Vec::new();
    }
    if stands_for_itself(entry) {
        let exact = |host: &HostPattern| match host {
            HostPattern::Exact(host) => Some(host.to_string()),
            HostPattern::Any | HostPattern::Suffix(_) => None,
        };
        return entry.spec.hosts.iter().filter_map(|host| exact(&host.0)).collect();
    }
    entry.spec.endpoints.iter().filter_map(name_of).collect()
}

/// Without endpoints, DNS means the host itself.
pub(super) fn stands_for_itself(entry: &ServiceEntry) -> bool {
    let spec = &entry.spec;
    is_resolved(spec.resolution) && spec.endpoints.is_empty() && spec.workload_selector.is_none()
}

fn name_of(workload: &Workload) -> Option<String> {
    match &workload.address {
        Some(Address::Name(name)) => Some(canonical(name)),
        Some(Address::Ip(_) | Address::Unix(_)) | None => None,
    }
}
