//! Istio `Gateway`: which hosts a gateway opens on which port.
//!
//! Must not know: which gateway we are.

use std::sync::Arc;

use serde::Deserialize;

use super::{Labels, List, Meta, host::ServerHost, scalar, service_entry::Protocol};

/// A Gateway.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Gateway {
    /// Name, namespace, age.
    #[serde(rename = "metadata")]
    pub meta: Meta,
    /// Its servers and whom they are for.
    #[serde(default, deserialize_with = "scalar::or_default")]
    pub spec: GatewaySpec,
}

/// `spec` of a Gateway.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct GatewaySpec {
    /// Labels of the gateway pods it is for; empty selects every gateway.
    #[serde(default)]
    pub selector: Labels,
    /// Its servers.
    #[serde(default)]
    pub servers: List<Server>,
}

/// One listener of a Gateway.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Server {
    /// Where it listens.
    pub port: ServerPort,
    /// The hosts it opens.
    #[serde(default)]
    pub hosts: List<ServerHost>,
    /// How it treats TLS.
    #[serde(default)]
    pub tls: Option<ServerTls>,
    /// An address to bind, or `unix:` path.
    #[serde(default, deserialize_with = "scalar::optional_text")]
    pub bind: Option<Box<str>>,
    /// Its name.
    #[serde(default, deserialize_with = "scalar::optional_text")]
    pub name: Option<Box<str>>,
}

/// `port` of a server.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct ServerPort {
    /// Its number.
    #[serde(deserialize_with = "scalar::port")]
    pub number: u16,
    /// Its name.
    #[serde(default, deserialize_with = "scalar::shared_text_or_empty")]
    pub name: Arc<str>,
    /// Its protocol.
    #[serde(default, deserialize_with = "scalar::or_default")]
    pub protocol: Protocol,
}

/// `tls` of a server.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct ServerTls {
    /// Its mode; not written, it is `PASSTHROUGH`.
    #[serde(default, deserialize_with = "scalar::or_default")]
    pub mode: ServerTlsMode,
}

/// `tls.mode` of a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[allow(missing_docs)]
pub enum ServerTlsMode {
    #[default]
    Passthrough,
    Simple,
    Mutual,
    AutoPassthrough,
    IstioMutual,
    OptionalMutual,
}
