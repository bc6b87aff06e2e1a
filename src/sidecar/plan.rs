//! Which addresses are listened on, and what stands behind each.
//!
//! Pure: ServiceEntries and what the catalog made of them in, a plan out. Must not know: sockets,
//! when anything changes.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use rustls::pki_types::ServerName;

use crate::{
    certs::NamePattern,
    discovery::{Catalog, Finding},
    manifests::{
        Kind,
        kinds::{
            ServiceEntry,
            destination_rule::ClientTlsMode,
            service_entry::{Location, single_address},
        },
    },
    routing::{Host, HostPattern, ServiceRoutes, SubsetKey},
};

/// What is behind one listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The service's host.
    pub host: Host,
    /// The service port.
    pub port: u16,
    /// The subset asked for; empty: the whole service.
    pub subset: Arc<str>,
    /// The SNI that asks for it.
    pub server_name: ServerName<'static>,
    /// Names that the endpoint's certificate may have; empty: any that leads to our root.
    pub servers: Vec<NamePattern>,
    /// `namespace/name` of the ServiceEntry.
    pub entry: Arc<str>,
}

impl Target {
    /// What the table is asked for.
    #[must_use]
    pub fn key(&self) -> SubsetKey<'_> {
        SubsetKey { port: self.port, subset: &self.subset, host: self.host.as_str() }
    }
}

/// All listeners.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// By the address listened on.
    pub listeners: BTreeMap<SocketAddr, Arc<Target>>,
    /// What is not listened on, and other remarks.
    pub findings: Vec<Finding>,
}

/// Plans the listeners of all entries that the catalog serves. Where two want one address and
/// port, the older has it.
#[must_use]
pub fn plan<'e>(
    catalog: &Catalog,
    entries: impl Iterator<Item = &'e ServiceEntry>,
    subsets: &BTreeMap<Host, Arc<str>>,
) -> Plan {
    let mut entries: Vec<&ServiceEntry> = entries.collect();
    let age = |entry: &ServiceEntry| {
        let meta = &entry.meta;
        (meta.created, Arc::clone(&meta.namespace), Arc::clone(&meta.name))
    };
    entries.sort_by_cached_key(|entry| age(entry));
    let mut planner = Planner { catalog, subsets, plan: Plan::default() };
    for entry in entries {
        planner.entry(entry);
    }
    planner.plan
}

struct Planner<'a> {
    catalog: &'a Catalog,
    subsets: &'a BTreeMap<Host, Arc<str>>,
    plan: Plan,
}

impl Planner<'_> {
    fn entry(&mut self, entry: &ServiceEntry) {
        let own = &self.catalog.identity().namespace;
        if !self.catalog.entry_visibility(entry).visible_to(own) {
            return;
        }
        if entry.spec.location != Location::MeshInternal {
            let message = "MESH_EXTERNAL is outside the mesh: nothing listens for it";
            return self.note(entry, "spec.location", message);
        }
        let table = Arc::clone(self.catalog.table());
        let in_force = |host: &HostPattern| {
            let HostPattern::Exact(host) = host else { return None };
            let routes = table.service(host.as_str()).filter(|routes| routes.exposed)?;
            let (service, meta) = (&routes.service, &entry.meta);
            (service.name == meta.name && service.namespace == meta.namespace).then_some(routes)
        };
        let mut hosts = entry.spec.hosts.iter().filter_map(|host| in_force(&host.0));
        let Some(routes) = hosts.next() else { return };
        let others: Vec<String> = hosts.map(|routes| routes.service.host.to_string()).collect();
        if !others.is_empty() {
            let first = &routes.service.host;
            let others = others.join(", ");
            let message = format!("{first} is reached at its addresses, {others} at none");
            self.note(entry, "spec.hosts", message);
        }
        let mut is_reachable = false;
        for text in &entry.spec.addresses {
            match single_address(text) {
                Ok(ip) => {
                    is_reachable = true;
                    if is_link_local(ip) {
                        let message = format!("{text} is not listened on: it is link-local");
                        self.note(entry, "spec.addresses", message);
                    } else {
                        self.address(entry, ip, routes);
                    }
                }
                Err(why) => {
                    let message = format!("{text} is not listened on: {why}");
                    self.note(entry, "spec.addresses", message);
                }
            }
        }
        if !is_reachable {
            let message = "holds no single address: nothing listens for it; give it one";
            self.note(entry, "spec.addresses", message);
        }
    }

    /// Every port of the service at one address.
    fn address(&mut self, entry: &ServiceEntry, ip: IpAddr, routes: &ServiceRoutes) {
        let host = &routes.service.host;
        let subset = self.subsets.get(host).cloned().unwrap_or_else(|| Arc::from(""));
        for route in routes.routes.iter().filter(|route| route.subset.is_empty()) {
            let address = SocketAddr::new(ip, route.port);
            let Some(target) = self.target(entry, routes, route.port, &subset) else { continue };
            match self.plan.listeners.entry(address) {
                Entry::Vacant(vacant) => _ = vacant.insert(Arc::new(target)),
                Entry::Occupied(other) => {
                    let other = &other.get().entry;
                    if **other != *target.entry {
                        let message = format!("{address} is that of {other}, older: not ours");
                        self.note(entry, "spec.addresses", message);
                    }
                }
            }
        }
    }

    fn target(
        &mut self,
        entry: &ServiceEntry,
        routes: &ServiceRoutes,
        port: u16,
        subset: &Arc<str>,
    ) -> Option<Target> {
        let host = &routes.service.host;
        let has =
            |subset: &str| routes.routes.iter().any(|r| r.port == port && *r.subset == *subset);
        if !has(subset) {
            let message = format!(
                "{host} has no subset {subset} at port {port}: connections are refused until a \
                 DestinationRule has it"
            );
            self.note(entry, "spec.hosts", message);
        }
        let catalog = self.catalog;
        let tls = catalog.client_tls(&routes.service, subset, port);
        if tls.is_some_and(|tls| tls.mode != ClientTlsMode::IstioMutual) {
            let message = format!(
                "{host} port {port} has a DestinationRule with another tls.mode than ISTIO_MUTUAL: \
                 its endpoints are left out"
            );
            self.note(entry, "spec.hosts", message);
        }
        let of_rule = tls.map_or(&[][..], |tls| &tls.subject_alt_names);
        let names = if of_rule.is_empty() { &entry.spec.subject_alt_names } else { of_rule };
        let key = SubsetKey { port, subset, host: host.as_str() }.to_string();
        let sni = tls.and_then(|tls| tls.sni.as_deref()).unwrap_or(&key);
        let Ok(server_name) = ServerName::try_from(sni.to_owned()) else {
            let message = format!("{sni} cannot be sent as a server name: it is too long, or none");
            self.note(entry, "spec.hosts", message);
            return None;
        };
        Some(Target {
            host: host.clone(),
            port,
            subset: Arc::clone(subset),
            server_name,
            servers: names.iter().map(|name| NamePattern::Exact(name.clone())).collect(),
            entry: format!("{}/{}", entry.meta.namespace, entry.meta.name).into(),
        })
    }

    fn note(&mut self, entry: &ServiceEntry, field: &'static str, message: impl Into<String>) {
        self.plan.findings.push(Finding::new(Kind::ServiceEntry, &entry.meta, field, message));
    }
}

/// True for an address of one link only, such as that of a cloud's metadata service.
fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests;
