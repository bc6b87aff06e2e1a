//! What a set of manifests comes to: what is exposed, what is not, and every remark.
//!
//! Pure. Must not know: files, and problems that objects have in themselves.

use std::{collections::BTreeMap, fmt, sync::Arc};

use super::{Catalog, Finding, LeftOut, Selection, Summary};
use crate::{
    manifests::{Kind, kinds::EnvoyFilter},
    routing::{Host, Rewrite, ServiceRoutes},
};

/// The report of a check.
#[derive(Clone, Debug)]
pub struct CheckReport {
    /// How much there is.
    pub summary: Summary,
    /// Which Gateways select us, or the nearest.
    pub selection: Selection,
    /// What clients can ask for, by host as asked.
    pub exposed: Vec<ExposedService>,
    /// Every endpoint that nobody can reach.
    pub left_out: Vec<(Host, LeftOut)>,
    /// Every remark.
    pub findings: Vec<Finding>,
}

/// One service that clients can ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExposedService {
    /// The host to ask for.
    pub host: String,
    /// The host of the service, where that is another.
    pub service: Option<Host>,
    /// Its ports; for each its subsets with the number of endpoints, the whole port (empty) first.
    pub ports: BTreeMap<u16, Vec<(Arc<str>, usize)>>,
}

impl CheckReport {
    /// Looks at everything.
    #[must_use]
    pub fn new(catalog: &Catalog) -> Self {
        let mut exposed: Vec<ExposedService> =
            catalog.table().services().flat_map(|routes| asked_for_as(routes, catalog)).collect();
        exposed.sort_by(|a, b| a.host.cmp(&b.host));
        let mut findings = catalog.findings();
        for filter in catalog.world().envoy_filters.oldest_first(|filter| &filter.meta) {
            findings.extend(compare(filter, catalog.table().rewrite()));
        }
        let left_out = catalog.left_out();
        Self {
            summary: Summary { findings: findings.len(), ..catalog.summary() },
            selection: catalog.selection().clone(),
            exposed,
            left_out: left_out.into_iter().map(|(h, out)| (h.clone(), out.clone())).collect(),
            findings,
        }
    }
}

impl Catalog {
    /// `namespace/name` of the DestinationRule in force for a service.
    #[must_use]
    pub fn rule_name(&self, host: &str, namespace: &str) -> Option<&Arc<str>> {
        self.rule_of(host, namespace).map(|rule| &rule.name)
    }
}

/// The hosts under which one service is exposed: none, its own, its alias, or both.
fn asked_for_as(routes: &ServiceRoutes, catalog: &Catalog) -> Vec<ExposedService> {
    let host = routes.service.host.as_str();
    let alias = routes.exposed_as_alias.then(|| catalog.exposure().alias(host)).flatten();
    let own = routes.exposed.then(|| host.to_owned());
    let mut ports: BTreeMap<u16, Vec<(Arc<str>, usize)>> = BTreeMap::new();
    for route in &routes.routes {
        let count = route.endpoints.load().endpoints().len();
        ports.entry(route.port).or_default().push((Arc::clone(&route.subset), count));
    }
    let exposed = |asked: String| {
        let service = (asked != host).then(|| routes.service.host.clone());
        ExposedService { host: asked, service, ports: ports.clone() }
    };
    alias.into_iter().chain(own).map(exposed).collect()
}

/// Compares the rewrite that an EnvoyFilter makes with ours.
fn compare(filter: &EnvoyFilter, ours: Option<&Rewrite>) -> Vec<Finding> {
    let note = |message: String| Finding::new(Kind::EnvoyFilter, &filter.meta, "spec", message);
    filter
        .rewrites
        .iter()
        .filter_map(|theirs| {
            let asks = format!("{} to {}", theirs.pattern, theirs.replacement);
            let Some(ours) = ours else {
                return Some(note(format!("rewrites {asks}; this gateway rewrites nothing")));
            };
            let pattern = format!("{}$", ours.suffix.replace('.', "\\."));
            let same = *theirs.pattern == *pattern && *theirs.replacement == *ours.replacement;
            (!same).then(|| {
                note(format!(
                    "rewrites {asks}; this gateway rewrites {pattern} to {}",
                    ours.replacement
                ))
            })
        })
        .collect()
}

impl fmt::Display for CheckReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Summary { services, exposed, routes, endpoints, left_out, findings } = self.summary;
        writeln!(
            f,
            "{services} services, {exposed} exposed; {routes} routes, {endpoints} endpoints"
        )?;
        self.selection.fmt(f)?;
        for service in &self.exposed {
            service.fmt(f)?;
        }
        writeln!(f, "{left_out} endpoints left out")?;
        for (host, left_out) in &self.left_out {
            writeln!(f, "  {host}:{left_out}")?;
        }
        writeln!(f, "{findings} remarks")
    }
}

impl fmt::Display for Selection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for server in &self.selected {
            let hosts = server.hosts.join(", ");
            writeln!(f, "selected by Gateway {}, port {}: {hosts}", server.gateway, server.port)?;
        }
        match (&self.nearest, self.selected.is_empty()) {
            (Some(nearest), true) => writeln!(f, "no Gateway selects this one: {nearest}"),
            (None, true) => {
                writeln!(f, "there is no Gateway with a server of tls.mode AUTO_PASSTHROUGH")
            }
            (_, false) => Ok(()),
        }
    }
}

impl fmt::Display for ExposedService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "  {}", self.host)?;
        if let Some(service) = &self.service {
            write!(f, " -> {service}")?;
        }
        for (port, subsets) in &self.ports {
            write!(f, "  {port}")?;
            for (subset, endpoints) in subsets {
                match &**subset {
                    "" => write!(f, " ({endpoints} endpoints)")?,
                    name => write!(f, " {name} ({endpoints})")?,
                }
            }
        }
        writeln!(f)
    }
}
