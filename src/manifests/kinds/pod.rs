//! Kubernetes `Pod`, and the `Node` and `Namespace` it is in.
//!
//! Must not know: which endpoints a pod is behind.

use std::{net::IpAddr, sync::Arc};

use serde::{Deserialize, Deserializer};

use super::{List, Meta, scalar};

/// A Pod.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Pod {
    /// Name, namespace, labels, annotations, owner.
    #[serde(rename = "metadata")]
    pub meta: Meta,
    /// What it runs.
    #[serde(default, deserialize_with = "scalar::or_default")]
    pub spec: PodSpec,
    /// How it is.
    #[serde(default, deserialize_with = "scalar::or_default")]
    pub status: PodStatus,
}

impl Pod {
    /// True when a container or an init container is Istio's sidecar.
    #[must_use]
    pub fn has_sidecar_container(&self) -> bool {
        self.spec.sidecar_among_containers || self.spec.sidecar_among_init_containers
    }

    /// All its IPs; empty before it has one.
    pub fn ips(&self) -> impl Iterator<Item = IpAddr> {
        let listed = self.status.pod_ips.iter().filter_map(|written| written.ip);
        let single = self.status.pod_ip.filter(|_| self.status.pod_ips.is_empty());
        listed.chain(single)
    }
}

/// `spec` of a Pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodSpec {
    /// `containers` has one of the name `istio-proxy`.
    #[serde(default, rename = "containers", deserialize_with = "has_sidecar")]
    pub sidecar_among_containers: bool,
    /// `initContainers` has one of the name `istio-proxy` (a native sidecar).
    #[serde(default, rename = "initContainers", deserialize_with = "has_sidecar")]
    pub sidecar_among_init_containers: bool,
    /// Its node.
    #[serde(default, deserialize_with = "scalar::optional_shared_text")]
    pub node_name: Option<Arc<str>>,
    /// Its service account.
    #[serde(default, deserialize_with = "scalar::optional_shared_text")]
    pub service_account_name: Option<Arc<str>>,
    /// It has the addresses of its node.
    #[serde(default, deserialize_with = "scalar::or_default")]
    pub host_network: bool,
}

/// `status` of a Pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodStatus {
    /// `phase`.
    #[serde(default, deserialize_with = "scalar::or_default")]
    pub phase: Phase,
    /// Its condition `Ready`; `None` when it is not there.
    #[serde(default, rename = "conditions", deserialize_with = "ready")]
    pub ready: Option<bool>,
    /// `podIP`; prefer [`Pod::ips`].
    #[serde(default, rename = "podIP", deserialize_with = "optional_ip")]
    pub pod_ip: Option<IpAddr>,
    /// `podIPs`; prefer [`Pod::ips`].
    #[serde(default, rename = "podIPs")]
    pub pod_ips: List<PodIp>,
}

/// An entry of `podIPs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct PodIp {
    /// The IP.
    #[serde(default, deserialize_with = "optional_ip")]
    pub ip: Option<IpAddr>,
}

/// `status.phase` of a Pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[allow(missing_docs)]
pub enum Phase {
    #[default]
    Unknown,
    Pending,
    Running,
    Succeeded,
    Failed,
}

/// A Node, for its labels of region and zone.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Node {
    /// Name and labels.
    #[serde(rename = "metadata")]
    pub meta: Meta,
}

/// A Namespace, for its labels and annotations.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Namespace {
    /// Name, labels, annotations.
    #[serde(rename = "metadata")]
    pub meta: Meta,
}

#[derive(Deserialize)]
struct Container {
    #[serde(default, deserialize_with = "scalar::or_default")]
    name: Box<str>,
}

fn has_sidecar<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    let containers = List::<Container>::deserialize(deserializer)?;
    Ok(containers.iter().any(|container| &*container.name == "istio-proxy"))
}

fn ready<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<bool>, D::Error> {
    let conditions = List::<Condition>::deserialize(deserializer)?;
    let ready = conditions.iter().find(|condition| &*condition.condition_type == "Ready");
    Ok(ready.map(|condition| &*condition.status == "True"))
}

/// A condition in the `status` of any object.
#[derive(Deserialize)]
pub(super) struct Condition {
    #[serde(default, rename = "type", deserialize_with = "scalar::or_default")]
    pub(super) condition_type: Box<str>,
    #[serde(default, deserialize_with = "scalar::or_default")]
    pub(super) status: Box<str>,
}

fn optional_ip<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<IpAddr>, D::Error> {
    Ok(Option::<MaybeIp>::deserialize(deserializer)?.and_then(|MaybeIp(ip)| ip))
}

struct MaybeIp(Option<IpAddr>);

impl<'de> Deserialize<'de> for MaybeIp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        scalar::parsed(deserializer, |text| match text.parse() {
            Ok(ip) => Ok(Self(Some(ip))),
            Err(_) if text.is_empty() => Ok(Self(None)),
            Err(_) => Err(format!("`{text}` is not an IP address")),
        })
    }
}
