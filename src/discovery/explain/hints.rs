//! What would have passed a gate that refused.
//!
//! Must not know: how a hint is printed.

use super::Catalog;
use crate::{
    discovery::{
        Role, destination_rule::Rule, finding::full_name, nearest::nearest, world::is_served,
    },
    manifests::kinds::service_entry::Location,
    routing::ServiceKind,
};

/// How many near names are worth telling.
const NAMES_MAX: usize = 3;

/// The kind of object, as manifests write it.
pub(super) fn kind(kind: ServiceKind) -> &'static str {
    match kind {
        ServiceKind::Kubernetes => "Service",
        ServiceKind::ServiceEntry => "ServiceEntry",
    }
}

/// What is wrong with the form of a name.
pub(super) fn form(name: &str) -> Vec<String> {
    let hint = if name.is_empty() {
        "the client sent no server name"
    } else if name.starts_with("inbound_.") {
        "inbound_. is the direction of a sidecar; gateways serve outbound_."
    } else if name.starts_with("outbound|") {
        "the form with | is a cluster's name; in a server name it is outbound_. and _."
    } else if !name.starts_with("outbound_.") {
        "a plain host name: the client's sidecar did not originate mesh TLS for it"
    } else if !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)) {
        "only letters, digits, dot, hyphen and underscore are allowed"
    } else if name.matches("_.").count() < 3 {
        "a part is missing: an empty subset is written as outbound_.8080_._.host"
    } else {
        "the port is plain decimal, 1 to 65535, without sign or leading zero; the host not empty"
    };
    vec![hint.to_owned()]
}

/// Why no service has the host, and which hosts come near.
pub(super) fn service(host: &str, rewritten: Option<&str>, catalog: &Catalog) -> Vec<String> {
    let world = catalog.world();
    let mut hints = Vec::new();
    if let Some(rewritten) = rewritten {
        for entry in [host, rewritten].into_iter().flat_map(|host| world.entries_of(host)) {
            hints.push(format!(
                "ServiceEntry {} has this host, but under the suffix an ingress gateway serves \
                 only Services of its own cluster: it is no transit",
                full_name(&entry.meta)
            ));
        }
    } else {
        let external = world
            .entries_of(host)
            .iter()
            .filter(|entry| entry.spec.location == Location::MeshExternal);
        hints.extend(external.map(|entry| {
            let name = full_name(&entry.meta);
            format!("ServiceEntry {name} is MESH_EXTERNAL, which is never served")
        }));
    }
    let lookup = rewritten.unwrap_or(host);
    let named = world.service_of(lookup).and_then(|(ns, name)| world.services.get(ns, name));
    if let Some(service) = named.filter(|service| !is_served(service)) {
        let name = full_name(&service.meta);
        hints.push(format!("Service {name} is of type ExternalName, which is never served"));
    }
    hints.extend(near_hosts(host, rewritten, catalog));
    hints
}

fn near_hosts(host: &str, rewritten: Option<&str>, catalog: &Catalog) -> Option<String> {
    let names: Vec<String> = match rewritten {
        Some(lookup) => {
            let local = catalog
                .table()
                .services()
                .filter(|routes| routes.service.kind == ServiceKind::Kubernetes);
            let names = local.map(|routes| routes.service.host.as_str());
            let near = nearest(lookup, names, NAMES_MAX);
            near.into_iter().filter_map(|near| catalog.exposure().alias(near)).collect()
        }
        None => {
            let names = catalog.table().services().map(|routes| routes.service.host.as_str());
            nearest(host, names, NAMES_MAX).into_iter().map(str::to_owned).collect()
        }
    };
    (!names.is_empty()).then(|| format!("near names: {}", names.join(", ")))
}

/// Which Gateway comes near to covering the host.
pub(super) fn hosts(host: &str, namespace: &str, catalog: &Catalog) -> Vec<String> {
    let exposure = catalog.exposure();
    if exposure.selection().selected.is_empty() {
        return match &exposure.selection().nearest {
            Some(nearest) => vec![format!("no Gateway selects this one; {nearest}")],
            None => vec!["there is no Gateway with a server of tls.mode AUTO_PASSTHROUGH".into()],
        };
    }
    let covering = exposure.servers().iter().filter(|server| server.hosts.matches(host));
    let other_namespace: Vec<String> = covering
        .map(|server| {
            let only = server.namespace.as_deref().unwrap_or("*");
            format!("{server} covers it for namespace {only}, the service is in {namespace}")
        })
        .collect();
    if !other_namespace.is_empty() {
        return other_namespace;
    }
    let servers = exposure.servers().iter().take(NAMES_MAX);
    let mut hints: Vec<String> = servers.map(|server| format!("there is {server}")).collect();
    hints.push(format!("hosts: [\"{host}\"] in a Gateway would cover it"));
    if catalog.identity().role == Role::Ingress
        && let Some(alias) = exposure.alias(host)
        && exposure.covers(&alias, namespace).is_some()
    {
        hints.push(format!("it is covered when asked for as {alias}"));
    }
    hints
}

/// Which subsets there are, and which rule has the one asked for.
pub(super) fn subset(
    subset: &str,
    host: &str,
    rule: Option<&Rule>,
    catalog: &Catalog,
) -> Vec<String> {
    let mut hints = vec![match rule {
        None => format!("no DestinationRule is in force for {host}"),
        Some(rule) if rule.subsets.is_empty() => {
            format!("DestinationRule {} has no subsets", rule.name)
        }
        Some(rule) => {
            let names: Vec<&str> = rule.subsets.iter().map(|subset| &*subset.name).collect();
            format!("DestinationRule {} has {}", rule.name, names.join(", "))
        }
    }];
    let in_force = rule.map(|rule| &*rule.name);
    for written in catalog.world().destination_rules.oldest_first(|rule| &rule.meta) {
        let name = full_name(&written.meta);
        let has = written.spec.subsets.iter().any(|s| s.name.eq_ignore_ascii_case(subset));
        let domain = &catalog.identity().cluster_domain;
        if has && in_force != Some(&*name) && Rule::hosts_of(written, domain).matches(host) {
            hints.push(format!(
                "DestinationRule {name} has it, but is not in force for this gateway"
            ));
        }
    }
    hints
}
