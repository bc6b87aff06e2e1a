//! What one cluster offers to others: its Services, and ServiceEntries that are asked for, as its
//! gateway would answer for them.
//!
//! Judged by `discovery::Catalog`, the same that decides for a running gateway. Must not know:
//! other clusters, addresses, files.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    Remark,
    names::{HOST_BYTES_MAX, is_label},
};
use crate::{
    discovery::{Catalog, Change, Explanation, Identity, Reason, explain::Question},
    manifests::{
        Changes, Kind, ObjectRef, Store,
        kinds::{Labels, Meta, Service, ServiceEntry, service::Transport, service_entry::Protocol},
        kubernetes::Health,
    },
    routing::{self, Host, ServiceRoutes, SharedTable, SubsetKey},
};

mod port;

pub use port::Port;

/// A service of one cluster, as others may call it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// The Service, or the ServiceEntry.
    pub service: ObjectRef,
    /// Its ports, by number; never empty.
    pub ports: Vec<Port>,
    /// Names of its subsets, in lower case, sorted.
    pub subsets: Vec<Arc<str>>,
}

/// What one cluster offers now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// By the host to call.
    pub offers: BTreeMap<String, Offer>,
    /// What is not offered, and why.
    pub remarks: Vec<Remark>,
    /// Some object is broken, so that what is missing here may be only unreadable.
    pub broken: bool,
}

impl View {
    /// Without Gateway objects a cluster offers nothing. Where its API has no such kind, it may only
    /// be starting: what is missing then is not gone.
    pub fn doubt(&mut self, cluster: &str, api: Option<&Health>) {
        if api.is_some_and(|api| api.is_absent(Kind::Gateway)) {
            self.broken = true;
            self.remarks.push(Remark::warning(format!(
                "{cluster}: its API has no kind Gateway: it offers nothing now, and what was \
                 written of it before stays"
            )));
        }
    }
}

/// Which Services are meant, and with an annotation which ServiceEntries.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Labels that they must have.
    pub labels: Labels,
    /// Annotations that they must have; without a value, any will do.
    pub annotations: Vec<(String, Option<String>)>,
}

impl Wanted {
    fn covers(&self, meta: &Meta) -> bool {
        let annotated = |(key, value): &(String, Option<String>)| {
            let found = meta.annotations.get(key);
            found.is_some_and(|found| value.as_deref().is_none_or(|value| value == found))
        };
        meta.labels.matches(&self.labels) && self.annotations.iter().all(annotated)
    }
}

/// What may become an offer.
struct Candidate {
    reference: ObjectRef,
    /// The host by which others call it.
    asked: String,
    /// The host by which its cluster knows it.
    host: String,
    ports: Vec<Port>,
}

/// Follows the objects of one cluster.
#[derive(Debug)]
pub struct Reader {
    cluster: String,
    wanted: Wanted,
    catalog: Catalog,
}

impl Reader {
    /// For the cluster of this name. `gateway` is who its gateway is.
    #[must_use]
    pub fn new(cluster: &str, gateway: Identity, wanted: Wanted) -> Self {
        let catalog = Catalog::new(gateway, SharedTable::new().into());
        Self { cluster: cluster.to_owned(), wanted, catalog }
    }

    /// Takes changes in and says what the cluster offers now.
    pub fn take(&mut self, store: &Store, changes: &Changes) -> View {
        let objects = store.objects();
        self.catalog.apply(&Change::of_store(objects, changes));
        let problems = store.problems();
        let broken = problems.iter().any(|p| p.severity == crate::manifests::Severity::Error);
        let mut view = View { broken, ..View::default() };
        let services = objects.services.iter().filter(|service| self.wanted.covers(&service.meta));
        let services = services.flat_map(|service| self.of_service(service));
        // Few ServiceEntries are for others: only those that are asked for by their annotation.
        let entries = objects
            .service_entries
            .iter()
            .filter(|entry| !self.wanted.annotations.is_empty() && self.wanted.covers(&entry.meta));
        for candidate in services.chain(entries.flat_map(|entry| self.of_entry(entry))) {
            let offered = candidate.and_then(|candidate| self.offer(candidate, &mut view.remarks));
            match offered {
                Ok((host, offer)) => _ = view.offers.insert(host, offer),
                Err(remark) => view.remarks.push(remark),
            }
        }
        view
    }

    /// The DestinationRule in force for a Service.
    pub(super) fn rule_of(&self, service: &ObjectRef) -> Option<ObjectRef> {
        let host = self.host_of(service);
        let rule = self.catalog.rule_name(&host, &service.namespace)?;
        let (namespace, name) = rule.split_once('/')?;
        let kind = Kind::DestinationRule;
        Some(ObjectRef { kind, namespace: namespace.into(), name: name.into() })
    }

    fn host_of(&self, service: &ObjectRef) -> String {
        let domain = &self.catalog.identity().cluster_domain;
        format!("{}.{}.svc.{domain}", service.name, service.namespace).to_ascii_lowercase()
    }

    /// A Service under its own host, and its pods that have names of their own.
    fn of_service(&self, service: &Service) -> Vec<Result<Candidate, Remark>> {
        let whole = match self.whole(service) {
            Ok(whole) => whole,
            Err(remark) => return vec![Err(remark)],
        };
        let of_pod = |host: &Host| {
            let host = host.as_str().to_owned();
            let asked = self.catalog.exposure().alias(&host)?;
            let fits = asked.len() <= HOST_BYTES_MAX && asked.split('.').all(is_label);
            let (reference, ports) = (whole.reference.clone(), whole.ports.clone());
            fits.then_some(Ok(Candidate { reference, asked, host, ports }))
        };
        let pods = self.catalog.pods_of(&whole.host);
        let pods: Vec<_> = pods.iter().filter_map(of_pod).collect();
        std::iter::once(Ok(whole)).chain(pods).collect()
    }

    fn whole(&self, service: &Service) -> Result<Candidate, Remark> {
        let Meta { namespace, name, .. } = &service.meta;
        let (kind, namespace, name) = (Kind::Service, Arc::clone(namespace), Arc::clone(name));
        let reference = ObjectRef { kind, namespace, name };
        let host = self.host_of(&reference);
        let asked = self.catalog.exposure().alias(&host).unwrap_or_default();
        let fit = is_label(&reference.name) && is_label(&reference.namespace);
        if !fit || asked.len() > HOST_BYTES_MAX {
            let why = "its name and namespace cannot be a host, an object and a file of others";
            return Err(Remark::error(self.said(&reference, why)));
        }
        if self.catalog.is_cluster_local(&host) {
            let why = "the mesh's ConfigMap has it as clusterLocal";
            return Err(Remark::note(self.said(&reference, why)));
        }
        let tcp = service.spec.ports.iter().filter(|port| port.protocol == Transport::Tcp);
        Ok(Candidate { reference, asked, host, ports: tcp.map(Port::from).collect() })
    }

    /// A host of a ServiceEntry is called by its own name; none under the suffix is ever served.
    fn of_entry<'e>(
        &'e self,
        entry: &'e ServiceEntry,
    ) -> impl Iterator<Item = Result<Candidate, Remark>> + 'e {
        let Meta { namespace, name, .. } = &entry.meta;
        let (kind, namespace, name) = (Kind::ServiceEntry, Arc::clone(namespace), Arc::clone(name));
        let reference = ObjectRef { kind, namespace, name };
        entry.spec.hosts.iter().map(move |host| {
            let host = host.0.to_string();
            if host.len() > HOST_BYTES_MAX || !host.split('.').all(is_label) {
                let why = format!("{host} cannot be the name of an object and a file of others");
                return Err(Remark::error(self.said(&reference, &why)));
            }
            let tcp = entry.spec.ports.iter().filter(|port| port.protocol != Protocol::Udp);
            let (reference, asked) = (reference.clone(), host.clone());
            Ok(Candidate { reference, asked, host, ports: tcp.map(Port::from).collect() })
        })
    }

    fn said(&self, reference: &ObjectRef, why: &str) -> String {
        format!("{}: {reference} is not exported: {why}", self.cluster)
    }

    fn offer(
        &self,
        candidate: Candidate,
        remarks: &mut Vec<Remark>,
    ) -> Result<(String, Offer), Remark> {
        let Candidate { reference, asked, host, ports } = candidate;
        let routes = self.catalog.table().service(&host).filter(|routes| {
            // Another object of this host may be the one that is served.
            let routing::Service { name, namespace, .. } = &*routes.service;
            let exposed = if asked == host { routes.exposed } else { routes.exposed_as_alias };
            exposed && (name, namespace) == (&reference.name, &reference.namespace)
        });
        let Some(routes) = routes else {
            let port = ports.first().map_or(1, |port| port.number);
            return Err(Remark::note(self.said(&reference, &self.refusal(&asked, port))));
        };
        let (mut open, mut closed) = (Vec::new(), Vec::new());
        for port in ports {
            match shut(routes, port.number, &self.catalog) {
                None => open.push(port),
                Some(reason) => closed.push((port.number, reason)),
            }
        }
        if open.is_empty() {
            let why = closed.first().map_or_else(
                || "it has no TCP port".to_owned(),
                |(port, reason)| format!("port {port}: no endpoint can be served: {reason}"),
            );
            return Err(Remark::note(self.said(&reference, &why)));
        }
        for (port, reason) in closed {
            let text = format!("{}: {reference}: port {port} is not exported", self.cluster);
            remarks.push(Remark::note(format!("{text}: {reason}")));
        }
        open.sort_by_key(|port| port.number);
        let all = routes.routes.iter().map(|route| &route.subset);
        let mut subsets: Vec<_> = all.filter(|subset| !subset.is_empty()).cloned().collect();
        subsets.sort_unstable();
        subsets.dedup();
        Ok((asked, Offer { service: reference, ports: open, subsets }))
    }

    /// What the gateway would say of a name that it refuses.
    pub(super) fn refusal(&self, host: &str, port: u16) -> String {
        let server_name = SubsetKey { port, subset: "", host }.to_string();
        let question = Question { server_name: &server_name, ..Question::default() };
        let explanation = Explanation::new(&question, &self.catalog);
        match explanation.steps.iter().find(|step| !step.passed) {
            Some(step) => {
                let hints = step.hints.iter().map(|hint| format!("; {hint}")).collect::<String>();
                format!("{}: {}{hints}", step.gate.as_str(), step.seen)
            }
            None => "its gateway does not serve it".to_owned(),
        }
    }
}

/// Why a port has no endpoint now and will have none when its pods are ready. A port whose pods
/// only have to start is offered: names must not come and go with them.
fn shut(routes: &ServiceRoutes, port: u16, catalog: &Catalog) -> Option<String> {
    let of_port = routes.routes.iter().filter(|route| route.port == port);
    let served = of_port.map(|route| route.endpoints.load().endpoints().len()).sum::<usize>();
    let left_out = catalog.left_out_of(routes.service.host.as_str());
    let mut left_out = left_out.iter().filter(|out| out.port == port && out.subset.is_empty());
    let first = left_out.next()?;
    let passes = |reason: &Reason| matches!(reason, Reason::NotReady | Reason::Terminating);
    let lasting = !passes(&first.reason) && left_out.all(|out| !passes(&out.reason));
    (served == 0 && lasting).then(|| format!("{}: {}", first.place, first.reason))
}

#[cfg(test)]
mod tests;
