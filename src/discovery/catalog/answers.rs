//! What can be asked of a catalog.
//!
//! Must not know: how a change is taken in.

use std::{collections::BTreeSet, sync::Arc};

use super::{Catalog, Summary};
use crate::{
    discovery::{
        Exposure, Finding, Identity, LeftOut, Selection, Visibility, destination_rule::Rule,
        service_entry, world::World,
    },
    manifests::kinds::{ServiceEntry, destination_rule::ClientTls},
    routing::{Host, RouteTable, Service, ServiceKind},
};

impl Catalog {
    /// Host names of endpoints that manifests do not answer:
    /// [`Change::Resolved`](crate::discovery::Change::Resolved) does.
    #[must_use]
    pub fn names_wanted(&self) -> BTreeSet<Arc<str>> {
        self.world.names_wanted()
    }

    /// Whose catalog it is.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The table as it was last published.
    #[must_use]
    pub fn table(&self) -> &Arc<RouteTable> {
        &self.table
    }

    /// What the Gateways expose.
    #[must_use]
    pub fn exposure(&self) -> &Exposure {
        &self.exposure
    }

    /// Which Gateways select us; for readiness.
    #[must_use]
    pub fn selection(&self) -> &Selection {
        self.exposure.selection()
    }

    /// The endpoints left out of one service.
    #[must_use]
    pub fn left_out_of(&self, host: &str) -> &[LeftOut] {
        self.left_out.get(host).map_or(&[], |left_out| left_out)
    }

    /// Names of a Service's single pods.
    #[must_use]
    pub fn pods_of(&self, host: &str) -> &[Host] {
        self.pods.get(host).map_or(&[], Vec::as_slice)
    }

    /// The host by which a service is defined: that of its Service, also for the name of a pod.
    pub(in crate::discovery) fn defined_as(&self, service: &Service) -> Host {
        let host = match service.kind {
            ServiceKind::Kubernetes => self.world.host_of(&service.namespace, &service.name),
            ServiceKind::ServiceEntry => None,
        };
        host.unwrap_or_else(|| service.host.clone())
    }

    /// All endpoints left out, by host.
    #[must_use]
    pub fn left_out(&self) -> Vec<(&Host, &LeftOut)> {
        let mut hosts: Vec<_> = self.left_out.iter().collect();
        hosts.sort_unstable_by_key(|(host, _)| *host);
        hosts.into_iter().flat_map(|(host, all)| all.iter().map(move |one| (host, one))).collect()
    }

    /// Who sees a ServiceEntry, the mesh's default included.
    #[must_use]
    pub fn entry_visibility(&self, entry: &ServiceEntry) -> Visibility {
        self.world.mesh.entry_visibility(entry)
    }

    /// True for a service that the mesh's ConfigMap keeps in its cluster (`clusterLocal`).
    #[must_use]
    pub fn is_cluster_local(&self, host: &str) -> bool {
        self.world.mesh.is_cluster_local(host)
    }

    /// What DestinationRules say of TLS towards a port of a host, or of one of its subsets (empty:
    /// the whole port).
    #[must_use]
    pub fn client_tls(&self, service: &Service, subset: &str, port: u16) -> Option<&ClientTls> {
        let rule = self.rules.find(service.host.as_str(), &service.namespace)?;
        rule.tls(rule.subset(subset), port)
    }

    /// All remarks about objects, by object.
    #[must_use]
    pub fn findings(&self) -> Vec<Finding> {
        let of_services = self.findings.values().flatten().chain(&self.rules.findings).cloned();
        let of_entries = self.world.entries.iter().flat_map(|e| service_entry::findings(e));
        let mut all: Vec<Finding> = of_services.chain(of_entries).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Counts everything: walks the whole table.
    #[must_use]
    pub fn summary(&self) -> Summary {
        let mut summary = Summary {
            left_out: self.left_out.values().map(|all| all.len()).sum(),
            findings: self.findings().len(),
            ..Summary::default()
        };
        for service in self.table.services() {
            summary.services += 1;
            summary.exposed += usize::from(service.exposed || service.exposed_as_alias);
            summary.routes += service.routes.len();
            // A subset's endpoints are endpoints of the whole port, unless its own rule alone
            // says that they speak mesh TLS.
            let mut port = 0;
            let mut seen = 0;
            for route in &service.routes {
                let count = route.endpoints.load().endpoints().len();
                if route.port == port {
                    summary.endpoints += count.saturating_sub(seen);
                    seen = seen.max(count);
                } else {
                    (port, seen) = (route.port, count);
                    summary.endpoints += count;
                }
            }
        }
        summary
    }

    pub(in crate::discovery) fn world(&self) -> &World {
        &self.world
    }

    pub(in crate::discovery) fn rule_of(&self, host: &str, namespace: &str) -> Option<&Rule> {
        self.rules.find(host, namespace)
    }
}
