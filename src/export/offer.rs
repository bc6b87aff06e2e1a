//! What one cluster offers to others: its Services, as its gateway would answer for them.
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
        kinds::{
            Labels, Service,
            service::{ServicePort, Transport},
        },
    },
    routing::{ServiceRoutes, SharedTable, SubsetKey},
};

/// A service of one cluster, as others may call it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// The Service.
    pub service: ObjectRef,
    /// Its ports, by number; never empty.
    pub ports: Vec<Port>,
    /// Names of its subsets, in lower case, sorted.
    pub subsets: Vec<Arc<str>>,
}

/// A port of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// The number that a caller names; it travels in the server name.
    pub number: u16,
    /// Its name.
    pub name: String,
    /// As a ServiceEntry writes it.
    pub protocol: &'static str,
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

/// Which Services are meant.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Labels that they must have.
    pub labels: Labels,
    /// Annotations that they must have; without a value, any will do.
    pub annotations: Vec<(String, Option<String>)>,
}

impl Wanted {
    fn covers(&self, service: &Service) -> bool {
        let annotated = |(key, value): &(String, Option<String>)| {
            let found = service.meta.annotations.get(key);
            found.is_some_and(|found| value.as_deref().is_none_or(|value| value == found))
        };
        service.meta.labels.matches(&self.labels) && self.annotations.iter().all(annotated)
    }
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
        for service in objects.services.iter().filter(|service| self.wanted.covers(service)) {
            match self.offer(service, &mut view.remarks) {
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

    fn offer(
        &self,
        service: &Service,
        remarks: &mut Vec<Remark>,
    ) -> Result<(String, Offer), Remark> {
        let (namespace, name) = (&service.meta.namespace, &service.meta.name);
        let reference = ObjectRef {
            kind: Kind::Service,
            namespace: Arc::clone(namespace),
            name: Arc::clone(name),
        };
        let said = |why: &str| format!("{}: {reference} is not exported: {why}", self.cluster);
        let host = self.host_of(&reference);
        let asked = self.catalog.exposure().alias(&host).unwrap_or_default();
        if !is_label(name) || !is_label(namespace) || asked.len() > HOST_BYTES_MAX {
            let why = "its name and namespace cannot be a host, an object and a file of others";
            return Err(Remark::error(said(why)));
        }
        let routes = self.catalog.table().service(&host);
        let tcp = service.spec.ports.iter().filter(|port| port.protocol == Transport::Tcp);
        let Some(routes) = routes.filter(|routes| routes.exposed_as_alias) else {
            let port = tcp.map(|port| port.port).next().unwrap_or(1);
            return Err(Remark::note(said(&self.refusal(&asked, port))));
        };
        let mut ports: Vec<Port> = Vec::new();
        let mut why = "it has no TCP port".to_owned();
        for port in tcp {
            match shut(routes, port.port, &self.catalog) {
                None => ports.push(port.into()),
                Some(reason) => {
                    why = format!("port {}: no endpoint can be served: {reason}", port.port);
                    let port = port.port;
                    let shut = format!("{}: {reference}: port {port}", self.cluster);
                    remarks.push(Remark::note(format!("{shut} is not exported: {reason}")));
                }
            }
        }
        if ports.is_empty() {
            remarks.retain(|remark| !remark.text.contains(&format!("{reference}: port ")));
            return Err(Remark::note(said(&why)));
        }
        ports.sort_by_key(|port| port.number);
        let all = routes.routes.iter().map(|route| &route.subset);
        let mut subsets: Vec<_> = all.filter(|subset| !subset.is_empty()).cloned().collect();
        subsets.sort_unstable();
        subsets.dedup();
        Ok((asked, Offer { service: reference, ports, subsets }))
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

impl From<&ServicePort> for Port {
    fn from(port: &ServicePort) -> Self {
        let protocol = protocol(&port.name, port.app_protocol.as_deref());
        let name = match &*port.name {
            name if is_label(name) => name.to_owned(),
            _ => format!("{}-{}", protocol.to_ascii_lowercase(), port.port),
        };
        Self { number: port.port, name, protocol }
    }
}

/// Istio's rule: `appProtocol`, else what stands before the first `-` of the name. What says
/// nothing is TCP, which is right for everything, only less known.
fn protocol(name: &str, app_protocol: Option<&str>) -> &'static str {
    let of_word = |word: &str| {
        Some(match word.to_ascii_lowercase().as_str() {
            "tcp" => "TCP",
            "tls" => "TLS",
            "http" | "kubernetes.io/ws" => "HTTP",
            "http2" | "kubernetes.io/h2c" => "HTTP2",
            "https" | "kubernetes.io/wss" => "HTTPS",
            "grpc" => "GRPC",
            "grpc-web" => "GRPC-Web",
            "mongo" => "Mongo",
            "mysql" => "MySQL",
            "redis" => "Redis",
            _ => return None,
        })
    };
    let lower = name.to_ascii_lowercase();
    let grpc_web = lower == "grpc-web" || lower.starts_with("grpc-web-");
    let word = if grpc_web { "grpc-web" } else { lower.split('-').next().unwrap_or_default() };
    app_protocol.and_then(of_word).or_else(|| of_word(word)).unwrap_or("TCP")
}

#[cfg(test)]
mod tests;
