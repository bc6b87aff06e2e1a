//! The gates of an explanation, one after the other.
//!
//! Must not know: how a step is printed.

use super::{Catalog, Gate, Question, Reached, Step, hints};
use crate::{
    discovery::{Role, Visibility, world::Definition},
    routing::{ServiceKind, ServiceRoutes, SubsetKey},
};

/// Asks every gate, up to the first that refuses.
pub(super) fn pass(
    name: &str,
    question: &Question<'_>,
    catalog: &Catalog,
    steps: &mut Vec<Step>,
) -> Option<Reached> {
    let key = form(name, steps)?;
    alpn(question, steps)?;
    let service = service(&key, catalog, steps)?;
    export_to(service, catalog, steps)?;
    hosts(&key, service, catalog, steps)?;
    port(&key, service, steps)?;
    subset(&key, service, catalog, steps)?;
    let route = service
        .routes
        .iter()
        .find(|route| route.port == key.port && *route.subset == *key.subset)?;
    let reached = Reached::new(route, catalog);
    let counts = (reached.endpoints.len(), reached.left_out.len());
    let seen = format!("{} in, {} left out", counts.0, counts.1);
    let passed = counts.0 > 0;
    steps.push(Step { gate: Gate::Endpoints, passed, seen, hints: Vec::new() });
    Some(reached)
}

/// Notes what a gate says; `None` when it refuses.
fn step(
    steps: &mut Vec<Step>,
    gate: Gate,
    passed: bool,
    seen: String,
    hints: Vec<String>,
) -> Option<()> {
    steps.push(Step { gate, passed, seen, hints });
    passed.then_some(())
}

fn form<'n>(name: &'n str, steps: &mut Vec<Step>) -> Option<SubsetKey<'n>> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    // What is longer than 255 bytes is no server name (RFC 6066 as BoringSSL reads it).
    let fits = name.len() <= 255 && name.bytes().all(allowed);
    let key = SubsetKey::parse(name).filter(|_| fits);
    match key {
        Some(SubsetKey { port, subset: "", host }) => {
            let seen = format!("port {port}, no subset, host {host}");
            step(steps, Gate::Form, true, seen, Vec::new())?;
        }
        Some(SubsetKey { port, subset, host }) => {
            let seen = format!("port {port}, subset {subset}, host {host}");
            step(steps, Gate::Form, true, seen, Vec::new())?;
        }
        None => {
            let seen = if name.len() > 255 {
                format!("has {} bytes; a server name has 255 at most", name.len())
            } else {
                "is not outbound_.<port>_.<subset>_.<host>".to_owned()
            };
            step(steps, Gate::Form, false, seen, hints::form(name))?;
        }
    }
    key
}

fn alpn(question: &Question<'_>, steps: &mut Vec<Step>) -> Option<()> {
    let wanted = question.alpn_wanted.join(", ");
    let Some(offered) = question.alpn else {
        let seen = if wanted.is_empty() {
            "any protocol, or none".to_owned()
        } else {
            format!("not judged: the client has to offer one of {wanted}")
        };
        return step(steps, Gate::Alpn, true, seen, Vec::new());
    };
    let found = offered.iter().find(|protocol| question.alpn_wanted.contains(*protocol));
    match found {
        _ if question.alpn_wanted.is_empty() => {
            step(steps, Gate::Alpn, true, "any protocol, or none".into(), Vec::new())
        }
        Some(found) => step(steps, Gate::Alpn, true, format!("offers {found}"), Vec::new()),
        None => {
            let seen = match offered {
                [] => "offers none".to_owned(),
                _ => format!("offers {}", offered.join(", ").escape_debug()),
            };
            let hints = vec![format!("one of {wanted} is wanted (gateway.alpn)")];
            step(steps, Gate::Alpn, false, seen, hints)
        }
    }
}

fn service<'c>(
    key: &SubsetKey<'_>,
    catalog: &'c Catalog,
    steps: &mut Vec<Step>,
) -> Option<&'c ServiceRoutes> {
    let rewritten = catalog.table().rewritten(key.host);
    let lookup = rewritten.as_deref().unwrap_or(key.host);
    let found = catalog.table().service(lookup);
    let served = found
        .filter(|routes| rewritten.is_none() || routes.service.kind == ServiceKind::Kubernetes);
    let what = match &rewritten {
        Some(rewritten) => format!("{} looked up as {rewritten}", key.host),
        None => key.host.to_owned(),
    };
    match served {
        Some(routes) => {
            let service = &routes.service;
            let kind = hints::kind(service.kind);
            let seen = format!("{what}: {kind} {}/{}", service.namespace, service.name);
            step(steps, Gate::Service, true, seen, Vec::new())?;
        }
        None => {
            let hints = hints::service(key.host, rewritten.as_deref(), catalog);
            step(steps, Gate::Service, false, format!("{what}: no such service"), hints)?;
        }
    }
    served
}

fn export_to(routes: &ServiceRoutes, catalog: &Catalog, steps: &mut Vec<Step>) -> Option<()> {
    let own = &catalog.identity().namespace;
    let mesh = &catalog.world().mesh;
    let defined = catalog.defined_as(&routes.service);
    let visibility = match catalog.world().definition(defined.as_str(), own)? {
        Definition::Service(service, _) => {
            Visibility::of_service(&service.meta, mesh.services_to()).0
        }
        Definition::Entry(entry, _) => mesh.entry_visibility(entry),
    };
    let kind = hints::kind(routes.service.kind);
    let name = format!("{kind} {}/{}", routes.service.namespace, routes.service.name);
    if visibility.visible_to(own) {
        let seen = format!("visible to namespace {own}");
        return step(steps, Gate::ExportTo, true, seen, Vec::new());
    }
    let seen = format!("{name} is not visible to namespace {own}");
    let field = match routes.service.kind {
        ServiceKind::Kubernetes => "its annotation networking.istio.io/exportTo",
        ServiceKind::ServiceEntry => "its exportTo",
    };
    let hints = vec![format!("{field} would have to list {own} or *")];
    step(steps, Gate::ExportTo, false, seen, hints)
}

fn hosts(
    key: &SubsetKey<'_>,
    routes: &ServiceRoutes,
    catalog: &Catalog,
    steps: &mut Vec<Step>,
) -> Option<()> {
    let egress = catalog.identity().role == Role::Egress;
    if egress && routes.service.kind == ServiceKind::Kubernetes {
        let seen = "an egress gateway serves only ServiceEntries".to_owned();
        return step(steps, Gate::Hosts, false, seen, Vec::new());
    }
    match catalog.exposure().covers(key.host, &routes.service.namespace) {
        Some(covering) => step(steps, Gate::Hosts, true, covering.to_string(), Vec::new()),
        None => {
            let seen = format!("no Gateway that selects this one covers {}", key.host);
            let hints = hints::hosts(key.host, &routes.service.namespace, catalog);
            step(steps, Gate::Hosts, false, seen, hints)
        }
    }
}

fn port(key: &SubsetKey<'_>, routes: &ServiceRoutes, steps: &mut Vec<Step>) -> Option<()> {
    let whole = || routes.routes.iter().filter(|route| route.subset.is_empty());
    if whole().any(|route| route.port == key.port) {
        return step(steps, Gate::Port, true, key.port.to_string(), Vec::new());
    }
    let ports: Vec<String> = whole().map(|route| route.port.to_string()).collect();
    let mut hints = vec![match ports.as_slice() {
        [] => "it has no port that can be served (TCP)".to_owned(),
        ports => format!("it has {} (service ports, not target ports)", ports.join(", ")),
    }];
    let behind = whole().find(|route| {
        route.endpoints.load().endpoints().iter().any(|e| e.address.port() == key.port)
    });
    hints.extend(behind.map(|route| {
        format!("{} is the target port of service port {}: ask for that", key.port, route.port)
    }));
    step(steps, Gate::Port, false, format!("the service has no port {}", key.port), hints)
}

fn subset(
    key: &SubsetKey<'_>,
    routes: &ServiceRoutes,
    catalog: &Catalog,
    steps: &mut Vec<Step>,
) -> Option<()> {
    if key.subset.is_empty() {
        return step(steps, Gate::Subset, true, "none: all endpoints".into(), Vec::new());
    }
    let host = routes.service.host.as_str();
    let defined = catalog.defined_as(&routes.service);
    let rule = catalog.rule_of(defined.as_str(), &routes.service.namespace);
    let subset = rule.and_then(|rule| rule.subsets.iter().find(|s| *s.name == *key.subset));
    match (rule, subset) {
        (Some(rule), Some(subset)) => {
            let labels = if subset.labels.is_empty() {
                "no labels, so all endpoints".to_owned()
            } else {
                subset.labels.to_string()
            };
            let seen = format!("{} of DestinationRule {}: {labels}", subset.name, rule.name);
            step(steps, Gate::Subset, true, seen, Vec::new())
        }
        _ => {
            let seen = format!("no subset {} of {host}", key.subset);
            step(steps, Gate::Subset, false, seen, hints::subset(key.subset, host, rule, catalog))
        }
    }
}
