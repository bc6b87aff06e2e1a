//! Section `sidecar`: what `diolkos sidecar` is told.
//!
//! Must not know: TLS, sockets.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    config::types::{Listen, NetworkView},
    routing::Host,
};

/// Section `sidecar`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sidecar {
    /// Where key and certificates are.
    pub certs: PathBuf,
    /// `FROM=TO`, as [`crate::sidecar::Inbound`] reads it.
    pub inbound: Vec<String>,
    /// Who may come in; empty: everybody with our root.
    pub allow_principals: Vec<String>,
    /// `HOST=SUBSET`.
    pub subsets: Vec<String>,
    /// Whose view holds; empty: the certificate's namespace.
    pub namespace: String,
    /// Our own labels.
    pub labels: BTreeMap<String, String>,
    /// Our own network; empty: unknown.
    pub network: String,
    /// Networks to look into.
    pub requested_network_view: Vec<String>,
    /// Which rule reads the view.
    pub network_view: NetworkView,
    /// `region/zone/subzone`; empty: unknown.
    pub locality: String,
    /// All endpoints together.
    #[serde(with = "humantime_serde")]
    pub connect_timeout: Duration,
    /// One endpoint's TCP, while another is left.
    #[serde(with = "humantime_serde")]
    pub try_timeout: Duration,
    /// One handshake, while another endpoint is left.
    #[serde(with = "humantime_serde")]
    pub handshake_timeout: Duration,
    /// Live connections.
    pub connections_max: usize,
    /// For live connections, at the end.
    #[serde(with = "humantime_serde")]
    pub drain: Duration,
    /// Readiness and scrape, or off.
    pub status: Listen,
}

impl Sidecar {
    /// Reads `HOST=SUBSET`, the subset in lower case, as it is compared.
    #[must_use]
    pub fn subset(text: &str) -> Option<(Host, String)> {
        let (host, subset) = text.split_once('=')?;
        let is_name = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'.';
        let is_subset = !subset.is_empty() && subset.bytes().all(is_name);
        Some((Host::parse(host)?, subset.to_ascii_lowercase())).filter(|_| is_subset)
    }
}

impl Default for Sidecar {
    fn default() -> Self {
        Self {
            certs: PathBuf::new(),
            inbound: Vec::new(),
            allow_principals: Vec::new(),
            subsets: Vec::new(),
            namespace: String::new(),
            labels: BTreeMap::new(),
            network: String::new(),
            requested_network_view: Vec::new(),
            network_view: NetworkView::Istio14,
            locality: String::new(),
            connect_timeout: Duration::from_secs(10),
            try_timeout: Duration::from_secs(1),
            handshake_timeout: Duration::from_secs(5),
            connections_max: 10_000,
            drain: Duration::from_secs(5),
            status: Listen::Off,
        }
    }
}
