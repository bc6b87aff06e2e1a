//! Who runs where: clusters, pods and gateways of the demo, as the manifests under
//! `config/two-clusters` have them.
//!
//! Plain facts. Must not know: how anything is started.

use std::net::{Ipv4Addr, SocketAddr};

/// Reads a file of `config/two-clusters` when this is compiled.
macro_rules! manifest {
    ($cluster:literal, $name:literal) => {
        ($cluster, $name, include_str!(concat!("../../config/two-clusters/", $cluster, "/", $name)))
    };
}
/// The manifests: directory and file name below `config/two-clusters`, and the text.
pub const MANIFESTS: [(&str, &str, &str); 10] = [
    manifest!("cluster1", "bar.yaml"),
    manifest!("cluster1", "egress-gateway.yaml"),
    manifest!("cluster1", "mutual-tls.yaml"),
    manifest!("cluster1", "refused.yaml"),
    manifest!("cluster2", "bar.yaml"),
    manifest!("cluster2", "gateway.yaml"),
    manifest!("cluster2", "secret.yaml"),
    manifest!("cluster2", "shop.yaml"),
    manifest!("cluster3", "gateway.yaml"),
    manifest!("cluster3", "shop.yaml"),
];
/// `bar` by way of the egress gateway.
pub const EGRESS_FORM: &str = include_str!("../../config/two-clusters/forms/egress.yaml");
/// `bar` through two gateways with labels.
pub const LABELLED_FORM: &str = include_str!("../../config/two-clusters/forms/labelled.yaml");
/// `bar` through Envoy's gateway and ours, 9:1.
pub const CANARY_FORM: &str = include_str!("../../config/two-clusters/forms/canary.yaml");
/// A service that comes later.
pub const BAZ: &str = include_str!("../../config/two-clusters/forms/baz.yaml");

/// A pod: an application and the sidecar in front of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pod {
    /// `metadata.name`.
    pub name: &'static str,
    /// Its cluster, whose authority signs its certificate.
    pub cluster: &'static str,
    /// Its service account in namespace `ns2`, named like its Service.
    pub account: &'static str,
    /// `status.podIP`.
    pub ip: Ipv4Addr,
}

const fn pod(name: &'static str, cluster: u8, account: &'static str, last: u8) -> Pod {
    let ip = Ipv4Addr::new(127, cluster, 0, last);
    let cluster = if cluster == 2 { "cluster2" } else { "cluster3" };
    Pod { name, cluster, account, ip }
}

/// The pods that are there from the beginning.
pub const PODS: [Pod; 6] = [
    pod("bar-stable-a", 2, "bar", 11),
    pod("bar-stable-b", 2, "bar", 12),
    pod("bar-beta-a", 2, "bar", 13),
    pod("shop-2", 2, "shop", 21),
    pod("secret-a", 2, "secret", 31),
    pod("shop-3", 3, "shop", 21),
];
/// The pod of the service that comes later.
pub const BAZ_POD: Pod = pod("baz-a", 2, "baz", 41);

/// A gateway: a name, the directories of its cluster's manifests, and its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gateway {
    /// Of its process and its log.
    pub name: &'static str,
    /// Its cluster.
    pub cluster: &'static str,
    /// Where it listens.
    pub ip: Ipv4Addr,
    /// Out of its cluster, not into it.
    pub is_egress: bool,
}

const fn gateway(name: &'static str, cluster: &'static str, ip: Ipv4Addr) -> Gateway {
    Gateway { name, cluster, ip, is_egress: false }
}

/// Cluster 2, and the stable one of its two gateways.
pub const STABLE: Gateway = gateway("gateway-2-stable", "cluster2", Ipv4Addr::new(127, 2, 0, 1));
/// The other gateway of cluster 2.
pub const BETA: Gateway = gateway("gateway-2-beta", "cluster2", Ipv4Addr::new(127, 2, 0, 2));
/// The gateway of cluster 3.
pub const THIRD: Gateway = gateway("gateway-3", "cluster3", Ipv4Addr::new(127, 3, 0, 1));
/// The way out of cluster 1.
pub const EGRESS: Gateway = Gateway {
    is_egress: true,
    ..gateway("egress-gateway", "cluster1", Ipv4Addr::new(127, 1, 0, 2))
};

impl Gateway {
    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        (self.ip, 15443).into()
    }
}

/// Cluster 2's gateway as Istio has it: the name of its process.
pub const ENVOY_NAME: &str = "envoy";
/// Where that one listens.
pub const ENVOY: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(127, 2, 0, 3)), 15443);

/// The DNS server of cluster 1.
pub const DNS: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(127, 1, 0, 53)), 15053);
/// Where the caller runs.
pub const SLEEP_IP: Ipv4Addr = Ipv4Addr::new(127, 1, 0, 11);
/// What `bar.ns2.global` resolves to.
pub const BAR_ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 255, 0, 2);
