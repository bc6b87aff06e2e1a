//! `EndpointSlice` (discovery.k8s.io/v1) and its predecessor, core `Endpoints`.
//!
//! Must not know: Services and pods, which they only name.

use std::{net::IpAddr, sync::Arc};

use serde::{Deserialize, Deserializer};

use super::{List, Meta, host::Address, scalar, service::Transport};

/// An EndpointSlice.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointSlice {
    /// Name, namespace, labels.
    #[serde(rename = "metadata")]
    pub meta: Meta,
    /// What its addresses are.
    pub address_type: AddressType,
    /// Its endpoints.
    #[serde(default)]
    pub endpoints: List<Endpoint>,
    /// The ports that each of its endpoints has.
    #[serde(default)]
    pub ports: List<EndpointPort>,
}

impl EndpointSlice {
    /// The Service it belongs to, by its label `kubernetes.io/service-name`.
    #[must_use]
    pub fn service(&self) -> Option<&str> {
        self.meta.labels.get("kubernetes.io/service-name")
    }
}

/// `addressType` of an EndpointSlice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[allow(missing_docs)]
pub enum AddressType {
    IPv4,
    IPv6,
    #[serde(rename = "FQDN")]
    Fqdn,
}

/// One endpoint of an EndpointSlice.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Endpoint {
    /// Addresses of one and the same endpoint: the first is used.
    #[serde(default)]
    pub addresses: List<Address>,
    /// Its state.
    #[serde(default, deserialize_with = "scalar::or_default")]
    pub conditions: Conditions,
    /// The name of its pod, in the slice's namespace; `None` when `targetRef` is no pod.
    #[serde(default, rename = "targetRef", deserialize_with = "target_pod")]
    pub pod: Option<Box<str>>,
    /// Its node.
    #[serde(default, deserialize_with = "scalar::optional_shared_text")]
    pub node_name: Option<Arc<str>>,
    /// Its zone.
    #[serde(default, deserialize_with = "scalar::optional_shared_text")]
    pub zone: Option<Arc<str>>,
    /// Its own host name, in a StatefulSet.
    #[serde(default, deserialize_with = "scalar::optional_text")]
    pub hostname: Option<Box<str>>,
}

/// `conditions` of an endpoint; `None` is "unknown".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Conditions {
    /// Takes connections; unknown counts as yes.
    #[serde(default)]
    pub ready: Option<bool>,
    /// As `ready`, but also while it terminates.
    #[serde(default)]
    pub serving: Option<bool>,
    /// Is going away; unknown counts as no.
    #[serde(default)]
    pub terminating: Option<bool>,
}

/// A port of an EndpointSlice or of a subset of Endpoints, already resolved to a number.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct EndpointPort {
    /// The name of the Service's port it stands for; may be empty.
    #[serde(default, deserialize_with = "scalar::shared_text_or_empty")]
    pub name: Arc<str>,
    /// Its number; absent means every port, which no Service has.
    #[serde(default, deserialize_with = "scalar::port_or_none")]
    pub port: Option<u16>,
    /// Its transport.
    #[serde(default, deserialize_with = "scalar::or_default")]
    pub protocol: Transport,
}

/// Core `Endpoints`, of the same name as their Service.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Endpoints {
    /// Name and namespace: those of the Service.
    #[serde(rename = "metadata")]
    pub meta: Meta,
    /// Groups with equal ports.
    #[serde(default)]
    pub subsets: List<EndpointsSubset>,
}

/// A group of addresses that have the same ports.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointsSubset {
    /// Ready ones.
    #[serde(default)]
    pub addresses: List<EndpointsAddress>,
    /// Those that are not ready.
    #[serde(default)]
    pub not_ready_addresses: List<EndpointsAddress>,
    /// Their ports.
    #[serde(default)]
    pub ports: List<EndpointPort>,
}

/// One address of Endpoints.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointsAddress {
    /// Its IP.
    pub ip: IpAddr,
    /// The name of its pod; `None` when `targetRef` is no pod.
    #[serde(default, rename = "targetRef", deserialize_with = "target_pod")]
    pub pod: Option<Box<str>>,
    /// Its node.
    #[serde(default, deserialize_with = "scalar::optional_shared_text")]
    pub node_name: Option<Arc<str>>,
    /// Its own host name, in a StatefulSet.
    #[serde(default, deserialize_with = "scalar::optional_text")]
    pub hostname: Option<Box<str>>,
}

#[derive(Deserialize)]
struct TargetRef {
    #[serde(default, deserialize_with = "scalar::or_default")]
    kind: Box<str>,
    #[serde(default, deserialize_with = "scalar::optional_text")]
    name: Option<Box<str>>,
}

fn target_pod<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Box<str>>, D::Error> {
    let target = Option::<TargetRef>::deserialize(deserializer)?;
    Ok(target.filter(|target| &*target.kind == "Pod").and_then(|target| target.name))
}
