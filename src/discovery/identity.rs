//! Who this gateway is: everything that translation depends on besides the objects.
//!
//! Plain values, filled by `config`. Must not know: the settings file, environment variables,
//! sockets.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use crate::{
    manifests::kinds::Labels,
    routing::{Locality, Outlier, Rewrite},
};

/// The gateway as the objects see it.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Towards this cluster's pods, or towards other gateways.
    pub role: Role,
    /// Its own namespace: what `.` means in `exportTo`, and whose DestinationRules come first.
    pub namespace: String,
    /// Its pod's labels, which a Gateway's `selector` is compared with.
    pub labels: Labels,
    /// `cluster.local`, without a leading dot.
    pub cluster_domain: String,
    /// `global`, without a leading dot; `None`: no host is rewritten.
    pub rewrite_suffix: Option<String>,
    /// Only endpoints known to speak mesh mutual TLS. `false` serves plaintext pods to whoever
    /// reaches the port.
    pub require_mesh_tls: bool,
    /// Its own network; `None`: unknown, and taken as that of every pod.
    pub network: Option<String>,
    /// The networks it was asked to look into (`ISTIO_META_REQUESTED_NETWORK_VIEW`).
    pub requested_network_view: Vec<String>,
    /// Which generation's rule reads the view.
    pub network_view: NetworkView,
    /// Where it runs.
    pub locality: Locality,
    /// The node it runs on.
    pub node: Option<String>,
    /// The mesh's root namespace: whose PeerAuthentication and DestinationRules hold mesh-wide.
    pub root_namespace: String,
    /// Connect timeout where no DestinationRule sets one.
    pub connect_timeout: Duration,
    /// Pods of headless Services have names of their own (`pod-0.kafka.ns2.global`).
    pub per_pod_names: bool,
    /// Outlier detection where no DestinationRule has any; `None`: off.
    pub outlier: Option<Outlier>,
    /// Addresses it listens on, so that it never dials itself.
    pub listeners: Vec<SocketAddr>,
    /// Addresses of its operators' ports, which are nobody's endpoints either.
    pub operator_listeners: Vec<SocketAddr>,
    /// Addresses of this host, which a listener on an unspecified address answers on.
    pub own_addresses: Vec<IpAddr>,
}

/// Which way we face.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// Serves this cluster's services to other clusters, never another cluster's.
    #[default]
    Ingress,
    /// Serves ServiceEntries: carries connections out to other gateways.
    Egress,
    /// Stands beside a workload: what its namespace sees of ServiceEntries is served to it, without
    /// a Gateway object.
    Sidecar,
}

/// Which endpoints of a ServiceEntry an egress gateway or a sidecar sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NetworkView {
    /// No view requested: only endpoints without a network. A view: only those named.
    #[default]
    Istio14,
    /// No view requested: all. A view: those named, and those without a network.
    Istio18,
}

impl Default for Identity {
    /// An ingress gateway in `istio-system`, with the seed's `.global` suffix.
    fn default() -> Self {
        Self {
            role: Role::Ingress,
            namespace: "istio-system".into(),
            labels: Labels::default(),
            cluster_domain: "cluster.local".into(),
            rewrite_suffix: Some("global".into()),
            require_mesh_tls: true,
            network: None,
            requested_network_view: Vec::new(),
            network_view: NetworkView::Istio14,
            locality: Locality::default(),
            node: None,
            root_namespace: "istio-system".into(),
            connect_timeout: Duration::from_secs(10),
            per_pod_names: false,
            outlier: Some(Outlier::default()),
            listeners: Vec::new(),
            operator_listeners: Vec::new(),
            own_addresses: Vec::new(),
        }
    }
}

impl Identity {
    /// The rewrite in force: only an ingress gateway has one.
    #[must_use]
    pub fn rewrite(&self) -> Option<Rewrite> {
        let suffix = self.rewrite_suffix.as_deref().filter(|_| self.role == Role::Ingress)?;
        Some(Rewrite {
            suffix: format!(".{}", suffix.to_ascii_lowercase()).into(),
            replacement: format!(".svc.{}", self.cluster_domain.to_ascii_lowercase()).into(),
        })
    }

    /// True when loopback endpoints are fair game: every listener is on a loopback address, or all
    /// who reach us could dial them as well.
    #[must_use]
    pub fn dials_loopback(&self) -> bool {
        let all_there = || self.listeners.iter().all(|listener| listener.ip().is_loopback());
        self.role == Role::Sidecar || (!self.listeners.is_empty() && all_there())
    }

    /// True when a ServiceEntry's endpoint in `network` is to be seen.
    ///
    /// An ingress gateway sees its own network and endpoints without one: it is no transit.
    #[must_use]
    pub fn sees_entry_network(&self, network: &str) -> bool {
        let named = || self.requested_network_view.iter().any(|view| view == network);
        match (self.role, self.network_view) {
            (Role::Ingress, _) => network.is_empty() || self.network.as_deref() == Some(network),
            (Role::Egress | Role::Sidecar, NetworkView::Istio14)
                if self.requested_network_view.is_empty() =>
            {
                network.is_empty()
            }
            (Role::Egress | Role::Sidecar, NetworkView::Istio14) => named(),
            (Role::Egress | Role::Sidecar, NetworkView::Istio18) => {
                network.is_empty() || self.requested_network_view.is_empty() || named()
            }
        }
    }

    /// True when a pod of this cluster with this network label is in the gateway's own network.
    /// As in Istio, an unknown network on either side is no difference.
    #[must_use]
    pub fn sees_pod_network(&self, network: &str) -> bool {
        network.is_empty() || self.network.as_deref().is_none_or(|own| own == network)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(role: Role, view: NetworkView, requested: &[&str], seen: &[&str]) {
        let identity = Identity {
            role,
            network_view: view,
            requested_network_view: requested.iter().map(ToString::to_string).collect(),
            network: Some("own".into()),
            ..Identity::default()
        };
        let all = ["", "own", "external", "other"];
        let visible: Vec<_> = all.into_iter().filter(|n| identity.sees_entry_network(n)).collect();
        assert_eq!(visible, seen, "{role:?} {view:?} {requested:?}");
    }

    #[test]
    fn a_network_view_shows_what_its_generation_shows() {
        check(Role::Egress, NetworkView::Istio14, &[], &[""]);
        check(Role::Egress, NetworkView::Istio14, &["external"], &["external"]);
        check(Role::Egress, NetworkView::Istio18, &[], &["", "own", "external", "other"]);
        check(Role::Egress, NetworkView::Istio18, &["external"], &["", "external"]);
        check(Role::Sidecar, NetworkView::Istio14, &[], &[""]);
        check(Role::Sidecar, NetworkView::Istio18, &["external"], &["", "external"]);
        check(Role::Ingress, NetworkView::Istio18, &["external"], &["", "own"]);
        check(Role::Ingress, NetworkView::Istio14, &[], &["", "own"]);
    }

    #[test]
    fn an_egress_gateway_rewrites_nothing() {
        let ingress = Identity::default();
        let rewrite = ingress.rewrite().expect("a rewrite");
        assert_eq!(rewrite.apply("bar.ns2.global").as_deref(), Some("bar.ns2.svc.cluster.local"));
        let egress = Identity { role: Role::Egress, ..ingress.clone() };
        assert_eq!(egress.rewrite(), None);
        assert_eq!(Identity { rewrite_suffix: None, ..ingress }.rewrite(), None);
    }
}
