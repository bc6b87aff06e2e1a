//! Kubernetes `Service`.
//!
//! Must not know: endpoints.

use std::sync::Arc;

use serde::Deserialize;

use super::{Labels, List, Meta, scalar};

/// A Service.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Service {
    /// Name, namespace, labels, annotations.
    #[serde(rename = "metadata")]
    pub meta: Meta,
    /// What it offers.
    #[serde(default, deserialize_with = "scalar::or_default")]
    pub spec: ServiceSpec,
}

impl Service {
    /// True when it has no cluster IP and never gets one (`clusterIP: None`).
    #[must_use]
    pub fn is_headless(&self) -> bool {
        self.spec.cluster_ip.as_deref() == Some("None")
            || self.spec.cluster_ips.first().is_some_and(|ip| &**ip == "None")
    }
}

/// `spec` of a Service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceSpec {
    /// `type`.
    #[serde(default, rename = "type", deserialize_with = "scalar::or_default")]
    pub service_type: ServiceType,
    /// The name that an `ExternalName` Service stands for.
    #[serde(default, deserialize_with = "scalar::optional_text")]
    pub external_name: Option<Box<str>>,
    /// Its pods; empty when it has none of its own.
    #[serde(default)]
    pub selector: Labels,
    /// Its ports.
    #[serde(default)]
    pub ports: List<ServicePort>,
    /// `None` (the word) makes it headless.
    #[serde(default, rename = "clusterIP", deserialize_with = "scalar::optional_text")]
    pub cluster_ip: Option<Box<str>>,
    /// All cluster IPs; the first is `cluster_ip`.
    #[serde(default, rename = "clusterIPs")]
    pub cluster_ips: List<Box<str>>,
    /// Pods count as ready from their start.
    #[serde(default, deserialize_with = "scalar::or_default")]
    pub publish_not_ready_addresses: bool,
    /// Whether only endpoints of the caller's node are used.
    #[serde(default, deserialize_with = "scalar::or_default")]
    pub internal_traffic_policy: InternalTrafficPolicy,
    /// `PreferClose`, `PreferSameZone`, `PreferSameNode` or nothing.
    #[serde(default, deserialize_with = "scalar::optional_shared_text")]
    pub traffic_distribution: Option<Arc<str>>,
}

/// `spec.type` of a Service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[allow(missing_docs)]
pub enum ServiceType {
    #[default]
    ClusterIP,
    NodePort,
    LoadBalancer,
    ExternalName,
}

/// `spec.internalTrafficPolicy` of a Service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum InternalTrafficPolicy {
    /// All endpoints.
    #[default]
    Cluster,
    /// Those on the node of the caller.
    Local,
}

/// A port of a Service.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServicePort {
    /// Its name, by which endpoints are joined; empty when it is the only port.
    #[serde(default, deserialize_with = "scalar::shared_text_or_empty")]
    pub name: Arc<str>,
    /// Its number.
    #[serde(deserialize_with = "scalar::port")]
    pub port: u16,
    /// The port of the pods; `None`: the same number. Slices hold it already resolved.
    #[serde(default)]
    pub target_port: Option<TargetPort>,
    /// Its transport.
    #[serde(default, deserialize_with = "scalar::or_default")]
    pub protocol: Transport,
    /// `appProtocol`.
    #[serde(default, deserialize_with = "scalar::optional_shared_text")]
    pub app_protocol: Option<Arc<str>>,
}

/// `targetPort`: a number, or the name of a container's port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetPort {
    /// A number.
    Number(u16),
    /// The name of a port.
    Name(Box<str>),
}

/// The transport of a port in Kubernetes' own kinds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
#[allow(missing_docs)]
pub enum Transport {
    #[default]
    Tcp,
    Udp,
    Sctp,
}

impl<'de> Deserialize<'de> for TargetPort {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TargetPortVisitor)
    }
}

struct TargetPortVisitor;

impl serde::de::Visitor<'_> for TargetPortVisitor {
    type Value = TargetPort;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a port number or the name of a container's port")
    }

    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<TargetPort, E> {
        scalar::PortVisitor.visit_u64(number).map(TargetPort::Number)
    }

    fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<TargetPort, E> {
        Ok(TargetPort::Name(name.into()))
    }
}
