//! A cluster as the operator gives it: name, manifests, and how its gateway is reached.
//!
//! Must not know: what is in the manifests.

use std::{collections::BTreeMap, fmt, net::IpAddr, path::PathBuf, str::FromStr};

use super::names::{is_label_key, is_label_value};
use crate::{
    manifests::{Kind, SourceError, Sources, kubernetes},
    routing::Host,
};

/// The port of a gateway where none is given.
const GATEWAY_PORT: u16 = 15443;

/// How an API instead of a directory is given.
const KUBECONFIG: &str = "kubeconfig:";

/// One cluster: `NAME=DIR,gateway=ADDR,locality=REGION/ZONE`, or `NAME=kubeconfig:FILE,...`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its name, which becomes the value of the label `cluster` of its gateways.
    pub name: String,
    /// Its manifests; empty where they come from its API.
    pub directory: PathBuf,
    /// Its API, where its objects come from there.
    pub kubernetes: Option<kubernetes::Config>,
    /// Its gateways, as other clusters reach them.
    pub gateways: Vec<GatewayAddress>,
    /// `region/zone/subzone` of its gateways.
    pub locality: Option<String>,
    /// Their network.
    pub network: Option<String>,
    /// Further labels of its gateways.
    pub labels: BTreeMap<String, String>,
}

/// Where a gateway is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayAddress {
    /// An address, or a name to resolve.
    pub host: GatewayHost,
    /// Its port.
    pub port: u16,
}

/// An address, or a name to resolve.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum GatewayHost {
    Ip(IpAddr),
    Name(Host),
}

impl Peer {
    /// Opens its objects, wherever they are.
    ///
    /// # Errors
    /// When the directory or the kubeconfig cannot be read.
    pub fn open(&self) -> Result<Sources, SourceError> {
        self.open_kinds(Kind::ALL)
    }

    /// Opens the objects that say what others own in it, which are few.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_importing(&self) -> Result<Sources, SourceError> {
        self.open_kinds(&[Kind::ServiceEntry, Kind::DestinationRule, Kind::Service])
    }

    fn open_kinds(&self, kinds: &[Kind]) -> Result<Sources, SourceError> {
        let directories = if self.kubernetes.is_some() { &[][..] } else { &[&self.directory] };
        Sources::open_kinds(directories, self.kubernetes.as_ref(), kinds)
    }

    /// The region of its locality.
    #[must_use]
    pub fn region(&self) -> Option<&str> {
        self.locality.as_deref().and_then(|locality| locality.split('/').next())
    }
}

impl FromStr for Peer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.split(',');
        let first = parts.next().and_then(|first| first.split_once('='));
        let Some((name, directory)) = first.filter(|(_, directory)| !directory.is_empty()) else {
            return Err("write NAME=DIR,gateway=ADDR".to_owned());
        };
        let kubeconfig = directory.strip_prefix(KUBECONFIG);
        let kubernetes = kubeconfig.map(|file| kubernetes::Config {
            kubeconfig: (!file.is_empty()).then(|| file.into()),
            mesh: Some(("istio-system".to_owned(), "istio".to_owned())),
            ..kubernetes::Config::default()
        });
        let directory = if kubernetes.is_some() { "" } else { directory };
        if !is_label_value(name) {
            return Err(format!("`{name}` is no name of a cluster: write letters, digits and -_."));
        }
        let mut peer = Self {
            name: name.to_owned(),
            directory: directory.into(),
            kubernetes,
            gateways: Vec::new(),
            locality: None,
            network: None,
            labels: BTreeMap::new(),
        };
        parts.try_for_each(|part| peer.take(part))?;
        Ok(peer)
    }
}

impl Peer {
    fn take(&mut self, part: &str) -> Result<(), String> {
        let Some((key, value)) = part.split_once('=') else {
            return Err(format!("`{part}` is not KEY=VALUE (a directory cannot hold a comma)"));
        };
        let unfit = || format!("{key}: `{value}` is not made of letters, digits and -_.");
        match key {
            "gateway" => self.gateways.push(value.parse()?),
            "locality" => {
                let parts = value.split('/').count();
                if parts > 3 || !value.split('/').all(is_label_value) {
                    return Err(format!("locality: `{value}` is not REGION[/ZONE[/SUBZONE]]"));
                }
                self.locality = Some(value.to_owned());
            }
            "context" if self.kubernetes.is_some() => {
                let kubernetes = self.kubernetes.iter_mut();
                kubernetes.for_each(|api| api.context = Some(value.to_owned()));
            }
            "network" if is_label_value(value) => self.network = Some(value.to_owned()),
            "network" => return Err(unfit()),
            _ => match key.strip_prefix("label.") {
                Some(label) if is_label_key(label) && is_label_value(value) => {
                    self.labels.insert(label.to_owned(), value.to_owned());
                }
                Some(_) => return Err(unfit()),
                None => {
                    return Err(format!(
                        "`{key}` is unknown: there are gateway, locality, network, label.KEY, and \
                         context with a kubeconfig"
                    ));
                }
            },
        }
        Ok(())
    }
}

impl FromStr for GatewayAddress {
    type Err = String;

    /// `192.0.2.1`, `192.0.2.1:15443`, `2001:db8::1`, `[2001:db8::1]:15443`, `gw.example:15443`.
    fn from_str(text: &str) -> Result<Self, String> {
        let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
        if let Ok(ip) = bare.parse() {
            return Self::at(GatewayHost::Ip(ip), GATEWAY_PORT, text);
        }
        let (host, port) = match text.rsplit_once(':') {
            None => (text, Some(GATEWAY_PORT)),
            Some((host, port)) => (host, port.parse().ok().filter(|port| *port > 0)),
        };
        let unfit =
            || format!("`{text}` is no address of a gateway: write IP, HOST, IP:PORT or HOST:PORT");
        let port = port.ok_or_else(unfit)?;
        let ip = host.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(host);
        match ip.parse::<IpAddr>() {
            Ok(ip) if ip.is_ipv4() || host.starts_with('[') => {
                Self::at(GatewayHost::Ip(ip), port, text)
            }
            // An IPv4 address that is none, such as 10.0.0.256, is no host name either.
            _ => match Host::parse(host) {
                Some(name) if !host.bytes().all(|b| b.is_ascii_digit() || b == b'.') => {
                    Self::at(GatewayHost::Name(name), port, text)
                }
                _ => Err(unfit()),
            },
        }
    }
}

impl GatewayAddress {
    fn at(host: GatewayHost, port: u16, text: &str) -> Result<Self, String> {
        match host {
            GatewayHost::Ip(ip) if ip.is_unspecified() || ip.is_multicast() => {
                Err(format!("`{text}` is no address of a gateway: nothing is reached there"))
            }
            host => Ok(Self { host, port }),
        }
    }
}

impl fmt::Display for GatewayHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(ip) => ip.fmt(f),
            Self::Name(name) => name.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gateway_is_an_address_or_a_name_with_or_without_port() {
        for (text, host, port) in [
            ("192.0.2.1", "192.0.2.1", 15443),
            ("192.0.2.1:443", "192.0.2.1", 443),
            ("2001:db8::1", "2001:db8::1", 15443),
            ("[2001:db8::1]", "2001:db8::1", 15443),
            ("[2001:db8::1]:443", "2001:db8::1", 443),
            ("GW.example", "gw.example", 15443),
            ("gw.example:443", "gw.example", 443),
        ] {
            let parsed: GatewayAddress = text.parse().expect(text);
            assert_eq!((&*parsed.host.to_string(), parsed.port), (host, port), "{text}");
        }
        for text in ["", ":443", "a:0", "a:x", "0.0.0.0", "224.0.0.1", "10.0.0.256", "a b", "[a]:1"]
        {
            assert!(text.parse::<GatewayAddress>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_cluster_is_a_name_a_directory_and_what_is_known_of_its_gateway() {
        let text = "c2=/a/b=c,gateway=gw.example,gateway=192.0.2.1,locality=eu/eu-1,network=n2,\
                    label.version=beta";
        let peer: Peer = text.parse().expect("a cluster");
        assert_eq!((&*peer.name, peer.directory.to_str()), ("c2", Some("/a/b=c")));
        assert_eq!((peer.gateways.len(), peer.region()), (2, Some("eu")));
        assert_eq!((peer.network.as_deref(), &*peer.labels["version"]), (Some("n2"), "beta"));
        let peer: Peer = "c2=kubeconfig:/a/b,context=x,gateway=a".parse().expect("a cluster");
        let api = peer.kubernetes.expect("an API");
        assert_eq!(api.kubeconfig.as_deref(), Some("/a/b".as_ref()));
        assert_eq!((api.context.as_deref(), peer.gateways.len()), (Some("x"), 1));
        for (text, why) in [
            ("c2", "NAME=DIR"),
            ("c2=", "NAME=DIR"),
            ("=a", "no name of a cluster"),
            ("c 2=a", "no name of a cluster"),
            ("c2=a,b", "not KEY=VALUE"),
            ("c2=a,gateway=", "no address of a gateway"),
            ("c2=a,locality=a/b/c/d", "not REGION"),
            ("c2=a,locality=a//c", "not REGION"),
            ("c2=a,network=a b", "not made of"),
            ("c2=a,label.=x", "not made of"),
            ("c2=a,zone=x", "`zone` is unknown"),
            ("c2=a,context=x", "`context` is unknown"),
        ] {
            let error = text.parse::<Peer>().expect_err(text);
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
