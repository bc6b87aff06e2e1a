//! The one writer: owns the objects, plans the services that a change bears on, publishes.
//!
//! A change of endpoints alone swaps the cells of the routes concerned; a change of names, ports,
//! subsets, exposure or policy publishes a table that shares everything else with the one before.
//! Counters of routes and endpoints are taken over by identity. Must not know: where objects come
//! from, connections.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use ahash::RandomState;

use super::{
    Change, Exposure, Finding, Identity, LeftOut, Selection,
    build::{self, Gates},
    change::Affected,
    destination_rule::Rules,
    kubernetes,
    peer_authentication::PeerRules,
    pods,
    pool::Pools,
    routes::{routes, same_shape, swap},
    service_entry,
    world::{Definition, World},
};
use crate::{
    manifests::{
        Kind,
        kinds::{ServiceEntry, destination_rule::ClientTls},
    },
    routing::{Host, Locality, RouteTable, Service, ServiceRoutes, SharedTable},
};

/// All that is known, and the table made of it.
#[derive(Debug)]
pub struct Catalog {
    identity: Identity,
    /// Where the gateway runs: as set, or else its node's.
    locality: Locality,
    world: World,
    exposure: Exposure,
    rules: Rules,
    peers: PeerRules,
    pools: Pools,
    shared: Arc<SharedTable>,
    table: Arc<RouteTable>,
    /// Tables that a connection may still hold. They end here, not on a worker: to drop one of
    /// 100,000 services takes milliseconds.
    retired: Vec<Arc<RouteTable>>,
    left_out: HashMap<Host, Box<[LeftOut]>, RandomState>,
    findings: HashMap<Host, Box<[Finding]>, RandomState>,
}

/// What a change came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Services that were looked at.
    pub services: usize,
    /// Routes whose endpoints were swapped in place.
    pub swapped: usize,
    /// A new table was published.
    pub published: bool,
}

/// How much there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Services in the table.
    pub services: usize,
    /// Those that a client can reach, under their own name or their alias.
    pub exposed: usize,
    /// Their ports and subsets.
    pub routes: usize,
    /// Distinct endpoints: one address of one port of one service.
    pub endpoints: usize,
    /// Endpoints that objects name and nobody can reach.
    pub left_out: usize,
    /// Remarks about objects.
    pub findings: usize,
}

/// What is to become of the table.
#[derive(Default)]
struct Work {
    applied: Applied,
    changes: Vec<(Host, Option<ServiceRoutes>)>,
}

impl Catalog {
    /// A catalog without objects, which writes to `shared`. It publishes at once: the empty table
    /// refuses every name, but knows the rewrite.
    #[must_use]
    pub fn new(identity: Identity, shared: Arc<SharedTable>) -> Self {
        let mut catalog = Self {
            world: World::new(&identity.cluster_domain, &identity.root_namespace),
            exposure: Exposure::default(),
            rules: Rules::default(),
            peers: PeerRules::default(),
            pools: Pools::default(),
            table: shared.load(),
            shared,
            retired: Vec::new(),
            left_out: HashMap::default(),
            findings: HashMap::default(),
            locality: identity.locality.clone(),
            identity,
        };
        catalog.read_policies(&Affected {
            exposure: true,
            rules: true,
            peers: true,
            ..Affected::default()
        });
        catalog.publish(RouteTable::new(Vec::new(), catalog.identity.rewrite(), 1));
        catalog
    }

    /// Takes changes in, all at once, and publishes what they come to.
    pub fn apply<'c>(&mut self, changes: impl IntoIterator<Item = &'c Change>) -> Applied {
        self.retired.retain(|table| Arc::strong_count(table) > 1);
        let mut affected = Affected::default();
        for change in changes {
            self.world.apply(change, &mut affected);
        }
        let locality = self.own_locality();
        affected.all |= std::mem::replace(&mut self.locality, locality) != self.locality;
        if affected.is_nothing() {
            return Applied::default();
        }
        self.world.affected_by_hosts(&mut affected);
        self.read_policies(&affected);
        let mut work = Work::default();
        if affected.all || affected.exposure {
            self.plan_all(&mut work);
        } else {
            for host in &affected.hosts {
                self.plan(host, &mut work);
            }
            if !work.changes.is_empty() {
                let changes = std::mem::take(&mut work.changes);
                self.publish(self.table.with(changes, self.table.generation + 1));
                work.applied.published = true;
            }
        }
        work.applied
    }

    fn own_locality(&self) -> Locality {
        let set = &self.identity.locality;
        let node = self.identity.node.as_deref().filter(|_| set.region.is_empty());
        let node = node.and_then(|node| self.world.nodes.get("", node));
        node.map_or_else(|| set.clone(), |node| pods::node_locality(node))
    }

    /// Plans every host, and builds the table anew.
    fn plan_all(&mut self, work: &mut Work) {
        let hosts = self.world.hosts();
        let gone: Vec<Host> = {
            let known = |host: &Host| hosts.binary_search(host).is_ok();
            let table = self.table.services().map(|routes| &routes.service.host);
            table.filter(|host| !known(host)).cloned().collect()
        };
        for host in &gone {
            self.left_out.remove(host);
            self.findings.remove(host);
        }
        for host in &hosts {
            self.plan(host, work);
        }
        work.changes.extend(gone.into_iter().map(|host| (host, None)));
        if !work.changes.is_empty() {
            let changes = std::mem::take(&mut work.changes);
            self.publish(self.table.with(changes, self.table.generation + 1));
            work.applied.published = true;
        }
        self.pools.prune();
    }

    /// Plans one host: swaps what can be swapped, and notes what needs a new table.
    fn plan(&mut self, host: &Host, work: &mut Work) {
        work.applied.services += 1;
        let current = self.table.service(host.as_str());
        let definition = self.world.definition(host.as_str(), &self.identity.namespace);
        let facts = definition.and_then(|definition| {
            let at = (&self.world, &self.identity);
            match definition {
                Definition::Service(service, shaded) => {
                    let mut facts = kubernetes::facts(service, host, at, &mut self.pools);
                    facts.findings.extend(shaded.into_iter().map(|entry| shade(entry, host)));
                    Some(facts)
                }
                Definition::Entry(entry, shaded) => {
                    let mut facts = service_entry::facts(entry, host, at, &mut self.pools)?;
                    facts.findings.extend(shaded.into_iter().map(|entry| shade(entry, host)));
                    Some(facts)
                }
            }
        });
        let Some(facts) = facts else {
            work.changes.extend(current.map(|_| (host.clone(), None)));
            self.left_out.remove(host);
            self.findings.remove(host);
            return;
        };
        let gates = Gates {
            identity: &self.identity,
            exposure: &self.exposure,
            rules: &self.rules,
            peers: &self.peers,
            locality: &self.locality,
        };
        let mut plan = build::plan(facts, &gates, &mut self.pools, current);
        note(&mut self.left_out, host, std::mem::take(&mut plan.left_out));
        note(&mut self.findings, host, std::mem::take(&mut plan.findings));
        match current {
            Some(current) if same_shape(&plan, current) => {
                for (route, planned) in current.routes.iter().zip(plan.routes) {
                    work.applied.swapped += usize::from(swap(route, planned));
                }
            }
            _ => work.changes.push((host.clone(), Some(routes(plan, current)))),
        }
    }

    /// Reads again what is judged by, where it changed.
    fn read_policies(&mut self, affected: &Affected) {
        let Self { identity, world, .. } = self;
        if affected.exposure {
            let gateways = world.gateways.oldest_first(|gateway| &gateway.meta);
            self.exposure = Exposure::new(gateways.into_iter().map(|g| &**g), identity);
        }
        if affected.rules {
            let rules = world.destination_rules.oldest_first(|rule| &rule.meta);
            self.rules = Rules::new(rules.into_iter().map(|rule| &**rule), identity);
        }
        if affected.peers {
            let peers = world.peer_authentications.oldest_first(|policy| &policy.meta);
            let peers = peers.into_iter().map(|policy| &**policy);
            self.peers = PeerRules::new(peers, &identity.root_namespace);
        }
    }

    fn publish(&mut self, table: RouteTable) {
        self.shared.publish(table);
        let old = std::mem::replace(&mut self.table, self.shared.load());
        self.retired.push(old);
        self.retired.retain(|table| Arc::strong_count(table) > 1);
    }
}

/// What can be asked of it.
impl Catalog {
    /// Host names of endpoints that manifests do not answer: [`Change::Resolved`] does.
    #[must_use]
    pub fn names_wanted(&self) -> BTreeSet<Arc<str>> {
        self.world.names_wanted()
    }

    /// Whose catalog it is.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The table as it was last published.
    #[must_use]
    pub fn table(&self) -> &Arc<RouteTable> {
        &self.table
    }

    /// What the Gateways expose.
    #[must_use]
    pub fn exposure(&self) -> &Exposure {
        &self.exposure
    }

    /// Which Gateways select us; for readiness.
    #[must_use]
    pub fn selection(&self) -> &Selection {
        self.exposure.selection()
    }

    /// The endpoints left out of one service.
    #[must_use]
    pub fn left_out_of(&self, host: &str) -> &[LeftOut] {
        self.left_out.get(host).map_or(&[], |left_out| left_out)
    }

    /// All endpoints left out, by host.
    #[must_use]
    pub fn left_out(&self) -> Vec<(&Host, &LeftOut)> {
        let mut hosts: Vec<_> = self.left_out.iter().collect();
        hosts.sort_unstable_by_key(|(host, _)| *host);
        hosts.into_iter().flat_map(|(host, all)| all.iter().map(move |one| (host, one))).collect()
    }

    /// What DestinationRules say of TLS towards a port of a host, or of one of its subsets (empty:
    /// the whole port).
    #[must_use]
    pub fn client_tls(&self, service: &Service, subset: &str, port: u16) -> Option<&ClientTls> {
        let rule = self.rules.find(service.host.as_str(), &service.namespace)?;
        rule.tls(rule.subset(subset), port)
    }

    /// All remarks about objects, by object.
    #[must_use]
    pub fn findings(&self) -> Vec<Finding> {
        let of_services = self.findings.values().flatten().chain(&self.rules.findings).cloned();
        let of_entries = self.world.entries.iter().flat_map(|e| service_entry::findings(e));
        let mut all: Vec<Finding> = of_services.chain(of_entries).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Counts everything: walks the whole table.
    #[must_use]
    pub fn summary(&self) -> Summary {
        let mut summary = Summary {
            left_out: self.left_out.values().map(|all| all.len()).sum(),
            findings: self.findings().len(),
            ..Summary::default()
        };
        for service in self.table.services() {
            summary.services += 1;
            summary.exposed += usize::from(service.exposed || service.exposed_as_alias);
            summary.routes += service.routes.len();
            // A subset's endpoints are endpoints of the whole port, unless its own rule alone
            // says that they speak mesh TLS.
            let mut port = 0;
            let mut seen = 0;
            for route in &service.routes {
                let count = route.endpoints.load().endpoints().len();
                if route.port == port {
                    summary.endpoints += count.saturating_sub(seen);
                    seen = seen.max(count);
                } else {
                    (port, seen) = (route.port, count);
                    summary.endpoints += count;
                }
            }
        }
        summary
    }

    pub(super) fn world(&self) -> &World {
        &self.world
    }

    pub(super) fn rule_of(
        &self,
        host: &str,
        namespace: &str,
    ) -> Option<&super::destination_rule::Rule> {
        self.rules.find(host, namespace)
    }
}

fn note<T>(map: &mut HashMap<Host, Box<[T]>, RandomState>, host: &Host, list: Vec<T>) {
    if list.is_empty() {
        map.remove(host);
    } else {
        map.insert(host.clone(), list.into());
    }
}

/// A ServiceEntry that another definition of its host goes before.
fn shade(entry: &ServiceEntry, host: &Host) -> Finding {
    let message = format!("{host} is defined by another object, which is used: this one is not");
    Finding::new(Kind::ServiceEntry, &entry.meta, "spec.hosts", message)
}
