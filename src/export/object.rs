//! The ServiceEntry and the DestinationRule of one import, as YAML.
//!
//! ```text
//! direct    one endpoint for each gateway
//! labelled  the same, and in the DestinationRule the subsets that the clusters have
//! egress    the gateways in network `external`, and the importing cluster's own egress gateway
//!           without a network, which is all that sidecars see
//! ```
//!
//! `v1alpha3` is what every Istio from 1.1 on takes. Must not know: files, what others own.

use std::{collections::BTreeMap, net::Ipv4Addr, str::FromStr};

use serde::Serialize;

use super::{
    EXPORTER_LABEL, GatewayAddress, OWNER, OWNER_LABEL, merge::Import, names::is_label_value,
    peer::GatewayHost, peer::Peer,
};

/// Which of the three forms is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Form {
    #[default]
    Direct,
    Labelled,
    Egress,
}

/// What all objects have in common.
#[derive(Clone, Debug, Default)]
pub struct Shape {
    /// Which form.
    pub form: Form,
    /// The namespace of the objects.
    pub namespace: String,
    /// The importing cluster's egress gateway; only for its form.
    pub egress: Option<GatewayAddress>,
    /// Which region follows when all gateways of one are out.
    pub failover: Vec<Failover>,
    /// The name of the exporter, where objects are applied to a cluster.
    pub exporter: Option<String>,
}

/// `FROM=TO`: region TO follows region FROM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Failover {
    /// The region of the callers.
    pub from: String,
    /// The region that they turn to.
    pub to: String,
}

impl FromStr for Failover {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((from, to)) if is_label_value(from) && is_label_value(to) && from != to => {
                Ok(Self { from: from.to_owned(), to: to.to_owned() })
            }
            _ => Err("write REGION=REGION, two different ones".to_owned()),
        }
    }
}

/// The network that only an egress gateway sees, in the words of Istio's own setup.
const EXTERNAL: &str = "external";
/// The label by which a subset finds gateways of several clusters.
const SUBSET_LABEL: &str = "subset.diolkos/";

/// The text of a file: the objects of one host. `with_rule` is false where somebody else has a
/// DestinationRule for it.
#[must_use]
pub fn text(
    (host, import, address): (&str, &Import, Ipv4Addr),
    shape: &Shape,
    peers: &[&Peer],
    with_rule: bool,
) -> String {
    let writer = Writer { host, import, shape, peers };
    let entry = yaml(&writer.object("ServiceEntry", writer.entry(address)));
    if !with_rule {
        return entry;
    }
    entry + "---\n" + &yaml(&writer.object("DestinationRule", writer.rule()))
}

fn yaml(object: &impl Serialize) -> String {
    serde_norway::to_string(object).expect("structs of texts and numbers can be written")
}

struct Writer<'a> {
    host: &'a str,
    import: &'a Import,
    shape: &'a Shape,
    peers: &'a [&'a Peer],
}

impl<'a> Writer<'a> {
    fn object<S>(&self, kind: &'static str, spec: S) -> Object<'a, S> {
        let mut labels = BTreeMap::from([(OWNER_LABEL, OWNER)]);
        labels.extend(self.shape.exporter.as_deref().map(|name| (EXPORTER_LABEL, name)));
        let metadata = Metadata { name: self.host, namespace: &self.shape.namespace, labels };
        Object { api_version: "networking.istio.io/v1alpha3", kind, metadata, spec }
    }

    fn entry(&self, address: Ipv4Addr) -> Entry<'a> {
        let mut endpoints: Vec<Endpoint> = Vec::new();
        for place in &self.import.clusters {
            let peer = self.peers[*place];
            endpoints.extend(peer.gateways.iter().map(|at| self.gateway(*place, peer, at)));
        }
        let named = |endpoint: &Endpoint| endpoint.address.parse::<std::net::IpAddr>().is_err();
        if let Some(egress) = self.shape.egress.as_ref().filter(|_| self.is_egress()) {
            endpoints.push(Endpoint {
                address: egress.host.to_string(),
                ports: self.ports(egress.port),
                labels: [speaks_mesh_tls()].into(),
                locality: None,
                network: None,
            });
        }
        let resolution = if endpoints.iter().any(named) { "DNS" } else { "STATIC" };
        let port = |port: &'a super::offer::Port| EntryPort {
            number: port.number,
            name: &port.name,
            protocol: port.protocol,
        };
        Entry {
            hosts: [self.host],
            addresses: [address.to_string()],
            location: "MESH_INTERNAL",
            ports: self.import.ports.iter().map(port).collect(),
            resolution,
            endpoints,
        }
    }

    fn is_egress(&self) -> bool {
        self.shape.form == Form::Egress
    }

    fn ports(&self, number: u16) -> BTreeMap<&'a str, u16> {
        self.import.ports.iter().map(|port| (&*port.name, number)).collect()
    }

    fn gateway(&self, place: usize, peer: &Peer, at: &GatewayAddress) -> Endpoint<'a> {
        let mut labels: BTreeMap<String, String> = peer.labels.clone();
        labels.extend([("cluster".to_owned(), peer.name.clone()), speaks_mesh_tls()]);
        labels.extend(peer.region().map(|region| ("region".to_owned(), region.to_owned())));
        for (subset, clusters) in self.subsets() {
            if clusters.len() > 1 && clusters.contains(&place) {
                labels.insert(format!("{SUBSET_LABEL}{subset}"), "true".to_owned());
            }
        }
        let network = peer.network.clone();
        Endpoint {
            address: match &at.host {
                GatewayHost::Ip(ip) => ip.to_string(),
                GatewayHost::Name(name) => name.to_string(),
            },
            ports: self.ports(at.port),
            labels,
            locality: peer.locality.clone(),
            network: network.or_else(|| self.is_egress().then(|| EXTERNAL.to_owned())),
        }
    }

    fn subsets(&self) -> impl Iterator<Item = (&'a str, &'a Vec<usize>)> {
        let labelled = self.shape.form == Form::Labelled;
        let subsets = self.import.subsets.iter().filter(move |_| labelled);
        subsets.map(|(name, clusters)| (&**name, clusters))
    }

    /// A subset of a caller names gateways; which pods it means is said in their clusters.
    fn subset(&self, name: &'a str, clusters: &[usize]) -> Subset<'a> {
        let label = match clusters {
            [only] => ("cluster".to_owned(), self.peers[*only].name.clone()),
            _ => (format!("{SUBSET_LABEL}{name}"), "true".to_owned()),
        };
        Subset { name, labels: [label].into() }
    }

    fn rule(&self) -> Rule<'a> {
        let peers = self.import.clusters.iter().map(|place| self.peers[*place]);
        let several = peers.clone().map(|peer| peer.gateways.len()).sum::<usize>() > 1;
        let mut located = peers.filter_map(Peer::region);
        let locality = (several && located.next().is_some())
            .then(|| LocalitySetting { enabled: true, failover: self.shape.failover.clone() });
        Rule {
            host: self.host,
            traffic_policy: TrafficPolicy {
                tls: Tls { mode: "ISTIO_MUTUAL" },
                load_balancer: locality.map(|locality_lb_setting| LoadBalancer {
                    simple: "LEAST_REQUEST",
                    locality_lb_setting,
                }),
                outlier_detection: several.then_some(OUTLIERS),
            },
            subsets: self.subsets().map(|(name, all)| self.subset(name, all)).collect(),
        }
    }
}

fn speaks_mesh_tls() -> (String, String) {
    ("security.istio.io/tlsMode".to_owned(), "istio".to_owned())
}

/// Five failures in a row take a gateway out for 30 s, and all may be out but the last: a cluster
/// that is gone should cost its callers as little as can be.
const OUTLIERS: OutlierDetection = OutlierDetection {
    consecutive_5xx_errors: 5,
    interval: "10s",
    base_ejection_time: "30s",
    max_ejection_percent: 100,
};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Object<'a, S> {
    api_version: &'static str,
    kind: &'static str,
    metadata: Metadata<'a>,
    spec: S,
}

#[derive(Serialize)]
struct Metadata<'a> {
    name: &'a str,
    namespace: &'a str,
    labels: BTreeMap<&'static str, &'a str>,
}

#[derive(Serialize)]
struct Entry<'a> {
    hosts: [&'a str; 1],
    addresses: [String; 1],
    location: &'static str,
    ports: Vec<EntryPort<'a>>,
    resolution: &'static str,
    endpoints: Vec<Endpoint<'a>>,
}

#[derive(Serialize)]
struct EntryPort<'a> {
    number: u16,
    name: &'a str,
    protocol: &'static str,
}

#[derive(Serialize)]
struct Endpoint<'a> {
    address: String,
    ports: BTreeMap<&'a str, u16>,
    labels: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    locality: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    network: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Rule<'a> {
    host: &'a str,
    traffic_policy: TrafficPolicy,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    subsets: Vec<Subset<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TrafficPolicy {
    tls: Tls,
    #[serde(skip_serializing_if = "Option::is_none")]
    load_balancer: Option<LoadBalancer>,
    #[serde(skip_serializing_if = "Option::is_none")]
    outlier_detection: Option<OutlierDetection>,
}

#[derive(Serialize)]
struct Tls {
    mode: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct LoadBalancer {
    simple: &'static str,
    locality_lb_setting: LocalitySetting,
}

#[derive(Serialize)]
struct LocalitySetting {
    enabled: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    failover: Vec<Failover>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct OutlierDetection {
    #[serde(rename = "consecutive5xxErrors")]
    consecutive_5xx_errors: u32,
    interval: &'static str,
    base_ejection_time: &'static str,
    max_ejection_percent: u32,
}

#[derive(Serialize)]
struct Subset<'a> {
    name: &'a str,
    labels: BTreeMap<String, String>,
}

#[cfg(test)]
mod tests;
