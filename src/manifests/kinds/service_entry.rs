//! Istio `ServiceEntry` and `WorkloadEntry`: services and endpoints that Kubernetes does not know.
//!
//! Must not know: which of them a gateway serves.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, Visitor},
};

use super::{
    ExportTo, HostName, Labels, List, Meta, budget, host::Address, pod::Condition, scalar,
};

/// A ServiceEntry.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct ServiceEntry {
    /// Name, namespace, labels, age.
    #[serde(rename = "metadata")]
    pub meta: Meta,
    /// What it describes.
    #[serde(default, deserialize_with = "scalar::or_default")]
    pub spec: ServiceEntrySpec,
}

/// `spec` of a ServiceEntry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceEntrySpec {
    /// Its hosts, at least one.
    #[serde(default)]
    pub hosts: List<HostName>,
    /// Virtual addresses or CIDR ranges, as written.
    #[serde(default)]
    pub addresses: List<Box<str>>,
    /// Its ports.
    #[serde(default)]
    pub ports: List<EntryPort>,
    /// Inside or outside the mesh.
    #[serde(default, deserialize_with = "scalar::or_default")]
    pub location: Location,
    /// How its endpoints are found.
    #[serde(default, deserialize_with = "scalar::or_default")]
    pub resolution: Resolution,
    /// Its endpoints.
    #[serde(default)]
    pub endpoints: List<Workload>,
    /// Selects Pods and WorkloadEntries of its namespace instead of `endpoints`.
    #[serde(default)]
    pub workload_selector: Option<WorkloadSelector>,
    /// Who sees it; empty: the mesh's default.
    #[serde(default)]
    pub export_to: List<ExportTo>,
    /// Identities its endpoints may have.
    #[serde(default)]
    pub subject_alt_names: List<Box<str>>,
}

/// What one of `spec.addresses` comes to when it is to be reached: a single address, or a range of
/// one.
///
/// # Errors
/// Why it is none.
pub fn single_address(text: &str) -> Result<IpAddr, &'static str> {
    let (ip, length) = match text.split_once('/') {
        None => (text, None),
        Some((ip, length)) => (ip, Some(length)),
    };
    let ip: IpAddr = ip.parse().map_err(|_| "it is not an IP address")?;
    match (ip, length) {
        (_, None) | (IpAddr::V4(_), Some("32")) | (IpAddr::V6(_), Some("128")) => {}
        (_, Some(length)) if length.parse::<u8>().is_ok() => {
            return Err("it is a range, not a single address");
        }
        _ => return Err("it is neither an IP address nor a range"),
    }
    let ip = ip.to_canonical();
    if ip.is_unspecified() || ip.is_multicast() || ip == IpAddr::V4(Ipv4Addr::BROADCAST) {
        return Err("nothing can be reached there");
    }
    Ok(ip)
}

/// A port of a ServiceEntry.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EntryPort {
    /// Its number.
    #[serde(deserialize_with = "scalar::port")]
    pub number: u16,
    /// Its name.
    #[serde(default, deserialize_with = "scalar::shared_text_or_empty")]
    pub name: Arc<str>,
    /// Its protocol.
    #[serde(default, deserialize_with = "scalar::or_default")]
    pub protocol: Protocol,
    /// The port of the endpoints; `None`: the same number.
    #[serde(default, deserialize_with = "scalar::optional_port")]
    pub target_port: Option<u16>,
}

/// `workloadSelector` of a ServiceEntry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct WorkloadSelector {
    /// Labels that a workload must have.
    #[serde(default)]
    pub labels: Labels,
}

/// `location` of a ServiceEntry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[allow(missing_docs)]
pub enum Location {
    #[default]
    MeshExternal,
    MeshInternal,
}

/// `resolution` of a ServiceEntry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[allow(missing_docs)]
pub enum Resolution {
    #[default]
    None,
    Static,
    Dns,
    DnsRoundRobin,
    DynamicDns,
}

/// A WorkloadEntry: one endpoint as an object of its own.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct WorkloadEntry {
    /// Name, namespace; its labels override those of the spec.
    #[serde(rename = "metadata")]
    pub meta: Meta,
    /// The endpoint.
    #[serde(default, deserialize_with = "scalar::or_default")]
    pub spec: Workload,
    /// Its health; only a machine that registered itself has one.
    #[serde(default, rename = "status", deserialize_with = "healthy")]
    pub healthy: Option<bool>,
}

/// An endpoint of a ServiceEntry, or the `spec` of a WorkloadEntry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Workload {
    /// Its address; may be absent only where a network's gateway stands for it.
    #[serde(default)]
    pub address: Option<Address>,
    /// Ports that differ from those of the ServiceEntry, by the name of the port.
    #[serde(default)]
    pub ports: PortMap,
    /// Labels, for subsets.
    #[serde(default)]
    pub labels: Labels,
    /// Its network; `None`: the network of the reader.
    #[serde(default, deserialize_with = "scalar::optional_shared_text")]
    pub network: Option<Arc<str>>,
    /// `region/zone/subzone`.
    #[serde(default, deserialize_with = "scalar::optional_shared_text")]
    pub locality: Option<Arc<str>>,
    /// Its share of connections as written: 0 and absent both mean 1.
    #[serde(default, deserialize_with = "scalar::or_default")]
    pub weight: u32,
    /// Its service account, without which it is not taken to speak mutual TLS.
    #[serde(default, deserialize_with = "scalar::optional_shared_text")]
    pub service_account: Option<Arc<str>>,
}

/// Port numbers by port name, in the order written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortMap(Box<[(Arc<str>, u16)]>);

impl PortMap {
    /// The port under `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<u16> {
        self.iter().find_map(|(known, port)| (known == name).then_some(port))
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u16)> {
        self.0.iter().map(|(name, port)| (&**name, *port))
    }

    /// True when there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The protocol of a port in Istio's kinds, of which the gateway only minds whether it is UDP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Protocol {
    /// Nothing written: Istio looks at the first bytes.
    #[default]
    Unset,
    Tcp,
    Tls,
    Udp,
    Http,
    HttpProxy,
    Http2,
    Https,
    Grpc,
    GrpcWeb,
    Mongo,
    Redis,
    Mysql,
    Hbone,
}

impl Protocol {
    /// Reads the name in any case, as Istio does.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text.to_ascii_lowercase().as_str() {
            "" => Self::Unset,
            "tcp" => Self::Tcp,
            "tls" => Self::Tls,
            "udp" => Self::Udp,
            "http" => Self::Http,
            "http_proxy" => Self::HttpProxy,
            "http2" => Self::Http2,
            "https" => Self::Https,
            "grpc" => Self::Grpc,
            "grpc-web" => Self::GrpcWeb,
            "mongo" => Self::Mongo,
            "redis" => Self::Redis,
            "mysql" => Self::Mysql,
            "hbone" => Self::Hbone,
            _ => return None,
        })
    }
}

impl<'de> Deserialize<'de> for Protocol {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        scalar::parsed(deserializer, |text| {
            Self::parse(text).ok_or_else(|| {
                format!(
                    "unknown protocol `{text}`: write TCP, TLS, HTTP, HTTP2, HTTPS, GRPC, \
                GRPC-Web, \
                 HTTP_PROXY, Mongo, Redis, MySQL, HBONE or UDP"
                )
            })
        })
    }
}

impl<'de> Deserialize<'de> for PortMap {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_option(PortMapVisitor)
    }
}

struct PortMapVisitor;

impl<'de> Visitor<'de> for PortMapVisitor {
    type Value = PortMap;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map of port names to port numbers")
    }

    fn visit_none<E>(self) -> Result<PortMap, E> {
        Ok(PortMap::default())
    }

    fn visit_unit<E>(self) -> Result<PortMap, E> {
        Ok(PortMap::default())
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<PortMap, D::Error> {
        deserializer.deserialize_map(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<PortMap, A::Error> {
        let mut ports: Vec<(Arc<str>, u16)> = Vec::new();
        while let Some(name) = map.next_key::<String>()? {
            let name = scalar::shared(&name);
            let Number(port) = map.next_value()?;
            if ports.iter().any(|(known, _)| *known == name) {
                return Err(A::Error::custom(format_args!("port `{name}` is there twice")));
            }
            budget::spend()?;
            ports.push((name, port));
        }
        Ok(PortMap(ports.into()))
    }
}

struct Number(u16);

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        scalar::port(deserializer).map(Self)
    }
}

#[derive(Default, Deserialize)]
struct EntryStatus {
    #[serde(default)]
    conditions: List<Condition>,
}

fn healthy<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<bool>, D::Error> {
    let status: EntryStatus = scalar::or_default(deserializer)?;
    let healthy = status.conditions.iter().find(|c| &*c.condition_type == "Healthy");
    Ok(healthy.map(|condition| &*condition.status == "True"))
}
