//! Istio `PeerAuthentication`: whether a workload speaks mutual TLS.
//!
//! Must not know: how mesh, namespace and workload rules combine.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, Visitor},
};

use super::{Meta, budget, destination_rule::MatchLabels, scalar};

/// A PeerAuthentication.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct PeerAuthentication {
    /// Name, namespace, age.
    #[serde(rename = "metadata")]
    pub meta: Meta,
    /// The rule.
    #[serde(default, deserialize_with = "scalar::or_default")]
    pub spec: PeerAuthenticationSpec,
}

/// `spec` of a PeerAuthentication.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PeerAuthenticationSpec {
    /// Workloads of its namespace; `None`: all of them.
    #[serde(default)]
    pub selector: Option<MatchLabels>,
    /// The rule for every port; `None` and `UNSET` inherit.
    #[serde(default)]
    pub mtls: Option<Mtls>,
    /// Rules by *target* port.
    #[serde(default)]
    pub port_level_mtls: PortModes,
}

/// `mtls`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Mtls {
    /// Its mode.
    #[serde(default, deserialize_with = "scalar::or_default")]
    pub mode: MtlsMode,
}

/// `mtls.mode`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[allow(missing_docs)]
pub enum MtlsMode {
    #[default]
    Unset,
    Disable,
    Permissive,
    Strict,
}

/// Modes by port.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortModes(Box<[(u16, MtlsMode)]>);

impl PortModes {
    /// The mode of `port`.
    #[must_use]
    pub fn get(&self, port: u16) -> Option<MtlsMode> {
        self.iter().find_map(|(known, mode)| (known == port).then_some(mode))
    }

    /// All of them, in the order written.
    pub fn iter(&self) -> impl Iterator<Item = (u16, MtlsMode)> {
        self.0.iter().copied()
    }
}

impl<'de> Deserialize<'de> for PortModes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_option(PortModesVisitor)
    }
}

struct PortModesVisitor;

impl<'de> Visitor<'de> for PortModesVisitor {
    type Value = PortModes;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map of port numbers to modes")
    }

    fn visit_none<E>(self) -> Result<PortModes, E> {
        Ok(PortModes::default())
    }

    fn visit_unit<E>(self) -> Result<PortModes, E> {
        Ok(PortModes::default())
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<PortModes, D::Error> {
        deserializer.deserialize_map(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<PortModes, A::Error> {
        let mut modes: Vec<(u16, MtlsMode)> = Vec::new();
        while let Some(PortKey(port)) = map.next_key()? {
            let mtls = map.next_value::<Option<Mtls>>()?.unwrap_or_default();
            if modes.iter().any(|(known, _)| *known == port) {
                return Err(A::Error::custom(format_args!("port {port} is there twice")));
            }
            budget::spend()?;
            modes.push((port, mtls.mode));
        }
        Ok(PortModes(modes.into()))
    }
}

struct PortKey(u16);

impl<'de> Deserialize<'de> for PortKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(scalar::PortVisitor).map(Self)
    }
}
