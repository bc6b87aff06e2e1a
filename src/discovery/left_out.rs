//! An endpoint that some object names and no connection reaches, and why.
//!
//! Must not know: how the reason was found.

use std::{fmt, net::SocketAddr, sync::Arc};

use super::AddressRefusal;

/// One endpoint left out of a service's port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// The service port.
    pub port: u16,
    /// The subset that it is missing from, where only that subset's rule leaves it out; else
    /// empty, and it is missing from all.
    pub subset: Arc<str>,
    /// Which endpoint.
    pub place: Place,
    /// Why.
    pub reason: Reason,
}

/// Where an endpoint would be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// An address and port.
    Address(SocketAddr),
    /// A host name, or an address that cannot be read, and a port.
    Name(Arc<str>, u16),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Name(name, port) => write!(f, "{name}:{port}"),
        }
    }
}

/// `8080/v1  10.0.0.7:80  not ready`: port and subset, place, reason.
impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { port, subset, place, reason } = self;
        let slash = if subset.is_empty() { "" } else { "/" };
        write!(f, "{port}{slash}{subset}  {place}  {reason}")
    }
}

/// Why an endpoint is left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Its pod is not ready, or its WorkloadEntry is not healthy.
    NotReady,
    /// Its pod is shutting down.
    Terminating,
    /// Its address is never an endpoint.
    Refused(AddressRefusal),
    /// It is in a network that this gateway does not serve or see.
    Network(Arc<str>),
    /// It is on another node, and its Service has `internalTrafficPolicy: Local`.
    OtherNode,
    /// `localityLbSetting.distribute` of the DestinationRule gives its locality no share.
    Distribute,
    /// It is a host name where only an address is one, or a path of a socket.
    Hostname,
    /// It is a host name that DNS has not answered for.
    Unresolved,
    /// The DestinationRule's `tls.mode` says that clients do not speak mesh mutual TLS to it.
    RuleTls {
        /// `namespace/name`.
        rule: Arc<str>,
        /// As written.
        mode: &'static str,
    },
    /// A PeerAuthentication disables mutual TLS for it.
    PeerAuthentication(Arc<str>),
    /// Its label `security.istio.io/tlsMode` is not `istio`.
    TlsModeLabel,
    /// Nothing says that it speaks mesh mutual TLS.
    NoMeshTls,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotReady => f.write_str("not ready"),
            Self::Terminating => f.write_str("terminating"),
            Self::Refused(refusal) => f.write_str(refusal.as_str()),
            Self::Network(network) if network.is_empty() => {
                f.write_str("without a network, and only named networks are seen")
            }
            Self::Network(network) => write!(f, "in network {network}, not served from here"),
            Self::OtherNode => f.write_str("on another node, with internalTrafficPolicy: Local"),
            Self::Distribute => {
                f.write_str("its locality has no share in localityLbSetting.distribute")
            }
            Self::Hostname => f.write_str("not an IP address, and its resolution is not DNS"),
            Self::Unresolved => f.write_str("a host name without an answer of DNS so far"),
            Self::RuleTls { rule, mode } => {
                write!(f, "no mesh TLS: DestinationRule {rule} has tls.mode {mode}")
            }
            Self::PeerAuthentication(policy) => {
                write!(f, "no mesh TLS: PeerAuthentication {policy} has mode DISABLE")
            }
            Self::TlsModeLabel => {
                f.write_str("no mesh TLS: label security.istio.io/tlsMode is not istio")
            }
            Self::NoMeshTls => f.write_str(
                "no mesh TLS known: no sidecar found, no label security.istio.io/tlsMode: istio",
            ),
        }
    }
}

impl Reason {
    /// A word for metrics and sums.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::NotReady => "not_ready",
            Self::Terminating => "terminating",
            Self::Refused(_) => "address_refused",
            Self::Network(_) => "network",
            Self::OtherNode => "other_node",
            Self::Distribute => "distribute",
            Self::Hostname => "hostname",
            Self::Unresolved => "unresolved",
            Self::RuleTls { .. }
            | Self::PeerAuthentication(_)
            | Self::TlsModeLabel
            | Self::NoMeshTls => "no_mesh_tls",
        }
    }
}
