//! Host names, addresses and visibility as Istio's manifests write them.
//!
//! Must not know: which hosts exist.

use std::{fmt, net::IpAddr};

use serde::{Deserialize, Deserializer};

use super::scalar;
use crate::routing::HostPattern;

/// A host, `*` or `*.suffix`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HostName(pub HostPattern);

impl<'de> Deserialize<'de> for HostName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        scalar::parsed(deserializer, |text| {
            HostPattern::parse(text).map(Self).ok_or_else(|| not_a_host(text))
        })
    }
}

/// An entry of a Gateway's `hosts`: `host`, `namespace/host`, `./host` or `*/host`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ServerHost {
    /// The namespaces whose services are meant.
    pub namespace: ServerNamespace,
    /// The hosts that are meant.
    pub host: HostPattern,
}

/// The part of a Gateway's host before the `/`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ServerNamespace {
    /// No such part, or `*`.
    Any,
    /// `.`: the namespace of the Gateway.
    Own,
    /// A namespace by name.
    Named(Box<str>),
}

impl ServerHost {
    /// Reads one entry.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (namespace, host) = match text.split_once('/') {
            None => (ServerNamespace::Any, text),
            Some(("*", host)) => (ServerNamespace::Any, host),
            Some((".", host)) => (ServerNamespace::Own, host),
            Some((name, host)) if is_namespace(name) => (ServerNamespace::Named(name.into()), host),
            Some(_) => return None,
        };
        Some(Self { namespace, host: HostPattern::parse(host)? })
    }
}

impl<'de> Deserialize<'de> for ServerHost {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        scalar::parsed(deserializer, |text| Self::parse(text).ok_or_else(|| not_a_host(text)))
    }
}

impl fmt::Display for ServerHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            ServerNamespace::Any => {}
            ServerNamespace::Own => f.write_str("./")?,
            ServerNamespace::Named(name) => write!(f, "{name}/")?,
        }
        self.host.fmt(f)
    }
}

/// An entry of `exportTo`: who sees an object.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ExportTo {
    /// `*`: every namespace.
    All,
    /// `.`: its own namespace.
    Own,
    /// `~`: nobody.
    Nobody,
    /// One namespace by name.
    Namespace(Box<str>),
}

impl ExportTo {
    /// Reads one entry; a Service lists them, with commas, in an annotation.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "*" => Self::All,
            "." => Self::Own,
            "~" => Self::Nobody,
            name if is_namespace(name) => Self::Namespace(name.into()),
            _ => return None,
        })
    }
}

impl<'de> Deserialize<'de> for ExportTo {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        scalar::parsed(deserializer, |text| {
            Self::parse(text).ok_or_else(|| format!("`{text}` is not a namespace, `*`, `.` or `~`"))
        })
    }
}

/// The address of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// An IP address.
    Ip(IpAddr),
    /// `unix:///path` of a socket, which is never dialled from here.
    Unix(Box<str>),
    /// A name to resolve, as written.
    Name(Box<str>),
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        scalar::parsed(deserializer, |text| {
            Ok(match text.parse() {
                Ok(ip) => Self::Ip(ip),
                Err(_) if text.starts_with("unix:") => Self::Unix(text.into()),
                Err(_) => Self::Name(text.into()),
            })
        })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(ip) => ip.fmt(f),
            Self::Unix(text) | Self::Name(text) => f.write_str(text),
        }
    }
}

/// A DNS label, as Kubernetes wants of a namespace.
fn is_namespace(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=63).contains(&text.len()) && text.bytes().all(allowed)
}

fn not_a_host(text: &str) -> String {
    format!("`{text}` is not a host: write a DNS name, `*` or `*.suffix`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_servers_host_may_name_a_namespace() {
        for (text, expected) in [
            ("'*.global'", Some("*.global")),
            ("'*/*.global'", Some("*.global")),
            ("'./*.global'", Some("./*.global")),
            ("ns2/bar.ns2.svc.cluster.local", Some("ns2/bar.ns2.svc.cluster.local")),
            ("'*'", Some("*")),
            ("'*foo.global'", None),
            ("'/a'", None),
            ("'a/b/c'", None),
            ("'NS/a'", None),
            ("''", None),
        ] {
            let parsed = serde_norway::from_str::<ServerHost>(text).ok();
            assert_eq!(parsed.map(|host| host.to_string()).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn an_export_is_a_namespace_or_a_sign() {
        assert_eq!(ExportTo::parse("*"), Some(ExportTo::All));
        assert_eq!(ExportTo::parse("."), Some(ExportTo::Own));
        assert_eq!(ExportTo::parse("~"), Some(ExportTo::Nobody));
        assert_eq!(ExportTo::parse("ns2"), Some(ExportTo::Namespace("ns2".into())));
        assert_eq!(ExportTo::parse("*.a"), None);
        assert_eq!(ExportTo::parse(""), None);
    }
}
