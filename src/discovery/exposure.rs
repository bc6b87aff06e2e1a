//! Which hosts the Gateways that select us expose.
//!
//! Pure. Only servers with `tls.mode: AUTO_PASSTHROUGH` count. Their `hosts` are compared with the
//! host as asked, their `ns/` part with the namespace of the service found. Must not know: which
//! services exist.

use std::{cmp::Reverse, collections::HashMap, fmt, sync::Arc};

use ahash::RandomState;

use super::{Identity, finding::full_name};
use crate::{
    manifests::kinds::{
        Gateway, Labels,
        gateway::{Server, ServerTlsMode},
        host::ServerNamespace,
    },
    routing::{Host, HostPattern, Rewrite},
};

/// What the selecting Gateways expose.
#[derive(Debug, Default)]
pub struct Exposure {
    /// Selecting servers, in the order of their Gateways.
    servers: Vec<ExposedHosts>,
    exact: HashMap<Host, Vec<usize>, RandomState>,
    wildcards: Vec<usize>,
    rewrite: Option<Rewrite>,
    selection: Selection,
}

/// One entry of a selecting server's `hosts`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExposedHosts {
    /// `namespace/name` of the Gateway.
    pub gateway: Arc<str>,
    /// The namespace whose services it covers; `None`: all.
    pub namespace: Option<Arc<str>>,
    /// The hosts it covers.
    pub hosts: HostPattern,
}

impl fmt::Display for ExposedHosts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let namespace = self.namespace.as_deref().unwrap_or("*");
        write!(f, "{namespace}/{} of Gateway {}", self.hosts, self.gateway)
    }
}

/// Which Gateways select us; for readiness.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Those that do, with an AUTO_PASSTHROUGH server.
    pub selected: Vec<SelectedServer>,
    /// When none does: the one that comes nearest.
    pub nearest: Option<NearestGateway>,
}

/// An AUTO_PASSTHROUGH server that selects us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SelectedServer {
    /// `namespace/name` of the Gateway.
    pub gateway: Arc<str>,
    /// The port it was written for, which need not be ours.
    pub port: u16,
    /// Its hosts, as written.
    pub hosts: Vec<String>,
}

/// A Gateway that would select us if one label were different.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NearestGateway {
    /// `namespace/name`.
    pub gateway: Arc<str>,
    /// The label that differs; the first of them.
    pub label: String,
    /// What its selector asks for.
    pub wanted: String,
    /// What we have.
    pub found: Option<String>,
    /// How many labels differ.
    pub differing: usize,
}

impl fmt::Display for NearestGateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { gateway, label, wanted, found, .. } = self;
        write!(f, "Gateway {gateway} selects label {label}={wanted}, this gateway has ")?;
        match found {
            Some(found) => write!(f, "{label}={found}"),
            None => write!(f, "no label {label}"),
        }
    }
}

impl Exposure {
    /// Reads all Gateways, in the order in which they are to be named.
    pub(super) fn new<'a>(
        gateways: impl Iterator<Item = &'a Gateway>,
        identity: &Identity,
    ) -> Self {
        let mut exposure = Self { rewrite: identity.rewrite(), ..Self::default() };
        let mut nearest: Vec<NearestGateway> = Vec::new();
        for gateway in gateways {
            let mut servers = gateway.spec.servers.iter().filter(|s| is_auto_passthrough(s));
            let name: Arc<str> = full_name(&gateway.meta).into();
            match difference(&name, &gateway.spec.selector, &identity.labels) {
                None => servers.for_each(|server| exposure.add(gateway, &name, server)),
                Some(difference) if servers.next().is_some() => nearest.push(difference),
                Some(_) => {}
            }
        }
        if exposure.selection.selected.is_empty() {
            let key = |n: &NearestGateway| (n.differing, Reverse(n.found.is_some()));
            exposure.selection.nearest = nearest.into_iter().min_by_key(key);
        }
        exposure
    }
}

fn is_auto_passthrough(server: &Server) -> bool {
    server.tls.as_ref().is_some_and(|tls| tls.mode == ServerTlsMode::AutoPassthrough)
}

/// How `selector` differs from `labels`; `None` when it selects them. An empty one selects all.
fn difference(gateway: &Arc<str>, selector: &Labels, labels: &Labels) -> Option<NearestGateway> {
    let mut differing = selector.iter().filter(|(key, value)| labels.get(key) != Some(value));
    let (label, wanted) = differing.next()?;
    Some(NearestGateway {
        gateway: Arc::clone(gateway),
        label: label.to_owned(),
        wanted: wanted.to_owned(),
        found: labels.get(label).map(str::to_owned),
        differing: 1 + differing.count(),
    })
}

impl Exposure {
    fn add(&mut self, gateway: &Gateway, name: &Arc<str>, server: &Server) {
        for written in &server.hosts {
            let namespace = match &written.namespace {
                ServerNamespace::Any => None,
                ServerNamespace::Own => Some(Arc::clone(&gateway.meta.namespace)),
                ServerNamespace::Named(name) => Some(name.clone().into()),
            };
            let index = self.servers.len();
            match &written.host {
                HostPattern::Exact(host) => {
                    self.exact.entry(host.clone()).or_default().push(index);
                }
                HostPattern::Any | HostPattern::Suffix(_) => self.wildcards.push(index),
            }
            let hosts = written.host.clone();
            self.servers.push(ExposedHosts { gateway: Arc::clone(name), namespace, hosts });
        }
        self.selection.selected.push(SelectedServer {
            gateway: Arc::clone(name),
            port: server.port.number,
            hosts: server.hosts.iter().map(ToString::to_string).collect(),
        });
    }

    /// What exposes `host`, in lower case, of a service in `namespace`.
    #[must_use]
    pub fn covers(&self, host: &str, namespace: &str) -> Option<&ExposedHosts> {
        let exact = self.exact.get(host).into_iter().flatten();
        let covering = |server: &&ExposedHosts| {
            server.namespace.as_deref().is_none_or(|own| own == namespace)
                && server.hosts.matches(host)
        };
        exact.chain(&self.wildcards).map(|index| &self.servers[*index]).find(covering)
    }

    /// All entries of all selecting servers.
    #[must_use]
    pub fn servers(&self) -> &[ExposedHosts] {
        &self.servers
    }

    /// Which Gateways select us.
    #[must_use]
    pub fn selection(&self) -> &Selection {
        &self.selection
    }

    /// The host under the rewrite suffix by which `host` is asked for from other clusters.
    #[must_use]
    pub fn alias(&self, host: &str) -> Option<String> {
        let rewrite = self.rewrite.as_ref()?;
        let stem = host.strip_suffix(&*rewrite.replacement)?;
        Some([stem, &*rewrite.suffix].concat())
    }

    /// True when `host` is looked up only as rewritten.
    #[must_use]
    pub fn under_suffix(&self, host: &str) -> bool {
        self.rewrite.as_ref().is_some_and(|rewrite| rewrite.apply(host).is_some())
    }
}
