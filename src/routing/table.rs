//! The table: from a key to its endpoint set, or to the reason why not.
//!
//! Immutable once published but for the cells of its routes. Exposure (Gateway `hosts`,
//! `exportTo`) was decided when the table was built, so that a lookup is one hash and a scan of a
//! service's few ports. Must not know: Kubernetes objects, connections.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Instant,
};

use ahash::RandomState;
use arc_swap::ArcSwap;

use super::{EndpointSet, Host, SubsetKey, budget::Budget};

/// Every service that the gateway knows, exposed or not, by host.
#[derive(Debug, Default)]
pub struct RouteTable {
    services: HashMap<Host, ServiceRoutes, RandomState>,
    rewrite: Option<Rewrite>,
    /// Counts the tables of this process.
    pub generation: u64,
}

/// `.global` to `.svc.cluster.local`: names under `suffix` are looked up only as rewritten.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rewrite {
    /// With the leading dot.
    pub suffix: Box<str>,
    /// With the leading dot.
    pub replacement: Box<str>,
}

impl Rewrite {
    /// The host to look up for one under the suffix; `None` when it is not under it.
    #[must_use]
    pub fn apply(&self, host: &str) -> Option<String> {
        let stem = host.strip_suffix(&*self.suffix).filter(|stem| !stem.is_empty())?;
        Some([stem, &*self.replacement].concat())
    }
}

/// One service and its routes. A copy shares the routes, their cells and their counters.
#[derive(Clone, Debug)]
pub struct ServiceRoutes {
    /// Who it is.
    pub service: Arc<Service>,
    /// Exported to the gateway and under its `hosts`, asked by its own host.
    pub exposed: bool,
    /// The same, asked by the host that the rewrite maps to it.
    pub exposed_as_alias: bool,
    /// Sorted by (port, subset).
    pub routes: Box<[Arc<Route>]>,
}

/// A service as its metrics and log lines name it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Service {
    /// `bar.ns2.svc.cluster.local`, or a ServiceEntry's host.
    pub host: Host,
    /// The object's name.
    pub name: Arc<str>,
    /// The object's namespace.
    pub namespace: Arc<str>,
    /// What kind of object defines it.
    pub kind: ServiceKind,
}

/// What defines a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ServiceKind {
    /// A Kubernetes Service of this cluster.
    Kubernetes,
    /// An Istio ServiceEntry.
    ServiceEntry,
}

/// Everything behind one key: a service's port and, perhaps, one of its subsets.
#[derive(Debug)]
pub struct Route {
    /// The service.
    pub service: Arc<Service>,
    /// The service port.
    pub port: u16,
    /// Lower case, as it is compared; empty for the whole service.
    pub subset: Arc<str>,
    /// The endpoints of this moment. A connection loads it once.
    pub endpoints: ArcSwap<EndpointSet>,
    /// Counters that outlive a snapshot.
    pub state: Arc<RouteState>,
}

impl Route {
    /// The key under the service's own host, which Istio uses as the cluster's name.
    #[must_use]
    pub fn key(&self) -> SubsetKey<'_> {
        SubsetKey { port: self.port, subset: &self.subset, host: self.service.host.as_str() }
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.key().fmt(f)
    }
}

/// Counters of a route, kept across snapshots.
#[derive(Debug, Default)]
pub struct RouteState {
    connections: AtomicU32,
    turn: AtomicU64,
    /// Made at the first replay.
    replays: OnceLock<Box<Mutex<Budget>>>,
}

impl RouteState {
    /// Live connections, over all workers.
    #[must_use]
    pub fn connections(&self) -> u32 {
        self.connections.load(Ordering::Relaxed)
    }

    /// The number of this pick, for round robin.
    #[must_use]
    pub fn next_turn(&self) -> u64 {
        self.turn.fetch_add(1, Ordering::Relaxed)
    }

    /// True when one more ClientHello may be sent a second time, which is then counted: 20 % of the
    /// connections that picked an endpoint in the last 10 s, and 3 a second in any case.
    #[must_use]
    pub fn may_replay(&self, now: Instant) -> bool {
        let budget = self.replays.get_or_init(Box::default);
        let connections = self.turn.load(Ordering::Relaxed);
        budget.lock().unwrap_or_else(PoisonError::into_inner).take(connections, now)
    }

    /// Counts one connection until the permit is dropped; `None` at `max` (Istio's
    /// `maxConnections`).
    #[must_use]
    pub fn admit(self: &Arc<Self>, max: Option<u32>) -> Option<RoutePermit> {
        let before = self.connections.fetch_add(1, Ordering::Relaxed);
        let permit = RoutePermit(Arc::clone(self));
        (before < max.unwrap_or(u32::MAX)).then_some(permit)
    }
}

/// One connection of a route; counted until dropped.
#[derive(Debug)]
pub struct RoutePermit(Arc<RouteState>);

impl Drop for RoutePermit {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Why a well-formed key has no route. Clients are told the same for all; logs are not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Miss {
    /// No such service.
    UnknownHost,
    /// There is, but `exportTo` or the Gateway's `hosts` keep it in.
    NotExported,
    /// The service has no such port that could be served.
    NoSuchPort,
    /// The port has no such subset.
    NoSuchSubset,
}

impl RouteTable {
    /// A table of these services. Of two with one host the first is kept: the builder has
    /// reported the conflict already.
    #[must_use]
    pub fn new(services: Vec<ServiceRoutes>, rewrite: Option<Rewrite>, generation: u64) -> Self {
        let mut map = HashMap::with_capacity_and_hasher(services.len(), RandomState::new());
        for routes in services {
            map.entry(routes.service.host.clone()).or_insert(routes);
        }
        Self { services: map, rewrite, generation }
    }

    /// This table with some services replaced, added or (`None`) removed. The rest is shared with
    /// this one, cells included.
    #[must_use]
    pub fn with(&self, changes: Vec<(Host, Option<ServiceRoutes>)>, generation: u64) -> Self {
        let mut services = self.services.clone();
        for (host, routes) in changes {
            match routes {
                Some(routes) => _ = services.insert(host, routes),
                None => _ = services.remove(&host),
            }
        }
        Self { services, rewrite: self.rewrite.clone(), generation }
    }

    /// The route for `key`, whose parts are in lower case.
    ///
    /// # Errors
    /// The reason why there is none.
    pub fn find(&self, key: &SubsetKey<'_>) -> Result<&Arc<Route>, Miss> {
        let (found, exposed) = match self.rewritten(key.host) {
            Some(host) => {
                let found = self.services.get(host.as_str());
                // A ServiceEntry is never served under the suffix: that would be a transit.
                let local = found.filter(|s| s.service.kind == ServiceKind::Kubernetes);
                (local, local.is_some_and(|s| s.exposed_as_alias))
            }
            None => {
                let found = self.services.get(key.host);
                (found, found.is_some_and(|s| s.exposed))
            }
        };
        let service = found.ok_or(Miss::UnknownHost)?;
        if !exposed {
            return Err(Miss::NotExported);
        }
        let mut port_exists = false;
        for route in &service.routes {
            if route.port == key.port {
                port_exists = true;
                if *route.subset == *key.subset {
                    return Ok(route);
                }
            }
        }
        Err(if port_exists { Miss::NoSuchSubset } else { Miss::NoSuchPort })
    }

    /// The host that `host` is looked up as, when the rewrite applies to it.
    #[must_use]
    pub fn rewritten(&self, host: &str) -> Option<String> {
        self.rewrite.as_ref()?.apply(host)
    }

    /// The rewrite in force.
    #[must_use]
    pub fn rewrite(&self) -> Option<&Rewrite> {
        self.rewrite.as_ref()
    }

    /// The service of this very host, exposed or not.
    #[must_use]
    pub fn service(&self, host: &str) -> Option<&ServiceRoutes> {
        self.services.get(host)
    }

    /// All services, in no order.
    pub fn services(&self) -> impl Iterator<Item = &ServiceRoutes> {
        self.services.values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(host: &str, kind: ServiceKind, exposed: bool) -> ServiceRoutes {
        let service = Arc::new(Service {
            host: Host::parse(host).expect("a host"),
            name: "bar".into(),
            namespace: "ns2".into(),
            kind,
        });
        let route = |port, subset: &str| {
            Arc::new(Route {
                service: Arc::clone(&service),
                port,
                subset: subset.into(),
                endpoints: ArcSwap::default(),
                state: Arc::default(),
            })
        };
        let routes = [route(8080, ""), route(8080, "v1"), route(9090, "")].into();
        ServiceRoutes { service, exposed, exposed_as_alias: exposed, routes }
    }

    fn table() -> RouteTable {
        let rewrite =
            Rewrite { suffix: ".global".into(), replacement: ".svc.cluster.local".into() };
        let services = vec![
            service("bar.ns2.svc.cluster.local", ServiceKind::Kubernetes, true),
            service("hidden.ns2.svc.cluster.local", ServiceKind::Kubernetes, false),
            service("foo.ns2.svc.cluster.local", ServiceKind::ServiceEntry, true),
            service("baz.ns2.global", ServiceKind::ServiceEntry, true),
        ];
        RouteTable::new(services, Some(rewrite), 1)
    }

    fn check(name: &str, expected: Result<&str, Miss>) {
        let table = table();
        let key = SubsetKey::parse(name).expect("a key");
        let found = table.find(&key).map(ToString::to_string);
        assert_eq!(found, expected.map(str::to_owned), "{name}");
    }

    #[test]
    fn a_key_finds_its_route() {
        let bar = "outbound_.8080_._.bar.ns2.svc.cluster.local";
        check("outbound_.8080_._.bar.ns2.global", Ok(bar));
        check("outbound_.8080_._.bar.ns2.svc.cluster.local", Ok(bar));
        check(
            "outbound_.8080_.v1_.bar.ns2.global",
            Ok("outbound_.8080_.v1_.bar.ns2.svc.cluster.local"),
        );
    }

    #[test]
    fn a_key_without_route_has_its_reason() {
        check("outbound_.8080_.v2_.bar.ns2.global", Err(Miss::NoSuchSubset));
        check("outbound_.1_._.bar.ns2.global", Err(Miss::NoSuchPort));
        check("outbound_.8080_._.hidden.ns2.global", Err(Miss::NotExported));
        check("outbound_.8080_._.nope.ns2.global", Err(Miss::UnknownHost));
        check("outbound_.8080_._.x.global.global", Err(Miss::UnknownHost));
        check("outbound_.8080_._.global", Err(Miss::UnknownHost));
        check("outbound_.8080_._.bar.ns2.global.evil.com", Err(Miss::UnknownHost));
    }

    #[test]
    fn under_the_suffix_only_a_local_service_is_served() {
        check("outbound_.8080_._.baz.ns2.global", Err(Miss::UnknownHost));
        check("outbound_.8080_._.foo.ns2.global", Err(Miss::UnknownHost));
    }

    #[test]
    fn a_changed_table_shares_what_did_not_change() {
        let before = table();
        let host = |text| Host::parse(text).expect("a host");
        let added = service("new.ns2.svc.cluster.local", ServiceKind::Kubernetes, true);
        let changes =
            vec![(host("new.ns2.svc.cluster.local"), Some(added)), (host("baz.ns2.global"), None)];
        let after = before.with(changes, 2);
        assert!(after.service("new.ns2.svc.cluster.local").is_some());
        assert!(after.service("baz.ns2.global").is_none());
        assert!(before.service("baz.ns2.global").is_some());
        let route = |table: &RouteTable| {
            Arc::clone(&table.service("bar.ns2.svc.cluster.local").expect("bar").routes[0])
        };
        assert!(Arc::ptr_eq(&route(&before), &route(&after)));
    }

    #[test]
    fn the_limit_of_a_route_counts_live_connections() {
        let state = Arc::new(RouteState::default());
        let first = state.admit(Some(1));
        assert!(first.is_some() && state.admit(Some(1)).is_none());
        assert_eq!(state.connections(), 1);
        drop(first);
        assert!(state.admit(Some(1)).is_some());
    }
}
