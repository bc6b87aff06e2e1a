//! What section `gateway` says of sources: who may ask for what, and which proxies name them.
//!
//! Must not know: layers, or what a setting is used for.

use serde::{Deserialize, Serialize};

use crate::{
    config::types::{Name, RuleAction},
    net::cidr::Cidr,
};

/// Section `gateway.proxy_protocol`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProxyProtocol {
    /// Peers that must send a PROXY header; empty means nobody may.
    pub trusted: Vec<Cidr>,
}

/// One rule of `gateway.policy`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// What becomes of a connection that fits.
    pub action: RuleAction,
    /// Fits from any of these; empty means from anywhere.
    #[serde(default)]
    pub sources: Vec<Cidr>,
    /// Fits for any of these; empty means for every name.
    #[serde(default)]
    pub names: Vec<Name>,
    /// Counted, and otherwise passed over.
    #[serde(default)]
    pub dry_run: bool,
}
