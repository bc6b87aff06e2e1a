//! What this gateway would do, from its catalog.
//!
//! Must not know: what is right.

use std::{collections::BTreeSet, sync::Arc};

use super::view::{Algorithm, Member, RouteSeen, Seen, SetSeen};
use crate::{
    discovery::{Catalog, LeftOut, explain::Reached},
    routing::{EndpointSet, Policy, Route, ServiceKind, ServiceRoutes, SubsetKey},
};

/// Reads what is exposed. `alpn` are the names of which one is wanted.
pub(super) fn seen(catalog: &Catalog, alpn: &[String]) -> Seen {
    let alpn: BTreeSet<String> = alpn.iter().cloned().collect();
    let exposed = |service: &&ServiceRoutes| service.exposed || service.exposed_as_alias;
    let mut seen = Seen::default();
    for service in catalog.table().services().filter(exposed) {
        for route in &service.routes {
            seen.routes.insert(route.to_string(), of_route(service, route, catalog, &alpn));
        }
    }
    seen
}

fn of_route(
    service: &ServiceRoutes,
    route: &Arc<Route>,
    catalog: &Catalog,
    alpn: &BTreeSet<String>,
) -> RouteSeen {
    let key = route.key();
    let alias = service.exposed_as_alias.then(|| catalog.exposure().alias(key.host)).flatten();
    let own = service.exposed.then(|| key.host.to_owned());
    let name = |host: String| (SubsetKey { host: &host, ..key }.to_string(), alpn.clone());
    let reached = Reached::new(route, catalog);
    let set = route.endpoints.load();
    RouteSeen {
        names: own.into_iter().chain(alias).map(name).collect(),
        set: Some(of_set(&set, &reached)),
        unread: None,
        idle_timeout: set.policy().idle_timeout,
        max_duration: set.policy().max_duration,
        objects: objects(route, &reached),
    }
}

fn objects(route: &Route, reached: &Reached) -> Vec<String> {
    let kind = match route.service.kind {
        ServiceKind::Kubernetes => "Service",
        ServiceKind::ServiceEntry => "ServiceEntry",
    };
    let service = format!("{kind} {}/{}", route.service.namespace, route.service.name);
    let rule = reached.rule.iter().map(|rule| format!("DestinationRule {rule}"));
    let mesh = reached.mesh.iter().map(|mesh| format!("ConfigMap {mesh}"));
    std::iter::once(service).chain(rule).chain(mesh).collect()
}

fn of_set(set: &EndpointSet, reached: &Reached) -> SetSeen {
    let Policy { balance, warmup, connect_timeout, max_connections, keepalive, .. } = set.policy();
    let mut seen = SetSeen {
        members: Default::default(),
        idle: Default::default(),
        by_share: false,
        balance: Algorithm::Known(*balance),
        warmup: *warmup,
        connect_timeout: *connect_timeout,
        max_connections: *max_connections,
        outlier: set.policy().outlier.clone().filter(|_| reached.detects),
        keepalive: *keepalive,
    };
    for (index, endpoint) in set.endpoints().iter().enumerate() {
        let place = set.place(index);
        seen.by_share |= place.weight != endpoint.weight;
        let member = Member { weight: f64::from(place.weight), tier: u64::from(place.tier) };
        seen.members.insert(endpoint.address.to_string(), member);
    }
    for LeftOut { place, reason, .. } in &reached.left_out {
        seen.idle.insert(place.to_string(), reason.to_string());
    }
    seen.compact();
    seen
}
